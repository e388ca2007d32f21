# One image, both binaries: `docker run IMAGE relay` or `docker run IMAGE control`.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p linecard-relay -p linecard-control -p linecard-loadtest

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/linecard linecard
COPY --from=build /src/target/release/relay /src/target/release/control /src/target/release/loadtest /usr/local/bin/
COPY LICENSE /usr/share/doc/linecard/
USER linecard
WORKDIR /var/lib/linecard
# For many calls: --ulimit nofile=1048576 --sysctl net.core.somaxconn=8192 --sysctl net.ipv4.tcp_max_syn_backlog=8192
# --sysctl net.ipv4.ip_local_port_range="10240 65000"; `docker exec NAME relay doctor` says what is missing.
# A relay drains on SIGTERM; give it longer than RELAY_DRAIN_SECONDS (docker stop --time).
STOPSIGNAL SIGTERM
CMD ["relay"]

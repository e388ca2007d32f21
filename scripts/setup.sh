#!/usr/bin/env bash
# Installs what a target needs, or says in one line what to install. Usage: setup.sh build|test|readme|browser|conformance|python|instructions...
set -euo pipefail

packages=()
need() { # command package
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}

for purpose in "$@"; do
    case "$purpose" in
    build)
        need cc build-essential
        need cmake cmake
        ;;
    test)
        # The tests start a throw-away cluster from the server's own binaries.
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null 2>&1 || packages+=(postgresql)
        ;;
    readme)
        need curl curl
        need python3 python3
        ;;
    browser)
        need curl curl
        need python3 python3
        command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || need chromium chromium
        ;;
    conformance | python)
        need python3 python3
        python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages+=(python3-venv)
        ;;
    instructions)
        need valgrind valgrind
        ;;
    *)
        echo "setup.sh: unknown purpose '$purpose'" >&2
        exit 2
        ;;
    esac
done

if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "setup: installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # The distribution's postgresql package starts a server; the tests only want its binaries.
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    else
        echo "setup: please install these packages first: ${packages[*]}   (Debian, Ubuntu: sudo apt-get install ${packages[*]})" >&2
        exit 1
    fi
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing; install Rust from https://rustup.rs and open a new shell" >&2
    exit 1
fi

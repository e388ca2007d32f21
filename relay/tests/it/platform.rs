//! What platforms and service managers do with the real process: pass a socket on, replay a request
//! to another machine, renew a certificate.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener as StdTcpListener;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process_rig::{Alone, Model, Relay, get, trusting, within};

/// One request, and all of its answer.
async fn exchange(mut tcp: TcpStream, request: &str) -> String {
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_socket_that_is_passed_on_outlives_the_process() {
    let model = Model::start().await;
    let alone = Alone::new(model.address);
    let held = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let mut relay = Relay::start_with_socket(alone.settings(), held.try_clone().unwrap()).await;
    assert_eq!(relay.public, address);
    assert_eq!(get(address, "/v1/m/n2").await.0, 404);
    relay.signal("-TERM");
    assert_eq!(relay.exit().await.code(), Some(0));
    // Nobody serves, and nobody is refused: it waits for the next process.
    let tcp = within(TcpStream::connect(address)).await.unwrap();
    let request = "GET /v1/m/n2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let next = Relay::start_with_socket(alone.settings(), held);
    let (_relay, answer) = tokio::join!(next, exchange(tcp, request));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn a_stream_of_another_machine_is_replayed_before_its_101() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("FLY_MACHINE_ID", "3d8d413b29d089");
    alone.set("RELAY_NODE", "3d8d413b29d089");
    let relay = alone.start().await;
    let ask = async |path: &str, more: &str| {
        let tcp = TcpStream::connect(relay.public).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        exchange(tcp, &request).await.to_lowercase()
    };
    for path in ["/v1/m/148ed127a37d89", "/v1/stream/148ed127a37d89"] {
        let answer = ask(path, "").await;
        assert!(answer.starts_with("http/1.1 421 "), "{answer}");
        let to = "\r\nfly-replay: instance=148ed127a37d89;timeout=2s;fallback=prefer_self\r\n";
        assert!(answer.contains(to), "{answer}");
    }
    let again = ask("/v1/m/148ed127a37d89", "fly-replay-src: instance=148ed127a37d89\r\n").await;
    assert!(again.starts_with("http/1.1 404 ") && !again.contains("fly-replay"), "{again}");
    let failed = "fly-replay-failed: instance=148ed127a37d89;reason=no_candidate\r\n";
    let failed = ask("/v1/m/148ed127a37d89", failed).await;
    assert!(failed.starts_with("http/1.1 503 ") && !failed.contains("fly-replay"), "{failed}");
    relay.until_metric("relay_upgrades_total{outcome=\"elsewhere\"} 2").await;
    relay.until_metric("relay_upgrades_total{outcome=\"unreachable\"} 1").await;
}

/// Whether a handshake with whoever trusts this certificate succeeds.
async fn shows(relay: &Relay, certificate: &CertificateDer<'static>) -> bool {
    let tcp = TcpStream::connect(relay.public).await.unwrap();
    let name = "relay.test".try_into().unwrap();
    within(TlsConnector::from(trusting(certificate)).connect(name, tcp)).await.is_ok()
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    let make = || rcgen::generate_simple_self_signed(vec!["relay.test".into()]).unwrap();
    let (before, after) = (make(), make());
    let cert = alone.file("cert.pem", &before.cert.pem());
    let key = alone.file("key.pem", &before.signing_key.serialize_pem());
    alone.set("RELAY_TLS_CERT_FILE", &cert);
    alone.set("RELAY_TLS_KEY_FILE", &key);
    let relay = alone.start().await;
    assert!(shows(&relay, before.cert.der()).await);

    alone.file("cert.pem", "no certificate\n");
    relay.until_log("the new certificate cannot be used; the old one is served on").await;
    assert!(shows(&relay, before.cert.der()).await);
    assert!(!relay.log().contains("the certificate is renewed"));

    alone.file("key.pem", &after.signing_key.serialize_pem());
    alone.file("cert.pem", &after.cert.pem());
    relay.until_log("the certificate is renewed").await;
    assert!(shows(&relay, after.cert.der()).await);
    assert!(!shows(&relay, before.cert.der()).await);
}

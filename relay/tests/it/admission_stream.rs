//! Streams that must not become calls, at the real process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use link::id::{Gen, NodeId};
use link::ticket::SigningKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process_rig::{self, Alone, Model, NODE, Relay, carrier, now_seconds, start_with};

async fn alone() -> (Alone, Relay) {
    let model = Model::start().await;
    let alone = Alone::new(model.address);
    let relay = alone.start().await;
    (alone, relay)
}

async fn refused(relay: &Relay, start: &str, why: &str) {
    let mut carrier = relay.open(None).await.unwrap();
    carrier.say(start).await;
    assert_eq!(carrier.closed().await, 1008, "{why}");
    relay.until_metric(&format!("relay_stream_refusals_total{{why=\"{why}\"}} 1")).await;
}

#[tokio::test]
async fn an_unsigned_or_forged_upgrade_gets_403_before_the_101() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    let signatures = alone.file("signatures.json", "[\"hush-one=\", \"hush-two=\"]");
    alone.set("RELAY_SIGNATURES_FILE", &signatures);
    let relay = alone.start().await;
    assert_eq!(relay.open(None).await.err(), Some(403));
    assert_eq!(relay.open(Some("hush-one")).await.err(), Some(403));
    assert!(relay.open(Some("hush-two=")).await.is_ok());
    relay.until_metric("relay_upgrades_total{outcome=\"unsigned\"} 1").await;
    relay.until_metric("relay_upgrades_total{outcome=\"forged\"} 1").await;
    relay.until_metric("relay_upgrades_total{outcome=\"accepted\"} 1").await;
    assert!(!relay.log().contains("hush"), "a signature is in the log");
}

#[tokio::test]
async fn bad_tickets_are_closed_with_1008() {
    let (alone, relay) = alone().await;
    let stranger = SigningKey::generate("k1").unwrap();
    let elsewhere = |claims: &mut link::ticket::Claims| claims.node = NodeId::new("n2").unwrap();
    let expired = |claims: &mut link::ticket::Claims| {
        claims.issued_at -= 100;
        claims.expires_at -= 100;
    };
    let start = |ticket: String| process_rig::start(&ticket);
    refused(&relay, &start(process_rig::ticket(&stranger, |_| {})), "bad_ticket").await;
    refused(&relay, &start(alone.ticket(elsewhere)), "mismatch").await;
    let old = alone.ticket(|claims| claims.issued_at = now_seconds() - 50);
    refused(&relay, &start(old), "old").await;
    let unknown = alone.ticket(|claims| claims.agent_version = 2);
    refused(&relay, &start(unknown), "unknown_agent").await;
    let no_ticket = start_with(serde_json::json!({}), "audio/x-mulaw");
    refused(&relay, &no_ticket, "no_ticket").await;

    let ticket = alone.ticket(expired);
    let mut carrier = relay.begin(&ticket).await;
    assert_eq!(carrier.closed().await, 1008);
    relay.until_metric("relay_stream_refusals_total{why=\"bad_ticket\"} 2").await;
    let log = relay.log();
    assert!(log.contains("the ticket has expired"), "{log}");
    assert!(!log.contains(&ticket[..40]), "a ticket is in the log");
    relay.until_metric("relay_calls 0").await;
}

#[tokio::test]
async fn a_ticket_for_another_call_sid_is_refused() {
    let (alone, relay) = alone().await;
    let ticket = alone.ticket(|claims| claims.bearer = carrier("CA2"));
    refused(&relay, &process_rig::start(&ticket), "mismatch").await;
}

#[tokio::test]
async fn a_ticket_is_taken_once_whichever_shard_sees_it() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_SHARDS", "2");
    let relay = alone.start().await;
    let ticket = alone.ticket(|_| {});
    let mut first = relay.begin(&ticket).await;
    relay.until_metric("relay_streams_started_total 1").await;
    refused(&relay, &process_rig::start(&ticket), "replayed").await;
    first.hang_up().await;
    relay.until_metric("relay_calls 0").await;
    let mut again = relay.begin(&ticket).await;
    assert_eq!(again.closed().await, 1008, "also when the first stream is over");
}

#[tokio::test]
async fn a_newer_generation_silences_the_older_one_across_shards() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_SHARDS", "2");
    let relay = alone.start().await;
    let call = link::id::CallId::new("c_generations").unwrap();
    let ticket =
        |n: u32| alone.ticket(|claims| (claims.call, claims.generation) = (call.clone(), Gen(n)));
    let mut older = relay.begin(&ticket(1)).await;
    relay.until_metric("relay_streams_started_total 1").await;
    let mut newer = relay.begin(&ticket(2)).await;
    relay.until_metric("relay_streams_ended_total{reason=\"superseded\"} 1").await;
    assert_ne!(older.closed().await, 1008);
    refused(&relay, &process_rig::start(&ticket(1)), "stale_generation").await;
    relay.until_metric("relay_calls 1").await;
    newer.hang_up().await;
    relay.until_metric("relay_calls 0").await;
}

#[tokio::test]
async fn another_format_and_too_much_before_start_are_refused() {
    let (alone, relay) = alone().await;
    let ticket = alone.ticket(|_| {});
    let l16 = start_with(serde_json::json!({"ticket": ticket}), "audio/x-l16");
    refused(&relay, &l16, "format").await;
    let padding = "x".repeat(4_096);
    let long = start_with(serde_json::json!({"ticket": ticket, "x": padding}), "audio/x-mulaw");
    refused(&relay, &long, "too_much").await;
    refused(&relay, r#"{"event":"start"}"#, "protocol").await;
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_told_in_part() {
    let (_alone, relay) = alone().await;
    for _ in 0..60 {
        let mut carrier = relay.open(None).await.unwrap();
        carrier.say(r#"{"event":"start"}"#).await;
        assert_eq!(carrier.closed().await, 1008);
    }
    relay.until_metric("relay_stream_refusals_total{why=\"protocol\"} 60").await;
    let told = relay.log().matches("stream refused").count();
    assert!((20..60).contains(&told), "{told} lines");
}

#[tokio::test]
async fn streams_are_served_over_the_relays_own_tls() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    let own = rcgen::generate_simple_self_signed(vec!["relay.test".into()]).unwrap();
    let cert = alone.file("cert.pem", &own.cert.pem());
    let key = alone.file("key.pem", &own.signing_key.serialize_pem());
    alone.set("RELAY_TLS_CERT_FILE", &cert);
    alone.set("RELAY_TLS_KEY_FILE", &key);
    let relay = alone.start().await;

    let config = process_rig::trusting(own.cert.der());
    let tcp = TcpStream::connect(relay.public).await.unwrap();
    let name = "relay.test".try_into().unwrap();
    let stream = TlsConnector::from(config).connect(name, tcp).await.unwrap();
    let mut carrier = process_rig::open_over(stream, NODE, None).await.ok().unwrap();
    carrier.say(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#).await;
    carrier.say(&process_rig::start(&alone.ticket(|_| {}))).await;
    relay.until_metric("relay_streams_started_total 1").await;
    carrier.hang_up().await;
    relay.until_metric("relay_calls 0").await;

    // A plain request on the TLS port ends in nothing, and costs nobody else anything.
    let mut plain = TcpStream::connect(relay.public).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    relay.until_metric("relay_tls_handshake_failures_total 1").await;
}

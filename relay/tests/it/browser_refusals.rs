//! Pages that must not get a session, at the real process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::process_rig::{Alone, Model, Relay, page, within};

const ORIGIN: &str = "https://app.example";

type Socket = WebSocketStream<TcpStream>;

async fn alone() -> (Alone, Relay) {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_CALLS_MAX", "1");
    let relay = alone.start().await;
    (alone, relay)
}

async fn open(relay: &Relay, path: &str, origins: &[&str]) -> Result<Socket, u16> {
    let mut request = format!("ws://relay.test{path}").into_client_request().unwrap();
    for origin in origins {
        request.headers_mut().append("origin", origin.parse().unwrap());
    }
    let tcp = TcpStream::connect(relay.public).await.unwrap();
    match within(tokio_tungstenite::client_async(request, tcp)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("no answer: {error}"),
    }
}

fn start(token: &str) -> Message {
    Message::text(json!({"type": "start", "token": token}).to_string())
}

/// Says something first of all, and waits for the end.
async fn closed(mut socket: Socket, first: Message) -> (u16, String) {
    socket.send(first).await.unwrap();
    loop {
        match within(socket.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => {
                return (frame.code.into(), frame.reason.to_string());
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{other:?} in place of a close"),
        }
    }
}

async fn refused(relay: &Relay, origins: &[&str], first: Message, why: &str) {
    let socket = open(relay, "/v1/stream/n1", origins).await.unwrap();
    let (code, reason) = closed(socket, first).await;
    assert_eq!(code, 1008, "{why}");
    assert!(!reason.is_empty(), "{why}");
    let metric = format!("relay_stream_refusals_total{{why=\"{why}\"}} ");
    relay
        .until("/metrics", |_, page| {
            page.lines().any(|line| line.strip_prefix(&metric).is_some_and(|count| count != "0"))
        })
        .await;
}

#[tokio::test]
async fn a_token_is_for_one_origin_one_node_and_one_stream() {
    let (alone, relay) = alone().await;
    let token = |origin| alone.ticket(|claims| claims.bearer = page(origin));
    refused(&relay, &["https://evil.example"], start(&token(Some(ORIGIN))), "mismatch").await;
    refused(&relay, &["https://app.example:8443"], start(&token(Some(ORIGIN))), "mismatch").await;
    refused(&relay, &["null"], start(&token(Some(ORIGIN))), "mismatch").await;
    refused(&relay, &[], start(&token(Some(ORIGIN))), "mismatch").await;
    // A token of a program that is no page opens nothing from within one.
    refused(&relay, &[ORIGIN], start(&token(None)), "mismatch").await;
    let elsewhere = alone.ticket(|claims| {
        claims.bearer = page(Some(ORIGIN));
        claims.node = "n2".to_owned().try_into().unwrap();
    });
    refused(&relay, &[ORIGIN], start(&elsewhere), "mismatch").await;

    let token = token(Some(ORIGIN));
    let mut socket = open(&relay, "/v1/stream/n1", &[ORIGIN]).await.unwrap();
    socket.send(start(&token)).await.unwrap();
    relay.until_metric("relay_calls 1").await;
    socket.close(None).await.unwrap();
    relay.until_metric("relay_calls 0").await;
    refused(&relay, &[ORIGIN], start(&token), "replayed").await;
}

#[tokio::test]
async fn a_phones_ticket_opens_no_page_and_a_pages_token_no_phone_call() {
    let (alone, relay) = alone().await;
    refused(&relay, &[ORIGIN], start(&alone.ticket(|_| {})), "mismatch").await;
    let token = alone.ticket(|claims| claims.bearer = page(None));
    let mut carrier = relay.begin(&token).await;
    assert_eq!(carrier.closed().await, 1008);
    relay.until_metric("relay_stream_refusals_total{why=\"mismatch\"} 2").await;
}

#[tokio::test]
async fn what_is_no_start_with_a_token_is_refused() {
    let (_alone, relay) = alone().await;
    for first in [
        Message::text("{}"),
        Message::text(r#"{"type":"start"}"#),
        Message::text(r#"{"type":"heard","frame":1}"#),
        Message::binary(vec![0; 960]),
    ] {
        refused(&relay, &[ORIGIN], first, "protocol").await;
    }
    refused(&relay, &[ORIGIN], start("v4.public.nonsense"), "bad_ticket").await;
    let long = "x".repeat(5_000);
    refused(&relay, &[ORIGIN], start(&long), "too_much").await;
    relay.until_metric("relay_calls 0").await;
}

#[tokio::test]
async fn an_upgrade_with_two_origins_or_for_another_node_is_turned_away() {
    let (_alone, relay) = alone().await;
    assert_eq!(open(&relay, "/v1/stream/n1", &[ORIGIN, ORIGIN]).await.err(), Some(403));
    assert_eq!(open(&relay, "/v1/stream/n2", &[ORIGIN]).await.err(), Some(404));
    assert!(open(&relay, "/v1/stream", &[ORIGIN]).await.is_ok());
    relay.until_metric("relay_upgrades_total{outcome=\"bad_origin\"} 1").await;
}

#[tokio::test]
async fn a_page_without_a_token_takes_no_seat_and_one_with_a_token_may_come_again() {
    let (alone, relay) = alone().await;
    let token = || alone.ticket(|claims| claims.bearer = page(Some(ORIGIN)));
    // Whoever only knocks keeps nobody out.
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(open(&relay, "/v1/stream/n1", &[ORIGIN]).await.unwrap());
    }
    let late = open(&relay, "/v1/stream/n1", &[ORIGIN]).await.unwrap();
    let carrier = relay.begin(&alone.ticket(|_| {})).await;
    relay.until_metric("relay_calls 1").await;
    let refused_token = token();
    let (code, _) = closed(late, start(&refused_token)).await;
    assert_eq!(code, 1013, "there is no seat now");
    assert_eq!(open(&relay, "/v1/stream/n1", &[ORIGIN]).await.err(), Some(503));
    drop(carrier);
    relay.until_metric("relay_calls 0").await;
    let mut again = open(&relay, "/v1/stream/n1", &[ORIGIN]).await.unwrap();
    again.send(start(&refused_token)).await.unwrap();
    relay.until_metric("relay_calls 1").await;
}

#[tokio::test]
async fn a_token_is_in_no_log() {
    let (alone, relay) = alone().await;
    let token = alone.ticket(|claims| claims.bearer = page(Some("https://other.example")));
    refused(&relay, &[ORIGIN], start(&token), "mismatch").await;
    assert!(!relay.log().contains(&token[..40]), "a token is in the log");
}

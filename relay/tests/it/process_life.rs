//! The real process, alone: its line, its probes, its end.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::process_rig::{Alone, Model, get, media, within};

#[tokio::test]
async fn it_answers_probes_and_ends_with_zero_when_idle() {
    let model = Model::start().await;
    let mut relay = Alone::new(model.address).start().await;
    assert_eq!(relay.ask("/livez").await.0, 200);
    assert_eq!(relay.ask("/readyz").await, (200, "ready\n".into()));
    assert_eq!(relay.ask("/else").await.0, 404);
    let (_, health) = relay.ask("/health").await;
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["node"], "n1");
    assert_eq!(health["link"], "alone");
    assert_eq!(health["ready"], true);
    assert_eq!(health["calls"], 0);
    let (_, metrics) = relay.ask("/metrics").await;
    assert!(metrics.contains("relay_ready 1\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    relay.signal("-TERM");
    assert_eq!(relay.exit().await.code(), Some(0));
}

#[tokio::test]
async fn what_is_not_a_stream_gets_a_sentence() {
    let model = Model::start().await;
    let relay = Alone::new(model.address).start().await;
    let (status, body) = get(relay.public, "/v1/calls").await;
    assert_eq!(status, 404);
    assert!(body.contains("RELAY_CONTROL_HTTP_URL"), "{body}");
    assert_eq!(get(relay.public, "/v1/m/n1").await.0, 426);
    assert_eq!(get(relay.public, "/v1/m/n2").await.0, 404);
}

#[tokio::test]
async fn a_drain_waits_for_a_live_call_and_takes_no_other() {
    let model = Model::start().await;
    let alone = Alone::new(model.address);
    let mut relay = alone.start().await;
    let mut carrier = relay.begin(&alone.ticket(|_| {})).await;
    carrier.say(&media(1)).await;
    relay.until_metric("relay_streams_started_total 1").await;
    relay.signal("-TERM");
    relay.until("/readyz", |status, _| status == 503).await;
    assert_eq!(relay.open(None).await.err(), Some(503));
    for chunk in 2..=20 {
        carrier.say(&media(chunk)).await;
    }
    model.until_appends(20).await;
    carrier.hang_up().await;
    assert_eq!(relay.exit().await.code(), Some(0));
    let log = relay.log();
    assert!(log.contains("stream ended reason=\"caller_hung_up\""), "{log}");
}

#[tokio::test]
async fn after_a_drain_the_carrier_can_still_ask_what_follows() {
    let (model, control) = (Model::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_CONTROL_HTTP_URL", &format!("http://{}", control.local_addr().unwrap()));
    let mut relay = alone.start().await;
    let mut carrier = relay.begin(&alone.ticket(|_| {})).await;
    relay.until_metric("relay_streams_started_total 1").await;
    relay.signal("-TERM");
    relay.until("/readyz", |status, _| status == 503).await;
    carrier.hang_up().await;
    relay.until_metric("relay_calls 0").await;
    let answer = async {
        let (mut tcp, _) = within(control.accept()).await.unwrap();
        let mut head = [0; 1_024];
        within(tcp.read(&mut head)).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<Hangup/>";
        tcp.write_all(answer.as_bytes()).await.unwrap();
        tcp
    };
    let (asked, _tcp) = tokio::join!(get(relay.public, "/v1/twilio/resume/pass"), answer);
    assert_eq!(asked, (200, "<Hangup/>".into()));
    assert_eq!(relay.exit().await.code(), Some(0));
}

#[tokio::test]
async fn calls_that_outlive_the_drain_are_closed_as_going_away() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_DRAIN_SECONDS", "0");
    let mut relay = alone.start().await;
    let mut carrier = relay.begin(&alone.ticket(|_| {})).await;
    relay.until_metric("relay_streams_started_total 1").await;
    relay.signal("-INT");
    assert_eq!(carrier.closed().await, 1001);
    assert_eq!(relay.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let model = Model::start().await;
    let alone = Alone::new(model.address);
    let mut relay = alone.start().await;
    let mut carrier = relay.begin(&alone.ticket(|_| {})).await;
    relay.until_metric("relay_streams_started_total 1").await;
    relay.signal("-TERM");
    relay.until("/readyz", |status, _| status == 503).await;
    relay.signal("-TERM");
    assert_eq!(carrier.closed().await, 1001);
    assert_eq!(relay.exit().await.code(), Some(0));
}

#[tokio::test]
async fn callers_audio_reaches_the_model() {
    let model = Model::start().await;
    let alone = Alone::new(model.address);
    let relay = alone.start().await;
    let mut carrier = relay.begin(&alone.ticket(|_| {})).await;
    for chunk in 1..=10 {
        carrier.say(&media(chunk)).await;
    }
    model.until_appends(1).await;
    carrier.hang_up().await;
    relay.until_metric("relay_streams_ended_total{reason=\"caller_hung_up\"} 1").await;
    relay.until_metric("relay_calls 0").await;
}

#[tokio::test]
async fn a_full_node_sends_streams_elsewhere() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_CALLS_MAX", "1");
    let relay = alone.start().await;
    let mut first = relay.begin(&alone.ticket(|_| {})).await;
    relay.until_metric("relay_streams_started_total 1").await;
    assert_eq!(relay.open(None).await.err(), Some(503));
    first.hang_up().await;
    relay.until_metric("relay_calls 0").await;
    assert!(relay.open(None).await.is_ok());
}

#[tokio::test]
async fn headers_without_end_are_cut_off() {
    let model = Model::start().await;
    let relay = Alone::new(model.address).start().await;
    let mut tcp = TcpStream::connect(relay.public).await.unwrap();
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(20_000));
    tcp.write_all(long.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = within(tcp.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn without_file_descriptors_it_waits_and_recovers() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_SHARDS", "1");
    let relay = alone.start_with_files(48).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(relay.public).await.unwrap());
    }
    // The kernel has taken all of them, the process has not; nothing of it answers until some go.
    relay.until_log("no connection can be accepted").await;
    drop(held);
    relay.until_metric("relay_strained 0").await;
    let mut carrier = relay.begin(&alone.ticket(|_| {})).await;
    relay.until_metric("relay_streams_started_total 1").await;
    carrier.hang_up().await;
    let failures = relay.log().matches("no connection can be accepted").count();
    assert!(failures < 100, "{failures} attempts: it spins");
}

#[tokio::test]
async fn systemd_is_told_of_start_life_and_stop() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    let path = alone.file("notify", "");
    std::fs::remove_file(&path).unwrap();
    let notify = tokio::net::UnixDatagram::bind(&path).unwrap();
    alone.set("NOTIFY_SOCKET", &path);
    alone.set("WATCHDOG_USEC", "300000");
    let relay = alone.start().await;
    let until = async |word: &str| {
        let mut bytes = [0; 256];
        loop {
            let length = within(notify.recv(&mut bytes)).await.unwrap();
            if std::str::from_utf8(&bytes[..length]).unwrap().lines().any(|line| line == word) {
                return;
            }
        }
    };
    until("READY=1").await;
    until("WATCHDOG=1").await;
    until("WATCHDOG=1").await;
    relay.signal("-TERM");
    until("STOPPING=1").await;
}

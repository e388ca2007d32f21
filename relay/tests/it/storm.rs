//! More streams than the node has room for: who is let in, who is sent away and with which words,
//! and that those who were let in lose nothing by it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process_rig::{
    Alone, Carrier, Model, NODE, Relay, media, open_over, start, trusting, voice, within,
};

const CALLS_MAX: usize = 20;
const FRAMES: u64 = 25;

/// Streams that ask at the same time: those that got in, and what the others were told.
async fn ask(relay: &Relay, streams: usize) -> (Vec<Carrier>, Vec<u16>) {
    let asked = join_all((0..streams).map(|_| relay.open(None))).await;
    let (mut carriers, mut refused) = (Vec::new(), Vec::new());
    for outcome in asked {
        match outcome {
            Ok(carrier) => carriers.push(carrier),
            Err(status) => refused.push(status),
        }
    }
    (carriers, refused)
}

#[tokio::test]
async fn of_twice_as_many_streams_as_the_node_takes_half_are_carried_and_lose_nothing() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_CALLS_MAX", &CALLS_MAX.to_string());
    let relay = alone.start().await;
    let (mut carriers, refused) = ask(&relay, 2 * CALLS_MAX).await;
    assert_eq!((carriers.len(), refused), (CALLS_MAX, vec![503; CALLS_MAX]));

    let tickets: Vec<_> = carriers.iter().map(|_| alone.ticket(|_| {})).collect();
    let talk = join_all(carriers.iter_mut().zip(&tickets).map(async |(carrier, ticket)| {
        carrier.say(&start(ticket)).await;
        for chunk in 1..=FRAMES {
            carrier.say(&voice(chunk)).await;
        }
    }));
    let storm = async {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.extend(ask(&relay, CALLS_MAX).await.1);
        }
        statuses
    };
    let (_, refused) = tokio::join!(talk, storm);
    assert_eq!(refused, vec![503; 4 * CALLS_MAX], "all of them, and nobody else");

    let said = CALLS_MAX as u64 * FRAMES * 160;
    model.until_spoken(said).await;
    assert_eq!(model.spoken(), said, "nothing twice");
    let full = 5 * CALLS_MAX;
    relay.until_metric(&format!("relay_upgrades_total{{outcome=\"accepted\"}} {CALLS_MAX}")).await;
    relay.until_metric(&format!("relay_upgrades_total{{outcome=\"full\"}} {full}")).await;
    relay.until_metric(&format!("relay_streams_started_total {CALLS_MAX}")).await;
    for carrier in &mut carriers {
        carrier.hang_up().await;
    }
    relay.until_metric("relay_calls 0").await;
    assert!(relay.open(None).await.is_ok());
}

/// The whole answer to a request for a stream that is turned away.
async fn answer(relay: &Relay) -> String {
    let mut tcp = TcpStream::connect(relay.public).await.unwrap();
    let request = format!(
        "GET /v1/m/{NODE} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 1_024];
    let length = within(tcp.read(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_node_without_memory_says_so_and_control_and_operators_can_see_it() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_MEMORY_MAX_MIB", "1");
    let relay = alone.start().await;
    relay.until("/health", |_, page| page.contains(r#""strain":"no_memory""#)).await;
    let answer = answer(&relay).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.ends_with("This node has no memory for another call.\n"), "{answer}");
    assert_eq!(relay.ask("/readyz").await, (200, "ready, but out of memory for calls\n".into()));
    relay.until_metric("relay_upgrades_total{outcome=\"no_memory\"} 1").await;
    relay.until_metric("relay_strained 1").await;
    relay.until_log("no new calls are taken").await;
}

#[tokio::test]
async fn a_node_with_few_files_keeps_some_for_the_agents_of_its_calls() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_SHARDS", "1");
    let relay = alone.start_with_files(64).await;
    let mut calls = Vec::new();
    loop {
        match relay.open(None).await {
            Ok(mut carrier) => {
                carrier.say(&start(&alone.ticket(|_| {}))).await;
                calls.push(carrier);
            }
            Err(status) => break assert_eq!(status, 503),
        }
    }
    // Three files for each, and something for everybody else: with two of them each could roll
    // over to a new agent at the same time.
    assert!((5..=15).contains(&calls.len()), "{} calls", calls.len());
    relay.until_metric("relay_upgrades_total{outcome=\"no_files\"} 1").await;
    relay.until_metric(&format!("relay_streams_started_total {}", calls.len())).await;
    relay.until_metric(&format!("relay_sockets_open{{leg=\"agent\"}} {}", calls.len())).await;
    assert!(!relay.log().contains("no connection can be accepted"), "{}", relay.log());
    for carrier in &mut calls {
        carrier.hang_up().await;
    }
    relay.until_metric("relay_strained 0").await;
    assert!(relay.open(None).await.is_ok());
}

#[tokio::test]
async fn peers_that_dawdle_in_their_handshake_keep_nobody_out() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    let own = rcgen::generate_simple_self_signed(vec!["relay.test".into()]).unwrap();
    let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let (cert, key) = (alone.file("cert.pem", &cert), alone.file("key.pem", &key));
    alone.set("RELAY_TLS_CERT_FILE", &cert);
    alone.set("RELAY_TLS_KEY_FILE", &key);
    alone.set("RELAY_SHARDS", "1");
    let relay = alone.start().await;
    let mut silent = Vec::new();
    for n in 0_u8..32 {
        let mut tcp = TcpStream::connect(relay.public).await.unwrap();
        // Some say nothing, others begin a record and leave it there.
        if n % 2 == 0 {
            tcp.write_all(&[22, 3, 1]).await.unwrap();
        }
        silent.push(tcp);
    }
    relay.until_metric("relay_connections_total{outcome=\"accepted\"} 32").await;
    let tcp = TcpStream::connect(relay.public).await.unwrap();
    let connector = TlsConnector::from(trusting(own.cert.der()));
    let tls = within(connector.connect("relay.test".try_into().unwrap(), tcp)).await.unwrap();
    let mut carrier = open_over(tls, NODE, None).await.ok().unwrap();
    carrier.say(&start(&alone.ticket(|_| {}))).await;
    carrier.say(&voice(1)).await;
    model.until_spoken(160).await;
    // The call was there before their five seconds were over: not one of them has been cut off.
    for tcp in &silent {
        let error = tcp.try_read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn a_call_that_floods_delays_no_other() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_SHARDS", "1");
    let relay = alone.start().await;
    let mut flood = relay.begin(&alone.ticket(|_| {})).await;
    let mut other = relay.begin(&alone.ticket(|_| {})).await;
    relay.until_metric("relay_streams_started_total 2").await;
    // Silence, as fast as the socket takes it, until the other call has been heard.
    let flooding = async {
        for chunk in 1.. {
            flood.say(&media(chunk)).await;
        }
    };
    let talking = async {
        for chunk in 1..=FRAMES {
            other.say(&voice(chunk)).await;
        }
        model.until_spoken(FRAMES * 160).await;
    };
    tokio::select! {
        () = flooding => unreachable!("it ends with the other"),
        () = talking => {}
    }
    assert_eq!(model.spoken(), FRAMES * 160);
}

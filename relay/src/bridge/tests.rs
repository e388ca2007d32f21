//! Single wakes of a bridge, between sockets that the test holds; whole calls are tested from
//! outside, at the real process.

use futures_util::{SinkExt as _, StreamExt as _};
use link::agent::AgentSpec;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Their;
use tokio_tungstenite::tungstenite::protocol::Role as TheirRole;

use super::*;
use crate::bridge::agents::Agents;
use crate::call::input::Loss;
use crate::shard::UplinkPace;
use crate::shard::tests::{Bench, admitted, bench, bench_at, socket_and_peer};

use crate::stream::Leg;

type Peer = WebSocketStream<TcpStream>;

/// An agent whose service listens here.
async fn service() -> (TcpListener, Arc<AgentSpec>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spec = json!({
        "name": "front-desk", "instructions": "x",
        "provider": {
            "kind": "openai_realtime",
            "url": format!("ws://{}/v1/realtime", listener.local_addr().unwrap()),
        },
    });
    (listener, Arc::new(serde_json::from_value(spec).unwrap()))
}

async fn accept(listener: &TcpListener) -> Peer {
    tokio_tungstenite::accept_async(listener.accept().await.unwrap().0).await.unwrap()
}

async fn say(peer: &mut Peer, event: Value) {
    peer.send(Their::text(event.to_string())).await.unwrap();
}

/// Does something at the other ends while the bridge is driven.
async fn drive<T>(bridge: &mut Bridge, others: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = others => done,
        reason = poll_fn(|cx| bridge.poll(cx)) => panic!("the call has ended: {reason:?}"),
    }
}

/// The next text that a peer is told.
async fn told(peer: &mut Peer) -> Value {
    let next = timeout(Duration::from_secs(20), peer.next()).await.expect("it comes in time");
    let text = next.unwrap().unwrap().into_text().expect("nothing but text is said");
    serde_json::from_str(&text).unwrap()
}

/// A call that is up, with an answer playing: the bridge, the carrier's end, the service's.
async fn call(bench: &Bench) -> (Bridge, Peer, Peer) {
    let (listener, agent) = service().await;
    let mut bridge = Bridge::new(&bench.shard, &agent, AudioFormat::Ulaw);
    let (caller, carrier) = socket_and_peer().await;
    let admitted = admitted("c_1");
    let log = CallLog::new(bench.shard.outlet().clone(), &admitted);
    let dialect = bridge.legs.welcome(caller, &admitted, log);
    bridge.begin(dialect, &[]);
    let mut carrier = WebSocketStream::from_raw_socket(carrier, TheirRole::Client, None).await;
    let mut model = drive(&mut bridge, accept(&listener)).await;
    drive(&mut bridge, async {
        say(&mut model, json!({"type": "session.created", "session": {}})).await;
        let update = told(&mut model).await;
        let updated = json!({"type": "session.updated", "session": update["session"]});
        say(&mut model, updated).await;
        say(&mut model, json!({"type": "response.created", "response": {"id": "r1"}})).await;
        say(&mut model, delta()).await;
        assert_eq!(told(&mut carrier).await["event"], "media");
    })
    .await;
    (bridge, carrier, model)
}

/// Two seconds of an answer.
fn delta() -> Value {
    let silence = "/".repeat(21_332) + "/w==";
    json!({
        "type": "response.output_audio.delta", "event_id": "e1", "response_id": "r1",
        "item_id": "i1", "output_index": 0, "content_index": 0, "delta": silence[4..],
    })
}

#[tokio::test]
async fn the_wake_that_hears_speech_puts_the_clear_on_the_wire() {
    let bench = bench();
    let (mut bridge, mut carrier, mut model) = call(&bench).await;
    let started = json!({"type": "input_audio_buffer.speech_started", "item_id": "u1"});
    model.feed(Their::text(started.to_string())).await.unwrap();
    // What the service had already made comes right behind.
    for _ in 0..8 {
        model.feed(Their::text(delta().to_string())).await.unwrap();
    }
    model.flush().await.unwrap();
    // The reactor gets its turn, so that the bytes are found by the one wake that follows.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let wake = poll_fn(|cx| Poll::Ready(bridge.poll(cx))).await;
    assert!(wake.is_pending());
    while told(&mut carrier).await["event"] != "clear" {}
}

/// A frame of the caller, 20 ms of this byte.
fn media(chunk: u64, byte: u8) -> Value {
    let mut payload = Vec::new();
    codec::base64::encode(&[byte; 160], &mut payload);
    let payload = String::from_utf8(payload).unwrap();
    let timestamp = (chunk - 1) * 20;
    json!({"event": "media", "media": {"chunk": chunk, "timestamp": timestamp, "payload": payload}})
}

/// The next text that the carrier is told; a mark comes back as played.
async fn played(carrier: &mut Peer) {
    let message = told(carrier).await;
    if message["event"] == "mark" {
        say(carrier, json!({"event": "mark", "mark": message["mark"]})).await;
    }
}

#[tokio::test]
async fn a_frame_allocates_nothing_on_its_way() {
    let bench = bench();
    let (mut bridge, mut carrier, mut model) = call(&bench).await;
    // Buffers find their sizes.
    let mut chunk = 0;
    let mut round = async |carrier: &mut Peer, model: &mut Peer| {
        chunk += 1;
        say(carrier, media(chunk, 7)).await;
        assert_eq!(told(model).await["type"], "input_audio_buffer.append");
        played(carrier).await;
    };
    for _ in 0..16 {
        drive(&mut bridge, round(&mut carrier, &mut model)).await;
    }
    // Media up, a chunk or its mark down, marks back: 30 of each.
    let (mut wakes, mut allocations) = (0_u32, 0);
    for _ in 0..30 {
        let count = |cx: &mut Context<'_>| {
            let mut ended = Poll::Pending;
            let counted = allocation_counter::measure(|| ended = bridge.poll(cx));
            (wakes, allocations) = (wakes + 1, allocations + counted.count_total);
            ended
        };
        tokio::select! {
            biased;
            () = round(&mut carrier, &mut model) => {}
            reason = poll_fn(count) => panic!("the call has ended: {reason:?}"),
        }
    }
    assert!(wakes >= 60, "the bridge has carried them: {wakes}");
    assert_eq!(allocations, 0, "in {wakes} wakes");
}

#[tokio::test]
async fn a_caller_that_is_read_at_a_pace_is_heard_in_full_and_its_end_is_seen() {
    let pace = Batch::Reads(Duration::from_millis(60));
    let bench = bench_at(UplinkPace::Always(pace));
    let (mut bridge, mut carrier, mut model) = call(&bench).await;
    let mut heard = Vec::new();
    drive(&mut bridge, async {
        for chunk in 1..=6 {
            say(&mut carrier, media(chunk, u8::try_from(chunk).unwrap())).await;
        }
        while heard.len() < 6 * 160 {
            let append = told(&mut model).await;
            let audio = append["audio"].as_str().expect("nothing but audio comes").as_bytes();
            codec::base64::decode(audio, &mut heard).unwrap();
        }
    })
    .await;
    assert_eq!(heard, (1..=6).flat_map(|n| [n; 160]).collect::<Vec<u8>>());
    // Nobody is woken by the carrier's goodbye: the next read finds it.
    drop(carrier);
    let ended = timeout(Duration::from_secs(20), poll_fn(|cx| bridge.poll(cx))).await;
    assert_eq!(ended, Ok(EndReason::CallerLost));
    // The sockets finish by themselves, which takes a reactor.
    timeout(Duration::from_secs(20), bridge.close()).await.expect("it closes");
}

#[tokio::test]
async fn nothing_of_a_socket_that_was_closed_is_heard_as_its_successors() {
    let bench = bench();
    let (listener, agent) = service().await;
    let mut agents = Agents::new(&bench.shard, &agent);
    let mut buffers = Buffers::default();
    agents.dial(Slot::A, &mut buffers.to_agent[0]);
    let (heard, mut old) = tokio::join!(next(&mut agents, &mut buffers), accept(&listener));
    assert_eq!(heard, Next::Connected);
    say(&mut old, json!({"type": "one"})).await;
    let Next::Said(speaker, texts) = next(&mut agents, &mut buffers).await else { panic!() };
    assert!(agents.hears(speaker) && texts == [r#"{"type":"one"}"#]);

    // On the wire when the slot is dialled again; the old peer does not even close.
    say(&mut old, json!({"type": "two"})).await;
    agents.dial(Slot::A, &mut buffers.to_agent[0]);
    assert!(!agents.hears(speaker));
    let (heard, mut new) = tokio::join!(next(&mut agents, &mut buffers), accept(&listener));
    assert_eq!(heard, Next::Connected);
    say(&mut new, json!({"type": "three"})).await;
    let Next::Said(successor, texts) = next(&mut agents, &mut buffers).await else { panic!() };
    assert!(agents.hears(successor) && !agents.hears(speaker));
    assert_eq!(texts, [r#"{"type":"three"}"#]);
    assert_eq!(bench.sockets(Leg::Agent), 2, "the old one still finishes");

    // It is told goodbye, and given up after a second without an answer.
    let finish = |cx: &mut Context<'_>| {
        let Buffers { read, aside, .. } = &mut buffers;
        agents.poll_aside(cx, aside, read)
    };
    timeout(Duration::from_secs(20), poll_fn(finish)).await.expect("it is given up");
    assert_eq!(bench.sockets(Leg::Agent), 1);
    assert!(
        matches!(old.next().await, Some(Ok(Their::Close(Some(frame)))) if u16::from(frame.code) == 1000)
    );
}

#[tokio::test]
async fn a_lost_socket_is_lost_once_and_its_slot_is_free() {
    let bench = bench();
    let (listener, agent) = service().await;
    let mut agents = Agents::new(&bench.shard, &agent);
    let mut buffers = Buffers::default();
    agents.dial(Slot::B, &mut buffers.to_agent[1]);
    let (heard, peer) = tokio::join!(next(&mut agents, &mut buffers), accept(&listener));
    assert_eq!(heard, Next::Connected);
    drop(peer);
    assert_eq!(next(&mut agents, &mut buffers).await, Next::Lost(Loss::Closed));
    let again = poll_fn(|cx| {
        Poll::Ready(
            agents.poll(Slot::B, cx, &mut buffers.read, &mut buffers.to_agent[1]).is_pending(),
        )
    });
    assert!(again.await, "a loss is told once");
    drop(listener);
    agents.dial(Slot::B, &mut buffers.to_agent[1]);
    assert_eq!(next(&mut agents, &mut buffers).await, Next::Lost(Loss::Unreachable));
}

#[tokio::test]
async fn a_ping_is_answered_by_a_sign_of_life() {
    let bench = bench();
    let (listener, agent) = service().await;
    let mut agents = Agents::new(&bench.shard, &agent);
    let mut buffers = Buffers::default();
    agents.dial(Slot::A, &mut buffers.to_agent[0]);
    let (heard, mut peer) = tokio::join!(next(&mut agents, &mut buffers), accept(&listener));
    assert_eq!(heard, Next::Connected);
    agents.ping(Slot::A);
    assert!(poll_fn(|cx| Poll::Ready(agents.flush(cx, &mut buffers.to_agent).is_none())).await);
    // Their library answers pings by itself, when it is read.
    let heard = tokio::select! {
        heard = next(&mut agents, &mut buffers) => heard,
        other = peer.next() => {
            assert!(matches!(other, Some(Ok(Their::Ping(_)))), "{other:?}");
            peer.flush().await.unwrap();
            next(&mut agents, &mut buffers).await
        }
    };
    let Next::Said(_, said) = heard else { panic!("{heard:?}") };
    assert_eq!(said, ["a pong"]);
}

/// What comes next from either slot.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Connected,
    Said(Speaker, Vec<String>),
    Lost(Loss),
}

async fn next(agents: &mut Agents, buffers: &mut Buffers) -> Next {
    let heard = poll_fn(|cx| {
        for slot in [Slot::A, Slot::B] {
            let out = &mut buffers.to_agent[slot as usize];
            let Poll::Ready(heard) = agents.poll(slot, cx, &mut buffers.read, out) else {
                continue;
            };
            return Poll::Ready(match heard {
                Heard::Connected => Next::Connected,
                Heard::Lost { cause, .. } => Next::Lost(cause),
                Heard::Messages(speaker, messages) => {
                    let text = |message| match message {
                        Message::Text(text) => text.to_owned(),
                        Message::Pong => "a pong".to_owned(),
                        other @ (Message::Binary(_) | Message::Closed { .. }) => {
                            panic!("{other:?}")
                        }
                    };
                    Next::Said(speaker, messages.map(text).collect())
                }
            });
        }
        Poll::Pending
    });
    timeout(Duration::from_secs(20), heard).await.expect("something comes")
}

impl Bench {
    fn sockets(&self, leg: Leg) -> i64 {
        self.shard.counters().sockets[leg as usize].now()
    }
}

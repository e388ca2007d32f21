//! The fake Twilio against scripted servers: what it posts, what it refuses, what it follows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::sign::sign;
use super::*;
use crate::audio::Clip;
use crate::serve::{self, Answer, Asked, Server, ServerSocket};

const ORIGIN: &str = "https://linecard.test";

/// What stands where control and the relay would: documents in order, and a socket's script.
struct Ours {
    documents: Mutex<VecDeque<(u16, String)>>,
    play: fn(ServerSocket) -> Play,
}

type Play = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl serve::Service for Ours {
    async fn answer(self: Arc<Self>, asked: Asked) -> Answer {
        if asked.path().starts_with("/v1/m/") {
            let expected = sign("fake-twilio-auth-token", "wss://linecard.test/v1/m/n1", &[]);
            assert_eq!(asked.header("x-twilio-signature"), Some(expected.as_str()));
            for header in ["origin", "sec-websocket-protocol", "sec-websocket-extensions"] {
                assert_eq!(asked.header(header), None);
            }
            let Some((answer, socket)) = asked.upgrade() else { panic!("no upgrade") };
            tokio::spawn(async move { (self.play)(socket.await.unwrap()).await });
            return answer;
        }
        if asked.path() == "/status" || asked.path() == "/stream" {
            return serve::text(StatusCode::NO_CONTENT, "");
        }
        let (status, body) = self.documents.lock().unwrap().pop_front().unwrap_or_default();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
        serve::answer(status, "text/xml; charset=utf-8", Bytes::from(body))
    }
}

const CONNECT: &str = "<Connect><Stream url=\"wss://linecard.test/v1/m/n1\" \
     statusCallback=\"https://linecard.test/stream\"><Parameter name=\"ticket\" value=\"t\"/>\
     </Stream></Connect><Redirect>https://linecard.test/resume</Redirect>";

fn document(body: &str) -> (u16, String) {
    (200, format!("<?xml version=\"1.0\"?><Response>{body}</Response>"))
}

struct World {
    twilio: FakeTwilio,
    _ours: Server,
}

async fn world(documents: Vec<(u16, String)>, play: fn(ServerSocket) -> Play) -> World {
    let ours = Arc::new(Ours { documents: Mutex::new(documents.into()), play });
    let ours = Server::start("127.0.0.1:0".parse().unwrap(), ours).await.unwrap();
    let settings = CarrierSettings {
        resolve: Resolve::default().with(ORIGIN, ours.address),
        ..CarrierSettings::default()
    };
    World { twilio: FakeTwilio::start(settings).await.unwrap(), _ours: ours }
}

fn order(caller: Vec<Step>) -> CallOrder {
    CallOrder {
        from: "+15551230001".into(),
        to: "+15551230002".into(),
        voice_url: format!("{ORIGIN}/voice"),
        status_url: Some(format!("{ORIGIN}/status")),
        caller,
    }
}

async fn call(documents: Vec<(u16, String)>, play: fn(ServerSocket) -> Play) -> CallRecord {
    let world = world(documents, play).await;
    let sid = world.twilio.call(order(Vec::new())).unwrap();
    world.twilio.over(&sid).await.unwrap()
}

async fn next(socket: &mut ServerSocket) -> Value {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(text.as_str()).unwrap(),
            Some(Ok(_)) => {}
            _ => return Value::Null,
        }
    }
}

async fn started(socket: &mut ServerSocket) -> String {
    assert_eq!(next(socket).await["event"], "connected");
    let start = next(socket).await;
    assert_eq!(start["start"]["customParameters"], json!({"ticket": "t"}));
    start["streamSid"].as_str().unwrap().to_owned()
}

async fn say(socket: &mut ServerSocket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

fn media(stream: &str, ms: usize) -> Value {
    let payload = base64_simd::STANDARD.encode_to_string(vec![0x42; ms * 8]);
    json!({"event": "media", "streamSid": stream, "media": {"payload": payload}})
}

fn mark(stream: &str, name: &str) -> Value {
    json!({"event": "mark", "streamSid": stream, "mark": {"name": name}})
}

fn closes_at_once(mut socket: ServerSocket) -> Play {
    Box::pin(async move {
        started(&mut socket).await;
        socket.close(None).await.unwrap();
        while next(&mut socket).await != Value::Null {}
    })
}

fn vanishes(mut socket: ServerSocket) -> Play {
    Box::pin(async move {
        started(&mut socket).await;
    })
}

#[tokio::test]
async fn the_end_of_a_stream_asks_what_to_do_and_hangup_is_obeyed() {
    let documents = vec![document(CONNECT), document("<Hangup/>")];
    let record = call(documents, closes_at_once).await;
    assert_eq!(record.faults, []);
    assert_eq!(record.status, "completed");
    assert_eq!(record.streams[0].end, Some(StreamEnd::Closed { code: 1005 }));
    let asked: Vec<&str> = record.hooks.iter().map(|hook| hook.url.as_str()).collect();
    for url in ["/voice", "/v1/m/n1", "/resume", "/status", "/stream"] {
        assert!(asked.iter().any(|asked| asked.ends_with(url)), "{url} in {asked:?}");
    }
    for hook in record.hooks.iter().filter(|hook| hook.method == "POST") {
        assert_eq!(hook.signature, sign("fake-twilio-auth-token", &hook.url, &hook.params));
    }
    let voice = &record.hooks[0];
    assert_eq!(voice.param("CallStatus"), Some("ringing"));
    assert_eq!(voice.param("FromCity"), Some(""));
    let done = record.hooks.iter().find(|hook| hook.url.ends_with("/status")).unwrap();
    assert_eq!(done.param("CallStatus"), Some("completed"));
    assert_eq!(done.param("SequenceNumber"), Some("0"));
}

#[tokio::test]
async fn a_connection_that_vanishes_is_followed_by_the_same_question() {
    let documents = vec![document(CONNECT), document(CONNECT), document("<Say>Sorry.</Say>")];
    let record = call(documents, vanishes).await;
    assert_eq!(record.streams.len(), 2);
    assert_eq!(record.streams[0].end, Some(StreamEnd::Lost));
    assert_ne!(record.streams[0].sid, record.streams[1].sid);
    assert!(record.what().any(|what| *what == What::Said { text: "Sorry.".into() }));
}

#[tokio::test]
async fn a_stream_comes_as_late_as_it_is_told_to() {
    let documents = vec![document(CONNECT), document("<Hangup/>")];
    let ours = Ours { documents: Mutex::new(documents.into()), play: vanishes };
    let ours = Server::start("127.0.0.1:0".parse().unwrap(), Arc::new(ours)).await.unwrap();
    let settings = CarrierSettings {
        resolve: Resolve::default().with(ORIGIN, ours.address),
        stream_delay: Duration::from_millis(120),
        ..CarrierSettings::default()
    };
    let twilio = FakeTwilio::start(settings).await.unwrap();
    let sid = twilio.call(order(Vec::new())).unwrap();
    let record = twilio.over(&sid).await.unwrap();
    let at = |wanted: fn(&What) -> bool| {
        record.notes.iter().find(|note| wanted(&note.what)).unwrap().at_us
    };
    let asked = at(|what| matches!(what, What::Document { .. }));
    let opened = at(|what| matches!(what, What::StreamOpened { .. }));
    assert!(opened - asked >= 120_000, "{}", opened - asked);
}

#[tokio::test]
async fn the_other_verbs_are_understood() {
    let documents = vec![
        document("<Say>x</Say><Redirect method=\"GET\">https://linecard.test/two</Redirect>"),
        document(
            "<Dial action=\"https://linecard.test/after\"><Number>+15550003333</Number></Dial>",
        ),
        document("<Pause length=\"0\"/>"),
    ];
    let record = call(documents, vanishes).await;
    assert_eq!(record.faults, []);
    assert!(record.what().any(|what| *what == What::Dialled { to: "+15550003333".into() }));
    let second = record.hooks.iter().find(|hook| hook.url.contains("/two?")).unwrap();
    assert_eq!(second.method, "GET");
    assert!(second.url.contains("CallStatus=in-progress"));
    let after = record.hooks.iter().find(|hook| hook.url.contains("/after")).unwrap();
    assert_eq!(after.param("DialCallStatus"), Some("completed"));
    assert_eq!(after.param("DialBridged"), Some("true"));
}

#[tokio::test]
async fn a_bad_document_ends_the_call_with_twilios_code() {
    for (answer, code) in [
        (document("<Connect><Stream url=\"ws://linecard.test/x\"/></Connect>"), 31922),
        (document("<Hangup now=\"1\"/>"), 12200),
        ((200, "<Response>".into()), 12100),
        ((500, String::new()), 11200),
    ] {
        let record = call(vec![answer], vanishes).await;
        assert_eq!(record.faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [code]);
        assert_eq!(record.status, "failed");
    }
}

#[tokio::test]
async fn a_redirect_is_retried_as_its_fragment_says() {
    let documents = vec![
        document("<Redirect>https://linecard.test/r#rc=2&amp;rp=5xx</Redirect>"),
        (503, String::new()),
        (503, String::new()),
        document("<Hangup/>"),
    ];
    let record = call(documents, vanishes).await;
    assert_eq!(record.faults, []);
    let hook = record.hooks.iter().find(|hook| hook.url.ends_with("/r")).unwrap();
    assert_eq!(hook.attempts, 3);
}

#[tokio::test]
async fn redirects_without_end_are_stopped() {
    let again = document("<Redirect>https://linecard.test/again</Redirect>");
    let record = call(vec![again; 12], vanishes).await;
    assert_eq!(record.faults[0].code, 11215);
}

#[tokio::test]
async fn a_refused_handshake_is_31920_and_goes_on_with_the_document() {
    let elsewhere = CONNECT.replace("/v1/m/n1", "/v1/nowhere");
    let record = call(vec![document(&elsewhere), document("<Hangup/>")], vanishes).await;
    assert_eq!(record.faults[0].code, 31920);
    // The refused upgrade took the second document; the question after it found none.
    assert!(matches!(record.streams[0].end, Some(StreamEnd::Refused { status: 200 })));
    let error = record.hooks.iter().find(|hook| hook.param("StreamError").is_some()).unwrap();
    assert_eq!(error.param("StreamEvent"), Some("stream-error"));
}

fn speaks_and_asks(mut socket: ServerSocket) -> Play {
    Box::pin(async move {
        let stream = started(&mut socket).await;
        say(&mut socket, &media(&stream, 300)).await;
        say(&mut socket, &mark(&stream, "played")).await;
        say(&mut socket, &media(&stream, 5_000)).await;
        say(&mut socket, &mark(&stream, "flushed")).await;
        let (mut sequence, mut frames) = (1, 0_u64);
        loop {
            let message = next(&mut socket).await;
            sequence += 1;
            assert_eq!(message["sequenceNumber"], sequence.to_string());
            if message["event"] == "media" {
                assert_eq!(message["media"]["timestamp"], (frames * 20).to_string());
                frames += 1;
                assert_eq!(message["media"]["chunk"], frames.to_string());
                continue;
            }
            if message["mark"]["name"] == "played" {
                // 300 ms of audio take 300 ms, whatever the frames beside it.
                assert!((14..=18).contains(&frames), "{frames} frames");
                say(&mut socket, &json!({"event": "clear", "streamSid": stream})).await;
                continue;
            }
            assert_eq!(message["mark"]["name"], "flushed");
            assert!(frames <= 19, "{frames} frames");
            break;
        }
        socket.close(None).await.unwrap();
        while next(&mut socket).await != Value::Null {}
    })
}

#[tokio::test(start_paused = true)]
async fn audio_is_played_in_real_time_and_cleared_at_once() {
    let documents = vec![document(CONNECT), document("<Hangup/>")];
    let record = call(documents, speaks_and_asks).await;
    assert_eq!(record.faults, []);
    let stream = &record.streams[0];
    assert_eq!((stream.received_ms, stream.marks_echoed), (5_300, 2));
    assert!((300..400).contains(&stream.played_ms), "{}", stream.played_ms);
    assert_eq!(stream.received_audio, [0x42; 42_400]);
    let cleared = record.what().find(|what| matches!(what, What::Cleared { .. })).unwrap();
    let What::Cleared { played_ms, dropped_ms } = cleared else { panic!() };
    // Each side is rounded down to a whole millisecond.
    assert!((5_299..=5_300).contains(&(played_ms + dropped_ms)));
}

fn misspells(mut socket: ServerSocket) -> Play {
    Box::pin(async move {
        let stream = started(&mut socket).await;
        let mut wrong = media(&stream, 20);
        wrong["media"]["track"] = "outbound".into();
        say(&mut socket, &wrong).await;
        while next(&mut socket).await != Value::Null {}
    })
}

fn sends_bytes(mut socket: ServerSocket) -> Play {
    Box::pin(async move {
        started(&mut socket).await;
        socket.send(Message::binary(vec![0xFF; 160])).await.unwrap();
        while next(&mut socket).await != Value::Null {}
    })
}

#[tokio::test]
async fn a_message_with_an_extra_field_fails_the_call() {
    let record = call(vec![document(CONNECT)], misspells).await;
    assert_eq!(record.faults[0].code, 31951);
    assert_eq!(record.streams[0].end, Some(StreamEnd::Fault));
    assert!(!record.hooks.iter().any(|hook| hook.url.ends_with("/resume")));
}

#[tokio::test]
async fn a_binary_frame_fails_the_call() {
    let record = call(vec![document(CONNECT)], sends_bytes).await;
    assert_eq!(record.faults[0].code, 31950);
}

fn listens(mut socket: ServerSocket) -> Play {
    Box::pin(async move {
        started(&mut socket).await;
        let mut last = Value::Null;
        loop {
            let message = next(&mut socket).await;
            if message == Value::Null {
                break;
            }
            last = message;
        }
        assert_eq!(last["event"], "stop");
    })
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_the_stream_and_the_call() {
    let world = world(vec![document(CONNECT)], listens).await;
    let clip = Clip::ToneMs(100);
    let steps = vec![Step::Say { clip, text: "Hi".into() }, Step::HangUp];
    let sid = world.twilio.call(order(steps)).unwrap();
    let record = world.twilio.over(&sid).await.unwrap();
    assert_eq!(record.faults, []);
    assert_eq!(record.streams[0].end, Some(StreamEnd::HungUp));
    assert_eq!(record.streams[0].frames_sent, 5);
    assert!(record.what().any(|what| *what == What::CallerFinished));
    assert!(!record.hooks.iter().any(|hook| hook.url.ends_with("/resume")));
}

#[tokio::test]
async fn a_number_whose_document_cannot_be_had_turns_to_its_fallback() {
    let spoken = document("<Say>Nobody is here.</Say><Hangup/>");
    let documents = vec![(503, String::new()), spoken];
    let ours = Arc::new(Ours { documents: Mutex::new(documents.into()), play: listens });
    let ours = Server::start("127.0.0.1:0".parse().unwrap(), ours).await.unwrap();
    let settings = CarrierSettings {
        resolve: Resolve::default().with(ORIGIN, ours.address),
        fallback_url: Some(format!("{ORIGIN}/fallback")),
        ..CarrierSettings::default()
    };
    let twilio = FakeTwilio::start(settings).await.unwrap();
    let sid = twilio.call(order(Vec::new())).unwrap();
    let record = twilio.over(&sid).await.unwrap();
    assert!(record.what().any(|what| *what == What::Said { text: "Nobody is here.".into() }));
    let asked = record.hooks.iter().find(|hook| hook.url.ends_with("/fallback")).unwrap();
    assert_eq!(asked.param("ErrorCode"), Some("11200"));
    assert_eq!(record.faults.len(), 1);
}

#[tokio::test]
async fn a_caller_is_heard_as_late_as_in_the_field() {
    let ours =
        Arc::new(Ours { documents: Mutex::new(vec![document(CONNECT)].into()), play: listens });
    let ours = Server::start("127.0.0.1:0".parse().unwrap(), ours).await.unwrap();
    let settings = CarrierSettings {
        resolve: Resolve::default().with(ORIGIN, ours.address),
        audio_delay: FIELD_AUDIO_DELAY,
        ..CarrierSettings::default()
    };
    let twilio = FakeTwilio::start(settings).await.unwrap();
    let clip = Clip::ToneMs(100);
    let steps = vec![Step::Say { clip, text: "Hi".into() }, Step::HangUp];
    let sid = twilio.call(order(steps)).unwrap();
    let record = twilio.over(&sid).await.unwrap();
    let at = |wanted: fn(&What) -> bool| {
        record.notes.iter().find(|note| wanted(&note.what)).unwrap().at_us / 1_000
    };
    let opened = at(|what| matches!(what, What::StreamOpened { .. }));
    assert!(at(|what| matches!(what, What::CallerSpeaks { .. })) >= opened + 199);
    assert_eq!((record.streams[0].frames_sent, record.debugger.len()), (5, 0));
}

/// A client of the REST interface.
mod rest;

//! A browser's sessions, at the real process: audio byte for byte at 24 kHz both ways, and whole
//! conversations with the strict fake model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use futures_util::{SinkExt as _, StreamExt as _};
use loadtest::audio::{Clip, Speech};
use loadtest::carrier::Step;
use loadtest::model::{Answer, FakeModel, ModelSettings, Script, Turn};
use loadtest::page::{PageRecord, PageSettings, talk};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::bridge_rig::{Format, Rig};
use crate::process_rig::within;

const ORIGIN: &str = "https://app.example";

/// A page's end of a stream, without a clock.
struct Page {
    socket: WebSocketStream<TcpStream>,
    frames: u32,
}

#[derive(Debug, PartialEq)]
enum Told {
    Audio(Vec<u8>),
    Text(Value),
    Closed(u16),
}

impl Page {
    async fn begin(rig: &Rig) -> Self {
        let mut request = "ws://relay.test/v1/stream/n1".into_client_request().unwrap();
        request.headers_mut().insert("origin", ORIGIN.parse().unwrap());
        let tcp = TcpStream::connect(rig.relay.public).await.unwrap();
        let (socket, _) = within(tokio_tungstenite::client_async(request, tcp)).await.unwrap();
        let mut page = Self { socket, frames: 0 };
        page.say(json!({"type": "start", "token": rig.token(Some(ORIGIN))})).await;
        page
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn speak(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    async fn next(&mut self) -> Told {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => {
                    self.frames += 1;
                    return Told::Audio(bytes.to_vec());
                }
                Some(Ok(Message::Text(text))) => {
                    return Told::Text(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    return Told::Closed(frame.map_or(1005, |frame| frame.code.into()));
                }
                other => panic!("not what a page is told: {other:?}"),
            }
        }
    }

    /// Listens until so many bytes have come, and plays them at once.
    async fn listen(&mut self, bytes: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < bytes {
            match self.next().await {
                Told::Audio(more) => heard.extend(more),
                told @ (Told::Text(_) | Told::Closed(_)) => panic!("{told:?} in mid-speech"),
            }
            let frame = self.frames;
            self.say(json!({"type": "heard", "frame": frame})).await;
        }
        heard
    }
}

/// Bytes of every value, without a pattern that a lost or doubled piece would leave intact.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[tokio::test]
async fn both_voices_arrive_byte_for_byte_though_the_agent_speaks_mu_law_on_the_phone() {
    let rig = Rig::new(Format::Ulaw).await;
    let mut page = Page::begin(&rig).await;
    // Also what comes before anybody answers, and in pieces of any length.
    let spoken = noise(60_000);
    page.speak(&spoken[..256]).await;
    page.speak(&spoken[256..20_000]).await;
    let mut model = rig.model_in(Format::Pcm24k).await;
    model.settle().await;
    assert_eq!(page.next().await, Told::Text(json!({"type": "ready"})));
    page.speak(&spoken[20_000..]).await;
    assert!(model.hear(spoken.len()).await == spoken);

    let answer = noise(96_002);
    // Its pieces do not even keep samples whole.
    model.answer([&answer[..4_801], &answer[4_801..50_003], &answer[50_003..]]).await;
    assert!(page.listen(answer.len()).await == answer);
    let Told::Text(turn) = page.next().await else { panic!("a turn is told") };
    assert_eq!((&turn["type"], &turn["role"]), (&json!("transcript"), &json!("agent")));
    page.say(json!({"type": "end"})).await;
    assert_eq!(page.next().await, Told::Text(json!({"type": "end", "reason": "caller_hung_up"})));
    assert_eq!(page.next().await, Told::Closed(1000));
    rig.relay.until_metric("relay_calls 0").await;
}

#[tokio::test]
async fn an_interruption_is_a_clear_and_cuts_at_what_the_page_reported() {
    let rig = Rig::new(Format::Pcm24k).await;
    let mut page = Page::begin(&rig).await;
    let mut model = rig.model().await;
    model.settle().await;
    assert_eq!(page.next().await, Told::Text(json!({"type": "ready"})));
    let answer = model.begin().await;
    model.delta(answer, &noise(48 * 3_000)).await;
    model
        .say(json!({"type": "response.output_audio.done", "response_id": "r1", "item_id": "i1",
        "output_index": 0, "content_index": 0}))
        .await;
    page.listen(2 * 2_880).await;
    // What the person says behind it has arrived, and so has what was reported.
    page.speak(&[1; 960]).await;
    assert_eq!(model.next().await.unwrap()["type"], "input_audio_buffer.append");
    model
        .say(json!({"type": "input_audio_buffer.speech_started", "audio_start_ms": 0,
        "item_id": "u1"}))
        .await;
    loop {
        match page.next().await {
            Told::Audio(_) => {}
            told @ (Told::Text(_) | Told::Closed(_)) => {
                assert_eq!(told, Told::Text(json!({"type": "clear"})));
                break;
            }
        }
    }
    let cut = model.next_event().await.unwrap();
    assert_eq!(cut["type"], "conversation.item.truncate");
    assert_eq!((&cut["item_id"], &cut["audio_end_ms"]), (&json!("i1"), &json!(120)));
}

#[tokio::test]
async fn half_a_sample_is_tolerated_a_few_times() {
    let rig = Rig::new(Format::Ulaw).await;
    let mut page = Page::begin(&rig).await;
    let mut model = rig.model_in(Format::Pcm24k).await;
    model.settle().await;
    assert_eq!(page.next().await, Told::Text(json!({"type": "ready"})));
    for _ in 0..6 {
        page.speak(&[1, 2, 3]).await;
    }
    let end = json!({"type": "end", "reason": "caller_protocol"});
    assert_eq!(page.next().await, Told::Text(end));
    assert_eq!(page.next().await, Told::Closed(1002));
}

/// A conversation with the strict fake model, and everything that was on the model's wire.
async fn conversation(script: Script, steps: Vec<Step>) -> (PageRecord, FakeModel, Vec<Value>) {
    let folder = tempfile::TempDir::new().unwrap();
    let capture = folder.path().join("wire");
    let settings =
        ModelSettings { script, capture: Some(capture.clone()), ..ModelSettings::default() };
    let model = FakeModel::start(settings).await.unwrap();
    let rig = Rig::towards(&model.url(), Format::Ulaw).await;
    let record = talk(PageSettings {
        url: format!("ws://{}/v1/stream/n1", rig.relay.public),
        token: rig.token(Some(ORIGIN)),
        origin: Some(ORIGIN.to_owned()),
        script: steps,
    });
    let record = within(record).await.unwrap();
    assert_eq!(record.faults, [""; 0]);
    rig.relay.until_metric("relay_calls 0").await;
    let complaints = model.summary().complaints;
    assert!(complaints.is_empty(), "{complaints:?}");
    (record, model, wire(&capture))
}

fn wire(capture: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(capture).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All audio that the model's service was given, in order.
fn appended(wire: &[Value]) -> Vec<u8> {
    let mut audio = Vec::new();
    for line in wire {
        let message = &line["event"];
        if message["type"] == "input_audio_buffer.append" {
            let text = message["audio"].as_str().unwrap();
            codec::base64::decode(text.as_bytes(), &mut audio).unwrap();
        }
    }
    audio
}

fn clip_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::pcm::to_le_bytes(&Speech::saying(text).pcm24k(), &mut bytes);
    bytes
}

#[tokio::test]
async fn a_page_talks_with_an_agent_to_its_goodbye_and_every_byte_arrives_both_ways() {
    let (hello, bye) = ("Hello, this is the front desk.", "Goodbye then.");
    let script = Script {
        greeting: Answer::words(hello),
        turns: vec![Turn {
            caller: "That was all.".into(),
            answer: Answer::words(bye).then_calls("hang_up"),
        }],
        more: Answer::words("Is there anything else?"),
    };
    let steps = vec![
        Step::WaitForAgent { quiet_ms: 300 },
        Step::Say { clip: Clip::ToneMs(900), text: "That was all.".into() },
    ];
    let (record, _model, wire) = conversation(script, steps).await;
    assert_eq!(record.ended.as_deref(), Some("agent_hung_up"));
    assert_eq!(record.closed, Some(1000));
    assert!(record.received == [clip_bytes(hello), clip_bytes(bye)].concat(), "what was heard");
    assert_eq!(u64::try_from(record.received.len()).unwrap() / 48, record.played_ms);
    // What was said after the session's last words may still have been on its way.
    let heard = appended(&wire);
    assert!(heard.len() > 48 * 1_000 && record.sent.starts_with(&heard), "what the agent heard");
    assert!(record.queued_ms_max <= 500, "{} ms ahead of the ear", record.queued_ms_max);
    let turns: Vec<_> =
        record.transcript.iter().map(|said| (said.role.as_str(), said.text.as_str())).collect();
    assert_eq!(turns, [("agent", hello), ("caller", "That was all."), ("agent", bye)]);
}

#[tokio::test]
async fn a_page_that_interrupts_is_told_to_clear_and_the_model_forgets_what_was_not_heard() {
    let long = "The river rises in the hills above the town and runs past the old mill to the sea.";
    let script =
        Script { greeting: Answer::words(long), turns: Vec::new(), more: Answer::words("Yes?") };
    let steps = vec![
        Step::Interrupt { after_ms: 700, clip: Clip::ToneMs(700), text: "Wait.".into() },
        Step::WaitForAgent { quiet_ms: 300 },
        Step::HangUp,
    ];
    let (record, model, _wire) = conversation(script, steps).await;
    assert_eq!(record.ended.as_deref(), Some("caller_hung_up"));
    assert_eq!(record.clears, 1);
    assert!(record.cleared_ms > 0, "something was ahead of the ear");
    let session = &model.sessions()[0];
    let cut = session.items.iter().find_map(|item| item.cut_ms).expect("the greeting was cut");
    let greeting = &record.transcript[0];
    assert!(greeting.interrupted && greeting.text.len() < long.len(), "{greeting:?}");
    assert!((600..=2_000).contains(&cut), "{cut} ms");
}

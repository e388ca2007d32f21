//! Recorded calls, played to the call core in virtual time: the same messages at the same moments
//! make it want the same things.
//!
//! The recordings are in `tests/recordings`, with how they are made. Both sides' words are read and
//! written by the real wire modules, so that a recording holds what the relay would have seen.

#![expect(clippy::unwrap_used, reason = "recordings are read or the test fails")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use link::agent::AgentSpec;
use relay::call::input::{Audio, AudioFormat, CallerEvent, Input, Preparation, Slot};
use relay::call::moment::Moment;
use relay::call::output::{AgentMessage, CallerMessage, Milestone, Outbox, Output};
use relay::call::{Call, CallSpec};
use relay::wire::{AgentWire, CallerDialect, CallerWire};
use serde_json::{Value, json};

#[test]
fn an_interruption_is_replayed() {
    replay("interruption");
}

#[test]
fn a_goodbye_is_replayed() {
    replay("hang-up");
}

#[test]
fn a_transfer_is_replayed() {
    replay("transfer");
}

/// Plays a recording, and compares what the call wants done with what is expected.
fn replay(name: &str) {
    let recording = std::fs::read_to_string(path(&format!("{name}.jsonl"))).unwrap();
    let mut lines: Vec<(u64, Value)> = recording.lines().flat_map(moments).collect();
    // By time, and in the order of the recording where that is the same.
    lines.sort_by_key(|(at_ms, _)| *at_ms);
    let mut stage = Stage::new();
    for (at_ms, line) in lines {
        stage.play(at_ms, &line);
    }
    let (sheet, expected) = (stage.finish(), path(&format!("{name}.expected")));
    if std::env::var_os("REPLAY_WRITE").is_some() {
        std::fs::write(expected, &sheet).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(expected).unwrap();
    let pairs = sheet.lines().zip(expected.lines()).enumerate();
    for (n, (wanted, expected)) in pairs {
        assert_eq!(wanted, expected, "{name}.expected, line {}", n + 1);
    }
    assert_eq!(sheet.lines().count(), expected.lines().count(), "the sheets are equally long");
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(file)
}

/// What a line of a recording holds, with its moment: one thing, or a run of frames 20 ms apart.
fn moments(line: &str) -> Vec<(u64, Value)> {
    let mut line: Value = serde_json::from_str(line).unwrap();
    let at_ms = line["at_ms"].as_u64().unwrap();
    let Some(count) = line["count"].as_u64() else { return vec![(at_ms, line)] };
    let first = |what: &str| line[what].as_u64().unwrap();
    let (chunk, ms) = (first("first_chunk"), first("first_ms"));
    line = json!({"from": "carrier"});
    let frame = |n: u64| {
        let mut line = line.clone();
        (line["chunk"], line["stamp_ms"]) = (json!(chunk + n), json!(ms + 20 * n));
        (at_ms + 20 * n, line)
    };
    (0..count).map(frame).collect()
}

/// A call, and where what it wants is written down.
struct Stage {
    call: Call,
    now: Moment,
    sheet: Sheet,
}

/// What the call wants done, a line each.
struct Sheet {
    caller: CallerWire,
    agent: AgentWire,
    ms: u64,
    text: String,
    appended: usize,
}

impl Stage {
    /// A call that is announced.
    fn new() -> Self {
        let agent: AgentSpec = serde_json::from_value(json!({
            "name": "demo", "instructions": "You answer the phone.", "greeting": "Greet.",
            "provider": {"kind": "openai_realtime"},
            "tools": [
                {"kind": "hang_up"},
                {"kind": "transfer", "destinations": [{"name": "workshop", "to": "+15551230003"}]},
            ],
        }))
        .unwrap();
        let agent = Arc::new(agent);
        let sheet = Sheet {
            caller: CallerWire::new(CallerDialect::Twilio, "MZ1"),
            agent: AgentWire::new(agent.clone()),
            ms: 0,
            text: String::new(),
            appended: 0,
        };
        let playout_lead = Duration::from_millis(400);
        let caller = AudioFormat::Ulaw;
        let spec = CallSpec {
            agent,
            caller,
            playout_lead,
            sorry: &[0; 800],
            moment: &[0; 800],
            spread: 0,
        };
        let now = Moment::from_micros(1_000_000);
        let mut stage = Self { call: Call::new(spec, now), now, sheet };
        stage.put(Input::Announced(Preparation::Greeting));
        stage
    }

    fn play(&mut self, at_ms: u64, line: &Value) {
        self.until(at_ms);
        if line["from"] == "agent" {
            self.agent_says(line);
        } else if line["started"] == true {
            self.put(Input::Caller(CallerEvent::Started));
        } else if let Some(chunk) = line["chunk"].as_u64() {
            let (payload, at_ms) = (silence(160), line["stamp_ms"].as_u64().unwrap());
            let audio = Audio::Base64(&payload);
            self.put(Input::Caller(CallerEvent::Media { at_ms, chunk, audio }));
        } else {
            let text = line["message"].to_string();
            let dialect = self.sheet.caller.dialect();
            let Self { call, now, sheet } = self;
            dialect.read(&text, |event| call.handle(Input::Caller(event), *now, sheet));
        }
    }

    fn agent_says(&mut self, line: &Value) {
        let mut message = line["message"].clone();
        if let Some(bytes) = line["audio_bytes"].as_u64() {
            message["delta"] = json!(silence(usize::try_from(bytes).unwrap()));
        }
        let (text, dialect) = (message.to_string(), self.sheet.agent.dialect());
        let Self { call, now, sheet } = self;
        dialect.read(&text, |event| call.handle(Input::Agent(Slot::A, event), *now, sheet));
        self.call.check();
    }

    /// Lets every deadline pass that comes before.
    fn until(&mut self, ms: u64) {
        let to = Moment::from_micros(1_000_000 + ms * 1_000);
        while let Some(at) = self.call.next_timeout().filter(|at| *at <= to) {
            self.now = self.now.max(at);
            self.sheet.ms = (self.now.micros() - 1_000_000) / 1_000;
            self.put(Input::Tick);
        }
        self.now = to;
        self.sheet.ms = ms;
    }

    fn put(&mut self, input: Input<'_>) {
        self.call.handle(input, self.now, &mut self.sheet);
        self.call.check();
    }

    fn finish(mut self) -> String {
        let appended = self.sheet.appended;
        writeln!(self.sheet.text, "{appended} bytes of the caller were told to the agent").unwrap();
        self.sheet.text
    }
}

impl Outbox for Sheet {
    fn put(&mut self, output: Output<'_>) {
        let line = match &output {
            Output::ToAgent(_, AgentMessage::Audio(audio)) => {
                self.appended += bytes(*audio);
                return;
            }
            // What it was told to be is not part of the recording.
            Output::ToAgent(_, AgentMessage::Configure { answering, .. }) => {
                format!("configure, {answering:?}")
            }
            Output::ToAgent(_, AgentMessage::Speak(cue)) => format!("speak {cue:?}"),
            Output::ToAgent(_, message) => {
                let mut text = Vec::new();
                self.agent.write(message, &mut text);
                String::from_utf8(text).unwrap()
            }
            Output::ToCaller(CallerMessage::Media(audio)) => format!("play {}", bytes(*audio)),
            Output::ToCaller(message) => {
                let mut text = Vec::new();
                self.caller.write(message, &mut text);
                String::from_utf8(text).unwrap()
            }
            Output::Note(Milestone::Tolerated(oddity)) => format!("tolerated {oddity:?}"),
            Output::Note(_)
            | Output::Dial(_)
            | Output::Ping(_)
            | Output::CloseAgent(_)
            | Output::RunTool(..)
            | Output::DropTool(_)
            | Output::CloseCaller(..)
            | Output::End(_) => format!("{output:?}"),
        };
        writeln!(self.text, "{:>6} {line}", self.ms).unwrap();
    }
}

fn bytes(audio: Audio<'_>) -> usize {
    match audio {
        Audio::Base64(text) => text.len() / 4 * 3 - text.bytes().filter(|b| *b == b'=').count(),
        Audio::Ulaw(bytes) | Audio::PcmBytes(bytes) => bytes.len(),
        Audio::Pcm(samples) => 2 * samples.len(),
    }
}

fn silence(bytes: usize) -> String {
    let mut text = Vec::new();
    codec::base64::encode(&vec![codec::g711::ULAW_SILENCE; bytes], &mut text);
    String::from_utf8(text).unwrap()
}

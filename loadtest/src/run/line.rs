//! One call at the carrier's end: the caller, and the messages that go over its socket.

use std::io::Write as _;

use super::board::{Board, Phase};
use super::caller::Caller;
use super::lean::{Lean, Next};
use super::measured::{Figures, note};
use super::streams::between;

/// One call that is up.
pub(crate) struct Line {
    pub(crate) caller: Caller,
    pub(crate) call: u32,
    call_sid: String,
    stream_sid: String,
    sequence: u64,
    lean: Lean,
    /// The message that is being written.
    text: Vec<u8>,
    /// The audio that is being heard.
    audio: Vec<u8>,
    /// The first frame after the measured time; those before it must arrive.
    counted: Option<u32>,
    /// When the stream began; `None` once the agent was heard, or where it does not speak first.
    started_us: Option<u64>,
    /// When the caller hangs up; `None` at the end of the test.
    pub(crate) ends_us: Option<u64>,
    /// Whether the caller has hung up.
    pub(crate) is_over: bool,
    /// Frames from one key to the next; `None` of those who press none.
    dtmf_frames: Option<u32>,
    /// Messages that the socket did not take.
    pub(crate) refused: u64,
}

/// What a call begins with.
pub(crate) struct Beginning<'a> {
    /// The number of the call.
    pub(crate) call: u32,
    /// The caller.
    pub(crate) caller: Caller,
    /// The socket.
    pub(crate) lean: Lean,
    /// The call's name at the carrier.
    pub(crate) call_sid: String,
    /// What opens a relay's door.
    pub(crate) ticket: &'a str,
    /// When the stream begins, where the agent speaks first.
    pub(crate) started_us: Option<u64>,
    /// When the caller hangs up.
    pub(crate) ends_us: Option<u64>,
    /// Frames from one key to the next.
    pub(crate) dtmf_frames: Option<u32>,
}

impl Line {
    /// Says the first two messages of a stream.
    pub(crate) fn begin(beginning: Beginning<'_>) -> Self {
        let Beginning { call, caller, lean, call_sid, ticket, started_us, ends_us, dtmf_frames } =
            beginning;
        let mut line = Self {
            caller,
            call,
            stream_sid: format!("MZ{}", call_sid.trim_start_matches("CA")),
            call_sid,
            sequence: 1,
            lean,
            text: Vec::with_capacity(512),
            audio: Vec::with_capacity(1_024),
            counted: None,
            started_us,
            ends_us,
            is_over: false,
            dtmf_frames,
            refused: 0,
        };
        line.lean.say(CONNECTED.as_bytes());
        let start = start(&line.stream_sid, &line.call_sid, ticket);
        line.lean.say(start.as_bytes());
        line.lean.flush();
        line
    }

    /// The socket, to be read.
    pub(crate) fn socket(&mut self) -> &mut Lean {
        &mut self.lean
    }

    /// Hears what was read. Fields are found by their names alone: the strict fake checks the
    /// rest. Gives whether more may come, and when the next mark is due.
    pub(crate) fn hear(
        &mut self,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
    ) -> (bool, Option<u64>) {
        let mut due_us = None;
        let open = loop {
            let text = match self.lean.next() {
                Next::Text(text) => text,
                Next::Nothing => break true,
                Next::Gone => break false,
            };
            if let Some(payload) = between(text, "\"payload\":\"") {
                self.audio.clear();
                if codec::base64::decode(payload.as_bytes(), &mut self.audio).is_err() {
                    figures.counts.frames_altered_down += 1;
                    continue;
                }
                figures.note_heard(now_us, self.audio.len());
                if let Some(started_us) = self.started_us.take() {
                    note(&mut figures.first_us, now_us.saturating_sub(started_us));
                }
                self.caller.hear(&self.audio, now_us, board, figures);
            } else if let Some(name) = between(text, "\"name\":\"") {
                due_us = Some(self.caller.mark(name.to_owned(), now_us));
            } else if text.contains("\"clear\"") {
                self.caller.clear(now_us, board, figures);
            }
        };
        self.echo(now_us);
        (open, due_us)
    }

    /// Speaks for 20 ms.
    pub(crate) fn frame(&mut self, board: &Board, phase: Phase, figures: &mut Figures) {
        let number = self.caller.next_frame();
        if phase == Phase::Tail && self.counted.is_none() {
            self.counted = Some(number);
        }
        let now_us = board.clock.micros();
        let block = self.caller.frame(now_us, figures);
        self.media(number, &block);
        figures.counts.frames_sent += 1;
        board.frame_written(self.call, number, board.clock.micros());
        self.send();
        if self.dtmf_frames.is_some_and(|every| number % every == every - 1) {
            figures.counts.dtmf_sent += 1;
            self.press("5");
        }
    }

    /// Writes a media message.
    fn media(&mut self, number: u32, block: &[u8]) {
        self.head("media");
        let (chunk, at_ms) = (number + 1, u64::from(number) * 20);
        // A vector takes everything that is written to it, here and below.
        let _ = write!(
            self.text,
            "\"media\":{{\"track\":\"inbound\",\"chunk\":\"{chunk}\",\"timestamp\":\"{at_ms}\",\
             \"payload\":\""
        );
        codec::base64::encode(block, &mut self.text);
        self.text.extend_from_slice(b"\"}}");
    }

    /// Sends back the marks that were played by now.
    pub(crate) fn echo(&mut self, now_us: u64) {
        while let Some(name) = self.caller.due_mark(now_us) {
            self.head("mark");
            let _ = write!(self.text, "\"mark\":{{\"name\":\"{name}\"}}}}");
            self.send();
        }
    }

    /// Presses a key.
    fn press(&mut self, digit: &str) {
        self.head("dtmf");
        let _ =
            write!(self.text, "\"dtmf\":{{\"track\":\"inbound_track\",\"digit\":\"{digit}\"}}}}");
        self.send();
    }

    /// Says that the caller has hung up.
    pub(crate) fn stop(&mut self) {
        self.head("stop");
        let _ = write!(
            self.text,
            "\"stop\":{{\"accountSid\":\"{ACCOUNT}\",\"callSid\":\"{}\"}}}}",
            self.call_sid
        );
        self.send();
    }

    /// Frames that should have arrived at the far end and have not.
    pub(crate) fn missing(&self, board: &Board) -> u32 {
        let due = self.counted.unwrap_or_else(|| self.caller.next_frame());
        due.saturating_sub(board.arrived(self.call))
    }

    /// Begins a message.
    fn head(&mut self, event: &str) {
        self.sequence += 1;
        self.text.clear();
        let _ = write!(
            self.text,
            "{{\"event\":\"{event}\",\"sequenceNumber\":\"{}\",\"streamSid\":\"{}\",",
            self.sequence, self.stream_sid
        );
    }

    /// Writes at once. What a full socket does not take is dropped: a relay must never stop
    /// reading, so it is counted.
    fn send(&mut self) {
        if !self.lean.flush() {
            self.refused += 1;
            return;
        }
        self.lean.say(&self.text);
        self.lean.flush();
    }
}

/// The second message of a stream, which carries the ticket.
fn start(stream_sid: &str, call_sid: &str, ticket: &str) -> String {
    serde_json::json!({
        "event": "start", "sequenceNumber": "1", "streamSid": stream_sid,
        "start": {
            "streamSid": stream_sid, "accountSid": ACCOUNT, "callSid": call_sid,
            "tracks": ["inbound"], "customParameters": {"ticket": ticket},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    })
    .to_string()
}

/// The first message of a stream.
const CONNECTED: &str = r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#;

/// Any account will do.
const ACCOUNT: &str = "AC00000000000000000000000000000001";

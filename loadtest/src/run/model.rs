//! One session of the load test's fake model: lean, but with the events and the order of the
//! real service. It checks every frame that arrives. No socket and no clock in here.
//!
//! The strict fake is [`crate::model`]; this one believes its client and costs a fifth of it.

use serde_json::{Value, json};

use super::board::Board;
use super::caller::REPLY_BLOCKS;
use super::measured::{Figures, note};
use super::stamp::{BLOCK, SPELLED_BITS, Stamp, is_loud_pcm24k, plain};
use crate::demo::Audio;

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    audio: Audio,
    /// Which call it is; learned from the audio.
    call: Option<u32>,
    spelled: u32,
    /// The frame that comes next.
    frame: u32,
    waiting: Vec<u8>,
    speech: Speech,
    replies: u16,
    reply: Option<Reply>,
    ids: u32,
}

/// Whether the caller speaks, and for how long not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Quiet,
    Speaking { quiet: u32 },
}

/// An answer in the making.
#[derive(Debug)]
struct Reply {
    number: u16,
    response: String,
    item: String,
    made: u32,
    due_us: u64,
    /// Whether its beginning was announced.
    begun: bool,
}

impl Session {
    /// A session that begins.
    pub(crate) fn new(audio: Audio, out: &mut Vec<String>) -> Self {
        let mut session = Self {
            audio,
            call: None,
            spelled: 0,
            frame: 0,
            waiting: Vec::new(),
            speech: Speech::Quiet,
            replies: 0,
            reply: None,
            ids: 0,
        };
        let created = json!({"type": "session.created", "session": {
            "type": "realtime", "object": "realtime.session", "id": "sess_load",
            "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24_000}},
                      "output": {"format": {"type": "audio/pcm", "rate": 24_000}}},
        }});
        session.say(created, out);
        session
    }

    /// The next id.
    fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}_{:06}", self.ids)
    }

    /// Says an event, with an id of its own.
    fn say(&mut self, mut event: Value, out: &mut Vec<String>) {
        event["event_id"] = self.id("event").into();
        out.push(event.to_string());
    }

    /// When something happens without the client.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.reply.as_ref().map(|reply| reply.due_us)
    }

    /// Takes a text of the client.
    pub(crate) fn receive(
        &mut self,
        text: &str,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
        out: &mut Vec<String>,
    ) {
        if let Some(audio) = appended(text) {
            let before = self.waiting.len();
            if codec::base64::decode(audio.as_bytes(), &mut self.waiting).is_err() {
                self.waiting.truncate(before);
                figures.counts.frames_altered_up += 1;
            }
            self.hear(now_us, board, figures, out);
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(text) else { return };
        match event["type"].as_str().unwrap_or_default() {
            "session.update" => {
                let mut session = event["session"].clone();
                session["object"] = "realtime.session".into();
                session["id"] = "sess_load".into();
                self.say(json!({"type": "session.updated", "session": session}), out);
            }
            "conversation.item.truncate" => {
                let mut event = event;
                event["type"] = "conversation.item.truncated".into();
                self.say(event, out);
            }
            _ => {}
        }
    }

    /// Bytes of 20 ms in the session's format.
    fn block_bytes(&self) -> usize {
        match self.audio {
            Audio::Mulaw => BLOCK,
            // Three times the samples, two bytes each.
            Audio::Pcm24k => BLOCK * 6,
        }
    }

    /// Takes whole blocks off the front of what was appended; the relay may join and cut as
    /// it likes.
    fn hear(&mut self, now_us: u64, board: &Board, figures: &mut Figures, out: &mut Vec<String>) {
        let bytes = std::mem::take(&mut self.waiting);
        let size = self.block_bytes();
        let mut blocks = bytes.chunks_exact(size);
        for block in blocks.by_ref() {
            let loud = match self.audio {
                Audio::Mulaw => self.stamped(block, now_us, board, figures),
                Audio::Pcm24k => self.counted(block, now_us, board, figures),
            };
            self.listen(loud, now_us, out);
        }
        self.waiting = blocks.remainder().to_vec();
    }

    /// A block that names itself.
    fn stamped(&mut self, block: &[u8], now_us: u64, board: &Board, figures: &mut Figures) -> bool {
        let known = |stamp: &Stamp| stamp.reply == 0 && self.call.is_none_or(|c| c == stamp.call);
        let Some(stamp) = Stamp::read(block).filter(known) else {
            figures.counts.frames_altered_up += 1;
            self.frame += 1;
            return false;
        };
        self.call = Some(stamp.call);
        figures.counts.frames_lost_up += u64::from(stamp.block.saturating_sub(self.frame));
        self.frame = stamp.block;
        self.arrived(now_us, board, figures);
        stamp.loud
    }

    /// A block whose place in the stream names it.
    fn counted(&mut self, block: &[u8], now_us: u64, board: &Board, figures: &mut Figures) -> bool {
        let loud = is_loud_pcm24k(block);
        if self.frame == 0 && !loud {
            figures.counts.frames_altered_up += 1;
        }
        let spells = self.frame <= SPELLED_BITS;
        if spells && self.frame > 0 {
            self.spelled |= u32::from(loud) << (self.frame - 1);
        }
        if self.frame == SPELLED_BITS {
            self.call = Some(self.spelled);
        }
        self.arrived(now_us, board, figures);
        loud && !spells
    }

    /// Notes a frame's delay. The first frames of a call wait for its session, which is no
    /// added delay: they are written before anything is measured.
    fn arrived(&mut self, now_us: u64, board: &Board, figures: &mut Figures) {
        if let Some(call) = self.call
            && let Some(written_us) = board.frame_arrived(call, self.frame)
            && board.is_measured(written_us)
        {
            note(&mut figures.up_us, now_us.saturating_sub(written_us));
        }
        self.frame += 1;
    }

    /// Turn detection: the sender says what is loud, so that no energy has to be measured.
    fn listen(&mut self, loud: bool, now_us: u64, out: &mut Vec<String>) {
        let at_ms = u64::from(self.frame) * 20;
        match (self.speech, loud) {
            (Speech::Quiet, false) => {}
            (Speech::Quiet, true) => {
                self.speech = Speech::Speaking { quiet: 0 };
                let item = self.id("item");
                self.say(
                    json!({
                        "type": "input_audio_buffer.speech_started",
                        "audio_start_ms": at_ms.saturating_sub(300), "item_id": item,
                    }),
                    out,
                );
                self.cut(out);
            }
            (Speech::Speaking { .. }, true) => self.speech = Speech::Speaking { quiet: 0 },
            (Speech::Speaking { quiet }, false) if quiet + 1 < SILENCE => {
                self.speech = Speech::Speaking { quiet: quiet + 1 };
            }
            (Speech::Speaking { .. }, false) => {
                self.speech = Speech::Quiet;
                self.end_turn(at_ms, out);
                self.begin_reply(now_us);
            }
        }
    }

    /// What the service says at the end of a turn.
    fn end_turn(&mut self, at_ms: u64, out: &mut Vec<String>) {
        let item = self.id("item");
        let shown = json!({"id": item, "object": "realtime.item", "type": "message",
            "status": "completed", "role": "user",
            "content": [{"type": "input_audio", "transcript": null}]});
        let kind = "conversation.item.input_audio_transcription.completed";
        for event in [
            json!({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": at_ms,
                   "item_id": item}),
            json!({"type": "input_audio_buffer.committed", "previous_item_id": null,
                   "item_id": item}),
            json!({"type": "conversation.item.added", "previous_item_id": null, "item": shown}),
            json!({"type": "conversation.item.done", "previous_item_id": null, "item": shown}),
            json!({"type": kind, "item_id": item, "content_index": 0, "transcript": "Words.",
                   "usage": {"type": "duration", "seconds": 1.0}}),
        ] {
            self.say(event, out);
        }
    }

    /// Plans the answer.
    fn begin_reply(&mut self, now_us: u64) {
        self.replies += 1;
        self.reply = Some(Reply {
            number: self.replies,
            response: self.id("resp"),
            item: self.id("item"),
            made: 0,
            due_us: now_us + THINK_US,
            begun: false,
        });
    }

    /// The caller speaks: the answer in the making is over.
    fn cut(&mut self, out: &mut Vec<String>) {
        if let Some(reply) = self.reply.take().filter(|reply| reply.begun) {
            self.end_reply(&reply, "cancelled", out);
        }
    }

    /// What the service says at the end of an answer.
    fn end_reply(&mut self, reply: &Reply, status: &str, out: &mut Vec<String>) {
        let within = |kind: &str| {
            json!({"type": kind, "response_id": reply.response, "output_index": 0,
                   "item_id": reply.item, "content_index": 0})
        };
        let item = json!({"id": reply.item, "object": "realtime.item", "type": "message",
            "status": if status == "completed" { "completed" } else { "incomplete" },
            "role": "assistant", "content": [{"type": "output_audio", "transcript": "Words."}]});
        let details = match status {
            "cancelled" => json!({"type": "cancelled", "reason": "turn_detected"}),
            _ => Value::Null,
        };
        let mut words = within("response.output_audio_transcript.done");
        words["transcript"] = "Words.".into();
        let mut part = within("response.content_part.done");
        part["part"] = json!({"type": "audio", "transcript": "Words."});
        for event in [
            within("response.output_audio.done"),
            words,
            part,
            json!({"type": "response.output_item.done", "response_id": reply.response,
                   "output_index": 0, "item": item}),
            json!({"type": "conversation.item.done", "previous_item_id": null, "item": item}),
            json!({"type": "response.done", "response": {"id": reply.response,
                   "object": "realtime.response", "status": status, "status_details": details,
                   "output": [item]}}),
        ] {
            self.say(event, out);
        }
    }

    /// Makes the next piece of the answer, when it is due.
    pub(crate) fn tick(&mut self, now_us: u64, board: &Board, out: &mut Vec<String>) {
        let Some(mut reply) = self.reply.take() else { return };
        if reply.due_us > now_us {
            self.reply = Some(reply);
            return;
        }
        if !reply.begun {
            reply.begun = true;
            self.announce(&reply, out);
            if let Some(call) = self.call {
                board.reply_begun(call, reply.number, now_us);
            }
        }
        let blocks = DELTA_BLOCKS.min(REPLY_BLOCKS - reply.made);
        let delta = self.delta(&reply, blocks);
        let id = self.id("event");
        out.push(format!(
            "{{\"type\":\"response.output_audio.delta\",\"event_id\":\"{id}\",\
             \"response_id\":\"{}\",\"output_index\":0,\"item_id\":\"{}\",\"content_index\":0,\
             \"delta\":\"{delta}\"}}",
            reply.response, reply.item
        ));
        reply.made += blocks;
        if reply.made == REPLY_BLOCKS {
            self.end_reply(&reply, "completed", out);
            return;
        }
        reply.due_us += u64::from(blocks) * 20_000 * 10 / SPEED_TENTHS;
        self.reply = Some(reply);
    }

    /// What the service says at the beginning of an answer.
    fn announce(&mut self, reply: &Reply, out: &mut Vec<String>) {
        let item = json!({"id": reply.item, "object": "realtime.item", "type": "message",
            "status": "in_progress", "role": "assistant", "content": []});
        let format = match self.audio {
            Audio::Mulaw => json!({"type": "audio/pcmu"}),
            Audio::Pcm24k => json!({"type": "audio/pcm", "rate": 24_000}),
        };
        for event in [
            json!({"type": "response.created", "response": {"id": reply.response,
                   "object": "realtime.response", "status": "in_progress", "output": [],
                   "audio": {"output": {"format": format}}}}),
            json!({"type": "response.output_item.added", "response_id": reply.response,
                   "output_index": 0, "item": item}),
            json!({"type": "conversation.item.added", "previous_item_id": null, "item": item}),
            json!({"type": "response.content_part.added", "response_id": reply.response,
                   "output_index": 0, "item_id": reply.item, "content_index": 0,
                   "part": {"type": "audio", "transcript": ""}}),
            json!({"type": "response.output_audio_transcript.delta",
                   "response_id": reply.response, "output_index": 0, "item_id": reply.item,
                   "content_index": 0, "delta": "Words."}),
        ] {
            self.say(event, out);
        }
    }

    /// The audio of the next blocks, as base64.
    fn delta(&self, reply: &Reply, blocks: u32) -> String {
        let mut bytes = Vec::with_capacity(blocks as usize * self.block_bytes());
        for block in reply.made..reply.made + blocks {
            match self.audio {
                Audio::Mulaw => {
                    let call = self.call.unwrap_or_default();
                    let stamp = Stamp { call, reply: reply.number, block, loud: false };
                    bytes.extend_from_slice(&stamp.write());
                }
                Audio::Pcm24k => wide(&plain(true), &mut bytes),
            }
        }
        let mut text = Vec::new();
        codec::base64::encode(&bytes, &mut text);
        String::from_utf8(text).expect("base64 is ASCII")
    }
}

/// Repeats every sample three times: a tone is a tone, and nobody listens.
fn wide(ulaw: &[u8], out: &mut Vec<u8>) {
    let mut samples = Vec::with_capacity(ulaw.len());
    codec::g711::ulaw_decode(ulaw, &mut samples);
    for sample in samples {
        for _ in 0..3 {
            out.extend_from_slice(&sample.to_le_bytes());
        }
    }
}

/// Finds the audio of an append without reading the rest of it.
fn appended(text: &str) -> Option<&str> {
    let head = text.get(..64.min(text.len()))?;
    head.contains("\"input_audio_buffer.append\"").then_some(())?;
    let (_, rest) = text.split_once("\"audio\":\"")?;
    rest.split('"').next()
}

/// 500 ms of silence end a turn.
const SILENCE: u32 = 25;

/// From the end of a turn to the first audio of its answer.
const THINK_US: u64 = 150_000;

/// Audio comes in pieces of 400 ms, 5.3 times faster than real time.
const DELTA_BLOCKS: u32 = 20;
/// As fast as the real service was seen to be, times ten.
const SPEED_TENTHS: u64 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn append(block: &[u8]) -> String {
        let audio = base64_simd::STANDARD.encode_to_string(block);
        format!("{{\"type\":\"input_audio_buffer.append\",\"audio\":\"{audio}\"}}")
    }

    fn stamp(block: u32, loud: bool) -> [u8; BLOCK] {
        Stamp { call: 3, reply: 0, block, loud }.write()
    }

    struct World {
        board: Board,
        figures: Figures,
        session: Session,
        out: Vec<String>,
    }

    fn world(audio: Audio) -> World {
        let mut out = Vec::new();
        let session = Session::new(audio, &mut out);
        World { board: Board::new(8), figures: Figures::new(), session, out }
    }

    impl World {
        fn receive(&mut self, text: &str) {
            let World { board, figures, session, out } = self;
            session.receive(text, 0, board, figures, out);
        }

        fn kinds(&self) -> Vec<String> {
            let kind = |text: &String| serde_json::from_str::<Value>(text).unwrap()["type"].clone();
            let mut kinds: Vec<_> =
                self.out.iter().map(|text| kind(text).as_str().unwrap().to_owned()).collect();
            kinds.dedup();
            kinds
        }
    }

    #[test]
    fn a_turn_is_answered_in_the_order_of_the_service() {
        let mut world = world(Audio::Mulaw);
        for block in 0..60 {
            world.receive(&append(&stamp(block, block < 30)));
        }
        for step in 0..10 {
            let World { board, session, out, .. } = &mut world;
            session.tick(1_000_000 + step * 100_000, board, out);
        }
        assert_eq!(world.board.reply(3), Some((1, 1_000_000)));
        let kinds = world.kinds();
        let wanted = [
            "session.created",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.input_audio_transcription.completed",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ];
        assert_eq!(kinds, wanted);
    }

    #[test]
    fn speech_cuts_the_answer() {
        let mut world = world(Audio::Mulaw);
        for block in 0..60 {
            world.receive(&append(&stamp(block, block < 30)));
        }
        world.session.tick(1_000_000, &world.board, &mut world.out);
        world.receive(&append(&stamp(60, true)));
        let last: Value = serde_json::from_str(world.out.last().unwrap()).unwrap();
        assert_eq!(last["response"]["status"], "cancelled");
        assert_eq!(world.session.next_us(), None);
    }

    #[test]
    fn lost_and_altered_frames_are_counted() {
        let mut world = world(Audio::Mulaw);
        world.receive(&append(&stamp(0, false)));
        world.receive(&append(&stamp(3, false)));
        let mut altered = stamp(4, false);
        altered[100] ^= 1;
        world.receive(&append(&altered));
        world.receive(&append(&stamp(5, false)));
        let counts = world.figures.counts;
        assert_eq!((counts.frames_lost_up, counts.frames_altered_up), (2, 1));
        assert_eq!(world.board.arrived(3), 6);
    }

    #[test]
    fn frames_joined_or_cut_anywhere_are_the_same_frames() {
        let mut world = world(Audio::Mulaw);
        let all: Vec<u8> = (0..30).flat_map(|block| stamp(block, false)).collect();
        for piece in all.chunks(413) {
            world.receive(&append(piece));
        }
        let counts = world.figures.counts;
        assert_eq!((counts.frames_lost_up, counts.frames_altered_up), (0, 0));
        assert_eq!(world.board.arrived(3), 30);
    }

    #[test]
    fn a_call_over_pcm_is_known_by_its_spelling() {
        let mut world = world(Audio::Pcm24k);
        for block in 0..25 {
            let loud = crate::run::stamp::spelling(5, block).unwrap_or(false);
            let mut bytes = Vec::new();
            wide(&plain(loud), &mut bytes);
            world.receive(&append(&bytes));
        }
        assert_eq!(world.session.call, Some(5));
        assert_eq!(world.board.arrived(5), 25);
        assert_eq!(world.figures.counts.frames_altered_up, 0);
    }
}

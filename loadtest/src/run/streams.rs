//! The far end without a model: a Media Streams server that answers by itself with the same
//! audio as the fake model, paced as a relay paces it towards a carrier. Behind a byte copy it
//! gives the floor under every figure of a relay.

use super::board::Board;
use super::caller::REPLY_BLOCKS;
use super::ear::{Ear, Turn};
use super::measured::Figures;
use super::scenario::Pace;
use super::stamp::{BLOCK, Stamp};
use crate::demo::Audio;

/// One caller's stream.
#[derive(Debug)]
pub(crate) struct Streams {
    ear: Ear,
    /// The stream's name, as `start` gave it.
    sid: String,
    /// From the end of a turn to the answer.
    think_us: u64,
    replies: u16,
    reply: Option<Answer>,
    /// When everything that was sent will have been played.
    played_us: u64,
    marks: u32,
}

/// An answer that is being sent.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// Blocks that were sent.
    sent: u32,
    /// When the next piece is due.
    due_us: u64,
}

impl Streams {
    /// A stream that nothing is known of.
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            ear: Ear::new(Audio::Mulaw),
            sid: String::new(),
            think_us: u64::from(pace.latency_ms) * 1_000,
            replies: 0,
            reply: None,
            played_us: 0,
            marks: 0,
        }
    }

    /// When something happens without the caller.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.reply.map(|reply| reply.due_us)
    }

    /// Takes a message of the carrier. It is believed: the strict fake checks such things.
    pub(crate) fn receive(
        &mut self,
        text: &str,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
        out: &mut Vec<String>,
    ) {
        if let Some(payload) = between(text, "\"payload\":\"") {
            self.ear.take(payload, figures);
            while let Some(turn) = self.ear.next_turn(now_us, board, figures) {
                match turn {
                    Turn::Started { .. } => self.cut(now_us, board, out),
                    Turn::Ended { .. } => self.begin(now_us),
                }
            }
        } else if text.contains("\"start\"")
            && let Some(sid) = between(text, "\"streamSid\":\"")
        {
            sid.clone_into(&mut self.sid);
        }
    }

    /// Plans an answer.
    fn begin(&mut self, now_us: u64) {
        self.replies += 1;
        self.reply = Some(Answer { sent: 0, due_us: now_us + self.think_us });
    }

    /// The caller speaks: what is not played yet is silenced.
    fn cut(&mut self, now_us: u64, board: &Board, out: &mut Vec<String>) {
        if let Some(call) = self.ear.call {
            board.speech_started(call, now_us);
        }
        self.reply = None;
        if self.played_us > now_us {
            self.played_us = now_us;
            out.push(format!("{{\"event\":\"clear\",\"streamSid\":\"{}\"}}", self.sid));
        }
    }

    /// Sends what may be sent of the answer: never more than the lead ahead of the ear.
    pub(crate) fn tick(&mut self, now_us: u64, board: &Board, out: &mut Vec<String>) {
        let (Some(mut reply), Some(call)) = (self.reply, self.ear.call) else { return };
        if reply.due_us > now_us {
            return;
        }
        if reply.sent == 0 {
            board.reply_begun(call, self.replies, now_us);
        }
        self.played_us = self.played_us.max(now_us);
        while reply.sent < REPLY_BLOCKS && self.played_us + PIECE_US <= now_us + LEAD_US {
            let blocks = PIECE_BLOCKS.min(REPLY_BLOCKS - reply.sent);
            self.piece(call, reply.sent, blocks, out);
            self.played_us += u64::from(blocks) * 20_000;
            reply.sent += blocks;
        }
        reply.due_us = (self.played_us + PIECE_US).saturating_sub(LEAD_US).max(now_us + 1);
        self.reply = (reply.sent < REPLY_BLOCKS).then_some(reply);
    }

    /// One piece, and the mark behind it.
    fn piece(&mut self, call: u32, first: u32, blocks: u32, out: &mut Vec<String>) {
        let mut audio = Vec::with_capacity(blocks as usize * BLOCK);
        for block in first..first + blocks {
            audio.extend(Stamp { call, reply: self.replies, block, loud: false }.write());
        }
        let payload = base64_simd::STANDARD.encode_to_string(&audio);
        let sid = &self.sid;
        self.marks += 1;
        out.push(format!(
            "{{\"event\":\"media\",\"streamSid\":\"{sid}\",\"media\":{{\"payload\":\"{payload}\"}}}}"
        ));
        out.push(format!(
            "{{\"event\":\"mark\",\"streamSid\":\"{sid}\",\"mark\":{{\"name\":\"m{}\"}}}}",
            self.marks
        ));
    }
}

/// The text between a mark and the next quote.
pub(crate) fn between<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.split('"').next()
}

/// Audio goes out in pieces of 60 ms, as a relay sends it.
const PIECE_BLOCKS: u32 = 3;
/// The same, in microseconds.
const PIECE_US: u64 = PIECE_BLOCKS as u64 * 20_000;

/// How far the audio may be ahead of the ear, as of a relay.
const LEAD_US: u64 = 400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::caller::{Answers, Caller};
    use crate::run::scenario::Talk;

    /// The agent's latency by default.
    const THINK_US: u64 = 150_000;

    struct World {
        board: Board,
        figures: Figures,
        streams: Streams,
        out: Vec<String>,
    }

    /// A stream of call 0 whose caller has spoken and is quiet again.
    fn spoken_to() -> World {
        let (board, figures) = (Board::new(1), Figures::new());
        let mut world =
            World { board, figures, streams: Streams::new(Pace::default()), out: Vec::new() };
        world.receive("{\"event\":\"start\",\"start\":{},\"streamSid\":\"MZ7\"}");
        for block in 0..60 {
            world.speak(block, block < 30);
        }
        world
    }

    impl World {
        fn receive(&mut self, text: &str) {
            let World { board, figures, streams, out } = self;
            streams.receive(text, 0, board, figures, out);
        }

        fn speak(&mut self, block: u32, loud: bool) {
            let stamp = Stamp { call: 0, reply: 0, block, loud }.write();
            let payload = base64_simd::STANDARD.encode_to_string(stamp);
            self.receive(&format!("{{\"media\":{{\"payload\":\"{payload}\"}}}}"));
        }

        fn tick(&mut self, now_us: u64) -> usize {
            self.out.clear();
            self.streams.tick(now_us, &self.board, &mut self.out);
            self.out.len()
        }
    }

    #[test]
    fn fields_are_found_in_the_relays_messages() {
        let media = r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/38="}}"#;
        assert_eq!(between(media, "\"payload\":\""), Some("/38="));
        assert_eq!(between(media, "\"name\":\""), None);
    }

    #[test]
    fn an_answer_is_sent_in_pieces_with_marks_and_never_far_ahead() {
        let mut world = spoken_to();
        assert_eq!(world.tick(THINK_US - 1), 0);
        // Six pieces of 60 ms are 360 ms; a seventh would be too far ahead.
        assert_eq!(world.tick(THINK_US), 12);
        assert!(world.out[0].contains("\"streamSid\":\"MZ7\""));
        assert!(world.out[1].contains("\"name\":\"m1\""));
        assert_eq!(world.streams.next_us(), Some(THINK_US + 20_000));
        let mut pieces = 6;
        while let Some(due_us) = world.streams.next_us() {
            pieces += world.tick(due_us) / 2;
        }
        assert_eq!(pieces, 50);
    }

    #[test]
    fn a_caller_finds_every_block_of_it() {
        let mut world = spoken_to();
        let mut caller = Caller::new(0, Answers::Ours(Audio::Mulaw), Talk::default(), 0);
        let mut figures = Figures::new();
        while let Some(due_us) = world.streams.next_us() {
            world.tick(due_us);
            for text in world.out.iter().filter_map(|text| between(text, "\"payload\":\"")) {
                let audio = base64_simd::STANDARD.decode_to_vec(text.as_bytes()).unwrap();
                caller.hear(&audio, due_us, &world.board, &mut figures);
            }
        }
        assert_eq!((figures.counts.replies, figures.counts.frames_altered_down), (1, 0));
    }

    #[test]
    fn speech_silences_what_is_not_played_and_nothing_else() {
        let mut world = spoken_to();
        world.tick(THINK_US);
        world.out.clear();
        world.speak(60, true);
        assert_eq!(world.out, ["{\"event\":\"clear\",\"streamSid\":\"MZ7\"}"]);
        assert_eq!(world.streams.next_us(), None);
    }
}

//! One caller of the load test: speaks, listens, interrupts every second answer, and checks every
//! byte that it hears. No socket and no clock in here.

use std::collections::VecDeque;

use super::board::{Board, Cut, End};
use super::measured::{Figures, note};
use super::scenario::Talk;
use super::stamp::{BLOCK, Stamp, plain, spelling};
use crate::demo::Audio;
use crate::noise::Noise;

/// Blocks of 20 ms of every answer.
pub(crate) const REPLY_BLOCKS: u32 = 150;

/// Whose answers a caller hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Our far end's, over this audio: every byte is known.
    Ours(Audio),
    /// Somebody else's: nothing is known but when they come.
    Foreign,
}

/// A caller.
#[derive(Debug)]
pub(crate) struct Caller {
    call: u32,
    answers: Answers,
    talk: Talk,
    /// When the last turn ended, while its answer is awaited.
    asked_us: Option<u64>,
    frame: u32,
    mouth: Mouth,
    noise: Noise,
    ear: Ear,
    /// When everything that was received will have been played.
    played_us: u64,
    marks: VecDeque<(u64, String)>,
}

/// What the caller does, in frames of 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mouth {
    Quiet {
        frames: u32,
    },
    Speaking {
        frames: u32,
    },
    /// Has spoken and waits for the answer.
    Waiting {
        frames: u32,
    },
    /// Hears an answer; interrupts it, or lets it end.
    Listening {
        frames: u32,
        interrupts: bool,
    },
}

/// What is heard of an answer.
#[derive(Debug)]
struct Ear {
    /// The answer, from 1; 0 before the first.
    reply: u16,
    bytes: u32,
    /// Bytes that do not fill a block yet.
    waiting: Vec<u8>,
    /// The answer was interrupted, and its `clear` has not come.
    interrupted: bool,
}

impl Caller {
    /// A caller with a number below 2^20.
    pub(crate) fn new(call: u32, answers: Answers, talk: Talk, seed: u64) -> Self {
        let mut noise = Noise(u64::from(call)).mixed_with(seed);
        // The spelling of the number comes first; then everybody begins at another time.
        let frames = 30 + noise.below(150);
        Self {
            call,
            answers,
            talk,
            asked_us: None,
            frame: 0,
            mouth: Mouth::Quiet { frames },
            noise,
            ear: Ear { reply: 0, bytes: 0, waiting: Vec::new(), interrupted: false },
            played_us: 0,
            marks: VecDeque::new(),
        }
    }

    /// The number of the frame that comes next.
    pub(crate) fn next_frame(&self) -> u32 {
        self.frame
    }

    /// Makes the next 20 ms.
    pub(crate) fn frame(&mut self, now_us: u64, figures: &mut Figures) -> [u8; BLOCK] {
        let block = self.frame;
        self.frame += 1;
        let loud = self.live(now_us, figures);
        match self.answers {
            Answers::Ours(Audio::Mulaw) => Stamp { call: self.call, reply: 0, block, loud }.write(),
            Answers::Ours(Audio::Pcm24k) => plain(spelling(self.call, block).unwrap_or(loud)),
            Answers::Foreign => plain(loud),
        }
    }

    /// Lives through 20 ms; gives whether it is spoken in them.
    fn live(&mut self, now_us: u64, figures: &mut Figures) -> bool {
        self.mouth = match self.mouth {
            Mouth::Quiet { frames: 0 } => self.speak(),
            Mouth::Quiet { frames } => Mouth::Quiet { frames: frames - 1 },
            Mouth::Speaking { frames: 0 } => {
                self.asked_us = Some(now_us);
                Mouth::Waiting { frames: PATIENCE }
            }
            Mouth::Speaking { frames } => Mouth::Speaking { frames: frames - 1 },
            Mouth::Waiting { frames: 0 } => {
                figures.counts.unanswered += 1;
                self.speak()
            }
            Mouth::Waiting { frames } => Mouth::Waiting { frames: frames - 1 },
            Mouth::Listening { frames: 0, interrupts: true } => {
                figures.counts.barge_ins += 1;
                self.ear.interrupted = true;
                self.speak()
            }
            Mouth::Listening { frames: 0, interrupts: false } => {
                self.finish_reply(figures);
                self.pause()
            }
            Mouth::Listening { frames, interrupts } => {
                let heard_all = !interrupts && self.is_complete() && now_us > self.played_us;
                let frames = if heard_all { 0 } else { frames - 1 };
                Mouth::Listening { frames, interrupts }
            }
        };
        matches!(self.mouth, Mouth::Speaking { .. })
    }

    /// A pause before the next turn; of different lengths, callers drift apart.
    fn pause(&mut self) -> Mouth {
        Mouth::Quiet { frames: self.talk.pause_ms.frames().at(&mut self.noise) }
    }

    /// A turn.
    fn speak(&mut self) -> Mouth {
        Mouth::Speaking { frames: self.talk.speech_ms.frames().at(&mut self.noise) }
    }

    /// Whether an answer is interrupted: so that their share comes out, and evenly.
    fn interrupts(&self, reply: u16) -> bool {
        let until = |reply: u16| (f64::from(reply) * self.talk.barge_in).ceil();
        until(reply) > until(reply.saturating_sub(1))
    }

    /// Whether all of the answer has been received.
    fn is_complete(&self) -> bool {
        self.ear.bytes + self.slack() >= REPLY_BLOCKS * BLOCK as u32
    }

    /// A resampler keeps a few samples to itself; they are no lost frame.
    fn slack(&self) -> u32 {
        match self.answers {
            Answers::Ours(Audio::Mulaw) => 0,
            Answers::Ours(Audio::Pcm24k) => BLOCK as u32,
            // It is not known how long the answer is, so none of it can be missing.
            Answers::Foreign => REPLY_BLOCKS * BLOCK as u32,
        }
    }

    /// Counts what is missing of an answer that was to be heard in full.
    fn finish_reply(&mut self, figures: &mut Figures) {
        if !self.is_complete() {
            let missing = REPLY_BLOCKS * BLOCK as u32 - self.ear.bytes;
            figures.counts.frames_lost_down += u64::from(missing.div_ceil(BLOCK as u32));
        }
    }

    /// Hears audio of the relay.
    pub(crate) fn hear(&mut self, audio: &[u8], now_us: u64, board: &Board, figures: &mut Figures) {
        let played_us = audio.len() as u64 * BYTE_US;
        self.played_us = self.played_us.max(now_us) + played_us;
        if self.answers == Answers::Foreign {
            self.hear_foreign(now_us, board, figures);
            return;
        }
        let Some((reply, begun_us)) = board.reply(self.call) else {
            figures.counts.frames_altered_down += 1;
            return;
        };
        if reply != self.ear.reply {
            self.begin_reply(reply, begun_us, now_us, board, figures);
        }
        self.ear.bytes += u32::try_from(audio.len()).unwrap_or(u32::MAX);
        if self.answers == Answers::Ours(Audio::Mulaw) {
            self.check(audio, figures);
        }
    }

    /// Audio that is not ours: the first after a turn is its answer.
    fn hear_foreign(&mut self, now_us: u64, board: &Board, figures: &mut Figures) {
        figures.counts.messages_heard += 1;
        if !matches!(self.mouth, Mouth::Waiting { .. }) {
            return;
        }
        let asked_us = self.asked_us.take().unwrap_or(now_us);
        if board.is_measured(asked_us) {
            note(&mut figures.answer_us, now_us.saturating_sub(asked_us));
        }
        let reply = self.ear.reply.wrapping_add(1);
        self.listen_to(reply, figures);
    }

    /// The first audio of another answer: its delay is noted, and how it will be heard is
    /// decided by its number.
    fn begin_reply(
        &mut self,
        reply: u16,
        begun_us: u64,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
    ) {
        if board.is_measured(begun_us) {
            figures.note_down(now_us, now_us.saturating_sub(begun_us));
        }
        if self.ear.interrupted {
            figures.counts.barge_ins_unheard += 1;
        }
        self.listen_to(reply, figures);
    }

    /// Listens to another answer.
    fn listen_to(&mut self, reply: u16, figures: &mut Figures) {
        figures.counts.replies += 1;
        self.ear = Ear { reply, bytes: 0, waiting: Vec::new(), interrupted: false };
        let interrupts = self.interrupts(reply);
        let listened = self.talk.barge_in_after_ms / 20;
        let frames = if interrupts { listened } else { REPLY_BLOCKS + PATIENCE };
        self.mouth = Mouth::Listening { frames, interrupts };
    }

    /// Checks that the bytes are the answer's, in order, every one of them.
    fn check(&mut self, audio: &[u8], figures: &mut Figures) {
        self.ear.waiting.extend_from_slice(audio);
        let first = (self.ear.bytes - self.ear.waiting.len() as u32) / BLOCK as u32;
        let whole = self.ear.waiting.len() / BLOCK * BLOCK;
        for (block, bytes) in (first..).zip(self.ear.waiting[..whole].chunks_exact(BLOCK)) {
            let right = Stamp { call: self.call, reply: self.ear.reply, block, loud: false };
            if right.write() != *bytes {
                figures.counts.frames_altered_down += 1;
            }
        }
        self.ear.waiting.drain(..whole);
    }

    /// A mark comes behind what was received; gives when it is due.
    pub(crate) fn mark(&mut self, name: String, now_us: u64) -> u64 {
        let due_us = self.played_us.max(now_us);
        self.marks.push_back((due_us, name));
        due_us
    }

    /// What was not played is thrown away; every mark is due at once. How long the `clear` took
    /// and how much had been played is noted.
    pub(crate) fn clear(&mut self, now_us: u64, board: &Board, figures: &mut Figures) {
        if let Some(speech_us) = board.take_speech(self.call)
            && board.is_measured(speech_us)
        {
            note(&mut figures.clear_us, now_us.saturating_sub(speech_us));
        }
        let waiting = self.played_us.saturating_sub(now_us) / BYTE_US;
        let played = u64::from(self.ear.bytes).saturating_sub(waiting);
        // The position in 24 kHz audio is rounded on the way, and a resampler holds some back.
        let slack_ms = if self.answers == Answers::Ours(Audio::Pcm24k) { 1 } else { 0 };
        let ms = played * BYTE_US / 1_000 + slack_ms;
        figures
            .truncated(board.cut(self.call, Cut { end: End::Caller, reply: self.ear.reply, ms }));
        self.played_us = now_us;
        self.ear.interrupted = false;
        for (due_us, _) in &mut self.marks {
            *due_us = now_us;
        }
    }

    /// The next mark that is due.
    pub(crate) fn due_mark(&mut self, now_us: u64) -> Option<String> {
        let due = self.marks.front().is_some_and(|(due_us, _)| *due_us <= now_us);
        due.then(|| self.marks.pop_front()).flatten().map(|(_, name)| name)
    }
}

/// A byte of mu-law is played in 125 microseconds.
const BYTE_US: u64 = 125;

/// An answer that has not come after 6 s does not come.
const PATIENCE: u32 = 300;

#[cfg(test)]
mod tests {
    use super::super::board::Phase;
    use super::*;

    fn caller(answers: Answers) -> Caller {
        Caller::new(0, answers, Talk::default(), 0)
    }

    fn reply(call: u32, reply: u16) -> Vec<u8> {
        (0..REPLY_BLOCKS)
            .flat_map(|block| Stamp { call, reply, block, loud: false }.write())
            .collect()
    }

    fn until(caller: &mut Caller, figures: &mut Figures, wanted: fn(&Mouth) -> bool) -> u32 {
        (0..2_000)
            .find(|_| {
                caller.frame(0, figures);
                wanted(&caller.mouth)
            })
            .expect("the caller gets there")
    }

    #[test]
    fn a_caller_speaks_waits_listens_and_interrupts_every_second_answer() {
        let (board, mut figures) = (Board::new(1), Figures::new());
        let mut caller = caller(Answers::Ours(Audio::Mulaw));
        until(&mut caller, &mut figures, |mouth| matches!(mouth, Mouth::Waiting { .. }));
        board.reply_begun(0, 1, 5);
        caller.hear(&reply(0, 1)[..480], 10, &board, &mut figures);
        let after =
            until(&mut caller, &mut figures, |mouth| matches!(mouth, Mouth::Speaking { .. }));
        assert_eq!(after, Talk::default().barge_in_after_ms / 20);
        assert_eq!((figures.counts.barge_ins, figures.counts.frames_lost_down), (1, 0));
        caller.clear(20, &board, &mut figures);
        board.reply_begun(0, 2, 25);
        for piece in reply(0, 2).chunks(333) {
            caller.hear(piece, 30, &board, &mut figures);
        }
        until(&mut caller, &mut figures, |mouth| matches!(mouth, Mouth::Quiet { .. }));
        assert_eq!(figures.counts.frames_altered_down, 0);
        assert_eq!((figures.counts.replies, figures.counts.barge_ins_unheard), (2, 0));
    }

    #[test]
    fn the_share_of_interrupted_answers_is_the_scenarios() {
        for (barge_in, expected) in [(0.0, 0), (0.25, 25), (0.5, 50), (1.0, 100)] {
            let talk = Talk { barge_in, ..Talk::default() };
            let caller = Caller::new(0, Answers::Foreign, talk, 0);
            assert_eq!((1..=100).filter(|reply| caller.interrupts(*reply)).count(), expected);
        }
    }

    #[test]
    fn every_altered_and_every_missing_block_is_counted() {
        let (board, mut figures) = (Board::new(1), Figures::new());
        let mut caller = caller(Answers::Ours(Audio::Mulaw));
        board.reply_begun(0, 2, 0);
        let mut audio = reply(0, 2);
        audio[5_000] ^= 1;
        audio.truncate(149 * BLOCK);
        caller.hear(&audio, 0, &board, &mut figures);
        assert_eq!(figures.counts.frames_altered_down, 1);
        until(&mut caller, &mut figures, |mouth| matches!(mouth, Mouth::Quiet { .. }));
        assert_eq!(figures.counts.frames_lost_down, 1);
    }

    #[test]
    fn marks_come_back_when_played_or_cleared() {
        let (board, mut figures) = (Board::new(1), Figures::new());
        let mut caller = caller(Answers::Ours(Audio::Mulaw));
        board.reply_begun(0, 1, 0);
        caller.hear(&[0; 800], 1_000, &board, &mut figures);
        caller.mark("a".into(), 1_000);
        assert_eq!(caller.due_mark(100_999), None);
        assert_eq!(caller.due_mark(101_000).as_deref(), Some("a"));
        caller.hear(&[0; 800], 200_000, &board, &mut figures);
        caller.mark("b".into(), 200_000);
        caller.clear(210_000, &board, &mut figures);
        assert_eq!(caller.due_mark(210_000).as_deref(), Some("b"));
    }

    #[test]
    fn the_ear_knows_what_was_played_when_it_is_cleared() {
        let (board, mut figures) = (Board::new(1), Figures::new());
        let mut caller = caller(Answers::Ours(Audio::Mulaw));
        board.reply_begun(0, 1, 0);
        caller.hear(&[0; 8_000], 1_000_000, &board, &mut figures);
        assert_eq!(board.cut(0, Cut { end: End::Model, reply: 1, ms: 360 }), None);
        caller.clear(1_400_000, &board, &mut figures);
        assert!(figures.unclaimed_us.max().abs_diff(40_000) < 100);
        assert_eq!(figures.counts.overclaimed, 0);
    }

    #[test]
    fn an_unanswered_turn_is_counted_and_spoken_again() {
        let mut figures = Figures::new();
        let mut caller = caller(Answers::Ours(Audio::Pcm24k));
        until(&mut caller, &mut figures, |mouth| matches!(mouth, Mouth::Waiting { .. }));
        until(&mut caller, &mut figures, |mouth| matches!(mouth, Mouth::Speaking { .. }));
        assert_eq!(figures.counts.unanswered, 1);
    }

    #[test]
    fn of_foreign_answers_only_their_coming_is_measured() {
        let (board, mut figures) = (Board::new(1), Figures::new());
        board.set_phase(Phase::Measure);
        let mut caller = caller(Answers::Foreign);
        caller.hear(&[0; 800], 0, &board, &mut figures);
        let asked_us = board.clock.micros();
        for _ in 0..400 {
            caller.frame(asked_us, &mut figures);
            if matches!(caller.mouth, Mouth::Waiting { .. }) {
                break;
            }
        }
        for _ in 0..3 {
            caller.hear(&[0; 800], asked_us + 700_000, &board, &mut figures);
        }
        assert_eq!((figures.answer_us.len(), figures.counts.replies), (1, 1));
        assert!(figures.answer_us.max().abs_diff(700_000) < 1_000);
        until(&mut caller, &mut figures, |mouth| {
            matches!(mouth, Mouth::Quiet { .. } | Mouth::Speaking { .. })
        });
        assert_eq!((figures.counts.frames_altered_down, figures.counts.frames_lost_down), (0, 0));
    }
}

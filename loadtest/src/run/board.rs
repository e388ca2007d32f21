//! What the two ends of the load test tell each other: when a frame was written, when an answer
//! began. Both ends are in this process, so one clock times both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::clock::Stopwatch;
use crate::report::series::Series;

/// The whole test.
#[derive(Debug)]
pub(crate) struct Board {
    /// The clock of every measurement.
    pub(crate) clock: Stopwatch,
    /// The figures over time.
    pub(crate) series: Arc<Series>,
    phase: AtomicU8,
    measured_from_us: AtomicU64,
    measured_to_us: AtomicU64,
    calls: Vec<CallCell>,
}

/// One call; when it has ended, the next one of the same place.
#[derive(Debug)]
struct CallCell {
    /// Which call it is.
    call: AtomicU32,
    /// When the last frames were written, by number modulo the size.
    written_us: [AtomicU64; WRITTEN],
    /// Frames that the model has, in order.
    arrived: AtomicU32,
    /// The answer that was begun last, from 1, and when its first audio was written.
    reply: AtomicU32,
    reply_us: AtomicU64,
    /// When the model said last that the caller speaks; 0 when that was answered by a `clear`.
    speech_us: AtomicU64,
    /// What the first of both ends said of a cut answer: see [`Cut::pack`].
    cut: AtomicU64,
}

/// Where an answer was cut, by one of both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Who says so.
    pub(crate) end: End,
    /// The answer, from 1.
    pub(crate) reply: u16,
    /// How much of it was heard, in milliseconds.
    pub(crate) ms: u64,
}

/// One of both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The caller's ear, when the `clear` arrived.
    Caller,
    /// The model, by the relay's `conversation.item.truncate`.
    Model,
}

/// What both ends say of a cut answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BothCuts {
    /// What the caller really heard.
    pub(crate) played_ms: u64,
    /// What the relay says was heard.
    pub(crate) claimed_ms: u64,
}

impl Cut {
    /// As one word: the answer, who says so, the milliseconds. Never 0, as answers count from 1.
    fn pack(self) -> u64 {
        u64::from(self.reply) << 40 | u64::from(self.end == End::Model) << 39 | self.ms & 0x7F_FFFF
    }

    /// Out of one word.
    fn unpack(word: u64) -> Self {
        let end = if word >> 39 & 1 == 1 { End::Model } else { End::Caller };
        let reply = u16::try_from(word >> 40 & 0xFFFF).unwrap_or_default();
        Self { end, reply, ms: word & 0x7F_FFFF }
    }
}

/// How far the test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Calls come up.
    Ramp,
    /// Everything counts.
    Measure,
    /// Nothing counts any more; what is under way arrives.
    Tail,
    /// Callers hang up.
    Stop,
    /// The fake model goes too.
    Gone,
}

impl Board {
    /// A board for so many calls at once. Place and call have the same number until another call
    /// takes the place, whose number is higher by a multiple of the places.
    pub(crate) fn new(calls: u32) -> Self {
        let cell = |call| CallCell {
            call: AtomicU32::new(call),
            written_us: [const { AtomicU64::new(0) }; WRITTEN],
            arrived: AtomicU32::new(0),
            reply: AtomicU32::new(0),
            reply_us: AtomicU64::new(0),
            speech_us: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        };
        Self {
            clock: Stopwatch::start(),
            series: Series::new(),
            phase: AtomicU8::new(Phase::Ramp as u8),
            measured_from_us: AtomicU64::new(u64::MAX),
            measured_to_us: AtomicU64::new(u64::MAX),
            calls: (0..calls).map(cell).collect(),
        }
    }

    /// Moves on.
    pub(crate) fn set_phase(&self, phase: Phase) {
        match phase {
            Phase::Measure => {
                let now_us = self.clock.micros();
                self.series.begin(now_us);
                self.measured_from_us.store(now_us, Ordering::SeqCst);
            }
            Phase::Tail => self.measured_to_us.store(self.clock.micros(), Ordering::SeqCst),
            Phase::Ramp | Phase::Stop | Phase::Gone => {}
        }
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// Where the test is.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Ramp,
            1 => Phase::Measure,
            2 => Phase::Tail,
            3 => Phase::Stop,
            _ => Phase::Gone,
        }
    }

    /// Whether what happened at this time counts.
    pub(crate) fn is_measured(&self, at_us: u64) -> bool {
        at_us >= self.measured_from_us.load(Ordering::Relaxed)
            && at_us < self.measured_to_us.load(Ordering::Relaxed)
    }

    /// A call takes its place; what was said of the one before is forgotten.
    pub(crate) fn begin(&self, call: u32) {
        let Some(cell) = self.place(call) else { return };
        cell.call.store(u32::MAX, Ordering::SeqCst);
        cell.written_us.iter().for_each(|written_us| written_us.store(0, Ordering::Relaxed));
        cell.arrived.store(0, Ordering::Relaxed);
        cell.reply.store(0, Ordering::Relaxed);
        cell.speech_us.store(0, Ordering::Relaxed);
        cell.cut.store(0, Ordering::Relaxed);
        cell.call.store(call, Ordering::SeqCst);
    }

    /// The place of a call.
    fn place(&self, call: u32) -> Option<&CallCell> {
        let places = u32::try_from(self.calls.len()).ok().filter(|places| *places > 0)?;
        self.calls.get((call % places) as usize)
    }

    /// A call's cell; `None` when another call has its place.
    fn cell(&self, call: u32) -> Option<&CallCell> {
        self.place(call).filter(|cell| cell.call.load(Ordering::Acquire) == call)
    }

    /// A caller is about to write a frame.
    pub(crate) fn frame_written(&self, call: u32, frame: u32, at_us: u64) {
        if let Some(cell) = self.cell(call) {
            cell.written_us[frame as usize % WRITTEN].store(at_us, Ordering::Relaxed);
        }
    }

    /// The model has a frame; gives when it was written. `None` when it is too old to be known.
    pub(crate) fn frame_arrived(&self, call: u32, frame: u32) -> Option<u64> {
        let cell = self.cell(call)?;
        cell.arrived.store(frame + 1, Ordering::Relaxed);
        let written_us = cell.written_us[frame as usize % WRITTEN].load(Ordering::Relaxed);
        (written_us > 0).then_some(written_us)
    }

    /// Frames of a call that the model has.
    pub(crate) fn arrived(&self, call: u32) -> u32 {
        self.cell(call).map_or(0, |cell| cell.arrived.load(Ordering::Relaxed))
    }

    /// The model is about to write the first audio of an answer.
    pub(crate) fn reply_begun(&self, call: u32, reply: u16, at_us: u64) {
        if let Some(cell) = self.cell(call) {
            cell.reply_us.store(at_us, Ordering::Relaxed);
            cell.reply.store(u32::from(reply), Ordering::Release);
        }
    }

    /// The model is about to say that the caller speaks.
    pub(crate) fn speech_started(&self, call: u32, at_us: u64) {
        if let Some(cell) = self.cell(call) {
            cell.speech_us.store(at_us, Ordering::Release);
        }
    }

    /// A `clear` has arrived; gives when the model said that the caller speaks, once.
    pub(crate) fn take_speech(&self, call: u32) -> Option<u64> {
        let cell = self.cell(call)?;
        Some(cell.speech_us.swap(0, Ordering::AcqRel)).filter(|at_us| *at_us > 0)
    }

    /// One of both ends says where an answer was cut; whoever is second gets both.
    pub(crate) fn cut(&self, call: u32, cut: Cut) -> Option<BothCuts> {
        let cell = self.cell(call)?;
        let before = cell.cut.swap(cut.pack(), Ordering::AcqRel);
        let other = Some(before).filter(|word| *word > 0).map(Cut::unpack)?;
        if other.reply != cut.reply || other.end == cut.end {
            return None;
        }
        cell.cut.store(0, Ordering::Release);
        Some(match cut.end {
            End::Caller => BothCuts { played_ms: cut.ms, claimed_ms: other.ms },
            End::Model => BothCuts { played_ms: other.ms, claimed_ms: cut.ms },
        })
    }

    /// The answer that was begun last, from 1, and when; `None` before the first.
    pub(crate) fn reply(&self, call: u32) -> Option<(u16, u64)> {
        let cell = self.cell(call)?;
        let reply = u16::try_from(cell.reply.load(Ordering::Acquire)).ok()?;
        (reply > 0).then(|| (reply, cell.reply_us.load(Ordering::Relaxed)))
    }
}

/// Five seconds of frames: longer than a relay may hold audio back.
const WRITTEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_writes_the_other_reads() {
        let board = Board::new(2);
        board.frame_written(1, 300, 77);
        assert_eq!(board.frame_arrived(1, 300), Some(77));
        assert_eq!(board.frame_arrived(0, 0), None);
        assert_eq!((board.arrived(1), board.arrived(9)), (301, 0));
        assert_eq!(board.reply(1), None);
        board.reply_begun(1, 3, 99);
        assert_eq!(board.reply(1), Some((3, 99)));
    }

    #[test]
    fn a_call_that_has_gone_is_not_the_one_in_its_place() {
        let board = Board::new(2);
        board.frame_written(1, 0, 77);
        assert_eq!(board.frame_arrived(1, 0), Some(77));
        board.begin(3);
        assert_eq!((board.frame_arrived(1, 0), board.arrived(3)), (None, 0));
        board.frame_written(3, 0, 88);
        assert_eq!((board.frame_arrived(3, 0), board.arrived(1)), (Some(88), 0));
    }

    #[test]
    fn both_ends_of_a_cut_are_brought_together() {
        let board = Board::new(1);
        let cut = |end, reply, ms| board.cut(0, Cut { end, reply, ms });
        assert_eq!(cut(End::Caller, 1, 500), None);
        let both = Some(BothCuts { played_ms: 500, claimed_ms: 480 });
        assert_eq!(cut(End::Model, 1, 480), both);
        assert_eq!(cut(End::Model, 2, 60), None);
        assert_eq!(cut(End::Caller, 3, 70), None);
        assert_eq!(cut(End::Caller, 3, 70), None);
        board.speech_started(0, 9);
        assert_eq!((board.take_speech(0), board.take_speech(0)), (Some(9), None));
    }

    #[test]
    fn only_the_middle_of_a_test_is_measured() {
        let board = Board::new(0);
        assert!(!board.is_measured(board.clock.micros()));
        board.set_phase(Phase::Measure);
        let now_us = board.clock.micros();
        assert!(board.is_measured(now_us));
        board.set_phase(Phase::Tail);
        assert!(!board.is_measured(board.clock.micros() + 1));
    }
}

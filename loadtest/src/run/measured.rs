//! Figures of one thread of the load test, to be added up at the end.

use std::sync::Arc;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::board::BothCuts;
use crate::report::series::{Recorder, Series};

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Figures {
    /// From a caller's frame to its append at the model, in microseconds.
    pub(crate) up_us: Histogram<u64>,
    /// From the first audio of an answer at the model to its first media at the caller.
    pub(crate) down_us: Histogram<u64>,
    /// From `speech_started` at the model to the `clear` at the caller.
    pub(crate) clear_us: Histogram<u64>,
    /// What the caller heard of a cut answer, less what the relay says was heard.
    pub(crate) unclaimed_us: Histogram<u64>,
    /// From a call's `start` to the first audio of the agent, where the agent speaks first.
    pub(crate) first_us: Histogram<u64>,
    /// From the end of a caller's turn to the first audio after it, where answers are not ours.
    pub(crate) answer_us: Histogram<u64>,
    /// How late the callers' schedule was.
    pub(crate) callers_late_us: Histogram<u64>,
    /// How late the model's schedule was.
    pub(crate) model_late_us: Histogram<u64>,
    /// The plain counts.
    pub(crate) counts: Counts,
    /// Where the figures of every second go; `None` of a sum.
    recorder: Option<Recorder>,
}

/// Counts of a load test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// Calls that came up.
    pub(crate) calls_up: u64,
    /// Calls that did not come up, or ended by themselves.
    pub(crate) calls_failed: u64,
    /// Frames that callers wrote.
    pub(crate) frames_sent: u64,
    /// Frames that never arrived at the model.
    pub(crate) frames_lost_up: u64,
    /// Frames at the end of a call that never arrived.
    pub(crate) frames_lost_at_end: u64,
    /// Messages that the relay's socket did not take: it had stopped reading.
    pub(crate) messages_refused: u64,
    /// Blocks that arrived at the model altered.
    pub(crate) frames_altered_up: u64,
    /// Messages of audio that callers heard, where answers are not ours.
    pub(crate) messages_heard: u64,
    /// Blocks that arrived at the model again, or behind later ones.
    pub(crate) frames_repeated_up: u64,
    /// Calls that were refused at the door (503).
    pub(crate) calls_refused: u64,
    /// Calls that ended in their time.
    pub(crate) calls_ended: u64,
    /// Calls that did not call, as too many others were there.
    pub(crate) calls_turned_away: u64,
    /// Keys that callers pressed.
    pub(crate) dtmf_sent: u64,
    /// Answers that callers heard.
    pub(crate) replies: u64,
    /// Blocks of 20 ms of answers heard in full that never arrived.
    pub(crate) frames_lost_down: u64,
    /// Blocks that arrived at callers altered.
    pub(crate) frames_altered_down: u64,
    /// Answers that were interrupted.
    pub(crate) barge_ins: u64,
    /// Interruptions that were not followed by a `clear`.
    pub(crate) barge_ins_unheard: u64,
    /// Cut answers of which the relay says that more was heard than was.
    pub(crate) overclaimed: u64,
    /// Turns of callers that were never answered.
    pub(crate) unanswered: u64,
}

impl Counts {
    /// Frames that were lost, or arrived altered, both ways.
    pub(crate) fn frames_lost(&self) -> u64 {
        self.frames_lost_up
            + self.frames_lost_at_end
            + self.messages_refused
            + self.frames_altered_up
            + self.frames_repeated_up
            + self.frames_lost_down
            + self.frames_altered_down
    }
}

impl Figures {
    /// All histograms, in one order.
    fn histograms(&self) -> [&Histogram<u64>; 8] {
        [
            &self.up_us,
            &self.down_us,
            &self.clear_us,
            &self.unclaimed_us,
            &self.first_us,
            &self.answer_us,
            &self.callers_late_us,
            &self.model_late_us,
        ]
    }

    /// All histograms, in the same order.
    fn histograms_mut(&mut self) -> [&mut Histogram<u64>; 8] {
        [
            &mut self.up_us,
            &mut self.down_us,
            &mut self.clear_us,
            &mut self.unclaimed_us,
            &mut self.first_us,
            &mut self.answer_us,
            &mut self.callers_late_us,
            &mut self.model_late_us,
        ]
    }

    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let empty =
            || Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in their range");
        Self {
            up_us: empty(),
            down_us: empty(),
            clear_us: empty(),
            unclaimed_us: empty(),
            first_us: empty(),
            answer_us: empty(),
            callers_late_us: empty(),
            model_late_us: empty(),
            counts: Counts::default(),
            recorder: None,
        }
    }

    /// Nothing yet, of a thread whose figures are shown over time too.
    pub(crate) fn of_thread(series: &Arc<Series>) -> Self {
        Self { recorder: Some(series.recorder()), ..Self::new() }
    }

    /// Audio of a caller arrived at the model.
    pub(crate) fn note_up(&mut self, at_us: u64, us: u64) {
        note(&mut self.up_us, us);
        if let Some(recorder) = &mut self.recorder {
            recorder.up(at_us, us, &self.counts);
        }
    }

    /// The first audio of an answer arrived at a caller.
    pub(crate) fn note_down(&mut self, at_us: u64, us: u64) {
        note(&mut self.down_us, us);
        if let Some(recorder) = &mut self.recorder {
            recorder.down(at_us, us, &self.counts);
        }
    }

    /// The callers' schedule was so late.
    pub(crate) fn note_callers_late(&mut self, at_us: u64, us: u64) {
        note(&mut self.callers_late_us, us);
        if let Some(recorder) = &mut self.recorder {
            recorder.late(at_us, us, &self.counts);
        }
    }

    /// The model's schedule was so late.
    pub(crate) fn note_model_late(&mut self, at_us: u64, us: u64) {
        note(&mut self.model_late_us, us);
        if let Some(recorder) = &mut self.recorder {
            recorder.late(at_us, us, &self.counts);
        }
    }

    /// A caller heard so many bytes of mu-law.
    pub(crate) fn note_heard(&mut self, at_us: u64, bytes: usize) {
        if let Some(recorder) = &mut self.recorder {
            recorder.heard(at_us, bytes, &self.counts);
        }
    }

    /// Adds another thread's figures.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.histograms_mut().into_iter().zip(other.histograms()) {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
        let (mine, theirs) = (&mut self.counts, &other.counts);
        mine.calls_up += theirs.calls_up;
        mine.calls_failed += theirs.calls_failed;
        mine.frames_sent += theirs.frames_sent;
        mine.frames_lost_up += theirs.frames_lost_up;
        mine.frames_lost_at_end += theirs.frames_lost_at_end;
        mine.messages_refused += theirs.messages_refused;
        mine.frames_altered_up += theirs.frames_altered_up;
        mine.messages_heard += theirs.messages_heard;
        mine.frames_repeated_up += theirs.frames_repeated_up;
        mine.calls_refused += theirs.calls_refused;
        mine.calls_ended += theirs.calls_ended;
        mine.calls_turned_away += theirs.calls_turned_away;
        mine.dtmf_sent += theirs.dtmf_sent;
        mine.replies += theirs.replies;
        mine.frames_lost_down += theirs.frames_lost_down;
        mine.frames_altered_down += theirs.frames_altered_down;
        mine.barge_ins += theirs.barge_ins;
        mine.barge_ins_unheard += theirs.barge_ins_unheard;
        mine.overclaimed += theirs.overclaimed;
        mine.unanswered += theirs.unanswered;
    }

    /// Both ends have said where an answer was cut.
    pub(crate) fn truncated(&mut self, both: Option<BothCuts>) {
        let Some(BothCuts { played_ms, claimed_ms }) = both else { return };
        note(&mut self.unclaimed_us, played_ms.saturating_sub(claimed_ms) * 1_000);
        self.counts.overclaimed += u64::from(claimed_ms > played_ms);
    }
}

/// Figures on their way to another process: values and how often each was seen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Packed {
    histograms: Vec<Vec<(u64, u64)>>,
    counts: Counts,
}

impl Packed {
    /// Packs them.
    pub(crate) fn of(figures: &Figures) -> Self {
        let pack = |histogram: &Histogram<u64>| {
            histogram
                .iter_recorded()
                .map(|seen| (seen.value_iterated_to(), seen.count_at_value()))
                .collect()
        };
        let histograms = figures.histograms().map(pack).into();
        Self { histograms, counts: figures.counts }
    }

    /// Unpacks them.
    pub(crate) fn unpack(self) -> Figures {
        let mut figures = Figures { counts: self.counts, ..Figures::new() };
        for (histogram, seen) in figures.histograms_mut().into_iter().zip(self.histograms) {
            for (value, times) in seen {
                histogram.saturating_record_n(value, times);
            }
        }
        figures
    }
}

/// Adds a value, however large.
pub(crate) fn note(histogram: &mut Histogram<u64>, us: u64) {
    histogram.saturating_record(us.max(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_another_process_are_the_same() {
        let mut figures = Figures::new();
        for us in [1, 100, 100, 5_000_000] {
            note(&mut figures.down_us, us);
        }
        figures.counts.replies = 4;
        let text = serde_json::to_string(&Packed::of(&figures)).unwrap();
        let other = serde_json::from_str::<Packed>(&text).unwrap().unpack();
        assert_eq!((&other.down_us, other.counts), (&figures.down_us, figures.counts));
        assert!(other.up_us.is_empty());
    }

    #[test]
    fn figures_of_threads_add_up() {
        let (mut a, mut b) = (Figures::new(), Figures::new());
        note(&mut a.up_us, 100);
        note(&mut b.up_us, 300);
        b.counts.frames_lost_up = 2;
        a.add(&b);
        assert_eq!((a.up_us.len(), a.up_us.max(), a.counts.frames_lost_up), (2, 300, 2));
    }
}

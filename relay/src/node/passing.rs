//! What is told for the moment, on its way to every control. Pure.
//!
//! Words of one item that come close together become one event. Each line has its own place in what
//! is here; a line that is too slow misses the oldest, which nobody sends again.

use std::collections::{BTreeMap, VecDeque};

use link::ephemeral::{Ephemeral, Passing};
use link::id::CallId;
use link::message::EPHEMERAL_EVENTS_MAX;

use super::ring::{BATCH_BYTES_MAX, written_bytes};
use crate::telemetry::DELTA_BYTES_MAX;

/// The most that a line may be behind: two tenths of a second of a thousand calls whose agents
/// speak. Doubling it doubles how old words may be, and at most a megabyte of memory.
pub(super) const RECENT_MAX: usize = 1_024;

/// The newest of what was told for the moment.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<Waiting>,
    /// How many were here before the first of `events`.
    gone: u64,
}

#[derive(Debug)]
struct Waiting {
    event: Ephemeral,
    bytes: usize,
}

/// How far a line has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

/// What a line sends next.
#[derive(Debug)]
pub(super) struct Batch {
    /// In the order in which they happened; empty when there is nothing.
    pub(super) events: Vec<Ephemeral>,
    /// How many the line has missed before them.
    pub(super) missed: u64,
}

impl Recent {
    /// Takes what was told since the last time, and joins what belongs together. Says whether it was
    /// anything.
    pub(super) fn gather(&mut self, told: impl Iterator<Item = Ephemeral>) -> bool {
        let mut fresh: Vec<Ephemeral> = Vec::new();
        let mut last_of_call: BTreeMap<CallId, usize> = BTreeMap::new();
        for event in told {
            let last = last_of_call.get(&event.call.id).and_then(|at| fresh.get_mut(*at));
            if last.is_some_and(|last| join(last, &event)) {
                continue;
            }
            last_of_call.insert(event.call.id.clone(), fresh.len());
            fresh.push(event);
        }
        let is_any = !fresh.is_empty();
        fresh.into_iter().for_each(|event| self.push(event));
        is_any
    }

    fn push(&mut self, event: Ephemeral) {
        if self.events.len() == RECENT_MAX {
            self.events.pop_front();
            self.gone += 1;
        }
        let bytes = written_bytes(&event);
        self.events.push_back(Waiting { event, bytes });
    }

    /// The place of a line that has nothing to catch up with.
    pub(super) fn end(&self) -> Place {
        Place(self.gone + self.events.len() as u64)
    }

    /// What follows a line's place, which moves behind it.
    pub(super) fn batch(&self, place: &mut Place) -> Batch {
        let missed = self.gone.saturating_sub(place.0);
        let from = place.0.max(self.gone);
        let (mut events, mut bytes) = (Vec::new(), 0);
        let skip = usize::try_from(from - self.gone).unwrap_or(usize::MAX);
        for waiting in self.events.iter().skip(skip).take(EPHEMERAL_EVENTS_MAX) {
            bytes += waiting.bytes + 1;
            // The first always goes: a single one is far below a frame.
            if bytes > BATCH_BYTES_MAX && !events.is_empty() {
                break;
            }
            events.push(waiting.event.clone());
        }
        *place = Place(from + events.len() as u64);
        Batch { events, missed }
    }

    /// Lets a line miss everything that is here. Says how many that are.
    pub(super) fn skip(&self, place: &mut Place) -> u64 {
        let before = std::mem::replace(place, self.end());
        place.0.saturating_sub(before.0)
    }
}

/// Puts words behind those of the same item. Says whether they belong there and fit.
fn join(last: &mut Ephemeral, next: &Ephemeral) -> bool {
    if last.call != next.call {
        return false;
    }
    match (&mut last.event, &next.event) {
        (Passing::TranscriptDelta(words), Passing::TranscriptDelta(more)) => {
            let is_same = words.role == more.role && words.item == more.item;
            let fits = words.text.len() + more.text.len() <= DELTA_BYTES_MAX;
            if is_same && fits {
                words.text.push_str(&more.text);
            }
            is_same && fits
        }
        (Passing::TranscriptDelta(_) | Passing::Decided(_) | Passing::Unknown, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use link::ephemeral::TranscriptDelta;
    use link::event::{CallRef, Role};
    use link::id::{Gen, TenantId, WallTime};
    use link::message::ToControl;

    use super::*;

    fn said(call: &str, role: Role, item: &str, text: &str) -> Ephemeral {
        let call = CallRef {
            id: CallId::new(call).unwrap(),
            tenant: TenantId::default(),
            generation: Gen(0),
        };
        let delta = TranscriptDelta { role, item: item.into(), text: text.into() };
        Ephemeral { at: WallTime(0), call, event: Passing::TranscriptDelta(delta) }
    }

    fn agent(call: &str, text: &str) -> Ephemeral {
        said(call, Role::Agent, "i1", text)
    }

    fn texts(batch: &Batch) -> Vec<&str> {
        let mut texts = Vec::new();
        for event in &batch.events {
            let Passing::TranscriptDelta(delta) = &event.event else { panic!("{event:?}") };
            texts.push(delta.text.as_str());
        }
        texts
    }

    #[test]
    fn words_of_one_item_that_come_together_are_one_event() {
        let (mut recent, mut place) = (Recent::default(), Recent::default().end());
        let told = [
            agent("a", "Until"),
            agent("b", "Yes"),
            agent("a", " six."),
            said("a", Role::Caller, "u2", "And"),
            said("a", Role::Caller, "u3", "on"),
        ];
        assert!(recent.gather(told.into_iter()));
        assert_eq!(texts(&recent.batch(&mut place)), ["Until six.", "Yes", "And", "on"]);
        assert!(recent.gather([agent("a", " More.")].into_iter()));
        assert_eq!(texts(&recent.batch(&mut place)), [" More."], "what was sent stays as it was");
        assert!(!recent.gather(std::iter::empty()));
        assert!(recent.batch(&mut place).events.is_empty());
    }

    #[test]
    fn joined_words_keep_to_a_bound() {
        let (mut recent, mut place) = (Recent::default(), Recent::default().end());
        let piece = "x".repeat(DELTA_BYTES_MAX / 2);
        recent.gather((0..3).map(|_| agent("a", &piece)));
        let batch = recent.batch(&mut place);
        let lengths: Vec<usize> = texts(&batch).iter().map(|text| text.len()).collect();
        assert_eq!(lengths, [DELTA_BYTES_MAX, DELTA_BYTES_MAX / 2]);
    }

    #[test]
    fn each_line_sees_each_once_and_one_that_is_too_slow_misses_the_oldest() {
        let mut recent = Recent::default();
        let (mut quick, mut slow) = (recent.end(), recent.end());
        for n in 0..RECENT_MAX + 10 {
            recent.gather([agent("a", &n.to_string())].into_iter());
            let batch = recent.batch(&mut quick);
            assert_eq!((texts(&batch), batch.missed), (vec![n.to_string().as_str()], 0));
        }
        let first = recent.batch(&mut slow);
        assert_eq!((texts(&first)[0], first.missed), ("10", 10));
        assert_eq!(first.events.len(), EPHEMERAL_EVENTS_MAX);
        assert_eq!(recent.batch(&mut slow).missed, 0);
        assert_eq!(recent.skip(&mut slow), (RECENT_MAX - 2 * EPHEMERAL_EVENTS_MAX) as u64);
        assert_eq!((slow, recent.skip(&mut slow)), (quick, 0));
    }

    #[test]
    fn a_batch_of_the_longest_words_fits_a_frame() {
        let (mut recent, mut place) = (Recent::default(), Recent::default().end());
        let longest = "\u{1}".repeat(DELTA_BYTES_MAX);
        recent.gather((0..40).map(|_| agent("a", &longest)));
        let mut sent = 0;
        while sent < 40 {
            let events = recent.batch(&mut place).events;
            assert!(!events.is_empty());
            sent += events.len();
            ToControl::Ephemeral { events }.write(&mut Vec::new()).unwrap();
        }
    }
}

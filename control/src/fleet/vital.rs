//! Whether a node can be given calls, by its beats. Pure.
//!
//! A lost link alone never ends a call: what is decided here keeps new ones away, nothing else.

use std::time::Duration;

use link::beat::{Beat, Doubt, NodeBeat, Pulse};
use link::id::WallTime;
use tokio::time::Instant;

/// Why a node gets no new calls although its link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// It has not been heard for more than a second.
    Silent,
    /// It is heard, and does not hear this control.
    Deaf,
    /// It has calls and moves none of their audio.
    Stuck,
}

impl Suspicion {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Deaf => "deaf",
            Self::Stuck => "stuck",
        }
    }
}

impl From<Doubt> for Suspicion {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Silent => Self::Silent,
            Doubt::Deaf => Self::Deaf,
        }
    }
}

/// What the beats of one connection say of a node.
#[derive(Debug)]
pub(super) struct Vital {
    begun: Instant,
    pulse: Pulse,
    progress: Option<u64>,
    still: Option<Still>,
    ahead_us: Option<i64>,
}

/// Calls without a frame.
#[derive(Debug, Clone, Copy)]
struct Still {
    progress: u64,
    calls: u32,
    since_us: u64,
}

impl Vital {
    /// Nothing has been heard.
    pub(super) fn new(now: Instant) -> Self {
        let pulse = Pulse::default();
        Self { begun: now, pulse, progress: None, still: None, ahead_us: None }
    }

    /// The node beats.
    pub(super) fn hear(&mut self, beat: &NodeBeat, wall: WallTime, now: Instant) {
        let now_us = self.us(now);
        let NodeBeat { beat, progress, load } = *beat;
        self.pulse.hear(beat, now_us);
        self.progress = Some(progress);
        self.ahead_us = Some(beat.wall.0.saturating_sub(wall.0));
        let is_same = |still: &Still| still.progress == progress && still.calls == load.calls;
        self.still = match self.still {
            // Nobody is there whose audio could move.
            _ if load.calls == 0 => None,
            // A call that has come or gone is a sign of life, too.
            Some(still) if is_same(&still) => Some(still),
            Some(_) | None => Some(Still { progress, calls: load.calls, since_us: now_us }),
        };
    }

    /// What the node is told next.
    pub(super) fn beat(&self, wall: WallTime, now: Instant) -> Beat {
        self.pulse.beat(self.us(now), wall)
    }

    /// Frames that the node had moved at its last beat; `None` before the first.
    pub(super) fn progress(&self) -> Option<u64> {
        self.progress
    }

    /// How far the node's wall clock was ahead of ours at its last beat, the way of the beat taken off
    /// it; `None` before the first.
    pub(super) fn ahead_us(&self) -> Option<i64> {
        self.ahead_us
    }

    /// Why the node gets no new calls, if it gets none.
    pub(super) fn suspicion(&self, now: Instant) -> Option<Suspicion> {
        let now_us = self.us(now);
        let doubt = self.pulse.doubt(now_us).map(Suspicion::from);
        doubt.or_else(|| self.still?.is_too_long(now_us).then_some(Suspicion::Stuck))
    }

    fn us(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begun);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Still {
    fn is_too_long(&self, now_us: u64) -> bool {
        let may = if self.calls == 1 { ALONE_STILL_MAX } else { STILL_MAX };
        u128::from(now_us.saturating_sub(self.since_us)) >= may.as_micros()
    }
}

/// How long several calls may move nothing. A carrier sends fifty frames a second, also of silence.
const STILL_MAX: Duration = Duration::from_secs(5);

/// The same of one call alone: a web page whose tab sleeps sends nothing, and a caller whose network
/// is gone neither. That must not close the only node of a small installation.
const ALONE_STILL_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use link::message::Load;

    use super::*;

    const WALL: WallTime = WallTime(1_795_514_400_000_000);

    /// A node that hears everything, and how it is at moments, in milliseconds.
    struct Node {
        vital: Vital,
        begun: Instant,
    }

    impl Node {
        fn new() -> Self {
            let begun = crate::clock::steady();
            Self { vital: Vital::new(begun), begun }
        }

        fn at(&self, ms: u64) -> Instant {
            self.begun + Duration::from_millis(ms)
        }

        fn beats(&mut self, ms: u64, calls: u32, progress: u64) {
            let load = Load { calls, calls_max: 10, ready: true, ..Load::default() };
            let beat = Beat { sent_us: ms, heard_us: Some(ms * 1_000), wall: WALL.plus_us(7) };
            let beat = NodeBeat { beat, progress, load };
            self.vital.hear(&beat, WALL, self.at(ms));
        }

        fn suspicion(&self, ms: u64) -> Option<Suspicion> {
            self.vital.suspicion(self.at(ms))
        }
    }

    #[test]
    fn a_node_is_suspect_within_a_second_and_a_half_of_its_last_beat_until_the_next() {
        let mut node = Node::new();
        assert_eq!(node.suspicion(60_000), None, "an older one never beats");
        node.beats(60_000, 1, 1);
        assert_eq!(node.suspicion(61_000), None);
        assert_eq!(node.suspicion(61_500), Some(Suspicion::Silent));
        node.beats(61_600, 1, 2);
        assert_eq!(node.suspicion(61_700), None);
        assert_eq!(node.vital.ahead_us(), Some(7));
    }

    #[test]
    fn a_node_that_does_not_hear_us_is_suspect_although_it_beats() {
        let mut node = Node::new();
        let beat = Beat { sent_us: 1, heard_us: Some(100_000), wall: WALL };
        for ms in (250..=2_000).step_by(250) {
            let beat = NodeBeat { beat, progress: ms, load: Load::default() };
            node.vital.hear(&beat, WALL, node.at(ms));
        }
        assert_eq!(node.suspicion(2_000), Some(Suspicion::Deaf));
    }

    #[test]
    fn calls_that_move_nothing_make_a_node_suspect_until_something_moves() {
        let mut node = Node::new();
        (0..20).for_each(|n| node.beats(n * 250, 2, 100));
        assert_eq!(node.suspicion(4_900), None);
        node.beats(5_000, 2, 100);
        assert_eq!(node.suspicion(5_000), Some(Suspicion::Stuck));
        node.beats(5_250, 2, 101);
        assert_eq!(node.suspicion(5_250), None);
    }

    #[test]
    fn a_call_alone_may_be_silent_for_longer_and_no_call_for_ever() {
        let mut node = Node::new();
        (0..=119).for_each(|n| node.beats(n * 250, 1, 100));
        assert_eq!(node.suspicion(29_900), None);
        node.beats(30_000, 1, 100);
        assert_eq!(node.suspicion(30_000), Some(Suspicion::Stuck));
        (121..=400).for_each(|n| node.beats(n * 250, 0, 100));
        assert_eq!(node.suspicion(100_000), None);
        node.beats(100_250, 2, 100);
        assert_eq!(node.suspicion(100_250), None, "they have just come");
    }
}

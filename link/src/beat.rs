//! The heartbeat: each side says every [`BEAT_EVERY`] that it lives, and what it has heard of the
//! other one.
//!
//! Whoever hears nothing doubts that the other side lives. Whoever hears that its own beats have not
//! arrived for long knows that only one way is broken. A side that has never beaten is not judged:
//! it may be of a version that does not.
//!
//! Moments are microseconds of a clock of the reader's own, which only grows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::WallTime;
use crate::message::Load;

/// How often each side beats. Halving it doubles the messages, and finds a loss no sooner:
/// [`SILENT_AFTER`] decides that.
pub const BEAT_EVERY: Duration = Duration::from_millis(250);

/// Silence after which a side is doubted. What is promised is 1.5 s; the rest is for the way of the
/// last beat and for a timer that is late.
pub const SILENT_AFTER: Duration = Duration::from_millis(1_400);

/// How old the own beat may be that the other side heard last, before that side is taken for deaf.
/// What is promised is 2.0 s. It is above [`SILENT_AFTER`], so that a loss of both ways has that name.
pub const DEAF_AFTER: Duration = Duration::from_millis(1_800);

/// A sign of life, from either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// When it was sent, in microseconds of the sender's own clock. It means nothing to the other
    /// side, which returns it.
    pub sent_us: u64,
    /// The `sent_us` of the other side's last beat that has arrived; `None` before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_us: Option<u64>,
    /// The sender's wall clock: for telling whose is wrong, never for measuring.
    pub wall: WallTime,
}

/// A relay's beat. Which software it runs stands in its hello and cannot change in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBeat {
    /// The sign of life.
    pub beat: Beat,
    /// Media frames that all shards have moved in the life of the process. It only grows; while there
    /// are calls and it does not, nobody hears anybody.
    pub progress: u64,
    /// How the node is doing.
    pub load: Load,
}

/// What one side knows of the other's life, on one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulse(Option<Heard>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    /// When the first beat came.
    first_us: u64,
    /// When the last one came.
    last_us: u64,
    /// What that one says of itself.
    beat: Beat,
}

/// Why a side is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing is heard of it.
    Silent,
    /// It is heard, and does not hear us.
    Deaf,
}

impl Pulse {
    /// A beat of the other side has arrived.
    pub fn hear(&mut self, beat: Beat, now_us: u64) {
        let first_us = self.0.map_or(now_us, |heard| heard.first_us);
        self.0 = Some(Heard { first_us, last_us: now_us, beat });
    }

    /// The next beat of this side.
    #[must_use]
    pub fn beat(&self, now_us: u64, wall: WallTime) -> Beat {
        let heard_us = self.0.map(|heard| heard.beat.sent_us);
        Beat { sent_us: now_us, heard_us, wall }
    }

    /// Whether, and why, the other side is doubted.
    #[must_use]
    pub fn doubt(&self, now_us: u64) -> Option<Doubt> {
        let heard = self.0?;
        if now_us >= heard.silent_us() {
            Some(Doubt::Silent)
        } else if now_us >= heard.deaf_us() {
            Some(Doubt::Deaf)
        } else {
            None
        }
    }

    /// When it is doubted if nothing more is heard; `None` before its first beat.
    #[must_use]
    pub fn doubted_us(&self) -> Option<u64> {
        self.0.map(|heard| heard.silent_us().min(heard.deaf_us()))
    }
}

impl Heard {
    fn silent_us(&self) -> u64 {
        self.last_us.saturating_add(us(SILENT_AFTER))
    }

    fn deaf_us(&self) -> u64 {
        // Nothing that we said before the other side spoke is missed.
        let arrived_us = self.beat.heard_us.unwrap_or(self.first_us);
        arrived_us.saturating_add(us(DEAF_AFTER))
    }
}

fn us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: u64 = 250_000;
    const WALL: WallTime = WallTime(1_795_514_400_000_000);

    /// Two sides that beat, with a way between them that takes 20 ms, until `lost_us`; then what of
    /// the two ways is lost. The moment of the first doubt of each side.
    fn lives(lost_us: u64, ways: [bool; 2]) -> [Option<(u64, Doubt)>; 2] {
        let mut pulses = [Pulse::default(); 2];
        let mut under_way: Vec<(u64, usize, Beat)> = Vec::new();
        let mut doubts = [None; 2];
        for now_us in (0..lost_us + 4_000_000).step_by(10_000) {
            let arrived: Vec<_> = under_way.extract_if(.., |(at, ..)| *at <= now_us).collect();
            arrived.iter().for_each(|(_, to, beat)| pulses[*to].hear(*beat, now_us));
            for from in [0, 1] {
                let is_heard = now_us < lost_us || !ways[from];
                // The two do not beat at the same moment.
                if (now_us + 110_000 * from as u64).is_multiple_of(EVERY) && is_heard {
                    under_way.push((now_us + 20_000, 1 - from, pulses[from].beat(now_us, WALL)));
                }
                let doubt = pulses[from].doubt(now_us).map(|doubt| (now_us, doubt));
                doubts[from] = doubts[from].or(doubt);
            }
        }
        doubts
    }

    #[test]
    fn a_side_that_never_beat_is_not_judged() {
        let pulse = Pulse::default();
        assert_eq!((pulse.doubt(u64::MAX), pulse.doubted_us()), (None, None));
        assert_eq!(pulse.beat(7, WALL), Beat { sent_us: 7, heard_us: None, wall: WALL });
    }

    #[test]
    fn who_falls_silent_is_doubted_and_comes_back_with_a_beat() {
        let mut pulse = Pulse::default();
        let beat = |sent_us| Beat { sent_us, heard_us: Some(sent_us), wall: WALL };
        pulse.hear(beat(1_000_000), 1_000_000);
        assert_eq!(pulse.doubted_us(), Some(2_400_000));
        assert_eq!(pulse.doubt(2_399_999), None);
        assert_eq!(pulse.doubt(2_400_000), Some(Doubt::Silent));
        pulse.hear(beat(2_400_000), 2_500_000);
        assert_eq!(pulse.doubt(2_500_000), None);
        assert_eq!(pulse.beat(2_600_000, WALL).heard_us, Some(2_400_000));
    }

    #[test]
    fn who_hears_nothing_of_us_is_deaf_although_it_beats() {
        let mut pulse = Pulse::default();
        for now_us in (0..1_800_000).step_by(250_000) {
            pulse.hear(Beat { sent_us: now_us, heard_us: None, wall: WALL }, now_us);
            assert_eq!(pulse.doubt(now_us), None);
        }
        assert_eq!(pulse.doubt(1_800_000), Some(Doubt::Deaf));
        let hears = Beat { sent_us: 1_900_000, heard_us: Some(1_850_000), wall: WALL };
        pulse.hear(hears, 1_900_000);
        assert_eq!(pulse.doubt(1_900_000), None);
    }

    proptest! {
        #[test]
        fn a_loss_of_both_ways_is_known_to_both_within_a_second_and_a_half(
            lost_us in 1_000_000_u64..3_000_000,
        ) {
            for doubt in lives(lost_us, [true, true]) {
                let (at, why) = doubt.unwrap();
                prop_assert!(at >= lost_us && at - lost_us <= 1_500_000, "{}", at - lost_us);
                prop_assert_eq!(why, Doubt::Silent);
            }
        }

        #[test]
        fn a_loss_of_one_way_is_known_to_both_within_two_seconds(
            lost_us in 1_000_000_u64..3_000_000,
        ) {
            // What the first says does not arrive any more.
            let [first, second] = lives(lost_us, [true, false]);
            let ((first_at, first), (second_at, second)) = (first.unwrap(), second.unwrap());
            prop_assert_eq!((first, second), (Doubt::Deaf, Doubt::Silent));
            prop_assert!(first_at - lost_us <= 2_000_000 && second_at - lost_us <= 1_500_000);
        }
    }
}

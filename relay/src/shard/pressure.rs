//! What a shard does about being late: its calls send the caller's audio in longer pieces.
//!
//! A shard that is late has more to do than its core can. Joining three frames of a caller takes a
//! third of the system calls of that way, which are most of what a call costs.

use std::cell::Cell;
use std::time::Duration;

/// Whether a shard is short of time.
#[derive(Debug, Default)]
pub struct Pressure {
    /// Beats in a row in which it was punctual, while it counts as late; `None` while it does not.
    punctual: Cell<Option<u32>>,
}

/// A shard whose own timer is later than this is late. Tokio's timers are up to one millisecond
/// late on an idle machine.
const LATE: Duration = Duration::from_millis(5);
/// One whose timer is earlier than this is punctual. Between the two nothing changes: the longer
/// pieces are what has made it punctual.
const PUNCTUAL: Duration = Duration::from_millis(2);
/// Beats without lateness before a shard no longer counts as late: ten seconds.
const PUNCTUAL_BEATS: u32 = 100;

impl Pressure {
    /// A beat is over: judges how late the shard is.
    pub fn beat(&self, late: Duration) {
        let beats = match self.punctual.get() {
            None if late > LATE => Some(0),
            None => None,
            Some(beats) if late < PUNCTUAL => Some(beats + 1),
            Some(_) => Some(0),
        };
        self.punctual.set(beats.filter(|beats| *beats < PUNCTUAL_BEATS));
    }

    /// Whether it has more to do than it can.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.punctual.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_late_after(pressure: &Pressure, ms: u64) -> bool {
        pressure.beat(Duration::from_millis(ms));
        pressure.is_late()
    }

    #[test]
    fn a_shard_is_late_at_once_and_punctual_after_a_hundred_beats() {
        let pressure = Pressure::default();
        assert!(!is_late_after(&pressure, 5));
        assert!(is_late_after(&pressure, 6));
        for n in 1..PUNCTUAL_BEATS {
            assert!(is_late_after(&pressure, 1), "beat {n}");
        }
        assert!(!is_late_after(&pressure, 1));
    }

    #[test]
    fn what_is_neither_late_nor_punctual_changes_nothing() {
        let pressure = Pressure::default();
        assert!(!is_late_after(&pressure, 4));
        assert!(is_late_after(&pressure, 9));
        for _ in 0..PUNCTUAL_BEATS * 2 {
            assert!(is_late_after(&pressure, 3));
        }
    }
}

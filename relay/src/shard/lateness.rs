//! How late a shard is with its own timer. Pure.

use std::time::Duration;

/// Beats that are looked at together: 3.2 s at ten a second.
const BEATS: usize = 32;
/// The figure is what this many of them reached: some nine in ten beats were earlier. One stop of
/// the whole machine does not show; three seconds of a core that is too full do.
const LATE: usize = 4;

/// The last beats of a shard's timer.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    beats: [Duration; BEATS],
    next: usize,
}

impl Lateness {
    /// Takes one beat, and gives how late the shard is.
    pub(super) fn beat(&mut self, late: Duration) -> Duration {
        self.beats[self.next] = late;
        self.next = (self.next + 1) % BEATS;
        let mut beats = self.beats;
        *beats.select_nth_unstable(BEATS - LATE).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_stop_does_not_show_and_a_full_core_does() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.beat(900 * MS), Duration::ZERO);
        assert_eq!(lateness.beat(80 * MS), Duration::ZERO);
        assert_eq!(lateness.beat(60 * MS), Duration::ZERO);
        assert_eq!(lateness.beat(70 * MS), 60 * MS);
        // Once they are over, they are forgotten within three seconds.
        let last = (0..BEATS).map(|_| lateness.beat(MS)).last();
        assert_eq!(last, Some(MS));
    }
}

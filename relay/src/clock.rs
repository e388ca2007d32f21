//! The only reader of time in this crate: everything else takes `now` as an argument, or asks a
//! [`Clock`] that it was given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use link::id::WallTime;
use tokio::time::Instant;

use crate::call::moment::Moment;

/// The process's monotonic clock. All shards share one zero, so that their moments compare.
/// It runs on tokio's time: a paused runtime pauses it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// Starts a clock at zero.
    #[expect(clippy::disallowed_methods, reason = "this file is where time is read")]
    #[must_use]
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// The moment it is.
    #[expect(clippy::disallowed_methods, reason = "this file is where time is read")]
    #[must_use]
    pub fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// The moment of an instant that tokio gave.
    #[must_use]
    pub fn moment(&self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.zero);
        Moment::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment in the form in which tokio sleeps until it.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        self.zero + Duration::from_micros(moment.micros())
    }
}

/// The moment of the wall clock it is: for tickets and for people, never for measuring.
#[expect(clippy::disallowed_methods, reason = "this file is where time is read")]
#[must_use]
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_pauses_the_clock() {
        let clock = Clock::start();
        assert_eq!(clock.now(), Moment::default());
        tokio::time::advance(Duration::from_millis(20)).await;
        assert_eq!(clock.now().micros(), 20_000);
        assert_eq!(clock.instant(clock.now()), clock.instant(Moment::from_micros(20_000)));
    }

    #[test]
    fn the_wall_clock_is_in_microseconds_of_this_century() {
        let year_2026 = 1_767_225_600;
        assert!((year_2026..year_2026 * 2).contains(&wall().seconds()));
    }
}

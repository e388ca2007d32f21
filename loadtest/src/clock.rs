//! The crate's clock: monotonic time for schedules, wall time for what is shown and compared.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A running stopwatch: what a fake's schedule is counted from. It stands still where a test has
/// paused tokio's time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    pub(crate) fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the start, rounded down.
    pub(crate) fn millis(self) -> u64 {
        self.micros() / 1_000
    }

    /// The moment so many microseconds after the start, for a timer.
    pub(crate) fn at_micros(self, us: u64) -> Instant {
        self.0 + Duration::from_micros(us)
    }
}

/// Microseconds since 1970, by the wall clock.
pub(crate) fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

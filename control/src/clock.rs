//! The only reader of time in this crate: everything else takes `now` as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use link::id::WallTime;
use tokio::time::Instant;

/// A moment of a clock that only grows, for measuring how long ago something was.
#[expect(clippy::disallowed_methods, reason = "this file is where time is read")]
#[must_use]
pub fn steady() -> Instant {
    Instant::now()
}

/// The moment of the wall clock it is. Never for measuring: it may jump.
#[expect(clippy::disallowed_methods, reason = "this file is where time is read")]
#[must_use]
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_in_microseconds_of_this_century() {
        let year_2026 = 1_767_225_600;
        assert!((year_2026..year_2026 * 2).contains(&wall().seconds()));
    }
}

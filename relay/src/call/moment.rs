//! A moment of the call's clock: an argument everywhere, read nowhere in here.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds of one monotonic clock. Only `clock.rs` makes one out of the running process's
/// time; tests make their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The moment so many microseconds after the clock's zero.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the clock's zero.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The last multiple of `grid` that is not later.
    #[must_use]
    pub fn back_to(self, grid: Duration) -> Self {
        let us = u64::try_from(grid.as_micros()).unwrap_or(u64::MAX).max(1);
        Self(self.0 / us * us)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(us))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(us))
    }
}

//! The one timer of a call.
//!
//! Most deadlines move on before they come: the carrier's next frame puts off the one that the last
//! frame set. So the timer is left where it is while it is early enough; whether a deadline is over
//! is a comparison. One that would come soon for nothing is put off: that writes one word, and
//! saves a wake.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use crate::call::moment::Moment;
use crate::clock::Clock;

/// Wakes the call's task at the moment that the call names, or a little before.
pub(super) struct Alarm {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    /// When the task is woken; `None` when it is not.
    set_for: Option<Moment>,
}

impl Alarm {
    /// An alarm that is not set.
    pub(super) fn new(clock: Clock) -> Self {
        let sleep = Box::pin(sleep_until(clock.instant(clock.now())));
        Self { clock, sleep, set_for: None }
    }

    /// Waits for `at`, which may be another moment at every call.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Moment, now: Moment) -> Poll<()> {
        if at <= now {
            return Poll::Ready(());
        }
        if !self.set_for.is_some_and(|set_for| serves(set_for, at, now)) {
            self.sleep.as_mut().reset(self.clock.instant(at));
            // Time goes on while a wake lasts: it may have come already.
            if self.sleep.as_mut().poll(cx).is_ready() {
                self.set_for = None;
                return Poll::Ready(());
            }
            self.set_for = Some(at);
        }
        Poll::Pending
    }
}

/// Whether a timer that is set for `set_for` does for `at`.
fn serves(set_for: Moment, at: Moment, now: Moment) -> bool {
    // One that has come wakes nobody any more.
    set_for == at || (set_for < at && now + SOON < set_for)
}

/// A timer that is further away than this may still turn out to be early enough: a frame, and how
/// late one may be.
const SOON: Duration = Duration::from_millis(25);

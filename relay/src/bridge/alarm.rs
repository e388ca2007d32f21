//! The one timer of a call.
//!
//! Most deadlines move on before they come: the carrier's next frame puts off the one that the last
//! frame set. So the timer is left where it is while it is early enough, and looked at again when
//! it has come; whether a deadline is over is a comparison.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

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
        // One that has come wakes nobody any more.
        if self.set_for.is_none_or(|set_for| set_for <= now || at < set_for) {
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

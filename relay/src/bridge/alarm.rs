//! The one timer of a call, set again only when the call's deadline has moved.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep_until};

use crate::call::moment::Moment;
use crate::clock::Clock;

/// Sleeps until the moment that a call names.
pub(super) struct Alarm {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    /// What the sleep is set for; `None` when it is over or never was.
    set_for: Option<Moment>,
}

impl Alarm {
    /// An alarm that is not set.
    pub(super) fn new(clock: Clock) -> Self {
        let sleep = Box::pin(sleep_until(clock.instant(clock.now())));
        Self { clock, sleep, set_for: None }
    }

    /// Waits for `at`, which may be another moment at every call. Gives the moment it is then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Option<Moment>) -> Poll<Moment> {
        let Some(at) = at else { return Poll::Pending };
        if self.set_for != Some(at) {
            self.sleep.as_mut().reset(self.clock.instant(at));
            self.set_for = Some(at);
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.set_for = None;
        Poll::Ready(self.clock.now().max(at))
    }
}

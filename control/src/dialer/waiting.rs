//! Who waits to hear what becomes of a call that was just queued, so that a wrong number is told to
//! whoever dialled it and not only to the events.
//!
//! Memory only, of the process that was asked. Nobody waits for a turn: when the call was not taken
//! from the queue at the next look, the one who waits is told that it is queued.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::id::CallId;
use tokio::sync::{Notify, oneshot};

use crate::error::Problem;

/// The way to the dialler. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Dialler {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    wake: Notify,
    waiting: Mutex<BTreeMap<CallId, Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Outcome>,
    step: Step,
}

/// How far a call is that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is not in the queue yet.
    Coming,
    /// It is in the queue.
    Queued,
    /// It was taken from the queue.
    Taken,
}

/// What became of a call at its first turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The carrier has it, or may have it.
    Placed,
    /// Its turn comes later.
    Queued,
    /// It was refused for good, and is over.
    Refused(Problem),
}

impl Dialler {
    /// Begins to wait, before the call is queued: its turn may come at once. `None` when as many
    /// wait as may.
    #[must_use]
    pub fn expect(&self, call: &CallId) -> Option<Waiting> {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        let (reply, outcome) = oneshot::channel();
        waiting.insert(call.clone(), Waiter { reply, step: Step::Coming });
        drop(waiting);
        Some(Waiting { dialler: self.clone(), call: call.clone(), outcome })
    }

    /// Says that a call is in the queue.
    pub fn queued(&self, call: &CallId) {
        // It may have been taken between its commit and this word.
        if let Some(waiter) = self.waiting().get_mut(call)
            && waiter.step == Step::Coming
        {
            waiter.step = Step::Queued;
        }
        self.wake();
    }

    /// Lets the queue be looked at.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Resolves when the queue should be looked at.
    pub(super) async fn woken(&self) {
        self.inner.wake.notified().await;
    }

    /// The calls in the queue that somebody waits for, before it is looked at.
    pub(super) fn watched(&self) -> BTreeSet<CallId> {
        let waiting = self.waiting();
        let queued = waiting.iter().filter(|(_, waiter)| waiter.step == Step::Queued);
        queued.map(|(call, _)| call.clone()).collect()
    }

    /// Says which calls were taken at that look; who was watched and not taken is told to wait.
    pub(super) fn looked(&self, watched: &BTreeSet<CallId>, taken: &BTreeSet<CallId>) {
        for call in taken {
            if let Some(waiter) = self.waiting().get_mut(call) {
                waiter.step = Step::Taken;
            }
        }
        for call in watched.difference(taken) {
            self.tell(call, Outcome::Queued);
        }
    }

    /// Says what became of a call, to whoever waits.
    pub(super) fn tell(&self, call: &CallId, outcome: Outcome) {
        let waiter = self.waiting().remove(call);
        // Whoever has stopped waiting in between was told that it is queued.
        waiter.map(|waiter| waiter.reply.send(outcome).ok());
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<CallId, Waiter>> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait; dropped, it is free again.
#[derive(Debug)]
pub struct Waiting {
    dialler: Dialler,
    call: CallId,
    outcome: oneshot::Receiver<Outcome>,
}

impl Waiting {
    /// What became of the call; that it is queued when nothing is known in time.
    pub async fn outcome(mut self, within: Duration) -> Outcome {
        let known = tokio::time::timeout(within, &mut self.outcome).await;
        known.ok().and_then(Result::ok).unwrap_or(Outcome::Queued)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.dialler.waiting().remove(&self.call);
    }
}

/// How many wait at once; when full, the rest hears that its calls are queued.
const WAITING_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn call(name: &str) -> CallId {
        CallId::new(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn whose_turn_has_not_come_is_not_kept_waiting() {
        let dialler = Dialler::default();
        let (one, two, three) = (call("c_1"), call("c_2"), call("c_3"));
        let mut waiting =
            [&one, &two, &three].map(|call| dialler.expect(call).unwrap()).into_iter();
        dialler.queued(&one);
        dialler.queued(&two);
        let watched = dialler.watched();
        // The third comes into the queue while it is being looked at.
        dialler.queued(&three);
        dialler.looked(&watched, &BTreeSet::from([one.clone()]));
        dialler.tell(&one, Outcome::Placed);
        assert_eq!(waiting.next().unwrap().outcome(SOON).await, Outcome::Placed);
        assert_eq!(waiting.next().unwrap().outcome(SOON).await, Outcome::Queued);
        assert_eq!(dialler.watched(), BTreeSet::from([three.clone()]));
        let third = tokio::time::timeout(SOON / 2, waiting.next().unwrap().outcome(SOON)).await;
        assert!(third.is_err(), "nothing is known of it yet");
        assert!(dialler.waiting().is_empty(), "whoever has left leaves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_taken_is_waited_for_until_it_is_told() {
        let dialler = Dialler::default();
        let one = call("c_1");
        let waiting = dialler.expect(&one).unwrap();
        dialler.queued(&one);
        dialler.looked(&dialler.watched(), &BTreeSet::from([one.clone()]));
        // Later looks do not find it in the queue, and say nothing about it.
        dialler.looked(&dialler.watched(), &BTreeSet::new());
        assert_eq!(waiting.outcome(SOON).await, Outcome::Queued, "in vain");
        let waiting = dialler.expect(&one).unwrap();
        dialler.tell(&one, Outcome::Placed);
        assert_eq!(waiting.outcome(SOON).await, Outcome::Placed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_taken_before_it_is_said_to_be_queued_is_waited_for() {
        let dialler = Dialler::default();
        let one = call("c_1");
        let waiting = dialler.expect(&one).unwrap();
        dialler.looked(&dialler.watched(), &BTreeSet::from([one.clone()]));
        dialler.queued(&one);
        dialler.looked(&dialler.watched(), &BTreeSet::new());
        dialler.tell(&one, Outcome::Placed);
        assert_eq!(waiting.outcome(SOON).await, Outcome::Placed);
    }

    #[test]
    fn no_more_than_the_bound_wait() {
        let dialler = Dialler::default();
        let all: Vec<_> =
            (0..WAITING_MAX).map(|n| dialler.expect(&call(&format!("c_{n}"))).unwrap()).collect();
        assert!(dialler.expect(&call("c_more")).is_none());
        drop(all);
        assert!(dialler.expect(&call("c_more")).is_some());
    }
}

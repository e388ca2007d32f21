//! Seats that are kept for calls on their way to one node: from the choice of the node until the
//! stream is there or was refused, or for ten seconds. Pure.

use std::collections::VecDeque;

use link::id::{CallId, WallTime};

/// The seats of one node that are kept.
#[derive(Debug, Default)]
pub(super) struct Promises(VecDeque<Promise>);

#[derive(Debug)]
struct Promise {
    call: CallId,
    at: WallTime,
    stage: Stage,
}

/// How far a promise has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The node was chosen; whether the call goes there is not decided yet.
    Chosen,
    /// Whoever opens the stream has been told to.
    Told,
}

impl Promises {
    /// How many seats are kept.
    pub(super) fn many(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Keeps a seat for a call, one however often it asks.
    pub(super) fn keep(&mut self, call: CallId, stage: Stage, at: WallTime) {
        self.end(&call);
        // Forgetting one only makes the node look a little emptier than it is.
        if self.0.len() == PROMISES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Promise { call, at, stage });
    }

    /// Frees the seat of a call; says how far it had come, or `None` when none was kept.
    pub(super) fn end(&mut self, call: &CallId) -> Option<Stage> {
        let place = self.0.iter().position(|promise| promise.call == *call)?;
        self.0.remove(place).map(|promise| promise.stage)
    }

    /// Frees the seats that were kept for too long; says for how many of them a stream was asked.
    pub(super) fn lapse(&mut self, now: WallTime) -> u64 {
        // By the distance, not the sign: a wall clock that is set back must not keep promises for
        // ever.
        self.drop_those(|promise| (now.0 - promise.at.0).unsigned_abs() > PROMISE_US)
    }

    /// Frees all: the node is gone. Says for how many of them a stream was asked.
    pub(super) fn clear(&mut self) -> u64 {
        self.drop_those(|_| true)
    }

    fn drop_those(&mut self, is_over: impl Fn(&Promise) -> bool) -> u64 {
        let mut told = 0;
        self.0.retain(|promise| {
            let is_over = is_over(promise);
            told += u64::from(is_over && promise.stage == Stage::Told);
            !is_over
        });
        told
    }
}

/// Calls sent to a node that it has not counted yet. When full, the oldest is forgotten.
const PROMISES_MAX: usize = 4_096;

/// How long a call counts where it was sent although no stream has begun. Ticket to stream takes
/// under a second; the caller may have hung up in between.
const PROMISE_US: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_795_514_400_000_000);

    fn call(n: usize) -> CallId {
        CallId::new(format!("c_{n}")).unwrap()
    }

    #[test]
    fn a_call_has_one_seat_however_often_it_asks() {
        let mut promises = Promises::default();
        promises.keep(call(1), Stage::Chosen, NOW);
        promises.keep(call(1), Stage::Told, NOW);
        assert_eq!(promises.many(), 1);
        assert_eq!(promises.end(&call(1)), Some(Stage::Told));
        assert_eq!((promises.end(&call(1)), promises.many()), (None, 0));
    }

    #[test]
    fn a_seat_lapses_after_ten_seconds_whichever_way_the_clock_goes() {
        for later in [NOW.plus_us(10_000_001), WallTime(NOW.0 - 10_000_001)] {
            let mut promises = Promises::default();
            promises.keep(call(1), Stage::Chosen, NOW);
            promises.keep(call(2), Stage::Told, NOW);
            assert_eq!((promises.lapse(NOW.plus_us(9_999_999)), promises.many()), (0, 2));
            assert_eq!((promises.lapse(later), promises.many()), (1, 0));
        }
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let mut promises = Promises::default();
        (0..=PROMISES_MAX).for_each(|n| promises.keep(call(n), Stage::Told, NOW));
        assert_eq!(promises.many() as usize, PROMISES_MAX);
        assert_eq!(promises.end(&call(0)), None);
        assert_eq!(promises.clear(), PROMISES_MAX as u64);
    }
}

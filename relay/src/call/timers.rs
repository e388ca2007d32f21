//! Named deadlines, and the one that comes first.
//!
//! The bridge sleeps until [`Timers::first`] and then says [`Tick`](super::input::Input::Tick);
//! who set a deadline is found by its name, never by its time.

use super::moment::Moment;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The agent's socket opens and states its session.
    Agent,
    /// The next chunk of playout may or must leave.
    Pace,
    /// The last words have been heard, whether marks say so or not.
    LastWords,
    /// Control commits the decision to end the call.
    Record,
    /// The longest call is over.
    CallLimit,
}

/// The deadlines of one call: at most one under each name.
#[derive(Debug, Default)]
pub(super) struct Timers {
    at: [Option<Moment>; Timer::ALL.len()],
}

impl Timer {
    const ALL: [Self; 5] =
        [Self::Agent, Self::Pace, Self::LastWords, Self::Record, Self::CallLimit];
}

impl Timers {
    /// Sets a deadline, or with `None` takes it away.
    pub(super) fn set(&mut self, timer: Timer, at: impl Into<Option<Moment>>) {
        self.at[timer as usize] = at.into();
    }

    /// Takes all deadlines away.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first deadline.
    pub(super) fn first(&self) -> Option<Moment> {
        self.at.iter().copied().flatten().min()
    }

    /// Takes the first deadline that has come.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Timer> {
        let due = |timer: Timer| self.at[timer as usize].map(|at| (at, timer));
        let (at, timer) = Timer::ALL.into_iter().filter_map(due).min_by_key(|(at, _)| *at)?;
        if at > now {
            return None;
        }
        self.set(timer, None);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment::from_micros(ms * 1_000)
    }

    #[test]
    fn deadlines_come_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set(Timer::CallLimit, ms(30));
        timers.set(Timer::Agent, ms(10));
        timers.set(Timer::Pace, ms(20));
        timers.set(Timer::Agent, ms(25));
        assert_eq!(timers.first(), Some(ms(20)));
        assert_eq!(timers.take_due(ms(19)), None);
        assert_eq!(timers.take_due(ms(26)), Some(Timer::Pace));
        assert_eq!(timers.take_due(ms(26)), Some(Timer::Agent));
        assert_eq!(timers.take_due(ms(26)), None);
        assert_eq!(timers.first(), Some(ms(30)));
    }

    #[test]
    fn a_deadline_that_was_taken_away_does_not_come() {
        let mut timers = Timers::default();
        timers.set(Timer::Agent, ms(10));
        timers.set(Timer::Agent, None);
        assert_eq!((timers.first(), timers.take_due(ms(99))), (None, None));
    }
}

//! Named deadlines, and the one that comes first.
//!
//! The bridge sleeps until [`Timers::first`] and then says [`Tick`](super::input::Input::Tick);
//! who set a deadline is found by its name, never by its time. Every span that a call waits is in
//! here, with the reason for its length, and each one passes in a test of `tests/`.

use std::time::Duration;

use super::input::Slot;
use super::moment::Moment;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The first agent's socket opens ([`DIAL_MAX`]) and states its session ([`CONFIGURE_MAX`]).
    AgentA,
    /// The same, of the second.
    AgentB,
    /// A second socket is dialled beside one that is slow to open (`session.hedge_ms`).
    Hedge,
    /// Another socket is dialled after one that failed ([`BACKOFF`]).
    Redial,
    /// No agent could be found ([`SEARCH_MAX`]).
    Search,
    /// The caller hears a clip, because nobody else speaks ([`FILLER_AFTER`], [`OPENING_FILLER_AFTER`]).
    Filler,
    /// The session nears the service's limit (`session.roll_over_seconds`).
    RollOver,
    /// The agent's socket has been silent ([`PING_AFTER`], [`DEAD_AFTER`]).
    Liveness,
    /// The answer that is waited for goes on ([`ANSWER_MAX`], [`REFUSED_WAIT`]).
    Answer,
    /// A tool has its result (its own time-out, and [`TOOL_GRACE`]), or runs without the word of
    /// control that it was recorded ([`RECORD_MAX`]).
    Tool,
    /// The caller has pressed the last key ([`KEYS_AFTER`]).
    Keys,
    /// The carrier sends nothing ([`CARRIER_QUIET`]).
    CarrierGap,
    /// The caller is read again, and what has come is sent on ([`Batch::Reads`](super::input::Batch)).
    Uplink,
    /// Nobody has said anything (`limits.silence_seconds_max`).
    Silence,
    /// The next chunk of playout may or must leave.
    Pace,
    /// The last words have been heard, whether marks say so or not ([`LAST_MARK_MAX`],
    /// [`GOODBYE_MAX`], [`FAREWELL_MAX`]).
    LastWords,
    /// Control commits the decision to end the call ([`RECORD_MAX`]).
    Record,
    /// The caller of an announced call comes ([`UNCLAIMED_MAX`]).
    Unclaimed,
    /// A moment between two turns was waited for, to leave for another node (as long as whoever asks
    /// for it says).
    Leave,
    /// The longest call is over (`limits.call_seconds_max`).
    CallLimit,
}

/// The longest an agent's socket may take to open and introduce itself. A handshake with a
/// service takes less than one second; doubling it costs one of the tries in [`SEARCH_MAX`].
pub(super) const DIAL_MAX: Duration = Duration::from_secs(3);

/// The longest a service may take to state the session that it was told.
pub(super) const CONFIGURE_MAX: Duration = Duration::from_secs(3);

/// The pauses after failed dials; the last one is repeated. The first is short, because most
/// failures are a connection that broke. Source: reliability reference, F15, read 2026-11-20.
pub(super) const BACKOFF: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_millis(1_000)];

/// The longest a caller is kept without an agent: people hang up after some ten seconds.
pub(super) const SEARCH_MAX: Duration = Duration::from_secs(8);

/// When a caller whose agent was lost hears that the call goes on: silence of a second is taken for
/// a broken line.
pub(super) const FILLER_AFTER: Duration = Duration::from_millis(700);

/// The same, before the agent was ever there: sessions take up to a second to open.
pub(super) const OPENING_FILLER_AFTER: Duration = Duration::from_millis(2_500);

/// How soon a roll-over that failed is tried again.
pub(super) const ROLL_OVER_AGAIN: Duration = Duration::from_secs(30);

/// A socket that has said nothing for so long is asked for a sign of life. Client libraries ask every
/// 20 s (read 2026-11-20); a caller who speaks to a dead socket hangs up before that.
pub(super) const PING_AFTER: Duration = Duration::from_secs(5);

/// A socket that has said nothing for so long is dead: one ping, and longer than any stall that a
/// conversation survives.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(12);

/// The longest pause of an answer that is waited for, from the request to its last sample. A
/// service answers in one second; eight are silence that nobody understands.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(8);

/// How much longer an answer is waited for when the service has refused something meanwhile:
/// perhaps the request for it, which is not known.
pub(super) const REFUSED_WAIT: Duration = Duration::from_millis(500);

/// How much longer than its own time-out a tool is waited for.
pub(super) const TOOL_GRACE: Duration = Duration::from_millis(500);

/// The pause that ends a number typed on the keys. People pause about a second between groups.
pub(super) const KEYS_AFTER: Duration = Duration::from_millis(1_500);

/// How long the carrier may send nothing before silence is put in its place: a service hears the
/// end of a turn only as long as it hears anything.
pub(super) const CARRIER_QUIET: Duration = Duration::from_millis(400);

/// How long the last mark may be late: a network trip and a slow carrier.
pub(super) const LAST_MARK_MAX: Duration = Duration::from_secs(2);

/// The longest a goodbye may still be made, beyond what is to be heard of it already.
pub(super) const GOODBYE_MAX: Duration = Duration::from_secs(10);

/// The longest a goodbye may take that we ask for.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(15);

/// How long control may take to commit an end. The caller hears silence meanwhile.
pub(super) const RECORD_MAX: Duration = Duration::from_millis(300);

/// How long an announced call waits for its caller: a ticket's life.
pub(super) const UNCLAIMED_MAX: Duration = Duration::from_secs(60);

/// How long a spare session waits for a caller. Beyond that it would be too old to last a call.
pub(super) const SPARE_MAX: Duration = Duration::from_secs(300);

/// The deadlines of one call: at most one under each name.
#[derive(Debug)]
pub(super) struct Timers {
    /// [`NEVER`] where none is set: the first one is looked for at every wake, and a plain number
    /// for each makes that a handful of instructions.
    at: [Moment; Timer::ALL.len()],
}

/// No deadline: half a million years.
const NEVER: Moment = Moment::from_micros(u64::MAX);

impl Default for Timers {
    fn default() -> Self {
        Self { at: [NEVER; Timer::ALL.len()] }
    }
}

impl Timer {
    const ALL: [Self; 20] = [
        Self::AgentA,
        Self::AgentB,
        Self::Hedge,
        Self::Redial,
        Self::Search,
        Self::Filler,
        Self::RollOver,
        Self::Liveness,
        Self::Answer,
        Self::Tool,
        Self::Keys,
        Self::CarrierGap,
        Self::Uplink,
        Self::Silence,
        Self::Pace,
        Self::LastWords,
        Self::Record,
        Self::Unclaimed,
        Self::Leave,
        Self::CallLimit,
    ];

    /// The one of an agent's socket.
    pub(super) fn of_agent(slot: Slot) -> Self {
        match slot {
            Slot::A => Self::AgentA,
            Slot::B => Self::AgentB,
        }
    }
}

impl Timers {
    /// Sets a deadline, or with `None` takes it away.
    pub(super) fn set(&mut self, timer: Timer, at: impl Into<Option<Moment>>) {
        self.at[timer as usize] = at.into().unwrap_or(NEVER);
    }

    /// When it comes, if it is set.
    pub(super) fn at(&self, timer: Timer) -> Option<Moment> {
        Some(self.at[timer as usize]).filter(|at| *at < NEVER)
    }

    /// Takes all deadlines away.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes all deadlines away but these.
    pub(super) fn keep_only(&mut self, kept: &[Timer]) {
        for timer in Timer::ALL {
            if !kept.contains(&timer) {
                self.set(timer, None);
            }
        }
    }

    /// The first deadline.
    pub(super) fn first(&self) -> Option<Moment> {
        self.at.iter().copied().min().filter(|at| *at < NEVER)
    }

    /// Takes the first deadline that has come.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().min_by_key(|timer| self.at[*timer as usize])?;
        if self.at[timer as usize] > now {
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
        timers.set(Timer::AgentA, ms(10));
        timers.set(Timer::Pace, ms(20));
        timers.set(Timer::AgentA, ms(25));
        assert_eq!(timers.first(), Some(ms(20)));
        assert_eq!(timers.take_due(ms(19)), None);
        assert_eq!(timers.take_due(ms(26)), Some(Timer::Pace));
        assert_eq!(timers.take_due(ms(26)), Some(Timer::AgentA));
        assert_eq!(timers.take_due(ms(26)), None);
        assert_eq!(timers.first(), Some(ms(30)));
    }

    #[test]
    fn a_deadline_that_was_taken_away_does_not_come() {
        let mut timers = Timers::default();
        timers.set(Timer::AgentA, ms(10));
        timers.set(Timer::AgentA, None);
        assert_eq!((timers.first(), timers.take_due(ms(99))), (None, None));
    }

    #[test]
    fn every_timer_has_a_place_of_its_own() {
        let mut timers = Timers::default();
        for (n, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, n);
            timers.set(timer, ms(n as u64));
            assert_eq!(timers.at.iter().filter(|at| **at < NEVER).count(), n + 1);
        }
    }
}

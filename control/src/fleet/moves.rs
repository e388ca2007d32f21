//! Which calls move, how far each is, and when the next step is due. Pure but for its lock: the task
//! that takes the steps is [`mover`](super::mover).
//!
//! ```text
//! Preparing --its session is open--> Ready --told to leave--> Leaving --the new stream--> moved
//!     |                                |                        |
//!     | not in time                    | the drain's deadline   | the drain's deadline
//!     v                                v                        v
//! begun again later                  Forced (told to leave at once, in mid-sentence if need be)
//! ```
//!
//! A move that comes to nothing in its time is given up and begun again while the node drains.
//! Everything here is memory: an instance that takes over begins where the calls are then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::event::{CallEvent, CallRef, EndReason};
use link::id::{CallId, Gen, NodeId, WallTime};
use link::message::Command;

/// How drains are paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Calls that begin to move in a second, from each node that drains; at least 1.
    pub per_second: u32,
    /// How long a drain waits for moments between turns.
    pub deadline: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { per_second: 20, deadline: Duration::from_secs(180) }
    }
}

/// The moves of the fleet, as far as this instance makes them.
#[derive(Debug, Default)]
pub struct Moves {
    pace: Pace,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    drains: BTreeMap<NodeId, Drain>,
    moving: BTreeMap<CallId, Moving>,
}

/// A node that is to be empty.
#[derive(Debug, Clone, Copy)]
struct Drain {
    began_at: WallTime,
    deadline_at: WallTime,
    /// When the next call may begin to move.
    next_at: WallTime,
    moved: u32,
    forced: u32,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// When this instance first heard of it.
    pub began_at: WallTime,
    /// From when on calls leave in mid-sentence, too.
    pub deadline_at: WallTime,
    /// Calls that go on at another node.
    pub moved: u32,
    /// Those among them that had to leave in mid-sentence.
    pub forced: u32,
    /// Calls that are on their way.
    pub moving: u32,
}

/// A call on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moving {
    from: NodeId,
    to: NodeId,
    /// The generation that leaves.
    generation: Gen,
    stage: Stage,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The other node opens its session, until then at most.
    Preparing { until: WallTime },
    /// The session is open.
    Ready,
    /// It is told to leave between two turns, and has arrived by then or stays.
    Leaving { until: WallTime },
    /// It is told to leave at once, and has arrived by then.
    Forced { until: WallTime },
}

/// What a node is told about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The node that carries it.
    pub node: NodeId,
    /// The call.
    pub call: CallId,
    /// The generation that is told.
    pub generation: Gen,
    /// What it is to do.
    pub command: Command,
}

/// What became of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The call goes on at the other node.
    Moved,
    /// The same, and it had to leave in mid-sentence.
    Forced,
    /// It ended by itself.
    Ended,
}

/// What is due at a moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// What nodes are to be told.
    pub steps: Vec<Step>,
    /// Moves that came to nothing; the calls stay where they are, and may be moved again.
    pub given_up: u32,
}

impl Moves {
    /// No call moves.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, inner: Mutex::default() }
    }

    /// Takes which nodes are there, and which of them are to be empty. Gives what those are told of
    /// that take calls again: their calls stay.
    pub fn follow(
        &self,
        there: &BTreeSet<NodeId>,
        draining: &BTreeSet<NodeId>,
        now: WallTime,
    ) -> Vec<Step> {
        let mut inner = self.inner();
        let Inner { drains, moving } = &mut *inner;
        drains.retain(|node, _| draining.contains(node));
        for node in draining {
            drains.entry(node.clone()).or_insert_with(|| Drain {
                began_at: now,
                deadline_at: after(now, self.pace.deadline),
                next_at: now,
                moved: 0,
                forced: 0,
            });
        }
        // Those of a node that is gone stay: their calls are on their way, and asked for in a moment.
        let stays =
            |moving: &Moving| there.contains(&moving.from) && !draining.contains(&moving.from);
        let stay = moving.iter().filter(|(_, moving)| stays(moving));
        let told = stay.filter_map(|(call, moving)| match moving.stage {
            Stage::Leaving { .. } => Some(moving.step(call, How::NotAnyMore)),
            Stage::Preparing { .. } | Stage::Ready | Stage::Forced { .. } => None,
        });
        let told = told.collect();
        moving.retain(|_, moving| !stays(moving));
        told
    }

    /// Another instance moves calls from here on.
    pub fn let_go(&self) {
        self.inner().moving.clear();
    }

    /// How many calls of a node may begin to move at this moment.
    #[must_use]
    pub fn room(&self, node: &NodeId, now: WallTime) -> u32 {
        let inner = self.inner();
        let Some(drain) = inner.drains.get(node) else { return 0 };
        let on_way = inner.moving.values().filter(|moving| moving.from == *node).count();
        let free = MOVING_MAX.saturating_sub(u32::try_from(on_way).unwrap_or(u32::MAX));
        let waited = now.0.saturating_sub(drain.next_at.0);
        // Farther ahead it never is, unless the wall clock was set back.
        if (-1_000_000..0).contains(&waited) {
            return 0;
        }
        let due = waited.max(0) / self.pace.every_us() + 1;
        u32::try_from(due).unwrap_or(u32::MAX).min(self.pace.burst()).min(free)
    }

    /// Whether a call is on its way.
    #[must_use]
    pub fn has(&self, call: &CallId) -> bool {
        self.inner().moving.contains_key(call)
    }

    /// A call begins to move: the other node was asked to open a session.
    pub fn begin(&self, call: CallId, generation: Gen, [from, to]: [NodeId; 2], now: WallTime) {
        let mut inner = self.inner();
        if let Some(drain) = inner.drains.get_mut(&from) {
            // What was not used is lost: a node that could not move calls for a while makes no herd.
            let every = self.pace.every_us();
            let missed_max = every.saturating_mul(i64::from(self.pace.burst()) - 1);
            let earliest = WallTime(now.0.saturating_sub(missed_max));
            drain.next_at = drain.next_at.clamp(earliest, now).plus_us(every);
        }
        let stage = Stage::Preparing { until: after(now, PREPARED_WITHIN) };
        inner.moving.insert(call, Moving { from, to, generation, stage });
    }

    /// A node says that a session is open.
    pub fn prepared(&self, call: &CallId, generation: Gen) {
        if let Some(moving) = self.inner().moving.get_mut(call)
            && moving.generation.next() == generation
            && matches!(moving.stage, Stage::Preparing { .. })
        {
            moving.stage = Stage::Ready;
        }
    }

    /// What is due at this moment.
    #[must_use]
    pub fn due(&self, now: WallTime) -> Due {
        let mut inner = self.inner();
        let Inner { drains, moving } = &mut *inner;
        let mut due = Due::default();
        moving.retain(|call, moving| {
            let drain = drains.get(&moving.from);
            let is_late = drain.is_some_and(|drain| now >= drain.deadline_at);
            match moving.stage.next(is_late, now) {
                Next::Wait => true,
                Next::GiveUp => {
                    due.given_up += 1;
                    false
                }
                Next::Leave(how, stage) => {
                    due.steps.push(moving.step(call, how));
                    moving.stage = stage;
                    true
                }
            }
        });
        due
    }

    /// A relay says something of a call. Gives what became of its move, if it had one and that is
    /// over.
    pub fn hear(&self, call: &CallRef, event: &CallEvent) -> Option<Outcome> {
        let ends = |reason: EndReason| reason != EndReason::Drained;
        let mut inner = self.inner();
        let moving = inner.moving.get(&call.id)?;
        let is_next = call.generation > moving.generation;
        let outcome = match event {
            CallEvent::StreamStarted { .. } if is_next => match moving.stage {
                Stage::Forced { .. } => Outcome::Forced,
                Stage::Preparing { .. } | Stage::Ready | Stage::Leaving { .. } => Outcome::Moved,
            },
            CallEvent::Ending { .. } => Outcome::Ended,
            CallEvent::StreamEnded { reason, .. } if ends(*reason) && !is_next => Outcome::Ended,
            CallEvent::StreamStarted { .. }
            | CallEvent::StreamRefused { .. }
            | CallEvent::AgentReady { .. }
            | CallEvent::Turn(_)
            | CallEvent::BargeIn(_)
            | CallEvent::AgentReplaced(_)
            | CallEvent::Dtmf { .. }
            | CallEvent::ToolIntended(_)
            | CallEvent::Tool(_)
            | CallEvent::CommandDone { .. }
            | CallEvent::StreamLeaving { .. }
            | CallEvent::StreamEnded { .. }
            | CallEvent::Unknown => return None,
        };
        let moving = inner.moving.remove(&call.id)?;
        if let Some(drain) = inner.drains.get_mut(&moving.from) {
            drain.moved += u32::from(outcome != Outcome::Ended);
            drain.forced += u32::from(outcome == Outcome::Forced);
        }
        Some(outcome)
    }

    /// Where a call goes on, as far as this instance moves it.
    #[must_use]
    pub fn target(&self, call: &CallId) -> Option<NodeId> {
        self.inner().moving.get(call).map(|moving| moving.to.clone())
    }

    /// How far a node's drain is; `None` when it does not drain.
    #[must_use]
    pub fn progress(&self, node: &NodeId) -> Option<Progress> {
        let inner = self.inner();
        let Drain { began_at, deadline_at, moved, forced, .. } = *inner.drains.get(node)?;
        let on_way = inner.moving.values().filter(|moving| moving.from == *node).count();
        let moving = u32::try_from(on_way).unwrap_or(u32::MAX);
        Some(Progress { began_at, deadline_at, moved, forced, moving })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in it can be half-changed in a way that hurts more than no moves at all.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// Between two calls that begin to move.
    fn every_us(self) -> i64 {
        1_000_000 / i64::from(self.per_second.max(1))
    }

    /// How many may begin at once: what falls due in half a second, which is two looks.
    fn burst(self) -> u32 {
        (self.per_second / 2).max(1)
    }
}

/// How a call is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    BetweenTurns,
    AtOnce,
    NotAnyMore,
}

/// What follows for a call.
enum Next {
    Wait,
    Leave(How, Stage),
    GiveUp,
}

impl Stage {
    fn next(self, is_late: bool, now: WallTime) -> Next {
        let at_once =
            || Next::Leave(How::AtOnce, Self::Forced { until: after(now, ARRIVES_WITHIN) });
        match self {
            Self::Ready if !is_late => {
                let until = after(now, LEAVES_WITHIN + ARRIVES_WITHIN);
                Next::Leave(How::BetweenTurns, Self::Leaving { until })
            }
            Self::Ready | Self::Leaving { .. } if is_late => at_once(),
            // Its session is not there in time, and by now everything is better than to stay.
            Self::Preparing { until } if now >= until && is_late => at_once(),
            Self::Preparing { until } | Self::Leaving { until } | Self::Forced { until }
                if now >= until =>
            {
                Next::GiveUp
            }
            Self::Preparing { .. } | Self::Ready | Self::Leaving { .. } | Self::Forced { .. } => {
                Next::Wait
            }
        }
    }
}

impl Moving {
    fn step(&self, call: &CallId, how: How) -> Step {
        let (within, anyway) = match how {
            How::BetweenTurns => (LEAVES_WITHIN, false),
            How::AtOnce => (Duration::ZERO, true),
            // A wish that is over as soon as it is heard takes the place of the one before it.
            How::NotAnyMore => (Duration::ZERO, false),
        };
        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        let to = Some(self.to.clone());
        Step {
            node: self.from.clone(),
            call: call.clone(),
            generation: self.generation,
            command: Command::Leave { within_ms, anyway, to },
        }
    }
}

fn after(now: WallTime, span: Duration) -> WallTime {
    now.plus_us(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// How long the other node may take to open a session: a provider's takes 300 ms, and a relay dials
/// again for 8 s. Doubled, a provider that is away holds twice as many moves.
const PREPARED_WITHIN: Duration = Duration::from_secs(5);
/// How long a call waits for a moment between two turns before it is asked again. With the time
/// before and behind it, it stays below the 60 s for which a prepared session waits.
const LEAVES_WITHIN: Duration = Duration::from_secs(40);
/// From leaving to the new stream: a commit, the carrier's question, its new socket. The field's
/// figure is 0.6 s.
const ARRIVES_WITHIN: Duration = Duration::from_secs(8);
/// Calls of one node that are on their way at once. When full, none begins.
const MOVING_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use link::id::TenantId;

    const NOW: WallTime = WallTime(1_795_514_400_000_000);

    fn at(ms: i64) -> WallTime {
        NOW.plus_us(ms * 1_000)
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn call(n: u32) -> CallId {
        CallId::new(format!("c_{n}")).unwrap()
    }

    fn set<const N: usize>(names: [&str; N]) -> BTreeSet<NodeId> {
        names.into_iter().map(node).collect()
    }

    /// Two nodes, of which `a` drains for 100 s, four calls a second.
    fn draining() -> Moves {
        let moves = Moves::new(Pace { per_second: 4, deadline: Duration::from_secs(100) });
        assert!(moves.follow(&set(["a", "b"]), &set(["a"]), NOW).is_empty());
        moves
    }

    fn begin(moves: &Moves, n: u32, ms: i64) {
        moves.begin(call(n), Gen(3), [node("a"), node("b")], at(ms));
    }

    fn of(n: u32, generation: u32) -> CallRef {
        CallRef { id: call(n), tenant: TenantId::default(), generation: Gen(generation) }
    }

    fn leave(within_ms: u32, anyway: bool) -> Step {
        let command = Command::Leave { within_ms, anyway, to: Some(node("b")) };
        Step { node: node("a"), call: call(1), generation: Gen(3), command }
    }

    fn started() -> CallEvent {
        CallEvent::StreamStarted { stream_sid: "MZ1".into() }
    }

    fn ended(reason: EndReason) -> CallEvent {
        CallEvent::StreamEnded { reason, after_ms: 1, frames_up: 0, frames_down: 0 }
    }

    #[test]
    fn a_call_leaves_once_its_session_is_open_and_has_moved_when_its_stream_is_there() {
        let moves = draining();
        begin(&moves, 1, 0);
        assert_eq!(moves.due(at(4_999)), Due::default());
        moves.prepared(&call(1), Gen(3));
        assert_eq!(moves.due(at(4_999)), Due::default(), "the session of another stream");
        moves.prepared(&call(1), Gen(4));
        assert_eq!(moves.due(at(4_999)).steps, [leave(40_000, false)]);
        assert_eq!(moves.due(at(5_000)), Due::default(), "it is told once");
        assert_eq!(moves.target(&call(1)), Some(node("b")));
        for old in [ended(EndReason::Drained), CallEvent::StreamLeaving { to: None }] {
            assert_eq!(moves.hear(&of(1, 3), &old), None);
        }
        assert_eq!(moves.hear(&of(1, 4), &started()), Some(Outcome::Moved));
        assert_eq!(moves.target(&call(1)), None);
        let progress = moves.progress(&node("a")).unwrap();
        assert_eq!((progress.moved, progress.forced, progress.moving), (1, 0, 0));
    }

    #[test]
    fn a_call_stays_when_no_session_is_open_in_time() {
        let moves = draining();
        begin(&moves, 1, 0);
        assert_eq!(moves.due(at(5_000)), Due { steps: Vec::new(), given_up: 1 });
        assert!(!moves.has(&call(1)));
    }

    #[test]
    fn a_call_that_finds_no_moment_is_given_up_and_may_begin_again() {
        let moves = draining();
        begin(&moves, 1, 0);
        moves.prepared(&call(1), Gen(4));
        assert_eq!(moves.due(at(0)).steps.len(), 1);
        assert_eq!(moves.due(at(47_999)), Due::default());
        assert_eq!(moves.due(at(48_000)).given_up, 1);
    }

    #[test]
    fn behind_the_deadline_a_call_leaves_at_once_with_or_without_a_session() {
        let moves = draining();
        begin(&moves, 1, 60_000);
        moves.prepared(&call(1), Gen(4));
        assert_eq!(moves.due(at(60_000)).steps, [leave(40_000, false)]);
        assert_eq!(moves.due(at(99_999)), Due::default());
        assert_eq!(moves.due(at(100_000)).steps, [leave(0, true)]);
        assert_eq!(moves.due(at(100_001)), Due::default());
        assert_eq!(moves.hear(&of(1, 4), &started()), Some(Outcome::Forced));
        begin(&moves, 1, 101_000);
        assert_eq!(moves.due(at(105_999)), Due::default());
        assert_eq!(moves.due(at(106_000)).steps, [leave(0, true)]);
        assert_eq!(moves.due(at(114_000)).given_up, 1);
        let progress = moves.progress(&node("a")).unwrap();
        assert_eq!((progress.moved, progress.forced, progress.moving), (1, 1, 0));
    }

    #[test]
    fn so_many_calls_begin_in_a_second_and_no_herd_after_a_pause() {
        let moves = draining();
        assert_eq!(moves.room(&node("b"), NOW), 0, "it does not drain");
        let mut begun = 0;
        for ms in (0..2_000).step_by(250) {
            for _ in 0..moves.room(&node("a"), at(ms)) {
                begun += 1;
                begin(&moves, begun, ms);
            }
            assert_eq!(moves.room(&node("a"), at(ms)), 0);
        }
        assert_eq!(begun, 8);
        for room in [2, 1, 0] {
            assert_eq!(moves.room(&node("a"), at(60_000)), room);
            begin(&moves, 100 + room, 60_000);
        }
    }

    #[test]
    fn a_call_that_ends_by_itself_has_not_moved() {
        let moves = draining();
        for (n, event) in [(1, ended(EndReason::CallerHungUp)), (2, ended(EndReason::CallerLost))] {
            begin(&moves, n, 0);
            assert_eq!(moves.hear(&of(n, 3), &event), Some(Outcome::Ended));
            assert_eq!(moves.hear(&of(n, 3), &event), None);
        }
        assert_eq!(moves.progress(&node("a")).unwrap().moved, 0);
    }

    #[test]
    fn a_node_that_takes_calls_again_keeps_those_that_have_not_left() {
        let moves = draining();
        begin(&moves, 1, 0);
        moves.prepared(&call(1), Gen(4));
        assert_eq!(moves.due(at(0)).steps.len(), 1);
        begin(&moves, 2, 0);
        assert_eq!(moves.follow(&set(["a", "b"]), &set([]), at(10)), [leave(0, false)]);
        assert!(!moves.has(&call(1)) && !moves.has(&call(2)));
        assert_eq!(moves.progress(&node("a")), None);
    }

    #[test]
    fn calls_of_a_node_that_is_gone_are_still_expected_where_they_go() {
        let moves = draining();
        begin(&moves, 1, 0);
        assert!(moves.follow(&set(["b"]), &set([]), at(10)).is_empty());
        assert_eq!(moves.target(&call(1)), Some(node("b")));
        assert_eq!(moves.due(at(5_000)).given_up, 1);
        begin(&moves, 1, 6_000);
        moves.let_go();
        assert_eq!(moves.target(&call(1)), None);
    }
}

//! Empties nodes that drain: gives their calls to others, one after the other.
//!
//! A node drains when it says so in its load: it was told to stop, or an operator wants it empty. One
//! instance moves its calls: the one that numbers events. It alone hears what relays say of their
//! calls, there is one of it at a time, and when it changes, the next one begins where the calls are
//! then. Which calls are where stands in the database, how far each is in [`Moves`](super::moves).
//!
//! Where no other node takes calls nothing moves: the calls end in their own time, as long as the
//! draining node waits.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use link::id::{NodeId, WallTime};
use link::message::MOVES_SINCE;
use tokio::time::MissedTickBehavior;

use super::moves::{Progress, Step};
use super::nodes::NodeState;
use super::orders::Order;
use super::placement::Wish;
use crate::clock;
use crate::metrics::Moving;
use crate::plane::Plane;
use crate::sequencer::LeaseState;
use crate::store::call::Call;
use crate::twilio;

/// Moves calls until the plane stops.
pub async fn run(plane: Arc<Plane>) {
    tokio::select! {
        never = keep_moving(&plane) => match never {},
        // In the middle of a round, too: a database that does not answer holds nothing up.
        () = plane.shutdown.cancelled() => {}
    }
}

async fn keep_moving(plane: &Plane) -> Infallible {
    let mut rounds = tokio::time::interval(ROUND_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        rounds.tick().await;
        round(plane, &mut told).await;
    }
}

/// When the log was last told how far drains are.
#[derive(Debug, Default)]
struct Told(BTreeMap<NodeId, WallTime>);

async fn round(plane: &Plane, told: &mut Told) {
    let now = clock::wall();
    let nodes = plane.nodes.list();
    let draining: Vec<&NodeState> = nodes.iter().filter(|node| drains(node)).collect();
    let there = nodes.iter().map(|node| node.node.clone()).collect();
    let names: BTreeSet<NodeId> = draining.iter().map(|node| node.node.clone()).collect();
    let stay = plane.moves.follow(&there, &names, now);
    let lease = *plane.sequencer.state().borrow();
    match lease {
        LeaseState::Held => {}
        // Nobody else moves them yet.
        LeaseState::Failing => return,
        LeaseState::Waiting => {
            plane.moves.let_go();
            return;
        }
    }
    let due = plane.moves.due(now);
    plane.metrics.moving(Moving::GivenUp, due.given_up);
    for step in stay.into_iter().chain(due.steps) {
        tell(plane, step);
    }
    for node in draining {
        told.log(plane, node, now);
        if node.version.minor >= MOVES_SINCE {
            begin_some(plane, &node.node, now).await;
        }
    }
    told.0.retain(|node, _| names.contains(node));
}

fn drains(node: &NodeState) -> bool {
    node.load.is_some_and(|load| load.draining)
}

/// An order that is lost is given again when its move is given up.
fn tell(plane: &Plane, step: Step) {
    let Step { node, call, generation, command } = step;
    let order = Order::Do { call: call.clone(), generation, id: None, command };
    if let Err(error) = plane.nodes.send(&node, order) {
        tracing::warn!(%call, %node, %error, "a node is not told of a call that moves");
    }
}

/// Begins as many moves as are due, oldest calls first.
async fn begin_some(plane: &Plane, node: &NodeId, now: WallTime) {
    let room = plane.moves.room(node, now);
    if room == 0 {
        return;
    }
    let calls = match plane.store.active_on(node, LISTED_MAX).await {
        Ok(calls) => calls,
        Err(error) => {
            tracing::warn!(%node, error = error.explain(), "the calls of a node are not known");
            return;
        }
    };
    let waiting = calls.into_iter().filter(|call| !plane.moves.has(&call.id));
    for call in waiting.take(usize::try_from(room).unwrap_or(usize::MAX)) {
        if !begin(plane, node, &call, now).await {
            plane.metrics.moving(Moving::Unplaced, 1);
            return;
        }
        plane.metrics.moving(Moving::Begun, 1);
    }
}

/// Has a session opened for a call at another node; whether there is one that takes it.
async fn begin(plane: &Plane, from: &NodeId, call: &Call, now: WallTime) -> bool {
    let to = plane.nodes.place(Wish::from(&call.id).leaving(Some(from)), now);
    let to = to.ok().filter(|to| to != from);
    let Some(to) = to.filter(|to| can_continue(plane, to)) else { return false };
    twilio::expect_next(plane, call, &to).await;
    tracing::debug!(call = %call.id, %from, %to, "a call begins to move");
    plane.moves.begin(call.id.clone(), call.generation, [from.clone(), to], now);
    true
}

/// Whether a node opens sessions for calls that go on there.
fn can_continue(plane: &Plane, node: &NodeId) -> bool {
    plane.nodes.state(node).is_some_and(|state| state.version.minor >= MOVES_SINCE)
}

impl Told {
    /// Says every few seconds how far a drain is.
    fn log(&mut self, plane: &Plane, node: &NodeState, now: WallTime) {
        let Some(progress) = plane.moves.progress(&node.node) else { return };
        let last = self.0.get(&node.node);
        if last.is_some_and(|last| (now.0 - last.0).unsigned_abs() < LOG_EVERY_US) {
            return;
        }
        self.0.insert(node.node.clone(), now);
        let Progress { moved, forced, moving, deadline_at, .. } = progress;
        let calls_left = node.load.map_or(0, |load| load.calls);
        let seconds_left = deadline_at.seconds() - now.seconds();
        let node = &node.node;
        tracing::info!(%node, calls_left, moving, moved, forced, seconds_left, "a node drains");
    }
}

/// How often is looked for what is due: what a call that could leave waits at most.
const ROUND_EVERY: Duration = Duration::from_millis(250);
/// How often the log says how far a drain is.
const LOG_EVERY_US: u64 = 5_000_000;
/// The calls of a node that are looked at: more than may be on their way at once, and those that may
/// begin beside them.
const LISTED_MAX: u32 = 500;

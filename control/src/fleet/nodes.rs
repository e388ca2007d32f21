//! Who is there: the relays whose link is up, and how each is doing.
//!
//! Memory only. After a restart of control, relays are back within seconds and say everything
//! again; calls do not notice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::id::{CallId, Epoch, NodeId, WallTime};
use link::message::{Load, Version};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::orders::{Intake, Order, Unsent};
use super::placement::{Candidate, Weight, choose};
use super::told::Told;
use crate::clock;
use crate::store::{Store, StoreError};

/// The relays of the fleet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    /// What operators have said of nodes, those that are away included. Never locked together with
    /// the nodes.
    weights: Mutex<Arc<BTreeMap<NodeId, Weight>>>,
    /// Held while they are read, so that what was read earlier does not come later.
    weighing: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct Node {
    stay: u64,
    epoch: Epoch,
    public_url: String,
    software: String,
    region: Option<String>,
    version: Version,
    joined_at: WallTime,
    /// What it said last; `None` before it said anything.
    load: Option<Load>,
    heard_at: WallTime,
    /// Calls that were sent to it and are not in its load yet.
    promised: VecDeque<(CallId, WallTime)>,
    /// Which agents it knows, as far as this connection has told it.
    pub(super) told: Told,
    orders: mpsc::Sender<Order>,
    replaced: CancellationToken,
}

/// A relay that comes in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its name.
    pub node: NodeId,
    /// The life of its process.
    pub epoch: Epoch,
    /// The origin at which the carrier reaches it, `wss://host[:port]`.
    pub public_url: String,
    /// Its version, for people.
    pub software: String,
    /// Where it stands, for people; `None` when it does not say.
    pub region: Option<String>,
    /// The version of the link that it speaks.
    pub version: Version,
}

/// How a node is doing, for probes and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub node: NodeId,
    /// Its version.
    pub software: String,
    /// Where it stands; `None` when it does not say.
    pub region: Option<String>,
    /// The version of the link that it speaks.
    pub version: Version,
    /// What it said last; `None` before it said anything.
    pub load: Option<Load>,
    /// How many calls it gets against others.
    pub weight: Weight,
    /// Since when its link is up.
    pub joined_at: WallTime,
    /// When it said last how it is doing; since when it is in, before that.
    pub heard_at: WallTime,
}

impl Nodes {
    /// A fleet without relays.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a relay in. Of two with the same name the newer stays: a relay that starts again is
    /// here before its old connection is known to be dead.
    #[must_use]
    pub fn join(&self, arrival: Arrival) -> (Stay, mpsc::Receiver<Order>) {
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let replaced = CancellationToken::new();
        let mut nodes = self.nodes();
        let stay = nodes.get(&arrival.node).map_or(0, |older| {
            if older.epoch != arrival.epoch {
                tracing::info!(node = %arrival.node, "a new life of a node replaces the old");
            }
            // The old connection may be half dead: it is told to end, and not waited for.
            older.replaced.cancel();
            older.stay + 1
        });
        let Arrival { node, epoch, public_url, software, region, version } = arrival;
        let (promised, now) = (VecDeque::new(), clock::wall());
        let entry = Node {
            stay,
            epoch,
            public_url,
            software,
            region,
            version,
            joined_at: now,
            load: None,
            heard_at: now,
            promised,
            told: Told::default(),
            orders,
            replaced: replaced.clone(),
        };
        nodes.insert(node.clone(), entry);
        drop(nodes);
        (Stay { nodes: self.clone(), node, stay, replaced }, waiting)
    }

    /// Chooses the node for a call's next stream and counts the call there until its load does.
    #[must_use]
    pub fn place(&self, call: &CallId, now: WallTime) -> Option<NodeId> {
        let weights = self.weights();
        let weight_of = |node: &NodeId| weights.get(node).copied().unwrap_or_default();
        let mut nodes = self.nodes();
        for node in nodes.values_mut() {
            // By the distance, not the sign: a wall clock that is set back must not keep promises
            // for ever.
            let is_late = |at: WallTime| (now.0 - at.0).unsigned_abs() > PROMISE_US;
            node.promised.retain(|(promised, at)| promised != call && !is_late(*at));
        }
        let candidates = nodes.iter().map(|(name, node)| node.candidate(name, weight_of(name)));
        let chosen = choose(candidates)?.clone();
        let node = nodes.get_mut(&chosen)?;
        // Forgetting one only makes the node look a little emptier than it is.
        if node.promised.len() == PROMISES_MAX {
            node.promised.pop_front();
        }
        node.promised.push_back((call.clone(), now));
        Some(chosen)
    }

    /// The same, but while no relay has said anything yet, waits a moment for one: control has
    /// just started, or the fleet has.
    ///
    /// # Errors
    /// When no node takes the call.
    pub async fn place_soon(&self, call: &CallId, within: Duration) -> Result<NodeId, Unplaced> {
        let mut changes = self.inner.changes.subscribe();
        let placed = async {
            loop {
                // Before the look, so that a load that arrives during it wakes this call again.
                changes.mark_unchanged();
                if let Some(node) = self.place(call, clock::wall()) {
                    return Ok(node);
                }
                // A fleet that has spoken and is full stays full for longer than a caller should
                // wait.
                if self.nodes().values().any(|node| node.load.is_some()) {
                    return Err(Unplaced::Full);
                }
                // The sender lives as long as `self`.
                changes.changed().await.map_err(|_| Unplaced::Nobody)?;
            }
        };
        tokio::time::timeout(within, placed).await.unwrap_or(Err(Unplaced::Nobody))
    }

    /// Where the carrier opens a stream on this node; `None` when its link is down.
    #[must_use]
    pub fn stream_url(&self, node: &NodeId) -> Option<String> {
        self.nodes().get(node).map(|entry| stream_url(&entry.public_url, node))
    }

    /// Where a web page opens a stream on this node; `None` when its link is down.
    #[must_use]
    pub fn page_url(&self, node: &NodeId) -> Option<String> {
        self.nodes().get(node).map(|entry| format!("{}/v1/stream/{node}", entry.public_url))
    }

    /// Tells a node something about a call, without waiting: what is in its queue is as good as
    /// told, unless its link breaks at that moment.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn send(&self, node: &NodeId, order: Order) -> Result<(), Unsent> {
        let nodes = self.nodes();
        let entry = nodes.get(node).ok_or(Unsent::Away)?;
        entry.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unsent::Full,
            mpsc::error::TrySendError::Closed(_) => Unsent::Away,
        })
    }

    /// All nodes, by name.
    #[must_use]
    pub fn list(&self) -> Vec<NodeState> {
        let weights = self.weights();
        let state = |(node, entry): (&NodeId, &Node)| entry.state(node, &weights);
        self.nodes().iter().map(state).collect()
    }

    /// One node; `None` when its link is down.
    #[must_use]
    pub fn state(&self, node: &NodeId) -> Option<NodeState> {
        let weights = self.weights();
        self.nodes().get(node).map(|entry| entry.state(node, &weights))
    }

    /// Reads what operators have said of nodes, in place of what was known of that.
    ///
    /// # Errors
    /// When the database fails; what was known then stays.
    pub async fn weigh(&self, store: &Store) -> Result<(), StoreError> {
        let _one_at_a_time = self.inner.weighing.lock().await;
        self.set_weights(store.node_weights().await?);
        Ok(())
    }

    fn set_weights(&self, weights: BTreeMap<NodeId, Weight>) {
        *self.inner.weights.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(weights);
    }

    fn weights(&self) -> Arc<BTreeMap<NodeId, Weight>> {
        let weights = self.inner.weights.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&weights)
    }

    /// Waits until a node says that it does what it was told of new calls; whether it has, in time.
    pub async fn obeys(&self, node: &NodeId, intake: Intake, within: Duration) -> bool {
        let mut changes = self.inner.changes.subscribe();
        let wanted = intake == Intake::Drained;
        let said = async {
            loop {
                // Before the look, so that what is said during it is looked at again.
                changes.mark_unchanged();
                let load = self.state(node).and_then(|state| state.load);
                if load.is_some_and(|load| load.draining == wanted) {
                    return true;
                }
                if changes.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(within, said).await.unwrap_or(false)
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node>> {
        self.inner.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn candidate<'a>(&self, node: &'a NodeId, weight: Weight) -> Candidate<'a> {
        let promised = u32::try_from(self.promised.len()).unwrap_or(u32::MAX);
        // A node that has not said how it is doing takes no calls.
        let load = self.load.unwrap_or_default();
        Candidate {
            node,
            calls: load.calls.saturating_add(promised),
            calls_max: load.calls_max,
            ready: load.ready,
            weight,
        }
    }

    fn state(&self, node: &NodeId, weights: &BTreeMap<NodeId, Weight>) -> NodeState {
        NodeState {
            node: node.clone(),
            software: self.software.clone(),
            region: self.region.clone(),
            version: self.version,
            load: self.load,
            weight: weights.get(node).copied().unwrap_or_default(),
            joined_at: self.joined_at,
            heard_at: self.heard_at,
        }
    }
}

/// Why no node takes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// No relay has said anything yet; one may a moment later.
    #[error("no relay is connected")]
    Nobody,
    /// Those that are there take no more calls.
    #[error("no relay takes more calls")]
    Full,
}

/// Where the carrier opens a stream on a node.
#[must_use]
pub fn stream_url(public_url: &str, node: &NodeId) -> String {
    format!("{public_url}/v1/m/{node}")
}

/// A relay's time in the fleet; it ends when this is dropped.
#[derive(Debug)]
pub struct Stay {
    nodes: Nodes,
    node: NodeId,
    stay: u64,
    replaced: CancellationToken,
}

impl Stay {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The node says how it is doing.
    pub fn set_load(&self, load: Load) {
        self.entry(|entry| (entry.load, entry.heard_at) = (Some(load), clock::wall()));
        // Whoever waits looks at everything again, so a count is enough of a message.
        self.nodes.inner.changes.send_modify(|changes| *changes += 1);
    }

    /// A stream of the call has begun there or was refused: the promise is kept.
    pub fn settle(&self, call: &CallId) {
        self.entry(|entry| entry.promised.retain(|(promised, _)| promised != call));
    }

    /// Cancelled when another connection has taken the node's place.
    #[must_use]
    pub fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }

    fn entry(&self, change: impl FnOnce(&mut Node)) {
        let mut nodes = self.nodes.nodes();
        if let Some(entry) = nodes.get_mut(&self.node).filter(|entry| entry.stay == self.stay) {
            change(entry);
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut nodes = self.nodes.nodes();
        if nodes.get(&self.node).is_some_and(|entry| entry.stay == self.stay) {
            nodes.remove(&self.node);
        }
    }
}

/// Orders that a node may have waiting. When full, the one who orders is told so.
const ORDERS_MAX: usize = 64;

/// Calls sent to a node that it has not counted yet. When full, the oldest is forgotten.
const PROMISES_MAX: usize = 4_096;

/// How long a call counts where it was sent although no stream has begun. Ticket to stream takes
/// under a second; the caller may have hung up in between.
const PROMISE_US: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use link::id::Gen;
    use link::message::Command;

    const NOW: WallTime = WallTime(1_795_514_400_000_000);

    fn join(nodes: &Nodes, name: &str, epoch: u64) -> Stay {
        join_with_orders(nodes, name, epoch).0
    }

    fn join_with_orders(nodes: &Nodes, name: &str, epoch: u64) -> (Stay, mpsc::Receiver<Order>) {
        nodes.join(Arrival {
            node: NodeId::new(name).unwrap(),
            epoch: Epoch(epoch),
            public_url: "wss://media.example".into(),
            software: "test".into(),
            region: None,
            version: link::message::VERSION,
        })
    }

    fn load(calls: u32) -> Load {
        Load { calls, calls_max: 3, ready: true, ..Load::default() }
    }

    fn call(n: usize) -> CallId {
        CallId::new(format!("c_{n}")).unwrap()
    }

    #[test]
    fn calls_that_come_at_once_are_spread_before_any_load_is_told() {
        let nodes = Nodes::new();
        let (a, b) = (join(&nodes, "a", 1), join(&nodes, "b", 1));
        a.set_load(load(0));
        b.set_load(load(1));
        let placed: Vec<_> =
            (0..6).map(|n| nodes.place(&call(n), NOW).map(|node| node.to_string())).collect();
        let names: Vec<_> = placed.iter().map(|node| node.as_deref().unwrap_or("-")).collect();
        assert_eq!(names, ["a", "a", "b", "a", "b", "-"]);
    }

    #[test]
    fn a_weight_holds_for_nodes_that_are_there_and_for_one_that_comes() {
        let nodes = Nodes::new();
        let names = ["a", "b"].map(|name| NodeId::new(name).unwrap());
        let a = join(&nodes, "a", 1);
        a.set_load(load(0));
        let none = Weight::new(0).unwrap();
        nodes.set_weights(names.clone().map(|name| (name, none)).into());
        assert_eq!(nodes.place(&call(1), NOW), None);
        let b = join(&nodes, "b", 1);
        b.set_load(load(0));
        assert_eq!(nodes.place(&call(1), NOW), None);
        assert_eq!(nodes.state(&names[1]).unwrap().weight, none);
        nodes.set_weights([(names[0].clone(), none)].into());
        assert_eq!(nodes.place(&call(1), NOW).as_ref(), Some(&names[1]));
        assert_eq!(nodes.state(&names[1]).unwrap().weight, Weight::FULL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_obeys_when_it_says_so_and_not_before() {
        let (nodes, within) = (Nodes::new(), Duration::from_secs(2));
        let a = join(&nodes, "a", 1);
        a.set_load(load(0));
        assert!(nodes.obeys(a.node(), Intake::Open, within).await);
        assert!(!nodes.obeys(a.node(), Intake::Drained, within).await);
        let (obeys, ()) = tokio::join!(nodes.obeys(a.node(), Intake::Drained, within), async {
            a.set_load(Load { draining: true, ready: false, ..load(1) });
        });
        assert!(obeys);
    }

    #[test]
    fn a_promise_ends_with_its_stream_or_after_a_while_and_counts_once() {
        let nodes = Nodes::new();
        let a = join(&nodes, "a", 1);
        a.set_load(Load { calls_max: 1, ..load(0) });
        assert!(nodes.place(&call(1), NOW).is_some());
        assert!(nodes.place(&call(1), NOW).is_some(), "the same call asks again");
        assert!(nodes.place(&call(2), NOW).is_none());
        a.settle(&call(1));
        assert!(nodes.place(&call(2), NOW).is_some());
        assert!(nodes.place(&call(3), NOW).is_none());
        assert!(nodes.place(&call(3), NOW.plus_us(10_000_001)).is_some());
    }

    #[test]
    fn a_newer_connection_replaces_the_older_and_outlives_its_end() {
        let nodes = Nodes::new();
        let old = join(&nodes, "a", 1);
        let new = join(&nodes, "a", 2);
        assert!(old.replaced().is_cancelled() && !new.replaced().is_cancelled());
        new.set_load(load(0));
        old.set_load(load(3));
        drop(old);
        assert_eq!(nodes.list()[0].load, Some(load(0)));
        drop(new);
        assert!(nodes.list().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_the_first_relay_but_not_for_a_full_one() {
        let nodes = Nodes::new();
        let within = Duration::from_secs(1);
        assert_eq!(nodes.place_soon(&call(1), within).await, Err(Unplaced::Nobody));
        let a = join(&nodes, "a", 1);
        let one = call(1);
        let (placed, ()) = tokio::join!(nodes.place_soon(&one, within), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            a.set_load(load(0));
        });
        assert_eq!(placed.as_ref(), Ok(a.node()));
        a.set_load(load(3));
        let two = call(2);
        let full = tokio::time::timeout(Duration::from_millis(1), nodes.place_soon(&two, within));
        assert_eq!(full.await, Ok(Err(Unplaced::Full)));
    }

    fn hang_up(call: CallId) -> Order {
        Order::Do { call, generation: Gen(0), id: None, command: Command::HangUp }
    }

    #[test]
    fn an_order_reaches_its_node_or_says_why_not() {
        let nodes = Nodes::new();
        let (a, waiting) = join_with_orders(&nodes, "a", 1);
        let order = hang_up(call(1));
        for _ in 0..ORDERS_MAX {
            assert_eq!(nodes.send(a.node(), order.clone()), Ok(()));
        }
        assert_eq!(nodes.send(a.node(), order.clone()), Err(Unsent::Full));
        drop(waiting);
        assert_eq!(nodes.send(a.node(), order.clone()), Err(Unsent::Away));
        let name = a.node().clone();
        drop(a);
        assert_eq!(nodes.send(&name, order), Err(Unsent::Away));
    }
}

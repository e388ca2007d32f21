//! Who is there: the relays whose link is up, and how each is doing.
//!
//! Memory only. After a restart of control, relays are back within seconds and say everything
//! again; calls do not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::beat::{Beat, NodeBeat};
use link::id::{CallId, Epoch, NodeId, WallTime};
use link::message::{Load, Version};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::canary::Side;
use super::orders::{Intake, Order, Unsent};
pub use super::placement::Unplaced;
use super::placement::{Candidate, Snapshot, Weight, Why, Wish};
use super::promises::{Promises, Stage};
use super::regions::Regions;
use super::standing::Standing;
use super::tally::{Group, Outcome, Tally};
use super::told::Told;
use super::trial::Trial;
use super::vital::{Suspicion, Vital};
use crate::clock;
use crate::store::{Store, StoreError};

/// The relays of the fleet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    /// Which regions are near to what.
    regions: Regions,
    /// What is tried, and how it fares. Never locked together with the nodes.
    pub(super) trial: Mutex<Arc<Trial>>,
    /// What was counted since it was last written down. Never locked together with the nodes.
    pub(super) tally: Mutex<Tally>,
    /// What operators have said of nodes, those that are away included. Never locked together with
    /// the nodes.
    weights: Mutex<Arc<BTreeMap<NodeId, Weight>>>,
    /// Held while they are read, so that what was read earlier does not come later.
    weighing: tokio::sync::Mutex<()>,
    /// Whom operators do not let in any more. Never locked together with the nodes.
    revoked: Mutex<Arc<BTreeSet<NodeId>>>,
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
    /// What its beats say; an older relay has none.
    vital: Vital,
    /// Calls that were sent to it and are not in its load yet.
    promises: Promises,
    /// Streams that have begun since it said last how many calls it has.
    begun: u32,
    /// Which agents it knows, as far as this connection has told it.
    pub(super) told: Told,
    orders: mpsc::Sender<Order>,
    replaced: CancellationToken,
    revoked: CancellationToken,
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
    /// Seats that are kept here: for calls on their way to it, and for those that have begun since
    /// it said last how many it has.
    pub reserved: u32,
    /// Why it takes calls, or takes none.
    pub why: Why,
    /// How many more calls it takes at this moment.
    pub free: u32,
    /// Since when its link is up.
    pub joined_at: WallTime,
    /// When it said last how it is doing; since when it is in, before that.
    pub heard_at: WallTime,
    /// Why it gets no new calls although its link stands.
    pub suspicion: Option<Suspicion>,
    /// Media frames that it had moved in its life at its last beat; `None` when it does not beat.
    pub progress: Option<u64>,
    /// How far its wall clock is ahead of this control's, in microseconds, as far as its beats say.
    pub ahead_us: Option<i64>,
}

/// The life of a node's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Its number.
    pub epoch: Epoch,
    /// The origin at which the carrier reaches it.
    pub public_url: String,
}

impl Nodes {
    /// A fleet without relays.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, of which some regions are near to some ends of calls.
    #[must_use]
    pub fn in_regions(regions: Regions) -> Self {
        Self { inner: Arc::new(Inner { regions, ..Inner::default() }) }
    }

    /// Which regions are near to what.
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.inner.regions
    }

    /// Takes a relay in. Of two with the same name the newer stays: a relay that starts again is
    /// here before its old connection is known to be dead.
    #[must_use]
    pub fn join(&self, arrival: Arrival) -> (Stay, mpsc::Receiver<Order>) {
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let (replaced, revoked) = (CancellationToken::new(), CancellationToken::new());
        let mut nodes = self.nodes();
        let mut promises = Promises::default();
        let stay = nodes.get_mut(&arrival.node).map_or(0, |older| {
            if older.epoch != arrival.epoch {
                tracing::info!(node = %arrival.node, "a new life of a node replaces the old");
            }
            // The old connection may be half dead: it is told to end, and not waited for.
            older.replaced.cancel();
            // Streams that are on their way arrive at the new one.
            promises = std::mem::take(&mut older.promises);
            older.stay + 1
        });
        let Arrival { node, epoch, public_url, software, region, version } = arrival;
        let now = clock::wall();
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
            vital: Vital::new(clock::steady()),
            promises,
            begun: 0,
            told: Told::default(),
            orders,
            replaced: replaced.clone(),
            revoked: revoked.clone(),
        };
        nodes.insert(node.clone(), entry);
        drop(nodes);
        (Stay { nodes: self.clone(), node, stay, replaced, revoked }, waiting)
    }

    /// Chooses the node for a call's next stream and keeps a seat there, until the stream has begun,
    /// was refused, or did not come for ten seconds.
    ///
    /// Each instance counts what it has promised itself and what it is told has begun, and learns of
    /// the others' calls from the node's word, which follows every change of its calls. So between
    /// two words of a node the instance that numbers events promises it no more calls than it said
    /// it has seats free, and N instances together at most N times as many: the node is overbooked
    /// by N - 1 times its free seats. It refuses what is too many, and the call is placed again.
    ///
    /// # Errors
    /// When no node takes the call.
    pub fn place<'a>(&self, wish: impl Into<Wish<'a>>, now: WallTime) -> Result<NodeId, Unplaced> {
        let wish = wish.into();
        self.sweep(now);
        let (weights, trial) = (self.weights(), self.trial());
        let mut nodes = self.nodes();
        for node in nodes.values_mut() {
            node.promises.end(wish.call);
        }
        let snapshot = snapshot(&nodes, &weights, &trial, now);
        let chosen = snapshot.choose(&wish)?.clone();
        if let Some(node) = nodes.get_mut(&chosen) {
            node.promises.keep(wish.call.clone(), Stage::Chosen, now);
        }
        Ok(chosen)
    }

    /// Whoever opens the call's stream is told to do so at this node: the seat is kept there.
    pub fn asked_for(&self, node: &NodeId, call: &CallId, now: WallTime) {
        for (name, entry) in self.nodes().iter_mut() {
            if name == node {
                entry.promises.keep(call.clone(), Stage::Told, now);
            } else {
                entry.promises.end(call);
            }
        }
    }

    /// The call goes nowhere: no seat is kept for it.
    pub fn release(&self, call: &CallId) {
        for node in self.nodes().values_mut() {
            node.promises.end(call);
        }
    }

    /// A word of the node has come, whatever it says.
    pub fn heard(&self, node: &NodeId, now: WallTime) {
        if let Some(entry) = self.nodes().get_mut(node) {
            entry.heard_at = now;
        }
    }

    /// Frees the seats of calls that did not come.
    pub(super) fn sweep(&self, now: WallTime) {
        let trial = self.trial();
        let lapse = |(name, node): (&NodeId, &mut Node)| {
            let many = node.promises.lapse(now);
            (many > 0).then(|| (node.group(name, &trial), many))
        };
        let missed: Vec<_> = self.nodes().iter_mut().filter_map(lapse).collect();
        let mut tally = self.tally();
        for (group, many) in missed {
            tally.add(group, Outcome::Placed, many);
        }
    }

    /// The same, but while no relay has said anything yet, waits a moment for one: control has
    /// just started, or the fleet has.
    ///
    /// # Errors
    /// When no node takes the call.
    pub async fn place_soon<'a>(
        &self,
        wish: impl Into<Wish<'a>>,
        within: Duration,
    ) -> Result<NodeId, Unplaced> {
        let wish = wish.into();
        let mut changes = self.inner.changes.subscribe();
        let placed = async {
            loop {
                // Before the look, so that a load that arrives during it wakes this call again.
                changes.mark_unchanged();
                match self.place(wish.clone(), clock::wall()) {
                    Ok(node) => return Ok(node),
                    Err(Unplaced::Nobody) => {}
                    // A fleet that has spoken and is full stays full for longer than a caller
                    // should wait.
                    Err(Unplaced::Full) => return Err(Unplaced::Full),
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
        let now = clock::wall();
        self.sweep(now);
        let (weights, trial, nodes) = (self.weights(), self.trial(), self.nodes());
        let snapshot = snapshot(&nodes, &weights, &trial, now);
        // The snapshot is in the nodes' order.
        let both = nodes.values().zip(&snapshot.candidates);
        both.map(|(entry, candidate)| entry.state(&snapshot, candidate)).collect()
    }

    /// One node; `None` when its link is down.
    #[must_use]
    pub fn state(&self, node: &NodeId) -> Option<NodeState> {
        self.list().into_iter().find(|state| state.node == *node)
    }

    /// The lives of the processes that are there, and where the carrier reaches each.
    #[must_use]
    pub fn lives(&self) -> BTreeMap<NodeId, Life> {
        let life = |(node, entry): (&NodeId, &Node)| {
            let Node { epoch, public_url, .. } = entry;
            (node.clone(), Life { epoch: *epoch, public_url: public_url.clone() })
        };
        self.nodes().iter().map(life).collect()
    }

    /// Reads what operators have said of nodes and of the canary, in place of what was known of that,
    /// and writes down what was counted here.
    ///
    /// # Errors
    /// When the database fails; what was known then stays.
    pub async fn weigh(&self, store: &Store) -> Result<(), StoreError> {
        let _one_at_a_time = self.inner.weighing.lock().await;
        // First: this has a promise.
        self.set_revoked(store.revoked_nodes().await?);
        self.set_weights(store.node_weights().await?);
        self.follow_trial(store).await
    }

    /// Whether an operator does not let the node in any more.
    #[must_use]
    pub fn is_revoked(&self, node: &NodeId) -> bool {
        let revoked = self.inner.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.contains(node)
    }

    /// Replaces whom nobody lets in, and cuts the links of those that are here.
    fn set_revoked(&self, revoked: BTreeSet<NodeId>) {
        let here: Vec<_> = {
            let nodes = self.nodes();
            let here = revoked.iter().filter_map(|node| Some((node, nodes.get(node)?)));
            here.map(|(node, entry)| (node.clone(), entry.revoked.clone())).collect()
        };
        *self.inner.revoked.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(revoked);
        for (node, link) in here {
            tracing::warn!(%node, "a node is revoked; its link is cut");
            link.cancel();
        }
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

/// The fleet as the choice sees it, in the nodes' order.
fn snapshot<'a>(
    nodes: &'a BTreeMap<NodeId, Node>,
    weights: &BTreeMap<NodeId, Weight>,
    trial: &'a Trial,
    now: WallTime,
) -> Snapshot<'a> {
    let weight_of = |node: &NodeId| weights.get(node).copied().unwrap_or_default();
    let moment = clock::steady();
    let candidate =
        |(name, node): (&'a NodeId, &'a Node)| node.candidate(name, weight_of(name), (now, moment));
    Snapshot { candidates: nodes.iter().map(candidate).collect(), canary: trial.canary() }
}

impl Node {
    fn candidate<'a>(
        &'a self,
        node: &'a NodeId,
        weight: Weight,
        (now, moment): (WallTime, Instant),
    ) -> Candidate<'a> {
        // A node that has not said how it is doing takes no calls.
        let load = self.load.unwrap_or_default();
        Candidate {
            node,
            region: self.region.as_deref(),
            software: &self.software,
            standing: match self.vital.suspicion(moment) {
                Some(_) => Standing::Suspect,
                None => Standing::of(self.load, now.0 - self.heard_at.0),
            },
            calls: load.calls,
            reserved: self.promises.many().saturating_add(self.begun),
            calls_max: load.calls_max,
            weight,
        }
    }

    fn group(&self, node: &NodeId, trial: &Trial) -> Group {
        Group::new(&self.software, Side::of(trial.canary(), node, &self.software))
    }

    fn state(&self, snapshot: &Snapshot<'_>, candidate: &Candidate<'_>) -> NodeState {
        NodeState {
            node: candidate.node.clone(),
            software: self.software.clone(),
            region: self.region.clone(),
            version: self.version,
            load: self.load,
            weight: candidate.weight,
            reserved: candidate.reserved,
            why: snapshot.why(candidate),
            free: snapshot.free(candidate),
            joined_at: self.joined_at,
            heard_at: self.heard_at,
            suspicion: self.vital.suspicion(clock::steady()),
            progress: self.vital.progress(),
            ahead_us: self.vital.ahead_us(),
        }
    }
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
    revoked: CancellationToken,
}

impl Stay {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The node says how it is doing.
    pub fn set_load(&self, load: Load) {
        let now = clock::wall();
        self.entry(|entry| (entry.load, entry.heard_at, entry.begun) = (Some(load), now, 0));
        // Whoever waits looks at everything again, so a count is enough of a message.
        self.nodes.inner.changes.send_modify(|changes| *changes += 1);
    }

    /// The node beats, and says with it how it is doing.
    pub fn beat(&self, beat: &NodeBeat, wall: WallTime, now: Instant) {
        self.entry(|entry| {
            entry.vital.hear(beat, wall, now);
            (entry.load, entry.heard_at) = (Some(beat.load), wall);
        });
        self.nodes.inner.changes.send_modify(|changes| *changes += 1);
    }

    /// What the node is told next as a sign of life; `None` when another connection has its place.
    #[must_use]
    pub fn answer(&self, wall: WallTime, now: Instant) -> Option<Beat> {
        self.look(|entry| entry.vital.beat(wall, now))
    }

    /// Why the node gets no new calls although its link stands.
    #[must_use]
    pub fn suspicion(&self, now: Instant) -> Option<Suspicion> {
        self.look(|entry| entry.vital.suspicion(now)).flatten()
    }

    /// A stream of the call has begun there or was refused: the promise is kept.
    pub fn settle(&self, call: &CallId) {
        let mut stage = None;
        self.entry(|entry| stage = entry.promises.end(call));
        if stage == Some(Stage::Told) {
            self.count(Outcome::Placed, 1);
        }
    }

    /// Counts what became of streams there.
    pub fn count(&self, outcome: Outcome, many: u64) {
        let (trial, mut group) = (self.nodes.trial(), None);
        self.entry(|entry| {
            // Its promise has ended, and its node may not have counted it yet.
            if outcome == Outcome::Started {
                entry.begun = entry.begun.saturating_add(1);
            }
            group = Some(entry.group(&self.node, &trial));
        });
        if let Some(group) = group {
            self.nodes.tally().add(group, outcome, many);
        }
    }

    /// Cancelled when another connection has taken the node's place.
    #[must_use]
    pub fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }

    /// Cancelled when an operator does not let the node in any more.
    #[must_use]
    pub fn revoked(&self) -> CancellationToken {
        self.revoked.clone()
    }

    fn look<T>(&self, look: impl FnOnce(&Node) -> T) -> Option<T> {
        let nodes = self.nodes.nodes();
        nodes.get(&self.node).filter(|entry| entry.stay == self.stay).map(look)
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
        // Whoever was told to come here finds nobody.
        let mut told = 0;
        self.entry(|entry| told = entry.promises.clear());
        self.count(Outcome::Placed, told);
        let mut nodes = self.nodes.nodes();
        if nodes.get(&self.node).is_some_and(|entry| entry.stay == self.stay) {
            nodes.remove(&self.node);
        }
    }
}

/// Orders that a node may have waiting. When full, the one who orders is told so.
const ORDERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use link::id::Gen;
    use link::message::Command;

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
        let (nodes, now) = (Nodes::new(), clock::wall());
        let (a, b) = (join(&nodes, "a", 1), join(&nodes, "b", 1));
        a.set_load(load(0));
        b.set_load(load(1));
        let placed: Vec<_> = (0..5).map(|n| nodes.place(&call(n), now).unwrap()).collect();
        assert_eq!(placed.iter().filter(|node| *node == a.node()).count(), 3);
        assert_eq!(placed[0], *a.node(), "the emptier comes first");
        assert_eq!(nodes.place(&call(5), now), Err(Unplaced::Full));
        assert!(nodes.list().iter().all(|node| (node.free, node.why) == (0, Why::Reserved)));
    }

    #[test]
    fn a_stream_that_has_begun_keeps_its_seat_until_the_node_has_counted_it() {
        let (nodes, now) = (Nodes::new(), clock::wall());
        let a = join(&nodes, "a", 1);
        a.set_load(load(2));
        assert!(nodes.place(&call(1), now).is_ok());
        a.settle(&call(1));
        a.count(Outcome::Started, 1);
        assert_eq!(nodes.place(&call(2), now), Err(Unplaced::Full));
        // It has ended since: the node's own word is what counts.
        a.set_load(load(2));
        assert!(nodes.place(&call(2), now).is_ok());
    }

    /// The bound that [`Nodes::place`] states, with controls that know nothing of each other.
    #[test]
    fn a_node_is_overbooked_at_most_once_for_each_further_instance() {
        let now = clock::wall();
        for controls in 1..=3 {
            let fleets: Vec<_> = (0..controls).map(|_| Nodes::new()).collect();
            let stays: Vec<_> = fleets.iter().map(|nodes| join(nodes, "a", 1)).collect();
            stays.iter().for_each(|stay| stay.set_load(load(1)));
            let all = (0..20).flat_map(|n| fleets.iter().map(move |nodes| (n, nodes)));
            let placed = all.filter(|(n, nodes)| nodes.place(&call(*n), now).is_ok()).count();
            // Two of its three seats are free.
            assert_eq!(placed, 2 * controls);
            // The node's next word tells everybody, and no more come.
            stays.iter().for_each(|stay| stay.set_load(load(3)));
            assert!(fleets.iter().all(|nodes| nodes.place(&call(99), now).is_err()));
        }
    }

    #[test]
    fn a_weight_holds_for_nodes_that_are_there_and_for_one_that_comes() {
        let (nodes, now) = (Nodes::new(), clock::wall());
        let names = ["a", "b"].map(|name| NodeId::new(name).unwrap());
        let a = join(&nodes, "a", 1);
        a.set_load(load(0));
        let none = Weight::new(0).unwrap();
        nodes.set_weights(names.clone().map(|name| (name, none)).into());
        assert_eq!(nodes.place(&call(1), now), Err(Unplaced::Full));
        let b = join(&nodes, "b", 1);
        b.set_load(load(0));
        assert_eq!(nodes.place(&call(1), now), Err(Unplaced::Full));
        assert_eq!(nodes.state(&names[1]).unwrap().weight, none);
        nodes.set_weights([(names[0].clone(), none)].into());
        assert_eq!(nodes.place(&call(1), now).as_ref(), Ok(&names[1]));
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
        let (nodes, now) = (Nodes::new(), clock::wall());
        let a = join(&nodes, "a", 1);
        a.set_load(Load { calls_max: 1, ..load(0) });
        assert!(nodes.place(&call(1), now).is_ok());
        assert!(nodes.place(&call(1), now).is_ok(), "the same call asks again");
        assert!(nodes.place(&call(2), now).is_err());
        a.settle(&call(1));
        assert!(nodes.place(&call(2), now).is_ok());
        assert!(nodes.place(&call(3), now).is_err());
        nodes.release(&call(2));
        assert!(nodes.place(&call(3), now).is_ok(), "nobody goes there any more");
        let later = now.plus_us(10_000_001);
        nodes.heard(a.node(), later);
        assert!(nodes.place(&call(4), later).is_ok());
    }

    #[test]
    fn a_node_that_says_nothing_for_seconds_gets_no_call_until_it_does() {
        let (nodes, now) = (Nodes::new(), clock::wall());
        let a = join(&nodes, "a", 1);
        a.set_load(load(0));
        let later = now.plus_us(4_000_000);
        assert_eq!(nodes.place(&call(1), later), Err(Unplaced::Nobody));
        nodes.heard(a.node(), later);
        assert_eq!(nodes.place(&call(1), later).as_ref(), Ok(a.node()));
    }

    /// What was counted since the last time, of the only group.
    fn counted(nodes: &Nodes) -> (u64, u64) {
        let counts: Vec<_> = nodes.tally().take().into_values().collect();
        assert!(counts.len() <= 1, "{counts:?}");
        counts.first().map_or((0, 0), |counts| (counts.placed, counts.started))
    }

    #[test]
    fn a_stream_counts_once_it_has_come_or_had_the_time_to() {
        let (nodes, now) = (Nodes::new(), clock::wall());
        let a = join(&nodes, "a", 1);
        a.set_load(load(0));
        for n in 1..=3 {
            assert!(nodes.place(&call(n), now).is_ok());
        }
        // The first comes, the second does not, the third was never asked to.
        nodes.asked_for(a.node(), &call(1), now);
        nodes.asked_for(a.node(), &call(2), now);
        a.settle(&call(1));
        a.count(Outcome::Started, 1);
        assert_eq!(counted(&nodes), (1, 1));
        nodes.sweep(now.plus_us(10_000_001));
        assert_eq!(counted(&nodes), (1, 0));
        nodes.asked_for(a.node(), &call(4), now);
        drop(a);
        assert_eq!(counted(&nodes), (1, 0), "whoever comes to a node that is gone finds nobody");
    }

    #[test]
    fn a_new_connection_of_a_node_keeps_the_seats_of_calls_on_their_way() {
        let (nodes, now) = (Nodes::new(), clock::wall());
        let old = join(&nodes, "a", 1);
        old.set_load(load(0));
        assert!(nodes.place(&call(1), now).is_ok());
        let new = join(&nodes, "a", 1);
        new.set_load(load(0));
        drop(old);
        assert_eq!(nodes.list()[0].reserved, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_falls_silent_gets_no_call_until_it_beats_again() {
        let (nodes, now) = (Nodes::new(), clock::wall());
        let a = join(&nodes, "a", 1);
        let beat = || {
            let beat = Beat { sent_us: 1, heard_us: None, wall: now };
            a.beat(&NodeBeat { beat, progress: 0, load: load(0) }, now, clock::steady());
        };
        beat();
        assert!(nodes.place(&call(1), now).is_ok());
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(nodes.place(&call(2), now), Err(Unplaced::Nobody));
        assert_eq!(nodes.state(a.node()).unwrap().suspicion, Some(Suspicion::Silent));
        beat();
        assert_eq!(nodes.place(&call(2), now).as_ref(), Ok(a.node()));
        assert_eq!(a.suspicion(clock::steady()), None);
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

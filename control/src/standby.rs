//! Calls as this instance knows them, in memory: what the carrier is answered from while the database
//! is away.
//!
//! Filled with what the database says of the calls that this instance decides about, and with what
//! relays tell it of their streams. While the database answers, nobody asks here. What is decided
//! here is decided by the same rules (`store/life.rs`), and written when the database is back
//! ([`keep_up`], `store/catch_up.rs`). Until then a stream is known by its ticket alone.
//!
//! Not here: the questions of the carrier (`unaided.rs` beside them). Calls that another instance has
//! begun are not known here; the pass in the carrier's question says what is needed of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::ephemeral::{Decided, Ephemeral, Passing};
use link::event::{CallEvent, NodeEvent};
use link::id::{CallId, EventNumber, Gen, NodeId, WallTime};
use link::message::Command;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::clock;
use crate::events::Fact;
use crate::fleet::orders::Order;
use crate::plane::Plane;
use crate::store::call::{Call, CallEnd, CallState, CarrierIds, Question, Resume};
use crate::store::catch_up::CaughtUp;
use crate::store::{Lost, StoreError, take};

/// The calls that this instance knows.
#[derive(Debug, Default)]
pub struct Standby {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    calls: BTreeMap<CallId, Entry>,
    by_carrier: BTreeMap<(String, String), CallId>,
    /// Those that the database does not have as they are.
    behind: BTreeSet<CallId>,
    /// When the database failed last.
    failed_at: Option<Instant>,
    /// How many changes there were: what was written is compared by it.
    changes: u64,
}

#[derive(Debug)]
struct Entry {
    call: Call,
    row: Row,
    /// What is to be said about a call without a row, and of which generation.
    facts: Vec<(Gen, Fact)>,
    /// Where a stream of the call began last, and which one.
    carried: Option<(NodeId, Gen)>,
    /// What the agent of the next stream is to know, and which stream that is.
    note: Option<(Gen, String)>,
    change: u64,
}

/// What the database has of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// The call as it is here, or newer.
    Written,
    /// The call as it was before the database went away.
    Behind,
    /// Nothing.
    Missing,
}

/// A call that the database does not have as it is.
#[derive(Debug, Clone)]
pub struct Unwritten {
    /// The call.
    pub call: Call,
    facts: Vec<(Gen, Fact)>,
    change: u64,
}

impl Unwritten {
    fn of(entry: &Entry) -> Self {
        let Entry { call, facts, change, .. } = entry;
        Self { call: call.clone(), facts: facts.clone(), change: *change }
    }

    /// What is to be said when the call has no row, with the generation that it is about.
    pub(crate) fn facts(&self) -> &[(Gen, Fact)] {
        &self.facts
    }
}

/// What a stream is to be told because of what was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Where it is.
    pub node: NodeId,
    /// The call.
    pub call: CallId,
    /// Which of its streams.
    pub generation: Gen,
    /// What it is told.
    pub command: Command,
}

/// As many calls wait for the database as this instance keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many calls wait for the database as are kept")]
pub struct Full;

impl Standby {
    /// The database has just said so of this call.
    pub fn keep(&self, call: &Call) {
        let mut known = self.known();
        if known.behind.contains(&call.id) {
            // What was decided since is not in it yet.
            return;
        }
        let carried = known.calls.get(&call.id).and_then(|entry| entry.carried.clone());
        // A call that does not fit is answered from its pass.
        if known.put(call.clone(), Row::Written).is_ok()
            && let Some(entry) = known.calls.get_mut(&call.id)
        {
            entry.carried = carried;
        }
    }

    /// A call; `None` when this instance does not know it.
    #[must_use]
    pub fn call(&self, id: &CallId) -> Option<Call> {
        self.known().calls.get(id).map(|entry| entry.call.clone())
    }

    /// The call of the carrier's ids; `None` when this instance does not know it.
    #[must_use]
    pub fn call_by_carrier(&self, carrier: &CarrierIds) -> Option<Call> {
        let known = self.known();
        let id = known.by_carrier.get(&names(carrier))?;
        known.calls.get(id).map(|entry| entry.call.clone())
    }

    /// A call that is not over is to have its first stream on `node`; one that nobody has told of is
    /// new. The call as it is then.
    ///
    /// # Errors
    /// When no more calls are kept.
    pub fn begin(&self, call: Call, node: &NodeId, now: WallTime) -> Result<Call, Full> {
        let (mut known, id) = (self.known(), call.id.clone());
        if !known.calls.contains_key(&id) {
            known.put(call, Row::Missing)?;
        }
        known.change(&id, |call| ((), call.begin(node, now))).map(|(call, ())| call).ok_or(Full)
    }

    /// The carrier asks what follows a stream of the call. `said` is the call as its pass says, for
    /// an instance that does not know it.
    #[must_use]
    pub fn resume(&self, said: Call, question: &Question<'_>) -> Resume {
        let (mut known, id) = (self.known(), said.id.clone());
        if !known.calls.contains_key(&id) && known.put(said, Row::Behind).is_err() {
            return Resume::NoNode;
        }
        let decided = known.change(&id, |call| call.resume_asked(question));
        decided.map_or(Resume::Unknown, |(call, decision)| decision.about(call))
    }

    /// The phone calls whose latest stream is on this node, as far as is known here.
    #[must_use]
    pub fn calls_on(&self, node: &NodeId, limit: usize) -> Vec<Call> {
        let is_there = |call: &&Call| {
            let is_carried = matches!(call.state, CallState::Starting | CallState::Active);
            is_carried && call.carrier.is_some() && call.node.as_ref() == Some(node)
        };
        let known = self.known();
        let calls = known.calls.values().map(|entry| &entry.call);
        calls.filter(is_there).take(limit).cloned().collect()
    }

    /// The call's stream was on a node that has vanished: the next one goes to `to`. `None` when the
    /// call has moved on since.
    #[must_use]
    pub fn move_call(&self, lost: &Call, to: &NodeId) -> Option<Call> {
        let moved = self.known().change(&lost.id, |call| {
            (Lost::of(lost).is_some_and(|lost| call.move_from(lost, to)), None)
        });
        moved.and_then(|(call, is_moved)| is_moved.then_some(call))
    }

    /// The phone call is over. Whether this instance knows the call.
    pub fn phone_over(&self, id: &CallId, end: CallEnd, now: WallTime) -> bool {
        let ended = |call: &mut Call| ((), call.on_phone_over(end, None, now));
        self.known().change(id, ended).is_some()
    }

    /// The agent of the call's latest stream is to know this once the stream has begun.
    pub fn leave_note(&self, call: &Call, note: String) {
        if let Some(entry) = self.known().calls.get_mut(&call.id) {
            entry.note = Some((call.generation, note));
        }
    }

    /// What a relay says of its streams, before it is committed. Says what is to be told: streams of
    /// older generations on other nodes fall silent, and the agent of one that goes on hears what was
    /// left for it. A stream that is itself of an older generation changes nothing, and is told
    /// nothing.
    pub fn hear(&self, node: &NodeId, events: &[NodeEvent]) -> Vec<Due> {
        let mut known = self.known();
        events.iter().flat_map(|event| known.hear(node, event)).collect()
    }

    /// What relays tell every control of ends that they have decided.
    pub fn hear_decided(&self, node: &NodeId, passing: &[Ephemeral]) {
        for Ephemeral { at, call, event } in passing {
            match event {
                Passing::Decided(Decided { reason, transfer_to }) => {
                    let (reason, transfer_to) = (*reason, transfer_to.clone());
                    let event = CallEvent::Ending { reason, detail: None, transfer_to };
                    let (n, call) = (EventNumber(0), Some(call.clone()));
                    self.hear(node, &[NodeEvent { n, at: *at, call, event }]);
                }
                Passing::TranscriptDelta(_) | Passing::Unknown => {}
            }
        }
    }

    /// Some of the calls that the database does not have as they are.
    #[must_use]
    pub fn unwritten(&self, many: usize) -> Vec<Unwritten> {
        let known = self.known();
        let entries = known.behind.iter().filter_map(|id| known.calls.get(id));
        entries.take(many).map(Unwritten::of).collect()
    }

    /// A call, when the database does not have it as it is.
    #[must_use]
    pub fn unwritten_call(&self, id: &CallId) -> Option<Unwritten> {
        let known = self.known();
        let entry = known.calls.get(id).filter(|_| known.behind.contains(id))?;
        Some(Unwritten::of(entry))
    }

    /// The database has it so, or will never have it.
    pub fn written(&self, done: &Unwritten) {
        let mut known = self.known();
        let Some(entry) = known.calls.get_mut(&done.call.id) else { return };
        entry.facts.clear();
        if entry.change == done.change {
            entry.row = Row::Written;
            known.behind.remove(&done.call.id);
        } else {
            entry.row = Row::Behind;
        }
    }

    /// How long the database may take for its part of an answer: while it has just failed, not as
    /// long, so that a herd of questions is not held up by one that will not help.
    #[must_use]
    pub fn patience(&self, now: Instant) -> Duration {
        let failed_at = self.known().failed_at;
        match failed_at.is_some_and(|at| now.duration_since(at) < FAILED_FOR) {
            true => DECIDED_SOON,
            false => DECIDED_WITHIN,
        }
    }

    /// The database did not help.
    pub fn failed(&self, now: Instant) {
        self.known().failed_at = Some(now);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, call: Call, row: Row) -> Result<(), Full> {
        if !self.calls.contains_key(&call.id) && self.calls.len() >= CALLS_MAX {
            self.forget_one()?;
        }
        if let Some(carrier) = &call.carrier {
            self.by_carrier.insert(names(carrier), call.id.clone());
        }
        self.changes += 1;
        if row != Row::Written {
            self.behind.insert(call.id.clone());
        }
        let (id, change) = (call.id.clone(), self.changes);
        self.calls
            .insert(id, Entry { call, row, facts: Vec::new(), carried: None, note: None, change });
        Ok(())
    }

    /// Makes room: one that is over goes first, then the one with the oldest id.
    fn forget_one(&mut self) -> Result<(), Full> {
        let written = |(id, _): &(&CallId, &Entry)| !self.behind.contains(*id);
        let over = |(_, entry): &(&CallId, &Entry)| entry.call.state == CallState::Ended;
        let all = || self.calls.iter().filter(written);
        let oldest = all().find(over).or_else(|| all().next()).map(|(id, _)| id.clone());
        let entry = self.calls.remove(&oldest.ok_or(Full)?).ok_or(Full)?;
        if let Some(carrier) = &entry.call.carrier {
            self.by_carrier.remove(&names(carrier));
        }
        Ok(())
    }

    /// Lets something decided here change a call; `None` when it is not known.
    fn change<T>(
        &mut self,
        id: &CallId,
        decide: impl FnOnce(&mut Call) -> (T, Option<Fact>),
    ) -> Option<(Call, T)> {
        let entry = self.calls.get_mut(id)?;
        let before = entry.call.clone();
        let (decided, fact) = decide(&mut entry.call);
        let changed = entry.call.clone();
        if changed != before {
            self.changes += 1;
            entry.change = self.changes;
            if entry.row == Row::Written {
                entry.row = Row::Behind;
            }
            entry.say(fact);
            self.behind.insert(id.clone());
        }
        Some((changed, decided))
    }

    fn hear(&mut self, node: &NodeId, event: &NodeEvent) -> Vec<Due> {
        let Some(of) = &event.call else { return Vec::new() };
        let entry = self.calls.get_mut(&of.id).filter(|entry| entry.call.tenant == of.tenant);
        let Some(entry) = entry else { return Vec::new() };
        let is_stale = entry.call.is_over_for(of.generation);
        let before = entry.call.clone();
        let fact = take(&mut entry.call, node, (of.generation, event), event.at).fact();
        if entry.call != before {
            // The relay's own words reach the database by themselves; a call that has no row there is
            // written as it is here.
            self.changes += 1;
            entry.change = self.changes;
            entry.say(fact);
        }
        if is_stale || !matches!(event.event, CallEvent::StreamStarted { .. }) {
            return Vec::new();
        }
        entry.begun(node, of.generation)
    }
}

impl Entry {
    /// A stream has begun that is the call's latest.
    fn begun(&mut self, node: &NodeId, generation: Gen) -> Vec<Due> {
        let mut due = Vec::new();
        let call = &self.call.id;
        let mut tell = |node: NodeId, generation, command| {
            due.push(Due { node, call: call.clone(), generation, command });
        };
        if let Some((was, older)) = self.carried.replace((node.clone(), generation))
            && was != *node
            && older < generation
        {
            // It finalises nothing: the call goes on elsewhere.
            tell(was, older, Command::Yield);
        }
        if let Some((_, text)) = self.note.take_if(|(of, _)| *of == generation) {
            tell(node.clone(), generation, Command::Inject { text });
        }
        due
    }

    fn say(&mut self, fact: Option<Fact>) {
        if self.row == Row::Missing {
            self.facts.extend(fact.map(|fact| (self.call.generation, fact)));
        }
    }
}

fn names(carrier: &CarrierIds) -> (String, String) {
    (carrier.account_sid.clone(), carrier.call_sid.clone())
}

/// Tells streams what is due.
pub fn tell(plane: &Plane, due: Vec<Due>) {
    for Due { node, call, generation, command } in due {
        let is_yield = command == Command::Yield;
        tracing::info!(%call, %generation, %node, is_yield, "a stream is told of another one");
        let order = Order::Do { call, generation, id: None, command };
        // A node that is away carries nothing that the carrier still listens to.
        if let Err(error) = plane.nodes.send(&node, order) {
            tracing::debug!(%node, %error, "a stream is not told");
        }
    }
}

/// Writes what was decided without the database as soon as it is back, until the plane stops.
pub async fn keep_up(plane: &Plane) {
    let mut ticks = interval(TRY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = plane.shutdown.cancelled() => break,
            _ = ticks.tick() => write(plane).await,
        }
    }
    if timeout(LAST_WITHIN, write(plane)).await.is_err() || !plane.standby.unwritten(1).is_empty() {
        tracing::error!("calls were decided without the database, and it has not come back");
    }
}

/// Writes what was decided about a call without the database, before more is decided with it.
///
/// # Errors
/// When the database is still away.
pub async fn settle(plane: &Plane, id: &CallId) -> Result<(), StoreError> {
    let Some(kept) = plane.standby.unwritten_call(id) else { return Ok(()) };
    let caught = plane.store.catch_up(&kept, clock::wall()).await?;
    plane.standby.written(&kept);
    end_if_over(plane, &kept, caught);
    Ok(())
}

/// Writes everything that is to be written, unless the database is away.
async fn write(plane: &Plane) {
    loop {
        let unwritten = plane.standby.unwritten(WRITTEN_AT_ONCE);
        if unwritten.is_empty() {
            return;
        }
        for kept in &unwritten {
            match plane.store.catch_up(kept, clock::wall()).await {
                Ok(caught) => {
                    plane.standby.written(kept);
                    end_if_over(plane, kept, caught);
                }
                Err(error) if error.is_refusal() => {
                    let (call, error) = (&kept.call.id, error.explain());
                    tracing::error!(%call, error, "a call cannot be written down; it is given up");
                    plane.standby.written(kept);
                }
                Err(error) => {
                    let error = error.explain();
                    tracing::debug!(error, "calls wait for the database");
                    return;
                }
            }
        }
    }
}

/// A stream was given out for a call that had ended where nobody could ask: it ends, too.
fn end_if_over(plane: &Plane, kept: &Unwritten, caught: CaughtUp) {
    match caught {
        CaughtUp::Done => {}
        CaughtUp::Over { node, generation } => {
            let call = kept.call.id.clone();
            tracing::warn!(%call, "a call went on that had ended; its stream is ended");
            let order = Order::Do { call, generation, id: None, command: Command::HangUp };
            let sent = node.map(|node| plane.nodes.send(&node, order));
            if let Some(Err(error)) = sent {
                tracing::warn!(%error, "the stream is not told");
            }
        }
    }
}

/// Well below the read time-out of the carrier's questions, so that it hears us and not its clock.
const DECIDED_WITHIN: Duration = Duration::from_millis(1_500);

/// The same while the database has just failed: one that is well answers in a tenth of it.
const DECIDED_SOON: Duration = Duration::from_millis(250);

/// How long a failure of the database makes the next questions impatient.
const FAILED_FOR: Duration = Duration::from_secs(2);

/// How often calls that wait for the database are tried.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// How long the last try may take before the process ends.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// Calls that are taken out at once to be written.
const WRITTEN_AT_ONCE: usize = 64;

/// Calls that are kept, a KiB each. When full, those that are over are forgotten first, then those
/// with the oldest ids; when all of them wait for the database, another one is not begun here.
const CALLS_MAX: usize = 20_000;

#[cfg(test)]
mod tests;

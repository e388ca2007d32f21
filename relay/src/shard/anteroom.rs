//! Calls that wait for their caller: the agent is dialled before the stream is here.
//!
//! Each is driven by a task until a stream claims it, or it ends by itself (the call gives itself
//! up when nobody comes), or the node lets nobody in any more. A stream finds it through the node's
//! [`Lobby`](crate::lobby::Lobby), on whatever shard it lands: on the same shard the call only
//! changes the task that drives it; from another one it is handed over with its sockets, which
//! leave one reactor for another: two system calls a socket, instead of a wake of the other thread
//! for every frame of the call.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use link::agent::AgentSpec;
use link::id::{CallId, Gen};
use link::message::Said;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::{Shard, ToShard};
use crate::admit::Admitted;
use crate::bridge::{Bridge, DetachedBridge};
use crate::call::input::{AudioFormat, Preparation};
use crate::call::moment::Moment;
use crate::gate::Waits;
use crate::known::AgentKey;
use crate::lobby::{Found, Kind, WaitId};
use crate::metrics::labels::Prepared;

/// A call on its way to another shard. Where it ends up undelivered, its sockets are closed.
#[derive(Debug)]
pub struct HandedOver(DetachedBridge);

/// The calls of one shard that wait.
#[derive(Default)]
pub(super) struct Anteroom {
    waiting: HashMap<WaitId, Rc<Chair>>,
    /// Whether the node lets nobody in any more.
    is_closed: bool,
}

impl fmt::Debug for Anteroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anteroom").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// Whose stream a call is prepared for.
pub(super) enum Awaits {
    /// Any stream of this agent.
    Anybody(AgentKey),
    /// The first one of a call.
    Newcomer,
    /// The next one of a call in which so much was said.
    Mover(Vec<Said>),
}

impl Awaits {
    fn preparation(&self) -> Preparation {
        match self {
            Self::Anybody(_) => Preparation::Session,
            Self::Newcomer => Preparation::Greeting,
            Self::Mover(_) => Preparation::Continued,
        }
    }
}

/// One call that waits.
pub(super) struct Chair {
    /// `None` once it was claimed, or sent away.
    bridge: RefCell<Option<Bridge>>,
    task: RefCell<Option<Waker>>,
    /// Which agent, of a spare.
    pub(super) spare: Option<AgentKey>,
    /// When it was opened.
    pub(super) since: Moment,
    preparation: Preparation,
    readiness: Cell<Readiness>,
}

/// Whether a stream that claims the call finds a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    NotYet,
    Ready,
}

/// How a call stopped waiting.
enum Left {
    /// Somebody has taken it.
    Taken,
    /// It is over.
    Over(Box<Bridge>),
}

impl Chair {
    fn take(&self) -> Option<Bridge> {
        let bridge = self.bridge.borrow_mut().take();
        // Nothing else wakes the task any more: the sockets belong to another one.
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
        bridge
    }

    fn poll(&self, cx: &mut Context<'_>, waits: &Waits) -> Poll<Left> {
        *self.task.borrow_mut() = Some(cx.waker().clone());
        let mut held = self.bridge.borrow_mut();
        // Borrowed for this poll only, and nothing in it reaches this chair.
        let Some(bridge) = held.as_mut() else { return Poll::Ready(Left::Taken) };
        if bridge.poll(cx).is_ready() {
            return Poll::Ready(held.take().map_or(Left::Taken, |over| Left::Over(Box::new(over))));
        }
        if self.readiness.get() == Readiness::NotYet && bridge.has_been_ready() {
            self.readiness.set(Readiness::Ready);
            match self.preparation {
                Preparation::Session | Preparation::Continued => waits.offer(),
                // Its stream comes in any case.
                Preparation::Greeting => {}
            }
        }
        Poll::Pending
    }

    /// Whether its session was ever ours.
    pub(super) fn was_ready(&self) -> bool {
        self.readiness.get() == Readiness::Ready
    }
}

/// A call's entry in the anteroom; taken out when it is dropped, also by a panic.
struct Entry {
    shard: Rc<Shard>,
    waits: Waits,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shard.anteroom.borrow_mut().waiting.remove(&self.waits.id());
    }
}

impl Anteroom {
    /// The spares of this shard.
    pub(super) fn spares(&self) -> impl Iterator<Item = (WaitId, &Chair, &AgentKey)> {
        let waiting = self.waiting.iter();
        waiting.filter_map(|(id, chair)| Some((*id, &**chair, chair.spare.as_ref()?)))
    }

    /// Whether the node lets nobody in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

impl Shard {
    /// Gets the agent of an announced stream ready.
    pub(super) fn prepare(
        self: &Rc<Self>,
        waits: Waits,
        agent: &Arc<AgentSpec>,
        continues: Option<Vec<Said>>,
    ) {
        if !self.anteroom.borrow().is_closed {
            self.seat(waits, agent, continues.map_or(Awaits::Newcomer, Awaits::Mover));
        }
    }

    /// Tells a call that waits here what was said in it by now, and whoever listens once more that it
    /// is ready, if it is.
    pub(super) fn continue_with(&self, id: WaitId, stream: (CallId, Gen), said: &[Said]) {
        let chair = self.anteroom.borrow().waiting.get(&id).cloned();
        let Some(chair) = chair else { return };
        // Nothing follows before its caller is here, so that nobody need wake its task.
        if let Some(bridge) = chair.bridge.borrow_mut().as_mut() {
            bridge.continue_with(said);
        }
        if chair.was_ready() {
            self.setup.gate.tell_prepared(stream);
        }
    }

    /// Dials an agent and lets the call wait.
    pub(super) fn seat(self: &Rc<Self>, waits: Waits, agent: &Arc<AgentSpec>, awaits: Awaits) {
        let preparation = awaits.preparation();
        // Only phone calls are announced, and spares are for them.
        let mut bridge = Bridge::new(self, agent, AudioFormat::Ulaw);
        bridge.prepare(preparation);
        let spare = match awaits {
            Awaits::Anybody(agent) => Some(agent),
            Awaits::Newcomer => None,
            Awaits::Mover(said) => {
                bridge.continue_with(&said);
                None
            }
        };
        let chair = Rc::new(Chair {
            bridge: RefCell::new(Some(bridge)),
            task: RefCell::default(),
            spare,
            since: self.clock.now(),
            preparation,
            readiness: Cell::new(Readiness::NotYet),
        });
        // Before its task runs, which may be after a claim has come.
        self.anteroom.borrow_mut().waiting.insert(waits.id(), chair.clone());
        let entry = Entry { shard: self.clone(), waits };
        self.begin(wait(entry, chair));
    }

    /// The call for this stream: one that waits for it, wherever on the node, or a new one.
    pub(super) async fn call_for(self: &Rc<Self>, admitted: &Admitted) -> Bridge {
        // What waits was opened for a phone's audio.
        let claimed = match admitted.dialect.format() {
            AudioFormat::Ulaw => self.claim(admitted).await,
            AudioFormat::Pcm24k => None,
        };
        match claimed {
            Some(bridge) => bridge,
            None => Bridge::new(self, &admitted.agent, admitted.dialect.format()),
        }
    }

    async fn claim(self: &Rc<Self>, admitted: &Admitted) -> Option<Bridge> {
        let index = self.setup.index;
        // The lock ends with the line: it is the whole node's.
        let found = self.setup.gate.lobby().claim(&admitted.claims, index)?;
        let bridge = if found.shard == index {
            self.take_waiting(found.id)
        } else {
            self.fetch(found).await
        };
        let outcome = match (&bridge, found.kind) {
            (None, _) => Prepared::Missed,
            (Some(_), Kind::Announced) => Prepared::Claimed,
            (Some(_), Kind::Spare) => Prepared::SpareClaimed,
        };
        self.counters().prepared.of(outcome).one();
        bridge
    }

    fn take_waiting(&self, id: WaitId) -> Option<Bridge> {
        let chair = self.anteroom.borrow().waiting.get(&id).cloned();
        chair.and_then(|chair| chair.take())
    }

    /// Asks another shard for a call that waits there.
    async fn fetch(self: &Rc<Self>, found: Found) -> Option<Bridge> {
        let (to, answer) = oneshot::channel();
        let claim = ToShard::Claim { id: found.id, to };
        self.setup.post.send(found.shard, claim).ok()?;
        // A call that comes too late is dropped with the answer, and its sockets with it.
        let HandedOver(call) = timeout(CLAIM_WITHIN, answer).await.ok()?.ok()??;
        match call.attach(self) {
            Ok(bridge) => {
                self.counters().handed_over.one();
                Some(bridge)
            }
            Err(error) => {
                tracing::warn!(%error, "a call that was handed over is lost; its agent is dialled");
                None
            }
        }
    }

    /// Gives a call that waits here to another shard.
    pub(super) fn hand_over(&self, id: WaitId, to: oneshot::Sender<Option<HandedOver>>) {
        let call = self.take_waiting(id).and_then(|bridge| match bridge.detach() {
            Ok(call) => Some(HandedOver(call)),
            Err(error) => {
                tracing::warn!(%error, "a call cannot be handed over");
                None
            }
        });
        // Whoever asked may have lost patience.
        let _ = to.send(call);
    }

    /// Closes what waits, and prepares nothing more.
    pub(super) fn empty_anteroom(self: &Rc<Self>) {
        self.anteroom.borrow_mut().is_closed = true;
        // Listed first, because each that leaves changes the map.
        let all: Vec<_> = self.anteroom.borrow().waiting.keys().copied().collect();
        for id in all {
            self.dismiss(id);
        }
    }

    /// Sends a call that waits away.
    pub(super) fn dismiss(self: &Rc<Self>, id: WaitId) {
        if let Some(mut bridge) = self.take_waiting(id) {
            self.counters().prepared.of(Prepared::Dismissed).one();
            let leaving = Leaving::new(&self.leaving);
            self.begin(async move {
                bridge.close().await;
                drop(leaving);
            });
        }
    }

    /// Waits until those that were sent away have closed their sockets, or a moment is over.
    pub(super) async fn until_left(&self) {
        let mut leaving = self.leaving.subscribe();
        let _ = timeout(LEAVE_WITHIN, leaving.wait_for(|count| *count == 0)).await;
    }
}

/// One call that was sent away and still closes its sockets.
struct Leaving(watch::Sender<u32>);

impl Leaving {
    fn new(count: &watch::Sender<u32>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Drives a call until it waits no more.
async fn wait(entry: Entry, chair: Rc<Chair>) {
    let left = poll_fn(|cx| chair.poll(cx, &entry.waits)).await;
    let shard = entry.shard.clone();
    drop(entry);
    if let Left::Over(mut bridge) = left {
        shard.counters().prepared.of(Prepared::Expired).one();
        // One that was ready has shown that the service can be had; one that was not may be the
        // first of many.
        if chair.spare.is_some() && !chair.was_ready() {
            shard.spare_failed();
        }
        bridge.close().await;
    }
}

/// How long a stream waits for a call that another shard has. The caller hears nothing meanwhile,
/// and dialling anew takes some 300 ms: a shard that needs longer than this has too much to do.
const CLAIM_WITHIN: Duration = Duration::from_millis(40);
/// How long the end of a shard waits for them: a close frame and its answer.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;

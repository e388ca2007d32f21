//! What becomes of a relay's events. They are heard at once ([`crate::standby`]), and offered to the
//! sequencer, which commits them.
//!
//! While the database is away the sequencer's queue is full, and a link that waited for it would not
//! be read any more: neither how the node is doing nor that a call has ended. So what finds no room
//! then is heard only. The relay keeps it, since it was not acknowledged; when the database is back the
//! connection ends, and on the next one the relay sends everything that is missing.

use link::event::{CallEvent, NodeEvent};
use link::id::Epoch;
use tokio::sync::{mpsc, watch};

use super::{Broken, Life};
use crate::fleet::nodes::Stay;
use crate::fleet::tally::Outcome;
use crate::plane::Plane;
use crate::sequencer::{LeaseState, Receipt};
use crate::standby;
use crate::store::Source;

/// Where the events of one connection go.
pub(super) struct Intake<'a> {
    plane: &'a Plane,
    source: Source,
    /// Whether the relay asks who takes events; an older one tells everybody.
    knows_lease: bool,
    term: watch::Receiver<Option<u64>>,
    state: watch::Receiver<LeaseState>,
    receipts: mpsc::Sender<(Life, Receipt)>,
    /// Whether events of this connection were heard only.
    missed: bool,
}

impl<'a> Intake<'a> {
    /// Of a connection whose receipts are awaited elsewhere.
    pub(super) fn new(
        plane: &'a Plane,
        source: Source,
        knows_lease: bool,
        receipts: mpsc::Sender<(Life, Receipt)>,
    ) -> Self {
        let (term, state) = (plane.sequencer.term(), plane.sequencer.state());
        Self { plane, source, knows_lease, term, state, receipts, missed: false }
    }

    /// Takes a batch. Waits while the sequencer is behind, which keeps frames in QUIC's window and
    /// events in the relay's ring, but not for a database that is away.
    pub(super) async fn take(&mut self, stay: &Stay, events: Vec<NodeEvent>) -> Result<(), Broken> {
        settle(stay, &events);
        // At once, and not when they are committed: the carrier may ask before that.
        standby::tell(self.plane, self.plane.standby.hear(stay.node(), &events));
        // The relay keeps them, and tells whoever says next that it holds the lease.
        if self.missed || (self.knows_lease && self.term.borrow().is_none()) {
            return Ok(());
        }
        count(stay, &events);
        self.offer(Life::This, events).await
    }

    /// Takes a batch of an earlier life of the node, which is kept there, too, and told to whoever
    /// holds the lease. No stream of it is on its way, so that nothing is settled.
    pub(super) async fn take_spooled(
        &mut self,
        epoch: Epoch,
        events: Vec<NodeEvent>,
    ) -> Result<(), Broken> {
        if self.missed || self.term.borrow().is_none() {
            return Ok(());
        }
        self.offer(Life::Earlier(epoch), events).await
    }

    async fn offer(&mut self, life: Life, events: Vec<NodeEvent>) -> Result<(), Broken> {
        let Self { plane, source, state, receipts, missed, .. } = self;
        let mut source = source.clone();
        if let Life::Earlier(epoch) = life {
            source.epoch = epoch;
        }
        let offered = async {
            let receipt = plane.sequencer.submit(source, events).await?;
            receipts.send((life, receipt)).await.map_err(|_| Broken::Closed)
        };
        tokio::select! {
            biased;
            offered = offered => offered,
            away = state.wait_for(|state| *state == LeaseState::Failing) => {
                *missed = away.is_ok();
                if *missed { Ok(()) } else { Err(Broken::Stopped) }
            }
        }
    }

    /// Resolves when the database is back and events are missing; never, when none are.
    pub(super) async fn until_behind(&mut self) -> Broken {
        if !self.missed {
            return std::future::pending().await;
        }
        match self.state.wait_for(|state| *state != LeaseState::Failing).await {
            Ok(_) => Broken::Behind,
            Err(_) => Broken::Stopped,
        }
    }
}

/// Streams that have begun or were refused are no longer only promised.
fn settle(stay: &Stay, events: &[NodeEvent]) {
    for event in events {
        let is_settled = matches!(
            event.event,
            CallEvent::StreamStarted { .. } | CallEvent::StreamRefused { .. }
        );
        if let (true, Some(call)) = (is_settled, &event.call) {
            stay.settle(&call.id);
        }
    }
}

/// Counts how streams fare. Only the instance that numbers events is told of them.
fn count(stay: &Stay, events: &[NodeEvent]) {
    for event in events.iter().filter(|event| event.call.is_some()) {
        if let Some(outcome) = Outcome::of(&event.event) {
            stay.count(outcome, 1);
        }
    }
}

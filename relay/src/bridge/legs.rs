//! Everything that a call is connected to: its caller, its agents, its errands, its log.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use link::agent::AgentSpec;
use link::event::EndReason;

use crate::admit::Admitted;
use crate::call::input::{CallerEvent, Input, Side, Slot, ToolId};
use crate::call::moment::Moment;
use crate::call::output::Flow;
use crate::clock::Clock;
use crate::shard::{Buffers, Shard};
use crate::telemetry::{CallLog, Log};
use crate::tools::ToolEnd;
use crate::wire::{CallerDialect, CallerWire};
use crate::ws::{Messages, ReadBuffer, Socket, SocketError, Watch, WriteBuffer};

use super::agents::{Agents, DetachedAgents, Heard};
use super::desk::Desk;
use super::errands::Errands;
use super::line::{Found, Line};

/// Everything that a call is connected to.
pub(super) struct Legs {
    /// `None` until the caller is here.
    pub(super) caller: Option<Line<CallerWire>>,
    /// When its socket is looked at.
    watch: Watch,
    pub(super) agents: Agents,
    pub(super) errands: Errands,
    /// Where milestones go.
    pub(super) log: Log,
    pub(super) ended: Option<EndReason>,
    pub(super) wake: Wake,
    pub(super) readiness: Readiness,
}

/// What one wake did.
#[derive(Debug, Default)]
pub(super) struct Wake {
    pub(super) frames_up: u64,
    pub(super) frames_down: u64,
    pub(super) deltas: u64,
    pub(super) appends: u64,
    /// Those of the appends that carry more than one frame.
    pub(super) joined: u64,
    /// Something is on its way to the caller that takes back what it hears.
    pub(super) is_urgent: bool,
    /// A socket is being opened, or a tool runs, since this wake.
    pub(super) has_begun: bool,
}

/// Whether a session of the agent's has been ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Not yet.
    NotYet,
    /// It has.
    HasBeen,
}

impl Legs {
    /// Nobody is here yet.
    pub(super) fn new(shard: &Shard, agent: &Arc<AgentSpec>) -> Self {
        let (agents, errands) = (Agents::new(shard, agent), Errands::new(shard, agent));
        Self::of(shard, agents, errands, Readiness::NotYet)
    }

    fn of(shard: &Shard, agents: Agents, errands: Errands, readiness: Readiness) -> Self {
        let log = Log::Nobodys(shard.outlet().clone());
        let (ended, wake) = (None, Wake::default());
        Self { caller: None, watch: Watch::Woken, agents, errands, log, ended, wake, readiness }
    }

    /// The caller is here, and the call has a name. Gives how to read what the caller says.
    pub(super) fn welcome(
        &mut self,
        caller: Socket,
        admitted: &Admitted,
        log: CallLog,
    ) -> CallerDialect {
        let dialect = admitted.dialect;
        let wire = CallerWire::new(dialect, &admitted.stream_sid);
        self.caller = Some(Line::new(caller, wire));
        self.errands.name(&admitted.claims.call);
        self.log = Log::Calls(Box::new(log));
        dialect
    }

    /// A call's outbox that writes into the shard's buffers.
    pub(super) fn desk<'a>(&'a mut self, buffers: &'a mut Buffers) -> Desk<'a> {
        let Buffers { to_caller, to_agent, .. } = buffers;
        self.desk_of(to_caller, to_agent)
    }

    /// The same while the read buffer is walked.
    pub(super) fn desk_of<'a>(
        &'a mut self,
        to_caller: &'a mut WriteBuffer,
        to_agent: &'a mut [WriteBuffer; 2],
    ) -> Desk<'a> {
        Desk::new(self, to_caller, to_agent)
    }

    /// Whether a session of the agent's has been ours.
    pub(super) fn has_been_ready(&self) -> bool {
        self.readiness == Readiness::HasBeen
    }

    /// Has the caller's socket looked at like this.
    ///
    /// # Errors
    /// When the system does not do that: the socket is gone.
    pub(super) fn watch_caller(&mut self, watch: Watch) -> Result<(), CallerEvent<'static>> {
        if std::mem::replace(&mut self.watch, watch) != watch
            && let Some(caller) = self.caller.take()
        {
            self.caller = Some(caller.watched(watch).map_err(|_| CallerEvent::Lost)?);
        }
        Ok(())
    }

    /// Reads once from the caller.
    pub(super) fn poll_caller<'b>(
        &mut self,
        cx: &mut Context<'_>,
        read: &'b mut ReadBuffer,
    ) -> Poll<Result<(CallerDialect, Messages<'b>), CallerEvent<'static>>> {
        let Some(caller) = &mut self.caller else { return Poll::Pending };
        let dialect = caller.wire.dialect();
        let read = ready!(caller.poll_read(cx, read));
        Poll::Ready(read.map(|messages| (dialect, messages)).map_err(|error| match error {
            SocketError::Violation(_) => CallerEvent::Violated,
            SocketError::Closed(code) => dialect.closed(code.0),
            SocketError::Ended | SocketError::BacklogFull | SocketError::Io(_) => CallerEvent::Lost,
        }))
    }

    /// Goes on with an agent's slot.
    pub(super) fn poll_agent<'b>(
        &mut self,
        slot: Slot,
        cx: &mut Context<'_>,
        read: &'b mut ReadBuffer,
        out: &mut WriteBuffer,
    ) -> Poll<Heard<'b>> {
        self.agents.poll(slot, cx, read, out)
    }

    /// Waits for the end of any errand.
    pub(super) fn poll_errand(&mut self, cx: &mut Context<'_>) -> Poll<(ToolId, ToolEnd)> {
        self.errands.poll(cx)
    }

    /// Writes what is to be written, until a leg has something to tell the call.
    pub(super) fn flush(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Option<Input<'static>> {
        let Buffers { read, to_caller, to_agent, aside } = buffers;
        // The caller first: a clear must not wait for two agents' sockets.
        self.wake.is_urgent = false;
        if let Some(found) = self.caller.as_mut().and_then(|caller| caller.flush(cx, to_caller)) {
            return Some(match found {
                Found::Stalled => Input::Stalled(Side::Caller),
                Found::Drained => Input::Drained(Side::Caller),
                Found::Lost => Input::Caller(CallerEvent::Lost),
            });
        }
        let found = self.agents.flush(cx, to_agent);
        if found.is_none() {
            // The call has no part in what these still do.
            let _ = self.agents.poll_aside(cx, aside, read);
        }
        found
    }

    /// Whether something was begun that nobody has asked yet how far it is.
    pub(super) fn take_begun(&mut self) -> bool {
        std::mem::take(&mut self.wake.has_begun)
    }

    /// Whether something must not wait for the end of the wake.
    pub(super) fn is_urgent(&self) -> bool {
        self.wake.is_urgent
    }

    /// Why the call is over, once it is.
    pub(super) fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// Counts the media of a wake that began then.
    pub(super) fn count(&mut self, clock: Clock, began: Moment) {
        let wake = std::mem::take(&mut self.wake);
        let Wake { frames_up, frames_down, deltas, appends, joined, .. } = wake;
        if frames_up + frames_down + joined == 0 {
            return;
        }
        self.log.joined(joined);
        let took = clock.now().since(began);
        for (flow, frames, came, left) in [
            (Flow::Uplink, frames_up, frames_up, appends),
            (Flow::Playout, frames_down, deltas, frames_down),
        ] {
            if frames > 0 {
                self.log.frames(flow, frames);
            }
            // Paced or held audio waits on purpose: only what came and left in one wake is measured.
            if came > 0 && left > 0 {
                self.log.added(flow, took);
            }
        }
    }

    /// Nothing is said or heard any more.
    pub(super) fn leave(&mut self, buffers: &mut Buffers) {
        // A tool may have had its effect already; nobody is left to tell the result to.
        self.errands.drop_all();
        // From here on nobody has a deadline to look at it. One that is gone needs no goodbye.
        drop(self.watch_caller(Watch::Woken));
        self.agents.leave(&mut buffers.to_agent);
    }

    /// Brings all sockets to their end.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Poll<()> {
        let Buffers { read, to_caller, aside, .. } = buffers;
        if let Some(caller) = &mut self.caller
            && caller.poll_close(cx, to_caller, read).is_ready()
        {
            self.caller = None;
        }
        let agents = self.agents.poll_aside(cx, aside, read);
        if self.caller.is_none() && agents.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Tells the end of the call, after which every socket is gone.
    pub(super) fn end(self, reason: EndReason) {
        let Self { caller, agents, errands, log, .. } = self;
        // Their guards count sockets; the end is told when the count is right.
        drop((caller, agents, errands));
        log.end(reason);
    }

    /// Takes the sockets off their shard. A call that moves has no caller yet.
    pub(super) fn detach(self) -> io::Result<DetachedLegs> {
        let Self { agents, errands, readiness, .. } = self;
        Ok(DetachedLegs { agents: agents.detach()?, errands, readiness })
    }
}

/// What a call without a caller is connected to, on its way to another shard.
pub(super) struct DetachedLegs {
    agents: DetachedAgents,
    errands: Errands,
    readiness: Readiness,
}

impl fmt::Debug for DetachedLegs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedLegs").finish_non_exhaustive()
    }
}

impl DetachedLegs {
    /// Goes on with the sockets on this shard.
    pub(super) fn attach(self, shard: &Shard) -> io::Result<Legs> {
        let Self { agents, errands, readiness } = self;
        Ok(Legs::of(shard, agents.attach(shard)?, errands, readiness))
    }
}

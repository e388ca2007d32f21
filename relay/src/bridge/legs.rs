//! The sockets of a call: the caller's, and up to two agents'. Frames go straight from a call's
//! wish ([`Desk`] is its outbox) into the shard's write buffers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use link::agent::AgentSpec;
use link::event::EndReason;
use rustls::ClientConfig;

use crate::call::input::{AgentEvent, CallerEvent, Input, Loss, Side, Slot};
use crate::call::output::{AgentMessage, CallerMessage, CloseWhy, Flow, Outbox, Output};
use crate::dial::{self, Target};
use crate::shard::Buffers;
use crate::telemetry::CallLog;
use crate::wire::{self, AgentDialect, AgentWire, CallerDialect, CallerWire};
use crate::ws::{CloseCode, Limits, Messages, ReadBuffer, Socket, SocketError, WriteBuffer};

use super::line::{Found, Line};

/// Everything that a call is connected to.
pub(super) struct Legs {
    caller: Line<CallerWire>,
    agents: [AgentLeg; 2],
    agent: Arc<AgentSpec>,
    tls: Arc<ClientConfig>,
    /// Where milestones go.
    pub(super) log: CallLog,
    ended: Option<EndReason>,
    wake: Wake,
}

/// One agent's socket.
enum AgentLeg {
    /// There is none.
    Closed,
    /// It is being opened.
    Dialling(Dialling),
    /// It is open.
    Open(Line<AgentWire>),
    /// The call has closed it; its close frame is on the way.
    Closing(Socket),
}

type Dialling = Pin<Box<dyn Future<Output = Result<Socket, Undialled>>>>;

/// Why there is no socket, as the call hears it.
struct Undialled {
    cause: Loss,
    detail: String,
}

/// What comes from an agent's leg.
pub(super) enum Heard<'b> {
    /// Its socket is open.
    Connected,
    /// It says something.
    Messages(AgentDialect, Messages<'b>),
    /// Its socket could not be opened, or is gone.
    Lost {
        /// How.
        cause: Loss,
        /// For the operator.
        detail: String,
    },
}

/// Media of one wake: what was read, what was written.
#[derive(Debug, Default)]
struct Wake {
    frames_up: u64,
    frames_down: u64,
    deltas: u64,
    appends: u64,
}

impl Legs {
    /// The caller's socket, and no agent yet.
    pub(super) fn new(
        caller: Socket,
        stream_sid: &str,
        agent: Arc<AgentSpec>,
        tls: Arc<ClientConfig>,
        log: CallLog,
    ) -> Self {
        Self {
            caller: Line::new(caller, CallerWire::new(stream_sid)),
            agents: [AgentLeg::Closed, AgentLeg::Closed],
            agent,
            tls,
            log,
            ended: None,
            wake: Wake::default(),
        }
    }

    /// A call's outbox that writes into the shard's buffers.
    pub(super) fn desk<'a>(
        &'a mut self,
        to_caller: &'a mut WriteBuffer,
        to_agent: &'a mut [WriteBuffer; 2],
    ) -> Desk<'a> {
        Desk { legs: self, to_caller, to_agent }
    }

    /// How to read what the caller says.
    pub(super) fn caller_dialect(&self) -> CallerDialect {
        self.caller.wire.dialect()
    }

    /// Reads once from the caller.
    pub(super) fn poll_caller<'b>(
        &mut self,
        cx: &mut Context<'_>,
        read: &'b mut ReadBuffer,
    ) -> Poll<Result<Messages<'b>, SocketError>> {
        self.caller.poll_read(cx, read)
    }

    /// Goes on with an agent's leg: with opening it, or with reading from it once.
    pub(super) fn poll_agent<'b>(
        &mut self,
        slot: Slot,
        cx: &mut Context<'_>,
        read: &'b mut ReadBuffer,
    ) -> Poll<Heard<'b>> {
        let leg = &mut self.agents[slot as usize];
        match leg {
            AgentLeg::Closed | AgentLeg::Closing(_) => Poll::Pending,
            AgentLeg::Dialling(dialling) => Poll::Ready(match ready!(dialling.as_mut().poll(cx)) {
                Ok(socket) => {
                    *leg = AgentLeg::Open(Line::new(socket, AgentWire::new(self.agent.clone())));
                    Heard::Connected
                }
                Err(Undialled { cause, detail }) => {
                    *leg = AgentLeg::Closed;
                    Heard::Lost { cause, detail }
                }
            }),
            AgentLeg::Open(line) => Poll::Ready(match ready!(line.poll_read(cx, read)) {
                Ok(messages) => Heard::Messages(line.wire.dialect(), messages),
                Err(error) => Heard::Lost { cause: Loss::Closed, detail: error.to_string() },
            }),
        }
    }

    /// Writes what is to be written, until a leg has something to tell the call.
    pub(super) fn flush(
        &mut self,
        cx: &mut Context<'_>,
        to_caller: &mut WriteBuffer,
        to_agent: &mut [WriteBuffer; 2],
    ) -> Option<Input<'static>> {
        if let Some(found) = self.caller.flush(cx, to_caller) {
            return Some(match found {
                Found::Stalled => Input::Stalled(Side::Caller),
                Found::Drained => Input::Drained(Side::Caller),
                Found::Lost => Input::Caller(CallerEvent::Lost),
            });
        }
        for (slot, out) in [Slot::A, Slot::B].into_iter().zip(to_agent) {
            let found = match &mut self.agents[slot as usize] {
                AgentLeg::Closed | AgentLeg::Dialling(_) => None,
                AgentLeg::Open(line) => line.flush(cx, out),
                AgentLeg::Closing(socket) => {
                    // Whether the peer gets the close frame changes nothing any more.
                    let _ = socket.flush(cx, out);
                    None
                }
            };
            if let Some(found) = found {
                return Some(match found {
                    Found::Stalled => Input::Stalled(Side::Agent(slot)),
                    Found::Drained => Input::Drained(Side::Agent(slot)),
                    Found::Lost => Input::Agent(
                        slot,
                        AgentEvent::Lost { cause: Loss::Closed, detail: "write_failed" },
                    ),
                });
            }
        }
        None
    }

    /// Why the call is over, once it is.
    pub(super) fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// Counts the media of a wake that took so long.
    pub(super) fn count(&mut self, took: Duration) {
        let Wake { frames_up, frames_down, deltas, appends } = std::mem::take(&mut self.wake);
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

    /// Brings all sockets to their end.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Poll<()> {
        let Buffers { read, to_caller, to_agent } = buffers;
        let mut all = self.caller.poll_close(cx, to_caller, read).is_ready();
        for (leg, out) in self.agents.iter_mut().zip(to_agent) {
            let closed = match leg {
                AgentLeg::Closed | AgentLeg::Dialling(_) => true,
                AgentLeg::Open(line) => line.poll_close(cx, out, read).is_ready(),
                AgentLeg::Closing(socket) => socket.poll_finish(cx, out, read).is_ready(),
            };
            if closed {
                *leg = AgentLeg::Closed;
            }
            all &= closed;
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    }

    fn dial(&mut self, slot: Slot) {
        let dialling = open(self.agent.clone(), self.tls.clone());
        self.agents[slot as usize] = AgentLeg::Dialling(Box::pin(dialling));
    }

    /// A socket that is closed in mid-call is not read any more, so what it still says is lost; it
    /// is kept until its close frame is out.
    fn close_agent(&mut self, slot: Slot) {
        let leg = &mut self.agents[slot as usize];
        *leg = match std::mem::replace(leg, AgentLeg::Closed) {
            AgentLeg::Open(mut line) if !line.is_gone() => {
                line.socket.close(CloseCode::NORMAL, "");
                AgentLeg::Closing(line.socket)
            }
            AgentLeg::Closed | AgentLeg::Dialling(_) => AgentLeg::Closed,
            // Gone or going already.
            other @ (AgentLeg::Open(_) | AgentLeg::Closing(_)) => other,
        };
    }
}

/// Opens an agent's socket. Everything it needs is its own, so that it can be polled beside the
/// legs and dropped with the call.
async fn open(agent: Arc<AgentSpec>, tls: Arc<ClientConfig>) -> Result<Socket, Undialled> {
    let door = wire::door(&agent);
    let target = Target::parse(&door.url)
        .and_then(|target| target.with_bearer(door.bearer))
        .map_err(|bad| Undialled { cause: Loss::Refused, detail: bad.to_string() })?;
    dial::connect(&target, &tls, Limits::AGENT).await.map_err(|error| {
        let cause = if error.is_refusal() { Loss::Refused } else { Loss::Unreachable };
        Undialled { cause, detail: error.to_string() }
    })
}

/// A call's outbox: every wish is a frame in a buffer, or something done to a socket.
pub(super) struct Desk<'a> {
    legs: &'a mut Legs,
    to_caller: &'a mut WriteBuffer,
    to_agent: &'a mut [WriteBuffer; 2],
}

impl Desk<'_> {
    /// Counts what the caller says.
    pub(super) fn heard_caller(&mut self, event: &CallerEvent<'_>) {
        self.legs.wake.frames_up += u64::from(matches!(event, CallerEvent::Media { .. }));
    }

    /// Counts what an agent says.
    pub(super) fn heard_agent(&mut self, event: &AgentEvent<'_>) {
        self.legs.wake.deltas += u64::from(matches!(event, AgentEvent::Audio { .. }));
    }

    fn tell_caller(&mut self, message: &CallerMessage<'_>) {
        let Line { socket, wire, .. } = &mut self.legs.caller;
        socket.text(self.to_caller, |text| wire.write(message, text));
        self.legs.wake.frames_down += u64::from(matches!(message, CallerMessage::Media(_)));
    }

    fn tell_agent(&mut self, slot: Slot, message: &AgentMessage<'_>) {
        // A message to a socket that is gone is of no use; the call hears of the loss in this
        // wake, or has heard of it.
        if let AgentLeg::Open(Line { socket, wire, .. }) = &mut self.legs.agents[slot as usize] {
            let out = &mut self.to_agent[slot as usize];
            socket.text(out, |text| wire.write(message, text));
            self.legs.wake.appends += u64::from(matches!(message, AgentMessage::Audio(_)));
        }
    }
}

impl Outbox for Desk<'_> {
    fn put(&mut self, output: Output<'_>) {
        match output {
            Output::ToCaller(message) => self.tell_caller(&message),
            Output::ToAgent(slot, message) => self.tell_agent(slot, &message),
            Output::Dial(slot) => self.legs.dial(slot),
            Output::CloseAgent(slot) => self.legs.close_agent(slot),
            Output::RunTool(..) | Output::DropTool(_) => {}
            Output::Note(milestone) => self.legs.log.note(&milestone),
            Output::CloseCaller(why) => self.legs.caller.socket.close(close_code(why), ""),
            Output::End(reason) => self.legs.ended = Some(reason),
        }
    }
}

fn close_code(why: CloseWhy) -> CloseCode {
    match why {
        CloseWhy::Normal => CloseCode::NORMAL,
        CloseWhy::Protocol => CloseCode::PROTOCOL,
        CloseWhy::GoingAway => CloseCode::GOING_AWAY,
    }
}

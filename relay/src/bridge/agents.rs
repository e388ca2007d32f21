//! The agents' sockets: two slots, and those that only finish.
//!
//! | slot | on | to |
//! |---|---|---|
//! | any | the call dials | `Dialling`; an old socket is set aside |
//! | `Dialling` | the socket is open | `Open` |
//! | `Dialling` | no socket | `Closed` |
//! | `Open` | the socket is gone, or the call closes it | `Closed`; it is set aside |
//!
//! A socket that is set aside is not heard any more: its close frame leaves, the peer's is waited
//! for, and meanwhile its slot is free for another.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use link::agent::AgentSpec;
use tokio::time::{Sleep, sleep};

use crate::call::input::{AgentEvent, Input, Loss, Side, Slot};
use crate::call::output::AgentMessage;
use crate::shard::Shard;
use crate::wire::{AgentDialect, AgentWire};
use crate::ws::{CloseCode, DetachedSocket, Messages, ReadBuffer, Socket, WriteBuffer};

use super::CLOSE_WITHIN;
use super::dialling::{Dialer, Dialling, Undialled, loss, travelled};
use super::line::{Found, Line};

/// The agents' sockets of one call.
pub(super) struct Agents {
    slots: [Place; 2],
    aside: Vec<Leaving>,
    dialer: Dialer,
}

/// One slot.
struct Place {
    leg: AgentLeg,
    /// Counts its sockets, so that nothing of one is taken for another's.
    number: u32,
}

/// What is in a slot.
enum AgentLeg {
    /// No socket.
    Closed,
    /// One is being opened.
    Dialling(Dialling),
    /// An open one.
    Open(Box<Line<AgentWire>>),
}

/// What comes from an agent's slot.
pub(super) enum Heard<'b> {
    /// Its socket is open.
    Connected,
    /// It says something.
    Messages(Speaker, Messages<'b>),
    /// Its socket could not be opened, or is gone.
    Lost {
        /// How.
        cause: Loss,
        /// For the operator.
        detail: String,
    },
}

/// Which socket says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speaker {
    /// The slot.
    pub(super) slot: Slot,
    /// The words it speaks.
    pub(super) dialect: AgentDialect,
    /// Which of the slot's sockets.
    number: u32,
}

impl Agents {
    /// No socket yet.
    pub(super) fn new(shard: &Shard, agent: &Arc<AgentSpec>) -> Self {
        let place = || Place { leg: AgentLeg::Closed, number: 0 };
        Self {
            slots: [place(), place()],
            aside: Vec::new(),
            dialer: Dialer::new(shard, agent.clone()),
        }
    }

    /// Whether what a socket says is still for the call.
    pub(super) fn hears(&self, speaker: Speaker) -> bool {
        self.slots[speaker.slot as usize].number == speaker.number
    }

    /// Goes on with a slot: with opening its socket, or with reading from it once.
    pub(super) fn poll<'b>(
        &mut self,
        slot: Slot,
        cx: &mut Context<'_>,
        read: &'b mut ReadBuffer,
        out: &mut WriteBuffer,
    ) -> Poll<Heard<'b>> {
        let Place { leg, number } = &mut self.slots[slot as usize];
        let line = match leg {
            AgentLeg::Closed => return Poll::Pending,
            AgentLeg::Dialling(dialling) => {
                let opened = ready!(dialling.as_mut().poll(cx));
                return Poll::Ready(match opened {
                    Ok(socket) => {
                        *leg = AgentLeg::Open(Box::new(self.dialer.line(socket)));
                        Heard::Connected
                    }
                    Err(Undialled { cause, detail }) => {
                        *leg = AgentLeg::Closed;
                        Heard::Lost { cause, detail }
                    }
                });
            }
            AgentLeg::Open(line) => line,
        };
        Poll::Ready(match ready!(line.poll_read(cx, read)) {
            Ok(messages) => {
                let speaker = Speaker { slot, dialect: line.wire.dialect(), number: *number };
                Heard::Messages(speaker, messages)
            }
            Err(error) => {
                let cause = loss(&error);
                let lost = Heard::Lost { cause, detail: error.to_string() };
                // At once, not at the end of the call: there may be hours between them.
                if let AgentLeg::Open(mut line) = std::mem::replace(leg, AgentLeg::Closed) {
                    *number += 1;
                    // What was said to it in this wake leaves the buffer, which is the shard's.
                    line.socket.set_aside(out);
                    set_aside(&mut self.aside, line.socket);
                }
                lost
            }
        })
    }

    /// Opens a socket; an old one in its slot is closed.
    pub(super) fn dial(&mut self, slot: Slot, out: &mut WriteBuffer) {
        self.close(slot, out);
        self.slots[slot as usize].leg = AgentLeg::Dialling(self.dialer.dial());
    }

    /// Closes a socket, or stops opening it. What it still says is lost.
    pub(super) fn close(&mut self, slot: Slot, out: &mut WriteBuffer) {
        let place = &mut self.slots[slot as usize];
        place.number += 1;
        match std::mem::replace(&mut place.leg, AgentLeg::Closed) {
            AgentLeg::Open(mut line) => {
                // Its buffer is the slot's, and the next socket of the slot may want it in this wake.
                line.socket.set_aside(out);
                line.socket.close(CloseCode::NORMAL, "");
                set_aside(&mut self.aside, line.socket);
            }
            // A connection in the making is dropped with its future.
            AgentLeg::Closed | AgentLeg::Dialling(_) => {}
        }
    }

    /// Says something on a slot's socket; `false` when there is none. The call hears of that in
    /// this wake, or has heard of it.
    pub(super) fn say(
        &mut self,
        slot: Slot,
        message: &AgentMessage<'_>,
        out: &mut WriteBuffer,
    ) -> bool {
        let AgentLeg::Open(line) = &mut self.slots[slot as usize].leg else { return false };
        let Line { socket, wire, .. } = &mut **line;
        socket.text(out, |text| wire.write(message, text));
        true
    }

    /// Asks a slot's socket for a sign of life, if there is one.
    pub(super) fn ping(&mut self, slot: Slot) {
        if let AgentLeg::Open(line) = &mut self.slots[slot as usize].leg {
            line.socket.ping();
        }
    }

    /// Writes what was said, until a slot has something to tell the call.
    pub(super) fn flush(
        &mut self,
        cx: &mut Context<'_>,
        to_agent: &mut [WriteBuffer; 2],
    ) -> Option<Input<'static>> {
        for (slot, out) in [Slot::A, Slot::B].into_iter().zip(to_agent) {
            let Place { leg, number } = &mut self.slots[slot as usize];
            let AgentLeg::Open(line) = leg else { continue };
            let Some(found) = line.flush(cx, out) else { continue };
            return Some(match found {
                Found::Stalled => Input::Stalled(Side::Agent(slot)),
                Found::Drained => Input::Drained(Side::Agent(slot)),
                // Nothing can be written, not even a goodbye: dropped, not set aside.
                Found::Lost => {
                    *leg = AgentLeg::Closed;
                    *number += 1;
                    let (cause, detail) = (Loss::Closed, "write_failed");
                    Input::Agent(slot, AgentEvent::Lost { cause, detail })
                }
            });
        }
        None
    }

    /// Closes everything.
    pub(super) fn leave(&mut self, to_agent: &mut [WriteBuffer; 2]) {
        for (slot, out) in [Slot::A, Slot::B].into_iter().zip(to_agent) {
            self.close(slot, out);
        }
    }

    /// Brings the sockets that were set aside to their end.
    pub(super) fn poll_aside(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut WriteBuffer,
        read: &mut ReadBuffer,
    ) -> Poll<()> {
        self.aside.retain_mut(|leaving| leaving.poll(cx, out, read).is_pending());
        if self.aside.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes the slots' sockets off their shard. Those that only finish are dropped: a call that
    /// moves has hardly ever had one.
    pub(super) fn detach(self) -> io::Result<DetachedAgents> {
        let [a, b] = self.slots;
        Ok(DetachedAgents { slots: [a.detach()?, b.detach()?], agent: self.dialer.agent })
    }
}

impl Place {
    fn detach(self) -> io::Result<DetachedPlace> {
        let leg = match self.leg {
            AgentLeg::Closed => DetachedLeg::Closed,
            AgentLeg::Dialling(dialling) => DetachedLeg::Dialling(dialling),
            AgentLeg::Open(line) => DetachedLeg::Open(Box::new(line.detach()?)),
        };
        Ok(DetachedPlace { leg, number: self.number })
    }
}

/// Agents' sockets on their way to another shard.
pub(super) struct DetachedAgents {
    slots: [DetachedPlace; 2],
    agent: Arc<AgentSpec>,
}

struct DetachedPlace {
    leg: DetachedLeg,
    number: u32,
}

enum DetachedLeg {
    Closed,
    /// Moves as it is: what is opened meanwhile belongs to the first shard's reactor and is moved
    /// once it is open.
    Dialling(Dialling),
    Open(Box<Line<AgentWire, DetachedSocket>>),
}

impl DetachedAgents {
    /// Goes on with the sockets on this shard.
    pub(super) fn attach(self, shard: &Shard) -> io::Result<Agents> {
        let dialer = Dialer::new(shard, self.agent);
        let [a, b] = self.slots;
        let slots = [a.attach()?, b.attach()?];
        Ok(Agents { slots, aside: Vec::new(), dialer })
    }
}

impl DetachedPlace {
    fn attach(self) -> io::Result<Place> {
        let leg = match self.leg {
            DetachedLeg::Closed => AgentLeg::Closed,
            DetachedLeg::Dialling(dialling) => AgentLeg::Dialling(travelled(dialling)),
            DetachedLeg::Open(line) => AgentLeg::Open(Box::new(line.attach()?)),
        };
        Ok(Place { leg, number: self.number })
    }
}

/// A socket that only finishes.
struct Leaving {
    socket: Socket,
    deadline: Pin<Box<Sleep>>,
}

impl Leaving {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut WriteBuffer,
        read: &mut ReadBuffer,
    ) -> Poll<()> {
        // The peer's last words are read and thrown away: bytes that nobody reads would turn our
        // close into a reset, which may overtake the close frame.
        if self.socket.poll_finish(cx, out, read).is_ready() {
            return Poll::Ready(());
        }
        self.deadline.as_mut().poll(cx)
    }
}

fn set_aside(aside: &mut Vec<Leaving>, socket: Socket) {
    // The oldest has had the most time.
    if aside.len() == ASIDE_MAX {
        aside.remove(0);
    }
    aside.push(Leaving { socket, deadline: Box::pin(sleep(CLOSE_WITHIN)) });
}

/// The most sockets of a call that only finish. Each does so within a second, and a call dials
/// again after 200 ms at the soonest; when there are more, the oldest is dropped without a goodbye.
const ASIDE_MAX: usize = 4;

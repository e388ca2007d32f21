//! The driver of a call: one task, one loop over its letters, its caller, its agents and its
//! deadline. It carries out what the [`Call`] says, and decides nothing.
//!
//! One wake: take everything that has happened, in rounds, until nothing more has; then one write
//! per leg. Messages are read in the shard's read buffer and written into its write buffers, by
//! `bridge/legs.rs`; nothing of a frame outlives the wake. A wake takes a bounded number of rounds,
//! so that one flooded call cannot starve the others of its shard.

mod alarm;
mod legs;
mod line;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use link::agent::{AgentAudio, AgentSpec};
use link::event::EndReason;
use tokio::time::timeout;

use crate::admit::Admitted;
use crate::call::input::{AgentEvent, AgentFormat, CallerEvent, Input, Slot};
use crate::call::moment::Moment;
use crate::call::{Call, CallSpec, Opening};
use crate::mailbox::{Letter, Mailbox};
use crate::shard::{Buffers, Shard};
use crate::telemetry::CallLog;
use crate::wire::{self, AgentDialect, CallerDialect};
use crate::ws::{Message, Socket, SocketError};

use self::alarm::Alarm;
use self::legs::{Desk, Heard, Legs};

/// Drives one call from its `start` to its end.
pub async fn run(
    shard: &Rc<Shard>,
    caller: Socket,
    admitted: Admitted,
    mailbox: &Mailbox,
    log: CallLog,
) {
    let spec = call_spec(&admitted.agent, shard.playout_lead);
    let tls = shard.agent_tls.clone();
    let legs = Legs::new(caller, &admitted.stream_sid, admitted.agent, tls, log);
    let now = shard.clock.now();
    let alarm = Alarm::new(shard.clock);
    let mut bridge = Bridge { shard, mailbox, call: Call::new(spec, now), legs, alarm, now };

    bridge.begin(&admitted.early);
    let reason = poll_fn(|cx| bridge.poll(cx)).await;
    // A peer that does not close is dropped all the same.
    let _ = timeout(CLOSE_WITHIN, poll_fn(|cx| bridge.poll_close(cx))).await;
    bridge.legs.log.end(reason);
}

/// One call and everything it is connected to.
struct Bridge<'a> {
    shard: &'a Shard,
    mailbox: &'a Mailbox,
    call: Call,
    legs: Legs,
    alarm: Alarm,
    /// The moment at which this round began.
    now: Moment,
}

impl Bridge<'_> {
    /// The stream has begun, and some of it has been read already.
    fn begin(&mut self, early: &[String]) {
        let Buffers { to_caller, to_agent, .. } = &mut *self.shard.buffers.borrow_mut();
        let dialect = self.legs.caller_dialect();
        let mut desk = self.legs.desk(to_caller, to_agent);
        self.call.handle(Input::Caller(CallerEvent::Started), self.now, &mut desk);
        for text in early {
            hear_caller(&mut self.call, dialect, Message::Text(text), self.now, &mut desk);
        }
    }

    /// One wake: what has happened, in rounds, then one write per leg.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        let buffers = &mut *self.shard.buffers.borrow_mut();
        let began = self.shard.clock.now();
        let mut rounds = 0;
        loop {
            while rounds < ROUNDS_MAX && self.take(cx, buffers) {
                rounds += 1;
            }
            if !self.flush(cx, buffers) || rounds == ROUNDS_MAX {
                break;
            }
        }
        self.legs.count(self.shard.clock.now().since(began));
        // There may be more, and nobody would say so again.
        if rounds == ROUNDS_MAX {
            cx.waker().wake_by_ref();
        }
        self.legs.ended().map_or(Poll::Pending, Poll::Ready)
    }

    /// One round. Says whether anything had happened. Everyone is asked, so that everyone leaves
    /// word to be woken.
    fn take(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        // A deadline may have been a little ahead of the clock; the call's time never goes back.
        self.now = self.now.max(self.shard.clock.now());
        self.take_letter(cx, buffers)
            | self.take_caller(cx, buffers)
            | self.take_agent(Slot::A, cx, buffers)
            | self.take_agent(Slot::B, cx, buffers)
            | self.take_deadline(cx, buffers)
    }

    fn take_letter(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        let Poll::Ready(letter) = self.mailbox.poll_take(cx) else { return false };
        match &letter {
            Letter::Command(id, command) => {
                self.handle(Input::Command { id: id.as_ref(), command }, buffers);
            }
            Letter::Recorded(record) => self.handle(Input::Recorded(*record), buffers),
            Letter::Drain => self.handle(Input::Drain, buffers),
        }
        true
    }

    fn take_caller(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        match self.legs.poll_caller(cx, &mut buffers.read) {
            Poll::Ready(Ok(messages)) => {
                let dialect = self.legs.caller_dialect();
                let mut desk = self.legs.desk(&mut buffers.to_caller, &mut buffers.to_agent);
                for message in messages {
                    hear_caller(&mut self.call, dialect, message, self.now, &mut desk);
                }
                true
            }
            Poll::Ready(Err(error)) => {
                let event = match error {
                    SocketError::Violation(_) => CallerEvent::Violated,
                    SocketError::Closed(_)
                    | SocketError::Ended
                    | SocketError::BacklogFull
                    | SocketError::Io(_) => CallerEvent::Lost,
                };
                self.handle(Input::Caller(event), buffers);
                true
            }
            Poll::Pending => false,
        }
    }

    fn take_agent(&mut self, slot: Slot, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        match self.legs.poll_agent(slot, cx, &mut buffers.read) {
            Poll::Ready(Heard::Messages(dialect, messages)) => {
                let mut desk = self.legs.desk(&mut buffers.to_caller, &mut buffers.to_agent);
                for message in messages {
                    hear_agent(&mut self.call, (slot, dialect), message, self.now, &mut desk);
                }
                true
            }
            Poll::Ready(Heard::Connected) => true,
            Poll::Ready(Heard::Lost { cause, detail }) => {
                let lost = AgentEvent::Lost { cause, detail: &detail };
                self.handle(Input::Agent(slot, lost), buffers);
                true
            }
            Poll::Pending => false,
        }
    }

    fn take_deadline(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        let Poll::Ready(now) = self.alarm.poll(cx, self.call.next_timeout()) else { return false };
        self.now = now;
        self.handle(Input::Tick, buffers);
        true
    }

    /// Writes what the call has said. Says whether that made anything happen.
    fn flush(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        let mut again = false;
        while let Some(input) = self.legs.flush(cx, &mut buffers.to_caller, &mut buffers.to_agent) {
            self.handle(input, buffers);
            again = true;
        }
        again
    }

    fn handle(&mut self, input: Input<'_>, buffers: &mut Buffers) {
        let mut desk = self.legs.desk(&mut buffers.to_caller, &mut buffers.to_agent);
        self.call.handle(input, self.now, &mut desk);
    }

    /// Brings all sockets to their end.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.legs.poll_close(cx, &mut self.shard.buffers.borrow_mut())
    }
}

fn hear_caller(
    call: &mut Call,
    dialect: CallerDialect,
    message: Message<'_>,
    now: Moment,
    desk: &mut Desk<'_>,
) {
    match message {
        Message::Text(text) => dialect.read(text, |event| {
            desk.heard_caller(&event);
            call.handle(Input::Caller(event), now, desk);
        }),
        Message::Binary(_) => call.handle(Input::Caller(CallerEvent::Malformed), now, desk),
        // The next read says that the socket is gone.
        Message::Closed { .. } => {}
    }
}

fn hear_agent(
    call: &mut Call,
    (slot, dialect): (Slot, AgentDialect),
    message: Message<'_>,
    now: Moment,
    desk: &mut Desk<'_>,
) {
    match message {
        Message::Text(text) => dialect.read(text, |event| {
            desk.heard_agent(&event);
            call.handle(Input::Agent(slot, event), now, desk);
        }),
        Message::Binary(_) => call.handle(Input::Agent(slot, AgentEvent::Malformed), now, desk),
        Message::Closed { .. } => {}
    }
}

fn call_spec(agent: &AgentSpec, playout_lead: Duration) -> CallSpec {
    CallSpec {
        agent_audio: match agent.audio {
            AgentAudio::Mulaw => AgentFormat::Ulaw,
            AgentAudio::Pcm24k => AgentFormat::Pcm24k,
        },
        opening: match agent.greeting {
            Some(_) => Opening::AgentGreets,
            None => Opening::CallerSpeaks,
        },
        interruption: wire::interruption(agent),
        call_max: Duration::from_secs(agent.limits.call_seconds_max.into()),
        playout_lead,
        sorry: SORRY,
    }
}

/// What the caller hears when the agent is of no use: mu-law, 8 kHz.
const SORRY: &[u8] = include_bytes!("../assets/sorry.ulaw");

/// The most rounds of one wake: some hundred messages. A call that has more lets the others of its
/// shard go first.
const ROUNDS_MAX: u32 = 16;

/// How long a peer may take to close after our close frame.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

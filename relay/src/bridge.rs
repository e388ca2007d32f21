//! The driver of a call: one task, one loop over its letters, its caller, its agents, its errands
//! and its deadline. It carries out what the [`Call`] says, and decides nothing.
//!
//! One wake: take everything that has happened, leg by leg, until nothing more has; then one write
//! per leg. Messages are read in the shard's read buffer and written into its write buffers, by
//! `bridge/desk.rs`; nothing of a frame outlives the wake. A wake takes a bounded number of steps,
//! so that one flooded call cannot starve the others of its shard.
//!
//! A call may be driven before its caller is here, and move to another shard once it is
//! (`shard/anteroom.rs`). The files: `legs` (who is connected), `agents` (the two slots),
//! `dialling`, `errands` (tools), `line` (one socket), `desk` (what the call wants done).

mod agents;
mod alarm;
mod desk;
mod dialling;
mod errands;
mod legs;
mod line;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use link::agent::AgentSpec;
use link::event::EndReason;
use link::message::Said;
use tokio::time::timeout;

use crate::admit::{Admitted, Early};
use crate::call::input::{AgentEvent, AudioFormat, Batch, CallerEvent, Input, Preparation, Slot};
use crate::call::moment::Moment;
use crate::call::{Call, CallSpec};
use crate::mailbox::{Letter, Mailbox};
use crate::shard::{Buffers, Shard};
use crate::telemetry::CallLog;
use crate::wire::CallerDialect;
use crate::ws::{Message, Socket, Watch};

use self::agents::{Heard, Speaker};
use self::alarm::Alarm;
use self::desk::Desk;
use self::legs::{DetachedLegs, Legs};

/// One call and everything it is connected to.
pub(crate) struct Bridge {
    shard: Rc<Shard>,
    mailbox: Rc<Mailbox>,
    call: Call,
    legs: Legs,
    alarm: Alarm,
    /// How the call was told to send the caller's audio on.
    batch: Batch,
    /// The moment at which this round began.
    now: Moment,
}

impl Bridge {
    /// A call whose caller is not here, and whose agent is not dialled.
    pub(crate) fn new(shard: &Rc<Shard>, agent: &Arc<AgentSpec>, caller: AudioFormat) -> Self {
        let now = shard.clock.now();
        let call = Call::new(call_spec(agent, caller, shard.playout_lead, spread(now)), now);
        Self::around(shard, call, Legs::new(shard, agent), now)
    }

    fn around(shard: &Rc<Shard>, call: Call, legs: Legs, now: Moment) -> Self {
        let (mailbox, alarm) = (Rc::default(), Alarm::new(shard.clock));
        let batch = Batch::Off;
        Self { shard: shard.clone(), mailbox, call, legs, alarm, batch, now }
    }

    /// Gets the agent ready for a caller who is to come.
    pub(crate) fn prepare(&mut self, preparation: Preparation) {
        let shard = self.shard.clone();
        self.handle(Input::Announced(preparation), &mut shard.buffers.borrow_mut());
    }

    /// Tells a call that goes on here what was said in it so far; its caller is still to come.
    pub(crate) fn continue_with(&mut self, said: &[Said]) {
        let shard = self.shard.clone();
        self.handle(Input::Continues(said), &mut shard.buffers.borrow_mut());
    }

    /// Whether a session of the agent's has been ready.
    pub(crate) fn has_been_ready(&self) -> bool {
        self.legs.has_been_ready()
    }

    /// Drives the call of this caller to its end.
    pub(crate) async fn run(
        mut self,
        caller: Socket,
        admitted: Admitted,
        mailbox: Rc<Mailbox>,
        log: CallLog,
    ) {
        // While it waited nobody could write to it: control knows a call by its stream.
        self.mailbox = mailbox;
        let dialect = self.legs.welcome(caller, &admitted, log);
        self.begin(dialect, &admitted.early);
        let reason = poll_fn(|cx| self.poll(cx)).await;
        // The sockets first: whoever is told of the end may look whether any is left.
        self.close().await;
        self.legs.end(reason);
    }

    /// Brings all sockets to their end.
    pub(crate) async fn close(&mut self) {
        self.legs.leave(&mut self.shard.buffers.borrow_mut());
        let finish = poll_fn(|cx| self.legs.poll_close(cx, &mut self.shard.buffers.borrow_mut()));
        // A peer that does not close is dropped all the same.
        let _ = timeout(CLOSE_WITHIN, finish).await;
    }

    /// The stream has begun, and some of it has been read already.
    fn begin(&mut self, dialect: CallerDialect, early: &[Early]) {
        let shard = self.shard.clone();
        let buffers = &mut *shard.buffers.borrow_mut();
        // A call that was prepared on another shard may have seen a deadline ahead of the clock.
        self.now = self.now.max(shard.clock.now());
        self.handle(Input::Caller(CallerEvent::Started), buffers);
        let mut desk = self.legs.desk(buffers);
        for early in early {
            hear_caller(&mut self.call, dialect, early.message(), self.now, &mut desk);
        }
    }

    /// One wake: what has happened, leg by leg, then one write per leg.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        let shard = self.shard.clone();
        let buffers = &mut *shard.buffers.borrow_mut();
        let began = shard.clock.now();
        let mut budget = STEPS_MAX;
        self.heed(shard.uplink_batch(), began, buffers);
        loop {
            // A deadline may have been a little ahead of the clock; the call's time never goes back.
            self.now = self.now.max(began);
            self.take_all(cx, buffers, &mut budget);
            // What a flush found out (a socket that stalls, or is gone) may make the call speak; what
            // the call has begun is to be asked once, or it would wake nobody.
            let again = self.flush(cx, buffers) | self.legs.take_begun();
            if !again || budget == 0 {
                break;
            }
        }
        self.legs.count(shard.clock, began);
        // There may be more, and nobody would say so again.
        if budget == 0 {
            cx.waker().wake_by_ref();
        }
        self.legs.ended().map_or(Poll::Pending, Poll::Ready)
    }

    /// Tells the call how its shard wants audio sent on, when that has changed.
    fn heed(&mut self, batch: Batch, began: Moment, buffers: &mut Buffers) {
        if self.batch != batch {
            self.batch = batch;
            self.now = self.now.max(began);
            self.handle(Input::Batch(batch), buffers);
        }
    }

    /// Takes everything that has happened, as long as the budget lasts. Everyone is asked until
    /// there is nothing more, so that everyone leaves word to be woken.
    fn take_all(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers, budget: &mut u32) {
        let steps: [Step; 6] = [
            Self::take_letter,
            Self::take_caller,
            |bridge, cx, buffers| bridge.take_agent(Slot::A, cx, buffers),
            |bridge, cx, buffers| bridge.take_agent(Slot::B, cx, buffers),
            Self::take_errand,
            Self::take_deadline,
        ];
        for step in steps {
            while *budget > 0 && step(self, cx, buffers) {
                *budget -= 1;
                // The caller still hears what is to be cleared: that waits for nobody else.
                if self.legs.is_urgent() {
                    self.flush(cx, buffers);
                }
            }
        }
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
        let reads_at = self.call.reads_caller_at();
        let watch = if reads_at.is_some() { Watch::InOwnTime } else { Watch::Woken };
        if let Err(event) = self.legs.watch_caller(watch) {
            self.handle(Input::Caller(event), buffers);
            return true;
        }
        if reads_at.is_some_and(|at| self.now < at) {
            return false;
        }
        // One read; then the deadline that follows says when the next one is.
        self.read_caller(cx, buffers) && reads_at.is_none()
    }

    fn read_caller(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        match self.legs.poll_caller(cx, &mut buffers.read) {
            Poll::Ready(Ok((dialect, messages))) => {
                let Buffers { to_caller, to_agent, .. } = buffers;
                let mut desk = self.legs.desk_of(to_caller, to_agent);
                for message in messages {
                    hear_caller(&mut self.call, dialect, message, self.now, &mut desk);
                }
                true
            }
            Poll::Ready(Err(event)) => {
                self.handle(Input::Caller(event), buffers);
                true
            }
            Poll::Pending => false,
        }
    }

    fn take_agent(&mut self, slot: Slot, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        let Buffers { read, to_caller, to_agent, .. } = buffers;
        match self.legs.poll_agent(slot, cx, read, &mut to_agent[slot as usize]) {
            Poll::Ready(Heard::Messages(speaker, messages)) => {
                let mut desk = self.legs.desk_of(to_caller, to_agent);
                for message in messages {
                    // What a message makes of the call may close its own socket.
                    if !desk.hears(speaker) {
                        break;
                    }
                    hear_agent(&mut self.call, speaker, message, self.now, &mut desk);
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

    fn take_errand(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        let Poll::Ready((id, end)) = self.legs.poll_errand(cx) else { return false };
        self.handle(Input::Tool(id, end.result()), buffers);
        true
    }

    fn take_deadline(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        let Some(at) = self.call.next_timeout() else { return false };
        if self.alarm.poll(cx, at, self.now).is_pending() {
            return false;
        }
        self.now = self.now.max(at);
        self.handle(Input::Tick, buffers);
        true
    }

    /// Writes what the call has said. Says whether that made anything happen.
    fn flush(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> bool {
        let mut again = false;
        while let Some(input) = self.legs.flush(cx, buffers) {
            self.handle(input, buffers);
            again = true;
        }
        again
    }

    fn handle(&mut self, input: Input<'_>, buffers: &mut Buffers) {
        let mut desk = self.legs.desk(buffers);
        self.call.handle(input, self.now, &mut desk);
    }

    /// Takes the call off its shard.
    ///
    /// # Errors
    /// When the system does not let a socket go; all are closed then.
    pub(crate) fn detach(self) -> io::Result<DetachedBridge> {
        Ok(DetachedBridge { call: self.call, legs: self.legs.detach()?, now: self.now })
    }
}

/// A call without a caller, on its way from the shard that prepared it to its caller's.
#[derive(Debug)]
pub(crate) struct DetachedBridge {
    call: Call,
    legs: DetachedLegs,
    now: Moment,
}

impl DetachedBridge {
    /// Goes on with the call on this shard.
    ///
    /// # Errors
    /// When the system does not take a socket; all are closed then.
    pub(crate) fn attach(self, shard: &Rc<Shard>) -> io::Result<Bridge> {
        let legs = self.legs.attach(shard)?;
        Ok(Bridge::around(shard, self.call, legs, self.now))
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
        Message::Binary(bytes) => dialect.read_bytes(bytes, |event| {
            desk.heard_caller(&event);
            call.handle(Input::Caller(event), now, desk);
        }),
        // The next read says that the socket is gone. A live phone speaks fifty times a second.
        Message::Closed { .. } | Message::Pong => {}
    }
}

fn hear_agent(
    call: &mut Call,
    speaker: Speaker,
    message: Message<'_>,
    now: Moment,
    desk: &mut Desk<'_>,
) {
    let slot = speaker.slot;
    match message {
        Message::Text(text) => speaker.dialect.read(text, |event| {
            desk.heard_agent(&event);
            call.handle(Input::Agent(slot, event), now, desk);
        }),
        Message::Binary(_) => call.handle(Input::Agent(slot, AgentEvent::Malformed), now, desk),
        Message::Pong => call.handle(Input::Agent(slot, AgentEvent::Alive), now, desk),
        Message::Closed { .. } => {}
    }
}

fn call_spec(
    agent: &Arc<AgentSpec>,
    caller: AudioFormat,
    playout_lead: Duration,
    spread: u8,
) -> CallSpec {
    CallSpec { agent: agent.clone(), caller, playout_lead, sorry: SORRY, moment: MOMENT, spread }
}

/// Calls that lose their agents at one moment did not begin at one.
fn spread(began: Moment) -> u8 {
    began.micros().to_le_bytes()[0]
}

/// What the caller hears when there is no agent any more: mu-law, 8 kHz.
const SORRY: &[u8] = include_bytes!("../assets/sorry.ulaw");

/// What the caller hears when an answer or an agent takes longer: the same.
const MOMENT: &[u8] = include_bytes!("../assets/moment.ulaw");

/// Something that may have happened to a call: takes one of it and says whether there was one.
type Step = fn(&mut Bridge, &mut Context<'_>, &mut Buffers) -> bool;

/// The most steps of one wake: reads of 64 KiB, letters, deadlines. A call that has more lets the
/// others of its shard go first.
const STEPS_MAX: u32 = 16;

/// How long a peer may take to close after our close frame.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

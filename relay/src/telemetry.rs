//! From what a call notes to what the outside sees: counters, one tracing span, events.
//!
//! [`Milestone`] is the only road to logs, metrics and events. What goes into a log line here are
//! ids, reasons and durations: never words, numbers or audio.

use std::sync::Arc;
use std::time::Duration;

use link::ephemeral::{Decided, Ephemeral, Passing};
use link::event::{CallEvent, EndReason, Role};
use link::id::{CallId, Gen, WallTime};
use tokio::sync::mpsc;
use tracing::{Span, debug, info, info_span, warn};

use crate::admit::Admitted;
use crate::call::input::RecordId;
use crate::call::moment::Moment;
use crate::call::output::{Flow, Milestone};
use crate::clock::{self, Clock};
use crate::mailbox::Letter;
use crate::metrics::Counters;
use crate::metrics::labels::{Answered, Lost, Speaker};

use self::words::{DETAIL_BYTES_MAX, cut, millis};

pub use self::words::{DELTA_BYTES_MAX, TEXT_BYTES_MAX};
pub use link::event::CallRef;

mod words;

/// An event on its way from a shard to the house, which numbers it.
#[derive(Debug)]
pub struct Noted {
    /// The call it belongs to; `None` when a stream never proved one.
    pub call: Option<CallRef>,
    /// When it happened.
    pub at: WallTime,
    /// What happened.
    pub event: CallEvent,
    /// Who wants to know that control has committed it.
    pub receipt: Option<Receipt>,
}

/// Where the word goes that an event is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The shard that carries the call.
    pub shard: usize,
    /// The call.
    pub call: CallId,
    /// The generation that wants to know.
    pub generation: Gen,
    /// The number the call gave to its decision.
    pub record: RecordId,
}

/// One shard's way out for events and counters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outlet {
    shard: usize,
    counters: Arc<Counters>,
    house: mpsc::Sender<Noted>,
    /// Where words go that are told for the moment; `None` when nobody listens.
    passing: Option<mpsc::Sender<Ephemeral>>,
    clock: Clock,
}

impl Outlet {
    /// The way out of one shard.
    #[must_use]
    pub fn new(
        shard: usize,
        counters: Arc<Counters>,
        house: mpsc::Sender<Noted>,
        clock: Clock,
    ) -> Self {
        Self { shard, counters, house, passing: None, clock }
    }

    /// The same, for a house that also passes on what is told for the moment.
    #[must_use]
    pub fn with_passing(self, passing: mpsc::Sender<Ephemeral>) -> Self {
        Self { passing: Some(passing), ..self }
    }

    /// The shard's counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts what a call notes.
    pub fn count(&self, milestone: &Milestone<'_>) {
        let counters = &*self.counters;
        match milestone {
            Milestone::Started => counters.streams_started.one(),
            Milestone::AgentReady { after } => counters.agent_ready.observe(*after),
            Milestone::FirstVoice { after, prepared } => {
                counters.first_voice[usize::from(*prepared)].observe(*after);
            }
            Milestone::AgentLost { .. } => counters.agents_lost.one(),
            Milestone::AgentReplaced { because, gap, .. } => {
                counters.agents_replaced.of(*because).one();
                counters.agent_gap.observe(*gap);
            }
            Milestone::Forgotten { turns } => counters.turns_forgotten.add((*turns).into()),
            Milestone::Key(_) => counters.keys.one(),
            Milestone::Tool { outcome, after, .. } => {
                counters.tools.of(*outcome).one();
                counters.tool_time.observe(*after);
            }
            Milestone::CommandDone { refused, .. } => {
                counters.commands.of(answered(refused.is_some())).one();
            }
            Milestone::CallerTurn { .. } => counters.turns.of(Speaker::Caller).one(),
            Milestone::AgentTurn(turn) => {
                counters.turns.of(Speaker::Agent).one();
                if let Some(after) = turn.reply_after {
                    counters.reply.observe(after);
                }
            }
            Milestone::BargeIn(_) => counters.barge_ins.one(),
            // Counted with the stream's end, which every ending leads to; words with their turn.
            // And tools with their outcome.
            Milestone::Ending { .. }
            | Milestone::Leaving { .. }
            | Milestone::Saying { .. }
            | Milestone::ToolIntended { .. } => {}
            Milestone::Dropped { flow, ms } => {
                counters.audio_dropped_ms.of(*flow).add(u64::from(*ms));
            }
            Milestone::Tolerated(oddity) => counters.oddities.of(*oddity).one(),
        }
    }

    /// Answers a letter that no call will read, if anybody waits for an answer.
    pub fn return_letter(&self, call: &CallRef, letter: &Letter, why: &'static str) {
        match letter {
            Letter::Command(Some(id), _) => {
                self.counters.commands.of(Answered::Refused).one();
                let event = CallEvent::CommandDone { id: id.clone(), refused: Some(why.into()) };
                self.tell(Some(call.clone()), event, None);
            }
            Letter::Command(None, _) | Letter::Recorded(_) | Letter::Drain => {}
        }
    }

    /// Tells the house. When its channel is full the house is stuck: the event is lost and
    /// counted, calls go on.
    pub fn tell(&self, call: Option<CallRef>, event: CallEvent, receipt: Option<Receipt>) {
        let noted = Noted { call, at: clock::wall(), event, receipt };
        if self.house.try_send(noted).is_err() {
            self.counters.events_lost.of(Lost::Shard).one();
        }
    }

    /// Tells whoever listens at this moment the next words of a turn. The house looks for them by
    /// itself: it is not woken for each, and where there is no room they are dropped.
    fn pass(&self, call: &CallRef, role: Role, item: &str, text: &str) {
        // A service may say that there are words and give none.
        if text.is_empty() {
            return;
        }
        self.pass_on(call, Passing::TranscriptDelta(words::delta(role, item, text)));
    }

    fn pass_on(&self, call: &CallRef, event: Passing) {
        let Some(passing) = &self.passing else { return };
        let told = passing.try_send(Ephemeral { at: clock::wall(), call: call.clone(), event });
        if told.is_err() {
            self.counters.ephemeral_dropped.one();
        }
    }
}

/// Why a command was not carried out: the call has ended, or another node has it.
pub const NOT_HERE: &str = "the call is not on this node";

fn answered(is_refused: bool) -> Answered {
    if is_refused { Answered::Refused } else { Answered::Done }
}

/// Where the milestones of a call go.
#[derive(Debug)]
pub enum Log {
    /// Nobody knows yet whose call it is: they are counted.
    Nobodys(Outlet),
    /// The call has a name.
    Calls(Box<CallLog>),
}

impl Log {
    /// Takes what the call notes.
    pub fn note(&mut self, milestone: &Milestone<'_>) {
        match self {
            Self::Nobodys(outlet) => outlet.count(milestone),
            Self::Calls(log) => log.note(milestone),
        }
    }

    /// Counts media frames of one wake.
    pub fn frames(&mut self, flow: Flow, frames: u64) {
        match self {
            Self::Nobodys(_) => {}
            Self::Calls(log) => log.frames(flow, frames),
        }
    }

    /// Counts messages to an agent that carry more than one frame.
    pub fn joined(&self, messages: u64) {
        match self {
            Self::Calls(log) if messages > 0 => log.outlet.counters.uplink_joined.add(messages),
            Self::Nobodys(_) | Self::Calls(_) => {}
        }
    }

    /// Counts what the relay added to the way of one wake's audio.
    pub fn added(&self, flow: Flow, span: Duration) {
        match self {
            Self::Nobodys(_) => {}
            Self::Calls(log) => log.added(flow, span),
        }
    }

    /// Says that the stream is over, if there was one.
    pub fn end(self, reason: EndReason) {
        match self {
            Self::Nobodys(_) => {}
            Self::Calls(log) => log.end(reason),
        }
    }
}

/// What one call tells, from its admission to its end. When it is dropped without
/// [`CallLog::end`], the call's task has panicked or was thrown away, and it says so.
#[derive(Debug)]
pub struct CallLog {
    outlet: Outlet,
    call: CallRef,
    stream_sid: String,
    span: Span,
    began: Moment,
    frames_up: u64,
    frames_down: u64,
    ended: Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    NotYet,
    Said,
}

impl CallLog {
    /// The log of an admitted stream.
    #[must_use]
    pub fn new(outlet: Outlet, admitted: &Admitted) -> Self {
        let claims = &admitted.claims;
        let span = info_span!(
            "call",
            call = %claims.call,
            generation = %claims.generation,
            stream = %admitted.stream_sid,
            agent = %claims.agent,
        );
        let began = outlet.clock.now();
        Self {
            call: admitted.call_ref(),
            stream_sid: admitted.stream_sid.clone(),
            outlet,
            span,
            began,
            frames_up: 0,
            frames_down: 0,
            ended: Ended::NotYet,
        }
    }

    /// The call's span, for whoever logs on its behalf.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Counts media frames of one wake.
    pub fn frames(&mut self, flow: Flow, frames: u64) {
        match flow {
            Flow::Uplink => self.frames_up += frames,
            Flow::Playout => self.frames_down += frames,
        }
        self.outlet.counters.frames.of(flow).add(frames);
    }

    /// Counts what the relay added to the way of one wake's audio: from the read that brought it
    /// to the write that carried it on.
    pub fn added(&self, flow: Flow, span: Duration) {
        let n = match flow {
            Flow::Uplink => 0,
            Flow::Playout => 1,
        };
        self.outlet.counters.added_delay[n].observe(span);
    }

    /// Turns what the call notes into counters, log lines and events.
    pub fn note(&mut self, milestone: &Milestone<'_>) {
        // Counted first: what cannot be told, because the house is stuck, is counted all the same.
        self.outlet.count(milestone);
        self.span.in_scope(|| log(milestone));
        match milestone {
            Milestone::Started => {
                self.tell(CallEvent::StreamStarted { stream_sid: self.stream_sid.clone() });
            }
            Milestone::AgentReady { after } => {
                self.tell(CallEvent::AgentReady { after_ms: millis(*after) });
            }
            Milestone::Saying { role, item, text } => {
                self.outlet.pass(&self.call, *role, item, text);
            }
            Milestone::CallerTurn { order, item, text } => {
                self.tell(CallEvent::Turn(words::caller_turn(*order, item, text)));
            }
            Milestone::AgentTurn(turn) => self.tell(CallEvent::Turn(words::agent_turn(turn))),
            Milestone::BargeIn(cut) => self.tell(CallEvent::BargeIn(words::barge_in(cut))),
            Milestone::AgentReplaced { because, gap, turns, detail } => {
                let replaced = words::replaced(*because, *gap, *turns, detail);
                self.tell(CallEvent::AgentReplaced(replaced));
            }
            Milestone::Key(digit) => self.tell(CallEvent::Dtmf { digit: *digit }),
            Milestone::ToolIntended { record, name, request } => {
                let intent = words::tool_intent(name, request);
                self.record(*record, CallEvent::ToolIntended(intent));
            }
            Milestone::Tool { name, request, outcome, after } => {
                self.tell(CallEvent::Tool(words::tool_use(name, request, *outcome, *after)));
            }
            Milestone::CommandDone { id, refused } => {
                let refused = refused.map(str::to_owned);
                self.tell(CallEvent::CommandDone { id: (*id).clone(), refused });
            }
            Milestone::Ending { record, reason, detail, transfer_to } => {
                let detail = detail.map(|text| cut(text, DETAIL_BYTES_MAX));
                let transfer_to = transfer_to.cloned();
                let decided = Decided { reason: *reason, transfer_to: transfer_to.clone() };
                self.outlet.pass_on(&self.call, Passing::Decided(decided));
                self.record(*record, CallEvent::Ending { reason: *reason, detail, transfer_to });
            }
            Milestone::Leaving { record, to } => {
                self.record(*record, CallEvent::StreamLeaving { to: to.cloned() });
            }
            // For operators, in counters and logs; of no use to a web application.
            Milestone::FirstVoice { .. }
            | Milestone::AgentLost { .. }
            | Milestone::Forgotten { .. }
            | Milestone::Dropped { .. }
            | Milestone::Tolerated(_) => {}
        }
    }

    /// Says that the stream is over; the last thing that a call tells.
    pub fn end(mut self, reason: EndReason) {
        self.say_end(reason);
    }

    /// Tells what control is to commit before the call goes on.
    fn record(&self, record: RecordId, event: CallEvent) {
        let receipt = Receipt {
            shard: self.outlet.shard,
            call: self.call.id.clone(),
            generation: self.call.generation,
            record,
        };
        self.outlet.tell(Some(self.call.clone()), event, Some(receipt));
    }

    fn say_end(&mut self, reason: EndReason) {
        self.ended = Ended::Said;
        let after = self.outlet.clock.now().since(self.began);
        self.outlet.counters.streams_ended.of(reason).one();
        let (frames_up, frames_down) = (self.frames_up, self.frames_down);
        let after_ms = millis(after);
        self.span.in_scope(|| {
            info!(reason = reason.as_str(), after_ms, frames_up, frames_down, "stream ended");
        });
        self.tell(CallEvent::StreamEnded { reason, after_ms, frames_up, frames_down });
    }

    fn tell(&self, event: CallEvent) {
        self.outlet.tell(Some(self.call.clone()), event, None);
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if self.ended == Ended::NotYet {
            self.span.in_scope(|| warn!("the task of a call was lost"));
            self.say_end(EndReason::RelayFault);
        }
    }
}

/// One line for what an operator follows a call by. Neither words nor keys nor addresses.
fn log(milestone: &Milestone<'_>) {
    match milestone {
        Milestone::Started => info!("stream started"),
        Milestone::AgentReady { after } => info!(after_ms = millis(*after), "agent ready"),
        Milestone::FirstVoice { after, prepared } => {
            debug!(after_ms = millis(*after), prepared, "agent heard first");
        }
        Milestone::AgentLost { detail } => info!(detail, "agent lost"),
        Milestone::AgentReplaced { because, gap, turns, detail } => {
            info!(?because, gap_ms = millis(*gap), turns, detail, "agent replaced");
        }
        Milestone::Forgotten { turns } => info!(turns, "turns forgotten"),
        // Words are never logged, not even that there were some.
        Milestone::Saying { .. } => {}
        // Which key is a secret: callers type PINs.
        Milestone::Key(_) => debug!("key pressed"),
        Milestone::ToolIntended { name, .. } => debug!(name, "tool to be used"),
        Milestone::Tool { name, outcome, after, .. } => {
            debug!(name, ?outcome, after_ms = millis(*after), "tool used");
        }
        Milestone::CommandDone { id, refused } => info!(command = %id, refused, "command done"),
        Milestone::CallerTurn { item, .. } => debug!(item, "caller turn"),
        Milestone::AgentTurn(turn) => {
            let (item, heard_ms, interrupted) = (turn.item, turn.heard_ms, turn.interrupted);
            debug!(item, heard_ms, interrupted, "agent turn");
        }
        Milestone::BargeIn(cut) => {
            debug!(heard_ms = cut.heard_ms, sent_ms = cut.sent_ms, "caller interrupted");
        }
        // The address of a transfer is a person's number; it is in the event only.
        Milestone::Ending { reason, detail, .. } => {
            info!(reason = reason.as_str(), detail, "call ending");
        }
        Milestone::Leaving { to, .. } => {
            info!(to = to.map(tracing::field::display), "stream leaving");
        }
        Milestone::Dropped { flow, ms } => debug!(?flow, ms, "audio dropped"),
        Milestone::Tolerated(oddity) => debug!(?oddity, "tolerated"),
    }
}

//! From what a call notes to what the outside sees: counters, one tracing span, events.
//!
//! [`Milestone`] is the only road to logs, metrics and events. What goes into a log line here are
//! ids, reasons and durations: never words, numbers or audio.

use std::sync::Arc;
use std::time::Duration;

use link::event::{self, CallEvent, EndReason, Role, Turn};
use link::id::{CallId, Gen, WallTime};
use tokio::sync::mpsc;
use tracing::{Span, debug, info, info_span, warn};

use crate::admit::Admitted;
use crate::call::input::RecordId;
use crate::call::moment::Moment;
use crate::call::output::{AgentTurn, BargeIn, Flow, Milestone};
use crate::clock::{self, Clock};
use crate::metrics::Counters;
use crate::metrics::labels::{Lost, Speaker};

pub use link::event::CallRef;

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
        Self { shard, counters, house, clock }
    }

    /// The shard's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Tells the house. When its channel is full the house is stuck: the event is lost and
    /// counted, calls go on.
    pub fn tell(&self, call: Option<CallRef>, event: CallEvent, receipt: Option<Receipt>) {
        let noted = Noted { call, at: clock::wall(), event, receipt };
        if self.house.try_send(noted).is_err() {
            self.counters.events_lost.of(Lost::Shard).one();
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
        let span = self.span.clone();
        let _in = span.enter();
        let counters = self.outlet.counters.clone();
        match milestone {
            Milestone::Started => {
                counters.streams_started.one();
                info!("stream started");
                self.tell(CallEvent::StreamStarted { stream_sid: self.stream_sid.clone() });
            }
            Milestone::AgentReady { after } => {
                counters.agent_ready.observe(*after);
                let after_ms = millis(*after);
                info!(after_ms, "agent ready");
                self.tell(CallEvent::AgentReady { after_ms });
            }
            Milestone::CallerTurn { order, item, text } => {
                counters.turns.of(Speaker::Caller).one();
                debug!(item, "caller turn");
                self.tell(CallEvent::Turn(caller_turn(*order, item, text)));
            }
            Milestone::AgentTurn(turn) => {
                counters.turns.of(Speaker::Agent).one();
                if let Some(after) = turn.reply_after {
                    counters.reply.observe(after);
                }
                let (item, heard_ms) = (turn.item, turn.heard_ms);
                debug!(item, heard_ms, interrupted = turn.interrupted, "agent turn");
                self.tell(CallEvent::Turn(agent_turn(turn)));
            }
            Milestone::BargeIn(cut) => {
                counters.barge_ins.one();
                let (heard_ms, sent_ms) = (cut.heard_ms, cut.sent_ms);
                debug!(heard_ms, sent_ms, "caller interrupted");
                self.tell(CallEvent::BargeIn(barge_in(cut)));
            }
            Milestone::Ending { record, reason, detail, .. } => {
                info!(reason = reason.as_str(), detail, "call ending");
                self.ending(*record, *reason, *detail);
            }
            Milestone::FirstVoice { .. }
            | Milestone::AgentLost { .. }
            | Milestone::AgentReplaced { .. }
            | Milestone::Forgotten { .. }
            | Milestone::Key(_)
            | Milestone::Tool { .. }
            | Milestone::CommandDone { .. } => {}
            Milestone::Dropped { flow, ms } => {
                counters.audio_dropped_ms.of(*flow).add(u64::from(*ms));
                debug!(?flow, ms, "audio dropped");
            }
            Milestone::Tolerated(oddity) => {
                counters.oddities.of(*oddity).one();
                debug!(?oddity, "tolerated");
            }
        }
    }

    /// Says that the stream is over; the last thing that a call tells.
    pub fn end(mut self, reason: EndReason) {
        self.say_end(reason);
    }

    fn ending(&self, record: RecordId, reason: EndReason, detail: Option<&str>) {
        let receipt = Receipt {
            shard: self.outlet.shard,
            call: self.call.id.clone(),
            generation: self.call.generation,
            record,
        };
        let detail = detail.map(|text| cut(text, DETAIL_BYTES_MAX));
        let event = CallEvent::Ending { reason, detail, transfer_to: None };
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

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// The front of a text, cut between characters.
fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

fn caller_turn(order: u32, item: &str, text: &str) -> Turn {
    Turn {
        role: Role::Caller,
        order,
        item: cut(item, ITEM_BYTES_MAX),
        text: cut(text, TEXT_BYTES_MAX),
        heard_ms: None,
        generated_ms: None,
        interrupted: false,
        reply_after_ms: None,
    }
}

fn agent_turn(turn: &AgentTurn<'_>) -> Turn {
    Turn {
        role: Role::Agent,
        order: turn.order,
        item: cut(turn.item, ITEM_BYTES_MAX),
        text: cut(turn.text, TEXT_BYTES_MAX),
        heard_ms: Some(turn.heard_ms),
        generated_ms: Some(turn.generated_ms),
        interrupted: turn.interrupted,
        reply_after_ms: turn.reply_after.map(millis),
    }
}

fn barge_in(cut_at: &BargeIn<'_>) -> event::BargeIn {
    event::BargeIn {
        item: cut(cut_at.item, ITEM_BYTES_MAX),
        heard_ms: cut_at.heard_ms,
        sent_ms: cut_at.sent_ms,
        generated_ms: cut_at.generated_ms,
    }
}

/// The longest text of a turn, in bytes: eight minutes of speech. JSON escapes a byte with six at
/// worst, so an event with such a text still fits a frame of the link.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// The longest item id, in bytes; a provider's have some thirty.
const ITEM_BYTES_MAX: usize = 256;
/// The longest detail for the operator, in bytes.
const DETAIL_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_fits_a_frame_of_the_link() {
        let text = "\u{1}".repeat(4 * TEXT_BYTES_MAX);
        let turn = caller_turn(1, &text, &text);
        let json = serde_json::to_vec(&CallEvent::Turn(turn)).unwrap();
        assert!(json.len() + 1_024 < link::frame::FRAME_BYTES_MAX, "{} bytes", json.len());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(cut("aä", 3), "aä");
    }
}

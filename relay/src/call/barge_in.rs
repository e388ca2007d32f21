//! The caller speaks while the agent does.
//!
//! In this order, because the ear comes first:
//!
//! 1. `clear`: what the carrier holds is thrown away, and its marks come back dead;
//! 2. cancel, unless the service has stopped by itself when it heard the caller (asking again
//!    would race with that);
//! 3. truncate each part at what was *heard*, so that the model does not believe it said words
//!    that nobody got. A part that was heard in full stays as it is: cutting it would delete its
//!    transcript;
//! 4. what still comes of the answer is late, and dropped.
//!
//! Source: OpenAI Realtime, "conversation.item.truncate", read 2026-11-20.

use super::input::Slot;
use super::moment::Moment;
use super::output::{AgentMessage, BargeIn, CallerMessage, Milestone, Outbox, Output};
use super::part::{Part, Source};
use super::playout::{Cut, Playout};
use super::turns::Turns;

/// Who stops an answer when the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The service does, before it says that it hears speech.
    ByService,
    /// The relay does.
    ByRelay,
}

/// Cuts what is being said, as far as anything is.
pub(super) fn interrupt(
    by: Interruption,
    agent: Slot,
    (playout, turns): (&mut Playout, &mut Turns),
    now: Moment,
    out: &mut impl Outbox,
) {
    let Cut { parts, unheard } = playout.cut(now);
    if unheard {
        out.put(Output::ToCaller(CallerMessage::Clear));
    }
    if let Some(response) = turns.discard() {
        match by {
            Interruption::ByService => {}
            Interruption::ByRelay => {
                out.put(Output::ToAgent(agent, AgentMessage::Cancel { response }));
            }
        }
    }
    // Parts that were never sent are cut at zero: the model has made them, so it remembers them.
    for part in &parts {
        truncate(part, agent, out);
    }
    if let Some((part, Source::Answer { item, .. })) =
        parts.iter().find(|part| !part.is_heard_in_full()).map(|part| (part, &part.source))
    {
        out.put(Output::Note(Milestone::BargeIn(BargeIn {
            item,
            heard_ms: part.heard_ms(),
            sent_ms: part.sent_ms(),
            generated_ms: part.generated_ms(),
        })));
    }
    for part in &parts {
        turns.on_spoken(part, out);
    }
}

/// Makes the agent forget what was not heard of a part.
pub(super) fn truncate(part: &Part, agent: Slot, out: &mut impl Outbox) {
    let Source::Answer { item, part: number, .. } = &part.source else { return };
    if part.is_heard_in_full() {
        return;
    }
    let heard_ms = part.heard_ms();
    assert!(heard_ms <= part.generated_ms(), "heard more than the model made");
    let message = AgentMessage::Truncate { item, part: *number, heard_ms };
    out.put(Output::ToAgent(agent, message));
}

//! Milestones as events: texts cut to what fits, durations in milliseconds.

use std::time::Duration;

use link::ephemeral::TranscriptDelta;
use link::event::{self, Replaced, ReplacedBecause, Role, ToolIntent, ToolOutcome, ToolUse, Turn};

use crate::call::output::{AgentTurn, BargeIn};

/// Whole milliseconds, for events.
pub(super) fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// The front of a text, cut between characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

/// A turn of the caller.
pub(super) fn caller_turn(order: u32, item: &str, text: &str) -> Turn {
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

/// Some words of a turn that is not complete.
pub(super) fn delta(role: Role, item: &str, text: &str) -> TranscriptDelta {
    TranscriptDelta { role, item: cut(item, ITEM_BYTES_MAX), text: cut(text, DELTA_BYTES_MAX) }
}

/// A turn of the agent.
pub(super) fn agent_turn(turn: &AgentTurn<'_>) -> Turn {
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

/// An interruption.
pub(super) fn barge_in(cut_at: &BargeIn<'_>) -> event::BargeIn {
    event::BargeIn {
        item: cut(cut_at.item, ITEM_BYTES_MAX),
        heard_ms: cut_at.heard_ms,
        sent_ms: cut_at.sent_ms,
        generated_ms: cut_at.generated_ms,
    }
}

/// A session took the place of another.
pub(super) fn replaced(
    because: ReplacedBecause,
    gap: Duration,
    turns: u32,
    detail: &str,
) -> Replaced {
    let detail = (!detail.is_empty()).then(|| cut(detail, DETAIL_BYTES_MAX));
    Replaced { because, gap_ms: millis(gap), turns, detail }
}

/// A tool that is about to be used.
pub(super) fn tool_intent(name: &str, request: &str) -> ToolIntent {
    ToolIntent { name: cut(name, ITEM_BYTES_MAX), request: cut(request, ITEM_BYTES_MAX) }
}

/// The use of a tool.
pub(super) fn tool_use(
    name: &str,
    request: &str,
    outcome: ToolOutcome,
    after: Duration,
) -> ToolUse {
    ToolUse {
        name: cut(name, ITEM_BYTES_MAX),
        request: cut(request, ITEM_BYTES_MAX),
        outcome,
        after_ms: millis(after),
    }
}

/// The longest text of a turn, in bytes: eight minutes of speech. JSON escapes a byte with six at
/// worst, so an event with such a text still fits a frame of the link.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// The longest text that is told for the moment, in bytes: what joins several words keeps to it,
/// too. The turn has all of them.
pub const DELTA_BYTES_MAX: usize = 1_024;
/// The longest item id, in bytes; a provider's have some thirty.
const ITEM_BYTES_MAX: usize = 256;
/// The longest detail for the operator, in bytes.
pub(super) const DETAIL_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use link::event::CallEvent;

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

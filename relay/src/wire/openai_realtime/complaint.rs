//! What OpenAI Realtime complains about, and how bad it is: `error`, and why an answer failed.
//!
//! An error leaves the session open unless the socket is closed. Most of them say that one message
//! of ours had no effect.
//! Source: OpenAI, "Realtime API reference" (GA), `error`, and reports of its users, read
//! 2026-11-20.

use std::borrow::Cow;

use serde::Deserialize;

use super::events::Event;
use crate::call::input::{AgentEvent, Retry, Severity};

/// An `error` message.
#[derive(Deserialize)]
pub(super) struct Complaint<'a> {
    #[serde(borrow)]
    error: ComplaintBody<'a>,
}

/// Its body.
#[derive(Deserialize)]
struct ComplaintBody<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    code: Option<String>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

impl Event for Complaint<'_> {
    fn event(&self) -> AgentEvent<'_> {
        let ComplaintBody { kind, code, message } = &self.error;
        let severity = severity(code.as_deref(), message);
        AgentEvent::Complained { severity, code: code.as_deref().unwrap_or(kind) }
    }
}

/// How bad an error is.
fn severity(code: Option<&str>, message: &str) -> Severity {
    let weight = code.and_then(|code| CODES.iter().find(|(known, _)| *known == code));
    match (weight, code) {
        (Some((_, severity)), _) => *severity,
        // A truncate that asks for a little more than there is: the cut is where the audio ends.
        (None, None) if message.contains("is already shorter than") => Severity::Benign,
        // Comes without a code of its own.
        (None, _) if message.contains("Unknown beta requested") => Severity::Fatal,
        (None, _) => Severity::Refused,
    }
}

/// Whether asking for a failed answer once more can help.
pub(super) fn retry(code: &str) -> Retry {
    match severity(Some(code), "") {
        Severity::Fatal => Retry::IsUseless,
        Severity::Benign | Severity::TooEarly | Severity::Refused | Severity::Over => {
            Retry::MayHelp
        }
    }
}

/// What is not merely refused. Whatever is terminal was seen to stay so for hours: a key, a bill, a
/// model, a header.
const CODES: [(&str, Severity); 10] = [
    ("response_cancel_not_active", Severity::Benign),
    ("conversation_already_has_active_response", Severity::TooEarly),
    ("input_audio_buffer_commit_empty", Severity::Benign),
    ("session_expired", Severity::Over),
    ("beta_api_shape_disabled", Severity::Fatal),
    ("insufficient_quota", Severity::Fatal),
    ("billing_hard_limit_reached", Severity::Fatal),
    ("account_deactivated", Severity::Fatal),
    ("invalid_api_key", Severity::Fatal),
    ("model_not_found", Severity::Fatal),
];

//! `error`: what OpenAI Realtime complains about, and how bad it is.
//!
//! An error leaves the session open unless the socket is closed. Most of them say that one message
//! of ours had no effect.
//! Source: OpenAI, "Realtime API reference" (GA), `error`, and reports of its users, read
//! 2026-11-20.

use std::borrow::Cow;

use serde::Deserialize;

use super::events::Event;
use crate::call::input::{AgentEvent, Severity};

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
    match code {
        Some(
            "response_cancel_not_active"
            | "conversation_already_has_active_response"
            | "input_audio_buffer_commit_empty",
        ) => Severity::Benign,
        Some(
            "session_expired"
            | "beta_api_shape_disabled"
            | "insufficient_quota"
            | "invalid_api_key"
            | "account_deactivated"
            | "billing_hard_limit_reached"
            | "model_not_found",
        ) => Severity::Fatal,
        // A truncate that asks for a little more than there is: the cut is where the audio ends.
        None if message.contains("is already shorter than") => Severity::Benign,
        // Comes without a code of its own.
        _ if message.contains("Unknown beta requested") => Severity::Fatal,
        _ => Severity::Refused,
    }
}

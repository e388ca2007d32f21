//! The session: what is stated at its beginning, and the two things that may change while it runs.
//!
//! Only fields that are present change, so an update holds what is new and `type`, without which
//! everything is refused. The formats are never said twice: a service that has begun to speak
//! refuses some changes, and the others turn audio into static.

use link::agent::{AgentSpec, TurnDetection};
use serde_json::{Value, json};

use super::{push, tools};
use crate::call::input::{Answering, AudioFormat};

/// What the call asks of a session, whatever its agent is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// How audio is written, both ways.
    pub(super) format: AudioFormat,
    /// Who answers.
    pub(super) answering: Answering,
}

/// Writes the whole session. The model stands in the URL and can never change.
pub(super) fn write(agent: &AgentSpec, instructions: &str, asked: Asked, text: &mut Vec<u8>) {
    let Asked { format, answering } = asked;
    let format = match format {
        AudioFormat::Ulaw => json!({"type": "audio/pcmu"}),
        AudioFormat::Pcm24k => json!({"type": "audio/pcm", "rate": 24_000}),
    };
    // A voice of `null` would be a voice; left out, the service takes its own.
    let mut output = json!({"format": format});
    if let Some(voice) = &agent.voice {
        output["voice"] = json!(voice);
    }
    push(
        &json!({
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": instructions,
            "audio": {
                "input": {
                    "format": format,
                    // Runs before the detection of turns: phone lines echo, and an agent that
                    // hears itself interrupts itself.
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": TRANSCRIBER},
                    "turn_detection": turn_detection(agent.turn_detection, answering),
                },
                "output": output,
            },
            "tools": agent.tools.iter().map(tools::declare).collect::<Vec<_>>(),
            "tool_choice": "auto",
            "max_output_tokens": agent.limits.output_tokens_max,
        }),
        text,
    );
}

/// Writes who answers from here on. The detection of turns is one object: a part of it would leave
/// the rest to the service.
pub(super) fn write_answering(agent: &AgentSpec, answering: Answering, text: &mut Vec<u8>) {
    let detection = turn_detection(agent.turn_detection, answering);
    push(&json!({"type": "realtime", "audio": {"input": {"turn_detection": detection}}}), text);
}

/// Writes other standing instructions.
pub(super) fn write_instructions(instructions: &str, text: &mut Vec<u8>) {
    push(&json!({"type": "realtime", "instructions": instructions}), text);
}

/// With both off, the service only tells when somebody speaks.
fn turn_detection(settings: TurnDetection, answering: Answering) -> Value {
    let by_service = match answering {
        Answering::ByService => true,
        Answering::ByRelay => false,
    };
    // 0.6 as it was written, not the nearest 32-bit fraction.
    let threshold = (f64::from(settings.threshold) * 1_000.0).round() / 1_000.0;
    json!({
        "type": "server_vad",
        "threshold": threshold,
        "prefix_padding_ms": settings.prefix_padding_ms,
        "silence_duration_ms": settings.silence_duration_ms,
        "create_response": by_service,
        "interrupt_response": by_service,
    })
}

/// The model that writes down what the caller says. The older ones end in February 2027.
const TRANSCRIBER: &str = "gpt-transcribe";

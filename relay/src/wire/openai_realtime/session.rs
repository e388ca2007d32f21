//! What is settled once in a conversation: the session and the greeting.

use link::agent::{AgentAudio, AgentSpec, Tool, TurnDetection};
use serde_json::{Value, json};

use crate::call::HANG_UP;

/// Writes the session of an agent. The model stands in the URL and can never change.
pub(super) fn write(agent: &AgentSpec, text: &mut Vec<u8>) {
    let format = match agent.audio {
        AgentAudio::Mulaw => json!({"type": "audio/pcmu"}),
        AgentAudio::Pcm24k => json!({"type": "audio/pcm", "rate": 24_000}),
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
            "instructions": agent.instructions,
            "audio": {
                "input": {
                    "format": format,
                    // Runs before the detection of turns: phone lines echo, and an agent that
                    // hears itself interrupts itself.
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": TRANSCRIBER},
                    "turn_detection": turn_detection(agent.turn_detection),
                },
                "output": output,
            },
            "tools": agent.tools.iter().map(tool).collect::<Vec<_>>(),
            "tool_choice": "auto",
            "max_output_tokens": agent.limits.output_tokens_max,
        }),
        text,
    );
}

/// Writes what the greeting is asked for with. Its instructions replace the session's, so the
/// persona is in them too; no tool can be called before a word is said.
pub(super) fn write_greeting(agent: &AgentSpec, text: &mut Vec<u8>) {
    let greeting = agent.greeting.as_deref().unwrap_or_default();
    let instructions = format!("{}\n\n{greeting}", agent.instructions);
    let metadata = json!({"kind": "greeting"});
    push(&json!({"instructions": instructions, "tool_choice": "none", "metadata": metadata}), text);
}

/// `create_response` and `interrupt_response`: the service answers and stops by itself.
fn turn_detection(settings: TurnDetection) -> Value {
    // 0.6 as it was written, not the nearest 32-bit fraction.
    let threshold = (f64::from(settings.threshold) * 1_000.0).round() / 1_000.0;
    json!({
        "type": "server_vad",
        "threshold": threshold,
        "prefix_padding_ms": settings.prefix_padding_ms,
        "silence_duration_ms": settings.silence_duration_ms,
        "create_response": true,
        "interrupt_response": true,
    })
}

fn tool(tool: &Tool) -> Value {
    match tool {
        Tool::Transfer { .. } | Tool::SendDtmf | Tool::Http(_) => unreachable!("nobody has it yet"),
        Tool::HangUp => json!({
            "type": "function",
            "name": HANG_UP,
            "description": "Ends the phone call. Say goodbye first, in the same answer: the line \
                            is closed once the caller has heard it.",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": false},
        }),
    }
}

fn push(value: &Value, text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("a value of texts and numbers goes into memory");
}

/// The model that writes down what the caller says. The older ones end in February 2027.
const TRANSCRIBER: &str = "gpt-transcribe";

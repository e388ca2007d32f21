//! Items of a conversation: what a session is told about the call. Nobody answers them by
//! themselves.
//!
//! What the agent said can only be told as text: the service refuses audio that it did not make.

use serde_json::{Value, json};

use super::push;
use crate::call::output::Recalled;

/// Writes one item.
pub(super) fn write(recalled: Recalled<'_>, text: &mut Vec<u8>) {
    let item = match recalled {
        Recalled::Summary(words) => {
            message("system", "input_text", &format!("{SUMMED_UP}\n{words}"))
        }
        Recalled::Caller("") => message("user", "input_text", NOT_UNDERSTOOD),
        Recalled::Caller(words) => message("user", "input_text", words),
        Recalled::Agent(words) => message("assistant", "output_text", words),
        Recalled::Call { call, name, arguments } => json!({
            "type": "function_call", "call_id": call, "name": name, "arguments": arguments,
        }),
        Recalled::Result { call, output } => json!({
            "type": "function_call_output", "call_id": call, "output": output,
        }),
        Recalled::System(words) => message("system", "input_text", words),
        Recalled::CallContinues => message("system", "input_text", CONTINUES),
    };
    push(&item, text);
}

fn message(role: &str, kind: &str, words: &str) -> Value {
    json!({"type": "message", "role": role, "content": [{"type": kind, "text": words}]})
}

const SUMMED_UP: &str = "What was said on this call before, in few words:";
/// A turn without words would look like silence, and the answer to it like one to nothing.
const NOT_UNDERSTOOD: &str = "(The caller said something here; the words were not understood.)";
const CONTINUES: &str = "The call continues: the caller is on the line and has heard everything \
                         above. Do not greet again and do not mention any of this; go on where \
                         the conversation stands.";

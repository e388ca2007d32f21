//! Tools as the model is told of them.

use link::agent::Tool;
use link::tool::{Destination, HttpTool};
use serde_json::{Value, json};

/// A tool in the session's list.
pub(super) fn declare(tool: &Tool) -> Value {
    match tool {
        Tool::HangUp => function(Tool::HANG_UP, HANG_UP, &nothing()),
        Tool::Transfer { destinations } => {
            function(Tool::TRANSFER, TRANSFER, &transfer(destinations))
        }
        Tool::SendDtmf => function(Tool::SEND_DTMF, SEND_DTMF, &keys()),
        Tool::Http(HttpTool { name, description, parameters, .. }) => {
            function(name, description, parameters)
        }
    }
}

fn function(name: &str, description: &str, parameters: &Value) -> Value {
    json!({
        "type": "function", "name": name, "description": description, "parameters": parameters,
    })
}

fn nothing() -> Value {
    json!({"type": "object", "properties": {}, "additionalProperties": false})
}

/// The model chooses among names; it never sees an address, so it cannot be talked into one.
fn transfer(destinations: &[Destination]) -> Value {
    let names: Vec<_> = destinations.iter().map(|to| to.name.as_str()).collect();
    let line = |to: &Destination| match to.description.is_empty() {
        true => to.name.clone(),
        false => format!("{}: {}", to.name, to.description),
    };
    let when: Vec<_> = destinations.iter().map(line).collect();
    json!({
        "type": "object",
        "properties": {
            Tool::DESTINATION: {"type": "string", "enum": names, "description": when.join("\n")},
        },
        "required": [Tool::DESTINATION],
        "additionalProperties": false,
    })
}

fn keys() -> Value {
    json!({
        "type": "object",
        "properties": {
            Tool::DIGITS: {
                "type": "string",
                "pattern": "^[0-9*#A-Dw]{1,32}$",
                "description": "The keys in order; w waits half a second.",
            },
        },
        "required": [Tool::DIGITS],
        "additionalProperties": false,
    })
}

const HANG_UP: &str = "Ends the phone call. Say goodbye first, in the same answer: the line is \
                       closed once the caller has heard it.";
const TRANSFER: &str = "Connects the caller to somebody else and leaves the call. Say so first, \
                        in the same answer: the caller is connected once it has heard it.";
const SEND_DTMF: &str = "Plays key tones on the line, for a machine that asks for keys. Never \
                         read out what you play.";

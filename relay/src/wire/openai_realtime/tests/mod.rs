mod reading;
mod writing;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

fn fixtures(side: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/openai").join(side)
}

fn fixture(side: &str, name: &str) -> String {
    std::fs::read_to_string(fixtures(side).join(format!("{name}.json"))).unwrap()
}

fn meaning(text: &str) -> String {
    let mut meaning = None;
    read(text, |event| meaning = Some(format!("{event:?}")));
    meaning.unwrap()
}

fn agent(extra: Value) -> Arc<AgentSpec> {
    let mut spec = json!({
        "name": "front-desk",
        "instructions": "You answer the phone for Harbor Bikes.",
        "greeting": "Say: Harbor Bikes, how can I help?",
        "voice": "marin",
        "provider": {"kind": "openai_realtime"},
        "tools": [{"kind": "hang_up"}],
        "limits": {"call_seconds_max": 600, "output_tokens_max": 1024},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    Arc::new(serde_json::from_value(spec).unwrap())
}

fn written(wire: &mut OpenaiRealtime, message: &AgentMessage<'_>) -> Value {
    let mut text = Vec::new();
    wire.write(message, &mut text);
    serde_json::from_slice(&text).unwrap()
}

/// Every path to a value that is not an object, lists and all: the shape of a message.
fn shape(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(value, &format!("{path}.{name}"), out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            out.push(path.to_owned());
        }
    }
}

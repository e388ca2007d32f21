//! The text messages of a page's stream, written plainly and read without mercy.

use serde::{Deserialize, Serialize};
use serde_json::json;

/// A turn, as a page is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// `caller` or `agent`.
    pub role: String,
    /// The service's id of the turn.
    pub item: String,
    /// The words.
    pub text: String,
    /// Whether the person cut it short.
    pub interrupted: bool,
}

/// What the relay says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromRelay {
    /// Somebody answers.
    Ready,
    /// What was not played is not to be played.
    Clear,
    /// A turn is complete.
    Transcript(Said),
    /// It is over, and why.
    End(String),
}

/// Reads one message.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(text: &str) -> Result<FromRelay, String> {
    let wrong = || format!("not what a page is told: {text}");
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let serde_json::Value::Object(mut fields) = value else { return Err(wrong()) };
    let kind = fields.remove("type").ok_or_else(wrong)?;
    match (kind.as_str(), fields.is_empty()) {
        (Some("ready"), true) => Ok(FromRelay::Ready),
        (Some("clear"), true) => Ok(FromRelay::Clear),
        (Some("transcript"), false) => {
            let said: Said = serde_json::from_value(fields.into()).map_err(|_| wrong())?;
            match said.role.as_str() {
                "caller" | "agent" => Ok(FromRelay::Transcript(said)),
                _ => Err(wrong()),
            }
        }
        (Some("end"), false) => match (fields.remove("reason"), fields.is_empty()) {
            (Some(serde_json::Value::String(reason)), true) => Ok(FromRelay::End(reason)),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// The first message.
pub(super) fn start(token: &str) -> String {
    json!({"type": "start", "token": token}).to_string()
}

/// What was played.
pub(super) fn heard(frame: u32) -> String {
    json!({"type": "heard", "frame": frame}).to_string()
}

/// The person is done.
pub(super) const END: &str = r#"{"type":"end"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_exactly_their_fields() {
        assert_eq!(read(r#"{"type":"ready"}"#), Ok(FromRelay::Ready));
        assert_eq!(read(r#"{"type":"end","reason":"x"}"#), Ok(FromRelay::End("x".into())));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":"ready","at":1}"#,
            r#"{"type":"end"}"#,
            r#"{"type":"end","reason":7}"#,
            r#"{"type":"mark","frame":1}"#,
            r#"{"type":"transcript","role":"model","item":"i","text":"t","interrupted":false}"#,
            r#"{"type":"transcript","role":"agent","item":"i","text":"t"}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}

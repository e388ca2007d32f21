//! Messages on a media stream. What the relay sends is read without mercy: one field too many,
//! too few or misspelt is Twilio's error 31951.

use serde_json::{Map, Value, json};

use super::record::Fault;

/// What a relay may say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromRelay {
    /// Audio, mu-law.
    Media(Vec<u8>),
    /// To be echoed once what came before it was played.
    Mark(String),
    /// Throw away what was not played.
    Clear,
}

/// Reads a text frame of the relay.
///
/// # Errors
/// The fault that Twilio logs; this fake ends the call over it.
pub(crate) fn read(text: &str, stream: &str) -> Result<FromRelay, Fault> {
    let value: Value =
        serde_json::from_str(text).map_err(|_| invalid("the message is not JSON"))?;
    let Value::Object(message) = &value else { return Err(invalid("the message is no object")) };
    let event = text_field(message, "event")?;
    let inner = match event {
        "media" => Some(("media", "payload")),
        "mark" => Some(("mark", "name")),
        "clear" => None,
        _ => return Err(invalid(&format!("there is no event `{event}`"))),
    };
    let known: &[&str] = match inner {
        Some((key, _)) => &["event", "streamSid", key],
        None => &["event", "streamSid"],
    };
    only(message, known)?;
    if text_field(message, "streamSid")? != stream {
        return Err(invalid("streamSid names another stream"));
    }
    let Some((key, field)) = inner else { return Ok(FromRelay::Clear) };
    let Some(Value::Object(body)) = message.get(key) else {
        return Err(invalid(&format!("`{key}` is missing or no object")));
    };
    only(body, &[field])?;
    let content = text_field(body, field)?;
    if key == "mark" {
        return Ok(FromRelay::Mark(content.to_owned()));
    }
    let mut audio = Vec::new();
    match codec::base64::decode(content.as_bytes(), &mut audio) {
        Ok(()) if !audio.is_empty() => Ok(FromRelay::Media(audio)),
        Ok(()) => Err(invalid("media.payload holds no audio")),
        Err(_) => Err(invalid("media.payload is not standard base64")),
    }
}

/// Refuses every field but the known ones.
fn only(map: &Map<String, Value>, known: &[&str]) -> Result<(), Fault> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(invalid(&format!("there is no field `{key}`"))),
        None => Ok(()),
    }
}

/// A field that must be a string.
fn text_field<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a str, Fault> {
    let text = map.get(key).and_then(Value::as_str);
    text.ok_or_else(|| invalid(&format!("`{key}` is missing or no string")))
}

/// Twilio's error for a message that it does not understand.
fn invalid(what: &str) -> Fault {
    Fault::new(31951, format!("invalid message: {what}"))
}

/// Who is on a stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamIds {
    /// The stream.
    pub(crate) stream: String,
    /// The call.
    pub(crate) call: String,
    /// The account.
    pub(crate) account: String,
}

/// Makes the messages of one stream; counts them.
#[derive(Debug)]
pub(crate) struct ToRelay {
    ids: StreamIds,
    sequence: u64,
    chunk: u64,
}

impl ToRelay {
    /// The messages of a stream that begins.
    pub(crate) fn new(ids: StreamIds) -> Self {
        Self { ids, sequence: 0, chunk: 0 }
    }

    /// The first message; it has no number.
    pub(crate) fn connected() -> Value {
        json!({"event": "connected", "protocol": "Call", "version": "1.0.0"})
    }

    /// The second message.
    pub(crate) fn start(&mut self, parameters: &[(String, String)]) -> Value {
        let custom: Map<String, Value> =
            parameters.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let mut message = self.numbered("start");
        message["start"] = json!({
            "streamSid": self.ids.stream, "accountSid": self.ids.account,
            "callSid": self.ids.call, "tracks": ["inbound"], "customParameters": custom,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        });
        message
    }

    /// Audio of the caller, which began at this time of the stream.
    pub(crate) fn media(&mut self, at_ms: u64, ulaw: &[u8]) -> Value {
        self.chunk += 1;
        let mut payload = Vec::new();
        codec::base64::encode(ulaw, &mut payload);
        let payload = String::from_utf8(payload).expect("base64 is ASCII");
        let mut message = self.numbered("media");
        message["media"] = json!({
            "track": "inbound", "chunk": self.chunk.to_string(), "timestamp": at_ms.to_string(),
            "payload": payload,
        });
        message
    }

    /// A mark that was reached or flushed.
    pub(crate) fn mark(&mut self, name: &str) -> Value {
        let mut message = self.numbered("mark");
        message["mark"] = json!({"name": name});
        message
    }

    /// A key that the caller pressed.
    pub(crate) fn key(&mut self, digit: char) -> Value {
        let mut message = self.numbered("dtmf");
        message["dtmf"] = json!({"track": "inbound_track", "digit": digit.to_string()});
        message
    }

    /// The last message.
    pub(crate) fn stop(&mut self) -> Value {
        let mut message = self.numbered("stop");
        message["stop"] = json!({"accountSid": self.ids.account, "callSid": self.ids.call});
        message
    }

    /// What every message but the first begins with.
    fn numbered(&mut self, event: &str) -> Value {
        self.sequence += 1;
        json!({
            "event": event, "sequenceNumber": self.sequence.to_string(),
            "streamSid": self.ids.stream,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, FromRelay); 2] = [
        (
            r#"{"event":"mark","streamSid":"MZ1","mark":{"name":""}}"#,
            FromRelay::Mark(String::new()),
        ),
        (r#"{"event":"clear","streamSid":"MZ1"}"#, FromRelay::Clear),
    ];

    #[test]
    fn the_three_messages_are_taken() {
        for (text, message) in GOOD {
            assert_eq!(read(text, "MZ1").unwrap(), message);
        }
        let media = r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/38="}}"#;
        assert_eq!(read(media, "MZ1").unwrap(), FromRelay::Media(vec![0xFF, 0x7F]));
    }

    #[test]
    fn everything_else_is_invalid() {
        for text in [
            "",
            "[]",
            r#"{"event":"clear"}"#,
            r#"{"event":"clear","streamSid":"MZ2"}"#,
            r#"{"event":"clear","streamsid":"MZ1"}"#,
            r#"{"event":"clear","streamSid":"MZ1","clear":{}}"#,
            r#"{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"1"}}"#,
            r#"{"event":"stop","streamSid":"MZ1"}"#,
            r#"{"event":"mark","streamSid":"MZ1","mark":{"name":7}}"#,
            r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"a","at":"1"}}"#,
            r#"{"event":"mark","streamSid":"MZ1"}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/38=","track":"outbound"}}"#,
            r#"{"event":"media","streamSid":"MZ1","sequenceNumber":"4","media":{"payload":"/38="}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/38"}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"_38="}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":""}}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"Payload":"/38="}}"#,
        ] {
            assert_eq!(read(text, "MZ1").unwrap_err().code, 31951, "{text}");
        }
    }

    #[test]
    fn numbers_are_texts_and_count_every_message() {
        let ids = StreamIds { stream: "MZ1".into(), call: "CA1".into(), account: "AC1".into() };
        let mut to_relay = ToRelay::new(ids);
        let start = to_relay.start(&[("ticket".into(), "t".into())]);
        assert_eq!(start["sequenceNumber"], "1");
        assert_eq!(start["start"]["customParameters"]["ticket"], "t");
        assert_eq!(start["start"]["mediaFormat"]["sampleRate"], 8000);
        to_relay.media(0, &[0xFF; 160]);
        to_relay.mark("m");
        let media = to_relay.media(20, &[0xFF; 160]);
        assert_eq!(media["sequenceNumber"], "4");
        assert_eq!(media["media"]["chunk"], "2");
        assert_eq!(media["media"]["timestamp"], "20");
        assert!(ToRelay::connected().get("streamSid").is_none());
    }
}

//! The beginning of a Twilio media stream: the upgrade's signature header, `connected`, `start`.
//!
//! Read once a stream, so it is plain serde; the messages that follow are read in place.

use link::ticket;
use serde::Deserialize;

/// The header of the upgrade request that carries Twilio's signature of the stream's URL.
/// Source: Twilio, "Security", `X-Twilio-Signature`, read 2026-11-20.
pub const SIGNATURE_HEADER: &str = "x-twilio-signature";

/// One of the first messages of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The carrier greets; says nothing that is needed, and some carriers leave it out.
    Connected,
    /// The stream begins.
    Start(Start),
    /// A `start` that lacks something.
    BadStart,
    /// Anything else.
    Other,
}

/// What `start` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The carrier's id of the stream; all that is sent must name it.
    pub stream_sid: String,
    /// The carrier's id of the call; the ticket must say the same.
    pub call_sid: String,
    /// The ticket, when the parameter is there.
    pub ticket: Option<String>,
    /// Whether the audio is mu-law, 8 kHz, mono: the only format that is documented.
    pub format: Format,
}

/// The audio format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// G.711 mu-law, 8 kHz, mono.
    Ulaw8k,
    /// Something else.
    Other,
}

/// Reads one of the first messages. What cannot be read is [`Opening::Other`].
#[must_use]
pub fn read(text: &str) -> Opening {
    match serde_json::from_str(text).map(|envelope: Envelope| envelope.event) {
        Ok(Event::Connected) => Opening::Connected,
        Ok(Event::Start) => match serde_json::from_str(text) {
            Ok(StartMessage { start }) => start.into_opening(),
            Err(_) => Opening::BadStart,
        },
        Ok(Event::Unknown) | Err(_) => Opening::Other,
    }
}

#[derive(Deserialize)]
struct Envelope {
    event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Connected,
    Start,
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct StartMessage {
    start: StartBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartBody {
    stream_sid: String,
    call_sid: String,
    #[serde(default)]
    custom_parameters: serde_json::Map<String, serde_json::Value>,
    media_format: MediaFormat,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MediaFormat {
    encoding: String,
    sample_rate: u32,
    channels: u32,
}

impl StartBody {
    fn into_opening(self) -> Opening {
        if !is_sid(&self.stream_sid) {
            return Opening::BadStart;
        }
        let format = self.media_format;
        let is_ulaw = format.encoding == "audio/x-mulaw";
        let format = match (is_ulaw, format.sample_rate, format.channels) {
            (true, 8_000, 1) => Format::Ulaw8k,
            _ => Format::Other,
        };
        let ticket = self.custom_parameters.get(ticket::PARAMETER);
        Opening::Start(Start {
            stream_sid: self.stream_sid,
            call_sid: self.call_sid,
            ticket: ticket.and_then(|value| value.as_str()).map(str::to_owned),
            format,
        })
    }
}

/// Whether a text can be a stream's id: it is written into every frame, so it must need no
/// escaping. Twilio's are `MZ` and 32 hexadecimal digits; other carriers use UUIDs.
fn is_sid(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = r#"{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"streamSid":"MZ1",
        "accountSid":"AC1","callSid":"CA1","tracks":["inbound"],"customParameters":{"ticket":"v4.public.x"},
        "mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}"#;

    #[test]
    fn a_stream_begins_with_connected_and_start() {
        let connected = r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#;
        assert_eq!(read(connected), Opening::Connected);
        let start = Start {
            stream_sid: "MZ1".into(),
            call_sid: "CA1".into(),
            ticket: Some("v4.public.x".into()),
            format: Format::Ulaw8k,
        };
        assert_eq!(read(START), Opening::Start(start));
    }

    #[test]
    fn another_format_and_a_missing_ticket_are_seen() {
        for (from, to) in [
            ("audio/x-mulaw", "audio/x-l16"),
            ("8000", "16000"),
            ("\"channels\":1", "\"channels\":2"),
        ] {
            let Opening::Start(start) = read(&START.replace(from, to)) else { panic!("{to}") };
            assert_eq!(start.format, Format::Other, "{to}");
        }
        let Opening::Start(start) = read(&START.replace("\"ticket\"", "\"tok\"")) else { panic!() };
        assert_eq!(start.ticket, None);
    }

    #[test]
    fn what_no_stream_begins_with_is_other() {
        for text in ["", "{}", "[]", r#"{"event":"media"}"#, r#"{"event":7}"#] {
            assert_eq!(read(text), Opening::Other, "{text}");
        }
    }

    #[test]
    fn a_start_that_lacks_something_or_would_break_frames_is_bad() {
        let hostile = START.replace("\"MZ1\"", "\"MZ\\\"1\"");
        let incomplete = START.replace("callSid", "call");
        for text in [r#"{"event":"start"}"#, &incomplete, &hostile] {
            assert_eq!(read(text), Opening::BadStart, "{text}");
        }
    }
}

//! Twilio Media Streams, from `start` on: `media`, `mark`, `dtmf`, `stop` in; `media`, `mark`,
//! `clear` out. How a stream begins is [`opening`](super::opening).
//!
//! Reading is tolerant: numbers may be strings or numbers, fields may come in any order, unknown
//! ones and unknown events are ignored. Writing is strict: an extra or missing field is Twilio's
//! error 31951, and the caller hears nothing for the whole call.
//! Source: Twilio, "Media Streams - WebSocket Messages", read 2026-11-20.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::scan::Scan;
use super::{push_json, push_number};
use crate::call::input::{Audio, CallerEvent, MarkId};
use crate::call::output::CallerMessage;

/// What is said to a stream: three messages, prepared around the stream's id.
#[derive(Debug)]
pub struct Twilio {
    /// Up to the payload of a `media`.
    media: Box<[u8]>,
    /// Up to the number in the name of a `mark`.
    mark: Box<[u8]>,
    /// All of a `clear`.
    clear: Box<[u8]>,
}

impl Twilio {
    /// The messages for one stream.
    #[must_use]
    pub fn new(stream_sid: &str) -> Self {
        let message = |event: &str, rest: &str| {
            let mut text = Vec::new();
            text.extend_from_slice(br#"{"event":""#);
            text.extend_from_slice(event.as_bytes());
            text.extend_from_slice(br#"","streamSid":"#);
            push_json(stream_sid, &mut text);
            text.extend_from_slice(rest.as_bytes());
            text.into_boxed_slice()
        };
        Self {
            media: message("media", r#","media":{"payload":""#),
            mark: message("mark", r#","mark":{"name":"m"#),
            clear: message("clear", "}"),
        }
    }

    /// Writes a message as the text of one frame onto the end of `text`.
    pub fn write(&self, message: &CallerMessage<'_>, text: &mut Vec<u8>) {
        match message {
            CallerMessage::Media(audio) => {
                text.extend_from_slice(&self.media);
                match audio {
                    Audio::Ulaw(bytes) => codec::base64::encode(bytes, text),
                    Audio::Base64(payload) => text.extend_from_slice(payload.as_bytes()),
                    Audio::Pcm(_) | Audio::PcmBytes(_) => {
                        unreachable!("the call says mu-law to a caller")
                    }
                }
                text.extend_from_slice(br#""}}"#);
            }
            CallerMessage::Mark(MarkId(id)) => {
                text.extend_from_slice(&self.mark);
                push_number(u64::from(*id), text);
                text.extend_from_slice(br#""}}"#);
            }
            CallerMessage::Clear => text.extend_from_slice(&self.clear),
        }
    }
}

/// Reads one message, and lets `hear` have what it means, if it means anything.
pub fn read(text: &str, hear: impl FnOnce(CallerEvent<'_>)) {
    // Fifty times a second it is a `media` of the documented fields, and mostly a `mark` otherwise.
    match scan(text) {
        Some(Scanned::Media(media)) => media.tell(hear),
        Some(Scanned::Mark(name)) => {
            hear(mark_id(name).map_or(CallerEvent::Malformed, CallerEvent::Mark));
        }
        None => read_any(text, hear),
    }
}

/// A message that was read in place.
enum Scanned<'a> {
    Media(Media<'a>),
    /// The name of a mark.
    Mark(&'a str),
}

/// A `media` message.
struct Media<'a> {
    track: Cow<'a, str>,
    chunk: u64,
    at_ms: u64,
    payload: Cow<'a, str>,
}

impl Media<'_> {
    fn tell(&self, hear: impl FnOnce(CallerEvent<'_>)) {
        let bytes = codec::base64::check(self.payload.as_bytes());
        if !bytes.is_ok_and(|bytes| bytes <= PAYLOAD_BYTES_MAX) {
            return hear(CallerEvent::Malformed);
        }
        // The other track is what the caller hears; nothing is not worth a message to the agent.
        if self.track != "inbound" || self.payload.is_empty() {
            return;
        }
        hear(CallerEvent::Media {
            at_ms: self.at_ms,
            chunk: self.chunk,
            audio: Audio::Base64(&self.payload),
        });
    }
}

/// The longest payload, 2 s: a hundred times what Twilio sends at once.
const PAYLOAD_BYTES_MAX: usize = 16_000;

/// A message of the documented fields, in place.
fn scan(text: &str) -> Option<Scanned<'_>> {
    let mut scan = Scan::new(text);
    let (mut event, mut said) = (None, None);
    scan.open()?;
    loop {
        if event.is_none() && scan.eat(r#""event":"#) {
            event = Some(scan.string()?);
        } else if scan.eat(r#""sequenceNumber":"#) {
            scan.number()?;
        } else if scan.eat(r#""streamSid":"#) {
            scan.string()?;
        } else if said.is_none() && scan.eat(r#""media":"#) {
            said = Some(Scanned::Media(scan_body(&mut scan)?));
        } else if said.is_none() && scan.eat(r#""mark":"#) {
            said = Some(Scanned::Mark(scan_name(&mut scan)?));
        } else {
            // An unknown field, or one that comes twice: serde says what that means.
            return None;
        }
        if !scan.more()? {
            break;
        }
    }
    scan.end()?;
    said.filter(|said| match said {
        Scanned::Media(_) => event == Some("media"),
        Scanned::Mark(_) => event == Some("mark"),
    })
}

fn scan_body<'a>(scan: &mut Scan<'a>) -> Option<Media<'a>> {
    let (mut track, mut chunk, mut at_ms, mut payload) = (None, None, None, None);
    scan.open()?;
    loop {
        if track.is_none() && scan.eat(r#""track":"#) {
            track = Some(scan.string()?);
        } else if chunk.is_none() && scan.eat(r#""chunk":"#) {
            chunk = Some(scan.number()?);
        } else if at_ms.is_none() && scan.eat(r#""timestamp":"#) {
            at_ms = Some(scan.number()?);
        } else if payload.is_none() && scan.eat(r#""payload":"#) {
            // Its alphabet is checked in any case.
            payload = Some(scan.unchecked_string()?);
        } else {
            return None;
        }
        if !scan.more()? {
            break;
        }
    }
    let track = track.unwrap_or("inbound").into();
    Some(Media { track, chunk: chunk?, at_ms: at_ms?, payload: payload?.into() })
}

fn scan_name<'a>(scan: &mut Scan<'a>) -> Option<&'a str> {
    scan.open()?;
    if !scan.eat(r#""name":"#) {
        return None;
    }
    let name = scan.string()?;
    (!scan.more()?).then_some(name)
}

/// Any message, by serde: first what it is, then what it says.
fn read_any(text: &str, hear: impl FnOnce(CallerEvent<'_>)) {
    let Ok(Envelope { event }) = serde_json::from_str(text) else {
        return hear(CallerEvent::Malformed);
    };
    match event.as_ref() {
        "media" => match serde_json::from_str(text) {
            Ok(MediaMessage { media }) => {
                let MediaBody { track, chunk, timestamp, payload } = media;
                Media { track, chunk: chunk.0, at_ms: timestamp.0, payload }.tell(hear);
            }
            Err(_) => hear(CallerEvent::Malformed),
        },
        "mark" => hear(mark(text).map_or(CallerEvent::Malformed, CallerEvent::Mark)),
        "dtmf" => hear(key(text).map_or(CallerEvent::Malformed, CallerEvent::Key)),
        "stop" => hear(CallerEvent::Stopped),
        // A stream begins once, and it has begun.
        "connected" | "start" => hear(CallerEvent::Malformed),
        _ => {}
    }
}

fn mark(text: &str) -> Option<MarkId> {
    let MarkMessage { mark } = serde_json::from_str(text).ok()?;
    mark_id(&mark.name)
}

fn mark_id(name: &str) -> Option<MarkId> {
    name.strip_prefix('m')?.parse().ok().map(MarkId)
}

fn key(text: &str) -> Option<char> {
    let DtmfMessage { dtmf } = serde_json::from_str(text).ok()?;
    let mut keys = dtmf.digit.chars();
    let key = keys.next().filter(|key| matches!(key, '0'..='9' | '*' | '#' | 'A'..='D'))?;
    keys.next().is_none().then_some(key)
}

/// What every message has.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
}

/// `media`, when it is not read in place.
#[derive(serde::Deserialize)]
struct MediaMessage<'a> {
    #[serde(borrow)]
    media: MediaBody<'a>,
}

/// Its body. The track is left out by carriers that have only one.
#[derive(serde::Deserialize)]
struct MediaBody<'a> {
    #[serde(borrow, default = "inbound")]
    track: Cow<'a, str>,
    chunk: Number,
    timestamp: Number,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

fn inbound() -> Cow<'static, str> {
    "inbound".into()
}

/// `mark`: one of ours has come back.
#[derive(serde::Deserialize)]
struct MarkMessage<'a> {
    #[serde(borrow)]
    mark: MarkBody<'a>,
}

/// Its body.
#[derive(serde::Deserialize)]
struct MarkBody<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// `dtmf`: the caller pressed a key.
#[derive(serde::Deserialize)]
struct DtmfMessage<'a> {
    #[serde(borrow)]
    dtmf: DtmfBody<'a>,
}

/// Its body.
#[derive(serde::Deserialize)]
struct DtmfBody<'a> {
    #[serde(borrow)]
    digit: Cow<'a, str>,
}

/// A whole number, written as a number or, as Twilio does, as a string.
struct Number(u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or a string of its digits")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number))
            }
            fn visit_str<E: de::Error>(self, digits: &str) -> Result<Number, E> {
                digits.parse().map(Number).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests;

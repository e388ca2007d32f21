//! What a phone and a page say, and what they understand: one knows base64 and marks, the other
//! bytes and a count of them.

use serde::Deserialize;

use super::STREAM;
use crate::chance::Chance;

/// One frame of the caller's socket.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Frame {
    /// Text that the relay has written.
    pub(crate) fn text(text: Vec<u8>) -> Self {
        Self::Text(String::from_utf8(text).expect("the relay writes UTF-8"))
    }
}

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A phone, through its carrier.
    Phone,
    /// A web page.
    Page,
}

/// What the relay's words mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Audio to be played.
    Audio(Vec<u8>),
    /// To be returned once everything before it was played.
    Mark(String),
    /// What was not played is thrown away.
    Clear,
    /// Something that only a person reads.
    Nothing,
}

/// What the relay says to a phone.
#[derive(Deserialize)]
struct Said<'a> {
    event: &'a str,
    #[serde(rename = "streamSid")]
    stream: &'a str,
    #[serde(borrow)]
    media: Option<Media<'a>>,
    #[serde(borrow)]
    mark: Option<Mark<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    payload: &'a str,
}

#[derive(Deserialize)]
struct Mark<'a> {
    name: &'a str,
}

impl Kind {
    /// Bytes of a millisecond.
    pub(crate) fn bytes_per_ms(self) -> u64 {
        match self {
            Self::Phone => 8,
            Self::Page => 48,
        }
    }

    /// Understands what the relay says.
    pub(super) fn read(self, frame: &Frame) -> Heard {
        match (self, frame) {
            (Self::Phone, Frame::Text(text)) => read_phone(text),
            (Self::Page, Frame::Bytes(bytes)) => Heard::Audio(bytes.clone()),
            (Self::Page, Frame::Text(text)) => read_page(text),
            (Self::Phone, Frame::Bytes(_)) => panic!("the relay says bytes to a phone"),
        }
    }

    /// Says that a mark was reached.
    pub(super) fn mark(self, name: &str) -> Frame {
        Frame::Text(match self {
            Self::Phone => format!(
                r#"{{"event":"mark","sequenceNumber":"4","streamSid":"{STREAM}","mark":{{"name":"{name}"}}}}"#
            ),
            Self::Page => format!(r#"{{"type":"heard","frame":{name}}}"#),
        })
    }

    /// A mark that nobody set.
    pub(super) fn stray(self, chance: &mut Chance) -> &'static str {
        match self {
            Self::Phone => chance.pick(&["m0", "m4000000000"]),
            Self::Page => chance.pick(&["0", "4000000000"]),
        }
    }

    /// Says 20 ms of the caller.
    pub(super) fn voice(self, is_speaking: bool, chunk: u64, stamp: u64) -> Frame {
        match self {
            Self::Phone => {
                let payload = if is_speaking { SPEECH } else { SILENCE };
                Frame::Text(format!(
                    r#"{{"event":"media","sequenceNumber":"{chunk}","media":{{"track":"inbound","chunk":"{chunk}","timestamp":"{stamp}","payload":"{payload}"}},"streamSid":"{STREAM}"}}"#
                ))
            }
            Self::Page => {
                let sample: i16 = if is_speaking { 9_000 } else { 0 };
                Frame::Bytes(sample.to_le_bytes().repeat(20 * 24))
            }
        }
    }

    /// Says that the caller is done.
    pub(crate) fn goodbye(self) -> Frame {
        Frame::Text(match self {
            Self::Phone => {
                r#"{"event":"stop","sequenceNumber":"9","streamSid":"MZ1","stop":{"callSid":"CA1"}}"#
                    .to_owned()
            }
            Self::Page => r#"{"type":"end"}"#.to_owned(),
        })
    }

    /// Something that it never says.
    pub(super) fn broken(self, chance: &mut Chance) -> Frame {
        match self {
            Self::Phone => Frame::Text(chance.pick(&BROKEN).to_owned()),
            Self::Page if chance.happens(300) => Frame::Bytes(vec![7; 961]),
            Self::Page => Frame::Text(chance.pick(&BROKEN_PAGES).to_owned()),
        }
    }
}

fn read_phone(text: &str) -> Heard {
    let said: Said<'_> = serde_json::from_str(text).expect("the relay speaks JSON");
    assert_eq!(said.stream, STREAM, "the relay names the stream");
    match (said.event, said.media, said.mark) {
        ("media", Some(Media { payload }), None) => {
            let mut audio = Vec::new();
            codec::base64::decode(payload.as_bytes(), &mut audio).expect("the relay sends base64");
            Heard::Audio(audio)
        }
        ("mark", None, Some(Mark { name })) => Heard::Mark(name.to_owned()),
        ("clear", None, None) => Heard::Clear,
        other => panic!("the relay says what no phone knows: {}", other.0),
    }
}

fn read_page(text: &str) -> Heard {
    let said: serde_json::Value = serde_json::from_str(text).expect("the relay speaks JSON");
    match said["type"].as_str() {
        Some("clear") => Heard::Clear,
        Some("ready" | "transcript" | "end") => Heard::Nothing,
        other => panic!("the relay says what no page knows: {other:?}"),
    }
}

/// Messages that no phone sends.
const BROKEN: [&str; 7] = [
    "",
    "{",
    r#"{"event":"media"}"#,
    r#"{"event":"media","media":{"track":"inbound","chunk":"9","timestamp":"x","payload":""}}"#,
    r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#,
    r#"{"event":"mark","mark":{"name":"not ours"}}"#,
    r#"{"event":"dtmf","dtmf":{"digit":"12"}}"#,
];

/// Messages that no page sends.
const BROKEN_PAGES: [&str; 4] =
    ["", "{", r#"{"type":"heard","frame":"x"}"#, r#"{"type":"start","token":"again"}"#];

/// 160 samples of mu-law silence.
const SILENCE: &str = concat!(
    "////////////////////////////////////////////////////////////////////////////////",
    "////////////////////////////////////////////////////////////////////////////////",
    "/////////////////////////////////////////////////////w==",
);

/// The same, of something loud.
const SPEECH: &str = concat!(
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg",
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg",
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIA==",
);

//! A web page's stream: binary frames are audio, text frames are JSON with a `type`.
//!
//! | from the page | means |
//! |---|---|
//! | `{"type":"start","token":".."}` | first of all; read by [`read_start`] |
//! | binary | what the person says: 16-bit PCM, 24 kHz, mono, little-endian, of any length |
//! | `{"type":"heard","frame":17}` | the first 17 binary frames have been played, or thrown away |
//! | `{"type":"end"}` | the person is done |
//!
//! | to the page | means |
//! |---|---|
//! | `{"type":"ready"}` | somebody answers |
//! | binary | what is to be played, in the same format, after what came before |
//! | `{"type":"clear"}` | throw away what has not been played |
//! | `{"type":"transcript","role":"agent","item":"..","text":"..","interrupted":false}` | a turn is complete |
//! | `{"type":"end","reason":".."}` | the session is over; the socket closes |
//!
//! The page counts the binary frames that it is given, from 1; that number is the mark which follows
//! each of them, so no mark is ever written. What the page says it heard is what the agent is told
//! was heard. Types and fields that are unknown are ignored.

use std::borrow::Cow;

use link::event::EndReason;
use serde::{Deserialize, Serialize};

use super::{Frame, Told};
use crate::call::input::{Audio, CallerEvent, MarkId};
use crate::call::output::{AgentTurn, CallerMessage, Milestone};

/// How a message leaves.
pub(super) fn frame<'a>(message: &CallerMessage<'a>) -> Frame<'a> {
    match message {
        CallerMessage::Media(Audio::PcmBytes(bytes)) => Frame::Bytes(bytes),
        CallerMessage::Media(Audio::Base64(_) | Audio::Ulaw(_) | Audio::Pcm(_)) => {
            unreachable!("the call says 24 kHz to a browser")
        }
        CallerMessage::Mark(_) => Frame::None,
        CallerMessage::Clear => Frame::Text,
    }
}

/// Writes the text of a message that leaves as text.
pub(super) fn write(message: &CallerMessage<'_>, text: &mut Vec<u8>) {
    match message {
        CallerMessage::Clear => push(&ToPage::Clear, text),
        CallerMessage::Media(_) | CallerMessage::Mark(_) => {}
    }
}

/// What a page is told of what happens in its call.
pub(super) fn told<'a>(milestone: &Milestone<'a>) -> Option<Told<'a>> {
    Some(Told(match milestone {
        Milestone::AgentReady { .. } => ToPage::Ready,
        Milestone::CallerTurn { order: _, item, text } => {
            ToPage::Transcript { role: Role::Caller, item, text, interrupted: false }
        }
        Milestone::AgentTurn(turn) => {
            let AgentTurn { item, text, interrupted, .. } = *turn;
            ToPage::Transcript { role: Role::Agent, item, text, interrupted }
        }
        Milestone::Started
        | Milestone::FirstVoice { .. }
        | Milestone::Saying { .. }
        | Milestone::AgentLost { .. }
        | Milestone::AgentReplaced { .. }
        | Milestone::Forgotten { .. }
        | Milestone::Key(_)
        | Milestone::ToolIntended { .. }
        | Milestone::Tool { .. }
        | Milestone::CommandDone { .. }
        | Milestone::BargeIn(_)
        | Milestone::Ending { .. }
        | Milestone::Leaving { .. }
        | Milestone::Dropped { .. }
        | Milestone::Tolerated(_) => return None,
    }))
}

/// What a page is told at the end.
pub(super) fn farewell(reason: EndReason) -> Told<'static> {
    Told(ToPage::End { reason: reason.as_str() })
}

/// What is said to a page.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ToPage<'a> {
    /// Somebody answers.
    Ready,
    /// Throw away what has not been played.
    Clear,
    /// A turn is complete.
    Transcript {
        /// Who spoke.
        role: Role,
        /// The service's id of the turn.
        item: &'a str,
        /// What was said; of an interrupted turn, what was heard.
        text: &'a str,
        /// Whether the person cut it short.
        interrupted: bool,
    },
    /// It is over.
    End {
        /// Why, in the words of events.
        reason: &'static str,
    },
}

/// Who spoke, as events say it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// The person at the page.
    Caller,
    /// The model.
    Agent,
}

pub(super) fn push(message: &ToPage<'_>, text: &mut Vec<u8>) {
    serde_json::to_writer(text, message).expect("texts and numbers are written into memory");
}

/// Reads one text message, and lets `hear` have what it means, if it means anything.
pub fn read(text: &str, hear: impl FnOnce(CallerEvent<'_>)) {
    match serde_json::from_str(text) {
        Ok(FromPage::Heard { frame }) => hear(CallerEvent::Mark(MarkId(frame))),
        Ok(FromPage::End) => hear(CallerEvent::Stopped),
        // A stream begins once, and it has begun.
        Ok(FromPage::Start { .. }) | Err(_) => hear(CallerEvent::Malformed),
        Ok(FromPage::Unknown) => {}
    }
}

/// Reads one binary message.
pub fn read_bytes(bytes: &[u8], hear: impl FnOnce(CallerEvent<'_>)) {
    // The call refuses half a sample. Nothing is not worth a message to the agent.
    if !bytes.is_empty() {
        hear(CallerEvent::Speech(Audio::PcmBytes(bytes)));
    }
}

/// What a page means that closes its socket with this code.
#[must_use]
pub fn closed(code: u16) -> CallerEvent<'static> {
    match code {
        // A page that is done, is closed or left, or gives no code: it is the person who goes.
        1000 | 1001 | 1005 => CallerEvent::Stopped,
        _ => CallerEvent::Lost,
    }
}

/// The first message of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It wants in with this token.
    Token(String),
    /// It is a `start` without a token, or no `start` at all.
    Bad,
}

/// Reads the first message.
#[must_use]
pub fn read_start(text: &str) -> Start {
    match serde_json::from_str(text) {
        Ok(FromPage::Start { token }) => Start::Token(token.into_owned()),
        Ok(FromPage::Heard { .. } | FromPage::End | FromPage::Unknown) | Err(_) => Start::Bad,
    }
}

/// What a page says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum FromPage<'a> {
    Start {
        #[serde(borrow)]
        token: Cow<'a, str>,
    },
    Heard {
        frame: u32,
    },
    End,
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> String {
        let mut meaning = "nothing".to_owned();
        read(text, |event| meaning = format!("{event:?}"));
        meaning
    }

    #[test]
    fn a_page_says_what_it_heard_and_that_it_is_done() {
        assert_eq!(meaning(r#"{"type":"heard","frame":17}"#), "Mark(MarkId(17))");
        assert_eq!(meaning(r#"{"frame":3,"at":9,"type":"heard"}"#), "Mark(MarkId(3))");
        assert_eq!(meaning(r#"{"type":"end"}"#), "Stopped");
        assert_eq!(meaning(r#"{"type":"weather","sky":{}}"#), "nothing");
    }

    #[test]
    fn what_cannot_be_is_malformed() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"type":7}"#,
            r#"{"type":"heard"}"#,
            r#"{"type":"heard","frame":-1}"#,
            r#"{"type":"heard","frame":4294967296}"#,
            r#"{"type":"start","token":"v4.public.x"}"#,
        ] {
            assert_eq!(meaning(text), "Malformed", "{text}");
        }
    }

    #[test]
    fn audio_is_bytes_of_any_length_but_none() {
        let mut heard = Vec::new();
        for bytes in [&[][..], &[1, 2], &[1, 2, 3]] {
            read_bytes(bytes, |event| heard.push(format!("{event:?}")));
        }
        assert_eq!(heard, ["Speech(PcmBytes([1, 2]))", "Speech(PcmBytes([1, 2, 3]))"]);
    }

    #[test]
    fn only_a_start_with_a_token_begins() {
        let start = r#"{"type":"start","token":"v4.pub\u006cic.x","page":"1.2"}"#;
        assert_eq!(read_start(start), Start::Token("v4.public.x".into()));
        for text in
            ["", r#"{"type":"start"}"#, r#"{"type":"start","token":5}"#, r#"{"type":"end"}"#]
        {
            assert_eq!(read_start(text), Start::Bad, "{text}");
        }
    }

    #[test]
    fn a_page_is_told_what_is_said_and_how_it_ends() {
        let said = |told: Option<Told<'_>>| {
            let mut text = Vec::new();
            told.unwrap().write(&mut text);
            String::from_utf8(text).unwrap()
        };
        let turn = AgentTurn {
            order: 1,
            item: "i\"1",
            text: "Good",
            heard_ms: 300,
            generated_ms: 900,
            interrupted: true,
            reply_after: None,
        };
        assert_eq!(
            said(told(&Milestone::AgentTurn(turn))),
            r#"{"type":"transcript","role":"agent","item":"i\"1","text":"Good","interrupted":true}"#
        );
        let caller = Milestone::CallerTurn { order: 0, item: "i0", text: "Hi" };
        assert_eq!(
            said(told(&caller)),
            r#"{"type":"transcript","role":"caller","item":"i0","text":"Hi","interrupted":false}"#
        );
        let after = std::time::Duration::ZERO;
        assert_eq!(said(told(&Milestone::AgentReady { after })), r#"{"type":"ready"}"#);
        assert!(told(&Milestone::Started).is_none());
        assert_eq!(
            said(Some(farewell(EndReason::AgentHungUp))),
            r#"{"type":"end","reason":"agent_hung_up"}"#
        );
    }

    #[test]
    fn audio_leaves_as_it_is_and_marks_leave_as_nothing() {
        let media = CallerMessage::Media(Audio::PcmBytes(&[1, 2]));
        assert_eq!(frame(&media), Frame::Bytes(&[1, 2]));
        assert_eq!(frame(&CallerMessage::Mark(MarkId(1))), Frame::None);
        assert_eq!(frame(&CallerMessage::Clear), Frame::Text);
        let mut text = Vec::new();
        write(&CallerMessage::Clear, &mut text);
        assert_eq!(text, br#"{"type":"clear"}"#);
    }

    #[test]
    fn a_page_that_is_closed_has_hung_up() {
        for code in [1000, 1001, 1005] {
            assert!(matches!(closed(code), CallerEvent::Stopped), "{code}");
        }
        assert!(matches!(closed(1011), CallerEvent::Lost));
    }
}

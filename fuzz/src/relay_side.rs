//! What a relay reads: the carrier, the model's service, its own files and settings.

use std::net::IpAddr;
use std::str;
use std::sync::{Arc, OnceLock};

use link::agent::AgentSpec;
use link::guard::{Allowed, is_public};
use link::secret::Secret;
use relay::call::input::{AgentEvent, Audio, CallerEvent};
use relay::call::output::{AgentMessage, Cue, Recalled};
use relay::node::spool::record;
use relay::wire::{
    AgentDialect, AgentWire, CallerDialect, browser as wire_page, opening as wire_opening,
};
use serde_json::Value;

/// A message of the carrier in mid-stream.
///
/// # Panics
/// When the cursor that reads hot messages in place and serde do not agree.
pub fn caller_wire(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let meaning = |text: &str| {
        let mut heard = None;
        CallerDialect::Twilio.read(text, |event| {
            let is_audio = match &event {
                CallerEvent::Media { audio, .. } => is_sound(*audio),
                CallerEvent::Started
                | CallerEvent::Speech(_)
                | CallerEvent::Mark(_)
                | CallerEvent::Key(_)
                | CallerEvent::Malformed
                | CallerEvent::Stopped
                | CallerEvent::Lost
                | CallerEvent::Violated => true,
            };
            heard = Some((format!("{event:?}"), is_audio));
        });
        heard
    };
    agree(meaning(text), || meaning(&spaced(text)));
}

/// A message of a page, before its `start` and in mid-stream.
pub fn page(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = wire_page::read_start(text);
    CallerDialect::Browser.read(text, |_| {});
}

/// A message of the carrier before its `start`.
pub fn opening(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = wire_opening::read(text);
}

/// A message of the model's service; the same text, as the relay would write it.
///
/// # Panics
/// When cursor and serde do not agree, or what is written is not JSON that says the text.
pub fn agent_wire(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let meaning = |text: &str| {
        let mut heard = None;
        AgentDialect::OpenaiRealtime.read(text, |event| {
            let is_audio = match &event {
                AgentEvent::Audio { audio, .. } => is_sound(*audio),
                AgentEvent::Opened
                | AgentEvent::Configured { .. }
                | AgentEvent::Alive
                | AgentEvent::Summarised { .. }
                | AgentEvent::SpeechStarted
                | AgentEvent::SpeechStopped
                | AgentEvent::CallerTurn { .. }
                | AgentEvent::CallerSaying { .. }
                | AgentEvent::CallerSaid { .. }
                | AgentEvent::ResponseStarted { .. }
                | AgentEvent::AudioEnded { .. }
                | AgentEvent::Saying { .. }
                | AgentEvent::ToolCalled { .. }
                | AgentEvent::ResponseEnded { .. }
                | AgentEvent::Complained { .. }
                | AgentEvent::Ignored
                | AgentEvent::Malformed
                | AgentEvent::Lost { .. } => true,
            };
            heard = Some((format!("{event:?}"), is_audio));
        });
        heard
    };
    let heard = meaning(text);
    assert!(heard.is_some(), "every message of a service means something");
    agree(heard, || meaning(&spaced(text)));
    let words = |message: &AgentMessage<'_>, place: &str| {
        let mut wire = AgentWire::new(Arc::clone(spec()));
        let mut written = Vec::new();
        wire.write(message, &mut written);
        let value: Value = serde_json::from_slice(&written).expect("what is written is JSON");
        value.pointer(place).and_then(Value::as_str).map(str::to_owned)
    };
    let agent = AgentMessage::Recall(Recalled::Agent(text));
    assert_eq!(words(&agent, "/item/content/0/text").as_deref(), Some(text));
    let result = AgentMessage::Recall(Recalled::Result { call: text, output: text });
    assert_eq!(words(&result, "/item/call_id").as_deref(), Some(text));
    let say = words(&AgentMessage::Speak(Cue::Words(text)), "/response/instructions");
    assert!(say.is_some_and(|say| say.contains(text)), "the words are in the instructions");
}

/// An agent file.
pub fn agent_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = relay::config::agents::read(text, |_| Some(Secret::new("key")));
}

/// The list of what tools may reach, and an address that somebody asks for.
///
/// # Panics
/// When a list changes what is public, or the same address in two forms is two.
pub fn tools_allow(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (list, address) = text.split_once('\n').unwrap_or((text, "127.0.0.1"));
    let (Some(allowed), Ok(address)) = (Allowed::parse(list), address.parse::<IpAddr>()) else {
        return;
    };
    let other = match address.to_canonical() {
        IpAddr::V4(plain) => IpAddr::V6(plain.to_ipv6_mapped()),
        same @ IpAddr::V6(_) => same,
    };
    assert_eq!(allowed.lists(None, address), allowed.lists(None, other), "{list:?} {address}");
    assert_eq!(is_public(address), is_public(other), "{address}");
    assert!(!allowed.lists(Some(""), address) || allowed.lists(None, address));
}

/// A file of the spool, as a process that was killed or a disk may have left it.
///
/// # Panics
/// When the pieces in which it is read matter, or an event that was read is another one after it
/// was written and read again.
pub fn spool(bytes: &[u8]) {
    let found = record::read(bytes, usize::MAX);
    assert!(found.used <= bytes.len(), "no more is used than there is");
    let mut one_by_one = Vec::new();
    let mut left = bytes;
    loop {
        let one = record::read(left, 1);
        left = left.get(one.used..).unwrap_or_default();
        if one.events.is_empty() {
            assert_eq!(one.rest, found.rest, "what follows is the same");
            break;
        }
        one_by_one.extend(one.events);
    }
    assert_eq!(one_by_one, found.events, "pieces do not matter");
    for event in &found.events {
        let Ok(record) = record::encode(event) else { continue };
        assert_eq!(record::read(&record, 1).events, std::slice::from_ref(event));
    }
}

/// The same JSON in another form: the cursor takes no white space, so serde reads it.
fn spaced(text: &str) -> String {
    format!(" {text}")
}

/// Whether it is what a decoder of audio takes: the cursor leaves that check to it.
fn is_sound(audio: Audio<'_>) -> bool {
    match audio {
        Audio::Base64(text) => codec::base64::check(text.as_bytes()).is_ok(),
        Audio::Ulaw(_) | Audio::PcmBytes(_) | Audio::Pcm(_) => true,
    }
}

fn agree(fast: Option<(String, bool)>, slow: impl FnOnce() -> Option<(String, bool)>) {
    if fast.as_ref().is_none_or(|(_, is_sound)| *is_sound) {
        assert_eq!(fast, slow());
    }
}

fn spec() -> &'static Arc<AgentSpec> {
    static SPEC: OnceLock<Arc<AgentSpec>> = OnceLock::new();
    SPEC.get_or_init(|| {
        let spec = serde_json::json!({
            "name": "front-desk", "instructions": "You answer the phone.",
            "provider": {"kind": "openai_realtime"},
        });
        Arc::new(serde_json::from_value(spec).expect("it is a spec"))
    })
}

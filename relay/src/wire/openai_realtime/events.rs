//! Reads what OpenAI Realtime says: of its 46 events, those that a phone call has to act on.

use std::borrow::Cow;

use serde::Deserialize;

use super::answers::{AudioDone, ItemDone, ResponseCreated, ResponseDone, TranscriptDelta};
use super::complaint::Complaint;
use crate::call::input::{AgentEvent, Answering, Audio, AudioFormat};
use crate::wire::scan::Scan;

/// Reads one message, and lets `hear` have what it means.
pub fn read(text: &str, hear: impl FnOnce(AgentEvent<'_>)) {
    match scan_audio(text) {
        Some(delta) => hear(delta.event()),
        None => read_any(text, hear),
    }
}

/// A `response.output_audio.delta` of known fields, in place.
fn scan_audio(text: &str) -> Option<AudioDelta<'_>> {
    let mut scan = Scan::new(text);
    let (mut is_audio, mut response, mut item, mut delta, mut part) =
        (false, None, None, None, None);
    scan.open()?;
    loop {
        match scan.key()? {
            // Another kind, or a field that comes twice: serde says what that means.
            "type" if !is_audio && scan.string()? == AUDIO_DELTA => is_audio = true,
            "response_id" if response.is_none() => response = Some(scan.string()?),
            "item_id" if item.is_none() => item = Some(scan.string()?),
            "content_index" if part.is_none() => {
                part = Some(u32::try_from(scan.number()?).ok()?);
            }
            // Its alphabet is checked when it is decoded.
            "delta" if delta.is_none() => delta = Some(scan.unchecked_string()?),
            // The second is padding, which is sent and not documented.
            "event_id" | "obfuscation" => {
                scan.string()?;
            }
            "output_index" => {
                scan.number()?;
            }
            _ => return None,
        }
        if !scan.more()? {
            break;
        }
    }
    scan.end()?;
    let (response_id, item_id) = (response?.into(), item?.into());
    is_audio.then_some(AudioDelta {
        response_id,
        item_id,
        content_index: part?,
        delta: delta?.into(),
    })
}

const AUDIO_DELTA: &str = "response.output_audio.delta";

/// Any message, by serde: first what it is, then what it says.
fn read_any(text: &str, hear: impl FnOnce(AgentEvent<'_>)) {
    let Ok(Envelope { kind }) = serde_json::from_str(text) else {
        return hear(AgentEvent::Malformed);
    };
    match kind.as_ref() {
        "session.created" => hear(AgentEvent::Opened),
        "session.updated" => tell::<SessionUpdated<'_>>(text, hear),
        "input_audio_buffer.speech_started" => hear(AgentEvent::SpeechStarted),
        "input_audio_buffer.speech_stopped" => hear(AgentEvent::SpeechStopped),
        "input_audio_buffer.committed" => tell::<Committed<'_>>(text, hear),
        "conversation.item.input_audio_transcription.delta" => {
            tell::<Transcribing<'_>>(text, hear);
        }
        "conversation.item.input_audio_transcription.completed" => {
            tell::<Transcribed<'_>>(text, hear);
        }
        "conversation.item.input_audio_transcription.failed" => {
            tell::<NotTranscribed<'_>>(text, hear);
        }
        "response.created" => tell::<ResponseCreated<'_>>(text, hear),
        AUDIO_DELTA => tell::<AudioDelta<'_>>(text, hear),
        "response.output_audio.done" => tell::<AudioDone<'_>>(text, hear),
        "response.output_audio_transcript.delta" => tell::<TranscriptDelta<'_>>(text, hear),
        "response.output_item.done" => tell::<ItemDone<'_>>(text, hear),
        "response.done" => tell::<ResponseDone<'_>>(text, hear),
        "error" => tell::<Complaint<'_>>(text, hear),
        _ => hear(AgentEvent::Ignored),
    }
}

/// Reads a message of a known kind.
fn tell<'a, T: Deserialize<'a> + Event>(text: &'a str, hear: impl FnOnce(AgentEvent<'_>)) {
    match serde_json::from_str::<T>(text) {
        Ok(message) => hear(message.event()),
        Err(_) => hear(AgentEvent::Malformed),
    }
}

/// A message that means something.
pub(super) trait Event {
    /// What it means.
    fn event(&self) -> AgentEvent<'_>;
}

/// What every message has.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// `session.updated`: what the service will really use.
#[derive(Deserialize)]
struct SessionUpdated<'a> {
    #[serde(borrow)]
    session: Session<'a>,
}

/// The session, as far as it is verified.
#[derive(Deserialize)]
struct Session<'a> {
    #[serde(borrow)]
    audio: SessionAudio<'a>,
}

/// Both ways of its audio.
#[derive(Deserialize)]
struct SessionAudio<'a> {
    #[serde(borrow)]
    input: SessionInput<'a>,
    #[serde(borrow)]
    output: SessionOutput<'a>,
}

/// From the caller.
#[derive(Deserialize)]
struct SessionInput<'a> {
    #[serde(borrow)]
    format: Format<'a>,
    turn_detection: Option<Turns>,
}

/// To the caller.
#[derive(Deserialize)]
struct SessionOutput<'a> {
    #[serde(borrow)]
    format: Format<'a>,
}

/// What the service does by itself when somebody speaks, and what it does unless told otherwise.
#[derive(Deserialize)]
struct Turns {
    #[serde(default = "by_itself")]
    create_response: bool,
    #[serde(default = "by_itself")]
    interrupt_response: bool,
}

fn by_itself() -> bool {
    true
}

impl Turns {
    /// Half of it is not what anybody asked for.
    fn answering(&self) -> Answering {
        match self.create_response && self.interrupt_response {
            true => Answering::ByService,
            false => Answering::ByRelay,
        }
    }
}

/// An audio format. The name as text, which an older interface had, is malformed.
#[derive(Deserialize)]
struct Format<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    rate: Option<u32>,
}

impl Format<'_> {
    /// G.711 has no rate here, PCM has one; a relay asks for nothing else.
    fn known(&self) -> Option<AudioFormat> {
        match (self.kind.as_ref(), self.rate) {
            ("audio/pcmu", _) => Some(AudioFormat::Ulaw),
            ("audio/pcm", Some(24_000)) => Some(AudioFormat::Pcm24k),
            _ => None,
        }
    }
}

impl Event for SessionUpdated<'_> {
    fn event(&self) -> AgentEvent<'_> {
        let SessionAudio { input, output } = &self.session.audio;
        AgentEvent::Configured {
            uplink: input.format.known(),
            playout: output.format.known(),
            answering: input.turn_detection.as_ref().map_or(Answering::ByRelay, Turns::answering),
        }
    }
}

/// `input_audio_buffer.committed`: the caller's turn is an item.
#[derive(Deserialize)]
struct Committed<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
}

impl Event for Committed<'_> {
    fn event(&self) -> AgentEvent<'_> {
        AgentEvent::CallerTurn { item: &self.item_id }
    }
}

/// `conversation.item.input_audio_transcription.delta`: some of the words, while they are made out.
#[derive(Deserialize)]
struct Transcribing<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    /// The service may leave it out.
    #[serde(borrow, default)]
    delta: Cow<'a, str>,
}

impl Event for Transcribing<'_> {
    fn event(&self) -> AgentEvent<'_> {
        AgentEvent::CallerSaying { item: &self.item_id, text: Cow::Borrowed(&self.delta) }
    }
}

/// `conversation.item.input_audio_transcription.completed`, often behind the answer to it.
#[derive(Deserialize)]
struct Transcribed<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    #[serde(borrow)]
    transcript: Cow<'a, str>,
}

impl Event for Transcribed<'_> {
    fn event(&self) -> AgentEvent<'_> {
        let text = Cow::Borrowed(self.transcript.trim());
        AgentEvent::CallerSaid { item: &self.item_id, text }
    }
}

/// `conversation.item.input_audio_transcription.failed`.
#[derive(Deserialize)]
struct NotTranscribed<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
}

impl Event for NotTranscribed<'_> {
    fn event(&self) -> AgentEvent<'_> {
        AgentEvent::CallerSaid { item: &self.item_id, text: Cow::Borrowed("") }
    }
}

/// `response.output_audio.delta`, when it is not read in place.
#[derive(Deserialize)]
struct AudioDelta<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    content_index: u32,
    #[serde(borrow)]
    delta: Cow<'a, str>,
}

impl Event for AudioDelta<'_> {
    fn event(&self) -> AgentEvent<'_> {
        AgentEvent::Audio {
            response: &self.response_id,
            item: &self.item_id,
            part: self.content_index,
            audio: Audio::Base64(&self.delta),
        }
    }
}

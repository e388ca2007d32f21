//! The ear of the model: appended audio, the turns in it, and what was said in them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Conversation, Later};
use crate::audio::words;
use crate::model::fields::Fields;
use crate::model::record::{ItemKind, ItemRecord};
use crate::model::refusal::Refusal;
use crate::model::reply::Cut;
use crate::model::session::{Format, Session};
use crate::model::vad::{Noticed, Vad, VadSettings};

/// What listens.
#[derive(Debug)]
pub(super) struct Ear {
    /// Finds the turns.
    pub(super) vad: Vad,
    /// The item that the caller is speaking.
    speaking: Option<String>,
    /// Mu-law that may hold the beginning of a block of words.
    tail: Vec<u8>,
    /// The words that the sound itself said since the last turn.
    words: Option<String>,
}

impl Ear {
    /// An ear for a session's audio.
    pub(super) fn new(session: &Session) -> Self {
        let vad = Vad::new(detector(session), session.input.rate_hz());
        Self { vad, speaking: None, tail: Vec::new(), words: None }
    }

    /// Reads the words in the sound, where it carries any. A client may cut it anywhere.
    fn read(&mut self, ulaw: &[u8]) {
        self.tail.extend_from_slice(ulaw);
        if let Some(block) = words::find(&self.tail).pop() {
            self.words = Some(block.text);
        }
        let known = self.tail.len().saturating_sub(crate::audio::FRAME_BYTES - 1);
        self.tail.drain(..known);
    }
}

/// The detector's settings. With turn detection off it runs on and nobody asks it.
pub(super) fn detector(session: &Session) -> VadSettings {
    let off = VadSettings { threshold: 1.0, prefix_padding_ms: 0, silence_duration_ms: 500 };
    session.turns.map_or(off, |rules| rules.vad)
}

impl Conversation {
    /// Hears audio. There is no answer to an append, ever; what it causes comes as events
    /// of its own.
    ///
    /// # Errors
    /// When it is no audio.
    pub(super) fn append(
        &mut self,
        fields: Fields<'_>,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let text = fields.text("audio")?;
        let mut bytes = Vec::new();
        if text.is_empty() || codec::base64::decode(text.as_bytes(), &mut bytes).is_err() {
            return Err(Refusal::value("audio", "standard base64 with padding, not empty"));
        }
        let mut samples = Vec::new();
        match self.session.input {
            Format::Pcmu => {
                codec::g711::ulaw_decode(&bytes, &mut samples);
                self.ear.read(&bytes);
            }
            Format::Pcm24k => codec::pcm::from_le_bytes(&bytes, &mut samples)
                .map_err(|_| Refusal::value("audio", "whole 16-bit samples"))?,
        }
        if self.appended_bytes == 0 {
            let at_us = self.ledger.at_us(now);
            self.ledger.write(|record| record.first_audio_at_us = Some(at_us));
        }
        self.appended_bytes += bytes.len() as u64;
        if self.session.turns.is_none() {
            return Ok(());
        }
        for noticed in self.ear.vad.hear(&samples) {
            match noticed {
                Noticed::Started { audio_start_ms } => {
                    self.speech_started(audio_start_ms, now, out);
                }
                Noticed::Stopped { audio_end_ms } => self.speech_stopped(audio_end_ms, now, out),
            }
        }
        Ok(())
    }

    /// The caller begins to speak: the answer that is being made is cut, if the session
    /// says so.
    fn speech_started(&mut self, audio_start_ms: u64, now: Duration, out: &mut Vec<Value>) {
        let item = self.ids.next("item");
        out.push(json!({
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": audio_start_ms, "item_id": item,
        }));
        self.ear.speaking = Some(item);
        // An answer that was not begun yet is not begun while the caller speaks.
        self.agenda.retain(|(_, what)| !matches!(what, Later::Answer(_)));
        let interrupts = self.session.turns.is_some_and(|rules| rules.interrupt_response);
        if let Some(reply) = self.reply.as_mut().filter(|_| interrupts) {
            reply.cut(Cut::TurnDetected, now);
        }
    }

    /// The turn is over: it becomes an item, is written down a little later, and is
    /// answered.
    fn speech_stopped(&mut self, audio_end_ms: u64, now: Duration, out: &mut Vec<Value>) {
        let item = self.ear.speaking.take().unwrap_or_else(|| self.ids.next("item"));
        let turn = self.ledger.read(|record| record.caller_turns());
        let script = || self.repertoire.caller(turn).to_owned();
        let words = self.ear.words.take().unwrap_or_else(script);
        out.push(json!({
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": audio_end_ms, "item_id": item,
        }));
        let previous = self.last_item();
        out.push(json!({
            "type": "input_audio_buffer.committed",
            "previous_item_id": previous, "item_id": item,
        }));
        let shown = json!({
            "id": item, "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{"type": "input_audio", "transcript": null}],
        });
        for kind in ["conversation.item.added", "conversation.item.done"] {
            out.push(json!({"type": kind, "previous_item_id": previous, "item": shown}));
        }
        let at_us = self.ledger.at_us(now);
        self.remember(ItemRecord::new(&item, at_us, ItemKind::Caller, ""));
        let cue = self.repertoire.cue(&words, turn);
        if self.session.transcribes {
            self.agenda.push((now + TRANSCRIPTION, Later::Transcribe { item, text: words }));
        }
        if self.session.turns.is_some_and(|rules| rules.create_response) {
            self.agenda.push((now, Later::Answer(cue)));
        }
    }
}

/// What the caller said is written down a little after the turn's end, beside the answer.
const TRANSCRIPTION: Duration = Duration::from_millis(120);

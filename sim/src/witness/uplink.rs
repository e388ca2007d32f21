//! What the caller says: all of it reaches a model, is held, or is counted as dropped.

use relay::call::input::Audio;

use crate::phone::Kind;

/// The caller's voice in the books, in bytes of its format.
#[derive(Debug)]
pub(super) struct Uplink {
    kind: Kind,
    said: u64,
    passed_on: u64,
    dropped: u64,
    last_chunk: u64,
}

impl Uplink {
    /// Nothing was said.
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, said: 0, passed_on: 0, dropped: 0, last_chunk: 0 }
    }

    /// The relay is about to hear a frame of the caller.
    pub(super) fn said(&mut self, chunk: Option<u64>, audio: Audio<'_>) {
        // A repetition is not said twice; a page's audio has no numbers.
        if chunk.is_none_or(|chunk| chunk > self.last_chunk) {
            self.last_chunk = chunk.unwrap_or(0);
            self.said += bytes(audio);
        }
    }

    /// A model hears it.
    pub(super) fn passed_on(&mut self, audio: Audio<'_>) {
        self.passed_on += bytes(audio);
    }

    /// It is thrown away, and counted.
    pub(super) fn dropped(&mut self, ms: u32) {
        self.dropped += (u64::from(ms) + 1) * self.kind.bytes_per_ms();
    }

    /// Nothing is lost beside what may be held.
    pub(super) fn look(&self) {
        let found = self.passed_on + self.dropped + HELD_MS_MAX * self.kind.bytes_per_ms();
        assert!(
            self.said <= found,
            "{} bytes of the caller, of which {found} are found",
            self.said
        );
    }
}

fn bytes(audio: Audio<'_>) -> u64 {
    match audio {
        Audio::Base64(text) => {
            let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
            (text.len() / 4 * 3 - padding) as u64
        }
        Audio::Ulaw(bytes) => bytes.len() as u64,
        // Half a sample is refused.
        Audio::PcmBytes(bytes) if bytes.len() % 2 == 1 => 0,
        Audio::PcmBytes(bytes) => bytes.len() as u64,
        // What is resampled is not counted.
        Audio::Pcm(_) => 0,
    }
}

/// Two seconds.
const HELD_MS_MAX: u64 = 2_000;

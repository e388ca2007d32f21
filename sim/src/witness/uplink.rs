//! What the caller says: all of it reaches a model, is held, or is counted as dropped.

use relay::call::input::Audio;

/// The caller's voice in the books, in bytes of mu-law.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    said: u64,
    passed_on: u64,
    dropped: u64,
    last_chunk: u64,
}

impl Uplink {
    /// The relay is about to hear a frame of the caller.
    pub(super) fn said(&mut self, chunk: u64, audio: Audio<'_>) {
        // A repetition is not said twice.
        if chunk > self.last_chunk {
            self.last_chunk = chunk;
            self.said += bytes(audio);
        }
    }

    /// A model hears it.
    pub(super) fn passed_on(&mut self, audio: Audio<'_>) {
        self.passed_on += bytes(audio);
    }

    /// It is thrown away, and counted.
    pub(super) fn dropped(&mut self, ms: u32) {
        self.dropped += (u64::from(ms) + 1) * 8;
    }

    /// Nothing is lost beside what may be held.
    pub(super) fn look(&self) {
        let found = self.passed_on + self.dropped + HELD_MAX;
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
        // Only mu-law calls are counted.
        Audio::Pcm(_) => 0,
    }
}

/// Two seconds.
const HELD_MAX: u64 = 16_000;

//! Audio formats: how a leg's audio is written, and how long so many bytes of it sound.

use std::time::Duration;

use ::link::agent::AgentAudio;

/// How audio is written on a leg's socket; mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioFormat {
    /// G.711 mu-law, 8 kHz: what phones speak.
    Ulaw,
    /// 16-bit PCM, 24 kHz, little-endian: what browsers and most services speak.
    Pcm24k,
}

impl AudioFormat {
    /// Bytes of a millisecond.
    #[must_use]
    pub const fn bytes_per_ms(self) -> u64 {
        match self {
            Self::Ulaw => 8,
            Self::Pcm24k => 48,
        }
    }

    /// Bytes of so many milliseconds.
    #[must_use]
    pub const fn bytes(self, ms: u64) -> usize {
        // On any machine: nobody asks for more than a minute or two.
        (ms * self.bytes_per_ms()) as usize
    }

    /// Milliseconds of so many bytes, rounded down.
    #[must_use]
    pub const fn ms(self, bytes: u64) -> u64 {
        // Two divisions by constants, which cost less than one by a variable.
        match self {
            Self::Ulaw => bytes / Self::Ulaw.bytes_per_ms(),
            Self::Pcm24k => bytes / Self::Pcm24k.bytes_per_ms(),
        }
    }

    /// How long so many bytes sound.
    #[must_use]
    pub const fn duration(self, bytes: u64) -> Duration {
        Duration::from_micros(match self {
            Self::Ulaw => bytes * 1_000 / Self::Ulaw.bytes_per_ms(),
            Self::Pcm24k => bytes * 1_000 / Self::Pcm24k.bytes_per_ms(),
        })
    }
}

/// The formats of a call's two legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Formats {
    /// Both speak mu-law: a frame passes as it came.
    Ulaw,
    /// The caller speaks mu-law, the agent PCM at 24 kHz.
    Transcoded,
    /// Both speak PCM at 24 kHz.
    Pcm24k,
}

impl Formats {
    /// The formats of a call by how its caller speaks, and how the agent is to speak on the phone.
    pub(super) fn new(caller: AudioFormat, on_the_phone: AgentAudio) -> Self {
        match (caller, on_the_phone) {
            (AudioFormat::Ulaw, AgentAudio::Mulaw) => Self::Ulaw,
            (AudioFormat::Ulaw, AgentAudio::Pcm24k) => Self::Transcoded,
            // Nobody makes a telephone's sound of a voice that is better than that.
            (AudioFormat::Pcm24k, AgentAudio::Mulaw | AgentAudio::Pcm24k) => Self::Pcm24k,
        }
    }

    /// How the caller's leg is written, and so what waits on its way to either side.
    pub(super) fn caller(self) -> AudioFormat {
        match self {
            Self::Ulaw | Self::Transcoded => AudioFormat::Ulaw,
            Self::Pcm24k => AudioFormat::Pcm24k,
        }
    }

    /// How the agent's leg is written.
    pub(super) fn agent(self) -> AudioFormat {
        match self {
            Self::Ulaw => AudioFormat::Ulaw,
            Self::Transcoded | Self::Pcm24k => AudioFormat::Pcm24k,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_time_agree_in_both_formats() {
        for (format, second) in [(AudioFormat::Ulaw, 8_000), (AudioFormat::Pcm24k, 48_000)] {
            assert_eq!(format.bytes(1_000), second);
            assert_eq!(format.ms(second as u64), 1_000);
            assert_eq!(format.ms(second as u64 - 1), 999);
            assert_eq!(format.duration(second as u64 / 2), Duration::from_millis(500));
        }
    }
}

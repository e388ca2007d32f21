//! Sample rates that cross a telephone call.

/// Samples per second of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleRate(u32);

impl SampleRate {
    /// Telephone.
    pub const HZ_8000: Self = Self(8_000);
    /// Wideband; what speech recognisers take.
    pub const HZ_16000: Self = Self(16_000);
    /// What speech-to-speech models give.
    pub const HZ_24000: Self = Self(24_000);
    /// Opus and browsers.
    pub const HZ_48000: Self = Self(48_000);

    /// A rate that a peer names; whether anything can be done with it is another question.
    #[must_use]
    pub const fn from_hz(hz: u32) -> Self {
        Self(hz)
    }

    /// Samples per second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0
    }
}

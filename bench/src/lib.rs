//! What the benches share: a call that is up ([`mod@line`]), its sockets on loopback ([`wires`]), a
//! whole shard with one call ([`shift`]), and speech. The benches of time are in `benches/`, what they have measured is in `results/`; the
//! pieces whose instructions are counted are in [`pieces`], the counting is in [`counts`].
//!
//! Nothing here is part of the product. It measures the relay's own public pieces, so that a
//! figure is about the code that runs.

pub mod line;
pub mod shift;
pub mod wires;

pub mod counts;
pub mod pieces;

/// One clip of speech: mu-law, 8 kHz. Real speech, so that tables and branches see what they see
/// in a call.
pub const SPEECH: &[u8] = include_bytes!("../../relay/assets/sorry.ulaw");

/// 20 ms from the middle of a word.
///
/// # Panics
/// Never: the clip is longer than that.
#[must_use]
pub fn frame() -> &'static [u8] {
    &SPEECH[8_000..][..codec::frame::ULAW_FRAME_BYTES]
}

/// The same as PCM at 24 kHz, as a model sends it.
///
/// # Panics
/// Never: the resampler knows these two rates.
#[must_use]
pub fn frame_pcm24k() -> Vec<i16> {
    use codec::{g711, rate::SampleRate, resample::Resampler};
    let (mut narrow, mut wide) = (Vec::new(), Vec::new());
    g711::ulaw_decode(frame(), &mut narrow);
    Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_24000)
        .expect("the resampler knows both rates")
        .process(&narrow, &mut wide);
    wide
}

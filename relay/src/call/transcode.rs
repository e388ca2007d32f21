//! Between the agent's format and the caller's: base64, G.711 tables, resampler, in reused buffers.
//!
//! When both ends speak the same nothing is transcoded: the caller's audio passes through
//! [`uplink`](super::uplink) as it is, and the agent's is decoded once into the bytes that wait.

use codec::rate::SampleRate;
use codec::resample::Resampler;
use codec::{base64, g711, pcm};

use super::format::{AudioFormat, Formats};
use super::input::Audio;

/// Audio that cannot be read: not base64, or not of the agent's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadAudio;

/// The agent's format to the caller's.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Both speak mu-law.
    Ulaw,
    /// The agent speaks PCM at 24 kHz, the caller mu-law.
    Narrow(Box<Narrow>),
    /// Both speak PCM at 24 kHz.
    Pcm(Samples),
}

impl Decoder {
    /// A decoder for a call.
    pub(super) fn new(formats: Formats) -> Self {
        match formats {
            Formats::Ulaw => Self::Ulaw,
            Formats::Transcoded => Self::Narrow(Box::new(Narrow::new())),
            Formats::Pcm24k => Self::Pcm(Samples::default()),
        }
    }

    /// Appends audio to `out` as the caller takes it, and says how many bytes of that it stands
    /// for.
    ///
    /// # Errors
    /// [`BadAudio`]; `out` may then hold half of it.
    pub(super) fn decode(&mut self, audio: Audio<'_>, out: &mut Vec<u8>) -> Result<u64, BadAudio> {
        let before = out.len();
        match (self, audio) {
            (Self::Ulaw, Audio::Base64(text)) => {
                base64::decode(text.as_bytes(), out).map_err(|_| BadAudio)?;
                Ok((out.len() - before) as u64)
            }
            (Self::Ulaw, Audio::Ulaw(bytes)) => {
                out.extend_from_slice(bytes);
                Ok(bytes.len() as u64)
            }
            (Self::Narrow(narrow), Audio::Base64(text)) => narrow.base64(text, out),
            (Self::Narrow(narrow), Audio::Pcm(samples)) => Ok(narrow.samples(samples, out)),
            (Self::Pcm(samples), Audio::Base64(text)) => samples.base64(text, out),
            (Self::Pcm(_), Audio::Pcm(samples)) => {
                pcm::to_le_bytes(samples, out);
                Ok((out.len() - before) as u64)
            }
            (Self::Ulaw, Audio::Pcm(_) | Audio::PcmBytes(_))
            | (Self::Narrow(_), Audio::Ulaw(_) | Audio::PcmBytes(_))
            | (Self::Pcm(_), Audio::Ulaw(_) | Audio::PcmBytes(_)) => Err(BadAudio),
        }
    }

    /// Appends what is still inside; the next audio begins anew.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Ulaw => {}
            Self::Narrow(narrow) => narrow.finish(out),
            Self::Pcm(samples) => samples.reset(),
        }
    }

    /// Forgets what is still inside.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Ulaw => {}
            Self::Narrow(narrow) => narrow.reset(),
            Self::Pcm(samples) => samples.reset(),
        }
    }
}

/// PCM at 24 kHz as it is, in whole samples.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// The first byte of a sample whose second one comes with the next text.
    half: Option<u8>,
}

impl Samples {
    fn base64(&mut self, text: &str, out: &mut Vec<u8>) -> Result<u64, BadAudio> {
        let before = out.len();
        out.extend(self.half);
        base64::decode(text.as_bytes(), out).map_err(|_| BadAudio)?;
        let made = out.len() - before;
        self.half = if made % 2 == 1 { out.pop() } else { None };
        Ok((out.len() - before) as u64)
    }

    fn reset(&mut self) {
        self.half = None;
    }
}

/// Appends a recording of ours, which is mu-law, as a caller takes it that speaks `format`.
pub(super) fn append_ulaw(clip: &[u8], format: AudioFormat, out: &mut Vec<u8>) {
    match format {
        AudioFormat::Ulaw => out.extend_from_slice(clip),
        AudioFormat::Pcm24k => {
            let mut widen = Widen::new();
            pcm::to_le_bytes(widen.samples(clip), out);
            pcm::to_le_bytes(widen.rest(), out);
        }
    }
}

/// PCM at 24 kHz to mu-law at 8 kHz.
#[derive(Debug)]
pub(super) struct Narrow {
    resampler: Resampler,
    /// Base64 decoded; may end in half a sample, which the next text completes.
    bytes: Vec<u8>,
    wide: Vec<i16>,
    narrow: Vec<i16>,
    /// Samples at 24 kHz that are not yet a whole sample at 8 kHz.
    thirds: u64,
}

impl Narrow {
    fn new() -> Self {
        Self {
            resampler: Resampler::new(SampleRate::HZ_24000, SampleRate::HZ_8000)
                .expect("24 kHz to 8 kHz is a pair that the resampler knows"),
            bytes: Vec::new(),
            wide: Vec::new(),
            narrow: Vec::new(),
            thirds: 0,
        }
    }

    fn base64(&mut self, text: &str, out: &mut Vec<u8>) -> Result<u64, BadAudio> {
        let carried = self.bytes.len();
        if base64::decode(text.as_bytes(), &mut self.bytes).is_err() {
            self.bytes.truncate(carried);
            return Err(BadAudio);
        }
        // A service may cut its stream of bytes between the two of a sample.
        let whole = self.bytes.len() & !1;
        // Taken out, so that it can be read while the resampler beside it is written.
        let mut wide = std::mem::take(&mut self.wide);
        wide.clear();
        pcm::from_le_bytes(&self.bytes[..whole], &mut wide).map_err(|_| BadAudio)?;
        self.bytes.drain(..whole);
        let made = self.samples(&wide, out);
        self.wide = wide;
        Ok(made)
    }

    fn samples(&mut self, wide: &[i16], out: &mut Vec<u8>) -> u64 {
        self.narrow.clear();
        self.resampler.process(wide, &mut self.narrow);
        g711::ulaw_encode(&self.narrow, out);
        let thirds = self.thirds + wide.len() as u64;
        self.thirds = thirds % WIDTH;
        thirds / WIDTH
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.narrow.clear();
        self.resampler.flush(&mut self.narrow);
        g711::ulaw_encode(&self.narrow, out);
        self.reset();
    }

    fn reset(&mut self) {
        self.resampler.reset();
        self.bytes.clear();
        self.thirds = 0;
    }
}

/// Mu-law at 8 kHz to PCM at 24 kHz.
#[derive(Debug)]
pub(super) struct Widen {
    resampler: Resampler,
    narrow: Vec<i16>,
    wide: Vec<i16>,
}

impl Widen {
    /// Begins with silence behind it.
    pub(super) fn new() -> Self {
        Self {
            resampler: Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_24000)
                .expect("8 kHz to 24 kHz is a pair that the resampler knows"),
            narrow: Vec::new(),
            wide: Vec::new(),
        }
    }

    /// What is ready of the audio so far, valid until the next call.
    pub(super) fn samples(&mut self, ulaw: &[u8]) -> &[i16] {
        self.narrow.clear();
        g711::ulaw_decode(ulaw, &mut self.narrow);
        self.wide.clear();
        self.resampler.process(&self.narrow, &mut self.wide);
        &self.wide
    }

    /// What is still inside, valid until the next call; the next audio begins anew.
    fn rest(&mut self) -> &[i16] {
        self.wide.clear();
        self.resampler.flush(&mut self.wide);
        self.resampler.reset();
        &self.wide
    }
}

/// Samples at 24 kHz for each sample at 8 kHz.
const WIDTH: u64 = 3;

//! Speech as the fakes hold it: mu-law at 8 kHz, the form in which it crosses a phone line.
//!
//! Clips come from the speech that is built in, from WAV files, or are made up (tones with the
//! rhythm of speech), so that a test needs no file. The other direction is one stereo WAV.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::rate::SampleRate;
use codec::resample::Resampler;
use serde::{Deserialize, Serialize};

use crate::assets;

pub(crate) mod words;

/// Mu-law bytes of one millisecond.
pub const BYTES_PER_MS: usize = 8;

/// Mu-law bytes of one 20 ms frame.
pub const FRAME_BYTES: usize = codec::frame::ULAW_FRAME_BYTES;

/// A piece of speech. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speech {
    ulaw: Arc<[u8]>,
}

impl Speech {
    /// Takes mu-law bytes as they are.
    #[must_use]
    pub fn from_ulaw(ulaw: &[u8]) -> Self {
        Self { ulaw: ulaw.into() }
    }

    /// Makes something with the rhythm and the level of speech: syllables of 160 ms with 60 ms
    /// between them, each at another pitch.
    #[must_use]
    pub fn tone(ms: u32) -> Self {
        let samples: Vec<i16> = (0..ms as usize * BYTES_PER_MS).map(syllable_sample).collect();
        Self::from_pcm8k(&samples)
    }

    /// Reads a mono or stereo WAV file of 16-bit samples; of two channels the first is taken.
    ///
    /// # Errors
    /// When it is not such a file, or its rate cannot be brought to 8 kHz.
    pub fn from_wav(wav: &[u8]) -> Result<Self, AudioError> {
        let mut reader = hound::WavReader::new(Cursor::new(wav))?;
        let spec = reader.spec();
        if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
            return Err(AudioError::Samples { bits: spec.bits_per_sample });
        }
        let channels = usize::from(spec.channels.max(1));
        let all = reader.samples::<i16>().collect::<Result<Vec<_>, _>>()?;
        let first: Vec<i16> = all.into_iter().step_by(channels).collect();
        Ok(Self::from_pcm8k(&to_8k(&first, SampleRate::from_hz(spec.sample_rate))?))
    }

    /// Takes samples at the phone's rate.
    fn from_pcm8k(samples: &[i16]) -> Self {
        let mut ulaw = Vec::with_capacity(samples.len());
        codec::g711::ulaw_encode(samples, &mut ulaw);
        Self::from_ulaw(&ulaw)
    }

    /// The mu-law bytes, 8 a millisecond.
    #[must_use]
    pub fn ulaw(&self) -> &[u8] {
        &self.ulaw
    }

    /// How long it lasts, in milliseconds.
    #[must_use]
    pub fn ms(&self) -> u32 {
        u32::try_from(self.ulaw.len() / BYTES_PER_MS).unwrap_or(u32::MAX)
    }

    /// The same speech as 16-bit samples at 24 kHz, aligned with the original.
    #[must_use]
    pub fn pcm24k(&self) -> Vec<i16> {
        let mut narrow = Vec::with_capacity(self.ulaw.len());
        codec::g711::ulaw_decode(&self.ulaw, &mut narrow);
        let mut resampler = Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_24000)
            .expect("8 kHz to 24 kHz is a supported pair");
        resample(&mut resampler, &narrow)
    }
}

/// Where a script's speech comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clip {
    /// Built in, by the name of its file without the ending: `caller-1`.
    Asset(String),
    /// A WAV file.
    Wav(PathBuf),
    /// Made up, so many milliseconds of it.
    ToneMs(u32),
    /// Made up, saying these words to whoever can read them: [`Speech::saying`].
    Words(String),
    /// Mu-law bytes as standard base64.
    Ulaw(String),
}

impl Clip {
    /// Fetches the speech.
    ///
    /// # Errors
    /// When there is no such file or name, or it cannot be read as speech.
    pub fn load(&self) -> Result<Speech, AudioError> {
        match self {
            Self::Asset(name) => {
                let wav = assets::find(name)
                    .ok_or_else(|| AudioError::NoSuchAsset { name: name.clone() })?;
                Speech::from_wav(wav)
            }
            Self::Wav(path) => Speech::from_wav(&read(path)?),
            Self::ToneMs(ms) => Ok(Speech::tone(*ms)),
            Self::Words(text) => Ok(Speech::saying(text)),
            Self::Ulaw(text) => {
                let mut ulaw = Vec::new();
                codec::base64::decode(text.as_bytes(), &mut ulaw)
                    .map_err(|_| AudioError::Base64)?;
                Ok(Speech::from_ulaw(&ulaw))
            }
        }
    }
}

/// Reads a file whole; the largest of ours is a few hundred kilobytes.
fn read(path: &Path) -> Result<Vec<u8>, AudioError> {
    std::fs::read(path).map_err(|source| AudioError::File { path: path.to_owned(), source })
}

/// Why a clip could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing built in has this name.
    #[error("no built-in speech is called `{name}`")]
    NoSuchAsset {
        /// The name that was asked for.
        name: String,
    },
    /// Not a WAV file.
    #[error("not a readable WAV file")]
    Wav(#[from] hound::Error),
    /// A WAV file with other samples than 16-bit integers.
    #[error("the WAV file has samples of {bits} bits; 16-bit integers are needed")]
    Samples {
        /// How many bits a sample has.
        bits: u16,
    },
    /// A rate that cannot be brought to 8 kHz.
    #[error("the WAV file's rate is not supported")]
    Rate(#[from] codec::resample::ResampleError),
    /// Not standard base64.
    #[error("the mu-law bytes are not standard base64")]
    Base64,
}

/// Writes a WAV file with the caller left and the agent right, both as 8 kHz mu-law on entry; the
/// shorter side is filled with silence.
///
/// # Errors
/// When it would be longer than a WAV file can be.
pub fn stereo_wav(caller: &[u8], agent: &[u8]) -> Result<Vec<u8>, AudioError> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    codec::g711::ulaw_decode(caller, &mut left);
    codec::g711::ulaw_decode(agent, &mut right);
    let mut wav = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut wav, spec)?;
    for at in 0..left.len().max(right.len()) {
        writer.write_sample(left.get(at).copied().unwrap_or_default())?;
        writer.write_sample(right.get(at).copied().unwrap_or_default())?;
    }
    writer.finalize()?;
    Ok(wav.into_inner())
}

/// Reads the second channel of a WAV file of 16-bit samples: the agent, in a file of
/// [`stereo_wav`].
///
/// # Errors
/// When it is no such file.
pub(crate) fn right_channel(wav: &[u8]) -> Result<Vec<i16>, AudioError> {
    let mut reader = hound::WavReader::new(Cursor::new(wav))?;
    let samples = reader.samples::<i16>().skip(1).step_by(2);
    Ok(samples.collect::<Result<Vec<_>, _>>()?)
}

/// Brings samples to the phone's rate; those that have it already are not touched, so that a
/// clip of 8 kHz stays bit-exact.
fn to_8k(samples: &[i16], rate: SampleRate) -> Result<Vec<i16>, AudioError> {
    if rate == SampleRate::HZ_8000 {
        return Ok(samples.to_vec());
    }
    Ok(resample(&mut Resampler::new(rate, SampleRate::HZ_8000)?, samples))
}

/// Converts all of it and takes the resampler's own delay off the front.
fn resample(resampler: &mut Resampler, samples: &[i16]) -> Vec<i16> {
    let mut out = Vec::new();
    resampler.process(samples, &mut out);
    resampler.flush(&mut out);
    let delay = resampler.delay_samples().min(out.len());
    out.split_off(delay)
}

/// The sample at a position of the made-up speech: a sine whose pitch changes with every
/// syllable, a quarter of full scale, silence in between.
#[expect(clippy::cast_possible_truncation, reason = "a sine of a quarter of full scale fits")]
fn syllable_sample(at: usize) -> i16 {
    const SYLLABLE: usize = 220 * BYTES_PER_MS;
    let (number, within) = (at / SYLLABLE, at % SYLLABLE);
    if within >= 160 * BYTES_PER_MS {
        return 0;
    }
    let hz = [180.0, 240.0, 210.0, 300.0, 260.0][number % 5];
    let phase = within as f32 / 8_000.0 * hz * std::f32::consts::TAU;
    (phase.sin() * 8_000.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stereo_wav_is_read_back_with_the_caller_left() {
        let speech = Speech::tone(300);
        let wav = stereo_wav(speech.ulaw(), &[]).unwrap();
        assert_eq!(Speech::from_wav(&wav).unwrap(), speech);
        let wav = stereo_wav(&[], speech.ulaw()).unwrap();
        assert_eq!(Speech::from_wav(&wav).unwrap(), Speech::from_ulaw(&vec![0xFF; 2_400]));
        let mut wanted = Vec::new();
        codec::g711::ulaw_decode(speech.ulaw(), &mut wanted);
        assert_eq!(right_channel(&wav).unwrap(), wanted);
    }

    #[test]
    fn a_wider_rate_keeps_the_length() {
        let speech = Speech::tone(1_000);
        assert_eq!(speech.pcm24k().len(), 24_000);
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 24_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut wav, spec).unwrap();
        speech.pcm24k().into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        assert_eq!(Speech::from_wav(&wav.into_inner()).unwrap().ms(), 1_000);
    }

    #[test]
    fn a_clip_is_named_in_json() {
        let clip: Clip = serde_json::from_str(r#"{"tone_ms":40}"#).unwrap();
        assert_eq!(clip.load().unwrap().ms(), 40);
        let clip: Clip = serde_json::from_str(r#"{"ulaw":"//8="}"#).unwrap();
        assert_eq!(clip.load().unwrap().ulaw(), [0xFF, 0xFF]);
        let clip: Clip = serde_json::from_str(r#"{"asset":"nobody"}"#).unwrap();
        assert!(matches!(clip.load(), Err(AudioError::NoSuchAsset { .. })));
    }
}

//! What the path through PCM at 24 kHz costs real speech.

use std::f64::consts::{PI, TAU};
use std::path::Path;

use codec::rate::SampleRate;
use codec::resample::Resampler;
use codec::{g711, pcm};

/// Taps of the band-pass: transitions of about 50 Hz at 8 kHz.
const TAPS: usize = 511;

pub(crate) fn clips() -> Vec<(String, Vec<i16>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest/assets");
    let mut clips = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "wav") {
            let mut wav = hound::WavReader::open(&path).unwrap();
            assert_eq!((wav.spec().channels, wav.spec().sample_rate), (1, 8_000), "{path:?}");
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            clips.push((name, wav.samples::<i16>().map(Result::unwrap).collect()));
        }
    }
    clips.sort();
    assert!(clips.len() >= 7, "only {} clips of speech", clips.len());
    clips
}

/// Mu-law to PCM bytes at 24 kHz and back, frame by frame, as a call does it. Returns mu-law that
/// is late by the delay, and the delay in samples at 8 kHz.
fn through_pcm24k(ulaw: &[u8]) -> (Vec<u8>, usize) {
    let mut widen = Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_24000).unwrap();
    let mut narrow = Resampler::new(SampleRate::HZ_24000, SampleRate::HZ_8000).unwrap();
    let mut back = Vec::new();
    let mut down = |wide: &[i16], back: &mut Vec<u8>| {
        let (mut bytes, mut read, mut samples) = (Vec::new(), Vec::new(), Vec::new());
        pcm::to_le_bytes(wide, &mut bytes);
        pcm::from_le_bytes(&bytes, &mut read).unwrap();
        narrow.process(&read, &mut samples);
        g711::ulaw_encode(&samples, back);
    };
    for frame in ulaw.chunks(codec::frame::ULAW_FRAME_BYTES) {
        let (mut samples, mut wide) = (Vec::new(), Vec::new());
        g711::ulaw_decode(frame, &mut samples);
        widen.process(&samples, &mut wide);
        down(&wide, &mut back);
    }
    let mut tail = Vec::new();
    widen.flush(&mut tail);
    down(&tail, &mut back);
    let mut last = Vec::new();
    narrow.flush(&mut last);
    g711::ulaw_encode(&last, &mut back);
    (back, widen.delay_samples() / 3 + narrow.delay_samples())
}

fn band_pass(samples: &[f64], low: f64, high: f64) -> Vec<f64> {
    let half = (TAPS / 2) as f64;
    let sinc = |hz: f64, at: f64| {
        if at == 0.0 { 2.0 * hz / 8_000.0 } else { (TAU * hz / 8_000.0 * at).sin() / (PI * at) }
    };
    let tap = |n: usize| {
        let window = 0.54 - 0.46 * (TAU * n as f64 / (TAPS - 1) as f64).cos();
        (sinc(high, n as f64 - half) - sinc(low, n as f64 - half)) * window
    };
    let taps: Vec<f64> = (0..TAPS).map(tap).collect();
    let at = |window: &[f64]| window.iter().zip(&taps).map(|(sample, tap)| sample * tap).sum();
    samples.windows(TAPS).map(at).collect()
}

fn power(samples: &[f64]) -> f64 {
    samples.iter().map(|sample| sample * sample).sum()
}

#[test]
fn pcm_at_24_khz_keeps_33_db_of_real_speech() {
    for (name, samples) in clips() {
        let mut ulaw = Vec::new();
        g711::ulaw_encode(&samples, &mut ulaw);
        let (back, delay) = through_pcm24k(&ulaw);
        assert_eq!(back.len(), ulaw.len() + delay, "{name}: no sample is lost or made up");

        let (mut before, mut after) = (Vec::new(), Vec::new());
        g711::ulaw_decode(&ulaw, &mut before);
        g711::ulaw_decode(&back[delay..], &mut after);
        let speech: Vec<f64> = before.iter().map(|&sample| f64::from(sample)).collect();
        let error = before.iter().zip(&after).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
        let band = |samples: Vec<f64>| power(&band_pass(&samples, 300.0, 3_400.0));
        let ratio = 10.0 * (band(speech) / band(error)).log10();
        println!("{name}: {ratio:.1} dB");
        assert!(ratio >= 33.0, "{name} keeps only {ratio:.1} dB");
    }
}

//! What is done to 20 ms of audio: G.711, base64, resampling.

use std::hint::black_box;

use codec::rate::SampleRate;
use codec::resample::Resampler;
use codec::{base64, g711, level, pcm};

use super::{Piece, Work, plain};
use crate::{frame, frame_pcm24k};

/// The pieces of this file.
pub(super) fn pieces() -> Vec<Piece> {
    vec![
        Piece { name: "audio/ulaw_decode", what: "160 bytes to samples", set_up: ulaw_decode },
        Piece { name: "audio/ulaw_encode", what: "160 samples to bytes", set_up: ulaw_encode },
        Piece { name: "audio/alaw_decode", what: "the same, A-law", set_up: alaw_decode },
        Piece { name: "audio/alaw_encode", what: "the same, A-law", set_up: alaw_encode },
        Piece {
            name: "audio/base64_check",
            what: "a caller's payload is valid",
            set_up: || check(frame().to_vec()),
        },
        Piece {
            name: "audio/base64_encode",
            what: "160 bytes to text",
            set_up: || encode(frame().to_vec()),
        },
        Piece {
            name: "audio/base64_decode",
            what: "text to 160 bytes",
            set_up: || decode(frame().to_vec()),
        },
        Piece {
            name: "audio/base64_encode_pcm24k",
            what: "960 bytes to text",
            set_up: || encode(wide()),
        },
        Piece {
            name: "audio/base64_decode_pcm24k",
            what: "text to 960 bytes",
            set_up: || decode(wide()),
        },
        Piece { name: "audio/level", what: "how loud 160 samples are", set_up: loudness },
        Piece {
            name: "audio/resample_up",
            what: "8 to 24 kHz",
            set_up: || resample(SampleRate::HZ_8000, SampleRate::HZ_24000, narrow()),
        },
        Piece {
            name: "audio/resample_down",
            what: "24 to 8 kHz",
            set_up: || resample(SampleRate::HZ_24000, SampleRate::HZ_8000, frame_pcm24k()),
        },
        Piece { name: "audio/pcm_bytes", what: "480 samples to bytes and back", set_up: bytes },
    ]
}

fn narrow() -> Vec<i16> {
    let mut samples = Vec::new();
    g711::ulaw_decode(frame(), &mut samples);
    samples
}

fn ulaw_decode() -> Box<dyn Work> {
    let mut samples = narrow();
    plain(move || {
        samples.clear();
        g711::ulaw_decode(black_box(frame()), &mut samples);
    })
}

fn ulaw_encode() -> Box<dyn Work> {
    let (samples, mut bytes) = (narrow(), frame().to_vec());
    plain(move || {
        bytes.clear();
        g711::ulaw_encode(black_box(&samples), &mut bytes);
    })
}

fn alaw() -> Vec<u8> {
    let mut bytes = Vec::new();
    g711::alaw_encode(&narrow(), &mut bytes);
    bytes
}

fn alaw_decode() -> Box<dyn Work> {
    let (bytes, mut samples) = (alaw(), narrow());
    plain(move || {
        samples.clear();
        g711::alaw_decode(black_box(&bytes), &mut samples);
    })
}

fn alaw_encode() -> Box<dyn Work> {
    let (samples, mut bytes) = (narrow(), alaw());
    plain(move || {
        bytes.clear();
        g711::alaw_encode(black_box(&samples), &mut bytes);
    })
}

/// 20 ms as a model sends it.
fn wide() -> Vec<u8> {
    let mut bytes = Vec::new();
    pcm::to_le_bytes(&frame_pcm24k(), &mut bytes);
    bytes
}

fn text_of(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    base64::encode(bytes, &mut text);
    text
}

fn check(bytes: Vec<u8>) -> Box<dyn Work> {
    let text = text_of(&bytes);
    plain(move || assert!(base64::check(black_box(&text)).is_ok()))
}

fn encode(bytes: Vec<u8>) -> Box<dyn Work> {
    let mut text = text_of(&bytes);
    plain(move || {
        text.clear();
        base64::encode(black_box(&bytes), &mut text);
    })
}

fn decode(mut bytes: Vec<u8>) -> Box<dyn Work> {
    let text = text_of(&bytes);
    plain(move || {
        bytes.clear();
        assert!(base64::decode(black_box(&text), &mut bytes).is_ok());
    })
}

fn loudness() -> Box<dyn Work> {
    let samples = narrow();
    plain(move || {
        black_box(level::rms(black_box(&samples)));
    })
}

fn resample(from: SampleRate, to: SampleRate, input: Vec<i16>) -> Box<dyn Work> {
    let mut resampler = Resampler::new(from, to).expect("the resampler knows both rates");
    let mut out = Vec::new();
    plain(move || {
        out.clear();
        resampler.process(black_box(&input), &mut out);
    })
}

fn bytes() -> Box<dyn Work> {
    let (samples, mut bytes, mut back) = (frame_pcm24k(), Vec::new(), Vec::new());
    plain(move || {
        bytes.clear();
        back.clear();
        pcm::to_le_bytes(black_box(&samples), &mut bytes);
        assert!(pcm::from_le_bytes(&bytes, &mut back).is_ok());
    })
}

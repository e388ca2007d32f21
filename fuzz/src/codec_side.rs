//! What a call decodes, sample by sample.

use std::str;

use codec::opus::Decoder;
use codec::rate::SampleRate;
use codec::resample::Resampler;
use codec::{dtmf as keys, g711, level, pcm};

/// A payload.
///
/// # Panics
/// When the check and the decoder do not agree, or what is decoded is not the same in text again.
pub fn base64(text: &[u8]) {
    let mut bytes = vec![7];
    let decoded = codec::base64::decode(text, &mut bytes).map(|()| bytes.len() - 1);
    assert_eq!(codec::base64::check(text), decoded);
    let mut again = Vec::new();
    codec::base64::encode(&bytes[1..], &mut again);
    assert!(decoded.is_err() || again == text, "one text for the same bytes");
}

/// Audio in bytes, through every form that a call knows.
///
/// # Panics
/// When samples are lost or made up.
pub fn samples(bytes: &[u8]) {
    let (mut samples, mut ulaw) = (Vec::new(), Vec::new());
    g711::ulaw_decode(bytes, &mut samples);
    g711::alaw_decode(bytes, &mut samples);
    assert_eq!(samples.len(), 2 * bytes.len());
    g711::ulaw_encode(&samples[..bytes.len()], &mut ulaw);
    // Mu-law has two zeros; all else comes back.
    assert!(ulaw.iter().zip(bytes).all(|(back, byte)| back == byte || byte & 0x7F == 0x7F));
    let mut wide = Vec::new();
    assert_eq!(pcm::from_le_bytes(bytes, &mut wide).is_ok(), bytes.len().is_multiple_of(2));
    assert!((0.0..=1.0).contains(&level::rms(&wide)));
    let mut up = Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_24000).expect("known rates");
    let mut out = Vec::new();
    up.process(&wide, &mut out);
    up.flush(&mut out);
    let due = if wide.is_empty() { 0 } else { 3 * wide.len() + up.delay_samples() };
    assert_eq!(out.len(), due);
}

/// Packets of Opus, each behind its length in two bytes.
///
/// # Panics
/// When what was decoded before is touched, or more comes out than a packet may hold.
pub fn opus(mut bytes: &[u8]) {
    let Ok(mut decoder) = Decoder::new(SampleRate::HZ_24000) else { return };
    while let [high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]) % 1_500).min(rest.len());
        let (packet, behind) = rest.split_at(length);
        let mut out = vec![1, 2];
        let played = decoder.decode(packet, &mut out);
        assert_eq!(played.is_ok(), out.len() > 2);
        assert!(out.starts_with(&[1, 2]) && out.len() <= 2 + 2_880);
        bytes = behind;
    }
}

/// Keys of a model, and a line on which there may be some.
///
/// # Panics
/// When keys that were made are not heard, or the pieces in which a line comes matter.
pub fn dtmf(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        let (mut ulaw, mut line) = (Vec::new(), Vec::new());
        if keys::tones(text, &mut ulaw).is_ok() {
            g711::ulaw_decode(&ulaw, &mut line);
            let made: Vec<char> = text.chars().filter(|key| *key != 'w').collect();
            assert_eq!(keys::detect(&line), made);
        }
    }
    let mut line = Vec::new();
    g711::ulaw_decode(bytes, &mut line);
    let (mut detector, mut heard) = (keys::Detector::new(), Vec::new());
    line.chunks(37).for_each(|piece| detector.hear(piece, |key| heard.push(key)));
    assert_eq!(heard, keys::detect(&line));
}

//! Nothing that a peer sends makes the codec panic or break its word.

use codec::opus::{Decoder, Encoder};
use codec::rate::SampleRate;
use codec::resample::Resampler;
use codec::{base64, g711, level, pcm};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

fn samples() -> impl Strategy<Value = Vec<i16>> {
    prop::collection::vec(any::<i16>(), 0..600)
}

proptest! {
    #[test]
    fn any_bytes_are_audio_or_an_error(bytes in bytes()) {
        let mut out = vec![7];
        g711::ulaw_decode(&bytes, &mut out);
        g711::alaw_decode(&bytes, &mut out);
        prop_assert_eq!(out.len(), 1 + 2 * bytes.len());
        let read = pcm::from_le_bytes(&bytes, &mut out);
        prop_assert_eq!(read.is_ok(), bytes.len() % 2 == 0);
        let mut decoded = Vec::new();
        let checked = base64::check(&bytes);
        let read = base64::decode(&bytes, &mut decoded).map(|()| decoded.len());
        prop_assert_eq!(checked, read);
    }

    #[test]
    fn any_samples_become_bytes(samples in samples()) {
        let mut out = Vec::new();
        g711::ulaw_encode(&samples, &mut out);
        g711::alaw_encode(&samples, &mut out);
        pcm::to_le_bytes(&samples, &mut out);
        prop_assert_eq!(out.len(), 4 * samples.len());
        prop_assert!((0.0..=1.0).contains(&level::rms(&samples)));
        prop_assert!((-96.0..=0.0).contains(&level::dbfs(&samples)));
    }

    #[test]
    fn any_packet_is_played_or_refused(packets in prop::collection::vec(bytes(), 1..6)) {
        let mut decoder = Decoder::new(SampleRate::HZ_24000).unwrap();
        for packet in &packets {
            let mut out = vec![1, 2];
            let played = decoder.decode(packet, &mut out);
            prop_assert_eq!(played.is_ok(), out.len() > 2);
            prop_assert!(out.starts_with(&[1, 2]) && out.len() <= 2 + 2_880);
        }
    }

    #[test]
    fn any_loss_is_concealed_or_refused(samples in 0_usize..5_000) {
        let mut decoder = Decoder::new(SampleRate::HZ_24000).unwrap();
        let mut out = vec![1];
        match decoder.conceal(samples, &mut out) {
            Ok(()) => prop_assert_eq!(out.len(), 1 + samples.min(2_880)),
            Err(_) => prop_assert_eq!(out, [1]),
        }
    }

    #[test]
    fn any_frame_is_packed_or_refused(samples in samples()) {
        let mut encoder = Encoder::new(SampleRate::HZ_24000).unwrap();
        let mut out = vec![1];
        let packed = encoder.encode(&samples, &mut out);
        prop_assert_eq!(packed.is_ok(), out.len() > 1);
        // 2.5, 5, 10 and 20 ms of the lengths that are tried here.
        prop_assert_eq!(packed.is_ok(), [60, 120, 240, 480].contains(&samples.len()));
    }

    #[test]
    fn any_two_rates_work_or_are_refused(
        from in prop_oneof![Just(0), 0..1_000_u32, any::<u32>(), (1..480_u32).prop_map(|n| n * 200)],
        to in prop_oneof![Just(0), any::<u32>(), (1..480_u32).prop_map(|n| n * 200)],
        samples in samples(),
    ) {
        let Ok(mut resampler) = Resampler::new(SampleRate::from_hz(from), SampleRate::from_hz(to))
        else {
            return Ok(());
        };
        let mut out = Vec::new();
        resampler.process(&samples, &mut out);
        resampler.flush(&mut out);
        let exact = samples.len() as u64 * u64::from(to) / u64::from(from);
        let due = if samples.is_empty() { 0 } else { exact + resampler.delay_samples() as u64 };
        prop_assert_eq!(out.len() as u64, due);
    }
}

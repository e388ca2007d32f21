//! Keys are heard through what a call does to audio, and speech is not taken for keys.

use codec::dtmf::{detect, tones};
use codec::g711;
use proptest::prelude::*;

use crate::speech::clips;

/// Adds a voice to a line, so much quieter.
fn under(line: &mut [i16], voice: &[i16], divisor: i16) {
    for (sample, voice) in line.iter_mut().zip(voice.iter().cycle()) {
        *sample = sample.saturating_add(voice / divisor);
    }
}

#[test]
fn speech_is_not_taken_for_keys() {
    for (name, samples) in clips() {
        // Wherever the windows fall, and as loud as a line can be.
        for lead in 0..51 {
            assert_eq!(detect(&samples[lead..]), [' '; 0], "{name} from {lead}");
        }
        let loud: Vec<i16> = samples.iter().map(|sample| sample.saturating_mul(4)).collect();
        assert_eq!(detect(&loud), [' '; 0], "{name}, loud");
    }
}

#[test]
fn keys_are_heard_over_a_quiet_voice() {
    for (name, voice) in clips() {
        let (mut ulaw, mut line) = (Vec::new(), Vec::new());
        tones("0123456789*#ABCD", &mut ulaw).unwrap();
        g711::ulaw_decode(&ulaw, &mut line);
        under(&mut line, &voice, 8);
        assert_eq!(detect(&line), "0123456789*#ABCD".chars().collect::<Vec<_>>(), "{name}");
    }
}

proptest! {
    #[test]
    fn everything_that_is_made_is_heard(keys in "[0-9*#A-Dw]{1,32}", lead in 0_usize..400) {
        let (mut ulaw, mut samples) = (vec![g711::ULAW_SILENCE; lead], Vec::new());
        tones(&keys, &mut ulaw).unwrap();
        g711::ulaw_decode(&ulaw, &mut samples);
        let made: Vec<char> = keys.chars().filter(|&key| key != 'w').collect();
        prop_assert_eq!(detect(&samples), made);
    }

    #[test]
    fn any_text_is_made_or_refused(text in ".{0,40}") {
        let mut out = vec![1];
        let made = tones(&text, &mut out);
        prop_assert_eq!(made.is_ok(), out.len() > 1);
    }

    #[test]
    fn any_samples_are_listened_to(samples in prop::collection::vec(any::<i16>(), 0..2_000)) {
        prop_assert!(detect(&samples).len() <= samples.len() / 51);
    }
}

//! How late a resampler is, and that it forgets.

use codec::rate::SampleRate;
use codec::resample::Resampler;

const PAIRS: [(SampleRate, SampleRate); 4] = [
    (SampleRate::HZ_8000, SampleRate::HZ_24000),
    (SampleRate::HZ_24000, SampleRate::HZ_8000),
    (SampleRate::HZ_8000, SampleRate::HZ_16000),
    (SampleRate::HZ_48000, SampleRate::HZ_8000),
];

fn new(from: SampleRate, to: SampleRate) -> Resampler {
    Resampler::new(from, to).unwrap()
}

#[test]
fn a_click_comes_out_as_late_as_the_resampler_says() {
    for (from, to) in PAIRS {
        let mut resampler = new(from, to);
        // At 50 ms, a whole number of samples at every rate.
        let mut input = vec![0_i16; from.hz() as usize / 10];
        input[from.hz() as usize / 20] = 30_000;
        let mut out = Vec::new();
        resampler.process(&input, &mut out);
        let loudest = out.iter().enumerate().max_by_key(|(_, sample)| **sample).unwrap().0;
        let due = to.hz() as usize / 20 + resampler.delay_samples();
        assert_eq!(loudest, due, "{from:?} to {to:?}");
        assert_eq!(resampler.delay_samples(), to.hz() as usize / 400, "2.5 ms");
    }
}

#[test]
fn whole_frames_in_give_whole_frames_out_at_once() {
    let (mut up, mut down) = (new(PAIRS[0].0, PAIRS[0].1), new(PAIRS[1].0, PAIRS[1].1));
    for _ in 0..50 {
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        up.process(&[1_000; 160], &mut wide);
        down.process(&wide, &mut narrow);
        assert_eq!((wide.len(), narrow.len()), (480, 160));
    }
}

#[test]
fn after_a_reset_it_is_like_new() {
    for (from, to) in PAIRS {
        let input: Vec<i16> = (0..1_000).map(|n| (n * 7_919 % 20_000) as i16).collect();
        let (mut fresh, mut used) = (new(from, to), new(from, to));
        used.process(&[-32_768; 777], &mut Vec::new());
        used.reset();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for (resampler, out) in [(&mut fresh, &mut one), (&mut used, &mut other)] {
            resampler.process(&input, out);
            resampler.flush(out);
        }
        assert_eq!(one, other, "{from:?} to {to:?}");
    }
}

#[test]
fn a_full_scale_square_is_clipped_and_not_wrapped() {
    let square: Vec<i16> =
        (0..1_600).map(|n| if n / 8 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
    let mut out = Vec::new();
    new(SampleRate::HZ_8000, SampleRate::HZ_24000).process(&square, &mut out);
    // The middle of each half period keeps its sign: overshoot stops at full scale.
    for (n, window) in out[60..].chunks_exact(24).enumerate().skip(10) {
        let up = n % 2 == 0;
        assert!(window[8..16].iter().all(|&sample| (sample > 20_000) == up), "half period {n}");
    }
}

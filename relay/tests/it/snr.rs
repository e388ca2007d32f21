//! How much of a telephone signal survives: the ratio of signal to what was added, within the
//! telephone band, after aligning the two in time.

use codec::g711;

/// Compares two mu-law signals, in decibels.
pub(crate) fn snr_db(original: &[u8], heard: &[u8]) -> f64 {
    let (original, heard) = (band(&samples(original)), band(&samples(heard)));
    // The filter's edges are left out on both sides.
    let at = |delay: usize| {
        let pairs = original.iter().zip(&heard[delay..]).skip(TAPS).take(original.len() - 3 * TAPS);
        let (mut signal, mut noise) = (0.0, 0.0);
        for (one, other) in pairs {
            signal += one * one;
            noise += (one - other) * (one - other);
        }
        10.0 * (signal / noise).log10()
    };
    (0..DELAY_MAX).map(at).fold(f64::MIN, f64::max)
}

fn samples(ulaw: &[u8]) -> Vec<f64> {
    let mut pcm = Vec::new();
    g711::ulaw_decode(ulaw, &mut pcm);
    pcm.into_iter().map(f64::from).collect()
}

/// 300 to 3,400 Hz at 8 kHz: the difference of two windowed low passes.
fn band(signal: &[f64]) -> Vec<f64> {
    let middle = (TAPS / 2) as f64;
    let low_pass = |hz: f64, n: f64| {
        let x = 2.0 * hz / 8_000.0;
        if n == 0.0 { x } else { (std::f64::consts::PI * x * n).sin() / (std::f64::consts::PI * n) }
    };
    let taps: Vec<f64> = (0..TAPS)
        .map(|tap| {
            let n = tap as f64 - middle;
            let window = 0.5 + 0.5 * (std::f64::consts::PI * n / (middle + 1.0)).cos();
            (low_pass(3_400.0, n) - low_pass(300.0, n)) * window
        })
        .collect();
    let filtered = |at: usize| {
        let first = at.saturating_sub(TAPS - 1);
        signal[first..=at].iter().rev().zip(&taps).map(|(sample, tap)| sample * tap).sum()
    };
    (0..signal.len()).map(filtered).collect()
}

/// Long enough for edges of 50 Hz.
const TAPS: usize = 321;

/// 12 ms, twice what two resamplers take.
const DELAY_MAX: usize = 96;

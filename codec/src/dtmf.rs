//! Key tones: makes them for a phone line, and hears them.
//!
//! Each key is two sines, one of four low and one of four high frequencies. Tones are made 100 ms
//! long with 100 ms between them, which is long enough for the slowest voice menu and twice what
//! the fastest asks for. [`Detector`] takes what a public network must take and no speech: it is
//! for tests and for whoever listens to a line from outside, since carriers tell of keys by
//! themselves.
//! Source: ITU-T Q.23 (frequencies), Q.24 (limits of receivers, the column of AT&T).

use std::f64::consts::{PI, TAU};

use crate::g711;

/// The most keys and pauses of one text: six seconds in which nobody can say anything.
pub const DIGITS_MAX: usize = 32;
/// How long a key sounds.
pub const TONE_MS: usize = 100;
/// How long it is quiet behind a key.
pub const GAP_MS: usize = 100;
/// How long `w` waits.
pub const PAUSE_MS: usize = 500;

/// A text that is no sequence of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("keys are 1 to 32 of 0-9 * # A-D, and w for a pause of half a second")]
pub struct BadDigits;

/// Appends the tones of these keys as mu-law, each with the gap behind it.
///
/// # Errors
/// [`BadDigits`]; `out` is then as long as it was.
pub fn tones(digits: &str, out: &mut Vec<u8>) -> Result<(), BadDigits> {
    let fits = (1..=DIGITS_MAX).contains(&digits.len());
    if !fits || !digits.chars().all(|key| key == 'w' || place(key).is_some()) {
        return Err(BadDigits);
    }
    let mut samples = Vec::with_capacity(samples_of(TONE_MS));
    for key in digits.chars() {
        let quiet_ms = match place(key) {
            Some((row, column)) => {
                samples.clear();
                tone(LOW_HZ[row], HIGH_HZ[column], &mut samples);
                g711::ulaw_encode(&samples, out);
                GAP_MS
            }
            None => PAUSE_MS,
        };
        out.resize(out.len() + samples_of(quiet_ms), g711::ULAW_SILENCE);
    }
    Ok(())
}

/// The keys that are heard in these samples at 8 kHz.
#[must_use]
pub fn detect(samples: &[i16]) -> Vec<char> {
    let (mut detector, mut keys) = (Detector::new(), Vec::new());
    detector.hear(samples, |key| keys.push(key));
    keys
}

/// Hears keys in a line at 8 kHz, whatever the pieces in which it comes.
#[derive(Debug, Clone)]
pub struct Detector {
    /// The last samples, not yet a whole window.
    window: Vec<f64>,
    /// The key that the last windows hold, if they hold one, and how many of them.
    run: (Option<char>, u32),
    /// The key that was told and has not been let go.
    pressed: Option<char>,
}

impl Detector {
    /// On a line that was quiet.
    #[must_use]
    pub fn new() -> Self {
        Self { window: Vec::with_capacity(WINDOW), run: (None, 0), pressed: None }
    }

    /// Listens on, and tells each key once, when it has sounded for long enough.
    pub fn hear(&mut self, samples: &[i16], mut pressed: impl FnMut(char)) {
        for &sample in samples {
            self.window.push(f64::from(sample));
            if self.window.len() == WINDOW {
                if let Some(key) = self.step(key_in(&self.window)) {
                    pressed(key);
                }
                self.window.drain(..HOP);
            }
        }
    }

    /// What one more window changes.
    fn step(&mut self, heard: Option<char>) -> Option<char> {
        let (last, count) = self.run;
        let count = if last == heard { count + 1 } else { 1 };
        self.run = (heard, count);
        match heard {
            // A key whose tone was broken for a moment is the same key.
            Some(key) if count == HITS && self.pressed != Some(key) => {
                self.pressed = Some(key);
                Some(key)
            }
            None if count == MISSES => {
                self.pressed = None;
                None
            }
            Some(_) | None => None,
        }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

/// Row and column of a key.
fn place(key: char) -> Option<(usize, usize)> {
    let at = KEYS.iter().position(|&other| other == key)?;
    Some((at / HIGH_HZ.len(), at % HIGH_HZ.len()))
}

/// Two sines with soft ends.
fn tone(low_hz: f64, high_hz: f64, samples: &mut Vec<i16>) {
    let (mut low, mut high) = (Sine::new(low_hz, LOW_PEAK), Sine::new(high_hz, HIGH_PEAK));
    let count = samples_of(TONE_MS);
    for n in 0..count {
        let edge = n.min(count - 1 - n);
        // A tone that begins or ends at once is a click, which is every frequency at once.
        let ramp = match edge < RAMP {
            true => 0.5 - 0.5 * (PI * (edge as f64 + 0.5) / RAMP as f64).cos(),
            false => 1.0,
        };
        #[expect(clippy::cast_possible_truncation, reason = "the peaks add up to two thirds")]
        samples.push((ramp * (low.next() + high.next())).round() as i16);
    }
}

/// A sine by recurrence: keys are made on the threads that carry calls, and 51,200 calls of `sin`
/// for the longest text would hold one up for a millisecond.
struct Sine {
    twice_cos: f64,
    last: [f64; 2],
}

impl Sine {
    fn new(hz: f64, peak: f64) -> Self {
        let step = TAU * hz / RATE_HZ;
        Self { twice_cos: 2.0 * step.cos(), last: [-peak * step.sin(), 0.0] }
    }

    fn next(&mut self) -> f64 {
        let [before, now] = self.last;
        self.last = [now, self.twice_cos * now - before];
        now
    }
}

/// The key whose two tones are what a window holds.
fn key_in(window: &[f64]) -> Option<char> {
    let strongest = |group: &[f64; 4]| {
        let powers = group.map(|hz| power(window, hz));
        let mut order = [0, 1, 2, 3];
        order.sort_by(|&a: &usize, &b| powers[b].total_cmp(&powers[a]));
        let (first, second) = (powers[order[0]], powers[order[1]]);
        (first >= POWER_MIN && first >= second * ALONE_MIN).then_some((order[0], first))
    };
    let (row, low) = strongest(&LOW_HZ)?;
    let (column, high) = strongest(&HIGH_HZ)?;
    if high > low * HIGH_OVER_LOW_MAX || low > high * LOW_OVER_HIGH_MAX {
        return None;
    }
    // Speech has these two frequencies now and then, but never little else.
    let all: f64 = window.iter().map(|sample| sample * sample).sum::<f64>() / window.len() as f64;
    (low + high >= all * SHARE_MIN).then(|| KEYS[row * HIGH_HZ.len() + column])
}

/// The mean power of one frequency in a window (Goertzel).
fn power(window: &[f64], hz: f64) -> f64 {
    let twice_cos = 2.0 * (TAU * hz / RATE_HZ).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in window {
        (one, two) = (sample + twice_cos * one - two, one);
    }
    let count = window.len() as f64;
    2.0 * (one * one + two * two - twice_cos * one * two) / (count * count)
}

const fn samples_of(ms: usize) -> usize {
    ms * 8
}

const RATE_HZ: f64 = 8_000.0;
const LOW_HZ: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const HIGH_HZ: [f64; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
const KEYS: [char; 16] =
    ['1', '2', '3', 'A', '4', '5', '6', 'B', '7', '8', '9', 'C', '*', '0', '#', 'D'];

/// -8 dBm0: mu-law's largest sine, 32,124, is +3.17 dBm0.
const LOW_PEAK: f64 = 8_878.0;
/// -6 dBm0: lines lose more of the high tone.
const HIGH_PEAK: f64 = 11_177.0;
/// Samples of a soft end: 5 ms.
const RAMP: usize = samples_of(5);

/// A window of 12.75 ms: shorter ones cannot tell 697 Hz from 770.
const WINDOW: usize = 102;
/// Half of it.
const HOP: usize = WINDOW / 2;
/// A tone of 40 ms fills at least four windows; one of 23 ms, which is none, passes at most three,
/// whose edges it does not quite fill.
const HITS: u32 = 4;
/// A gap of 40 ms empties more windows; a break of 10 ms, which is none, empties three.
const MISSES: u32 = 5;
/// Each tone: the mean power of a sine of -30 dBm0. Receivers must hear -25 and not hear -55.
const POWER_MIN: f64 = 248_000.0;
/// 2 dB above its neighbours, into whose bins a stronger tone of the other group leaks.
const ALONE_MIN: f64 = 1.6;
/// 4 dB, and one and a half for what a window shows of it.
const HIGH_OVER_LOW_MAX: f64 = 3.55;
/// 8 dB, and three: the weaker tone shows less of itself.
const LOW_OVER_HIGH_MAX: f64 = 12.6;
/// Of everything in a window. Tones that are 1.5 % off still have four fifths of it in their bins.
const SHARE_MIN: f64 = 0.72;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sines at levels in dBm0, for so many milliseconds.
    fn sines(low: (f64, f64), high: (f64, f64), ms: usize) -> Vec<i16> {
        let peak = |dbm0: f64| 32_124.0 * 10_f64.powf((dbm0 - 3.17) / 20.0);
        let mut parts = [Sine::new(low.0, peak(low.1)), Sine::new(high.0, peak(high.1))];
        let mut next = || parts.iter_mut().map(Sine::next).sum::<f64>().round() as i16;
        (0..samples_of(ms)).map(|_| next()).collect()
    }

    /// What is heard of it in silence, wherever the windows fall.
    fn heard(samples: &[i16]) -> Vec<Vec<char>> {
        let at = |lead: usize| {
            let quiet = vec![0; 800];
            detect(&[&quiet[..lead], samples, &quiet].concat())
        };
        let mut all: Vec<_> = (0..HOP).map(at).collect();
        all.dedup();
        all
    }

    #[test]
    fn every_key_is_heard_as_it_was_made() {
        let text: String = KEYS.iter().collect();
        let mut ulaw = vec![7];
        tones(&text, &mut ulaw).unwrap();
        assert_eq!((ulaw[0], ulaw.len()), (7, 1 + 16 * 1_600));
        let mut samples = Vec::new();
        g711::ulaw_decode(&ulaw[1..], &mut samples);
        assert_eq!(heard(&samples), [KEYS.to_vec()]);
        let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(loudest < Some(22_000), "{loudest:?} is near to clipping");
    }

    #[test]
    fn the_same_key_twice_is_two_and_a_pause_is_half_a_second() {
        let mut ulaw = Vec::new();
        tones("5w5", &mut ulaw).unwrap();
        assert_eq!(ulaw.len(), 8 * (200 + 500 + 200));
        assert!(ulaw[1_600..5_600].iter().all(|&byte| byte == g711::ULAW_SILENCE));
        let mut samples = Vec::new();
        g711::ulaw_decode(&ulaw, &mut samples);
        assert_eq!(heard(&samples), [['5', '5']]);
    }

    #[test]
    fn a_tone_begins_and_ends_without_a_click() {
        let mut samples = Vec::new();
        tone(LOW_HZ[0], HIGH_HZ[3], &mut samples);
        let ends = [&samples[..4], &samples[796..]].concat();
        assert!(ends.iter().all(|sample| sample.unsigned_abs() < 1_000), "{ends:?}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "12e", "a", "W", "+1", "1 2", "\u{661}", &"1".repeat(33)] {
            let mut out = vec![1];
            assert_eq!(tones(bad, &mut out), Err(BadDigits), "{bad:?}");
            assert_eq!(out, [1]);
        }
        assert_eq!(tones(&"w".repeat(32), &mut Vec::new()), Ok(()));
    }

    #[test]
    fn a_receivers_limits_of_level_and_twist_are_kept() {
        for (low, high) in [(0.0, 0.0), (-25.0, -25.0), (-8.0, -4.0), (0.0, -8.0), (-17.0, -25.0)] {
            for key in ["1", "6", "*", "D"].map(|text| place(text.chars().next().unwrap())) {
                let (row, column) = key.unwrap();
                let samples = sines((LOW_HZ[row], low), (HIGH_HZ[column], high), 50);
                let told = heard(&samples);
                assert_eq!(told, [[KEYS[row * 4 + column]]], "{low} {high} dBm0");
            }
        }
        for (low, high) in [(-55.0, -55.0), (-20.0, -10.0), (-5.0, -19.0), (-8.0, -99.0)] {
            let told = heard(&sines((770.0, low), (1_336.0, high), 100));
            assert!(told.iter().all(Vec::is_empty), "{low} and {high} dBm0: {told:?}");
        }
    }

    #[test]
    fn a_receivers_limits_of_time_are_kept() {
        let tone = |ms| sines((852.0, -8.0), (1_477.0, -6.0), ms);
        assert_eq!(heard(&tone(40)), [['9']]);
        assert_eq!(heard(&tone(23)), [[' '; 0]]);
        let broken = [tone(40), vec![0; 80], tone(40)].concat();
        assert_eq!(heard(&broken), [['9']], "10 ms are a break");
        let twice = [tone(40), vec![0; 320], tone(40)].concat();
        assert_eq!(heard(&twice), [['9', '9']], "40 ms are a gap");
    }

    #[test]
    fn a_tone_that_is_a_little_off_is_heard() {
        for key in KEYS {
            let (row, column) = place(key).unwrap();
            for (low_off, high_off) in [(1.015, 1.015), (0.985, 0.985), (1.015, 0.985)] {
                let low = (LOW_HZ[row] * low_off, -10.0);
                let told = heard(&sines(low, (HIGH_HZ[column] * high_off, -10.0), 50));
                assert_eq!(told, [[key]], "{low_off} {high_off}");
            }
        }
    }

    #[test]
    fn the_pieces_in_which_a_line_comes_do_not_matter() {
        let (mut ulaw, mut samples) = (Vec::new(), Vec::new());
        tones("31#", &mut ulaw).unwrap();
        g711::ulaw_decode(&ulaw, &mut samples);
        for size in [1, 7, 160, 999] {
            let (mut detector, mut keys) = (Detector::new(), String::new());
            samples.chunks(size).for_each(|piece| detector.hear(piece, |key| keys.push(key)));
            assert_eq!(keys, "31#", "pieces of {size}");
        }
    }
}

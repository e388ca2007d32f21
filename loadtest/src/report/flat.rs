//! Whether memory is flat: what a soak is judged by.
//!
//! The first quarter is warm-up: buffers and the allocator find their size. After that, two
//! questions. How fast does it grow? Theil-Sen's slope, the median of the slopes of all pairs, so
//! that a spike says nothing. How much has it grown? The median of the last eighth less that of
//! the first, so that a step is seen however steep it is. Either alone misses something: a slope a
//! step near the end, a difference a slow leak in a short run.

/// The verdict, and what it is drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flatness {
    /// Where the judged time begins, in seconds.
    pub(crate) from_s: f64,
    /// Memory at the beginning of the judged time, in MiB.
    pub(crate) start_mib: f64,
    /// How fast it grows, in KiB a minute.
    pub(crate) slope_kib_per_minute: f64,
    /// How much it has grown, in MiB.
    pub(crate) grown_mib: f64,
}

impl Flatness {
    /// Judges readings of (seconds, MiB), in order.
    ///
    /// # Errors
    /// With a sentence when there are too few.
    pub(crate) fn judge(readings: &[(f64, f64)]) -> Result<Self, String> {
        let end_s = readings.last().map_or(0.0, |reading| reading.0);
        let from_s = end_s * WARM_UP;
        let judged: Vec<_> = readings.iter().copied().filter(|(at, _)| *at > from_s).collect();
        if judged.len() < READINGS_MIN {
            let had = judged.len();
            return Err(format!("too short to judge memory: {had} readings after warm-up"));
        }
        let eighth = (judged.len() / 8).max(1);
        let median_of = |part: &[(f64, f64)]| median(part.iter().map(|(_, mib)| *mib).collect());
        let start_mib = median_of(&judged[..eighth]);
        let grown_mib = median_of(&judged[judged.len() - eighth..]) - start_mib;
        let slope_kib_per_minute = slope(&judged) * 60.0 * 1_024.0;
        Ok(Self { from_s, start_mib, slope_kib_per_minute, grown_mib })
    }

    /// Whether it is.
    pub(crate) fn is_flat(&self) -> bool {
        self.slope_kib_per_minute <= SLOPE_MAX && self.grown_mib <= self.grown_max()
    }

    /// How much it may have grown: what an allocator may move, in MiB.
    fn grown_max(&self) -> f64 {
        1.0 + self.start_mib * 0.02
    }

    /// The verdict in a sentence.
    pub(crate) fn words(&self) -> String {
        format!(
            "Memory {} after {:.0} s of warm-up: {:+.1} KiB a minute (at most {SLOPE_MAX:.0}), \
             {:+.2} MiB on {:.1} MiB (at most {:.2})",
            if self.is_flat() { "is flat" } else { "GROWS" },
            self.from_s,
            self.slope_kib_per_minute,
            self.grown_mib,
            self.start_mib,
            self.grown_max(),
        )
    }
}

/// Theil-Sen's slope, in MiB a second.
fn slope(readings: &[(f64, f64)]) -> f64 {
    let mut slopes = Vec::with_capacity(readings.len() * readings.len() / 2);
    for (n, (at, mib)) in readings.iter().enumerate() {
        slopes.extend(readings[..n].iter().map(|(before, was)| (mib - was) / (at - before)));
    }
    median(slopes)
}

/// The middle value; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// What part of the time is warm-up.
const WARM_UP: f64 = 0.25;

/// Fewer readings say nothing.
const READINGS_MIN: usize = 10;

/// In KiB a minute: under 4 MiB an hour, an eighth of the audio of one call.
const SLOPE_MAX: f64 = 64.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty minutes, a reading every two seconds.
    fn soak(mib: impl Fn(f64) -> f64) -> Flatness {
        let readings: Vec<_> =
            (1..=600).map(|n| f64::from(n) * 2.0).map(|at| (at, mib(at))).collect();
        Flatness::judge(&readings).unwrap()
    }

    /// Between -1 and 1, the same every time.
    fn noise(at: f64) -> f64 {
        (at * 12.9898).sin() * 0.7 + (at * 78.233).sin() * 0.3
    }

    #[test]
    fn what_stays_is_flat_however_it_began() {
        assert!(soak(|_| 40.0).is_flat());
        assert!(soak(|at| 40.0 - 30.0 * (-at / 30.0).exp()).is_flat(), "a warm-up");
        assert!(soak(|at| 50.0 - at / 200.0).is_flat(), "shrinking");
    }

    #[test]
    fn noise_and_spikes_are_no_growth() {
        assert!(soak(|at| 40.0 + 3.0 * noise(at)).is_flat());
        assert!(soak(|at| if at % 100.0 < 4.0 { 90.0 } else { 40.0 }).is_flat());
    }

    #[test]
    fn a_leak_is_found_in_noise() {
        let leaking = soak(|at| 40.0 + at / 600.0 + noise(at));
        assert!(!leaking.is_flat(), "{leaking:?}");
        assert!((leaking.slope_kib_per_minute - 102.4).abs() < 10.0, "{leaking:?}");
        assert!(leaking.words().contains("GROWS"));
    }

    #[test]
    fn a_step_is_found_wherever_it_stands() {
        for stands in [400.0, 700.0, 1_000.0, 1_120.0] {
            let stepping = soak(|at| if at < stands { 40.0 } else { 44.0 });
            assert!(!stepping.is_flat(), "{stands}: {stepping:?}");
        }
        let stairs = soak(|at| 40.0 + (at / 200.0).floor());
        assert!(!stairs.is_flat(), "{stairs:?}");
    }

    #[test]
    fn a_short_run_is_not_judged() {
        assert!(Flatness::judge(&[]).is_err());
        let readings: Vec<_> = (0..12).map(|n| (f64::from(n), 1.0)).collect();
        assert!(Flatness::judge(&readings).is_err());
    }
}

//! How loud audio is.

/// Root mean square of the samples, 0 to 1 of full scale; 0 when there are none.
#[must_use]
pub fn rms(samples: &[i16]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let sum: f64 = samples.iter().map(|&sample| f64::from(sample) * f64::from(sample)).sum();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a level")]
    let level = ((sum / samples.len() as f64).sqrt() / 32_768.0) as f32;
    level
}

/// The same in decibels of full scale; -96 at most quiet.
#[must_use]
pub fn dbfs(samples: &[i16]) -> f32 {
    (20.0 * rms(samples).max(f32::MIN_POSITIVE).log10()).max(-96.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_full_scale_are_the_ends() {
        assert_eq!(rms(&[]), 0.0);
        assert_eq!(dbfs(&[0; 160]), -96.0);
        assert!(rms(&[i16::MIN; 160]) == 1.0);
        assert!(dbfs(&[i16::MAX; 160]).abs() < 0.001);
    }

    #[test]
    fn half_the_amplitude_is_six_decibels_less() {
        let full = dbfs(&[16_000, -16_000].repeat(80));
        let half = dbfs(&[8_000, -8_000].repeat(80));
        assert!((full - half - 6.02).abs() < 0.01);
    }
}

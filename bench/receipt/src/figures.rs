//! The figures of one run, out of the load test's JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one run measured. A figure is missing when the run did not measure it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// CPU of the whole process under load, in milliseconds a call and second.
    pub cpu_ms: Option<f64>,
    /// From a caller's frame to the far end, median, in milliseconds.
    pub up_p50_ms: Option<f64>,
    /// The same, 99 of 100.
    pub up_p99_ms: Option<f64>,
    /// From the first audio of an answer to the caller, median, in milliseconds.
    pub down_p50_ms: Option<f64>,
    /// The same, 99 of 100.
    pub down_p99_ms: Option<f64>,
    /// From `speech_started` to the `clear`, 99 of 100, in milliseconds.
    pub clear_p99_ms: Option<f64>,
    /// Memory of one call, in KiB.
    pub memory_kib: Option<f64>,
    /// Frames lost, altered or repeated, both ways, and calls that failed or were refused.
    pub lost: Option<f64>,
    /// How late the load test's own schedule was, 99 of 100, in milliseconds.
    pub own_late_p99_ms: Option<f64>,
}

/// Names and readers of all figures, in the order of [`Figures`].
type Reader = fn(&Figures) -> Option<f64>;

impl Figures {
    /// Takes the figures out of a report.
    #[must_use]
    pub fn of(report: &Value) -> Self {
        let at = |path: &str| report.pointer(path).and_then(Value::as_f64);
        // A distribution of nothing has zeros in it, which are no figures.
        let quantile = |name: &str, quantile: &str| {
            let count = at(&format!("/{name}/count")).unwrap_or_default();
            at(&format!("/{name}/{quantile}")).filter(|_| count > 0.0)
        };
        let lost: Vec<f64> =
            LOST.iter().filter_map(|name| at(&format!("/counts/{name}"))).collect();
        let late = at("/own_lateness_ms/callers/p99").into_iter();
        let late = late.chain(at("/own_lateness_ms/model/p99")).reduce(f64::max);
        Self {
            cpu_ms: at("/relay/cpu_us_per_call_second").map(|us| us / 1_000.0),
            up_p50_ms: quantile("added_up_ms", "p50"),
            up_p99_ms: quantile("added_up_ms", "p99"),
            down_p50_ms: quantile("added_down_ms", "p50"),
            down_p99_ms: quantile("added_down_ms", "p99"),
            clear_p99_ms: quantile("clear_ms", "p99"),
            memory_kib: at("/relay/resident_kib_per_call"),
            lost: (!lost.is_empty()).then(|| lost.iter().sum()),
            own_late_p99_ms: late,
        }
    }

    /// Each figure's median over the runs that have it.
    #[must_use]
    pub fn medians(runs: &[Self]) -> Self {
        let of = |read: Reader| median(runs.iter().filter_map(read));
        Self {
            cpu_ms: of(|run| run.cpu_ms),
            up_p50_ms: of(|run| run.up_p50_ms),
            up_p99_ms: of(|run| run.up_p99_ms),
            down_p50_ms: of(|run| run.down_p50_ms),
            down_p99_ms: of(|run| run.down_p99_ms),
            clear_p99_ms: of(|run| run.clear_p99_ms),
            memory_kib: of(|run| run.memory_kib),
            // A frame lost in one run of five is lost.
            lost: runs.iter().filter_map(|run| run.lost).reduce(|a, b| a + b),
            own_late_p99_ms: of(|run| run.own_late_p99_ms),
        }
    }
}

/// What must be zero. A call that was refused has failed.
const LOST: [&str; 8] = [
    "calls_failed",
    "frames_lost_up",
    "frames_lost_at_end",
    "messages_refused",
    "frames_altered_up",
    "frames_repeated_up",
    "frames_lost_down",
    "frames_altered_down",
];

/// The middle value, or the mean of the two in the middle.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_taken_out_of_a_report() {
        let report = json!({
            "added_up_ms": {"count": 10, "p50": 0.2, "p99": 1.5},
            "added_down_ms": {"count": 0, "p50": 0.0, "p99": 0.0},
            "counts": {"calls_failed": 1, "frames_lost_up": 2, "frames_sent": 1000},
            "relay": {"cpu_us_per_call_second": 640.0, "resident_kib_per_call": 31.5},
            "own_lateness_ms": {"callers": {"p99": 0.7}, "model": {"p99": 0.9}},
        });
        let figures = Figures::of(&report);
        assert_eq!(figures.cpu_ms, Some(0.64));
        assert_eq!((figures.up_p50_ms, figures.up_p99_ms), (Some(0.2), Some(1.5)));
        assert_eq!(figures.down_p50_ms, None, "nothing was measured");
        assert_eq!(figures.memory_kib, Some(31.5));
        assert_eq!(figures.lost, Some(3.0));
        assert_eq!(figures.own_late_p99_ms, Some(0.9));
        assert_eq!(Figures::of(&json!({})), Figures::default());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_frame_that_one_run_lost_is_lost() {
        let run = |lost, cpu| Figures { lost, cpu_ms: Some(cpu), ..Figures::default() };
        let medians = Figures::medians(&[run(Some(0.0), 1.0), run(Some(2.0), 3.0), run(None, 2.0)]);
        assert_eq!((medians.lost, medians.cpu_ms), (Some(2.0), Some(2.0)));
    }
}

//! Two load tests side by side, or several runs of each: what differs, and whether it means
//! anything.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::flat::median;
use super::record::Record;
use crate::run::report::{Quantiles, float};

/// Compares two load tests.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Two reports (JSON): what was, and what is.
    #[arg(value_name = "FILE", num_args = 2, conflicts_with_all = ["a", "b"],
          required_unless_present_all = ["a", "b"])]
    files: Vec<PathBuf>,
    /// A run of the first kind; repeat it for more runs, whose median counts.
    #[arg(long, value_name = "FILE", requires = "b")]
    a: Vec<PathBuf>,
    /// A run of the second kind.
    #[arg(long, value_name = "FILE", requires = "a")]
    b: Vec<PathBuf>,
}

/// A figure of a load test.
struct Figure {
    name: &'static str,
    /// `None` where it was not measured.
    of: fn(&Record) -> Option<f64>,
    /// Digits after the point.
    digits: usize,
}

/// One figure of all runs of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Runs {
    median: f64,
    /// From the lowest to the highest; `None` of a single run.
    spread: Option<f64>,
}

/// Compares, and says how.
///
/// # Errors
/// When a file cannot be read.
#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
pub fn compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let read = |paths: &[PathBuf]| {
        paths.iter().map(|path| Record::read(path)).collect::<anyhow::Result<Vec<_>>>()
    };
    let (a, b) = match args.files.as_slice() {
        [a, b] => (read(std::slice::from_ref(a))?, read(std::slice::from_ref(b))?),
        _ => (read(&args.a)?, read(&args.b)?),
    };
    println!("{}", table(&a, &b));
    Ok(ExitCode::SUCCESS)
}

/// The comparison.
fn table(a: &[Record], b: &[Record]) -> String {
    let mut text = String::new();
    for (name, records) in [("A", a), ("B", b)] {
        let Some(first) = records.first() else { continue };
        let _ = writeln!(
            text,
            "{name}  {}, {} calls, {:.0} s, {} run{}, {}",
            first.report.subject,
            first.report.calls,
            first.report.seconds,
            records.len(),
            if records.len() == 1 { "" } else { "s (medians)" },
            first.began_at
        );
    }
    for warning in warnings(a, b) {
        let _ = writeln!(text, "WARNING  {warning}");
    }
    let _ = writeln!(text, "\n{:<40} {:>10} {:>10} {:>8} {:>10}", "", "A", "B", "B / A", "B - A");
    for figure in FIGURES {
        if let (Some(of_a), Some(of_b)) = (runs(a, figure), runs(b, figure)) {
            let _ = writeln!(text, "{}", line(figure, of_a, of_b));
        }
    }
    text + &floor(a, b)
}

/// One figure of both.
fn line(figure: &Figure, a: Runs, b: Runs) -> String {
    let ratio = if a.median > 0.0 { format!("{:.2}", b.median / a.median) } else { "-".into() };
    let digits = figure.digits;
    format!(
        "{:<40} {:>10.digits$} {:>10.digits$} {ratio:>8} {:>+10.digits$}  {}",
        figure.name,
        a.median,
        b.median,
        b.median - a.median,
        judged(a, b)
    )
}

/// Which one is better, as far as it can be said. Less is better of every figure.
fn judged(a: Runs, b: Runs) -> String {
    let difference = b.median - a.median;
    if difference.abs() < 1e-9 {
        return "same".into();
    }
    let better = if difference < 0.0 { "B is better" } else { "A is better" };
    let spread = a.spread.into_iter().chain(b.spread).reduce(f64::max);
    match spread {
        None => better.into(),
        Some(spread) if difference.abs() > spread => format!("{better}, beyond the spread"),
        Some(_) => "within the spread".into(),
    }
}

/// The figure of all runs.
fn runs(records: &[Record], figure: &Figure) -> Option<Runs> {
    let values: Vec<f64> = records.iter().filter_map(figure.of).collect();
    if values.is_empty() {
        return None;
    }
    let (low, high) = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    let spread = (values.len() > 1).then_some(high - low);
    Some(Runs { median: median(values), spread })
}

/// What makes the comparison doubtful.
fn warnings(a: &[Record], b: &[Record]) -> Vec<String> {
    let mut warnings = Vec::new();
    let all: Vec<&Record> = a.iter().chain(b).collect();
    let mut differs = |name: &str, of: &dyn Fn(&Record) -> String| {
        let mut values: Vec<String> = all.iter().map(|record| of(record)).collect();
        values.sort();
        values.dedup();
        if values.len() > 1 {
            warnings.push(format!("{name} differs: {}", values.join(" | ")));
        }
    };
    differs("the processor", &|record| record.machine.processor.clone());
    differs("the number of cores", &|record| record.machine.cores.to_string());
    differs("the memory", &|record| format!("{} MiB", record.machine.memory_mib));
    differs("the kernel", &|record| record.machine.kernel.clone());
    differs("the program", &|record| record.program.clone());
    let mut settings: Vec<&String> = all.iter().flat_map(|record| record.settings.keys()).collect();
    settings.sort();
    settings.dedup();
    for setting in settings {
        let of = |record: &Record| record.settings.get(setting).cloned().unwrap_or_default();
        differs(&format!("`{setting}`"), &of);
    }
    let doubtful = all.iter().filter(|record| !record.report.warnings.is_empty()).count();
    if doubtful > 0 {
        warnings.push(format!("{doubtful} of {} runs are doubtful by themselves", all.len()));
    }
    warnings
}

/// The ratio that matters where one of both only copies bytes.
fn floor(a: &[Record], b: &[Record]) -> String {
    let is_floor =
        |records: &[Record]| records.first().is_some_and(|record| record.report.subject == FLOOR);
    let (floor, other) = match (is_floor(a), is_floor(b)) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        (true, true) | (false, false) => return String::new(),
    };
    let cpu = &FIGURES[0];
    let (Some(floor), Some(other)) = (runs(floor, cpu), runs(other, cpu)) else {
        return String::new();
    };
    if floor.median <= 0.0 {
        return String::new();
    }
    format!(
        "\nOne call and second costs {:.2} times the CPU of copying its bytes.\n",
        other.median / floor.median
    )
}

/// A quantile of something that was measured at all.
fn quantile(q: &Quantiles, value: f64) -> Option<f64> {
    (q.count > 0).then_some(value)
}

/// What is compared; less is better of each.
const FIGURES: &[Figure] = &[
    Figure {
        name: "CPU, us a call and second",
        of: |record| {
            let cost = &record.report.relay;
            (cost.resident_mib > 0.0).then_some(cost.cpu_us_per_call_second)
        },
        digits: 0,
    },
    Figure {
        name: "memory, KiB a call",
        of: |record| {
            let cost = &record.report.relay;
            (cost.resident_mib > 0.0).then_some(cost.resident_kib_per_call)
        },
        digits: 1,
    },
    Figure {
        name: "added delay up, p50, ms",
        of: |record| quantile(&record.report.added_up_ms, record.report.added_up_ms.p50),
        digits: 2,
    },
    Figure {
        name: "added delay up, p99, ms",
        of: |record| quantile(&record.report.added_up_ms, record.report.added_up_ms.p99),
        digits: 2,
    },
    Figure {
        name: "added delay down, p50, ms",
        of: |record| quantile(&record.report.added_down_ms, record.report.added_down_ms.p50),
        digits: 2,
    },
    Figure {
        name: "added delay down, p99, ms",
        of: |record| quantile(&record.report.added_down_ms, record.report.added_down_ms.p99),
        digits: 2,
    },
    Figure {
        name: "speech started to clear, p99, ms",
        of: |record| quantile(&record.report.clear_ms, record.report.clear_ms.p99),
        digits: 2,
    },
    Figure {
        name: "end of a turn to first audio, p50, ms",
        of: |record| quantile(&record.report.answer_ms, record.report.answer_ms.p50),
        digits: 2,
    },
    Figure {
        name: "frames lost or altered",
        of: |record| Some(float(record.report.counts.frames_lost())),
        digits: 0,
    },
    Figure {
        name: "calls failed",
        of: |record| Some(float(record.report.counts.calls_failed)),
        digits: 0,
    },
    Figure {
        name: "own lateness, callers, p99, ms",
        of: |record| {
            let late = &record.report.own_lateness_ms.callers;
            quantile(late, late.p99)
        },
        digits: 2,
    },
];

/// What a byte copy is called in reports.
const FLOOR: &str = "byte copy";

#[cfg(test)]
mod tests {
    use super::*;

    fn record(subject: &str, cpu: f64) -> Record {
        let mut record = Record::default();
        record.report.subject = subject.to_owned();
        record.report.relay.cpu_us_per_call_second = cpu;
        record.report.relay.resident_mib = 30.0;
        record
    }

    #[test]
    fn one_run_of_each_says_which_is_better() {
        let text = table(&[record("relay", 1_000.0)], &[record("relay", 900.0)]);
        assert!(text.contains("0.90") && text.contains("-100  B is better"), "{text}");
        assert!(!text.contains("WARNING") && !text.contains("times the CPU"), "{text}");
    }

    #[test]
    fn a_difference_within_the_spread_means_nothing() {
        let runs = |values: [f64; 3]| values.map(|cpu| record("relay", cpu));
        let text = table(&runs([1_000.0, 1_100.0, 900.0]), &runs([950.0, 880.0, 1_020.0]));
        assert!(text.contains("within the spread"), "{text}");
        let text = table(&runs([1_000.0, 1_010.0, 990.0]), &runs([950.0, 960.0, 940.0]));
        assert!(text.contains("B is better, beyond the spread"), "{text}");
    }

    #[test]
    fn other_machines_and_settings_are_named() {
        let (mut a, mut b) = (record("relay", 1.0), record("relay", 1.0));
        a.machine.processor = "one".into();
        b.machine.processor = "other".into();
        b.settings.insert("calls".into(), "5".into());
        b.report.warnings.push("late".into());
        let warnings = warnings(&[a], &[b]);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("one | other"));
    }

    #[test]
    fn the_floor_gives_a_ratio() {
        let text = table(&[record("relay", 750.0)], &[record(FLOOR, 600.0)]);
        assert!(text.contains("1.25 times the CPU"), "{text}");
    }
}

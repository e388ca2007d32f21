//! A receipt as a table: all of it for `bench/results/`, the short form for README.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cases::Way;
use crate::summary::{Measured, Spread, Summary};

/// Where README's table begins.
pub const BEGIN: &str = "<!-- carries:begin -->";
/// Where it ends.
pub const END: &str = "<!-- carries:end -->";

/// All of a receipt, with what is asked of it.
#[must_use]
pub fn whole(summary: &Summary) -> String {
    let mut text = format!("# Receipt, {}\n\n```sh\n{}\n```\n\n", summary.day, summary.command);
    let _ = writeln!(text, "{}\n", where_and_how(summary));
    text.push_str(
        "Each figure is the median of the rounds, with the least and the most where they are given; \
         lost frames are added up.\n\
         A ratio is taken within a round: against the floor at as many calls, transcoding against \
         mu-law as it is, two shards against one.\n\n\
         | what | calls | CPU, ms a call and second | ratio | asked | added up, p50 / p99 ms | \
         added down, p50 / p99 ms | clear, p99 ms | memory a call, KiB | lost | runs |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for case in &summary.cases {
        let medians = case.medians();
        let ratio = case.case.way.yardstick().and_then(|way| summary.ratio(case, way));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} / {} | {} / {} | {} | {} | {} | {} |",
            case.case.way.words(),
            case.case.calls,
            spread(case.cpu_ms(), 3),
            spread(ratio, 2),
            asked(case.case.way).map_or("-".into(), |most| format!("<= {most:.2}")),
            number(medians.up_p50_ms, 2),
            number(medians.up_p99_ms, 2),
            number(medians.down_p50_ms, 2),
            number(medians.down_p99_ms, 2),
            number(medians.clear_p99_ms, 2),
            number(medians.memory_kib, 1),
            number(medians.lost, 0),
            runs(case),
        );
    }
    let _ = writeln!(text, "\n{BATCHES}");
    for line in &summary.left_out {
        let _ = writeln!(text, "\nNot measured: {line}.");
    }
    text
}

/// The short form.
#[must_use]
pub fn short(summary: &Summary) -> String {
    let mut text = String::from(
        "| one core of the relay | calls | CPU, ms a call and second | against the floor | \
         added up, p50 / p99 ms | added down, p50 / p99 ms | memory a call | lost |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let one_core = |case: &&Measured| !matches!(case.case.way, Way::OneShard | Way::TwoShards);
    for case in summary.cases.iter().filter(one_core) {
        let medians = case.medians();
        let ratio = summary.ratio(case, Way::Floor).filter(|_| case.case.way != Way::Floor);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} / {} | {} / {} | {} | {} |",
            case.case.way.words(),
            case.case.calls,
            number(medians.cpu_ms, 2),
            ratio.map_or("1".into(), |ratio| format!("{:.2}x", ratio.median)),
            number(medians.up_p50_ms, 2),
            number(medians.up_p99_ms, 2),
            number(medians.down_p50_ms, 2),
            number(medians.down_p99_ms, 2),
            medians.memory_kib.map_or("-".into(), |kib| format!("{kib:.0} KiB")),
            number(medians.lost, 0),
        );
    }
    let shards = summary.cases.iter().find(|case| case.case.way == Way::TwoShards);
    let ratio = shards.and_then(|two| Some((two, summary.ratio(two, Way::OneShard)?)));
    if let Some((two, ratio)) = ratio {
        let _ = writeln!(
            text,
            "\nTwo shards cost {:.2}x the CPU of one, a call and second, at {} calls.",
            ratio.median, two.case.calls
        );
    }
    let _ = writeln!(text, "\n{BATCHES}\n{}", where_and_how(summary));
    text
}

/// Why a batch looks slow.
const BATCHES: &str =
    "A batch is sent when its 60 ms are there, so what it adds up holds that waiting.";

/// What `loadtest knee` found, as far as README says it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Knee {
    /// The bound of the added delay, in milliseconds.
    bound_ms: f64,
    /// The most calls within it.
    calls: u32,
    /// What stood in the way of more: `subject`, `generator` or `calls_max`.
    limit: String,
    /// What its CPU would carry. Not measured.
    calls_by_cpu_extrapolated: Option<u32>,
}

impl Knee {
    fn words(&self) -> String {
        let Self { bound_ms, calls, limit, calls_by_cpu_extrapolated } = self;
        let mut text = format!(
            "**{calls} calls on one core** with an added p99 of at most {bound_ms} ms both ways, measured"
        );
        text.push_str(match limit.as_str() {
            "subject" => "; more were too many.",
            "generator" => "; with more, the load test beside it was the one that was late.",
            _ => "; no more were tried.",
        });
        if let Some(calls) = calls_by_cpu_extrapolated {
            let _ = write!(text, "\nIts CPU there extrapolates to {calls} (not measured).");
        }
        text
    }
}

/// What README says: the newest receipt in short, and the newest knee.
///
/// # Errors
/// When a file cannot be read.
pub fn of_results(results: &Path) -> anyhow::Result<String> {
    let Some(summary) = newest::<Summary>(results, "-receipt.json")? else {
        return Ok(NONE_YET.to_owned());
    };
    let mut text = short(&summary);
    if let Some(knee) = newest::<Knee>(results, "-knee.json")? {
        let _ = writeln!(text, "\n{}", knee.words());
    }
    Ok(text)
}

/// The newest file of a kind. Names begin with the day.
fn newest<T: DeserializeOwned>(results: &Path, ending: &str) -> anyhow::Result<Option<T>> {
    let entries = fs::read_dir(results).with_context(|| results.display().to_string())?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let Some(name) = names.filter(|name| name.ends_with(ending)).max() else { return Ok(None) };
    let text = fs::read_to_string(results.join(&name)).with_context(|| name.clone())?;
    Ok(Some(serde_json::from_str(&text).with_context(|| name.clone())?))
}

const NONE_YET: &str = "No receipt has been kept yet: `make receipt` makes one.\n";

/// Puts a table between the marks of a document; `None` when they are not there.
#[must_use]
pub fn put(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// The largest ratio that this project asks of itself.
fn asked(way: Way) -> Option<f64> {
    match way {
        Way::Floor | Way::OneShard => None,
        Way::PassThrough => Some(1.25),
        Way::BatchedWrites => Some(0.9),
        Way::BatchedReads => Some(0.6),
        Way::Tls | Way::Transcoded => Some(1.6),
        Way::TwoShards => Some(1.1),
    }
}

fn where_and_how(summary: &Summary) -> String {
    let Summary { day, machine, rounds, seconds, cores, .. } = summary;
    let pinned = match cores {
        Some(cores) => {
            format!("relay on core {}, callers and models on core {}", cores.relay, cores.own)
        }
        None => "nothing pinned".to_owned(),
    };
    format!(
        "{day}, commit {}, {rounds} rounds of {seconds} s, {pinned}: {}, {} cores, {} GiB, Linux {}.",
        machine.commit, machine.processor, machine.cores, machine.memory_gib, machine.kernel,
    )
}

fn runs(case: &Measured) -> String {
    let doubtful = case.runs.iter().filter(|run| !run.is_clean || !run.warnings.is_empty()).count();
    match doubtful {
        0 => case.runs.len().to_string(),
        some => format!("{}, {some} with warnings", case.runs.len()),
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn spread(values: Option<Spread>, digits: usize) -> String {
    values.map_or("-".to_owned(), |Spread { least, median, most }| {
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Case;
    use crate::figures::Figures;
    use crate::machine::Machine;
    use crate::summary::Run;

    fn measured(way: Way, cpu: &[f64]) -> Measured {
        let run = |(at, cpu): (usize, &f64)| Run {
            round: at as u32 + 1,
            figures: Figures { cpu_ms: Some(*cpu), lost: Some(0.0), ..Figures::default() },
            warnings: Vec::new(),
            is_clean: true,
        };
        Measured { case: Case::new(way, 200), runs: cpu.iter().enumerate().map(run).collect() }
    }

    fn summary() -> Summary {
        Summary {
            day: "2026-11-24".into(),
            command: "make receipt".into(),
            machine: Machine::default(),
            rounds: 3,
            seconds: 20,
            cores: None,
            // The machine is twice as slow in the second round.
            cases: vec![
                measured(Way::Floor, &[0.5, 1.0, 0.5]),
                measured(Way::PassThrough, &[0.6, 1.2, 0.55]),
            ],
            left_out: Vec::new(),
        }
    }

    #[test]
    fn a_slow_round_is_no_worse_ratio() {
        let summary = summary();
        let ratio = summary.ratio(&summary.cases[1], Way::Floor).unwrap();
        assert!((ratio.most - 1.2).abs() < 1e-9, "{ratio:?}");
        let table = whole(&summary);
        assert!(
            table.contains("| 200 | 0.600 (0.550 to 1.200) | 1.20 (1.10 to 1.20) |"),
            "{table}"
        );
        let table = short(&summary);
        assert!(table.contains("| mu-law as it is | 200 | 0.60 | 1.20x |"), "{table}");
    }

    #[test]
    fn a_table_goes_between_the_marks() {
        let document = format!("before {BEGIN}\nold\n{END} after");
        let put = put(&document, "new\n").unwrap();
        assert_eq!(put, format!("before {BEGIN}\nnew\n{END} after"));
        assert_eq!(super::put("no marks", "new"), None);
    }

    #[test]
    fn readme_says_the_newest_receipt_and_knee() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_results(folder.path()).unwrap(), NONE_YET);
        let keep = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let mut old = summary();
        old.day = "2026-11-23".into();
        keep("2026-11-23-receipt.json", &serde_json::to_string(&old).unwrap());
        keep("2026-11-24-receipt.json", &serde_json::to_string(&summary()).unwrap());
        let knee = r#"{"subject": "relay", "bound_ms": 20.0, "calls": 1234, "limit": "generator",
            "calls_by_cpu_extrapolated": 2100, "steps": []}"#;
        keep("2026-11-24-knee.json", knee);
        let said = of_results(folder.path()).unwrap();
        assert!(said.contains("\n2026-11-24, commit"), "{said}");
        assert!(said.contains("**1234 calls on one core**"), "{said}");
        assert!(said.contains("the load test beside it was the one that was late"), "{said}");
        assert!(said.contains("extrapolates to 2100 (not measured)"), "{said}");
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let text = serde_json::to_string(&summary()).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary());
    }
}

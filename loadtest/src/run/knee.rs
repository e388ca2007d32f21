//! `loadtest knee`: how many calls a process carries before its delays give way. Steps up until
//! one fails, then halves the gap; says whose limit was found.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::args::RunArgs;
use super::measure::{measure, prepare};
use super::report::Report;
use super::scenario::{Arrival, Scenario};
use crate::report::knee_page::{KneeFigures, knee_page};
use crate::report::write;

/// How the knee is looked for. `--calls` is the first step here, and `--json` gets every step.
#[derive(Debug, Clone, Args)]
pub struct KneeArgs {
    #[command(flatten)]
    run: RunArgs,
    /// What the added delay may be, either way, for all but one frame of a hundred: in
    /// milliseconds.
    #[arg(long, default_value_t = 20.0)]
    bound_ms: f64,
    /// No step goes beyond so many calls.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    calls_max: u32,
    /// The gap between the last good step and the first bad one that ends the search, in per cent.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    within_percent: u32,
}

/// What the search found.
#[derive(Debug, Clone, Serialize)]
struct Knee {
    /// What was put under load.
    subject: String,
    /// The bound of the added delay, in milliseconds.
    bound_ms: f64,
    /// The most calls that were carried; 0 when not even the first step was.
    calls: u32,
    /// What stood in the way of more.
    limit: Limit,
    /// What the CPU of the best step would carry with all of its cores in use. Not measured.
    calls_by_cpu_extrapolated: Option<u32>,
    /// Every step, in the order of the search.
    steps: Vec<Step>,
}

/// What stood in the way of more calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Limit {
    /// The process under test.
    Subject,
    /// The load test itself: the process may carry more.
    Generator,
    /// Nothing: the search was not to go further.
    CallsMax,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
struct Step {
    /// How many calls.
    calls: u32,
    /// Whether they were carried.
    verdict: Verdict,
    /// What came out; `None` when the step broke down.
    report: Option<Report>,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// Carried, within the bound.
    Carried,
    /// Carried too slowly.
    Slow,
    /// Frames or calls were lost.
    Lost,
    /// Too slow or lost, and the load test was late itself.
    GeneratorLate,
    /// The process under test went, or never came.
    BrokeDown,
}

/// Where the search is.
#[derive(Debug, Clone, Copy)]
struct Search {
    /// The most that were carried.
    carried: u32,
    /// The least that were not.
    failed: Option<u32>,
    first: u32,
    most: u32,
    within_percent: u32,
}

impl Search {
    /// The next step; `None` when the search is over.
    fn next(&self) -> Option<u32> {
        let Some(failed) = self.failed else {
            let next = if self.carried == 0 { self.first } else { self.carried.div_ceil(2) * 3 };
            return (self.carried < self.most).then(|| next.min(self.most));
        };
        let gap = failed.saturating_sub(self.carried);
        let small = (failed * self.within_percent / 100).max(1);
        (gap > small).then(|| self.carried + gap / 2)
    }

    /// A step went so.
    fn add(&mut self, calls: u32, carried: bool) {
        if carried {
            self.carried = self.carried.max(calls);
        } else {
            self.failed = Some(self.failed.map_or(calls, |failed| failed.min(calls)));
        }
    }
}

/// Judges a step.
fn judge(report: &Report, bound_ms: f64) -> Verdict {
    let slow = report.added_up_ms.p99.max(report.added_down_ms.p99) > bound_ms;
    match (slow, report.is_clean()) {
        (false, true) => Verdict::Carried,
        _ if report.generator_limited => Verdict::GeneratorLate,
        (_, false) => Verdict::Lost,
        (true, true) => Verdict::Slow,
    }
}

/// Looks for the knee; the exit code says whether anything was carried.
///
/// # Errors
/// When the load test cannot be played, or a report not be written.
#[expect(clippy::print_stdout, reason = "steps and result are what the command is for")]
pub fn knee(args: &KneeArgs) -> anyhow::Result<ExitCode> {
    let mut scenario = args.run.scenario()?;
    if scenario.turns_over() {
        anyhow::bail!("the knee is looked for with calls that stay: no call.seconds, no rate");
    }
    if args.run.duration.is_none() && args.run.scenario.is_none() {
        scenario.duration_s = STEP_SECONDS;
    }
    prepare(&args.run)?;
    let first = scenario.calls().min(args.calls_max);
    let (most, within_percent) = (args.calls_max, args.within_percent);
    let mut search = Search { carried: 0, failed: None, first, most, within_percent };
    let mut steps = Vec::new();
    while let Some(calls) = search.next() {
        let step = step(args, &scenario, calls);
        println!("{}", step.line());
        search.add(calls, step.verdict == Verdict::Carried);
        steps.push(step);
    }
    let cores = args.run.relay_cores.as_ref().map_or(1, crate::system::Cores::count);
    let knee = Knee::of(args.bound_ms, &search, steps, u32::try_from(cores).unwrap_or(1));
    println!("\n{}", knee.words());
    if let Some(path) = &args.run.output.json {
        write(path, &(serde_json::to_string_pretty(&knee)? + "\n"))?;
        println!("written: {}", path.display());
    }
    if let Some(path) = &args.run.output.html {
        write(path, &knee_page(knee.figures()))?;
        println!("written: {} (open it in a browser)", path.display());
    }
    Ok(if knee.calls > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes one step, with a fresh process under test.
#[expect(clippy::print_stdout, reason = "a step that breaks down says why")]
fn step(args: &KneeArgs, scenario: &Scenario, calls: u32) -> Step {
    let scenario = Scenario { arrival: Arrival::Fixed { calls }, ..scenario.clone() };
    match measure(&args.run, &scenario) {
        Ok(done) => {
            let verdict = judge(&done.report, args.bound_ms);
            Step { calls, verdict, report: Some(done.report) }
        }
        Err(error) => {
            println!("{calls} calls: {error:#}");
            Step { calls, verdict: Verdict::BrokeDown, report: None }
        }
    }
}

impl Verdict {
    /// For a reader.
    fn word(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::Slow => "too slow",
            Self::Lost => "frames or calls lost",
            Self::GeneratorLate => "the load test was the bottleneck",
            Self::BrokeDown => "broke down",
        }
    }
}

impl Step {
    /// For a page; `None` when it broke down.
    fn figures(&self) -> Option<(u32, &'static str, &Report)> {
        self.report.as_ref().map(|report| (self.calls, self.verdict.word(), report))
    }

    /// As a line.
    fn line(&self) -> String {
        let word = self.verdict.word();
        let Some(report) = &self.report else { return format!("{:>6} calls  {word}", self.calls) };
        format!(
            "{:>6} calls  added p99 up {:.1} ms, down {:.1} ms  CPU {:.0} %, own {:.0} %  lost {}  \
             {word}",
            self.calls,
            report.added_up_ms.p99,
            report.added_down_ms.p99,
            report.relay.cpu_percent,
            report.own_cpu_percent,
            report.counts.frames_lost(),
        )
    }
}

impl Knee {
    /// For a page. A step that broke down has no figures.
    fn figures(&self) -> KneeFigures<'_> {
        KneeFigures {
            subject: &self.subject,
            words: self.words(),
            bound_ms: self.bound_ms,
            steps: self.steps.iter().filter_map(Step::figures).collect(),
        }
    }

    /// Draws up what was found. The process has so many cores.
    fn of(bound_ms: f64, search: &Search, steps: Vec<Step>, cores: u32) -> Self {
        let first_failed = steps.iter().find(|step| Some(step.calls) == search.failed);
        let limit = match first_failed.map(|step| step.verdict) {
            None => Limit::CallsMax,
            Some(Verdict::GeneratorLate) => Limit::Generator,
            Some(Verdict::Carried | Verdict::Slow | Verdict::Lost | Verdict::BrokeDown) => {
                Limit::Subject
            }
        };
        let best = steps.iter().find(|step| step.calls == search.carried);
        let best = best.and_then(|step| step.report.as_ref());
        let percent = best.map(|report| report.relay.cpu_percent).filter(|percent| *percent > 0.0);
        Self {
            subject: steps
                .iter()
                .find_map(|step| step.report.as_ref())
                .map(|report| report.subject.clone())
                .unwrap_or_default(),
            bound_ms,
            calls: search.carried,
            limit,
            calls_by_cpu_extrapolated: percent
                .map(|percent| by_cpu(search.carried, percent, cores)),
            steps,
        }
    }

    /// In words.
    fn words(&self) -> String {
        let mut text = format!(
            "{}: {} calls with added p99 of at most {} ms both ways",
            self.subject, self.calls, self.bound_ms
        );
        text += match self.limit {
            Limit::Subject => "; more than that is too much for it.",
            Limit::Generator => {
                "; beyond that the load test was the bottleneck, not the process under test."
            }
            Limit::CallsMax => "; no more were tried.",
        };
        if let Some(calls) = self.calls_by_cpu_extrapolated {
            text += &format!(" Extrapolated from its CPU, not measured: {calls} calls.");
        }
        text
    }
}

/// What would use all of the cores, when so many calls use so much of one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "calls, 0 to 1e9")]
fn by_cpu(calls: u32, percent: f64, cores: u32) -> u32 {
    (f64::from(calls) * 100.0 * f64::from(cores) / percent).min(1e9) as u32
}

/// How long a step is measured when nothing says otherwise, in seconds.
const STEP_SECONDS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(carries: u32, first: u32, most: u32) -> (Search, Vec<u32>) {
        let mut search = Search { carried: 0, failed: None, first, most, within_percent: 5 };
        let mut steps = Vec::new();
        while let Some(calls) = search.next() {
            search.add(calls, calls <= carries);
            steps.push(calls);
            assert!(steps.len() < 40, "{steps:?}");
        }
        (search, steps)
    }

    #[test]
    fn the_search_ends_close_to_what_is_carried() {
        for carries in [1, 7, 99, 100, 101, 750, 1_234, 4_999] {
            let (search, steps) = found(carries, 100, 5_000);
            assert!(search.carried <= carries, "{steps:?}");
            let failed = search.failed.expect("more were tried");
            assert!(failed - search.carried <= (failed / 20).max(1), "{carries}: {steps:?}");
        }
    }

    #[test]
    fn the_search_goes_no_further_than_it_may() {
        let (search, steps) = found(10_000, 100, 400);
        assert_eq!((search.carried, search.failed, steps.last()), (400, None, Some(&400)));
        let knee = Knee::of(20.0, &search, Vec::new(), 1);
        assert_eq!(knee.limit, Limit::CallsMax);
        assert!(knee.words().contains("no more were tried"));
    }

    #[test]
    fn nothing_at_all_is_found_out_too() {
        let (search, steps) = found(0, 100, 400);
        assert_eq!(search.carried, 0, "{steps:?}");
        assert!(steps.len() < 10);
    }

    #[test]
    fn it_is_said_whose_limit_was_found() {
        let step = |calls, verdict| Step { calls, verdict, report: None };
        let of = |verdict| {
            let search = Search {
                carried: 100,
                failed: Some(104),
                first: 100,
                most: 400,
                within_percent: 5,
            };
            Knee::of(20.0, &search, vec![step(100, Verdict::Carried), step(104, verdict)], 1).limit
        };
        assert_eq!(of(Verdict::Slow), Limit::Subject);
        assert_eq!(of(Verdict::GeneratorLate), Limit::Generator);
    }

    #[test]
    fn cpu_is_extrapolated_over_all_cores() {
        assert_eq!(by_cpu(600, 50.0, 1), 1_200);
        assert_eq!(by_cpu(600, 50.0, 2), 2_400);
    }
}

//! Runs the cases, round by round, and shows how far it is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cases::{Case, Way};
use crate::figures::Figures;
use crate::machine::{self, Machine};
use crate::summary::{Cores, Measured, Run, Summary};

/// What is to be run, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of `loadtest`, `relay` and `floor`.
    pub programs: PathBuf,
    /// Where reports, logs and the summary go.
    pub folder: PathBuf,
    /// What is run in each round.
    pub cases: Vec<Case>,
    /// How many rounds.
    pub rounds: u32,
    /// How long each run is measured, in seconds.
    pub seconds: u32,
    /// The command, as it was typed.
    pub command: String,
}

impl Plan {
    /// Runs everything. The summary is written after each round, so that what was measured is
    /// kept when somebody stops it.
    ///
    /// # Errors
    /// When a program is missing, or nothing of a whole round could be measured.
    #[expect(clippy::disallowed_methods, reason = "the time that is left is for people")]
    pub fn run(mut self, say: impl Fn(&str)) -> anyhow::Result<Summary> {
        let machine = Machine::here();
        let cores = cores(machine.cores);
        let left_out = self.leave_out()?;
        left_out.iter().for_each(|line| say(&format!("left out: {line}")));
        let measured = |case: &Case| Measured { case: case.clone(), runs: Vec::new() };
        let mut summary = Summary {
            day: machine::today(),
            command: self.command.clone(),
            machine,
            rounds: 0,
            seconds: self.seconds,
            cores,
            cases: self.cases.iter().map(measured).collect(),
            left_out,
        };
        let (began, mut done) = (Instant::now(), 0);
        let all = self.rounds as usize * self.cases.len();
        for round in 1..=self.rounds {
            let mut order: Vec<usize> = (0..self.cases.len()).collect();
            // Forth and back: a machine that grows slower is not held against the last case.
            if round % 2 == 0 {
                order.reverse();
            }
            for at in order {
                let case = &self.cases[at];
                let outcome = self.run_case(case, round, summary.cores.as_ref());
                done += 1;
                let left = began.elapsed() / done * (all as u32 - done) / 60;
                let line = match outcome {
                    Ok(run) => {
                        let line = told(&run);
                        summary.cases[at].runs.push(run);
                        line
                    }
                    Err(error) => {
                        summary.left_out.push(format!("{}, round {round}: {error:#}", case.name));
                        format!("FAILED: {error:#}")
                    }
                };
                let minutes = left.as_secs() + 1;
                say(&format!("{done:>3}/{all} {:<15} {line}   {minutes} min left", case.name));
            }
            summary.rounds = round;
            self.keep(&summary)?;
            if summary.cases.iter().all(|case| case.runs.is_empty()) {
                bail!("nothing could be measured; the logs are in {}", self.folder.display());
            }
        }
        Ok(summary)
    }

    /// Takes out the cases that these programs do not know, and says why.
    fn leave_out(&mut self) -> anyhow::Result<Vec<String>> {
        let flags = said(&self.programs.join("loadtest"), &["run", "--help"])?;
        let settings = said(&self.programs.join("relay"), &["config"])?;
        let missing = |case: &Case| {
            let program = if case.way == Way::Floor { "--floor-bin" } else { "--relay-bin" };
            let words = ["--relay-cores", "--own-cores", program].into_iter();
            words.chain(case.way.arguments()).find(|word| match word.split_once('=') {
                Some((setting, _)) => !settings.contains(setting),
                None => word.starts_with("--") && !flags.contains(word),
            })
        };
        let left_out: Vec<_> = self
            .cases
            .iter()
            .filter_map(|case| Some(format!("{}: no {}", case.name, missing(case)?)))
            .collect();
        self.cases.retain(|case| missing(case).is_none());
        Ok(left_out)
    }

    fn run_case(&self, case: &Case, round: u32, cores: Option<&Cores>) -> anyhow::Result<Run> {
        let folder = self.folder.join(format!("round-{round}"));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let (json, log) =
            (folder.join(format!("{}.json", case.name)), folder.join(format!("{}.log", case.name)));
        // A report of an earlier receipt must not be taken for this one's.
        let _ = fs::remove_file(&json);
        let status = self
            .command_of(case, cores, &json)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .status()
            .context("loadtest")?;
        let text = fs::read_to_string(&json)
            .with_context(|| format!("no report; {} says why", log.display()))?;
        let report: Value = serde_json::from_str(&text)?;
        let warnings = report["warnings"].as_array().into_iter().flatten();
        let warnings = warnings.filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Run { round, figures: Figures::of(&report), warnings, is_clean: status.success() })
    }

    fn command_of(&self, case: &Case, cores: Option<&Cores>, json: &Path) -> Command {
        let mut command = Command::new(self.programs.join("loadtest"));
        command.arg("run").args(["--calls", &case.calls.to_string()]);
        command.args(["--duration", &self.seconds.to_string()]);
        match case.way {
            Way::Floor => command.arg("--floor-bin").arg(self.programs.join("floor")),
            Way::PassThrough
            | Way::BatchedWrites
            | Way::BatchedReads
            | Way::Tls
            | Way::Transcoded
            | Way::OneShard
            | Way::TwoShards => command.arg("--relay-bin").arg(self.programs.join("relay")),
        };
        if let Some(cores) = cores {
            let cores = of_way(cores, case.way);
            command.args(["--relay-cores", &cores.relay, "--own-cores", &cores.own]);
        }
        command.args(case.way.arguments()).arg("--json").arg(json);
        command
    }

    fn keep(&self, summary: &Summary) -> anyhow::Result<()> {
        let path = self.folder.join("summary.json");
        fs::write(&path, serde_json::to_string_pretty(summary)? + "\n")
            .with_context(|| path.display().to_string())
    }
}

/// One core for what is under load, the others for the load test; nothing is pinned when there is
/// only one.
fn cores(all: usize) -> Option<Cores> {
    let own = match all {
        0 | 1 => return None,
        2 => "1".to_owned(),
        more => format!("1-{}", more - 1),
    };
    Some(Cores { relay: "0".to_owned(), own })
}

/// Shards are compared on two cores, both times the same ones; a small machine shares them with the
/// load test.
fn of_way(cores: &Cores, way: Way) -> Cores {
    match way {
        Way::Floor
        | Way::PassThrough
        | Way::BatchedWrites
        | Way::BatchedReads
        | Way::Tls
        | Way::Transcoded => cores.clone(),
        Way::OneShard | Way::TwoShards => {
            let own = match cores.own.strip_prefix("1-") {
                Some(last) => format!("2-{last}"),
                None => "0,1".to_owned(),
            };
            Cores { relay: "0,1".to_owned(), own }
        }
    }
}

/// One run in a line.
fn told(run: &Run) -> String {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let Figures { cpu_ms, up_p99_ms, down_p99_ms, .. } = run.figures;
    let mut line = format!(
        "{} ms a call and second, p99 up {} down {} ms",
        figure(cpu_ms),
        figure(up_p99_ms),
        figure(down_p99_ms)
    );
    if !run.is_clean {
        line.push_str(", NOT CLEAN");
    }
    if !run.warnings.is_empty() {
        line.push_str(", with warnings");
    }
    line
}

fn said(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| program.display().to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(all: usize, way: Way) -> (String, String) {
        let cores = of_way(&cores(all).unwrap(), way);
        (cores.relay, cores.own)
    }

    #[test]
    fn the_load_test_has_cores_of_its_own_where_there_are_any() {
        assert_eq!(cores(1), None);
        assert_eq!(pinned(2, Way::Floor), ("0".into(), "1".into()));
        assert_eq!(pinned(8, Way::Tls), ("0".into(), "1-7".into()));
        assert_eq!(pinned(2, Way::TwoShards), ("0,1".into(), "0,1".into()));
        assert_eq!(pinned(8, Way::OneShard), ("0,1".into(), "2-7".into()));
    }
}

//! `receipt`: runs the figures, and makes README's table of them.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use receipt::cases;
use receipt::rounds::Plan;
use receipt::summary::Summary;
use receipt::table;

/// What one node carries: measured beside the floor, round by round.
#[derive(Parser)]
#[command(name = "receipt", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs all cases in every round, and writes `summary.json` and `summary.md`.
    Run(Run),
    /// Shows a `summary.json` as a table.
    Table {
        /// The file.
        summary: PathBuf,
    },
    /// Puts the table of the newest `bench/results/*-receipt.json` into README.
    Readme,
}

#[derive(clap::Args)]
struct Run {
    /// How many rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// The sizes on one core, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 700])]
    calls: Vec<u32>,
    /// The size at which shards are compared.
    #[arg(long, default_value_t = 600)]
    shard_calls: u32,
    /// Two rounds of 5 s with 20 calls: tries the receipt out, its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Only these cases: names, or beginnings of names, separated by commas (floor,pass-200).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The folder of loadtest, relay and floor; this program's own when not given.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Where reports, logs and the summary go.
    #[arg(long, default_value = "target/receipt")]
    folder: PathBuf,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Run(run) => run.all(),
        Task::Table { summary } => {
            let text = fs::read_to_string(&summary).context("the summary")?;
            print!("{}", table::whole(&serde_json::from_str::<Summary>(&text)?));
            Ok(())
        }
        Task::Readme => readme(),
    }
}

impl Run {
    fn all(self) -> anyhow::Result<()> {
        let programs = match self.programs {
            Some(folder) => folder,
            None => std::env::current_exe()?.with_file_name(""),
        };
        let (mut cases, rounds, seconds) = if self.quick {
            (cases::all(&[20], 20), 2, 5)
        } else {
            (cases::all(&self.calls, self.shard_calls), self.rounds, self.seconds)
        };
        cases.retain(|case| {
            self.only.is_empty() || self.only.iter().any(|begin| case.name.starts_with(begin))
        });
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        let folder = self.folder;
        let plan = Plan {
            programs,
            folder: folder.clone(),
            cases,
            rounds,
            seconds,
            command: format!("receipt {command}"),
        };
        let summary = plan.run(|line| println!("receipt: {line}"))?;
        let text = table::whole(&summary);
        fs::write(folder.join("summary.md"), &text)?;
        println!("\n{text}\nAll of it: {}", folder.display());
        Ok(())
    }
}

fn readme() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("README.md");
    let document = fs::read_to_string(&path).context("README.md")?;
    let table = table::of_results(&root.join("bench/results"))?;
    let new = table::put(&document, &table)
        .with_context(|| format!("README.md has no {} and {}", table::BEGIN, table::END))?;
    fs::write(&path, new).context("README.md")
}

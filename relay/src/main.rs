//! The relay's process: settings, logging, the house runtime, exit codes.

use std::io::{IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use relay::clock::Clock;
use relay::config::{self, Config, LogFormat, Logging};
use relay::{doctor, metrics, server};
use tokio::task::LocalSet;

// The feature is for comparing (`bench/results/README.md`): it changes nothing else.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Media relay for voice AI: bridges carriers' streams to speech models. Set by its environment.
#[derive(Parser)]
#[command(name = "relay", version)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Explains every setting of the environment.
    Config,
    /// Explains every metric.
    Metrics,
    /// Looks for what would keep this node from serving, and says what to do. Changes nothing.
    Doctor {
        /// Writes the findings as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().task {
        Some(Task::Config) => print(&config::settings::page()),
        Some(Task::Metrics) => print(&metrics::table::page()),
        Some(Task::Doctor { json }) => doctor(json),
        None => serve(),
    }
}

/// Exit code 1 when calls would fail.
fn doctor(json: bool) -> ExitCode {
    let environment = config::environment();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = match runtime {
        Ok(runtime) => {
            let report = runtime.block_on(doctor::examine(&environment));
            // A name that is still being looked up must not hold the process.
            runtime.shutdown_background();
            report
        }
        Err(error) => link::finding::Report::of_nothing(&error),
    };
    print(&if json { report.json() } else { report.text() });
    if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stderr, reason = "before the log exists")]
fn serve() -> ExitCode {
    let environment = config::environment();
    let (config, logging) = match config::read(&environment) {
        Ok(read) => read,
        Err(mistakes) => {
            eprint!("{mistakes}");
            return ExitCode::from(config::EXIT_USAGE);
        }
    };
    start_log(logging);
    std::panic::set_hook(Box::new(log_panic));
    for name in config::unknown(&environment) {
        tracing::warn!(name, "there is no such setting; `relay config` lists all");
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the relay cannot serve");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = async {
        let clock = Clock::start();
        server::run(config, clock, |listening| {
            let (public, admin) = (listening.public, listening.admin);
            let _ = print(&format!("relay listening public={public} admin={admin}\n"));
        })
        .await
    };
    LocalSet::new().block_on(&runtime, serve)?;
    // A name look-up that hangs must not hold the process.
    runtime.shutdown_background();
    Ok(())
}

/// Logs go to standard error; standard output has one line, which scripts wait for.
fn start_log(logging: Logging) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(logging.filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match logging.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Says where a task panicked and not with which words: they may hold what a caller said.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, thread = std::thread::current().name(), "a task panicked");
}

/// Writes to standard output; a reader that has gone is no reason to fail.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

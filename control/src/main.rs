//! Control's process: settings, logging, the runtime, exit codes.

use std::io::{IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use control::config::{self, Config, Door, Environment, LogFormat, Logging, Mistakes};
use control::operator::{self, KeyTask, NodeTask, SigningTask, TenantTask};
use control::{doctor, metrics, server};
use link::finding::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Control plane for voice AI: starts calls, answers the carrier, keeps state, tells events. Set
/// by its environment.
#[derive(Parser)]
#[command(name = "control", version)]
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
    /// Looks for what would keep calls from coming up, says what to do, and prints the addresses for
    /// the carrier's console. Changes nothing.
    Doctor {
        /// Writes the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the line that lets relays join; needs the settings of the database and the link.
    JoinToken,
    /// Makes, lists and changes tenants; needs the settings of the database.
    #[command(subcommand)]
    Tenant(TenantTask),
    /// Makes, lists and revokes API keys; needs the settings of the database.
    #[command(subcommand)]
    Key(KeyTask),
    /// Revokes relays and lets them in again; needs the settings of the database.
    #[command(subcommand)]
    Node(NodeTask),
    /// Lists the keys that tokens are signed with, and changes them at once after a leak; needs the
    /// settings of the database.
    #[command(subcommand)]
    SigningKey(SigningTask),
}

fn main() -> ExitCode {
    match Arguments::parse().task {
        Some(Task::Config) => print(&config::settings::page()),
        Some(Task::Metrics) => print(&metrics::page()),
        Some(Task::Doctor { json }) => doctor(json),
        Some(Task::JoinToken) => at_the_door(config::read_door, async |door: &Door| {
            let token = server::join_token(door).await?;
            Ok(format!("{}\n", token.reveal()))
        }),
        Some(Task::Tenant(task)) => at_the_door(config::read_store, async move |door: &Door| {
            operator::tenants(door, task).await
        }),
        Some(Task::Key(task)) => at_the_door(config::read_store, async move |door: &Door| {
            operator::keys(door, task).await
        }),
        Some(Task::Node(task)) => at_the_door(config::read_store, async move |door: &Door| {
            operator::nodes(door, task).await
        }),
        Some(Task::SigningKey(task)) => {
            at_the_door(config::read_store, async move |door: &Door| {
                operator::signing_keys(door, task).await
            })
        }
        None => serve(),
    }
}

fn serve() -> ExitCode {
    let environment = config::environment();
    let (config, logging) = match config::read(&environment) {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
    };
    // From here on everything is logged; what came before went to standard error as text.
    start_log(logging);
    // After the log: the hook writes there.
    std::panic::set_hook(Box::new(log_panic));
    for name in config::unknown(&environment) {
        tracing::warn!(name, "there is no such setting; `control config` lists all");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "control cannot serve");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = runtime()?;
    runtime.block_on(server::run(config, |listening| {
        let server::Listening { http, admin, link } = listening;
        print(&format!("control listening http={http} admin={admin} link={link}\n"));
    }))?;
    // A name look-up that hangs must not hold the process.
    runtime.shutdown_background();
    Ok(())
}

/// Exit code 1 when calls would fail.
fn doctor(json: bool) -> ExitCode {
    let environment = config::environment();
    let report = match runtime() {
        Ok(runtime) => {
            let report = runtime.block_on(doctor::examine(&environment));
            // A name that is still being looked up must not hold the process.
            runtime.shutdown_background();
            report
        }
        Err(error) => Report::of_nothing(&error),
    };
    print(&if json { report.json() } else { report.text() });
    if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does something that needs the database and nothing else, and prints what came of it.
#[expect(clippy::print_stderr, reason = "there is no log in a command")]
fn at_the_door(
    read: impl FnOnce(&Environment) -> Result<Door, Mistakes>,
    task: impl AsyncFnOnce(&Door) -> anyhow::Result<String>,
) -> ExitCode {
    let door = match read(&config::environment()) {
        Ok(door) => door,
        Err(mistakes) => return refuse(&mistakes),
    };
    let done =
        runtime().map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(task(&door)));
    match done {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "before the log exists")]
fn refuse(mistakes: &Mistakes) -> ExitCode {
    eprint!("{mistakes}");
    ExitCode::from(config::EXIT_USAGE)
}

/// One thread: the work is waiting, and the database has threads of its own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
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
    tracing::error!(place, "a task panicked");
}

/// Writes to standard output; a reader that has gone is no reason to fail.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

//! Many calls against one relay: what it adds to the delay each way, what it loses, what it costs.
//!
//! Callers and fake models live in this process, so one clock times both ends. Every 20 ms of
//! audio is recognised (`stamp`) and checked. `callers` and `models` are the threads,
//! `caller` and `model` what each connection does, `report` what is said at the end.

mod board;
mod caller;
mod callers;
mod measured;
mod model;
mod models;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod report;
mod stamp;
pub(crate) mod tickets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use link::id::NodeId;

use self::board::{Board, Phase};
use self::callers::{Callers, Plan};
use self::measured::Figures;
use self::models::Models;
use self::process::usage;
use self::relay::{Greets, Relay};
use self::report::{Readings, Report};
use self::tickets::Tickets;
use crate::demo::Audio;

/// How the load test is run.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// How many calls at once.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    calls: u32,
    /// For how long they are measured, in seconds; coming up takes a second for 100 calls more.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// The audio format between relay and model.
    #[arg(long, value_enum, default_value_t = Audio::Mulaw)]
    audio: Audio,
    /// Lets the agent speak first, and measures how long that takes (mu-law only).
    #[arg(long)]
    greeting: bool,
    /// The relay binary; the one beside this one when not given.
    #[arg(long, value_name = "PATH", conflicts_with = "relay")]
    relay_bin: Option<PathBuf>,
    /// A relay that runs already (ws://ADDRESS); needs --signing-key, --pid and --model-listen.
    #[arg(long, value_name = "URL", requires_all = ["signing_key", "pid", "model_listen"])]
    relay: Option<String>,
    /// The key that the running relay's tickets are signed with.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// The running relay's process.
    #[arg(long)]
    pid: Option<u32>,
    /// Where the fake model listens, as the running relay's agent file says.
    #[arg(long, value_name = "ADDRESS")]
    model_listen: Option<SocketAddr>,
    /// The relay's node name.
    #[arg(long, default_value = "load-1")]
    node: String,
    /// Writes the report as JSON into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the load test; the exit code says whether anything was lost.
///
/// # Errors
/// When something could not be started.
#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    if args.greeting && (args.audio != Audio::Mulaw || args.relay.is_some()) {
        anyhow::bail!("--greeting needs --audio mulaw and a relay of its own");
    }
    let files = crate::system::raise_files_limit();
    let needed = u64::from(args.calls) * 2 + 100;
    if files.is_some_and(|files| files < needed) {
        anyhow::bail!("{needed} open files are needed: ulimit -n {needed}");
    }
    let board = Arc::new(Board::new(args.calls));
    let node = NodeId::new(args.node.as_str())?;
    let tickets = Arc::new(match &args.signing_key {
        Some(path) => Tickets::read(path, node)?,
        None => Tickets::generate(node)?,
    });
    let threads = threads();
    let listen = args.model_listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
    let models = Models::start(&board, args.audio, listen, threads)?;
    let mut relay = relay(args, &tickets, models.address)?;
    let idle = usage(relay.pid)?;
    let ramp = Duration::from_millis(u64::from(args.calls) * 10).max(Duration::from_secs(1));
    let plan = Plan {
        relay: relay.address,
        tickets,
        audio: args.audio,
        calls: args.calls,
        ramp,
        greeted: args.greeting,
    };
    println!("{} calls come up over {} s ...", args.calls, ramp.as_secs());
    let callers = Callers::start(&board, &plan, u32::try_from(threads)?)?;
    std::thread::sleep(ramp + SETTLE);
    println!("measuring for {} s ...", args.duration);
    board.set_phase(Phase::Measure);
    let began = usage(relay.pid).context("the relay is gone")?;
    let own_began = usage(std::process::id())?;
    std::thread::sleep(Duration::from_secs(args.duration));
    let ended = usage(relay.pid).context("the relay is gone")?;
    let own_cpu_seconds = usage(std::process::id())?.cpu_seconds - own_began.cpu_seconds;
    board.set_phase(Phase::Tail);
    std::thread::sleep(TAIL);
    board.set_phase(Phase::Stop);
    let mut figures = Figures::new();
    callers.finish(&mut figures)?;
    board.set_phase(Phase::Gone);
    models.finish(&mut figures)?;
    let seconds = Duration::from_secs(args.duration).as_secs_f64();
    let readings = Readings { idle, began, ended, own_cpu_seconds };
    let report = Report::new((args.calls, seconds, args.audio.as_str()), &figures, readings);
    println!("\n{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
        println!("written: {}", path.display());
    }
    if report.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", relay.log());
    println!("FAILED: frames or calls were lost");
    Ok(ExitCode::FAILURE)
}

/// Half of the cores for callers and models, one thread of each at least; the other half is the
/// relay's.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    (cores / 4).clamp(1, 8)
}

/// The relay under test: the one that runs already, or one of our own.
fn relay(args: &RunArgs, tickets: &Tickets, model: SocketAddr) -> anyhow::Result<Relay> {
    if let (Some(url), Some(pid)) = (&args.relay, args.pid) {
        let address = url.trim_start_matches("ws://").trim_end_matches('/');
        let address = address.parse().with_context(|| format!("`{url}` is no ws://IP:PORT"))?;
        return Ok(Relay::running(address, pid));
    }
    let program = match &args.relay_bin {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("relay"),
    };
    let greets = if args.greeting { Greets::First } else { Greets::Never };
    Relay::start(&program, tickets, &relay::agent_file(model, args.audio, greets), "warn")
}

/// From the last call's start until everything is as it stays.
const SETTLE: Duration = Duration::from_secs(3);

/// What was sent last has this long to arrive.
const TAIL: Duration = Duration::from_secs(1);

//! Calls whose model is cut off again and again, at random moments and in every way in which
//! connections end (`--scene cuts`; the other scenes are in `fleet`). Each call must go on to its
//! planned end; each session that takes over must be told every turn that was finished before;
//! nobody is greeted twice; no socket stays open.
//!
//! The relay is a process of its own; the fake model, the proxy in front of it and the fake
//! carrier are in this one, so that one clock times everything. `stage` sets it up, `cutter` cuts,
//! `call` is one caller, `judge` compares what was heard with what sessions were told.

mod call;
mod cutter;
mod judge;
mod report;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::task::JoinSet;

use self::call::CallSeen;
use self::cutter::Cutter;
use self::report::Report;
use self::stage::Stage;
use crate::clock::Stopwatch;
use crate::fleet::{self, FleetArgs, Load, Scene};

/// How the chaos is made.
#[derive(Debug, Clone, Args)]
pub struct ChaosArgs {
    /// Of `cuts`: how many times a model's connection is cut, over all calls.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cuts: u32,
    /// How many calls at once.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=500))]
    calls: u32,
    /// What chance is drawn from: the same seed cuts in the same ways.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of `cuts`: from one cut of a call to the next, in milliseconds on average.
    #[arg(long, default_value_t = 5_000)]
    every_ms: u64,
    /// Of `cuts`: how many of a hundred are black holes: few, because each is noticed late.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100))]
    holes: u32,
    /// Of `cuts`: the relay binary; the one beside this one when not given.
    #[arg(long, value_name = "PATH")]
    relay_bin: Option<PathBuf>,
    /// Writes the report as JSON into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Makes chaos; the exit code says whether every call came through it.
///
/// # Errors
/// When something could not be started, or does not come to an end.
#[expect(clippy::print_stdout, reason = "progress and the report are for whoever runs it")]
pub async fn run(args: ChaosArgs) -> anyhow::Result<ExitCode> {
    crate::system::raise_files_limit();
    if args.fleet.scene != Scene::Cuts {
        let load = Load { calls: args.calls, seed: args.seed, json: args.json.as_ref() };
        return fleet::run(&args.fleet, load).await;
    }
    let mut stage = Stage::start(args.relay_bin.as_deref(), args.calls).await?;
    let sockets_before = stage.relay_sockets()?;
    println!("{} calls, {} cuts, seed {}", args.calls, args.cuts, args.seed);
    let stage_ref = Arc::new(stage.fakes()?);
    let enough = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for slot in 0..args.calls {
        callers.spawn(call::one_after_the_other(slot, Arc::clone(&stage_ref), Arc::clone(&enough)));
    }
    let clock = Stopwatch::start();
    let mut cutter = Cutter::new(&args);
    let cut = cutter.cut_until_enough(&stage_ref, |cuts| {
        println!(
            "{:>5} s  {cuts:>5} cuts  {:>4} sessions",
            clock.millis() / 1_000,
            stage_ref.sessions()
        );
    });
    let mut interrupted = std::pin::pin!(crate::cli::stopped());
    tokio::select! {
        () = cut => {}
        _ = &mut interrupted => anyhow::bail!("interrupted"),
    }
    enough.store(true, Ordering::SeqCst);
    println!("{:>5} s  enough; the calls come to their ends", clock.millis() / 1_000);
    let mut calls: Vec<CallSeen> = Vec::new();
    let end = async {
        while let Some(theirs) = callers.join_next().await {
            calls.extend(theirs.context("a caller panicked")??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LAST_CALLS, end).await.context("the calls do not come to an end")??;
    let closed = stage.all_closed(&stage_ref, sockets_before).await;
    let report = Report::new(&args, &calls, &stage_ref, cutter.struck(), closed, clock.millis());
    println!("\n{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
        println!("written: {}", path.display());
    }
    if report.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", stage.relay_log());
    println!("FAILED: seed {}", args.seed);
    Ok(ExitCode::FAILURE)
}

/// A call is planned for less than a minute; a model in a black hole costs it as long again.
const LAST_CALLS: Duration = Duration::from_secs(240);

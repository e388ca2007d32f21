//! `loadtest events`: what control does with events, from relays that only pretend to have calls to
//! readers that count.
//!
//! Everything is real but the relays: control's own binary, one or two of it, on a PostgreSQL of the
//! machine that is made for the occasion, QUIC links, SSE over TCP. Each event says in its own text
//! which of its call's it is and when it was made; so readers check by themselves that nothing is
//! lost, doubled or out of order, and how late it is.
//!
//! `relay.rs` speaks the link, `reader.rs` reads streams, `scenes.rs` says what is played.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

mod cluster;
mod control;
mod reader;
mod relay;
mod scenes;
mod stage;

/// What `loadtest events` may be told.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// What is played, in this order; everything when nothing is named.
    #[arg(value_enum)]
    scenes: Vec<Scene>,
    /// Where the `control` binary is; beside this one when not given.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Events a second, where the scene says nothing else.
    #[arg(long)]
    rate: Option<u64>,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Readers, where the scene says nothing else.
    #[arg(long)]
    readers: Option<usize>,
    /// What readers' deaths are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the figures into this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scene {
    /// 10,000 events a second, 50 readers of a call each: how late are they?
    Latency,
    /// 2,000 readers of everything, 20,000 deliveries a second in all.
    Clients,
    /// 2,000 events a second while the database is away for 30 seconds.
    Outage,
    /// Two controls, killed ten times in all, under readers that die at random.
    Kills,
    /// 100,000 events that a reader has missed.
    Replay,
    /// The memory of a control that does nothing.
    Idle,
}

/// Plays the scenes and says how each went; the exit code says whether every promise was kept.
///
/// # Errors
/// When a process or the database does not come up.
pub(crate) async fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    crate::system::raise_files_limit();
    let all = Scene::value_variants().to_vec();
    let wanted = if args.scenes.is_empty() { all } else { args.scenes.clone() };
    let mut figures = Vec::new();
    for scene in wanted {
        figures.push(scenes::play(scene, &args).await?);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    let kept = figures.iter().all(scenes::Figures::are_kept);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

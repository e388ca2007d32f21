//! `loadtest events`: what control does with events, from relays that only pretend to have calls to
//! readers that count; and how fast it answers the carrier.
//!
//! Everything is real but the relays: control's own binary, one or two of it, on a PostgreSQL of the
//! machine that is made for the occasion, QUIC links, SSE over TCP. Each event says in its own text
//! which of its call's it is and when it was made; so readers check by themselves that nothing is
//! lost, doubled or out of order, and how late it is.
//!
//! `relay.rs` speaks the link, `reader.rs` reads streams, `webhook.rs` asks as the carrier does,
//! `scenes.rs` says what is played.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::figures::Record;
use crate::report;

pub(crate) mod cluster;
pub(crate) mod control;
mod figures;
mod reader;
mod relay;
mod scenes;
mod stage;
mod webhook;

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
    /// Seconds that are measured; 30, or 3 with --quick.
    #[arg(long)]
    seconds: Option<u64>,
    /// A small part of each scene, judged by whether everything came and not by how late.
    #[arg(long)]
    quick: bool,
    /// Readers, where the scene says nothing else.
    #[arg(long)]
    readers: Option<usize>,
    /// What readers' deaths are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the figures into this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a table of them into this file as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
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
    /// 200 voice webhooks a second, each about a new call: how late is the answer?
    Webhook,
}

/// Plays the scenes and says how each went; the exit code says whether every promise was kept.
///
/// # Errors
/// When the figures cannot be written.
pub(crate) async fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    crate::system::raise_files_limit();
    let all = Scene::value_variants().to_vec();
    let wanted = if args.scenes.is_empty() { all } else { args.scenes.clone() };
    let mut record = Record::begin();
    for scene in wanted {
        let figures = scenes::play(scene, &args).await;
        figures.print();
        record.add(figures);
    }
    if let Some(path) = &args.json {
        report::write(path, &(serde_json::to_string_pretty(&record)? + "\n"))?;
    }
    if let Some(path) = &args.markdown {
        report::write(path, &record.markdown())?;
    }
    Ok(if record.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

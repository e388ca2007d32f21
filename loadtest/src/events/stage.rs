//! What a scene is played on: a database, controls, relays that make events at a rate, readers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::EventsArgs;
use super::cluster::Cluster;
use super::control::{Control, places};
use super::reader::{Board, Plan, Reader};
use super::relay::Relay;
use crate::clock::Stopwatch;

/// Who plays beside the readers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cast {
    /// Controls, on one database.
    pub(super) controls: usize,
    /// Relays that share the events.
    pub(super) relays: usize,
}

impl Cast {
    /// So many controls, and the relays that most scenes have.
    pub(super) fn controls(controls: usize) -> Self {
        Self { controls, relays: RELAYS }
    }
}

/// Everything. Dropped, everything ends.
pub(super) struct Stage {
    /// The controls' places.
    pub(super) controls: Vec<Control>,
    /// What readers write down.
    pub(super) board: Arc<Board>,
    /// The database.
    pub(super) cluster: Cluster,
    relays: Arc<Vec<Relay>>,
    readers: JoinSet<()>,
    makers: JoinSet<()>,
    made: Arc<AtomicU64>,
    folder: PathBuf,
}

impl Stage {
    /// A fresh database, controls that serve, and relays that join them.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub(super) async fn start(args: &EventsArgs, cast: Cast) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("linecard-controls-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let program = match &args.bin_dir {
            Some(folder) => folder.join("control"),
            None => std::env::current_exe()?.with_file_name("control"),
        };
        if !program.exists() {
            bail!("{} is missing; build it, or say where it is with --bin-dir", program.display());
        }
        let cluster = Cluster::start().await?;
        let mut controls = places(&program, &folder, &cluster.url(), cast.controls)?;
        for control in &mut controls {
            control.start().await?;
        }
        cluster.execute(MAKE_CALLS).await?;
        let token = controls[0].join_token()?;
        let relays: Vec<Relay> = (0..cast.relays)
            .map(|number| Relay::start(number, token.clone()))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            controls,
            board: Board::new(),
            cluster,
            relays: Arc::new(relays),
            readers: JoinSet::new(),
            makers: JoinSet::new(),
            made: Arc::default(),
            folder,
        })
    }

    /// Where controls serve streams.
    pub(super) fn http(&self) -> Vec<std::net::SocketAddr> {
        self.controls.iter().map(|control| control.http).collect()
    }

    /// Lets a reader begin; its count.
    pub(super) fn read(&mut self, plan: Plan) -> watch::Receiver<u64> {
        let (reader, count) = Reader::new(plan, Arc::clone(&self.board));
        self.readers.spawn(reader.run());
        count
    }

    /// Makes events at a rate until [`Self::pause`].
    pub(super) fn make(&mut self, rate: u64) {
        let (relays, made) = (Arc::clone(&self.relays), Arc::clone(&self.made));
        let names: Vec<String> = (0..CALLS).map(|call| format!("c{call}")).collect();
        self.makers.spawn(async move {
            let (watch, before) = (Stopwatch::start(), made.load(Ordering::Relaxed));
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let due = before + watch.micros() * rate / 1_000_000;
                for event in made.load(Ordering::Relaxed)..due {
                    let (call, count) = (event % CALLS, event / CALLS + 1);
                    // A call stays on its relay.
                    let relay = &relays[(call % relays.len() as u64) as usize];
                    relay.note(&names[call as usize], count);
                }
                made.store(due, Ordering::Relaxed);
                relays.iter().for_each(Relay::send);
            }
        });
    }

    /// Makes no more events; how many were made.
    pub(super) async fn pause(&mut self) -> u64 {
        self.makers.shutdown().await;
        self.made.load(Ordering::Relaxed)
    }

    /// Events that relays have and control has not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.relays.iter().map(Relay::waiting).sum()
    }

    /// Waits until every relay has been let in.
    ///
    /// # Errors
    /// When that takes longer than a control needs to come up.
    pub(super) async fn until_joined(&self) -> anyhow::Result<()> {
        let watch = Stopwatch::start();
        while !self.relays.iter().all(Relay::is_in) {
            if watch.millis() > JOIN_MS_MAX {
                let log: Vec<String> = self.controls.iter().map(Control::log).collect();
                bail!("a relay is not let in; control says:\n{}", log.join("\n"));
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    /// Lets time pass; the longest that an event waited meanwhile to be acknowledged, in seconds.
    pub(super) async fn watch(&self, time: Duration) -> f64 {
        let (watch, mut longest) = (Stopwatch::start(), 0);
        while u128::from(watch.micros()) < time.as_micros() {
            let oldest = self.relays.iter().map(Relay::oldest_us).max();
            longest = longest.max(oldest.unwrap_or(0));
            tokio::time::sleep(TICK).await;
        }
        longest as f64 / 1_000_000.0
    }

    /// Waits until there are no more than so many of them.
    ///
    /// # Errors
    /// When that takes longer than it may.
    pub(super) async fn until_waiting(&self, most: usize, within: Duration) -> anyhow::Result<f64> {
        let watch = Stopwatch::start();
        while self.waiting() > most {
            if watch.millis() > u64::try_from(within.as_millis()).unwrap_or(u64::MAX) {
                let log: Vec<String> = self.controls.iter().map(Control::log).collect();
                bail!("{} events still wait; control says:\n{}", self.waiting(), log.join("\n"));
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(watch.micros() as f64 / 1_000_000.0)
    }

    /// Whether something must not have happened and did, in words.
    pub(super) fn faults(&self) -> Vec<String> {
        self.board.faults()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Before the database, which its own drop ends: each control is killed with its handle.
        self.controls.clear();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits until a reader has got so many.
///
/// # Errors
/// When that takes longer than it may.
pub(super) async fn until(
    count: &mut watch::Receiver<u64>,
    total: u64,
    within: Duration,
) -> anyhow::Result<f64> {
    let watch = Stopwatch::start();
    let reached = tokio::time::timeout(within, count.wait_for(|count| *count >= total));
    let is_in_time = match reached.await {
        Ok(reached) => reached.map(drop).context("a reader has gone").map(|()| true)?,
        Err(_) => false,
    };
    if !is_in_time {
        bail!("a reader got {} of {total} events in time", *count.borrow());
    }
    Ok(watch.micros() as f64 / 1_000_000.0)
}

/// Relays in most scenes.
const RELAYS: usize = 4;

/// Calls that the events belong to.
pub(super) const CALLS: u64 = 50;

/// The calls that events belong to: control lets nobody watch one that it does not know.
const MAKE_CALLS: &str = "INSERT INTO calls (id, tenant, direction, from_number, to_number, agent, \
     agent_version, generation, state, resumes, created_us) \
     SELECT 'c' || n, 'default', 'inbound', '+15550100', '+15550101', 'front-desk', \
     1, 0, 'active', '', 0 FROM generate_series(0, 49) AS n";

/// How long relays may take to be let in.
const JOIN_MS_MAX: u64 = 20_000;

/// How often events are made.
const TICK: Duration = Duration::from_millis(5);

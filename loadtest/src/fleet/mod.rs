//! `loadtest chaos --scene kill-node` and the others: a fleet in real processes under calls that
//! talk, something that happens to it, and what became of the calls that it concerned.
//!
//! `scenes` says what is played and what was promised, `stage` sets it up of `node`s and controls
//! with ways that can be `cut`, `talk` is what is said, `acts` does it. `ledger` is what was seen of
//! each call at the carrier, `watch` what control told, `tools` what was booked; `judge` compares,
//! `report` shows.

mod acts;
mod cut;
mod judge;
mod ledger;
mod node;
mod report;
mod scenes;
mod stage;
mod talk;
mod tools;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use self::acts::Blow;
use self::judge::{CarrierTime, Evidence, judge};
use self::ledger::CallSeen;
use self::report::{Report, Setting};
use self::scenes::{NODES, Plan};
use self::stage::{Size, Stage};
use crate::carrier::{FIELD_AUDIO_DELAY, FIELD_STREAM_DELAY};
use crate::clock::Stopwatch;
use crate::model::SessionRecord;
use crate::noise::Noise;

pub(crate) use self::scenes::Scene;

/// What is played on a fleet.
#[derive(Debug, Clone, Args)]
pub(crate) struct FleetArgs {
    /// What is played.
    #[arg(long, value_enum, default_value_t = Scene::Cuts)]
    pub(crate) scene: Scene,
    /// Where the relay and control binaries are; beside this one when not given.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// How often it is done; once when not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    times: Option<u32>,
    /// How long something stays away, or how long `mix` goes on; the scene's own time when not
    /// given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=7_200))]
    seconds: Option<u64>,
    /// From one time to the next, in seconds.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=600))]
    pause: u64,
    /// The round trip to the model's service, in milliseconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=2_000))]
    round_trip_ms: u64,
    /// What the model's service takes to set a session up, in milliseconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    set_up_ms: u64,
    /// A setting for every relay; `{node}` in it stands for the node's name. May be given several
    /// times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = read_setting)]
    relay_env: Vec<(String, String)>,
    /// Writes the report as a page into this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// How much is played, and where it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Calls at once.
    pub(crate) calls: u32,
    /// What chance is drawn from.
    pub(crate) seed: u64,
    /// Where the report is written as JSON.
    pub(crate) json: Option<&'a PathBuf>,
}

/// Reads `NAME=VALUE`.
fn read_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl FleetArgs {
    /// Finds one of our binaries: all are built into one folder.
    fn binary(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = match &self.bin_dir {
            Some(folder) => folder.join(name),
            None => std::env::current_exe()?.with_file_name(name),
        };
        if !path.exists() {
            bail!("{} is missing; build it, or say where it is with --bin-dir", path.display());
        }
        Ok(path)
    }

    /// How the scene is played, as far as it was said otherwise.
    fn plan(&self) -> Plan {
        let mut plan = self.scene.plan();
        plan.times = self.times.unwrap_or(plan.times);
        if let Some(seconds) = self.seconds.filter(|_| self.scene != Scene::Mix) {
            plan.lasts = Duration::from_secs(seconds);
        }
        plan
    }

    /// How long a scene goes on that does one thing after the other; the others end by their count.
    fn goes_on(&self) -> Duration {
        match self.scene == Scene::Mix {
            true => Duration::from_secs(self.seconds.unwrap_or(MIX_SECONDS)),
            false => Duration::MAX,
        }
    }

    /// About how long the calls last, in seconds: from the first word to the end.
    fn seconds_max(&self, plan: &Plan, calls: u32) -> u64 {
        let acts = match self.scene == Scene::Mix {
            true => self.goes_on().as_secs() + ACT_SECONDS,
            false => u64::from(plan.times) * (plan.lasts.as_secs() + ACT_SECONDS + self.pause),
        };
        acts + u64::from(calls) * CALL_EVERY_MS / 1_000 + COME_SECONDS
    }
}

/// Plays a scene; the exit code says whether every promise was kept.
///
/// # Errors
/// When something could not be started, or does not come to an end.
#[expect(clippy::print_stdout, reason = "progress and the report are for whoever runs it")]
pub(crate) async fn run(args: &FleetArgs, load: Load<'_>) -> anyhow::Result<ExitCode> {
    let plan = args.plan();
    let name = args.scene.name();
    println!("{name}: {} calls, {NODES} relays, 2 controls, seed {}", load.calls, load.seed);
    let longest = Duration::from_secs(args.seconds_max(&plan, load.calls) + START_SECONDS);
    let mut interrupted = std::pin::pin!(crate::cli::stopped());
    let played = tokio::select! {
        played = tokio::time::timeout(longest, play(args, &plan, load)) => played,
        _ = &mut interrupted => bail!("interrupted"),
    };
    let report = played.with_context(|| format!("not over after {} s", longest.as_secs()))??;
    println!("\n{}", report.table());
    if let Some(path) = load.json {
        crate::report::write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if let Some(path) = &args.html {
        crate::report::write(path, &report.page())?;
    }
    Ok(if report.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The whole scene; whatever fails in here, what runs ends with the stage.
#[expect(clippy::print_stdout, reason = "progress is for whoever runs it")]
async fn play(args: &FleetArgs, plan: &Plan, load: Load<'_>) -> anyhow::Result<Report> {
    let clock = Stopwatch::start();
    let size = Size { nodes: NODES, nodes_first: plan.nodes_first, calls: load.calls };
    let mut stage = Stage::start(args, size).await?;
    println!("{:>5} s  the fleet is up", clock.millis() / 1_000);
    let sentences = u32::try_from(args.seconds_max(plan, load.calls) / SENTENCE_SECONDS)?;
    let mut calls = Vec::new();
    for number in 0..load.calls {
        calls.push(stage.call(number, sentences.min(SENTENCES_MAX))?);
        tokio::time::sleep(Duration::from_millis(CALL_EVERY_MS)).await;
    }
    stage.until_talking(&calls).await?;
    stage.complete().await?;
    println!("{:>5} s  everybody talks", clock.millis() / 1_000);
    let struck = strike(args, plan, load.seed, &mut stage).await;
    if let Err(error) = &struck {
        println!("{}", stage.logs());
        println!("{error:#}");
    }
    let blows = struck?;
    let report = draw_up(args, plan, load, (&stage, calls.as_slice(), clock), blows).await?;
    if !report.is_kept() {
        println!("{}", stage.logs());
    }
    Ok(report)
}

/// Does what the scene does, as often as it does it.
#[expect(clippy::print_stdout, reason = "progress is for whoever runs it")]
async fn strike(
    args: &FleetArgs,
    plan: &Plan,
    seed: u64,
    stage: &mut Stage,
) -> anyhow::Result<Vec<Blow>> {
    let clock = Stopwatch::start();
    let mut noise = Noise::seeded(seed, 0);
    let mut blows = Vec::new();
    let choices = u32::try_from(plan.acts.len())?;
    for time in 0..plan.times {
        if u128::from(clock.millis()) >= args.goes_on().as_millis() {
            break;
        }
        let act = plan.acts.get(noise.below(choices) as usize).context("a scene has acts")?;
        // In turn: the calls of one are with the others when it is the next one's turn.
        let node = usize::try_from(time)? % NODES;
        let blow = stage.strike(*act, node, plan.lasts).await?;
        let whom = blow.node.as_deref().unwrap_or("everybody");
        println!("{:>5} s  {act:?}, {whom}", clock.millis() / 1_000);
        blows.push(blow);
        tokio::time::sleep(Duration::from_secs(args.pause)).await;
        stage.stands()?;
    }
    Ok(blows)
}

/// Lets the calls end, and compares what was seen from all sides.
async fn draw_up(
    args: &FleetArgs,
    plan: &Plan,
    load: Load<'_>,
    (stage, calls, clock): (&Stage, &[String], Stopwatch),
    blows: Vec<Blow>,
) -> anyhow::Result<Report> {
    for sid in calls {
        stage.twilio.hang_up(sid).await;
    }
    let mut seen = Vec::new();
    for (number, sid) in (0..load.calls).zip(calls) {
        let over = tokio::time::timeout(ENDS_WITHIN, stage.twilio.over(sid)).await;
        let record = over.context("a call does not end")?.context("the call was placed")?;
        stage.twilio.forget(sid);
        seen.push(CallSeen::new(number, &record));
    }
    stage.watch.until_quiet().await;
    let (sessions, told) = (stage.model.sessions(), stage.watch.told());
    let effects = stage.bookings.effects();
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let evidence = Evidence {
        calls: &seen,
        sessions: &sessions,
        told: &told,
        effects: &effects,
        carrier: CarrierTime {
            stream_us: micros(FIELD_STREAM_DELAY),
            audio_us: micros(FIELD_AUDIO_DELAY),
        },
        durable_after_us: DURABLE_US + args.round_trip_ms * 1_000,
    };
    let found = judge(&evidence, &blows);
    let faults = seen.iter().flat_map(|call| {
        call.faults.iter().map(move |fault| format!("call {}: {fault}", call.number))
    });
    let setting = Setting {
        scene: args.scene.name(),
        calls: load.calls,
        seconds: clock.millis() / 1_000,
        sessions_a_second: busiest_second(&sessions, &blows),
    };
    Ok(Report::new(setting, found, blows, &plan.bounds, faults.collect()))
}

/// The most sessions that were opened within one second, from the first act on.
fn busiest_second(sessions: &[SessionRecord], blows: &[Blow]) -> u64 {
    let from_us = blows.first().map_or(0, |blow| blow.at_us);
    let mut opened: Vec<u64> = sessions.iter().map(|session| session.opened_at_us).collect();
    opened.retain(|at| *at >= from_us);
    opened.sort_unstable();
    let until = |at: u64| opened.partition_point(|other| *other < at + 1_000_000);
    let counts = opened.iter().enumerate().map(|(first, at)| until(*at) - first);
    counts.max().unwrap_or_default() as u64
}

/// From one call to the next: a carrier brings them one by one.
const CALL_EVERY_MS: u64 = 60;

/// How long calls may take until all of them talk, in seconds.
const COME_SECONDS: u64 = 100;

/// What an act takes beyond the time for which something is away, in seconds: ends, starts, a
/// drain's deadline.
const ACT_SECONDS: u64 = 50;

/// What starting everything, ending the calls and judging them may take, in seconds.
const START_SECONDS: u64 = 180;

/// Three minutes of chaos, as `make check-long` plays it.
const MIX_SECONDS: u64 = 180;

/// A sentence and its answer take longer than this, in seconds.
const SENTENCE_SECONDS: u64 = 3;

/// Sentences are held in memory: a second of speech each.
const SENTENCES_MAX: u32 = 1_000;

/// Turns that are older than this are not lost.
const DURABLE_US: u64 = 250_000;

/// How long a call may take to end once its caller has hung up.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_counts_what_an_act_caused() {
        let session = |opened_at_us| SessionRecord { opened_at_us, ..SessionRecord::default() };
        let sessions =
            [1, 2, 3, 5_000_000, 5_200_000, 5_900_000, 6_100_000, 9_000_000].map(session);
        let blow = Blow {
            act: acts::Act::KillNode,
            node: None,
            at_us: 4_000_000,
            healed_us: 0,
            newcomers: 0,
            newcomers_answered: 0,
            problem: None,
        };
        assert_eq!(busiest_second(&sessions, &[blow]), 3);
        assert_eq!(busiest_second(&[], &[]), 0);
    }

    #[test]
    fn a_setting_is_a_name_and_a_value() {
        assert_eq!(read_setting("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(read_setting("A").is_err());
    }
}

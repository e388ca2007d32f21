//! What is played, and what was promised of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::reader::{From, Plan};
use super::stage::{CALLS, Stage, until};
use super::{EventsArgs, Scene};
use crate::clock::Stopwatch;
use crate::noise::Noise;

/// How a scene went.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    scene: String,
    figures: Vec<Figure>,
    faults: Vec<String>,
}

/// One figure, and what was promised.
#[derive(Debug, Serialize)]
struct Figure {
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// `None` when nothing was.
    at_most: Option<f64>,
}

impl Figures {
    fn of(scene: &str) -> Self {
        Self { scene: scene.to_owned(), figures: Vec::new(), faults: Vec::new() }
    }

    fn say(&mut self, what: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure { what, value, unit, at_most: None });
    }

    fn promise(&mut self, what: &'static str, value: f64, unit: &'static str, at_most: f64) {
        self.figures.push(Figure { what, value, unit, at_most: Some(at_most) });
    }

    /// Whether everything that was promised is so.
    pub(super) fn are_kept(&self) -> bool {
        let is_kept = |figure: &Figure| figure.at_most.is_none_or(|most| figure.value <= most);
        self.faults.is_empty() && self.figures.iter().all(is_kept)
    }

    #[expect(clippy::print_stdout, reason = "the result of a command")]
    fn print(&self) {
        println!("{}", self.scene);
        for Figure { what, value, unit, at_most } in &self.figures {
            let promise = at_most.map(|most| format!("  (at most {most})")).unwrap_or_default();
            println!("  {what:<44} {value:>12.1} {unit}{promise}");
        }
        for fault in &self.faults {
            println!("  FAULT: {fault}");
        }
    }
}

/// Plays a scene and prints how it went.
///
/// # Errors
/// When a process does not do what every scene needs.
pub(super) async fn play(scene: Scene, args: &EventsArgs) -> anyhow::Result<Figures> {
    let figures = match scene {
        Scene::Latency => latency(args).await,
        Scene::Clients => clients(args).await,
        Scene::Outage => outage(args).await,
        Scene::Kills => kills(args).await,
        Scene::Replay => replay(args).await,
        Scene::Idle => idle(args).await,
    }?;
    figures.print();
    Ok(figures)
}

/// How late events are at the readers.
async fn latency(args: &EventsArgs) -> anyhow::Result<Figures> {
    let (rate, readers) = (args.rate.unwrap_or(10_000), args.readers.unwrap_or(50));
    let mut stage = Stage::start(args, 1).await?;
    for number in 0..readers {
        let call = Some(format!("c{}", number as u64 % CALLS));
        stage.read(plan(&stage, call, From::Now));
    }
    stage.make(rate);
    let mut figures = Figures::of("events from relay to reader, readers of a call each");
    measure(&mut stage, args, &mut figures).await?;
    figures.say("events", rate as f64, "/s");
    figures.say("readers", readers as f64, "");
    if stage.board.delivered.load(Ordering::Relaxed) == 0 {
        figures.faults.push("nothing was delivered".to_owned());
    }
    figures.promise("late, half of them", stage.board.late_ms(0.5), "ms", 50.0);
    figures.promise("late, 99 of 100", stage.board.late_ms(0.99), "ms", 250.0);
    figures.say("late, the latest", stage.board.late_ms(1.0), "ms");
    figures.faults.extend(stage.faults());
    Ok(figures)
}

/// Many readers of the same few events.
async fn clients(args: &EventsArgs) -> anyhow::Result<Figures> {
    let (rate, readers) = (args.rate.unwrap_or(10), args.readers.unwrap_or(2_000));
    let mut stage = Stage::start(args, 1).await?;
    for _ in 0..readers {
        stage.read(plan(&stage, None, From::Now));
        // As they come in life: not all in one moment.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.make(rate);
    let mut figures = Figures::of("events from relay to many readers, each of everything");
    measure(&mut stage, args, &mut figures).await?;
    figures.say("events", rate as f64, "/s");
    figures.say("readers", readers as f64, "");
    figures.say("late, half of them", stage.board.late_ms(0.5), "ms");
    figures.promise("late, 99 of 100", stage.board.late_ms(0.99), "ms", 250.0);
    figures.say("late, the latest", stage.board.late_ms(1.0), "ms");
    let connections = stage.board.connections.load(Ordering::Relaxed);
    figures.promise("connections for each reader", connections as f64 / readers as f64, "", 1.0);
    figures.faults = stage.faults();
    Ok(figures)
}

/// Warms up, measures for as long as was asked, and says what control used.
async fn measure(
    stage: &mut Stage,
    args: &EventsArgs,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    tokio::time::sleep(WARM_UP).await;
    let (before, watch) = (stage.controls[0].usage()?, Stopwatch::start());
    stage.board.measures.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    stage.board.measures.store(false, Ordering::Relaxed);
    let (after, seconds) = (stage.controls[0].usage()?, watch.micros() as f64 / 1_000_000.0);
    let delivered = stage.board.delivered.load(Ordering::Relaxed) as f64;
    figures.say("delivered", delivered / seconds, "/s");
    figures.say("control's CPU", (after.cpu_seconds - before.cpu_seconds) / seconds * 100.0, "%");
    figures.say("control's memory", after.resident_bytes as f64 / MIB, "MiB");
    figures.say("events that wait at the relays", stage.waiting() as f64, "");
    Ok(())
}

/// The database goes away and comes back.
async fn outage(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rate = args.rate.unwrap_or(2_000);
    let mut stage = Stage::start(args, 1).await?;
    let mut counts: Vec<_> = (0..args.readers.unwrap_or(5))
        .map(|_| stage.read(plan(&stage, None, From::Beginning)))
        .collect();
    stage.make(rate);
    tokio::time::sleep(WARM_UP).await;
    stage.cluster.end().await?;
    tokio::time::sleep(OUTAGE).await;
    let waiting = stage.waiting();
    stage.cluster.begin().await?;
    // Caught up: what waits is what a moment makes.
    let moment = usize::try_from(rate / 4)?;
    let caught_up = stage.until_waiting(moment, Duration::from_secs(60)).await?;
    let made = stage.pause().await;
    let mut figures = Figures::of("the database is away");
    figures.say("events", rate as f64, "/s");
    figures.say("away for", OUTAGE.as_secs_f64(), "s");
    figures.say("waited at the relays then", waiting as f64, "");
    figures.promise("caught up after", caught_up, "s", 10.0);
    stage.until_waiting(0, Duration::from_secs(10)).await?;
    for count in &mut counts {
        until(count, made, Duration::from_secs(30)).await?;
    }
    figures.say("events in all", made as f64, "");
    figures.faults = stage.faults();
    figures.faults.extend(too_many(&counts, made));
    Ok(figures)
}

/// Controls and readers die.
async fn kills(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rate = args.rate.unwrap_or(2_000);
    let mut stage = Stage::start(args, 2).await?;
    let mut counts = Vec::new();
    for number in 0..args.readers.unwrap_or(20) {
        let deaths = Some(Noise::seeded(args.seed, number as u64));
        // Half of them read one call only.
        let call = (number % 2 == 1).then(|| format!("c{}", number as u64 % CALLS));
        counts.push((call.is_some(), {
            let plan = Plan { deaths, ..plan(&stage, call, From::Beginning) };
            stage.read(plan)
        }));
    }
    // One that lives sees how long nothing came.
    let witness = plan(&stage, None, From::Beginning);
    counts.push((false, stage.read(witness)));
    stage.make(rate);
    tokio::time::sleep(WARM_UP).await;
    stage.board.measures.store(true, Ordering::Relaxed);
    let (mut noise, mut standstill) = (Noise::seeded(args.seed, u64::MAX), 0.0_f64);
    for _ in 0..KILLS {
        let which = noise.below(2) as usize;
        stage.controls[which].kill().await?;
        standstill = standstill.max(stage.watch(DOWN).await);
        stage.controls[which].start().await?;
        let up = Duration::from_millis(u64::from(1_000 + noise.below(2_000)));
        standstill = standstill.max(stage.watch(up).await);
    }
    let made = stage.pause().await;
    stage.until_waiting(0, Duration::from_secs(20)).await?;
    let mut figures = Figures::of("two controls and their readers are killed");
    figures.say("events", rate as f64, "/s");
    figures.say("controls killed", f64::from(KILLS), "times");
    for (is_of_call, count) in &mut counts {
        let total = if *is_of_call { made / CALLS } else { made };
        until(count, total, Duration::from_secs(60)).await?;
    }
    let connections = stage.board.connections.load(Ordering::Relaxed);
    figures.say("readers connected", connections as f64, "times");
    figures.say("late, the latest", stage.board.late_ms(1.0), "ms");
    figures.promise("events waited to be committed, at most", standstill, "s", 3.0);
    figures.say("events in all", made as f64, "");
    figures.faults = stage.faults();
    let of_all: Vec<_> =
        counts.into_iter().filter(|(of_call, _)| !of_call).map(|(_, count)| count).collect();
    figures.faults.extend(too_many(&of_all, made));
    Ok(figures)
}

/// A reader comes back after a long time.
async fn replay(args: &EventsArgs) -> anyhow::Result<Figures> {
    let mut stage = Stage::start(args, 1).await?;
    stage.make(20_000);
    while stage.pause().await < MISSED {
        stage.make(20_000);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let made = stage.pause().await;
    stage.until_waiting(0, Duration::from_secs(60)).await?;
    let mut count = stage.read(plan(&stage, None, From::Beginning));
    let took = until(&mut count, made, Duration::from_secs(60)).await?;
    let mut figures = Figures::of("a reader has missed many events");
    figures.say("missed", made as f64, "");
    figures.promise("had them after, for 100,000", took * MISSED as f64 / made as f64, "s", 5.0);
    figures.faults = stage.faults();
    Ok(figures)
}

/// A control that has nothing to do.
async fn idle(args: &EventsArgs) -> anyhow::Result<Figures> {
    let stage = Stage::start(args, 1).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = stage.controls[0].usage()?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let usage = stage.controls[0].usage()?;
    let mut figures = Figures::of("a control with four relays and nothing to do");
    figures.promise("memory", usage.resident_bytes as f64 / MIB, "MiB", 48.0);
    figures.say("CPU", (usage.cpu_seconds - before.cpu_seconds) * 10.0, "%");
    Ok(figures)
}

fn plan(stage: &Stage, call: Option<String>, from: From) -> Plan {
    Plan { controls: stage.http(), call, from, deaths: None }
}

/// Readers of everything that got more than there was.
fn too_many(counts: &[tokio::sync::watch::Receiver<u64>], made: u64) -> Vec<String> {
    let got = counts.iter().map(|count| *count.borrow()).filter(|count| *count > made);
    got.map(|count| format!("a reader got {count} of {made} events")).collect()
}

const WARM_UP: Duration = Duration::from_secs(3);
const OUTAGE: Duration = Duration::from_secs(30);
const KILLS: u32 = 10;
/// Longer than another control needs to take over.
const DOWN: Duration = Duration::from_secs(4);
const MISSED: u64 = 100_000;
const MIB: f64 = 1_048_576.0;

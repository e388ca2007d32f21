//! What is played, and what was promised of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::figures::Figures;
use super::reader::{From, Plan};
use super::stage::{CALLS, Cast, Stage, until};
use super::webhook::ask;
use super::{EventsArgs, Scene};
use crate::clock::Stopwatch;
use crate::noise::Noise;

/// How much of something a scene has: as it was promised, or a small part.
#[derive(Debug, Clone, Copy)]
struct Size {
    whole: u64,
    quick: u64,
}

impl EventsArgs {
    fn size(&self, size: Size) -> u64 {
        if self.quick { size.quick } else { size.whole }
    }

    /// Events a second.
    fn rate(&self, size: Size) -> u64 {
        self.rate.unwrap_or(self.size(size)).max(1)
    }

    fn readers(&self, size: Size) -> usize {
        self.readers.unwrap_or(usize::try_from(self.size(size)).unwrap_or(usize::MAX))
    }

    /// How long is measured.
    fn span(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.size(Size { whole: 30, quick: 3 })).max(1))
    }
}

/// Plays a scene. One that comes to no end is a fault of it: the others are played all the same.
pub(super) async fn play(scene: Scene, args: &EventsArgs) -> Figures {
    let played = async {
        match scene {
            Scene::Latency => latency(args).await,
            Scene::Clients => clients(args).await,
            Scene::Outage => outage(args).await,
            Scene::Kills => kills(args).await,
            Scene::Replay => replay(args).await,
            Scene::Idle => idle(args).await,
            Scene::Webhook => webhook(args).await,
        }
    };
    let within = SCENE_MAX + args.span();
    let why = match tokio::time::timeout(within, played).await {
        Ok(Ok(figures)) => return figures,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("it was not over after {} s", within.as_secs()),
    };
    Figures::broken(&format!("{scene:?}").to_lowercase(), args, why)
}

/// How late events are at the readers.
async fn latency(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rate = args.rate(Size { whole: 10_000, quick: 500 });
    let readers = args.readers(Size { whole: 50, quick: 50 });
    let mut stage = Stage::start(args, Cast::controls(1)).await?;
    for number in 0..readers {
        let call = Some(format!("c{}", number as u64 % CALLS));
        stage.read(plan(&stage, call, From::Now));
    }
    stage.make(rate);
    let mut figures = Figures::of("events from relay to reader, readers of a call each", args);
    figures.say("events", rate as f64, "/s");
    figures.say("readers", readers as f64, "");
    let wanted = rate as f64 * readers as f64 / CALLS as f64;
    measure(&mut stage, args, &mut figures, wanted).await?;
    figures.promise("late, half of them", stage.board.late_ms(0.5), "ms", 50.0);
    figures.promise("late, 99 of 100", stage.board.late_ms(0.99), "ms", 250.0);
    figures.say("late, the latest", stage.board.late_ms(1.0), "ms");
    figures.faults.extend(stage.faults());
    Ok(figures)
}

/// Many readers of the same few events.
async fn clients(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rate = args.rate(Size { whole: 10, quick: 10 });
    let readers = args.readers(Size { whole: 2_000, quick: 100 });
    let mut stage = Stage::start(args, Cast::controls(1)).await?;
    for _ in 0..readers {
        stage.read(plan(&stage, None, From::Now));
        // As they come in life: not all in one moment.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.make(rate);
    let mut figures = Figures::of("events from relay to many readers, each of everything", args);
    figures.say("events", rate as f64, "/s");
    figures.say("readers", readers as f64, "");
    measure(&mut stage, args, &mut figures, rate as f64 * readers as f64).await?;
    figures.say("late, half of them", stage.board.late_ms(0.5), "ms");
    figures.promise("late, 99 of 100", stage.board.late_ms(0.99), "ms", 250.0);
    figures.say("late, the latest", stage.board.late_ms(1.0), "ms");
    let connections = stage.board.connections.load(Ordering::Relaxed);
    figures.promise("connections for each reader", connections as f64 / readers as f64, "", 1.0);
    figures.faults.extend(stage.faults());
    Ok(figures)
}

/// Warms up, measures for as long as was asked, and says what control used and whether as much was
/// delivered a second as is wanted.
async fn measure(
    stage: &mut Stage,
    args: &EventsArgs,
    figures: &mut Figures,
    wanted: f64,
) -> anyhow::Result<()> {
    tokio::time::sleep(WARM_UP).await;
    let (before, watch) = (stage.controls[0].usage()?, Stopwatch::start());
    stage.board.measures.store(true, Ordering::Relaxed);
    tokio::time::sleep(args.span()).await;
    stage.board.measures.store(false, Ordering::Relaxed);
    let (after, seconds) = (stage.controls[0].usage()?, watch.micros() as f64 / 1_000_000.0);
    let delivered = stage.board.delivered.load(Ordering::Relaxed) as f64;
    // What is on its way at both ends of the time is a part of it.
    figures.promise_no_less("delivered", delivered / seconds, "/s", wanted * 0.95);
    if delivered == 0.0 {
        figures.faults.push("nothing was delivered".to_owned());
    }
    figures.say("control's CPU", (after.cpu_seconds - before.cpu_seconds) / seconds * 100.0, "%");
    figures.say("control's memory", after.resident_bytes as f64 / MIB, "MiB");
    figures.say("events that wait at the relays", stage.waiting() as f64, "");
    Ok(())
}

/// The database goes away and comes back.
async fn outage(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rate = args.rate(Size { whole: 2_000, quick: 200 });
    let away = Duration::from_secs(args.size(Size { whole: 30, quick: 5 }));
    let mut stage = Stage::start(args, Cast::controls(1)).await?;
    let mut counts: Vec<_> = (0..args.readers(Size { whole: 5, quick: 5 }))
        .map(|_| stage.read(plan(&stage, None, From::Beginning)))
        .collect();
    stage.make(rate);
    tokio::time::sleep(WARM_UP).await;
    stage.cluster.end().await?;
    tokio::time::sleep(away).await;
    let waiting = stage.waiting();
    stage.cluster.begin().await?;
    // Caught up: what waits is what a moment makes.
    let moment = usize::try_from(rate / 4)?;
    let caught_up = stage.until_waiting(moment, Duration::from_secs(60)).await?;
    let made = stage.pause().await;
    let mut figures = Figures::of("the database is away", args);
    figures.say("events", rate as f64, "/s");
    figures.say("away for", away.as_secs_f64(), "s");
    figures.say("waited at the relays then", waiting as f64, "");
    figures.promise("caught up after", caught_up, "s", 10.0);
    stage.until_waiting(0, Duration::from_secs(10)).await?;
    for count in &mut counts {
        until(count, made, Duration::from_secs(30)).await?;
    }
    figures.say("events in all", made as f64, "");
    figures.faults.extend(stage.faults());
    figures.faults.extend(too_many(&counts, made));
    Ok(figures)
}

/// Controls and readers die.
async fn kills(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rate = args.rate(Size { whole: 2_000, quick: 400 });
    let kills = args.size(Size { whole: 10, quick: 3 });
    let readers = args.readers(Size { whole: 20, quick: 10 });
    let mut stage = Stage::start(args, Cast::controls(2)).await?;
    let mut counts = Vec::new();
    for number in 0..readers {
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
    for _ in 0..kills {
        let which = noise.below(2) as usize;
        stage.controls[which].kill().await?;
        standstill = standstill.max(stage.watch(DOWN).await);
        stage.controls[which].start().await?;
        let up = Duration::from_millis(u64::from(1_000 + noise.below(2_000)));
        standstill = standstill.max(stage.watch(up).await);
    }
    let made = stage.pause().await;
    stage.until_waiting(0, Duration::from_secs(20)).await?;
    let mut figures = Figures::of("two controls and their readers are killed", args);
    figures.say("events", rate as f64, "/s");
    figures.say("controls killed", kills as f64, "times");
    for (is_of_call, count) in &mut counts {
        let total = if *is_of_call { made / CALLS } else { made };
        until(count, total, Duration::from_secs(60)).await?;
    }
    let connections = stage.board.connections.load(Ordering::Relaxed);
    figures.say("readers connected", connections as f64, "times");
    if connections <= readers as u64 + 1 {
        figures.faults.push("no reader died".to_owned());
    }
    figures.say("late, the latest", stage.board.late_ms(1.0), "ms");
    figures.promise("events waited to be committed, at most", standstill, "s", 3.0);
    figures.say("events in all", made as f64, "");
    figures.faults.extend(stage.faults());
    let of_all: Vec<_> =
        counts.into_iter().filter(|(of_call, _)| !of_call).map(|(_, count)| count).collect();
    figures.faults.extend(too_many(&of_all, made));
    Ok(figures)
}

/// A reader comes back after a long time.
async fn replay(args: &EventsArgs) -> anyhow::Result<Figures> {
    let missed = args.size(Size { whole: 100_000, quick: 5_000 });
    let mut stage = Stage::start(args, Cast::controls(1)).await?;
    stage.make(20_000);
    while stage.pause().await < missed {
        stage.make(20_000);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let made = stage.pause().await;
    stage.until_waiting(0, Duration::from_secs(60)).await?;
    let mut count = stage.read(plan(&stage, None, From::Beginning));
    let took = until(&mut count, made, Duration::from_secs(60)).await?;
    let mut figures = Figures::of("a reader has missed many events", args);
    figures.say("missed", made as f64, "");
    figures.promise("had them after, for 100,000", took * 100_000.0 / made as f64, "s", 5.0);
    figures.faults.extend(stage.faults());
    Ok(figures)
}

/// A control that has nothing to do.
async fn idle(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rest = Duration::from_secs(args.size(Size { whole: 10, quick: 1 }));
    let stage = Stage::start(args, Cast::controls(1)).await?;
    tokio::time::sleep(rest).await;
    let before = stage.controls[0].usage()?;
    tokio::time::sleep(rest).await;
    let usage = stage.controls[0].usage()?;
    let mut figures = Figures::of("a control with four relays and nothing to do", args);
    figures.promise("memory", usage.resident_bytes as f64 / 1e6, "MB", 48.0);
    let cpu_seconds = usage.cpu_seconds - before.cpu_seconds;
    figures.say("CPU", cpu_seconds / rest.as_secs_f64() * 100.0, "%");
    Ok(figures)
}

/// A carrier asks about new calls.
async fn webhook(args: &EventsArgs) -> anyhow::Result<Figures> {
    let rate = args.rate(Size { whole: 200, quick: 20 });
    let stage = Stage::start(args, Cast { controls: 1, relays: 1 }).await?;
    let control = stage.controls[0].http;
    stage.until_joined().await?;
    let first = ask(control, rate, WARM_UP).await?;
    let before = stage.controls[0].usage()?;
    let asked = ask(control, rate, args.span()).await?;
    let after = stage.controls[0].usage()?;
    let mut figures = Figures::of("voice webhooks about new calls, answered with a stream", args);
    figures.say("webhooks", rate as f64, "/s");
    figures.say("answered", asked.answered as f64, "");
    figures.say("answer after, half of them", asked.late_ms(0.5), "ms");
    figures.promise("answer after, 99 of 100", asked.late_ms(0.99), "ms", 20.0);
    figures.say("answer after, the latest", asked.late_ms(1.0), "ms");
    let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
    figures.say("control's CPU", cpu_seconds / args.span().as_secs_f64() * 100.0, "%");
    let calls = CALLS + first.answered + asked.answered;
    if asked.answered != rate * args.span().as_secs() {
        figures.faults.push(format!("{} were answered as they should be", asked.answered));
    }
    figures.faults.extend(first.faults.into_iter().chain(asked.faults));
    // What the relay says of each call is committed, and each question has made one call.
    stage.until_waiting(0, Duration::from_secs(10)).await?;
    if stage.cluster.execute(&there_are(calls)).await.is_err() {
        figures.faults.push(format!("the database does not hold {calls} calls"));
    }
    Ok(figures)
}

/// A statement that fails when there is another number of calls.
fn there_are(calls: u64) -> String {
    format!(
        "DO $$ BEGIN IF (SELECT count(*) FROM calls) <> {calls} THEN \
         RAISE 'another number of calls'; END IF; END $$"
    )
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
/// What a scene may take beside the time that is measured.
const SCENE_MAX: Duration = Duration::from_secs(180);
/// Longer than another control needs to take over.
const DOWN: Duration = Duration::from_secs(4);
const MIB: f64 = 1_048_576.0;

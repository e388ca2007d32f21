//! The course of one load test: everything comes up, is measured, and ends.

use std::sync::Arc;
use std::time::Duration;

use super::args::RunArgs;
use super::board::{Board, Phase};
use super::caller::Answers;
use super::callers::Plan;
use super::crew::{Crew, Start};
use super::measured::Figures;
use super::models::FarEnds;
use super::network::Network;
use super::relay::agent_name;
use super::report::{Readings, Report, Setup};
use super::scenario::{Arrival, Scenario};
use super::subject::Subject;
use crate::report::live::{Stretch, Watch};
use crate::report::series::Series;
use crate::system::{Cores, allowed_cores};

/// What a test found.
pub(crate) struct Done {
    /// The figures, drawn up.
    pub(crate) report: Report,
    /// What they are drawn from.
    pub(crate) figures: Figures,
    /// The figures over time.
    pub(crate) series: Arc<Series>,
    /// What the process under test logged.
    pub(crate) log: String,
}

/// Prepares this process: its cores, its files.
///
/// # Errors
/// When there are no such cores.
#[expect(clippy::print_stdout, reason = "a warning before a long run")]
pub(crate) fn prepare(args: &RunArgs) -> anyhow::Result<()> {
    args.own_cores.as_ref().map_or(Ok(()), Cores::pin)?;
    if let (Some(own), Some(theirs)) = (&args.own_cores, &args.relay_cores)
        && own.shares(theirs)
    {
        println!("WARNING: load test and process under test share a core");
    }
    Ok(())
}

/// Runs one test.
///
/// # Errors
/// When something could not be started, or the process under test is gone.
pub(crate) fn measure(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<Done> {
    let calls = scenario.calls();
    enough_files(calls)?;
    let processes = args.processes.min(calls);
    // With workers, only the clock and the series of this one are used.
    let board = Arc::new(Board::new(if processes == 1 { calls } else { 0 }));
    let threads = threads(args)?;
    let mut subject = Subject::prepare(args, scenario)?;
    let far_ends =
        FarEnds { speaks: subject.speaks, pace: scenario.agent, tls: subject.tls.clone() };
    let listen = subject.listen;
    let start = Start { board: &board, far_ends: &far_ends, listen, threads, processes };
    let mut crew = Crew::start(start, scenario)?;
    let mut addresses = crew.addresses();
    let network = Network::start(addresses[0], scenario)?;
    if let Some(network) = &network {
        addresses = vec![network.address];
    }
    subject.start(args, scenario, &addresses)?;
    let idle = subject.usage()?;
    let plan = Plan {
        door: subject.door()?,
        tickets: Arc::clone(&subject.tickets),
        agent: agent_name(0),
        worker: 0,
        answers: subject.answers,
        tls: subject.tls.clone(),
        scenario: Arc::new(scenario.clone()),
    };
    crew.call(&plan)?;
    let mut watch = Watch::new(&board.series, board.clock, calls, || subject.usage().ok());
    watch.pass(Stretch { name: "coming up", lasts: scenario.ramp() + settle(scenario) });
    set_phase(&board, &mut crew, Phase::Measure)?;
    let began = subject.usage()?;
    let own_began = crew.cpu_seconds()?;
    let lasts = Duration::from_secs(scenario.duration_s);
    watch.pass(Stretch { name: "measuring", lasts });
    drop(watch);
    let ended = subject.usage()?;
    let own_cpu_seconds = crew.cpu_seconds()? - own_began;
    set_phase(&board, &mut crew, Phase::Tail)?;
    std::thread::sleep(TAIL);
    let mut figures = Figures::new();
    crew.finish(&mut figures)?;
    // What belongs to calls is given back a moment after them.
    std::thread::sleep(TAIL);
    let after = subject.usage()?;
    let readings = Readings { idle, began, ended, after, own_cpu_seconds };
    let setup = Setup {
        subject: subject.name.clone(),
        calls,
        seconds: lasts.as_secs_f64(),
        audio: scenario.audio.as_str(),
        foreign: subject.answers == Answers::Foreign,
        lossy: !scenario.faults.is_empty(),
        has_process: subject.has_process(),
        own_cores: allowed_cores()?.count(),
    };
    let report = Report::new(setup, &figures, readings);
    Ok(Done { report, figures, series: Arc::clone(&board.series), log: subject.log() })
}

/// Moves everybody on. The board of this process has the series, even where others make the load.
fn set_phase(board: &Board, crew: &mut Crew, phase: Phase) -> anyhow::Result<()> {
    if matches!(crew, Crew::Apart(_)) {
        board.set_phase(phase);
    }
    crew.set_phase(phase)
}

/// Raises the limit of open files as far as it goes, and refuses where that is not enough.
fn enough_files(calls: u32) -> anyhow::Result<()> {
    let files = crate::system::raise_files_limit();
    let needed = u64::from(calls) * 2 + 100;
    if files.is_some_and(|files| files < needed) {
        anyhow::bail!("{needed} open files are needed: ulimit -n {needed}");
    }
    Ok(())
}

/// Threads of callers, and as many of models: half of the cores that are ours alone, or half of
/// half where they are shared with the process under test.
fn threads(args: &RunArgs) -> anyhow::Result<usize> {
    let cores = allowed_cores()?.count();
    let share = if args.own_cores.is_some() { 2 } else { 4 };
    Ok((cores / share).clamp(1, 8))
}

/// From the last call's start until everything is as it stays. Where calls come at a rate, they
/// are measured from the first on.
fn settle(scenario: &Scenario) -> Duration {
    match scenario.arrival {
        Arrival::Fixed { .. } => Duration::from_secs(3),
        Arrival::Rate { .. } => Duration::from_millis(100),
    }
}

/// What was sent last has this long to arrive.
const TAIL: Duration = Duration::from_secs(1);

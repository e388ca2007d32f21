//! Many calls against one relay: what it adds to the delay each way, what it loses, what it costs.
//!
//! Callers and far ends live in this process, so one clock times both ends. Every 20 ms of
//! audio is recognised (`stamp`) and checked. `subject` is what is put under load, `callers` and
//! `models` are the threads, `caller`, `model` and `streams` what each connection does, `report`
//! what is said at the end.

mod args;
mod board;
mod caller;
mod callers;
mod ear;
pub(crate) mod measured;
mod model;
mod models;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod report;
mod stamp;
mod streams;
mod subject;
pub(crate) mod tickets;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub use self::args::{FarEnd, RunArgs, SubjectArgs};

use self::board::{Board, Phase};
use self::caller::Answers;
use self::callers::{Callers, Plan};
use self::measured::Figures;
use self::models::Models;
use self::process::usage;
use self::report::{Readings, Report, Setup};
use self::subject::Subject;
use crate::report::live::{Stretch, Watch};
use crate::report::record::Opening;
use crate::system::{Cores, allowed_cores};

/// Runs the load test; the exit code says whether anything was lost.
///
/// # Errors
/// When something could not be started.
#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    let opening = Opening::now(args);
    args.own_cores.as_ref().map_or(Ok(()), Cores::pin)?;
    if let (Some(own), Some(theirs)) = (&args.own_cores, &args.relay_cores)
        && own.shares(theirs)
    {
        println!("WARNING: load test and process under test share a core");
    }
    let files = crate::system::raise_files_limit();
    let needed = u64::from(args.calls) * 2 + 100;
    if files.is_some_and(|files| files < needed) {
        anyhow::bail!("{needed} open files are needed: ulimit -n {needed}");
    }
    let board = Arc::new(Board::new(args.calls));
    let threads = threads();
    let mut subject = Subject::prepare(args)?;
    let models = Models::start(&board, subject.speaks, subject.listen, threads)?;
    subject.start(args, models.address)?;
    let idle = subject.usage()?;
    let ramp = Duration::from_millis(u64::from(args.calls) * 10).max(Duration::from_secs(1));
    let plan = Plan {
        door: subject.door()?,
        tickets: Arc::clone(&subject.tickets),
        answers: subject.answers,
        calls: args.calls,
        ramp,
        greeted: args.greeting,
    };
    let callers = Callers::start(&board, &plan, u32::try_from(threads)?)?;
    let reading = || subject.usage().ok();
    let mut watch = Watch::new(&board.series, board.clock, args.calls, reading);
    watch.pass(Stretch { name: "coming up", lasts: ramp + SETTLE });
    board.set_phase(Phase::Measure);
    let began = subject.usage()?;
    let own_began = usage(std::process::id())?;
    watch.pass(Stretch { name: "measuring", lasts: Duration::from_secs(args.duration) });
    drop(watch);
    let ended = subject.usage()?;
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
    let setup = Setup {
        subject: subject.name.clone(),
        calls: args.calls,
        seconds,
        audio: args.audio.as_str(),
        foreign: subject.answers == Answers::Foreign,
        has_process: subject.has_process(),
        own_cores: allowed_cores()?.count(),
    };
    let report = Report::new(setup, &figures, readings);
    let record = opening.close(report, &figures, &board.series);
    let verdict = args.output.tell(&record)?;
    if verdict == ExitCode::FAILURE {
        println!("{}", subject.log());
    }
    Ok(verdict)
}

/// Half of the cores for callers and models, one thread of each at least; the other half is the
/// relay's.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    (cores / 4).clamp(1, 8)
}

/// From the last call's start until everything is as it stays.
const SETTLE: Duration = Duration::from_secs(3);

/// What was sent last has this long to arrive.
const TAIL: Duration = Duration::from_secs(1);

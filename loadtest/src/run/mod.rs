//! Many calls against one relay: what it adds to the delay each way, what it loses, what it costs.
//!
//! Callers and far ends live in this process, so one clock times both ends. Every 20 ms of
//! audio is recognised (`stamp`) and checked. `scenario` is what is played, `measure` the course of
//! a test, `subject` what is put under load, `callers` and `models` are the threads, `caller`,
//! `model` and `streams` what each connection does, `report` what is said at the end.

mod args;
mod board;
mod caller;
mod callers;
mod crew;
mod ear;
mod knee;
mod lean;
mod line;
mod measure;
pub(crate) mod measured;
mod model;
mod models;
mod network;
mod pipe;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod report;
pub(crate) mod scenario;
mod stamp;
mod streams;
mod subject;
pub(crate) mod tickets;
mod tls;
mod worker;

use std::process::ExitCode;

pub use self::args::{FarEnd, RunArgs, SubjectArgs};
pub use self::knee::{KneeArgs, knee};
pub use self::worker::work;

use self::measure::{measure, prepare};
use crate::report::record::Opening;

/// Runs the load test; the exit code says whether anything was lost.
///
/// # Errors
/// When something could not be started.
#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario()?;
    let opening = Opening::now(args, &scenario);
    prepare(args)?;
    let done = measure(args, &scenario)?;
    let record = opening.close(done.report, &done.figures, &done.series);
    let verdict = args.output.tell(&record)?;
    if verdict == ExitCode::FAILURE {
        println!("{}", done.log);
    }
    Ok(verdict)
}

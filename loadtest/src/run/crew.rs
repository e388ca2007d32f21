//! Those who make the load: callers and far ends in this process, or shares of both in several.
//! Both ends of a call are always in one process, as one clock has to time both.

use std::net::SocketAddr;
use std::sync::Arc;

use super::board::{Board, Phase};
use super::callers::{Callers, Plan};
use super::measured::Figures;
use super::models::{FarEnds, Models};
use super::process::usage;
use super::relay::agent_name;
use super::worker::{CallersJob, ModelsJob, Worker};

/// Everybody.
pub(crate) enum Crew {
    /// In this process.
    Here {
        /// What both ends tell each other.
        board: Arc<Board>,
        /// The callers, once they have begun.
        callers: Option<Callers>,
        /// The far ends.
        models: Models,
        /// Threads of either.
        threads: usize,
    },
    /// In processes of their own.
    Apart(Vec<Worker>),
}

/// How far ends are started.
pub(crate) struct Start<'a> {
    /// The board of this process.
    pub(crate) board: &'a Arc<Board>,
    /// What the far ends are.
    pub(crate) far_ends: &'a FarEnds,
    /// Where they listen; one process only.
    pub(crate) listen: SocketAddr,
    /// Threads of callers, and as many of far ends, in all.
    pub(crate) threads: usize,
    /// How many processes.
    pub(crate) processes: u32,
}

impl Crew {
    /// Starts the far ends.
    ///
    /// # Errors
    /// When an address cannot be listened on, or a process not be started.
    pub(crate) fn start(
        start: Start<'_>,
        plan: &super::scenario::Scenario,
    ) -> anyhow::Result<Self> {
        let Start { board, far_ends, listen, threads, processes } = start;
        if processes == 1 {
            let models = Models::start(board, far_ends, listen, threads)?;
            return Ok(Self::Here { board: Arc::clone(board), callers: None, models, threads });
        }
        let threads = threads.div_ceil(processes as usize);
        let start = |number: u32| {
            let scenario = plan.share(number, processes);
            Worker::start(&ModelsJob::of(far_ends, scenario, threads))
        };
        Ok(Self::Apart((0..processes).map(start).collect::<anyhow::Result<_>>()?))
    }

    /// Where the far ends are.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Here { models, .. } => vec![models.address],
            Self::Apart(workers) => workers.iter().map(|worker| worker.address).collect(),
        }
    }

    /// Lets the callers begin.
    ///
    /// # Errors
    /// When a thread cannot be started, or a process is gone.
    pub(crate) fn call(&mut self, plan: &Plan) -> anyhow::Result<()> {
        match self {
            Self::Here { board, callers, threads, .. } => {
                *callers = Some(Callers::start(board, plan, u32::try_from(*threads)?)?);
            }
            Self::Apart(workers) => {
                for (number, worker) in (0..).zip(workers) {
                    let plan = Plan { agent: agent_name(number), ..plan.clone() };
                    worker.say(&CallersJob::of(&plan, number)?)?;
                }
            }
        }
        Ok(())
    }

    /// Moves on.
    ///
    /// # Errors
    /// When a process is gone.
    pub(crate) fn set_phase(&mut self, phase: Phase) -> anyhow::Result<()> {
        match self {
            Self::Here { board, .. } => board.set_phase(phase),
            Self::Apart(workers) => {
                for worker in workers {
                    worker.say(&(phase as u8))?;
                }
            }
        }
        Ok(())
    }

    /// CPU time of everybody, in seconds.
    ///
    /// # Errors
    /// When a process is gone.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut sum = usage(std::process::id())?.cpu_seconds;
        if let Self::Apart(workers) = self {
            for worker in workers {
                sum += usage(worker.pid())?.cpu_seconds;
            }
        }
        Ok(sum)
    }

    /// Lets callers hang up, then far ends go, and adds up the figures.
    ///
    /// # Errors
    /// When a thread failed, or a process is gone.
    pub(crate) fn finish(mut self, figures: &mut Figures) -> anyhow::Result<()> {
        self.set_phase(Phase::Stop)?;
        match self {
            Self::Here { board, callers, models, .. } => {
                callers.map_or(Ok(()), |callers| callers.finish(figures))?;
                board.set_phase(Phase::Gone);
                models.finish(figures)
            }
            Self::Apart(workers) => {
                for worker in workers {
                    figures.add(&worker.finish()?);
                }
                Ok(())
            }
        }
    }
}

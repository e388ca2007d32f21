//! What is kept of a receipt: every run of every case, with the machine and the command.

use serde::{Deserialize, Serialize};

use crate::cases::{Case, Way};
use crate::figures::{Figures, median};
use crate::machine::Machine;

/// A whole receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The day, as `2026-11-24`.
    pub day: String,
    /// The command, as it was typed.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// How many rounds there were.
    pub rounds: u32,
    /// How long each run was measured, in seconds.
    pub seconds: u32,
    /// The cores of what is under load, and of the load test; none when nothing was pinned.
    pub cores: Option<Cores>,
    /// What was run, in the order of the first round.
    pub cases: Vec<Measured>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Who ran on which cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cores {
    /// What is under load, where a case does not say otherwise.
    pub relay: String,
    /// Callers and fake models.
    pub own: String,
}

/// All runs of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub case: Case,
    /// One a round, in order.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which round, from 1.
    pub round: u32,
    /// What it measured.
    pub figures: Figures,
    /// What the load test said makes its figures doubtful.
    pub warnings: Vec<String>,
    /// Whether the load test was content: nothing lost, nobody unanswered.
    pub is_clean: bool,
}

/// Several runs' worth of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle.
    pub median: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of any values; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        Some(Self { least, median: median(values.iter().copied())?, most })
    }
}

impl Summary {
    /// The runs of a case.
    #[must_use]
    pub fn find(&self, way: Way, calls: u32) -> Option<&Measured> {
        self.cases.iter().find(|one| one.case.way == way && one.case.calls == calls)
    }

    /// What a case costs against another way with as many calls, round by round.
    #[must_use]
    pub fn ratio(&self, of: &Measured, to: Way) -> Option<Spread> {
        let other = self.find(to, of.case.calls)?;
        let ratio = |run: &Run| {
            let beside = other.runs.iter().find(|beside| beside.round == run.round)?;
            let (cost, floor) = (run.figures.cpu_ms?, beside.figures.cpu_ms?);
            (floor > 0.0).then(|| cost / floor)
        };
        Spread::of(&of.runs.iter().filter_map(ratio).collect::<Vec<_>>())
    }
}

impl Measured {
    /// The median of each figure.
    #[must_use]
    pub fn medians(&self) -> Figures {
        Figures::medians(&self.runs.iter().map(|run| run.figures).collect::<Vec<_>>())
    }

    /// CPU over all runs.
    #[must_use]
    pub fn cpu_ms(&self) -> Option<Spread> {
        Spread::of(&self.runs.iter().filter_map(|run| run.figures.cpu_ms).collect::<Vec<_>>())
    }
}

//! The scenes as data: what is done to a fleet, how often, for how long, and what was promised of
//! it.

use std::time::Duration;

use clap::ValueEnum;

use super::acts::Act;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scene {
    /// One relay alone; its calls' model sockets are cut again and again.
    Cuts,
    /// A relay is killed with -9: its calls go on at others.
    KillNode,
    /// A relay stands still with its sockets open: nobody is told that its calls are gone.
    Vanish,
    /// A relay is asked to end: its calls move, and it exits with 0.
    Drain,
    /// Both controls and the database are away: calls do not notice, and the number's fallback speaks
    /// to new ones.
    ControlDown,
    /// The database and one of two controls are away: new calls are answered.
    DbDown,
    /// A relay and the controls do not hear each other: its calls stay where they are.
    Partition,
    /// Every call is on one relay when it dies.
    Storm,
    /// Everything at random, for a while.
    Mix,
}

/// How a scene is played.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// What is done: one act, or one of several at random each time.
    pub(super) acts: &'static [Act],
    /// How many relays run when the calls come; the others join before anything is done.
    pub(super) nodes_first: usize,
    /// How often something is done.
    pub(super) times: u32,
    /// How long something stays away.
    pub(super) lasts: Duration,
    /// What was promised.
    pub(super) bounds: Bounds,
}

/// What was promised of the calls that a scene concerns, in milliseconds and shares; `None` where
/// nothing was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many of them live on.
    pub(super) alive_share: f64,
    /// The first sound, 99 of 100, beyond the carrier's own time.
    pub(super) sound_p99_ms: Option<f64>,
    /// The first words of the agent, half and 99 of 100, beyond the carrier's own time.
    pub(super) speech_ms: Option<(f64, f64)>,
    /// Between the streams of a call, 99 of 100, beyond the carrier's own time.
    pub(super) gap_p99_ms: Option<f64>,
    /// How many of the moves fall between sentences.
    pub(super) outside_speech_share: Option<f64>,
    /// From a node's death to the last of its calls that is open again.
    pub(super) all_back_ms: Option<f64>,
    /// How many of the calls that come meanwhile are answered.
    pub(super) newcomers_share: Option<f64>,
}

/// Nothing but that calls live on.
const ALIVE: Bounds = Bounds {
    alive_share: 0.999,
    sound_p99_ms: None,
    speech_ms: None,
    gap_p99_ms: None,
    outside_speech_share: None,
    all_back_ms: None,
    newcomers_share: None,
};

/// After a crash.
const CRASH: Bounds =
    Bounds { sound_p99_ms: Some(1_200.0), speech_ms: Some((800.0, 2_500.0)), ..ALIVE };

impl Scene {
    /// How it is played.
    pub(super) fn plan(self) -> Plan {
        let plan = |act: &'static [Act], lasts: u64, bounds: Bounds| Plan {
            acts: act,
            nodes_first: NODES,
            times: 1,
            lasts: Duration::from_secs(lasts),
            bounds,
        };
        match self {
            Self::Cuts => Plan { times: 0, ..plan(&[], 0, ALIVE) },
            Self::KillNode => plan(&[Act::KillNode], 8, CRASH),
            Self::Vanish => plan(&[Act::FreezeNode], 45, ALIVE),
            Self::Drain => {
                let moved = Bounds {
                    alive_share: 1.0,
                    gap_p99_ms: Some(400.0),
                    outside_speech_share: Some(0.95),
                    ..ALIVE
                };
                plan(&[Act::DrainNode], 0, moved)
            }
            Self::ControlDown => plan(
                &[Act::ControlDown],
                30,
                Bounds { alive_share: 1.0, newcomers_share: Some(0.99), ..ALIVE },
            ),
            Self::DbDown => {
                let answered = Bounds { alive_share: 1.0, newcomers_share: Some(0.99), ..ALIVE };
                plan(&[Act::DatabaseDown], 20, answered)
            }
            Self::Partition => plan(&[Act::Partition], 20, Bounds { alive_share: 1.0, ..ALIVE }),
            Self::Storm => {
                let back = Bounds { all_back_ms: Some(5_000.0), ..ALIVE };
                Plan { nodes_first: 1, ..plan(&[Act::KillNode], 12, back) }
            }
            Self::Mix => {
                let acts = &[
                    Act::KillNode,
                    Act::Partition,
                    Act::ControlDown,
                    Act::DatabaseDown,
                    Act::DrainNode,
                ];
                Plan { times: u32::MAX, ..plan(acts, 8, ALIVE) }
            }
        }
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Relays of a fleet: with one of them gone, the others take its calls in halves.
pub(super) const NODES: usize = 3;

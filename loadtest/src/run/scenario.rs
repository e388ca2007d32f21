//! What a load test plays: how calls come and go, how people talk, how the agent answers, what
//! goes wrong. Written down in TOML (`loadtest/scenarios`); `read` says everything that is wrong
//! with a file at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::demo::Audio;
use crate::proxy::Fault;

mod read;

pub(crate) use self::read::{check, read};

/// Everything that a load test plays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    /// What chance is drawn from.
    pub(crate) seed: u64,
    /// For how long it is measured, in seconds.
    pub(crate) duration_s: u64,
    /// The audio format between relay and model.
    pub(crate) audio: Audio,
    /// TLS on both legs.
    pub(crate) tls: bool,
    /// Whether the agent speaks first.
    pub(crate) greeting: bool,
    /// How calls come.
    pub(crate) arrival: Arrival,
    /// How long a call lasts; `None` until the end of the test.
    pub(crate) call: Option<Span>,
    /// How people talk.
    pub(crate) talk: Talk,
    /// How the agent answers.
    pub(crate) agent: Pace,
    /// Keys that are pressed in a minute of a call.
    pub(crate) dtmf_per_minute: f64,
    /// The share of calls that end without a `stop`, as when a network goes.
    pub(crate) hang_up_abrupt: f64,
    /// What happens between relay and model.
    #[serde(skip)]
    pub(crate) faults: Vec<Fault>,
    /// From one fault of a connection to the next, on average.
    pub(crate) faults_every: Duration,
    /// Whether calls may be refused at the door.
    pub(crate) refusals_expected: bool,
    /// More settings of the relay.
    pub(crate) relay_env: Vec<(String, String)>,
}

/// How calls come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Arrival {
    /// So many at once; where one ends, another begins.
    Fixed {
        /// How many.
        calls: u32,
    },
    /// So many a second, whoever is there already.
    Rate {
        /// How many a second.
        per_second: f64,
        /// How many in all; as many as the time allows when `None`.
        total: Option<u32>,
        /// How many at once at most: what comes beyond is counted, and does not call.
        calls_max: u32,
    },
}

/// From a least to a most, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// The least.
    pub(crate) least: u32,
    /// The most; never below the least.
    pub(crate) most: u32,
}

/// How people talk.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Talk {
    /// A turn, in milliseconds.
    pub(crate) speech_ms: Span,
    /// From the end of an answer to the next turn, in milliseconds.
    pub(crate) pause_ms: Span,
    /// The share of answers that are interrupted.
    pub(crate) barge_in: f64,
    /// After how much of an answer, in milliseconds.
    pub(crate) barge_in_after_ms: u32,
}

/// How the agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// From the end of a turn to the first audio, in milliseconds.
    pub(crate) latency_ms: u32,
    /// Audio comes in pieces of so many milliseconds.
    pub(crate) delta_ms: u32,
    /// How many times faster than it is spoken.
    pub(crate) speed: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            duration_s: 30,
            audio: Audio::Mulaw,
            tls: false,
            greeting: false,
            arrival: Arrival::Fixed { calls: 100 },
            call: None,
            talk: Talk::default(),
            agent: Pace::default(),
            dtmf_per_minute: 0.0,
            hang_up_abrupt: 0.0,
            faults: Vec::new(),
            faults_every: Duration::from_secs(10),
            refusals_expected: false,
            relay_env: Vec::new(),
        }
    }
}

impl Default for Talk {
    /// A second of speech, 0.4 to 1.6 s of pause, every second answer interrupted after 1.2 s.
    fn default() -> Self {
        Self {
            speech_ms: Span { least: 1_000, most: 1_000 },
            pause_ms: Span { least: 400, most: 1_600 },
            barge_in: 0.5,
            barge_in_after_ms: 1_200,
        }
    }
}

impl Default for Pace {
    /// What the real service was seen to do.
    fn default() -> Self {
        Self { latency_ms: 150, delta_ms: 400, speed: 5.3 }
    }
}

impl Scenario {
    /// How many calls at once at most.
    pub(crate) fn calls(&self) -> u32 {
        match self.arrival {
            Arrival::Fixed { calls } => calls,
            Arrival::Rate { calls_max, .. } => calls_max,
        }
    }

    /// What decides what is measured, beside what is told apart: to compare it with another's.
    pub(crate) fn words(&self) -> String {
        let Self { seed, arrival, talk, agent, .. } = self;
        let mut words = vec![arrival.words(), format!("seed {seed}")];
        words.extend(self.call.map(|call| format!("each call {}", call.words("s"))));
        words.push(format!(
            "people speak {} and pause {}, interrupt {} % of answers after {} ms",
            talk.speech_ms.words("ms"),
            talk.pause_ms.words("ms"),
            talk.barge_in * 100.0,
            talk.barge_in_after_ms,
        ));
        words.push(format!(
            "the agent answers after {} ms, in pieces of {} ms at {} times real time",
            agent.latency_ms, agent.delta_ms, agent.speed,
        ));
        if self.dtmf_per_minute > 0.0 {
            words.push(format!("{} keys a minute", self.dtmf_per_minute));
        }
        if self.hang_up_abrupt > 0.0 {
            words.push(format!("{} % hang up without a word", self.hang_up_abrupt * 100.0));
        }
        if !self.faults.is_empty() {
            let (every, faults) = (self.faults_every.as_secs_f64(), &self.faults);
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            words.push(format!("every {every} s a fault of {}", faults.join(", ")));
        }
        words.join("; ")
    }

    /// One of so many equal shares of it, from 0.
    pub(crate) fn share(&self, number: u32, shares: u32) -> Self {
        let part = |whole: u32| whole / shares + u32::from(number < whole % shares);
        let arrival = match self.arrival {
            Arrival::Fixed { calls } => Arrival::Fixed { calls: part(calls) },
            Arrival::Rate { per_second, total, calls_max } => Arrival::Rate {
                per_second: per_second / f64::from(shares),
                total: total.map(part),
                calls_max: part(calls_max),
            },
        };
        Self { arrival, seed: self.seed + u64::from(number), ..self.clone() }
    }

    /// From the first call until all are up: a second for 100 calls, one second at least.
    pub(crate) fn ramp(&self) -> Duration {
        match self.arrival {
            Arrival::Fixed { calls } => {
                Duration::from_millis(u64::from(calls) * 10).max(Duration::from_secs(1))
            }
            Arrival::Rate { .. } => Duration::ZERO,
        }
    }

    /// Whether calls end and others come.
    pub(crate) fn turns_over(&self) -> bool {
        self.call.is_some() || matches!(self.arrival, Arrival::Rate { .. })
    }
}

impl Arrival {
    fn words(self) -> String {
        match self {
            Self::Fixed { calls } => format!("{calls} calls at once"),
            Self::Rate { per_second, total: None, calls_max } => {
                format!("{per_second} calls a second, {calls_max} at once at most")
            }
            Self::Rate { per_second, total: Some(total), calls_max } => {
                format!("{total} calls, {per_second} a second, {calls_max} at once at most")
            }
        }
    }
}

impl Span {
    fn words(self, unit: &str) -> String {
        let Self { least, most } = self;
        if least == most { format!("{least} {unit}") } else { format!("{least} to {most} {unit}") }
    }

    /// As many frames of 20 ms, one at least.
    pub(crate) fn frames(self) -> Self {
        Self { least: (self.least / 20).max(1), most: (self.most / 20).max(1) }
    }

    /// A number of the span, even spread, for a number of chance.
    pub(crate) fn at(self, chance: &mut crate::noise::Noise) -> u32 {
        match self.most.saturating_sub(self.least) {
            0 => self.least,
            width => self.least + chance.below(width.saturating_add(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_told_in_words() {
        let mut scenario = Scenario::default();
        scenario.faults.push(Fault::Delay(Duration::from_millis(20)));
        assert_eq!(
            scenario.words(),
            "100 calls at once; seed 1; people speak 1000 ms and pause 400 to 1600 ms, interrupt \
             50 % of answers after 1200 ms; the agent answers after 150 ms, in pieces of 400 ms at \
             5.3 times real time; every 10 s a fault of delay=20"
        );
    }

    #[test]
    fn shares_add_up() {
        for (calls, shares) in [(100, 3), (7, 4), (2_000, 2)] {
            let whole = Scenario { arrival: Arrival::Fixed { calls }, ..Scenario::default() };
            let sum: u32 = (0..shares).map(|number| whole.share(number, shares).calls()).sum();
            assert_eq!(sum, calls);
        }
    }

    #[test]
    fn a_scenario_reaches_another_process_whole() {
        let text = serde_json::to_string(&Scenario::default()).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), Scenario::default());
    }
}

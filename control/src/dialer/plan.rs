//! What whoever wants a call placed wants besides: what becomes of a call that nobody answers, and
//! of one that a machine answers. Pure.
//!
//! It is stored with the call's place in the queue, as JSON, and skips what it does not know.

use std::time::Duration;

pub use link::agent::OnMachine;
use serde::{Deserialize, Serialize};

use super::hours::Hours;
use crate::store::call::CallEnd;

/// The wishes of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whether it is dialled again when nobody is reached.
    #[serde(default)]
    pub retry: Retry,
    /// What is done when a machine picks up; `None` takes what the agent says.
    #[serde(default)]
    pub machine: Option<OnMachine>,
    /// When the callee may be called; `None` at any time.
    #[serde(default)]
    pub hours: Option<Hours>,
    /// How long it may wait for its turn, in seconds; anew for each try.
    pub within_s: u32,
}

/// How long a call may wait for its turn when nothing is said about it.
pub const WITHIN_SECONDS: u32 = 3_600;

/// When a call is dialled again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// After what; never, when empty.
    #[serde(default)]
    pub on: Vec<Missed>,
    /// How often, besides the first time.
    #[serde(default)]
    pub times: u32,
    /// After how long, in seconds.
    #[serde(default = "a_minute")]
    pub after_s: u32,
}

fn a_minute() -> u32 {
    60
}

/// Why nobody was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The line was busy.
    Busy,
    /// Nobody picked up.
    NoAnswer,
    /// The carrier could not place it.
    Failed,
}

impl Missed {
    /// How a call ended that reached nobody; `None` for every other end.
    #[must_use]
    pub fn of(end: CallEnd) -> Option<Self> {
        match end {
            CallEnd::Busy => Some(Self::Busy),
            CallEnd::NoAnswer => Some(Self::NoAnswer),
            CallEnd::CarrierFailed => Some(Self::Failed),
            CallEnd::Stream(_)
            | CallEnd::TooManyResumes
            | CallEnd::Transferred
            | CallEnd::Canceled
            | CallEnd::NoNode
            | CallEnd::NotDialled
            | CallEnd::NotAllowed
            | CallEnd::Machine => None,
        }
    }

    /// The word, as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
        }
    }
}

impl Plan {
    /// How long to wait before the call is dialled again; `None` when it has ended. `tries` is how
    /// often it has been dialled, this time included.
    #[must_use]
    pub fn again_after(&self, missed: Missed, tries: u32) -> Option<Duration> {
        let Retry { on, times, after_s } = &self.retry;
        let is_wanted = on.contains(&missed) && tries <= *times;
        is_wanted.then(|| Duration::from_secs(u64::from(*after_s)))
    }

    /// What is wrong with it, in a sentence that names the field; `None` when nothing is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let Retry { times, after_s, .. } = &self.retry;
        if *times > RETRIES_MAX {
            return Some("`retry.times` is a number from 0 to 10.");
        }
        // Nobody waits between tries that there are none of.
        if *times > 0 && !(PAUSE_SECONDS_MIN..=DAY_SECONDS).contains(after_s) {
            return Some("`retry.after_s` is a number from 10 to 86400.");
        }
        if !(PAUSE_SECONDS_MIN..=7 * DAY_SECONDS).contains(&self.within_s) {
            return Some("`within_s` is a number from 10 to 604800.");
        }
        let machine = self.machine.as_ref().and_then(OnMachine::problem);
        machine.map(|_| "`machine.text` is 1 to 2000 bytes.")
    }
}

/// Whoever was missed this often does not want to be reached.
const RETRIES_MAX: u32 = 10;

/// Sooner the line is still busy with the same call.
const PAUSE_SECONDS_MIN: u32 = 10;

const DAY_SECONDS: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(on: &[Missed], times: u32) -> Plan {
        let retry = Retry { on: on.to_vec(), times, after_s: 60 };
        Plan { retry, within_s: 600, ..Plan::default() }
    }

    #[test]
    fn a_call_is_dialled_again_only_after_what_was_named_and_as_often() {
        let plan = plan(&[Missed::Busy, Missed::NoAnswer], 2);
        let minute = Some(Duration::from_secs(60));
        assert_eq!(plan.again_after(Missed::Busy, 1), minute);
        assert_eq!(plan.again_after(Missed::NoAnswer, 2), minute);
        assert_eq!(plan.again_after(Missed::Busy, 3), None);
        assert_eq!(plan.again_after(Missed::Failed, 1), None);
        assert_eq!(Plan::default().again_after(Missed::Busy, 1), None);
    }

    #[test]
    fn only_a_call_that_reached_nobody_was_missed() {
        assert_eq!(Missed::of(CallEnd::Busy), Some(Missed::Busy));
        assert_eq!(Missed::of(CallEnd::CarrierFailed), Some(Missed::Failed));
        for end in [CallEnd::Canceled, CallEnd::NoNode, CallEnd::Machine, CallEnd::NotAllowed] {
            assert_eq!(Missed::of(end), None, "{end:?}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let good = plan(&[Missed::Busy], 2);
        assert_eq!(good.problem(), None);
        let mut bad = good.clone();
        bad.retry.times = 11;
        assert!(bad.problem().unwrap().contains("retry.times"));
        bad = good.clone();
        bad.retry.after_s = 9;
        assert!(bad.problem().unwrap().contains("retry.after_s"));
        bad = good.clone();
        bad.within_s = 0;
        assert!(bad.problem().unwrap().contains("within_s"));
        bad = good;
        bad.machine = Some(OnMachine::LeaveMessage { text: " ".into() });
        assert!(bad.problem().unwrap().contains("machine.text"));
    }

    #[test]
    fn a_plan_of_a_newer_release_is_read() {
        let newer: Plan = serde_json::from_str(r#"{"within_s":60,"moon":"full"}"#).unwrap();
        assert_eq!(newer, Plan { within_s: 60, ..Plan::default() });
        let machine = OnMachine::LeaveMessage { text: "Call back.".into() };
        let full = Plan { machine: Some(machine), ..plan(&[Missed::Failed], 1) };
        let text = serde_json::to_string(&full).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), full);
    }
}

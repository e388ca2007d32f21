//! How streams fare, counted by the version that carried them. Pure.
//!
//! To watch a canary by, not to bill by: what a relay tells again after its link broke counts again.

use std::collections::BTreeMap;

use link::event::{CallEvent, EndReason};

use super::canary::Side;

/// Nodes that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Their software, as they say it, cut to what can be stored.
    pub version: String,
    /// Whether they are what is tried.
    pub side: Side,
}

impl Group {
    /// The group of nodes of this software on this side.
    #[must_use]
    pub fn new(software: &str, side: Side) -> Self {
        let words = software.chars().filter(|letter| !letter.is_control());
        Self { version: words.take(VERSION_CHARS_MAX).collect(), side }
    }
}

/// What happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody was told to open it, and has done so, or had the time to.
    Placed,
    /// It began.
    Started,
    /// It ended, whoever wanted it so.
    Ended,
    /// It ended because the agent's service could not be reached, refused, or failed.
    AgentFailed,
    /// It ended by a fault of the relay.
    RelayFailed,
}

impl Outcome {
    /// What an event of a relay says of its stream; `None` when it is about something else.
    #[must_use]
    pub fn of(event: &CallEvent) -> Option<Self> {
        match event {
            CallEvent::StreamStarted { .. } => Some(Self::Started),
            CallEvent::StreamEnded { reason, .. } => Some(Self::of_end(*reason)),
            CallEvent::StreamRefused { .. }
            | CallEvent::AgentReady { .. }
            | CallEvent::Turn(_)
            | CallEvent::BargeIn(_)
            | CallEvent::Ending { .. }
            | CallEvent::AgentReplaced(_)
            | CallEvent::Dtmf { .. }
            | CallEvent::ToolIntended(_)
            | CallEvent::Tool(_)
            | CallEvent::StreamLeaving { .. }
            | CallEvent::CommandDone { .. }
            | CallEvent::Unknown => None,
        }
    }

    fn of_end(reason: EndReason) -> Self {
        match reason {
            EndReason::AgentUnreachable | EndReason::AgentRefused | EndReason::AgentFailed => {
                Self::AgentFailed
            }
            EndReason::RelayFault => Self::RelayFailed,
            EndReason::CallerHungUp
            | EndReason::CallerLost
            | EndReason::CallerProtocol
            | EndReason::AgentHungUp
            | EndReason::OperatorHungUp
            | EndReason::Transferred
            | EndReason::CallerSilent
            | EndReason::TimeLimit
            | EndReason::TokenLimit
            | EndReason::Drained
            | EndReason::Superseded => Self::Ended,
        }
    }
}

/// How many streams of a group fared how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that somebody was told to open.
    pub placed: u64,
    /// Those that began.
    pub started: u64,
    /// Those that ended, well or not.
    pub ended: u64,
    /// Those that the agent's service ended by failing.
    pub agent_failed: u64,
    /// Those that a fault of the relay ended.
    pub relay_failed: u64,
}

impl Counts {
    fn add(&mut self, outcome: Outcome, many: u64) {
        match outcome {
            Outcome::Placed => self.placed += many,
            Outcome::Started => self.started += many,
            Outcome::Ended => self.ended += many,
            Outcome::AgentFailed => {
                (self.ended, self.agent_failed) = (self.ended + many, self.agent_failed + many)
            }
            Outcome::RelayFailed => {
                (self.ended, self.relay_failed) = (self.ended + many, self.relay_failed + many)
            }
        }
    }

    /// These and those.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            placed: self.placed + other.placed,
            started: self.started + other.started,
            ended: self.ended + other.ended,
            agent_failed: self.agent_failed + other.agent_failed,
            relay_failed: self.relay_failed + other.relay_failed,
        }
    }

    /// Streams that somebody was told to open and that did not begin.
    #[must_use]
    pub fn never_came(self) -> u64 {
        self.placed.saturating_sub(self.started)
    }

    /// Streams that began and of whose end nothing was heard, beside those that are alive.
    #[must_use]
    pub fn lost(self, alive: u64) -> u64 {
        self.started.saturating_sub(self.ended).saturating_sub(alive)
    }
}

/// What this instance has counted and not written down yet.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Group, Counts>);

impl Tally {
    /// Counts. Of more groups than there may be, the new ones are not counted.
    pub(super) fn add(&mut self, group: Group, outcome: Outcome, many: u64) {
        if many > 0 && (self.0.contains_key(&group) || self.0.len() < GROUPS_MAX) {
            self.0.entry(group).or_default().add(outcome, many);
        }
    }

    /// Takes everything, to write it down.
    pub(super) fn take(&mut self) -> BTreeMap<Group, Counts> {
        std::mem::take(&mut self.0)
    }

    /// Takes back what could not be written down.
    pub(super) fn give_back(&mut self, counts: BTreeMap<Group, Counts>) {
        for (group, counts) in counts {
            let entry = self.0.entry(group).or_default();
            *entry = entry.plus(counts);
        }
    }
}

/// The longest version that is told apart, in characters.
const VERSION_CHARS_MAX: usize = 100;

/// Groups between two times of writing down; a fleet has two or three.
const GROUPS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(reason: EndReason) -> CallEvent {
        CallEvent::StreamEnded { reason, after_ms: 1, frames_up: 1, frames_down: 1 }
    }

    #[test]
    fn a_stream_that_does_not_begin_or_end_well_is_told_from_one_that_does() {
        let mut counts = Counts::default();
        counts.add(Outcome::Placed, 5);
        let began = CallEvent::StreamStarted { stream_sid: "MZ1".into() };
        for _ in 0..4 {
            counts.add(Outcome::of(&began).unwrap(), 1);
        }
        for reason in [EndReason::CallerHungUp, EndReason::AgentRefused, EndReason::RelayFault] {
            counts.add(Outcome::of(&ended(reason)).unwrap(), 1);
        }
        let all = (counts.never_came(), counts.agent_failed, counts.relay_failed);
        assert_eq!((all, counts.ended), ((1, 1, 1), 3));
        assert_eq!((counts.lost(1), counts.lost(0), counts.lost(9)), (0, 1, 0));
        assert_eq!(Outcome::of(&CallEvent::Unknown), None);
    }

    #[test]
    fn what_could_not_be_written_down_is_not_lost_and_not_counted_twice() {
        let (mut tally, group) = (Tally::default(), Group::new("a\u{0}b", Side::Rest));
        assert_eq!(group.version, "ab");
        tally.add(group.clone(), Outcome::Started, 2);
        let taken = tally.take();
        tally.add(group.clone(), Outcome::Started, 1);
        tally.give_back(taken);
        let taken = tally.take();
        assert_eq!((taken[&group].started, tally.take().len()), (3, 0));
    }

    #[test]
    fn no_more_groups_are_counted_than_there_may_be() {
        let mut tally = Tally::default();
        for n in 0..=GROUPS_MAX {
            tally.add(Group::new(&n.to_string(), Side::Rest), Outcome::Placed, 1);
        }
        assert_eq!(tally.take().len(), GROUPS_MAX);
    }
}

//! The enums that metrics are split by. A label's values are an enum's variants, so that their
//! number is bounded by construction.

use std::fmt;
use std::marker::PhantomData;

use link::event::{EndReason, ReplacedBecause, ToolOutcome};

use super::Count;
use crate::call::output::{Flow, Oddity};
use crate::stream::Leg;

/// An enum whose variants are the values of one label.
pub trait Label: Copy + fmt::Debug + 'static {
    /// The label's name.
    const KEY: &'static str;
    /// Every value.
    const VALUES: &'static [&'static str];
    /// This variant's value, one of [`Self::VALUES`].
    fn value(self) -> &'static str;
}

/// One counter for each value of a label.
pub struct PerLabel<L> {
    counts: Box<[Count]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> PerLabel<L> {
    /// The counter of one value.
    ///
    /// # Panics
    /// When the value is missing among [`Label::VALUES`], which a test excludes.
    pub fn of(&self, label: L) -> &Count {
        let value = label.value();
        let n = L::VALUES.iter().position(|known| *known == value);
        &self.counts[n.expect("every value is listed")]
    }

    /// All counters, in the order of [`Label::VALUES`].
    #[must_use]
    pub fn all(&self) -> &[Count] {
        &self.counts
    }
}

impl<L: Label> Default for PerLabel<L> {
    fn default() -> Self {
        let counts = L::VALUES.iter().map(|_| Count::default()).collect();
        Self { counts, label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for PerLabel<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(L::VALUES.iter().zip(self.counts.iter())).finish()
    }
}

/// Declares an enum together with its label values, so that neither can miss one.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $key:literal { $($(#[$vdoc:meta])* $variant:ident => $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl Label for $name {
            const KEY: &'static str = $key;
            const VALUES: &'static [&'static str] = &[$($value,)*];
            fn value(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
}

label! {
    /// What became of a public connection.
    Connection, "outcome" {
        /// Handed to a shard.
        Accepted => "accepted",
        /// Every shard had as many connections waiting as it may.
        ShardsBusy => "shards_busy",
        /// The process had as many connections as it may.
        TooMany => "too_many",
        /// The system would not give the connection: usually out of file descriptors.
        AcceptFailed => "accept_failed",
    }
}

label! {
    /// What became of an upgrade request.
    Upgrade, "outcome" {
        /// Answered 101.
        Accepted => "accepted",
        /// Another node's path: 404.
        WrongNode => "wrong_node",
        /// Another machine's path, and the proxy in front asks that one: 421.
        Elsewhere => "elsewhere",
        /// Another machine's path, and the proxy in front did not reach it: 503.
        Unreachable => "unreachable",
        /// Not a WebSocket request: 400 or 426.
        NotWebSocket => "not_websocket",
        /// No signature: 403.
        Unsigned => "unsigned",
        /// A signature that control did not announce: 403.
        Forged => "forged",
        /// A page whose `Origin` is not one: 403.
        BadOrigin => "bad_origin",
        /// The node has not synced with control: 503.
        NotReady => "not_ready",
        /// The node gives its calls away: 503.
        Draining => "draining",
        /// The node has all the calls it takes: 503.
        Full => "full",
        /// Another call might not find memory: 503.
        NoMemory => "no_memory",
        /// Another call might not get its sockets: 503.
        NoFiles => "no_files",
        /// A shard is late with the calls that the node has: 503.
        Late => "late",
    }
}

label! {
    /// Why a stream was refused after the upgrade; all of them are closed with 1008, but `no_seat`
    /// with 1013.
    Refused, "why" {
        /// Nothing valid came in time.
        Slow => "slow",
        /// Too much came before `start`.
        TooMuch => "too_much",
        /// Something that is not the beginning of a stream.
        Protocol => "protocol",
        /// `start` brought no ticket.
        NoTicket => "no_ticket",
        /// The ticket is malformed, expired, or not signed by a known key.
        BadTicket => "bad_ticket",
        /// The ticket was used before.
        Replayed => "replayed",
        /// The ticket is older than this process.
        Old => "old",
        /// The ticket is for another node, another call, or somebody else.
        Mismatch => "mismatch",
        /// The audio is not mu-law, 8 kHz, mono.
        Format => "format",
        /// The ticket names an agent version that this node does not hold.
        UnknownAgent => "unknown_agent",
        /// This node carries the same or a newer generation of the call.
        StaleGeneration => "stale_generation",
        /// A page's token is good, and the node has no seat for it.
        NoSeat => "no_seat",
        /// The socket was lost before `start`.
        Lost => "lost",
    }
}

label! {
    /// Where an event was lost.
    Lost, "at" {
        /// Between a shard and the house: the house is stuck.
        Shard => "shard",
        /// In the ring of events that wait for control: control is away for long.
        Ring => "ring",
        /// Refusals above the rate that is told to control.
        RefusalRate => "refusal_rate",
    }
}

label! {
    /// What became of an attempt to reach control.
    Attempt, "outcome" {
        /// The relay was let in.
        Welcome => "welcome",
        /// Control said no.
        Refused => "refused",
        /// Nobody answered, or the connection broke.
        Failed => "failed",
        /// The control is reached already, at another of its addresses.
        Twin => "twin",
    }
}

label! {
    /// Whose turn it was.
    Speaker, "role" {
        /// The person on the phone.
        Caller => "caller",
        /// The model.
        Agent => "agent",
    }
}

label! {
    /// What became of an announcement.
    Announced, "outcome" {
        /// The agent is dialled.
        Prepared => "prepared",
        /// The stream is here already, or a newer one of its call.
        Late => "late",
        /// It was announced before.
        Twice => "twice",
        /// As many calls are prepared as may be.
        Full => "full",
        /// The node takes no new calls.
        Closed => "closed",
        /// The node does not hold that agent version.
        UnknownAgent => "unknown_agent",
        /// The shard takes no messages.
        ShardBusy => "shard_busy",
    }
}

label! {
    /// What became of a session that was opened before its caller was here.
    Prepared, "outcome" {
        /// An announced stream took it.
        Claimed => "claimed",
        /// A stream that nobody had announced took it.
        SpareClaimed => "spare_claimed",
        /// It ended by itself: nobody came, or the service closed it.
        Expired => "expired",
        /// It was closed: too old, an older version of its agent, or the node drains.
        Dismissed => "dismissed",
        /// A stream wanted it, and its shard did not give it in time.
        Missed => "missed",
    }
}

label! {
    /// How a command was answered.
    Answered, "outcome" {
        /// It was carried out.
        Done => "done",
        /// It was not.
        Refused => "refused",
    }
}

impl Label for Leg {
    const KEY: &'static str = "leg";
    const VALUES: &'static [&'static str] = &["caller", "agent"];
    fn value(self) -> &'static str {
        Self::VALUES[self as usize]
    }
}

impl Label for ReplacedBecause {
    const KEY: &'static str = "because";
    const VALUES: &'static [&'static str] = &["lost", "rolled_over"];
    fn value(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::RolledOver => "rolled_over",
        }
    }
}

impl Label for ToolOutcome {
    const KEY: &'static str = "outcome";
    const VALUES: &'static [&'static str] = &["done", "failed", "timed_out", "cancelled"];
    fn value(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Label for EndReason {
    const KEY: &'static str = "reason";
    const VALUES: &'static [&'static str] = &[
        "caller_hung_up",
        "caller_lost",
        "caller_protocol",
        "agent_hung_up",
        "agent_unreachable",
        "agent_refused",
        "agent_failed",
        "operator_hung_up",
        "transferred",
        "caller_silent",
        "time_limit",
        "token_limit",
        "drained",
        "superseded",
        "relay_fault",
    ];
    fn value(self) -> &'static str {
        self.as_str()
    }
}

impl Label for Flow {
    const KEY: &'static str = "flow";
    const VALUES: &'static [&'static str] = &["uplink", "playout"];
    fn value(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Playout => "playout",
        }
    }
}

impl Label for Oddity {
    const KEY: &'static str = "kind";
    const VALUES: &'static [&'static str] = &[
        "caller_malformed",
        "agent_malformed",
        "stray_mark",
        "stray_media",
        "late_audio",
        "benign_complaint",
        "refused_by_agent",
        "unknown_tool",
        "failed_answer",
        "incomplete_answer",
        "silent_agent",
        "filled_gap",
    ];
    fn value(self) -> &'static str {
        match self {
            Self::CallerMalformed => "caller_malformed",
            Self::AgentMalformed => "agent_malformed",
            Self::StrayMark => "stray_mark",
            Self::StrayMedia => "stray_media",
            Self::LateAudio => "late_audio",
            Self::BenignComplaint => "benign_complaint",
            Self::RefusedByAgent => "refused_by_agent",
            Self::UnknownTool => "unknown_tool",
            Self::FailedAnswer => "failed_answer",
            Self::IncompleteAnswer => "incomplete_answer",
            Self::SilentAgent => "silent_agent",
            Self::FilledGap => "filled_gap",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_foreign_enum_has_a_counter() {
        let reasons = PerLabel::<EndReason>::default();
        for reason in [
            EndReason::CallerHungUp,
            EndReason::CallerLost,
            EndReason::CallerProtocol,
            EndReason::AgentHungUp,
            EndReason::AgentUnreachable,
            EndReason::AgentRefused,
            EndReason::AgentFailed,
            EndReason::OperatorHungUp,
            EndReason::Transferred,
            EndReason::CallerSilent,
            EndReason::TimeLimit,
            EndReason::TokenLimit,
            EndReason::Drained,
            EndReason::Superseded,
            EndReason::RelayFault,
        ] {
            reasons.of(reason).one();
        }
        assert!(reasons.all().iter().all(|count| count.total() == 1));
    }
}

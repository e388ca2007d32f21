//! Events: what a relay tells control about its calls. Durable: numbered, acknowledged after
//! commit, and sent again until they are. What is told once and kept by nobody is in
//! [`crate::ephemeral`].

use serde::{Deserialize, Serialize};

use crate::id::{CallId, CommandId, EventNumber, Gen, NodeId, TenantId, WallTime};
use crate::tool::Address;

/// One numbered event of one node's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// Dense from 1 within the node's epoch.
    pub n: EventNumber,
    /// When it happened, by the relay's clock.
    pub at: WallTime,
    /// The call it belongs to; `None` when a stream never proved one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallRef>,
    /// What happened.
    pub event: CallEvent,
}

/// Which call, whose, and which generation of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRef {
    /// The call.
    pub id: CallId,
    /// Whose call it is.
    pub tenant: TenantId,
    /// The generation of the stream that says so.
    pub generation: Gen,
}

/// What happened in a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum CallEvent {
    /// A stream with a valid ticket began: the call has media on this node.
    #[serde(rename = "stream.started")]
    StreamStarted {
        /// The carrier's id of the stream.
        stream_sid: String,
    },
    /// A socket asked for a call and was refused.
    #[serde(rename = "stream.refused")]
    StreamRefused {
        /// Why, in words for the operator; never the ticket itself.
        why: String,
    },
    /// The agent's session is verified and takes audio.
    #[serde(rename = "agent.ready")]
    AgentReady {
        /// Milliseconds from the stream's start.
        after_ms: u32,
    },
    /// A turn is complete.
    #[serde(rename = "turn")]
    Turn(Turn),
    /// The caller interrupted the agent.
    #[serde(rename = "barge_in")]
    BargeIn(BargeIn),
    /// This node decided to end the call. Recorded before the caller's socket is closed, so that
    /// `resume` finds it.
    #[serde(rename = "call.ending")]
    Ending {
        /// Why the call ends.
        reason: EndReason,
        /// Something an operator can act on (a provider's error code); no secrets, no speech.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// Whom the caller is connected to next; only with [`EndReason::Transferred`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transfer_to: Option<Address>,
    },
    /// The agent's session was lost or has grown old, and another one took its place.
    #[serde(rename = "agent.replaced")]
    AgentReplaced(Replaced),
    /// The caller pressed a key.
    #[serde(rename = "dtmf")]
    Dtmf {
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: char,
    },
    /// The agent used a tool.
    #[serde(rename = "tool")]
    Tool(ToolUse),
    /// The agent is about to use a tool that may have an effect. Recorded before it runs, so that
    /// whoever goes on with the call knows of it; its outcome is a [`CallEvent::Tool`].
    #[serde(rename = "tool.intended")]
    ToolIntended(ToolIntent),
    /// A command was carried out, or was not.
    #[serde(rename = "command.done")]
    CommandDone {
        /// Which request.
        id: CommandId,
        /// Why it was not carried out; `None` when it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// The stream is about to be closed here, so that the call goes on at another node. Recorded
    /// before the caller's socket is closed, so that `resume` finds it.
    #[serde(rename = "stream.leaving")]
    StreamLeaving {
        /// The node that is ready for the call; `None` when nobody has chosen one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<NodeId>,
    },
    /// The stream is over on this node.
    #[serde(rename = "stream.ended")]
    StreamEnded {
        /// Why it ended.
        reason: EndReason,
        /// Milliseconds from the stream's start.
        after_ms: u32,
        /// Media frames taken from the caller.
        frames_up: u64,
        /// Media messages given to the caller.
        frames_down: u64,
    },
    /// Something that a newer relay says. Stored by nobody, counted, acknowledged.
    #[serde(other, rename = "unknown")]
    Unknown,
}

/// An agent's session took the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Why.
    pub because: ReplacedBecause,
    /// Milliseconds without an agent that hears the caller.
    pub gap_ms: u32,
    /// Turns that the new session was told about.
    pub turns: u32,
    /// Something an operator can act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why an agent's session was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplacedBecause {
    /// It was lost.
    Lost,
    /// It neared the provider's limit.
    RolledOver,
}

/// The agent is about to use a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolIntent {
    /// The tool's name.
    pub name: String,
    /// The provider's id of the request.
    pub request: String,
}

/// The agent used a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolUse {
    /// The tool's name.
    pub name: String,
    /// The provider's id of the request.
    pub request: String,
    /// How it went.
    pub outcome: ToolOutcome,
    /// Milliseconds from the request to its result.
    pub after_ms: u32,
}

/// How the use of a tool went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// It gave a result.
    Done,
    /// It failed, or is unknown.
    Failed,
    /// It took too long.
    TimedOut,
    /// The caller interrupted before it began.
    Cancelled,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person on the phone.
    Caller,
    /// The model.
    Agent,
}

/// One complete turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Who spoke.
    pub role: Role,
    /// The provider's id of the item.
    pub item: String,
    /// Where the turn stands in the conversation: ascending within a generation of the call, in
    /// the order in which things were said. Turns are told when they are complete, which may be
    /// another order.
    #[serde(default)]
    pub order: u32,
    /// What was said, as far as the provider wrote it down; of an interrupted agent turn, what
    /// was heard.
    pub text: String,
    /// Milliseconds of an agent turn that the caller has provably heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u32>,
    /// Milliseconds of an agent turn that the model made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_ms: Option<u32>,
    /// Whether the caller cut it short.
    #[serde(default)]
    pub interrupted: bool,
    /// Milliseconds from the end of the caller's speech to the first audio of this agent turn
    /// leaving for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_after_ms: Option<u32>,
}

/// The caller interrupted the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BargeIn {
    /// The item that was cut.
    pub item: String,
    /// Milliseconds of it that the caller has provably heard; the model's memory is cut here.
    pub heard_ms: u32,
    /// Milliseconds of it that had been sent to the carrier.
    pub sent_ms: u32,
    /// Milliseconds of it that the model had made.
    pub generated_ms: u32,
}

/// Why a stream or a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The carrier said that the stream is over: the caller hung up, or the call was given other
    /// instructions.
    CallerHungUp,
    /// The caller's socket was lost without a word; the call may still live.
    CallerLost,
    /// The caller's side broke the protocol.
    CallerProtocol,
    /// The agent said goodbye.
    AgentHungUp,
    /// The agent's service could not be reached.
    AgentUnreachable,
    /// The agent's service refused the session (key, quota, model, configuration).
    AgentRefused,
    /// The agent's service failed or closed in the middle of the call.
    AgentFailed,
    /// Somebody ended the call through the API.
    OperatorHungUp,
    /// The agent or an operator connected the caller to somebody else.
    Transferred,
    /// The caller said nothing for too long.
    CallerSilent,
    /// The agent spec's longest call was reached.
    TimeLimit,
    /// The agent spec's budget of tokens is used up.
    TokenLimit,
    /// The relay is shutting down.
    Drained,
    /// A newer generation of the call lives elsewhere.
    Superseded,
    /// A fault of ours; the call may be resumed.
    RelayFault,
}

/// Whose doing an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The person on the phone.
    Caller,
    /// The carrier, or the network to it.
    Carrier,
    /// The agent, as it was told to behave.
    Agent,
    /// The agent's service.
    Provider,
    /// Whoever runs the calls: a command, a limit.
    Operator,
    /// This software, or its moving about.
    Relay,
}

impl Blame {
    /// The word as it is written in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Carrier => "carrier",
            Self::Agent => "agent",
            Self::Provider => "provider",
            Self::Operator => "operator",
            Self::Relay => "relay",
        }
    }
}

impl EndReason {
    /// The reason as it is written in events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallerHungUp => "caller_hung_up",
            Self::CallerLost => "caller_lost",
            Self::CallerProtocol => "caller_protocol",
            Self::AgentHungUp => "agent_hung_up",
            Self::AgentUnreachable => "agent_unreachable",
            Self::AgentRefused => "agent_refused",
            Self::AgentFailed => "agent_failed",
            Self::OperatorHungUp => "operator_hung_up",
            Self::Transferred => "transferred",
            Self::CallerSilent => "caller_silent",
            Self::TimeLimit => "time_limit",
            Self::TokenLimit => "token_limit",
            Self::Drained => "drained",
            Self::Superseded => "superseded",
            Self::RelayFault => "relay_fault",
        }
    }

    /// Whose doing the end is: what an operator looks at first.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::CallerHungUp | Self::CallerSilent => Blame::Caller,
            Self::CallerLost | Self::CallerProtocol => Blame::Carrier,
            Self::AgentHungUp | Self::Transferred => Blame::Agent,
            Self::AgentUnreachable | Self::AgentRefused | Self::AgentFailed => Blame::Provider,
            Self::OperatorHungUp | Self::TimeLimit | Self::TokenLimit => Blame::Operator,
            Self::Drained | Self::Superseded | Self::RelayFault => Blame::Relay,
        }
    }

    /// Whether the call itself is over, rather than only this stream of it.
    #[must_use]
    pub fn ends_call(self) -> bool {
        match self {
            Self::AgentHungUp
            | Self::AgentUnreachable
            | Self::AgentRefused
            | Self::AgentFailed
            | Self::OperatorHungUp
            | Self::Transferred
            | Self::CallerSilent
            | Self::TimeLimit
            | Self::TokenLimit => true,
            Self::CallerHungUp
            | Self::CallerLost
            | Self::CallerProtocol
            | Self::Drained
            | Self::Superseded
            | Self::RelayFault => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_newer_relay_is_skipped_not_fatal() {
        let json = r#"{"n":7,"at":1,"event":{"type":"call.sparkled","much":true}}"#;
        let event: NodeEvent = serde_json::from_str(json).unwrap();
        assert_eq!(event.event, CallEvent::Unknown);
    }

    #[test]
    fn an_event_is_written_flat() {
        let event = CallEvent::BargeIn(BargeIn {
            item: "i1".into(),
            heard_ms: 480,
            sent_ms: 900,
            generated_ms: 2_000,
        });
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], "barge_in");
        assert_eq!(json["heard_ms"], 480);
        assert_eq!(serde_json::from_value::<CallEvent>(json).unwrap(), event);
    }

    #[test]
    fn reasons_are_written_the_same_everywhere() {
        let json = serde_json::to_value(EndReason::AgentHungUp).unwrap();
        assert_eq!(json, EndReason::AgentHungUp.as_str());
        for blame in [
            Blame::Caller,
            Blame::Carrier,
            Blame::Agent,
            Blame::Provider,
            Blame::Operator,
            Blame::Relay,
        ] {
            assert_eq!(serde_json::to_value(blame).unwrap(), blame.as_str());
        }
    }
}

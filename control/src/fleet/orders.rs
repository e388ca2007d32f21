//! What a node is told about its calls, and about who answers them.

use std::sync::Arc;

use link::agent::AgentSpec;
use link::id::{CallId, CommandId, Gen};
use link::message::{Announcement, Command, ToRelay};

use super::told::AgentKey;

/// Something that a node is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Something to do in the call.
    Do {
        /// The call.
        call: CallId,
        /// The generation it is meant for.
        generation: Gen,
        /// By what name the node says what became of it; `None` when nobody asks.
        id: Option<CommandId>,
        /// What to do.
        command: Command,
    },
    /// A stream is on its way. Lost without harm: the agent is then dialled when the stream is
    /// there.
    Announce(Announcement),
    /// A version of an agent that calls may begin with from now on.
    Agent(KnownAgent),
    /// Whether it is to take new calls.
    Intake(Intake),
}

/// Whether a node is to take new calls, as an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// It takes them.
    Open,
    /// It takes none; those that it carries go on.
    Drained,
}

/// A spec as it is told. Two of one agent and version are the same when they have the same key:
/// nothing else of a version changes.
#[derive(Debug, Clone)]
pub struct KnownAgent(pub Arc<AgentSpec>);

impl PartialEq for KnownAgent {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.0, &other.0);
        let is_same_key = ours.provider.api_key().reveal() == theirs.provider.api_key().reveal();
        AgentKey::of(ours) == AgentKey::of(theirs) && is_same_key
    }
}

impl Eq for KnownAgent {}

impl From<Order> for ToRelay {
    fn from(order: Order) -> Self {
        match order {
            Order::Do { call, generation, id, command } => {
                Self::Command { call, generation, id, command }
            }
            Order::Announce(announcement) => Self::Announce(announcement),
            Order::Agent(KnownAgent(spec)) => Self::Agent(Box::new(AgentSpec::clone(&spec))),
            Order::Intake(intake) => Self::Drain { on: intake == Intake::Drained },
        }
    }
}

/// Why an order does not reach its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// The node's link is down.
    #[error("the node is not connected")]
    Away,
    /// The node does not read what it is told.
    #[error("the node does not keep up")]
    Full,
}

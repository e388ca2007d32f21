//! What a node is told about its calls.

use link::id::{CallId, CommandId, Gen};
use link::message::{Announcement, Command, ToRelay};

/// Something that a node is told about one call.
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
}

impl From<Order> for ToRelay {
    fn from(order: Order) -> Self {
        match order {
            Order::Do { call, generation, id, command } => {
                Self::Command { call, generation, id, command }
            }
            Order::Announce(announcement) => Self::Announce(announcement),
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

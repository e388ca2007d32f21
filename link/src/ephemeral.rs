//! Ephemeral events: what a relay tells everybody who listens at this moment, and nobody keeps.
//!
//! They have no number and are never acknowledged, stored or sent again; where there is no room,
//! they are what is dropped first. Whatever matters of them is told once more by an event that is
//! kept: the words of a turn by the [`Turn`](crate::event::Turn).

use serde::{Deserialize, Serialize};

use crate::event::{CallRef, EndReason, Role};
use crate::id::WallTime;
use crate::tool::Address;

/// One ephemeral event of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ephemeral {
    /// When it happened, by the relay's clock.
    pub at: WallTime,
    /// The call it belongs to.
    pub call: CallRef,
    /// What happened.
    pub event: Passing,
}

/// What happened, for the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Passing {
    /// The next words of a turn that is not complete.
    #[serde(rename = "transcript.delta")]
    TranscriptDelta(TranscriptDelta),
    /// The node has decided to end the call. An event says so to the control that numbers events;
    /// this tells all of them, so that each knows what follows the stream without the database.
    #[serde(rename = "call.decided")]
    Decided(Decided),
    /// Something that a newer relay says. Shown to nobody.
    #[serde(other, rename = "unknown")]
    Unknown,
}

/// The node has decided to end the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Why the call ends.
    pub reason: EndReason,
    /// Whom the caller is connected to next; only with [`EndReason::Transferred`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_to: Option<Address>,
}

/// The next words of a turn that is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptDelta {
    /// Who speaks.
    pub role: Role,
    /// The provider's id of the item; the turn has the same.
    pub item: String,
    /// The words. Of an agent those that the model has made, which the caller hears later, or never
    /// when it interrupts.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallId, Gen, TenantId};

    #[test]
    fn a_delta_is_written_flat() {
        let delta =
            TranscriptDelta { role: Role::Agent, item: "i1".into(), text: " help you?".into() };
        let event = Passing::TranscriptDelta(delta);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], "transcript.delta");
        assert_eq!((&json["role"], &json["text"]), (&"agent".into(), &" help you?".into()));
        assert_eq!(serde_json::from_value::<Passing>(json).unwrap(), event);
    }

    #[test]
    fn one_of_a_newer_relay_is_unknown_not_an_error() {
        let call = CallRef {
            id: CallId::new("c_1").unwrap(),
            tenant: TenantId::default(),
            generation: Gen(0),
        };
        let json = serde_json::json!({
            "at": 1, "call": call, "event": {"type": "audio.level", "caller": -20},
        });
        let event: Ephemeral = serde_json::from_value(json).unwrap();
        assert_eq!((event.event, event.call), (Passing::Unknown, call));
    }
}

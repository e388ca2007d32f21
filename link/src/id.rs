//! Names of things, as types: a call is never mistaken for a node.
//!
//! Every text id uses the characters that need no escaping in a URL, in TwiML and in a token.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} is 1 to {max} characters of A-Z, a-z, 0-9, '-', '_' and '.'")]
pub struct BadId {
    kind: &'static str,
    max: usize,
}

/// The longest id, in bytes: four of them and a signature still fit one TwiML parameter.
pub const ID_BYTES_MAX: usize = 64;

fn check(kind: &'static str, text: &str) -> Result<(), BadId> {
    let fits = !text.is_empty() && text.len() <= ID_BYTES_MAX;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if fits && text.bytes().all(plain) { Ok(()) } else { Err(BadId { kind, max: ID_BYTES_MAX }) }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a text as an id.
            ///
            /// # Errors
            /// When it is empty, longer than [`ID_BYTES_MAX`], or holds a character that a URL
            /// or an XML attribute would have to escape.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, BadId> {
                let text = text.into();
                check($kind, &text)?;
                Ok(Self(text))
            }

            /// The id as it is written everywhere.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }
    };
}

text_id!(
    /// One phone call, from its webhook to its end, whatever streams and nodes carry it.
    CallId, "call id"
);
text_id!(
    /// Calls that were started together.
    RunId, "run id"
);
text_id!(
    /// One relay process of the fleet. Set by the operator, stable over restarts.
    NodeId, "node id"
);
text_id!(
    /// One life of a control process, named anew at each start.
    ControlId, "control id"
);
text_id!(
    /// Whose calls these are.
    TenantId, "tenant id"
);
impl Default for TenantId {
    /// The tenant of an installation that serves one.
    fn default() -> Self {
        Self("default".into())
    }
}

text_id!(
    /// The name of an agent spec, unique in its tenant.
    AgentName, "agent name"
);

text_id!(
    /// One request to do something in a running call; its answer carries it.
    CommandId, "command id"
);

/// The generation of a call's stream. It only grows; a node that learns of a higher one for a
/// call it carries falls silent.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Gen(pub u32);

impl Gen {
    /// The generation of the stream that replaces this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Gen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a relay process: random at start, so that the numbers of two lives cannot be
/// confused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The number of an event within one life of one node, dense from 1.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct EventNumber(pub u64);

impl EventNumber {
    /// The number of the event that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A moment of the wall clock, in microseconds since 1970 (UTC).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The moment so many microseconds later.
    #[must_use]
    pub fn plus_us(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_need_escaping_are_refused() {
        for bad in ["", "a b", "a/b", "a?b", "a&b", "ä", "a\"b", &"x".repeat(65)] {
            assert!(CallId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(CallId::new("c_01J.x-9").unwrap().as_str(), "c_01J.x-9");
    }

    #[test]
    fn an_id_is_checked_when_it_is_read_from_json() {
        assert!(serde_json::from_str::<NodeId>("\"a b\"").is_err());
        assert_eq!(serde_json::to_string(&NodeId::new("n1").unwrap()).unwrap(), "\"n1\"");
    }
}

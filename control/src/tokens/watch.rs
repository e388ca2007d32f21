//! The ticket in the address of an event stream: a page's `EventSource` can send no header.
//!
//! It shows its bearer one call or one run of one tenant, on pages of one origin, until it
//! expires; a connection that was lost comes back with the same one. It ends with the key that
//! asked for it.

use link::id::{CallId, RunId, TenantId};
use serde::{Deserialize, Serialize};

/// What a ticket of an event stream says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchTicket {
    /// Whose events.
    #[serde(rename = "t")]
    pub tenant: TenantId,
    /// Which of them.
    #[serde(rename = "w")]
    pub what: Watched,
    /// The origin of the pages that may use it.
    #[serde(rename = "o")]
    pub origin: String,
    /// The name of the key that asked for it.
    #[serde(rename = "k")]
    pub key: String,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "e")]
    pub expires_at: i64,
}

/// What a ticket shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watched {
    /// One call.
    #[serde(rename = "c")]
    Call(CallId),
    /// The calls that were started together under one id.
    #[serde(rename = "r")]
    Run(RunId),
}

/// What keeps a ticket from being taken for any other token.
pub(super) const IMPLICIT: &[u8] = b"linecard event stream ticket v1";

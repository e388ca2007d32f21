//! What every request needs: the parts of the control plane, put together once at start.

use link::id::TenantId;
use link::secret::Secret;
use tokio_util::sync::CancellationToken;

use crate::api::auth::ApiKeys;
use crate::config::agents::Agents;
use crate::fleet::nodes::Nodes;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::sequencer::Sequencer;
use crate::store::Store;
use crate::store::call::Number;
use crate::tokens::Tokens;
use crate::twilio::rest::Rest;
use crate::twilio::signature::PublicOrigin;

/// The parts of the control plane.
#[derive(Debug)]
pub struct Plane {
    /// Everything durable.
    pub store: Store,
    /// Gives relays' events their place.
    pub sequencer: Sequencer,
    /// Brings events to clients.
    pub hub: Hub,
    /// The relays that are there.
    pub nodes: Nodes,
    /// Who answers.
    pub agents: Agents,
    /// What is signed.
    pub tokens: Tokens,
    /// The carrier's REST API.
    pub carrier: Rest,
    /// Where the carrier reaches this process.
    pub public: PublicOrigin,
    /// What the carrier signs its requests with.
    pub auth_token: Secret,
    /// Who may use the API.
    pub api_keys: ApiKeys,
    /// Who calls when an outbound call does not say.
    pub from: Option<Number>,
    /// What is counted.
    pub metrics: Metrics,
    /// Cancelled when the process stops: ends event streams.
    pub shutdown: CancellationToken,
}

/// Whose calls these are: there is one tenant, and everything durable already names it.
///
/// # Panics
/// Never: the word is an id.
#[must_use]
pub fn tenant() -> TenantId {
    TenantId::new("default").expect("a plain word is an id")
}

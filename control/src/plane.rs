//! What every request needs: the parts of the control plane, put together once at start.

use link::id::TenantId;
use tokio_util::sync::CancellationToken;

use crate::access::address::Proxies;
use crate::access::crowd::Crowd;
use crate::access::known::KnownKeys;
use crate::access::rates::Rates;
use crate::access::tenants::Tenants;
use crate::api::auth::OperatorKeys;
use crate::api::compat::Compat;
use crate::dialer::rules::Rules;
use crate::dialer::waiting::Dialler;
use crate::directory::Directory;
use crate::fleet::moves::Moves;
use crate::fleet::nodes::Nodes;
use crate::fleet::openings::{Openings, Survival};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::sequencer::Sequencer;
use crate::standby::Standby;
use crate::store::Store;
use crate::store::call::Number;
use crate::tokens::Tokens;
use crate::twilio::rest::Rest;
use crate::twilio::signature::{AuthTokens, PublicOrigin};
use crate::webhooks::Post;

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
    /// The calls that this instance knows, for as long as the database is away.
    pub standby: Standby,
    /// How many calls may come back at once.
    pub openings: Openings,
    /// What a call may survive.
    pub survival: Survival,
    /// The calls that leave nodes which drain.
    pub moves: Moves,
    /// Who answers.
    pub directory: Directory,
    /// What is signed.
    pub tokens: Tokens,
    /// The carrier's REST API.
    pub carrier: Rest,
    /// Tells webhooks.
    pub post: Post,
    /// Where the carrier reaches this process.
    pub public: PublicOrigin,
    /// What the carrier signs its requests with.
    pub auth_tokens: AuthTokens,
    /// What must hold before anybody is dialled.
    pub rules: Rules,
    /// The way to the task that dials.
    pub dialler: Dialler,
    /// The operator's keys of the API.
    pub operators: OperatorKeys,
    /// The tenants' keys of the API.
    pub keys: KnownKeys,
    /// Who calls when an outbound call does not say.
    pub from: Option<Number>,
    /// The voice in which the carrier reads our own sentences; `None` takes the carrier's own.
    pub carrier_voice: Option<String>,
    /// What the routes need that ask for no key.
    pub compat: Compat,
    /// The tenants and what bounds them.
    pub tenants: Tenants,
    /// How many calls each tenant has.
    pub crowd: Crowd,
    /// How much may be asked.
    pub rates: Rates,
    /// Whose word about their clients is taken.
    pub proxies: Proxies,
    /// What is counted.
    pub metrics: Metrics,
    /// Cancelled when the process stops: ends event streams.
    pub shutdown: CancellationToken,
}

/// The tenant of whoever runs an installation for themselves: the operator's keys are its keys.
///
/// # Panics
/// Never: the word is an id.
#[must_use]
pub fn tenant() -> TenantId {
    TenantId::new("default").expect("a plain word is an id")
}

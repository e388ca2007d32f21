//! Who may do what: tenants, their keys, what those may do, and how soon a change holds.
//!
//! Suggested reading order: [`key`] (what a key looks like), [`scope`] (what it may do), [`known`]
//! (which keys are good at this moment), [`tenants`] and [`origin`] (whose pages may ask),
//! [`rates`] and [`address`] (how much), [`crowd`] (how many calls at once). What a
//! request meets of it is in [`crate::api::auth`]; what is stored in `store/api_keys.rs` and
//! `store/tenants.rs`.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::error::chain;
use crate::plane::Plane;
use crate::tokens::TokenError;

pub mod key;

pub mod scope;

pub mod known;

pub mod origin;
pub mod tenants;

pub mod address;
pub mod crowd;
pub mod rates;

/// Looks at everything here again and again, until the plane stops: what one instance changes
/// holds on every other one within five seconds.
pub async fn keep_fresh(plane: &Plane) {
    let mut ticks = interval(REFRESH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u32;
    loop {
        tokio::select! {
            () = plane.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        plane.rates.sweep();
        match refresh(plane).await {
            Ok(()) => failures = 0,
            // Once an outage: requests say the same, each with its own line.
            Err(error) if failures == 0 => {
                tracing::warn!(error = chain(&error), "keys and tenants cannot be looked at");
                failures = 1;
            }
            Err(_) => failures = failures.saturating_add(1),
        }
    }
}

async fn refresh(plane: &Plane) -> Result<(), TokenError> {
    let now = clock::wall();
    // Keys first: their revocation has a promise.
    plane.keys.refresh(now).await?;
    plane.tenants.refresh().await?;
    crowd::count(plane).await?;
    plane.nodes.weigh(&plane.store).await?;
    plane.tokens.refresh(&plane.store, now).await
}

/// How often everything is looked at.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

const _: () = assert!(REFRESH_EVERY.as_secs() < known::FRESH.as_secs());

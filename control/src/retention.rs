//! Keeps events for as long as the operator says, and no longer.
//!
//! One of several instances does it: the one that numbers events. Streams of clients that come back
//! with an older place are told so (`sse.rs`, [`crate::sse::Item::Reset`]).

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::sequencer::LeaseState;
use crate::store::Store;

/// Forgets old events once an hour while this instance holds the lease, until `shutdown`.
pub(crate) async fn keep(
    store: Store,
    keep_days: u32,
    mut state: watch::Receiver<LeaseState>,
    shutdown: CancellationToken,
) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_held = *state.borrow_and_update() == LeaseState::Held;
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
            _ = every.tick(), if is_held => match store.forget_events(keep_days).await {
                Ok(0) => {}
                Ok(gone) => info!(gone, keep_days, "old events are forgotten"),
                // Nothing is lost by it for a week: so far ahead there is room.
                Err(error) => {
                    warn!(error = error.explain(), "old events are kept for another hour");
                }
            }
        }
    }
}

/// Days are what is counted; an hour is how late one may go.
const EVERY: Duration = Duration::from_secs(3_600);

//! Revisions: every change of an agent or a number gets one, in the order of the commits, so that
//! each instance can ask for what has changed since it looked last.

use super::StoreError;
use super::tx::{Tx, on};

/// Takes the next revision. Nobody else gets one before this transaction has ended, which also
/// means that changes of agents and numbers come one after the other.
pub(super) async fn next_revision(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(on!(*tx, |c| sqlx::query_scalar(NEXT).fetch_one(c).await)?)
}

const NEXT: &str = "UPDATE revisions SET n = n + 1 WHERE topic = 'directory' RETURNING n";

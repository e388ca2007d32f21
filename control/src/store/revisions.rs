//! Revisions: every change of an agent or a number gets one, in the order of the commits, so that
//! each instance can ask for what has changed since it looked last.

use link::id::TenantId;

use super::StoreError;
use super::tx::{Tx, on};

/// Takes the next revision. Nobody else gets one before this transaction has ended, which also
/// means that changes of agents and numbers come one after the other.
pub(super) async fn next_revision(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(on!(*tx, |c| sqlx::query_scalar(NEXT).fetch_one(c).await)?)
}

/// Gives every agent of a tenant a new revision, each its own: something has changed that is kept
/// beside them, and whoever has read them reads them again.
pub(super) async fn renew_agents(tx: &mut Tx, tenant: &TenantId) -> Result<(), StoreError> {
    let first = next_revision(tx).await?;
    let many: i64 =
        on!(*tx, |c| sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(c).await)?;
    on!(*tx, |c| sqlx::query(TAKE).bind(many).execute(c).await.map(drop))?;
    on!(*tx, |c| sqlx::query(RENEW).bind(tenant.as_str()).bind(first).execute(c).await.map(drop))?;
    Ok(())
}

const NEXT: &str = "UPDATE revisions SET n = n + 1 WHERE topic = 'directory' RETURNING n";

const COUNT: &str =
    "SELECT CAST(count(*) AS BIGINT) FROM agents WHERE tenant = $1 AND deleted_us IS NULL";

const TAKE: &str = "UPDATE revisions SET n = n + $1 WHERE topic = 'directory'";

/// A page of changes ends between two revisions, so no two agents may share one.
const RENEW: &str = "UPDATE agents SET revision = $2 + (SELECT CAST(count(*) AS BIGINT) \
     FROM agents AS earlier WHERE earlier.tenant = $1 AND earlier.deleted_us IS NULL \
     AND earlier.name < agents.name) WHERE tenant = $1 AND deleted_us IS NULL";

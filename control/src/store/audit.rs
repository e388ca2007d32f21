//! The audit log: who changed what, written in the transaction that changes it, and never altered.

use link::id::{TenantId, WallTime};
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use super::tx::{Scope, Tx, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;

/// A change, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed<'a> {
    /// The key that asked for it.
    pub actor: &'a KeyId,
    /// What was done, as a stable word: `key.created`, `key.revoked`, ...
    pub action: &'static str,
    /// The id of what it was done to.
    pub subject: &'a str,
    /// What else is known, as the text of a JSON object; no secret, no number, no words of a call.
    pub detail: String,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its place; it only grows.
    pub id: i64,
    /// When it was done.
    pub at: WallTime,
    /// The key that asked for it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// The id of what it was done to.
    pub subject: String,
    /// What else is known, as the text of a JSON object.
    pub detail: String,
}

impl Store {
    /// The tenant's log behind `after`, oldest first, at most `limit` lines.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditLine>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT)
            .bind(tenant.as_str())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?)
    }
}

/// Adds a line to the log, in the transaction of the change.
pub(super) async fn note(
    tx: &mut Tx,
    tenant: &TenantId,
    deed: &Deed<'_>,
    now: WallTime,
) -> Result<(), StoreError> {
    on!(*tx, |c| sqlx::query(INSERT)
        .bind(tenant.as_str())
        .bind(now.0)
        .bind(deed.actor.as_str())
        .bind(deed.action)
        .bind(deed.subject)
        .bind(deed.detail.as_str())
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

impl<'r, R: Row> FromRow<'r, R> for AuditLine
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        Ok(Self {
            id: row.try_get("id")?,
            at: WallTime(row.try_get("at_us")?),
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            detail: row.try_get("detail")?,
        })
    }
}

const SELECT: &str = "SELECT id, at_us, actor, action, subject, detail FROM audit \
     WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";

const INSERT: &str = "INSERT INTO audit (tenant, at_us, actor, action, subject, detail) \
     VALUES ($1, $2, $3, $4, $5, $6)";

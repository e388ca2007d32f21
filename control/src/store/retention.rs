//! How long events are kept: whole days, by the day on which they were stored.
//!
//! PostgreSQL has a partition for each day and drops it (`linecard_event_days` of the migrations);
//! SQLite deletes, a few rows at a time. Who asks, and how often: [`crate::retention`].

use link::id::TenantId;

use super::tx::{Db, Scope, Tx, on};
use super::{Store, StoreError, postgres};
use crate::events::Seq;

impl Store {
    /// The place of the tenant's oldest record that is kept; `None` when none is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn oldest(&self, tenant: &TenantId) -> Result<Option<Seq>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let oldest: Option<i64> = on!(tx, |c| sqlx::query_scalar(SELECT_OLDEST)
            .bind(tenant.as_str())
            .fetch_one(c)
            .await)?;
        Ok(oldest.map(|seq| Seq(seq.cast_unsigned())))
    }

    /// Forgets events of days that ended more than `keep_days` ago, by the database's clock, and
    /// makes room for the days that come. Says how much went: partitions on PostgreSQL, rows on
    /// SQLite.
    ///
    /// # Errors
    /// When the database fails. What was done so far stays done.
    pub async fn forget_events(&self, keep_days: u32) -> Result<u64, StoreError> {
        match self.db() {
            Db::Postgres(pools) => postgres::keep_event_days(&pools.owner, Some(keep_days)).await,
            Db::Sqlite(_) => self.delete_old_events(keep_days).await,
        }
    }

    async fn delete_old_events(&self, keep_days: u32) -> Result<u64, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        let tenants: Vec<String> =
            on!(tx, |c| sqlx::query_scalar(SELECT_TENANTS).fetch_all(c).await)?;
        drop(tx);
        let mut deleted = 0;
        for tenant in tenants {
            // Each chunk is a transaction, and writers are served in turn: nobody waits for more
            // than one.
            loop {
                let mut tx = self.db().write(Scope::Shared).await?;
                let Tx::Sqlite(connection) = &mut tx else { return Ok(deleted) };
                let rows = sqlx::query(DELETE_OLDEST)
                    .bind(&tenant)
                    .bind(DELETE_ROWS)
                    .bind(i64::from(keep_days))
                    .execute(&mut **connection)
                    .await?
                    .rows_affected();
                tx.commit().await?;
                deleted += rows;
                if rows < DELETE_ROWS.cast_unsigned() {
                    break;
                }
            }
        }
        Ok(deleted)
    }
}

const SELECT_OLDEST: &str = "SELECT min(seq) FROM events WHERE tenant = $1";

const SELECT_TENANTS: &str = "SELECT tenant FROM heads ORDER BY tenant";

/// From the oldest on: what was stored later has a higher place, so that nothing young is looked at.
/// A release that knew no `stored_us` left zero.
const DELETE_OLDEST: &str = "DELETE FROM events WHERE tenant = $1 AND seq IN \
     (SELECT seq FROM events WHERE tenant = $1 ORDER BY seq LIMIT $2) AND \
     CASE WHEN stored_us = 0 THEN at_us ELSE stored_us END < \
     (CAST(unixepoch('now') / 86400 AS INTEGER) - $3) * 86400000000";

/// Rows deleted at once: a few milliseconds.
const DELETE_ROWS: i64 = 1_000;

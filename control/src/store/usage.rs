//! What a tenant has used, by day: counted from its calls.

use link::id::{TenantId, WallTime};
use sqlx::Row as _;

use super::tx::{Scope, on};
use super::{Store, StoreError};

/// Calls of one day in one direction. A call counts where it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The day, counted from 1970-01-01 (UTC).
    pub day: i64,
    /// Whether the carrier brought the calls to us; else we placed them.
    pub inbound: bool,
    /// Calls.
    pub calls: u64,
    /// Those that somebody answered.
    pub answered: u64,
    /// From answer to end, in microseconds; a call that lives counts up to now.
    pub talk_us: u64,
}

impl Store {
    /// What the tenant has used from the first day to the last, both included; days and directions
    /// without a call are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage(
        &self,
        tenant: &TenantId,
        (first, last): (i64, i64),
        now: WallTime,
    ) -> Result<Vec<Usage>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<(i64, String, i64, i64, i64)> = on!(tx, |c| sqlx::query(SELECT)
            .bind(tenant.as_str())
            .bind(first.saturating_mul(DAY_US))
            .bind(last.saturating_add(1).saturating_mul(DAY_US))
            .bind(now.0)
            .fetch_all(c)
            .await?
            .iter()
            .map(|row| Ok((
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
            )))
            .collect::<Result<_, sqlx::Error>>())?;
        let usage = rows.into_iter().map(|(day, direction, calls, answered, talk_us)| Usage {
            day,
            inbound: direction == "inbound",
            calls: calls.unsigned_abs(),
            answered: answered.unsigned_abs(),
            // A clock that was set back must not make talk negative.
            talk_us: talk_us.max(0).unsigned_abs(),
        });
        Ok(usage.collect())
    }
}

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

const SELECT: &str = "SELECT created_us / 86400000000 AS day, direction, COUNT(*), \
     COUNT(answered_us), \
     CAST(COALESCE(SUM(COALESCE(ended_us, $4) - answered_us), 0) AS BIGINT) \
     FROM calls WHERE tenant = $1 AND created_us >= $2 AND created_us < $3 \
     GROUP BY 1, 2 ORDER BY 1, 2";

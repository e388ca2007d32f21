//! What outbound calls have taken, as far as it is known here: minutes begun, as the carrier bills
//! them. Its prices come later and per call; the operator says what a minute costs.

use link::id::{TenantId, WallTime};

use super::tx::{Scope, on};
use super::{Store, StoreError};

impl Store {
    /// Minutes of the tenant's outbound calls that were answered since a moment, those that still
    /// go on included.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn minutes_since(
        &self,
        tenant: &TenantId,
        since: WallTime,
        now: WallTime,
    ) -> Result<u64, StoreError> {
        self.minutes(MINUTES, tenant, (since, now)).await
    }

    /// The same of sessions of web pages, which no carrier bills and a model's service does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session_minutes_since(
        &self,
        tenant: &TenantId,
        since: WallTime,
        now: WallTime,
    ) -> Result<u64, StoreError> {
        self.minutes(SESSION_MINUTES, tenant, (since, now)).await
    }

    async fn minutes(
        &self,
        sql: &'static str,
        tenant: &TenantId,
        (since, now): (WallTime, WallTime),
    ) -> Result<u64, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let minutes: i64 = on!(tx, |c| sqlx::query_scalar(sql)
            .bind(tenant.as_str())
            .bind(since.0)
            .bind(now.0)
            .bind(since.plus_us(-LONGEST_US).0)
            .fetch_one(c)
            .await)?;
        Ok(u64::try_from(minutes).unwrap_or(0))
    }
}

/// A call that was answered since a moment was wanted at most this long before it: the longest that
/// it may wait in the queue. It keeps the look to the newest calls.
const LONGEST_US: i64 = 8 * 86_400 * 1_000_000;

const MINUTES: &str = "SELECT CAST(coalesce(sum((coalesce(ended_us, $3) - answered_us + 59999999) \
     / 60000000), 0) AS BIGINT) FROM calls WHERE tenant = $1 AND direction = 'outbound' \
     AND answered_us >= $2 AND created_us >= $4";

/// A session is a call that came in and that no carrier has a name for.
const SESSION_MINUTES: &str = "SELECT CAST(coalesce(sum((coalesce(ended_us, $3) - answered_us \
     + 59999999) / 60000000), 0) AS BIGINT) FROM calls WHERE tenant = $1 AND direction = 'inbound' \
     AND call_sid IS NULL AND answered_us >= $2 AND created_us >= $4";

//! Numbers that a tenant may not call.

use link::id::{TenantId, WallTime};

use super::call::Number;
use super::tx::{Scope, on};
use super::{Store, StoreError};

impl Store {
    /// Whether a number may not be called.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_unwanted(
        &self,
        tenant: &TenantId,
        number: &Number,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let found: Option<String> = on!(tx, |c| sqlx::query_scalar(FIND)
            .bind(tenant.as_str())
            .bind(number.as_str())
            .fetch_optional(c)
            .await)?;
        Ok(found.is_some())
    }

    /// Puts a number on the list; one that is there stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_unwanted(
        &self,
        tenant: &TenantId,
        number: &Number,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        on!(tx, |c| sqlx::query(INSERT)
            .bind(tenant.as_str())
            .bind(number.as_str())
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await
    }

    /// Takes a number off the list; whether it was there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_unwanted(
        &self,
        tenant: &TenantId,
        number: &Number,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let rows = on!(tx, |c| sqlx::query(DELETE)
            .bind(tenant.as_str())
            .bind(number.as_str())
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        tx.commit().await?;
        Ok(rows == 1)
    }

    /// The list behind `after`, in the order of the numbers, at most `limit` of them, each with the
    /// moment at which it came there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unwanted(
        &self,
        tenant: &TenantId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Number, WallTime)>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<(String, i64)> = on!(tx, |c| sqlx::query_as(LIST)
            .bind(tenant.as_str())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?;
        Ok(rows.into_iter().map(|(number, at)| (Number(number), WallTime(at))).collect())
    }
}

const FIND: &str = "SELECT number FROM do_not_call WHERE tenant = $1 AND number = $2";

const INSERT: &str = "INSERT INTO do_not_call (tenant, number, added_us) VALUES ($1, $2, $3) \
     ON CONFLICT (tenant, number) DO NOTHING";

const DELETE: &str = "DELETE FROM do_not_call WHERE tenant = $1 AND number = $2";

const LIST: &str = "SELECT number, added_us FROM do_not_call WHERE tenant = $1 AND number > $2 \
     ORDER BY number LIMIT $3";

//! Phone numbers: whose each one is, who answers it, and what share of its calls an old backend
//! still gets.

use link::id::{AgentName, TenantId, WallTime};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::agents::{CHANGES_PAGE, Changed, Expected};
use super::audit::{self, Deed};
use super::call::Number;
use super::idempotency::Once;
use super::revisions::next_revision;
use super::tx::{Scope, Tx, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;

/// A number of a tenant. No two tenants have the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number, E.164.
    pub number: Number,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where its calls go.
    pub route: Route,
    /// Grows with every change, from 1.
    pub version: u32,
    /// When the tenant took it.
    pub created_at: WallTime,
    /// When it was changed last.
    pub updated_at: WallTime,
}

/// Where the calls of a number go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Who answers; `None` takes the tenant's default agent.
    pub agent: Option<AgentName>,
    /// An old backend beside the agent.
    pub legacy: Option<Legacy>,
}

/// An old backend that a number moves away from. It also gets what cannot be answered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// Its voice webhook, `https`.
    pub url: String,
    /// How many calls of a hundred it still gets.
    pub percent: u8,
}

impl Legacy {
    /// Whether the old backend gets this call. Always the same for one call, on every instance, and
    /// a call that it gets at some share it also gets at every larger one.
    #[must_use]
    pub fn takes(&self, call_sid: &str) -> bool {
        let digest = Sha256::digest(call_sid);
        let sum = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        sum % 100 < u64::from(self.percent)
    }
}

/// A number that has changed since somebody looked.
#[derive(Debug)]
pub(crate) struct NumberChange {
    /// The place of the change.
    pub(crate) revision: i64,
    /// Whose number it is, or was.
    pub(crate) tenant: TenantId,
    /// The number.
    pub(crate) number: Number,
    /// How it is; `None` when it was given back.
    pub(crate) line: Option<Line>,
}

impl Store {
    /// Takes a number for a tenant. [`Changed::Exists`] says that the tenant has it,
    /// [`Changed::InUse`] that another one does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_number(
        &self,
        tenant: &TenantId,
        wish: (Number, Route),
        once: Option<&Once>,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Changed<Line>, StoreError> {
        let (number, route) = wish;
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let revision = next_revision(&mut tx).await?;
        if live(&mut tx, tenant, &number).await?.is_some() {
            return Ok(Changed::Exists);
        }
        let many: i64 =
            on!(tx, |c| sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(c).await)?;
        if many >= NUMBERS_MAX {
            return Ok(Changed::TooMany);
        }
        // What is left of an earlier time; the new row has a newer revision.
        on!(tx, |c| sqlx::query(FORGET)
            .bind(tenant.as_str())
            .bind(number.as_str())
            .execute(c)
            .await
            .map(drop))?;
        let (url, percent) = legacy_columns(&route);
        let rows = on!(tx, |c| sqlx::query(INSERT)
            .bind(tenant.as_str())
            .bind(number.as_str())
            .bind(route.agent.as_ref().map(AgentName::as_str))
            .bind(url)
            .bind(percent)
            .bind(revision)
            .bind(now.0)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        // Another tenant's row cannot be seen, only met.
        if rows == 0 {
            return Ok(Changed::InUse);
        }
        if let Some(once) = once {
            once.hold(&mut tx).await?;
        }
        let tenant = tenant.clone();
        let line = Line { number, tenant, route, version: 1, created_at: now, updated_at: now };
        note(&mut tx, &line, ("number.created", actor), now).await?;
        tx.commit().await?;
        Ok(Changed::Done(line))
    }

    /// Gives a number's calls another route.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn update_number(
        &self,
        tenant: &TenantId,
        number: &Number,
        change: (Route, Expected),
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Changed<Line>, StoreError> {
        let (route, expected) = change;
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let revision = next_revision(&mut tx).await?;
        let Some(line) = live(&mut tx, tenant, number).await? else { return Ok(Changed::Absent) };
        if !expected.allows(line.version) {
            return Ok(Changed::Stale(line.version));
        }
        let line = Line { route, version: line.version + 1, updated_at: now, ..line };
        let (url, percent) = legacy_columns(&line.route);
        on!(tx, |c| sqlx::query(UPDATE)
            .bind(tenant.as_str())
            .bind(number.as_str())
            .bind(line.route.agent.as_ref().map(AgentName::as_str))
            .bind(url)
            .bind(percent)
            .bind(i64::from(line.version))
            .bind(revision)
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        note(&mut tx, &line, ("number.changed", actor), now).await?;
        tx.commit().await?;
        Ok(Changed::Done(line))
    }

    /// Gives a number back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_number(
        &self,
        tenant: &TenantId,
        number: &Number,
        expected: Expected,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Changed<()>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let revision = next_revision(&mut tx).await?;
        let Some(line) = live(&mut tx, tenant, number).await? else { return Ok(Changed::Absent) };
        if !expected.allows(line.version) {
            return Ok(Changed::Stale(line.version));
        }
        on!(tx, |c| sqlx::query(DELETE)
            .bind(tenant.as_str())
            .bind(number.as_str())
            .bind(revision)
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        note(&mut tx, &line, ("number.deleted", actor), now).await?;
        tx.commit().await?;
        Ok(Changed::Done(()))
    }

    /// A number of the tenant.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn number(
        &self,
        tenant: &TenantId,
        number: &Number,
    ) -> Result<Option<Line>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        live(&mut tx, tenant, number).await
    }

    /// The tenant's numbers, in order; they are not many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn numbers(&self, tenant: &TenantId) -> Result<Vec<Line>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<LineRow> =
            on!(tx, |c| sqlx::query_as(SELECT_ALL).bind(tenant.as_str()).fetch_all(c).await)?;
        rows.into_iter().map(line_of).collect()
    }

    /// The numbers of all tenants that have changed behind a revision, in order, at most so many as
    /// one page has.
    pub(crate) async fn number_changes(&self, after: i64) -> Result<Vec<NumberChange>, StoreError> {
        let mut tx = self.db().survey().await?;
        let rows: Vec<ChangeRow> = on!(tx, |c| sqlx::query_as(SELECT_CHANGES)
            .bind(after)
            .bind(CHANGES_PAGE as i64)
            .fetch_all(c)
            .await)?;
        rows.into_iter()
            .map(|(number, tenant, agent, url, percent, version, at, changed, revision, gone)| {
                let row = (number, tenant, agent, url, percent, version, at, changed);
                let line = line_of(row)?;
                let (tenant, number) = (line.tenant.clone(), line.number.clone());
                Ok(NumberChange { revision, tenant, number, line: gone.is_none().then_some(line) })
            })
            .collect()
    }
}

/// Number, tenant, agent, the old backend and its share, version, and when it was made and changed.
type LineRow = (String, String, Option<String>, Option<String>, i64, i64, i64, i64);

/// The same, the revision, and when it was given back.
type ChangeRow =
    (String, String, Option<String>, Option<String>, i64, i64, i64, i64, i64, Option<i64>);

/// Says in the audit log what was done to a number. The old backend's address stays out of it: it may
/// hold a secret.
async fn note(
    tx: &mut Tx,
    line: &Line,
    (action, actor): (&'static str, &KeyId),
    now: WallTime,
) -> Result<(), StoreError> {
    let Route { agent, legacy } = &line.route;
    let detail = json!({
        "version": line.version,
        "agent": agent.as_ref().map(AgentName::as_str),
        "legacy_percent": legacy.as_ref().map_or(0, |legacy| legacy.percent),
    });
    let (subject, detail) = (line.number.as_str(), detail.to_string());
    audit::note(tx, &line.tenant, &Deed { actor, action, subject, detail }, now).await
}

async fn live(tx: &mut Tx, tenant: &TenantId, number: &Number) -> Result<Option<Line>, StoreError> {
    let row: Option<LineRow> = on!(*tx, |c| sqlx::query_as(SELECT_ONE)
        .bind(tenant.as_str())
        .bind(number.as_str())
        .fetch_optional(c)
        .await)?;
    row.map(line_of).transpose()
}

fn line_of(row: LineRow) -> Result<Line, StoreError> {
    let (number, tenant, agent, url, percent, version, created_us, updated_us) = row;
    let malformed = StoreError::Row { what: "number" };
    let agent = agent.map(AgentName::new).transpose();
    let small = (u8::try_from(percent), u32::try_from(version));
    let (Ok(tenant), Ok(agent), (Ok(percent), Ok(version))) = (TenantId::new(tenant), agent, small)
    else {
        return Err(malformed);
    };
    Ok(Line {
        number: Number(number),
        tenant,
        route: Route { agent, legacy: url.map(|url| Legacy { url, percent }) },
        version,
        created_at: WallTime(created_us),
        updated_at: WallTime(updated_us),
    })
}

fn legacy_columns(route: &Route) -> (Option<&str>, i64) {
    let legacy = route.legacy.as_ref();
    (legacy.map(|legacy| legacy.url.as_str()), legacy.map_or(0, |legacy| legacy.percent.into()))
}

/// Numbers of one tenant. Every instance keeps them in memory, a quarter of a KiB each.
const NUMBERS_MAX: i64 = 1_000;

macro_rules! columns {
    () => {
        "number, tenant, agent, legacy_url, legacy_percent, version, created_us, updated_us"
    };
}

const SELECT_ONE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM numbers WHERE tenant = $1 AND number = $2 AND deleted_us IS NULL"
);

const SELECT_ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM numbers WHERE tenant = $1 AND deleted_us IS NULL ORDER BY number"
);

const SELECT_CHANGES: &str = concat!(
    "SELECT ",
    columns!(),
    ", revision, deleted_us FROM numbers WHERE revision > $1 ORDER BY revision LIMIT $2"
);

const COUNT: &str =
    "SELECT CAST(count(*) AS BIGINT) FROM numbers WHERE tenant = $1 AND deleted_us IS NULL";

const FORGET: &str =
    "DELETE FROM numbers WHERE tenant = $1 AND number = $2 AND deleted_us IS NOT NULL";

const INSERT: &str = "INSERT INTO numbers (tenant, number, agent, legacy_url, legacy_percent, \
     version, revision, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $7) \
     ON CONFLICT DO NOTHING";

const UPDATE: &str = "UPDATE numbers SET agent = $3, legacy_url = $4, legacy_percent = $5, \
     version = $6, revision = $7, updated_us = $8 WHERE tenant = $1 AND number = $2";

const DELETE: &str = "UPDATE numbers SET revision = $3, deleted_us = $4 \
     WHERE tenant = $1 AND number = $2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_calls_is_that_share_and_only_grows() {
        let takes = |percent, n: u32| {
            let legacy = Legacy { url: "https://old.example".into(), percent };
            legacy.takes(&format!("CA{n:032x}"))
        };
        for percent in [0, 1, 10, 50, 99, 100] {
            let taken: Vec<_> = (0..10_000).filter(|n| takes(percent, *n)).collect();
            let expected = usize::from(percent) * 100;
            assert!(taken.len().abs_diff(expected) <= 200, "{percent}: {}", taken.len());
            assert!(percent > 0 || taken.is_empty());
            assert!(taken.iter().all(|n| takes((percent + 1).min(100), *n)), "{percent}");
        }
        assert_eq!((0..10_000).filter(|n| takes(100, *n)).count(), 10_000);
    }
}

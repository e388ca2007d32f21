//! Runs: calls that were started together, and are followed together. They are made in one with
//! their calls, in `dials.rs`.

use std::collections::BTreeSet;

use link::id::{CallId, RunId, TenantId, WallTime};

use super::call::Cursor;
use super::rows::EventRow;
use super::tx::{Scope, Tx, on};
use super::{Store, StoreError};
use crate::events::{Record, Seq};

/// Calls that were started together. Which ones they are, the calls say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The run.
    pub id: RunId,
    /// How many calls it was started with.
    pub calls: u32,
    /// When it was started.
    pub created_at: WallTime,
}

impl Store {
    /// One run.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn run(&self, tenant: &TenantId, id: &RunId) -> Result<Option<Run>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let row: Option<RunRow> = on!(tx, |c| sqlx::query_as(SELECT)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await)?;
        row.map(run_of).transpose()
    }

    /// The calls of a run.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calls_of_run(
        &self,
        tenant: &TenantId,
        run: &RunId,
    ) -> Result<BTreeSet<CallId>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let ids: Vec<String> = on!(tx, |c| sqlx::query_scalar(SELECT_CALLS)
            .bind(tenant.as_str())
            .bind(run.as_str())
            .fetch_all(c)
            .await)?;
        let call = |id| CallId::new(id).map_err(|_| StoreError::Row { what: "call id" });
        ids.into_iter().map(call).collect()
    }

    /// The records of a run's calls behind `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events_of_run(
        &self,
        tenant: &TenantId,
        after: Seq,
        run: &RunId,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<EventRow> = on!(tx, |c| sqlx::query_as(SELECT_EVENTS)
            .bind(tenant.as_str())
            .bind(after.0.cast_signed())
            .bind(run.as_str())
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// A page of the tenant's runs, newest first, at most `limit` of them, behind `after`; and where
    /// the next page begins.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn runs(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<(Vec<Run>, Option<Cursor>), StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<RunRow> = on!(tx, |c| sqlx::query_as(SELECT_PAGE)
            .bind(tenant.as_str())
            .bind(after.map_or(i64::MAX, |cursor| cursor.created_at.0))
            .bind(after.map_or("", |cursor| cursor.id.as_str()))
            .bind(i64::from(limit) + 1)
            .fetch_all(c)
            .await)?;
        let has_more = rows.len() > limit as usize;
        let rows = rows.into_iter().take(limit as usize);
        let runs = rows.map(run_of).collect::<Result<Vec<_>, _>>()?;
        let next = runs.last().filter(|_| has_more).and_then(cursor_of);
        Ok((runs, next))
    }
}

/// Makes a run, in the transaction that makes its calls ([`Store::start_run`]).
pub(super) async fn insert(tx: &mut Tx, tenant: &TenantId, run: &Run) -> Result<(), StoreError> {
    on!(*tx, |c| sqlx::query(INSERT)
        .bind(run.id.as_str())
        .bind(tenant.as_str())
        .bind(i64::from(run.calls))
        .bind(run.created_at.0)
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

/// A place in a list is a moment and an id, of whatever kind.
fn cursor_of(run: &Run) -> Option<Cursor> {
    let id = CallId::new(run.id.as_str()).ok()?;
    Some(Cursor { created_at: run.created_at, id })
}

/// Id, how many calls, and when it was made.
type RunRow = (String, i64, i64);

fn run_of((id, calls, created_us): RunRow) -> Result<Run, StoreError> {
    let id = RunId::new(id).map_err(|_| StoreError::Row { what: "run id" })?;
    let calls = u32::try_from(calls).map_err(|_| StoreError::Row { what: "number of calls" })?;
    Ok(Run { id, calls, created_at: WallTime(created_us) })
}

const INSERT: &str = "INSERT INTO runs (id, tenant, calls, created_us) VALUES ($1, $2, $3, $4)";

const SELECT: &str = "SELECT id, calls, created_us FROM runs WHERE tenant = $1 AND id = $2";

const SELECT_CALLS: &str = "SELECT id FROM calls WHERE tenant = $1 AND run = $2";

const SELECT_EVENTS: &str = "SELECT seq, call, generation, type, at_us, body FROM events \
     WHERE tenant = $1 AND seq > $2 \
     AND call IN (SELECT id FROM calls WHERE tenant = $1 AND run = $3) ORDER BY seq LIMIT $4";

const SELECT_PAGE: &str = "SELECT id, calls, created_us FROM runs \
     WHERE tenant = $1 AND (created_us, id) < ($2, $3) \
     ORDER BY created_us DESC, id DESC LIMIT $4";

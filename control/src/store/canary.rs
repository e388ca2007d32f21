//! What gets a share of new calls of its own, and how streams have fared since it was named.

use std::collections::BTreeMap;

use link::id::{TenantId, WallTime};
use serde_json::json;

use super::audit::{self, Deed};
use super::tx::{Scope, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;
use crate::fleet::canary::{Canary, Percent, Side, Subject};
use crate::fleet::tally::{Counts, Group};
use crate::fleet::trial::Trial;

impl Store {
    /// What is tried, and what all instances have counted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trial(&self) -> Result<Trial, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        let canary: Option<(String, String, i64, i64)> =
            on!(tx, |c| sqlx::query_as(SELECT).fetch_optional(c).await)?;
        let rows: Vec<CountsRow> = on!(tx, |c| sqlx::query_as(SELECT_COUNTS).fetch_all(c).await)?;
        let canary = canary.map(|(kind, subject, percent, since)| {
            let percent = u8::try_from(percent).ok().and_then(Percent::new);
            let read = Subject::read(&kind, &subject).zip(percent);
            let canary = |(subject, percent)| (Canary { subject, percent }, WallTime(since));
            read.map(canary).ok_or(StoreError::Row { what: "canary" })
        });
        let counts = rows.into_iter().map(read_counts).collect::<Result<_, _>>()?;
        Ok(Trial { canary: canary.transpose()?, counts })
    }

    /// Names a canary or changes its share, and says so in the log of the tenant whose key asked for
    /// it. With another subject than before, counting begins anew.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_canary(
        &self,
        tenant: &TenantId,
        Canary { subject, percent }: &Canary,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        on!(tx, |c| sqlx::query(FORGET_COUNTS)
            .bind(subject.kind())
            .bind(subject.name())
            .execute(c)
            .await
            .map(drop))?;
        on!(tx, |c| sqlx::query(UPSERT)
            .bind(subject.kind())
            .bind(subject.name())
            .bind(i64::from(percent.get()))
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        let detail = json!({"kind": subject.kind(), "percent": percent.get()}).to_string();
        let (action, subject) = ("canary.set", subject.name());
        audit::note(&mut tx, tenant, &Deed { actor, action, subject, detail }, now).await?;
        tx.commit().await
    }

    /// Ends the trial; what was counted stays until the next one. Says so in the log, if there was
    /// one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_canary(
        &self,
        tenant: &TenantId,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let subject: Option<String> =
            on!(tx, |c| sqlx::query_scalar(DELETE).fetch_optional(c).await)?;
        if let Some(subject) = subject {
            let (action, detail) = ("canary.ended", "{}".to_owned());
            let deed = Deed { actor, action, subject: &subject, detail };
            audit::note(&mut tx, tenant, &deed, now).await?;
        }
        tx.commit().await
    }

    /// Adds what one instance has counted.
    ///
    /// # Errors
    /// When the database fails: nothing was added, unless the commit itself failed to answer.
    pub async fn add_counts(&self, counted: &BTreeMap<Group, Counts>) -> Result<(), StoreError> {
        if counted.is_empty() {
            return Ok(());
        }
        let mut tx = self.db().write(Scope::Shared).await?;
        // In the order of the groups, so that two instances never wait for each other.
        for (Group { version, side }, counts) in counted {
            on!(tx, |c| sqlx::query(ADD)
                .bind(version)
                .bind(side.as_str())
                .bind(column(counts.placed))
                .bind(column(counts.started))
                .bind(column(counts.ended))
                .bind(column(counts.agent_failed))
                .bind(column(counts.relay_failed))
                .execute(c)
                .await
                .map(drop))?;
        }
        tx.commit().await
    }
}

/// A group and its counts, as they stand in a row.
type CountsRow = (String, String, i64, i64, i64, i64, i64);

fn read_counts(row: CountsRow) -> Result<(Group, Counts), StoreError> {
    let (version, side, placed, started, ended, agent_failed, relay_failed) = row;
    let side = Side::read(&side).ok_or(StoreError::Row { what: "side of a canary" })?;
    let counts = Counts {
        placed: placed.unsigned_abs(),
        started: started.unsigned_abs(),
        ended: ended.unsigned_abs(),
        agent_failed: agent_failed.unsigned_abs(),
        relay_failed: relay_failed.unsigned_abs(),
    };
    Ok((Group { version, side }, counts))
}

fn column(many: u64) -> i64 {
    i64::try_from(many).unwrap_or(i64::MAX)
}

const SELECT: &str = "SELECT kind, subject, percent, since_us FROM canary WHERE id = 1";

const SELECT_COUNTS: &str = "SELECT version, side, placed, started, ended, agent_failed, \
     relay_failed FROM canary_counts";

/// Unless the same is tried already. A trial that was ended counts as another.
const FORGET_COUNTS: &str = "DELETE FROM canary_counts WHERE NOT EXISTS \
     (SELECT 1 FROM canary WHERE id = 1 AND kind = $1 AND subject = $2)";

const UPSERT: &str = "INSERT INTO canary (id, kind, subject, percent, since_us) \
     VALUES (1, $1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, \
     subject = excluded.subject, percent = excluded.percent, since_us = CASE \
     WHEN canary.kind = excluded.kind AND canary.subject = excluded.subject \
     THEN canary.since_us ELSE excluded.since_us END";

const DELETE: &str = "DELETE FROM canary WHERE id = 1 RETURNING subject";

const ADD: &str = "INSERT INTO canary_counts \
     (version, side, placed, started, ended, agent_failed, relay_failed) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (version, side) DO UPDATE SET \
     placed = canary_counts.placed + excluded.placed, \
     started = canary_counts.started + excluded.started, \
     ended = canary_counts.ended + excluded.ended, \
     agent_failed = canary_counts.agent_failed + excluded.agent_failed, \
     relay_failed = canary_counts.relay_failed + excluded.relay_failed";

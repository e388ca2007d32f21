//! The store: everything durable, on SQLite or PostgreSQL, behind one type.
//!
//! Suggested reading order: [`call`] (what is stored of a call), `life` (how it changes, pure),
//! `calls` (reading and writing it), [`catch_up`] (what was decided without the database), [`dials`] and `queue` (outbound calls on their way), `ledger`
//! and `draft` (the sequencer's transaction), then the two engines: `tx`, `postgres`, `sqlite`.
//!
//! The same SQL text serves both engines, every statement names its tenant, and on PostgreSQL
//! row-level security says so once more. Every access is a transaction that knows its scope. Time
//! comes in as an argument; only the lease and detached calls live by the database's clock.

pub mod call;
mod life;

pub mod webhooks;

pub mod agents;
mod alive;
mod api_keys;
mod audit;
mod canary;
pub mod idempotency;
pub mod numbers;
mod revisions;

mod calls;
pub mod catch_up;
pub mod dials;
mod do_not_call;
mod draft;
mod ledger;
mod lost;
mod moves;
mod node_certificates;
mod nodes;
mod notes;
mod queue;
mod retention;
mod rows;
pub mod runs;
mod secrets;
mod signing_keys;
mod spend;
mod tenants;
mod usage;
mod vault;

mod look;
mod postgres;
mod sqlite;
mod tx;

use std::collections::BTreeMap;
use std::sync::Arc;

use link::id::{CallId, EventNumber, TenantId, WallTime};
use tokio::sync::Notify;

pub(crate) use self::alive::Alive;
pub use self::api_keys::{Added, StoredKey};
pub use self::audit::{AuditLine, Deed};
pub use self::calls::Ending;
pub(crate) use self::draft::take;
pub use self::ledger::{AtOnce, Entry, Gap, Ledger, LedgerError, Source, Times, Written};
pub(crate) use self::life::Lost;
pub use self::look::{Look, look};
pub use self::node_certificates::Admission;
pub use self::queue::{Bounds, Claimed, Health, Pacing};
use self::rows::EventRow;
pub use self::signing_keys::{BadRing, RingName, RingPlace, SealedKey};
pub use self::tenants::{Changed, Tenant, TenantLimits};
use self::tx::{Db, Scope, Sql, on};
pub use self::usage::Usage;
pub use self::vault::{CARRIER, CarrierAccount, Credential, NewCredential};
use crate::attempts::KINDS;
use crate::events::{Record, Seq};
use crate::keys::{KeyError, SealingKey};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's address or its settings are wrong.
    #[error("{problem}")]
    Operator {
        /// What is wrong and what would be right, without the address itself.
        problem: &'static str,
        /// What the database says about it.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// The tables could not be brought to this version.
    #[error("the database cannot be migrated")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database did not answer or refused.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A row holds what no version of ours wrote.
    #[error("a stored {what} is malformed")]
    Row {
        /// What it should have been.
        what: &'static str,
    },
}

impl StoreError {
    /// Whether the database is there and does not take what it was given, now or later.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Database(error) => {
                let kind = error.as_database_error().map(|error| error.kind());
                kind.is_some_and(|kind| !matches!(kind, sqlx::error::ErrorKind::Other))
            }
            Self::Row { .. } => true,
            Self::Operator { .. } | Self::Migration(_) | Self::Key(_) => false,
        }
    }

    /// The error and its causes in one line, for a log. Without the rows that a database quotes:
    /// they hold numbers and speech.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Everything durable. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    sealing: SealingKey,
    pending: Notify,
}

impl Store {
    /// Opens the database at a `sqlite://path` or `postgres://` address, makes what is missing and
    /// brings its tables to this version.
    ///
    /// # Errors
    /// When the address is wrong, the database is away, or the tables cannot be migrated.
    pub async fn open(url: &str, sealing: SealingKey) -> Result<Self, StoreError> {
        let db = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Db::Postgres(Box::new(postgres::open(url).await?))
        } else if url.starts_with("sqlite:") {
            Db::Sqlite(sqlite::open(url).await?)
        } else {
            let problem = "a database address begins with sqlite:// or postgres://";
            return Err(StoreError::Operator { problem, source: None });
        };
        Ok(Self { inner: Arc::new(Inner { db, sealing, pending: Notify::new() }) })
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        on!(tx, |c| sqlx::query("SELECT 1").execute(c).await.map(drop))?;
        Ok(())
    }

    /// Closes every connection, after what is under way.
    pub async fn close(&self) {
        self.db().close().await;
    }

    /// Makes a tenant, unless it is there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ensure_tenant(&self, tenant: &TenantId, now: WallTime) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        on!(tx, |c| sqlx::query(INSERT_TENANT)
            .bind(tenant.as_str())
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await?;
        Ok(())
    }

    /// The place of the tenant's last record; zero before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn head(&self, tenant: &TenantId) -> Result<Seq, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let head: Option<i64> = on!(tx, |c| sqlx::query_scalar(SELECT_HEAD)
            .bind(tenant.as_str())
            .fetch_optional(c)
            .await)?;
        Ok(Seq(head.unwrap_or(0).cast_unsigned()))
    }

    /// The same for several tenants, in one question; those without a record are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn heads(
        &self,
        tenants: &[TenantId],
    ) -> Result<BTreeMap<TenantId, Seq>, StoreError> {
        // A list in JSON: the one form that both engines take as a value.
        let names = serde_json::to_string(tenants).expect("ids are JSON");
        let mut tx = self.db().survey().await?;
        let sql = tx.pick(SELECT_HEADS);
        let rows: Vec<(String, i64)> =
            on!(tx, |c| sqlx::query_as(sql).bind(&names).fetch_all(c).await)?;
        let head = |(tenant, seq): (String, i64)| {
            let tenant = TenantId::new(tenant).map_err(|_| StoreError::Row { what: "tenant" })?;
            Ok((tenant, Seq(seq.cast_unsigned())))
        };
        rows.into_iter().map(head).collect()
    }

    /// The tenant's records behind `after`, in order, at most `limit`; of one call when asked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events_after(
        &self,
        tenant: &TenantId,
        after: Seq,
        call: Option<&CallId>,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        // Two texts and not one with an `OR`: each finds its own index.
        let sql = if call.is_some() { SELECT_EVENTS_OF_CALL } else { SELECT_EVENTS };
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<EventRow> = on!(tx, |c| sqlx::query_as(sql)
            .bind(tenant.as_str())
            .bind(after.0.cast_signed())
            .bind(i64::from(limit))
            .bind(call.map(CallId::as_str))
            .fetch_all(c)
            .await)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// What was said in a call, in the order in which it was told, at most `limit` turns.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn turns(
        &self,
        tenant: &TenantId,
        call: &CallId,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<EventRow> = on!(tx, |c| sqlx::query_as(SELECT_TURNS)
            .bind(tenant.as_str())
            .bind(call.as_str())
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// What was done with tools in a call, in the order in which it was told, at most `limit` records.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tool_records(
        &self,
        tenant: &TenantId,
        call: &CallId,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        let [intended, used] = KINDS;
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<EventRow> = on!(tx, |c| sqlx::query_as(SELECT_TOOLS)
            .bind(tenant.as_str())
            .bind(call.as_str())
            .bind(i64::from(limit))
            .bind(intended)
            .bind(used)
            .fetch_all(c)
            .await)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// The number of the last event of this source that was committed; zero before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark(&self, source: &Source) -> Result<EventNumber, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        ledger::mark(&mut tx, source).await
    }

    /// Resolves when control itself has decided something that waits for its place among the
    /// events. Only the sequencer listens.
    pub(crate) async fn pending_written(&self) {
        self.inner.pending.notified().await;
    }

    /// Whether this database can have one process only, so that whoever opens it may take over at
    /// once.
    pub(crate) fn is_private(&self) -> bool {
        self.db().is_private()
    }

    fn db(&self) -> &Db {
        &self.inner.db
    }
}

const INSERT_TENANT: &str =
    "INSERT INTO tenants (id, created_us) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";

const SELECT_HEAD: &str = "SELECT seq FROM heads WHERE tenant = $1";

const SELECT_HEADS: Sql = Sql {
    postgres: "SELECT tenant, seq FROM heads \
         WHERE tenant IN (SELECT json_array_elements_text($1::json))",
    sqlite: "SELECT tenant, seq FROM heads WHERE tenant IN (SELECT value FROM json_each($1))",
};

// Both statements take the same four values, so that one call serves them.
const SELECT_EVENTS: &str = "SELECT seq, call, generation, type, at_us, body FROM events \
     WHERE tenant = $1 AND seq > $2 AND $4 IS NULL ORDER BY seq LIMIT $3";

const SELECT_EVENTS_OF_CALL: &str = "SELECT seq, call, generation, type, at_us, body FROM events \
     WHERE tenant = $1 AND seq > $2 AND call = $4 ORDER BY seq LIMIT $3";

const SELECT_TOOLS: &str = "SELECT seq, call, generation, type, at_us, body FROM events \
     WHERE tenant = $1 AND call = $2 AND type IN ($4, $5) ORDER BY seq LIMIT $3";

const SELECT_TURNS: &str = "SELECT seq, call, generation, type, at_us, body FROM events \
     WHERE tenant = $1 AND call = $2 AND type = 'turn' ORDER BY seq LIMIT $3";

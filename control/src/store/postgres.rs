//! What only PostgreSQL needs: roles, scopes, and inserting in bulk.
//!
//! One address serves everything. Its role migrates and owns the tables; the pools then become
//! `linecard_app`, which sees one tenant at a time, `linecard_sequencer`, which writes events and
//! cannot read them, and `linecard_dialler`, which sees the queue of outbound calls and nothing
//! else. None bypasses row-level security.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, SqlStr};

use super::StoreError;
use super::ledger::Entry;
use super::tx::Scope;
use crate::access::key::KeyId;

/// The pools, by the role that their connections have become.
#[derive(Debug)]
pub(super) struct PgPools {
    /// `linecard_app`.
    pub(super) app: PgPool,
    /// `linecard_sequencer`.
    pub(super) sequencer: PgPool,
    /// `linecard_dialler`.
    pub(super) dialler: PgPool,
    /// How to connect as the owner of the tables, for the little that only it may do.
    pub(super) owner: PgConnectOptions,
}

/// Migrates and opens the pools.
pub(super) async fn open(url: &str) -> Result<PgPools, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::Operator { problem: MALFORMED, source: None })?
        .application_name("linecard-control");
    migrate(&options).await?;
    // After a long standstill today has no partition yet, and the first event needs it.
    keep_event_days(&options, None).await?;
    Ok(PgPools {
        app: pool(&options, APP_CONNECTIONS_MAX, BECOME_APP).await?,
        sequencer: pool(&options, SEQUENCER_CONNECTIONS_MAX, BECOME_SEQUENCER).await?,
        dialler: pool(&options, DIALLER_CONNECTIONS_MAX, BECOME_DIALLER).await?,
        owner: options,
    })
}

/// The statement that begins a transaction for a scope, in one round trip.
pub(super) fn begin(begin: &'static str, scope: Scope<'_>) -> SqlStr {
    use sqlx::SqlSafeStr as _;
    match scope {
        Scope::Shared => begin.into_sql_str(),
        // A tenant id is letters, digits, '-', '_' and '.': it cannot end the quotes.
        Scope::Tenant(tenant) => {
            AssertSqlSafe(format!("{begin}; SET LOCAL app.tenant = '{tenant}'")).into_sql_str()
        }
        // Neither can the name of a key: letters, digits and '-'.
        Scope::Keys(keys) => {
            let keys: Vec<_> = keys.iter().map(KeyId::as_str).collect();
            let keys = keys.join(",");
            AssertSqlSafe(format!("{begin}; SET LOCAL app.keys = '{keys}'")).into_sql_str()
        }
    }
}

/// Inserts events in one statement. `COPY` would be as fast, and is refused for tables with
/// row-level security.
pub(super) async fn insert_events(
    connection: &mut PgConnection,
    entries: &[Entry],
) -> Result<(), StoreError> {
    fn column<'a, T>(entries: &'a [Entry], of: impl FnMut(&'a Entry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    let source = |entry: &Entry| entry.source.as_ref().map(|(source, _)| source.epoch_column());
    sqlx::query(INSERT_EVENTS)
        .bind(column(entries, |entry| entry.tenant.as_str()))
        .bind(column(entries, |entry| entry.record.seq.0.cast_signed()))
        .bind(column(entries, |entry| entry.record.call.as_ref().map(|call| call.as_str())))
        .bind(column(entries, |entry| entry.record.generation.map(|g| i64::from(g.0))))
        .bind(column(entries, |entry| entry.source.as_ref().map(|(s, _)| s.node.as_str())))
        .bind(column(entries, source))
        .bind(column(entries, |entry| entry.source.as_ref().map(|(_, n)| n.0.cast_signed())))
        .bind(column(entries, |entry| entry.record.kind.as_str()))
        .bind(column(entries, |entry| entry.record.at.0))
        .bind(column(entries, |entry| entry.record.data.as_str()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes partitions for the days that come and drops those that ended more than `keep_days` ago;
/// says how many were dropped. On a connection of its own: it happens once an hour.
pub(super) async fn keep_event_days(
    owner: &PgConnectOptions,
    keep_days: Option<u32>,
) -> Result<u64, StoreError> {
    let mut connection = PgConnection::connect_with(owner).await?;
    sqlx::raw_sql(IN_TIME).execute(&mut connection).await?;
    let dropped: i64 = sqlx::query_scalar("SELECT linecard_event_days($1)")
        .bind(keep_days.map(i64::from))
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(dropped.cast_unsigned())
}

async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = PgConnection::connect_with(options)
        .await
        .map_err(|source| StoreError::Operator { problem: UNREACHABLE, source: Some(source) })?;
    // The migrator holds an advisory lock meanwhile, so several controls may start at once.
    migrator().run_direct(None, &mut connection, false).await?;
    connection.close().await?;
    Ok(())
}

/// The number of the last migration.
pub(super) fn newest() -> i64 {
    migrator().iter().map(|step| step.version).max().unwrap_or_default()
}

/// Every migration, oldest first. One that was released is never changed: databases keep its sum.
fn migrator() -> Migrator {
    let step = |version, name: &'static str, sql| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(vec![
        step(1, "first", include_str!("migrations/postgres/0001_first.sql")),
        step(2, "transferred", include_str!("migrations/postgres/0002_transferred.sql")),
        step(3, "tenants", include_str!("migrations/postgres/0003_tenants.sql")),
        step(4, "agents", include_str!("migrations/postgres/0004_agents.sql")),
        step(5, "dials", include_str!("migrations/postgres/0005_dials.sql")),
        step(6, "event days", include_str!("migrations/postgres/0006_event_days.sql")),
        step(7, "webhooks", include_str!("migrations/postgres/0007_webhooks.sql")),
        step(8, "nodes", include_str!("migrations/postgres/0008_nodes.sql")),
        step(
            9,
            "node certificates",
            include_str!("migrations/postgres/0009_node_certificates.sql"),
        ),
        step(10, "canary", include_str!("migrations/postgres/0010_canary.sql")),
    ])
}

async fn pool(
    options: &PgConnectOptions,
    connections_max: u32,
    become_role: &'static str,
) -> Result<PgPool, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(become_role).execute(connection).await?;
                Ok(())
            })
        })
        .connect_with(options.clone())
        .await
        .map_err(|source| StoreError::Operator { problem: NO_ROLE, source: Some(source) })?;
    Ok(pool)
}

const INSERT_EVENTS: &str = "INSERT INTO events \
     (tenant, seq, call, generation, node, epoch, n, type, at_us, body) \
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], \
     $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::text[])";

/// A transaction that its process has forgotten must not hold a call's row, nor the lease's: whoever
/// wants the lease waits for it.
const BECOME_APP: &str = "SET ROLE linecard_app; SET statement_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s'";
const BECOME_SEQUENCER: &str = "SET ROLE linecard_sequencer; SET statement_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '2s'";

/// Whoever holds the lock meanwhile does the same, which takes milliseconds.
const IN_TIME: &str = "SET lock_timeout = '5s'; SET statement_timeout = '30s'";

const BECOME_DIALLER: &str = "SET ROLE linecard_dialler; SET statement_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s'";

/// Webhooks and API requests hold a connection for about a millisecond; eight serve thousands of
/// them a second, and leave a small server's hundred to others.
const APP_CONNECTIONS_MAX: u32 = 8;

/// The sequencer uses one; another is there while a broken one is being replaced.
const SEQUENCER_CONNECTIONS_MAX: u32 = 2;

/// One takes calls from the queue, and the other says how the carrier's account fares.
const DIALLER_CONNECTIONS_MAX: u32 = 2;

/// A carrier waits 15 s for a webhook's answer; it is told of a database that is away long before.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) const MALFORMED: &str = "the postgres:// address cannot be read";
pub(super) const UNREACHABLE: &str = "the PostgreSQL server cannot be reached or refuses this user";
const NO_ROLE: &str =
    "this PostgreSQL user cannot become linecard_app, linecard_sequencer and linecard_dialler";

//! What only SQLite needs: the file, its settings, and inserting in bulk.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlStr, SqliteConnection, SqlitePool};

use super::StoreError;
use super::ledger::Entry;
use super::tx::SqlitePools;

/// Makes the file if it is missing, migrates, and opens the pools.
pub(super) async fn open(url: &str) -> Result<SqlitePools, StoreError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|_| StoreError::Operator { problem: MALFORMED, source: None })?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged event is durable, so every commit reaches the disk. In WAL mode that is
        // one sync a commit, and a commit carries up to 200 events.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true);
    let writer = connect(&options).await?;
    migrate(&writer).await?;
    let reader = pool(READERS_MAX).connect_with(options.pragma("query_only", "ON")).await?;
    Ok(SqlitePools { writer, reader })
}

/// Opens the writer. A file becomes a WAL file under a lock that does not wait, whatever the busy
/// time-out says: a process that starts beside another one asks again.
async fn connect(options: &SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    let mut attempt = 1;
    loop {
        match pool(1).connect_with(options.clone()).await {
            Ok(writer) => return Ok(writer),
            Err(error) if is_busy(&error) && attempt < OPEN_ATTEMPTS => attempt += 1,
            Err(source) => {
                return Err(StoreError::Operator { problem: UNREACHABLE, source: Some(source) });
            }
        }
        tokio::time::sleep(OPEN_PAUSE).await;
    }
}

/// Whether another process has the file locked. Source: SQLite, "Result and Error Codes", 5.
fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "5")
}

/// Inserts events, one prepared statement again and again: within one transaction this takes 9 us
/// a row.
pub(super) async fn insert_events(
    connection: &mut SqliteConnection,
    entries: &[Entry],
) -> Result<(), StoreError> {
    for entry in entries {
        let (source, n) = entry.source.as_ref().map(|(source, n)| (source, n)).unzip();
        sqlx::query(INSERT_EVENT)
            .bind(entry.tenant.as_str())
            .bind(entry.record.seq.0.cast_signed())
            .bind(entry.record.call.as_ref().map(|call| call.as_str()))
            .bind(entry.record.generation.map(|generation| i64::from(generation.0)))
            .bind(source.map(|source| source.node.as_str()))
            .bind(source.map(|source| source.epoch_column()))
            .bind(n.map(|n| n.0.cast_signed()))
            .bind(entry.record.kind.as_str())
            .bind(entry.record.at.0)
            .bind(entry.record.data.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// SQLite has no lock that covers a whole migration: a process that starts beside another one may
/// find a table made in between, and looks again.
async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut attempt = 1;
    loop {
        match migrator().run(pool).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt == MIGRATION_ATTEMPTS => return Err(error.into()),
            Err(_) => attempt += 1,
        }
    }
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
        step(1, "first", include_str!("migrations/sqlite/0001_first.sql")),
        step(2, "transferred", include_str!("migrations/sqlite/0002_transferred.sql")),
        step(3, "tenants", include_str!("migrations/sqlite/0003_tenants.sql")),
        step(4, "agents", include_str!("migrations/sqlite/0004_agents.sql")),
        step(5, "dials", include_str!("migrations/sqlite/0005_dials.sql")),
        step(6, "event days", include_str!("migrations/sqlite/0006_event_days.sql")),
        step(7, "webhooks", include_str!("migrations/sqlite/0007_webhooks.sql")),
        step(8, "nodes", include_str!("migrations/sqlite/0008_nodes.sql")),
        step(9, "node certificates", include_str!("migrations/sqlite/0009_node_certificates.sql")),
        step(10, "canary", include_str!("migrations/sqlite/0010_canary.sql")),
    ])
}

/// Connections to a file cost nothing to keep and some to make, so they stay.
fn pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
}

const INSERT_EVENT: &str = "INSERT INTO events \
     (tenant, seq, call, generation, node, epoch, n, type, at_us, body, stored_us) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, unixepoch('now') * 1000000)";

/// How long a statement waits for another process that has the file locked (a backup).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than the busy time-out, so that a locked file is reported as that.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(6);

/// Each reader is a thread with a page cache of up to 2 MB.
const READERS_MAX: u32 = 4;

const MIGRATION_ATTEMPTS: u32 = 3;

/// As long as the busy time-out, together: whoever holds the file for longer is told of.
const OPEN_ATTEMPTS: u32 = 100;

/// Making a WAL file takes a few milliseconds.
const OPEN_PAUSE: Duration = Duration::from_millis(50);

pub(super) const MALFORMED: &str = "the sqlite:// address cannot be read";
pub(super) const UNREACHABLE: &str =
    "the SQLite file cannot be opened or made; is its folder there?";

//! One transaction of either engine, and who it speaks for.

use link::id::TenantId;
use sqlx::{Postgres, Sqlite, SqlitePool, Transaction};

use super::postgres::PgPools;
use super::{StoreError, postgres};
use crate::access::key::KeyId;

/// The database behind the store.
#[derive(Debug)]
pub(super) enum Db {
    /// A shared server.
    Postgres(Box<PgPools>),
    /// A file of this process.
    Sqlite(SqlitePools),
}

/// SQLite has one writer at a time; readers go beside it.
#[derive(Debug)]
pub(super) struct SqlitePools {
    /// One connection: writers queue here, in the process, where waiting is fair.
    pub(super) writer: SqlitePool,
    /// Connections that cannot write.
    pub(super) reader: SqlitePool,
}

/// Who a transaction speaks for. On PostgreSQL it decides which rows exist.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// One tenant.
    Tenant(&'a TenantId),
    /// Nobody yet: a request has shown these keys, and only they are looked at.
    Keys(&'a [KeyId]),
    /// Nobody: only what belongs to no tenant.
    Shared,
}

/// A transaction of either engine. Dropped without a commit, it is rolled back.
#[derive(Debug)]
pub(super) enum Tx {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

/// Runs the same expression on the connection of either engine.
macro_rules! on {
    ($tx:expr, |$connection:ident| $run:expr) => {
        match &mut $tx {
            $crate::store::tx::Tx::Postgres(tx) => {
                let $connection = &mut **tx;
                $run
            }
            $crate::store::tx::Tx::Sqlite(tx) => {
                let $connection = &mut **tx;
                $run
            }
        }
    };
}
pub(super) use on;

impl Db {
    /// Begins a transaction that only reads.
    pub(super) async fn read(&self, scope: Scope<'_>) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres(pools) => {
                // The scope travels with BEGIN: one trip, and no statement can run without it.
                let begin = postgres::begin("BEGIN READ ONLY", scope);
                Tx::Postgres(pools.app.begin_with(begin).await?)
            }
            // Deferred, so that readers never wait for the writer.
            Self::Sqlite(pools) => Tx::Sqlite(pools.reader.begin().await?),
        })
    }

    /// Begins a transaction that writes.
    pub(super) async fn write(&self, scope: Scope<'_>) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres(pools) => {
                Tx::Postgres(pools.app.begin_with(postgres::begin("BEGIN", scope)).await?)
            }
            Self::Sqlite(pools) => Tx::Sqlite(pools.writer.begin_with(BEGIN_IMMEDIATE).await?),
        })
    }

    /// Begins a transaction that looks at all tenants, as far as the sequencer may.
    pub(super) async fn survey(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres(pools) => {
                Tx::Postgres(pools.sequencer.begin_with("BEGIN READ ONLY").await?)
            }
            Self::Sqlite(pools) => Tx::Sqlite(pools.reader.begin().await?),
        })
    }

    /// Begins a transaction of the sequencer, which writes for all tenants.
    pub(super) async fn sequence(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres(pools) => Tx::Postgres(pools.sequencer.begin().await?),
            Self::Sqlite(pools) => Tx::Sqlite(pools.writer.begin_with(BEGIN_IMMEDIATE).await?),
        })
    }

    /// Begins a transaction of the dialler, which takes calls of all tenants from the queue.
    pub(super) async fn dial(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres(pools) => Tx::Postgres(pools.dialler.begin().await?),
            Self::Sqlite(pools) => Tx::Sqlite(pools.writer.begin_with(BEGIN_IMMEDIATE).await?),
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(pools) => {
                pools.app.close().await;
                pools.dialler.close().await;
                pools.sequencer.close().await;
            }
            Self::Sqlite(pools) => {
                pools.reader.close().await;
                pools.writer.close().await;
            }
        }
    }

    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

impl Tx {
    /// Commits. After an error nobody knows whether it did.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(tx) => tx.commit().await?,
            Self::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// The text for this engine, where the engines differ.
    pub(super) fn pick(&self, sql: Sql) -> &'static str {
        match self {
            Self::Postgres(_) => sql.postgres,
            Self::Sqlite(_) => sql.sqlite,
        }
    }
}

/// A statement that the engines spell differently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sql {
    pub(super) postgres: &'static str,
    pub(super) sqlite: &'static str,
}

/// Takes the write lock at once: a transaction that reads first and writes later would fail, not
/// wait, when another writer came in between.
const BEGIN_IMMEDIATE: &str = "BEGIN IMMEDIATE";

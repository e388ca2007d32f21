//! A look at a database, for the doctor: it makes nothing and migrates nothing.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use super::{StoreError, postgres, sqlite};

/// How a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It has none of our tables.
    Fresh,
    /// Its tables are those of an earlier version.
    Older {
        /// The last migration that it has seen.
        applied: i64,
        /// The last one that this program knows.
        newest: i64,
    },
    /// Its tables are those of this version.
    Current,
    /// Its tables are those of a later version.
    Newer {
        /// The last migration that it has seen.
        applied: i64,
        /// The last one that this program knows.
        newest: i64,
    },
    /// Its user sees all rows, whatever their policies say. PostgreSQL only.
    Bypasses,
}

/// Looks at the database of an address.
///
/// # Errors
/// When the address is wrong or the database is away.
pub async fn look(url: &str) -> Result<Look, StoreError> {
    let (applied, newest) = if url.starts_with("sqlite:") {
        (of_sqlite(url).await?, sqlite::newest())
    } else {
        match of_postgres(url).await? {
            Some(applied) => (applied, postgres::newest()),
            None => return Ok(Look::Bypasses),
        }
    };
    Ok(match applied {
        None => Look::Fresh,
        Some(applied) if applied < newest => Look::Older { applied, newest },
        Some(applied) if applied > newest => Look::Newer { applied, newest },
        Some(_) => Look::Current,
    })
}

async fn of_sqlite(url: &str) -> Result<Option<i64>, StoreError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|_| StoreError::Operator { problem: sqlite::MALFORMED, source: None })?
        .read_only(true);
    if !options.get_filename().exists() {
        return Ok(None);
    }
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let has = sqlx::query_scalar(SQLITE_HAS).fetch_optional(&mut connection).await?;
    let Some::<i64>(_) = has else { return Ok(None) };
    Ok(sqlx::query_scalar(APPLIED).fetch_one(&mut connection).await?)
}

/// `None` when the user bypasses row-level security.
async fn of_postgres(url: &str) -> Result<Option<Option<i64>>, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::Operator { problem: postgres::MALFORMED, source: None })?;
    let mut connection = PgConnection::connect_with(&options).await.map_err(|source| {
        StoreError::Operator { problem: postgres::UNREACHABLE, source: Some(source) }
    })?;
    let bypasses: bool = sqlx::query_scalar(POSTGRES_BYPASSES).fetch_one(&mut connection).await?;
    if bypasses {
        return Ok(None);
    }
    let has: bool = sqlx::query_scalar(POSTGRES_HAS).fetch_one(&mut connection).await?;
    if !has {
        return Ok(Some(None));
    }
    Ok(Some(sqlx::query_scalar(APPLIED).fetch_one(&mut connection).await?))
}

/// The migrator's own table. Source: sqlx 0.9, `migrate`, read 2026-11-28.
const APPLIED: &str = "SELECT max(version) FROM _sqlx_migrations";

const SQLITE_HAS: &str =
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";

const POSTGRES_HAS: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";

const POSTGRES_BYPASSES: &str =
    "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";

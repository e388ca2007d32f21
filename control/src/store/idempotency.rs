//! Requests that may come twice: whoever sends an `Idempotency-Key` gets the same answer to the same
//! request for a day, and what was asked is done once.
//!
//! Three steps. [`Store::begin_once`] takes the key for one holder. What is asked is done in a
//! transaction that also says so ([`Once::hold`]), so that after a crash it is known whether it was
//! done. [`Store::answer_once`] keeps the answer, sealed: it may hold numbers. A key whose holder
//! fell silent before its transaction is given to the next one who asks.

use link::id::{TenantId, WallTime};
use uuid::Uuid;

use super::tx::{Scope, Sql, Tx, on};
use super::{Store, StoreError};

/// The right to do what was asked with a key.
#[derive(Debug)]
pub struct Once {
    tenant: TenantId,
    key: String,
    holder: String,
}

/// What is known of a key.
#[derive(Debug)]
pub enum Begun {
    /// Nobody has done it; it is to be done.
    Fresh(Once),
    /// It was done, and this was said.
    Answered(Vec<u8>),
    /// It is being done, or was, and nothing is known of an answer.
    Unfinished,
    /// The key was used for something else.
    Other,
}

impl Once {
    /// Says in the transaction that does it that it is done.
    ///
    /// # Errors
    /// When the database fails, or another holder has come in between: the transaction must not be
    /// committed then.
    pub(super) async fn hold(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let rows = on!(*tx, |c| sqlx::query(HOLD)
            .bind(self.tenant.as_str())
            .bind(self.key.as_str())
            .bind(self.holder.as_str())
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        if rows == 1 { Ok(()) } else { Err(StoreError::Row { what: "idempotency key" }) }
    }
}

impl Store {
    /// Takes a key for what `digest` is the digest of, unless it was taken before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_once(
        &self,
        tenant: &TenantId,
        key: &str,
        digest: &[u8],
        now: WallTime,
    ) -> Result<Begun, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        on!(tx, |c| sqlx::query(EXPIRE)
            .bind(tenant.as_str())
            .bind(now.0 - KEPT_US)
            .execute(c)
            .await
            .map(drop))?;
        let once = Once {
            tenant: tenant.clone(),
            key: key.to_owned(),
            holder: Uuid::new_v4().simple().to_string(),
        };
        let rows = on!(tx, |c| sqlx::query(INSERT)
            .bind(tenant.as_str())
            .bind(key)
            .bind(digest)
            .bind(once.holder.as_str())
            .bind(now.0)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        if rows == 1 {
            tx.commit().await?;
            return Ok(Begun::Fresh(once));
        }
        let sql = tx.pick(SELECT);
        let row: Option<Row> = on!(tx, |c| sqlx::query_as(sql)
            .bind(tenant.as_str())
            .bind(key)
            .fetch_optional(c)
            .await)?;
        // Forgotten between the two statements: whoever held it did nothing.
        let Some((known, held, answer, at_us)) = row else { return Ok(Begun::Unfinished) };
        if known != digest {
            return Ok(Begun::Other);
        }
        if let Some(sealed) = answer {
            let opened = self.inner.sealing.open(&sealed_name(tenant, key), &sealed)?;
            return Ok(Begun::Answered(opened.to_vec()));
        }
        if held != 0 || at_us > now.0 - SILENT_US {
            return Ok(Begun::Unfinished);
        }
        on!(tx, |c| sqlx::query(TAKE_OVER)
            .bind(tenant.as_str())
            .bind(key)
            .bind(once.holder.as_str())
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await?;
        Ok(Begun::Fresh(once))
    }

    /// Keeps what was answered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answer_once(&self, once: &Once, answer: &[u8]) -> Result<(), StoreError> {
        let sealed = self.inner.sealing.seal(&sealed_name(&once.tenant, &once.key), answer)?;
        let mut tx = self.db().write(Scope::Tenant(&once.tenant)).await?;
        on!(tx, |c| sqlx::query(ANSWER)
            .bind(once.tenant.as_str())
            .bind(once.key.as_str())
            .bind(once.holder.as_str())
            .bind(sealed)
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await
    }

    /// Gives a key back with which nothing was done. One with which something was stays taken.
    ///
    /// # Errors
    /// When the database fails: the key is free again after a minute.
    pub async fn forget_once(&self, once: &Once) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(&once.tenant)).await?;
        on!(tx, |c| sqlx::query(FORGET)
            .bind(once.tenant.as_str())
            .bind(once.key.as_str())
            .bind(once.holder.as_str())
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await
    }
}

/// Digest, whether it was done, the sealed answer, and since when the holder has it.
type Row = (Vec<u8>, i64, Option<Vec<u8>>, i64);

fn sealed_name(tenant: &TenantId, key: &str) -> String {
    format!("idempotency/{tenant}/{key}")
}

/// How long an answer is kept: a day.
const KEPT_US: i64 = 24 * 3_600 * 1_000_000;

/// How long a holder may be silent before its transaction. A request takes seconds; one that comes
/// back later finds that it must not commit.
const SILENT_US: i64 = 60 * 1_000_000;

const EXPIRE: &str = "DELETE FROM idempotency WHERE tenant = $1 AND at_us <= $2";

const INSERT: &str = "INSERT INTO idempotency (tenant, key, digest, holder, held, at_us) \
     VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (tenant, key) DO NOTHING";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT digest, held, answer, at_us FROM idempotency WHERE tenant = $1 AND key = $2",
            $rest
        )
    };
}

const SELECT: Sql = Sql { postgres: select!(" FOR UPDATE"), sqlite: select!("") };

const TAKE_OVER: &str =
    "UPDATE idempotency SET holder = $3, at_us = $4 WHERE tenant = $1 AND key = $2";

const HOLD: &str = "UPDATE idempotency SET held = 1 WHERE tenant = $1 AND key = $2 AND holder = $3";

const ANSWER: &str =
    "UPDATE idempotency SET answer = $4 WHERE tenant = $1 AND key = $2 AND holder = $3";

const FORGET: &str = "DELETE FROM idempotency \
     WHERE tenant = $1 AND key = $2 AND holder = $3 AND held = 0 AND answer IS NULL";

//! API keys as they are stored: the hash of each, never the key.

use link::id::{TenantId, WallTime};
use serde_json::json;
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use super::audit::{self, Deed};
use super::idempotency::Once;
use super::rows::parsed;
use super::tx::{Scope, Sql, Tx, on};
use super::{Store, StoreError};
use crate::access::key::{KeyHash, KeyId};
use crate::access::scope::Scopes;

/// A key of a tenant.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Its name.
    pub id: KeyId,
    /// Whose key it is.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What is known of its secret.
    pub hash: KeyHash,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: WallTime,
    /// From when on it is refused; `None` for a key that does not expire.
    pub expires_at: Option<WallTime>,
    /// When it was used last, to the minute; `None` before its first use.
    pub used_at: Option<WallTime>,
    /// When it was revoked; `None` for one that was not.
    pub revoked_at: Option<WallTime>,
}

/// What became of a wish to add a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// The tenant has [`Store::KEYS_MAX`] already.
    TooMany,
    /// There is no such tenant.
    NoTenant,
}

impl Store {
    /// The most keys of one tenant that are neither revoked nor expired.
    pub const KEYS_MAX: u32 = 500;

    /// Adds a key and says so in the audit log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_api_key(&self, key: &StoredKey, actor: &KeyId) -> Result<Added, StoreError> {
        self.add_api_key_once(key, None, actor).await
    }

    /// The same, for a request that may come twice.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_api_key_once(
        &self,
        key: &StoredKey,
        once: Option<&Once>,
        actor: &KeyId,
    ) -> Result<Added, StoreError> {
        let now = key.created_at;
        let mut tx = self.db().write(Scope::Tenant(&key.tenant)).await?;
        let tenant: Option<String> = on!(tx, |c| sqlx::query_scalar(SELECT_TENANT)
            .bind(key.tenant.as_str())
            .fetch_optional(c)
            .await)?;
        if tenant.is_none() {
            return Ok(Added::NoTenant);
        }
        let good: i64 = on!(tx, |c| sqlx::query_scalar(COUNT_GOOD)
            .bind(key.tenant.as_str())
            .bind(now.0)
            .fetch_one(c)
            .await)?;
        if good >= i64::from(Self::KEYS_MAX) {
            return Ok(Added::TooMany);
        }
        if let Some(once) = once {
            once.hold(&mut tx).await?;
        }
        insert(&mut tx, key).await?;
        let detail = json!({"name": key.name, "scopes": key.scopes.words()}).to_string();
        let (action, subject) = ("key.created", key.id.as_str());
        audit::note(&mut tx, &key.tenant, &Deed { actor, action, subject, detail }, now).await?;
        tx.commit().await?;
        Ok(Added::Done)
    }

    /// The tenant's keys, newest first, the revoked ones, too; at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_keys(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<StoredKey>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_OF_TENANT)
            .bind(tenant.as_str())
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?)
    }

    /// One key of the tenant.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_key(
        &self,
        tenant: &TenantId,
        id: &KeyId,
    ) -> Result<Option<StoredKey>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        one(&mut tx, tenant, id).await
    }

    /// The keys of these names, whosever they are: what requests have shown. Unknown names are
    /// missing in the answer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shown_api_keys(&self, ids: &[KeyId]) -> Result<Vec<StoredKey>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = ids.iter().map(KeyId::as_str).collect();
        let mut tx = self.db().read(Scope::Keys(ids)).await?;
        let sql = tx.pick(SELECT_SHOWN);
        Ok(on!(tx, |c| sqlx::query_as(sql).bind(names.join(",")).fetch_all(c).await)?)
    }

    /// Revokes a key for good; one that is revoked stays so, since when it was. `None` when the
    /// tenant has no such key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Option<StoredKey>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let changed = on!(tx, |c| sqlx::query(REVOKE)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .bind(now.0)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        let key = one(&mut tx, tenant, id).await?;
        if changed > 0 {
            let (action, subject) = ("key.revoked", id.as_str());
            let deed = Deed { actor, action, subject, detail: "{}".to_owned() };
            audit::note(&mut tx, tenant, &deed, now).await?;
        }
        tx.commit().await?;
        Ok(key)
    }

    /// Notes when a key was used last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_key_use(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        at: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        on!(tx, |c| sqlx::query(NOTE_USE)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .bind(at.0)
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await
    }
}

async fn insert(tx: &mut Tx, key: &StoredKey) -> Result<(), StoreError> {
    on!(*tx, |c| sqlx::query(INSERT)
        .bind(key.id.as_str())
        .bind(key.tenant.as_str())
        .bind(key.name.as_str())
        .bind(key.hash.as_bytes())
        .bind(key.scopes.words().join(" "))
        .bind(key.created_at.0)
        .bind(key.expires_at.map(|at| at.0))
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

async fn one(tx: &mut Tx, tenant: &TenantId, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
    Ok(on!(*tx, |c| sqlx::query_as(SELECT_ONE)
        .bind(tenant.as_str())
        .bind(id.as_str())
        .fetch_optional(c)
        .await)?)
}

impl<'r, R: Row> FromRow<'r, R> for StoredKey
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let maybe_time =
            |column| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.map(WallTime));
        let id = KeyId::new(&row.try_get::<String, _>("id")?);
        let hash = KeyHash::from_bytes(&row.try_get::<Vec<u8>, _>("hash")?);
        let scopes: String = row.try_get("scopes")?;
        Ok(Self {
            id: parsed("id", id.ok_or(BadColumn))?,
            tenant: parsed("tenant", TenantId::new(row.try_get::<String, _>("tenant")?))?,
            name: row.try_get("name")?,
            hash: parsed("hash", hash.ok_or(BadColumn))?,
            scopes: Scopes::stored(&scopes),
            created_at: WallTime(row.try_get("created_us")?),
            expires_at: maybe_time("expires_us")?,
            used_at: maybe_time("used_us")?,
            revoked_at: maybe_time("revoked_us")?,
        })
    }
}

/// A column that no version of ours wrote.
#[derive(Debug, thiserror::Error)]
#[error("malformed")]
struct BadColumn;

macro_rules! columns {
    () => {
        "id, tenant, name, hash, scopes, created_us, expires_us, used_us, revoked_us"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO api_keys (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL)"
);

const SELECT_TENANT: &str = "SELECT id FROM tenants WHERE id = $1";

const COUNT_GOOD: &str = "SELECT count(*) FROM api_keys WHERE tenant = $1 \
     AND revoked_us IS NULL AND (expires_us IS NULL OR expires_us > $2)";

const SELECT_ONE: &str =
    concat!("SELECT ", columns!(), " FROM api_keys WHERE tenant = $1 AND id = $2");

const SELECT_OF_TENANT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM api_keys WHERE tenant = $1 ORDER BY created_us DESC, id DESC LIMIT $2"
);

/// The names travel as one text, since SQLite has no arrays; a name holds no comma and no quote.
const SELECT_SHOWN: Sql = Sql {
    postgres: concat!(
        "SELECT ",
        columns!(),
        " FROM api_keys WHERE id = ANY (string_to_array($1, ','))"
    ),
    sqlite: concat!(
        "SELECT ",
        columns!(),
        " FROM api_keys WHERE id IN \
         (SELECT value FROM json_each('[\"' || replace($1, ',', '\",\"') || '\"]'))"
    ),
};

const REVOKE: &str = "UPDATE api_keys SET revoked_us = $3 \
     WHERE tenant = $1 AND id = $2 AND revoked_us IS NULL";

const NOTE_USE: &str = "UPDATE api_keys SET used_us = $3 \
     WHERE tenant = $1 AND id = $2 AND (used_us IS NULL OR used_us < $3)";

//! Provider keys and carrier accounts of tenants: written, never shown, opened only for who uses
//! them.
//!
//! Each is sealed with its tenant's data key, and the data key with the sealing key. What a secret
//! is sealed for (tenant, kind, version) is authenticated with it, so that a row that was copied
//! to another place does not open.

use link::id::{TenantId, WallTime};
use link::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};
use zeroize::Zeroizing;

use super::audit::{self, Deed};
use super::revisions::renew_agents;
use super::tx::{Scope, Tx, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;
use crate::keys::SealingKey;

/// A secret of a tenant, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// What it is for: a provider's word, or `carrier`.
    pub kind: String,
    /// What people tell it by: its last characters, or an account's name.
    pub hint: String,
    /// Grows with every change.
    pub version: i64,
    /// When it was set last.
    pub changed_at: WallTime,
}

/// A secret that a tenant sets.
#[derive(Debug)]
pub struct NewCredential<'a> {
    /// What it is for.
    pub kind: &'a str,
    /// What people tell it by; it is shown.
    pub hint: &'a str,
    /// The secret itself.
    pub secret: &'a [u8],
}

/// A tenant's account at the carrier.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CarrierAccount {
    /// Its name.
    pub account_sid: String,
    /// What the carrier signs with, and what opens its API.
    pub auth_token: Secret,
    /// What it will be after the next change, which is taken as well until then.
    #[serde(default)]
    pub next_auth_token: Option<Secret>,
    /// The origin of the carrier's API; `None` for the ordinary one.
    #[serde(default)]
    pub api_url: Option<String>,
}

/// The kind under which a tenant's [`CarrierAccount`] is kept.
pub const CARRIER: &str = "carrier";

impl Store {
    /// The tenant's own account at the carrier; `None` when it has none.
    ///
    /// # Errors
    /// When the database fails, or the account does not open.
    pub async fn carrier_account(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<CarrierAccount>, StoreError> {
        let opened = self.credential(tenant, CARRIER).await?;
        let read = |text: Zeroizing<Vec<u8>>| serde_json::from_slice(&text);
        opened.map(read).transpose().map_err(|_| StoreError::Row { what: "carrier account" })
    }

    /// The tenant's own key of a provider; `None` when it has none.
    ///
    /// # Errors
    /// When the database fails, or the key does not open.
    pub async fn provider_key(
        &self,
        tenant: &TenantId,
        provider: &str,
    ) -> Result<Option<Secret>, StoreError> {
        let opened = self.credential(tenant, provider).await?;
        let read = |text: Zeroizing<Vec<u8>>| std::str::from_utf8(&text).map(Secret::new);
        opened.map(read).transpose().map_err(|_| StoreError::Row { what: "provider key" })
    }

    /// Sets a secret of a tenant, whether or not there was one.
    ///
    /// # Errors
    /// When the database fails, or nothing can be sealed.
    pub async fn set_credential(
        &self,
        tenant: &TenantId,
        new: &NewCredential<'_>,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Credential, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let data_key = self.data_key(&mut tx, tenant).await?;
        let sql = tx.pick(SELECT_VERSION);
        let version: Option<i64> = on!(tx, |c| sqlx::query_scalar(sql)
            .bind(tenant.as_str())
            .bind(new.kind)
            .fetch_optional(c)
            .await)?;
        let version = version.unwrap_or(0) + 1;
        let sealed = data_key.seal(&place(tenant, new.kind, version), new.secret)?;
        on!(tx, |c| sqlx::query(UPSERT)
            .bind(tenant.as_str())
            .bind(new.kind)
            .bind(version)
            .bind(new.hint)
            .bind(sealed.as_slice())
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        // In the same transaction, so that whoever reads an agent again finds its new key.
        if new.kind != CARRIER {
            renew_agents(&mut tx, tenant).await?;
        }
        let detail = json!({"hint": new.hint, "version": version}).to_string();
        let (action, subject) = ("credential.set", new.kind);
        audit::note(&mut tx, tenant, &Deed { actor, action, subject, detail }, now).await?;
        tx.commit().await?;
        let (kind, hint) = (new.kind.to_owned(), new.hint.to_owned());
        Ok(Credential { kind, hint, version, changed_at: now })
    }

    /// Takes a secret of a tenant away; false when there was none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_credential(
        &self,
        tenant: &TenantId,
        kind: &str,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let dropped = on!(tx, |c| sqlx::query(DELETE)
            .bind(tenant.as_str())
            .bind(kind)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        if dropped > 0 && kind != CARRIER {
            renew_agents(&mut tx, tenant).await?;
        }
        if dropped > 0 {
            let (action, detail) = ("credential.dropped", "{}".to_owned());
            let deed = Deed { actor, action, subject: kind, detail };
            audit::note(&mut tx, tenant, &deed, now).await?;
        }
        tx.commit().await?;
        Ok(dropped > 0)
    }

    /// What secrets a tenant has, as far as they may be shown.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn credentials(&self, tenant: &TenantId) -> Result<Vec<Credential>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_SHOWN).bind(tenant.as_str()).fetch_all(c).await)?)
    }

    /// A secret of a tenant, for who uses it; `None` when the tenant has none of this kind.
    ///
    /// # Errors
    /// When the database fails, or the secret does not open.
    pub async fn credential(
        &self,
        tenant: &TenantId,
        kind: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let found: Option<(i64, Vec<u8>)> = on!(tx, |c| sqlx::query_as(SELECT_SEALED)
            .bind(tenant.as_str())
            .bind(kind)
            .fetch_optional(c)
            .await)?;
        let Some((version, sealed)) = found else { return Ok(None) };
        let data_key = read_data_key(&mut tx, tenant).await?;
        let data_key = data_key.ok_or(StoreError::Row { what: "data key" })?;
        let data_key = self.open_data_key(tenant, &data_key)?;
        Ok(Some(data_key.open(&place(tenant, kind, version), &sealed)?))
    }

    /// The tenant's data key, made when it is needed first.
    async fn data_key(&self, tx: &mut Tx, tenant: &TenantId) -> Result<SealingKey, StoreError> {
        if let Some(sealed) = read_data_key(tx, tenant).await? {
            return self.open_data_key(tenant, &sealed);
        }
        let made = SealingKey::generate()?;
        let sealed = self.inner.sealing.seal(&data_key_name(tenant), made.as_bytes())?;
        on!(*tx, |c| sqlx::query(INSERT_DATA_KEY)
            .bind(tenant.as_str())
            .bind(sealed.as_slice())
            .execute(c)
            .await
            .map(drop))?;
        // On a conflict the row of the one who came first is there.
        let kept = read_data_key(tx, tenant).await?;
        self.open_data_key(tenant, &kept.ok_or(StoreError::Row { what: "data key" })?)
    }

    fn open_data_key(&self, tenant: &TenantId, sealed: &[u8]) -> Result<SealingKey, StoreError> {
        let opened = self.inner.sealing.open(&data_key_name(tenant), sealed)?;
        Ok(SealingKey::from_bytes(&opened)?)
    }
}

async fn read_data_key(tx: &mut Tx, tenant: &TenantId) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(on!(*tx, |c| sqlx::query_scalar(SELECT_DATA_KEY)
        .bind(tenant.as_str())
        .fetch_optional(c)
        .await)?)
}

/// What a secret is sealed for.
fn place(tenant: &TenantId, kind: &str, version: i64) -> String {
    format!("credential/{tenant}/{kind}/{version}")
}

fn data_key_name(tenant: &TenantId) -> String {
    format!("data-key/{tenant}")
}

impl<'r, R: Row> FromRow<'r, R> for Credential
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        Ok(Self {
            kind: row.try_get("kind")?,
            hint: row.try_get("hint")?,
            version: row.try_get("version")?,
            changed_at: WallTime(row.try_get("changed_us")?),
        })
    }
}

/// The row is locked, so that two changes at once get two versions.
const SELECT_VERSION: super::tx::Sql = super::tx::Sql {
    postgres: "SELECT version FROM credentials WHERE tenant = $1 AND kind = $2 FOR UPDATE",
    sqlite: "SELECT version FROM credentials WHERE tenant = $1 AND kind = $2",
};

const UPSERT: &str = "INSERT INTO credentials (tenant, kind, version, hint, sealed, changed_us) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, kind) DO UPDATE SET \
     version = excluded.version, hint = excluded.hint, sealed = excluded.sealed, \
     changed_us = excluded.changed_us";

const DELETE: &str = "DELETE FROM credentials WHERE tenant = $1 AND kind = $2";

const SELECT_SHOWN: &str = "SELECT kind, hint, version, changed_us FROM credentials \
     WHERE tenant = $1 ORDER BY kind";

const SELECT_SEALED: &str =
    "SELECT version, sealed FROM credentials WHERE tenant = $1 AND kind = $2";

const SELECT_DATA_KEY: &str = "SELECT sealed FROM data_keys WHERE tenant = $1";

const INSERT_DATA_KEY: &str =
    "INSERT INTO data_keys (tenant, sealed) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING";

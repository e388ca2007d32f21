//! The keys that control signs with, sealed, in two rings that all instances share.

use std::str::FromStr;

use link::id::{TenantId, WallTime};
use serde_json::json;
use zeroize::Zeroizing;

use super::audit::{self, Deed};
use super::tx::{Scope, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;

/// What keys are for. Each ring turns by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RingName {
    /// Tickets and session tokens: relays hold the public half.
    Ticket,
    /// Passes and what else only control reads.
    Pass,
}

impl RingName {
    /// The ring as its column says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Pass => "pass",
        }
    }
}

/// A word that is no ring's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no ring of keys")]
pub struct BadRing;

impl FromStr for RingName {
    type Err = BadRing;

    fn from_str(text: &str) -> Result<Self, BadRing> {
        match text {
            "ticket" => Ok(Self::Ticket),
            "pass" => Ok(Self::Pass),
            _ => Err(BadRing),
        }
    }
}

/// The place of a key: its ring, its number there, and from when on it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingPlace {
    /// Which ring.
    pub ring: RingName,
    /// Counted from 1; a higher one signs later.
    pub number: i64,
    /// From when on it signs; it is published before.
    pub signs_at: WallTime,
}

/// A key as it is stored.
#[derive(Debug, Clone)]
pub struct SealedKey {
    /// Where it belongs.
    pub place: RingPlace,
    sealed: Vec<u8>,
}

impl Store {
    /// Every key of both rings, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_keys(&self) -> Result<Vec<SealedKey>, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        let rows: Vec<(String, i64, i64, Vec<u8>)> =
            on!(tx, |c| sqlx::query_as(SELECT).fetch_all(c).await)?;
        let key = |(ring, number, signs_us, sealed): (String, i64, i64, Vec<u8>)| {
            let ring = ring.parse().map_err(|_| StoreError::Row { what: "ring" })?;
            let place = RingPlace { ring, number, signs_at: WallTime(signs_us) };
            Ok(SealedKey { place, sealed })
        };
        let mut keys = rows.into_iter().map(key).collect::<Result<Vec<_>, StoreError>>()?;
        // By our own order, not by a collation of words.
        keys.sort_by_key(|key| key.place);
        Ok(keys)
    }

    /// The bytes of a key.
    ///
    /// # Errors
    /// When it was sealed with another sealing key.
    pub fn open_signing_key(&self, key: &SealedKey) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        Ok(self.inner.sealing.open(&seal_name(key.place), &key.sealed)?)
    }

    /// Adds a key, unless another instance has added the one of this number.
    ///
    /// # Errors
    /// When the database fails, or nothing can be sealed.
    pub async fn add_signing_key(&self, place: RingPlace, key: &[u8]) -> Result<(), StoreError> {
        let sealed = self.inner.sealing.seal(&seal_name(place), key)?;
        let mut tx = self.db().write(Scope::Shared).await?;
        on!(tx, |c| sqlx::query(INSERT)
            .bind(place.ring.as_str())
            .bind(place.number)
            .bind(sealed.as_slice())
            .bind(place.signs_at.0)
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await
    }

    /// Puts a key into the place of all that its ring had, for good, and says so in the audit log;
    /// false when another instance has added the one of this number: then nothing was done.
    ///
    /// # Errors
    /// When the database fails, or nothing can be sealed.
    pub async fn replace_signing_keys(
        &self,
        place: RingPlace,
        key: &[u8],
        actor: &KeyId,
    ) -> Result<bool, StoreError> {
        let sealed = self.inner.sealing.seal(&seal_name(place), key)?;
        // Rings belong to nobody; who changed them stands in the log of the operator's tenant.
        let tenant = TenantId::default();
        let mut tx = self.db().write(Scope::Tenant(&tenant)).await?;
        let ring = place.ring.as_str();
        let made = on!(tx, |c| sqlx::query(INSERT)
            .bind(ring)
            .bind(place.number)
            .bind(sealed.as_slice())
            .bind(place.signs_at.0)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        if made == 0 {
            return Ok(false);
        }
        on!(tx, |c| sqlx::query(DELETE)
            .bind(ring)
            .bind(place.number - 1)
            .execute(c)
            .await
            .map(drop))?;
        let detail = json!({"number": place.number}).to_string();
        let deed = Deed { actor, action: "signing_key.rotated", subject: ring, detail };
        audit::note(&mut tx, &tenant, &deed, place.signs_at).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes away the keys of a ring up to a number, for good.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_signing_keys(&self, ring: RingName, through: i64) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Shared).await?;
        on!(tx, |c| sqlx::query(DELETE)
            .bind(ring.as_str())
            .bind(through)
            .execute(c)
            .await
            .map(drop))?;
        tx.commit().await
    }
}

fn seal_name(place: RingPlace) -> String {
    format!("signing-key/{}/{}", place.ring.as_str(), place.number)
}

const SELECT: &str = "SELECT ring, number, signs_us, sealed FROM signing_keys";

const INSERT: &str = "INSERT INTO signing_keys (ring, number, sealed, signs_us) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (ring, number) DO NOTHING";

const DELETE: &str = "DELETE FROM signing_keys WHERE ring = $1 AND number <= $2";

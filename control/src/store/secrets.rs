//! Secrets that control makes once and keeps: sealed before they reach the database.

use zeroize::Zeroizing;

use super::tx::{Scope, Tx, on};
use super::{Store, StoreError};

impl Store {
    /// The secret of this name; when there is none, `make` makes it. Of several controls that
    /// start at once, one makes it and all get the same.
    ///
    /// # Errors
    /// When the database fails, or the stored secret was sealed with another key.
    pub async fn secret_or_make<E>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<Zeroizing<Vec<u8>>, E>
    where
        E: From<StoreError>,
    {
        let sealing = &self.inner.sealing;
        let found = self.sealed(name).await?;
        let sealed = match found {
            Some(sealed) => sealed,
            None => {
                // What this process made may lose to another's: only what the table keeps counts.
                let made = sealing.seal(name, &make()?).map_err(StoreError::from)?;
                self.keep_sealed(name, &made).await?
            }
        };
        Ok(sealing.open(name, &sealed).map_err(StoreError::from)?)
    }

    async fn sealed(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        read(&mut tx, name).await
    }

    /// Stores a sealed secret unless there is one, and says which one there is.
    async fn keep_sealed(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut tx = self.db().write(Scope::Shared).await?;
        on!(tx, |c| sqlx::query(INSERT).bind(name).bind(sealed).execute(c).await.map(drop))?;
        // Read in the same transaction: on a conflict the row of the one who came first is there.
        let kept = read(&mut tx, name).await?.ok_or(StoreError::Row { what: "secret" })?;
        tx.commit().await?;
        Ok(kept)
    }
}

async fn read(tx: &mut Tx, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(on!(*tx, |c| sqlx::query_scalar(SELECT).bind(name).fetch_optional(c).await)?)
}

const SELECT: &str = "SELECT sealed FROM secrets WHERE name = $1";
const INSERT: &str =
    "INSERT INTO secrets (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";

//! Which certificates relays were given, and which nodes are not let in any more.
//!
//! A node that is revoked has no certificate, and its name gets none: the join token alone does not
//! bring it back.

use std::collections::BTreeSet;

use link::id::{NodeId, TenantId, WallTime};

use super::audit::{self, Deed};
use super::tx::{Scope, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;
use crate::fleet::authority::Issued;

/// Whether a node may come in, as an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may, if it shows what it must.
    Admitted,
    /// It may not, whatever it shows.
    Revoked,
}

impl Store {
    /// Keeps a certificate that was just made, and forgets those of the node that have expired.
    /// False when the node was revoked meanwhile: then it must not be given away.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_node_certificate(
        &self,
        node: &NodeId,
        issued: &Issued,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db().write(Scope::Shared).await?;
        on!(tx, |c| sqlx::query(DELETE_EXPIRED)
            .bind(node.as_str())
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        let kept = on!(tx, |c| sqlx::query(INSERT)
            .bind(issued.fingerprint.as_str())
            .bind(node.as_str())
            .bind(now.0)
            .bind(issued.good_until.0)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        tx.commit().await?;
        Ok(kept > 0)
    }

    /// Whose certificate this is; `None` when it is nobody's, or not good any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn node_of_certificate(
        &self,
        fingerprint: &str,
        now: WallTime,
    ) -> Result<Option<NodeId>, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        let node: Option<String> = on!(tx, |c| sqlx::query_scalar(SELECT)
            .bind(fingerprint)
            .bind(now.0)
            .fetch_optional(c)
            .await)?;
        node.map(named).transpose()
    }

    /// The nodes that are not let in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoked_nodes(&self) -> Result<BTreeSet<NodeId>, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        let nodes: Vec<String> =
            on!(tx, |c| sqlx::query_scalar(SELECT_REVOKED).fetch_all(c).await)?;
        nodes.into_iter().map(named).collect()
    }

    /// Revokes a node, its certificates included, or lets it in again; says so in the log of the
    /// tenant whose key asked for it. Twice is as good as once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_admission(
        &self,
        tenant: &TenantId,
        (node, admission): (&NodeId, Admission),
        actor: &KeyId,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let name = node.as_str();
        let action = match admission {
            Admission::Revoked => {
                on!(tx, |c| sqlx::query(REVOKE).bind(name).bind(now.0).execute(c).await.map(drop))?;
                on!(tx, |c| sqlx::query(DELETE_ALL).bind(name).execute(c).await.map(drop))?;
                "node.revoked"
            }
            Admission::Admitted => {
                on!(tx, |c| sqlx::query(ADMIT).bind(name).execute(c).await.map(drop))?;
                "node.admitted"
            }
        };
        let deed = Deed { actor, action, subject: name, detail: "{}".to_owned() };
        audit::note(&mut tx, tenant, &deed, now).await?;
        tx.commit().await
    }
}

fn named(node: String) -> Result<NodeId, StoreError> {
    NodeId::new(node).map_err(|_| StoreError::Row { what: "node's name" })
}

const INSERT: &str = "INSERT INTO node_certificates (fingerprint, node, issued_us, expires_us) \
     SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM revoked_nodes WHERE node = $2)";

const DELETE_EXPIRED: &str = "DELETE FROM node_certificates WHERE node = $1 AND expires_us <= $2";

const SELECT: &str =
    "SELECT node FROM node_certificates WHERE fingerprint = $1 AND expires_us > $2";

const SELECT_REVOKED: &str = "SELECT node FROM revoked_nodes";

const REVOKE: &str = "INSERT INTO revoked_nodes (node, revoked_us) VALUES ($1, $2) \
     ON CONFLICT (node) DO NOTHING";

const DELETE_ALL: &str = "DELETE FROM node_certificates WHERE node = $1";

const ADMIT: &str = "DELETE FROM revoked_nodes WHERE node = $1";

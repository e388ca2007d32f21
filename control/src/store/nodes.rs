//! What operators say of nodes. Which nodes there are is not stored: relays come and say so
//! ([`crate::fleet::nodes`]), and whether one is drained only it knows.

use std::collections::BTreeMap;

use link::id::{NodeId, TenantId, WallTime};
use serde_json::json;

use super::audit::{self, Deed};
use super::tx::{Scope, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;
use crate::fleet::orders::Intake;
use crate::fleet::placement::Weight;

impl Store {
    /// The weights of the nodes of which something was said.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn node_weights(&self) -> Result<BTreeMap<NodeId, Weight>, StoreError> {
        let mut tx = self.db().read(Scope::Shared).await?;
        let rows: Vec<(String, i64)> = on!(tx, |c| sqlx::query_as(SELECT).fetch_all(c).await)?;
        let read = |(node, weight): (String, i64)| {
            let weight = u8::try_from(weight).ok().and_then(Weight::new);
            NodeId::new(node).ok().zip(weight).ok_or(StoreError::Row { what: "node's weight" })
        };
        rows.into_iter().map(read).collect()
    }

    /// Sets a node's weight, and says so in the log of the tenant whose key asked for it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_node_weight(
        &self,
        tenant: &TenantId,
        (node, weight): (&NodeId, Weight),
        actor: &KeyId,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        on!(tx, |c| sqlx::query(UPSERT)
            .bind(node.as_str())
            .bind(i64::from(weight.get()))
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        let detail = json!({"weight": weight.get()}).to_string();
        let (action, subject) = ("node.weighted", node.as_str());
        audit::note(&mut tx, tenant, &Deed { actor, action, subject, detail }, now).await?;
        tx.commit().await
    }

    /// Says in the log of the tenant whose key asks for it that a node is told to take calls or none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_intake(
        &self,
        tenant: &TenantId,
        (node, intake): (&NodeId, Intake),
        actor: &KeyId,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let action = match intake {
            Intake::Drained => "node.drained",
            Intake::Open => "node.undrained",
        };
        let deed = Deed { actor, action, subject: node.as_str(), detail: "{}".to_owned() };
        audit::note(&mut tx, tenant, &deed, now).await?;
        tx.commit().await
    }
}

const SELECT: &str = "SELECT node, weight FROM nodes";

const UPSERT: &str = "INSERT INTO nodes (node, weight, changed_us) VALUES ($1, $2, $3) \
     ON CONFLICT (node) DO UPDATE SET weight = excluded.weight, changed_us = excluded.changed_us";

//! The calls of a node that has vanished.

use link::id::NodeId;

use super::call::Call;
use super::calls::Find;
use super::life::Lost;
use super::rows::call_columns;
use super::tx::on;
use super::{Store, StoreError};

impl Store {
    /// The phone calls whose latest stream is on this node, as far as the database knows, oldest
    /// first, of all tenants.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calls_on(&self, node: &NodeId, limit: u32) -> Result<Vec<Call>, StoreError> {
        let mut tx = self.db().survey().await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_ON_NODE)
            .bind(node.as_str())
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?)
    }

    /// The call's stream was on a node that has vanished without closing it: the next one goes to
    /// `to`. `None` when the call has moved on since, or nothing is to follow.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn move_call(&self, lost: &Call, to: &NodeId) -> Result<Option<Call>, StoreError> {
        let moved = self.change(&lost.tenant, Find::Id(&lost.id), |call| {
            (Lost::of(lost).is_some_and(|lost| call.move_from(lost, to)), None)
        });
        Ok(moved.await?.and_then(|(call, is_moved)| is_moved.then_some(call)))
    }
}

const SELECT_ON_NODE: &str = concat!(
    "SELECT ",
    call_columns!(),
    " FROM calls WHERE node = $1 AND state IN ('starting', 'active') AND state <> 'ended' \
     AND call_sid IS NOT NULL ORDER BY created_us, id LIMIT $2"
);

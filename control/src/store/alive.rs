//! The calls that tenants have at once.

use link::id::TenantId;

use super::call::Direction;
use super::tx::{Sql, on};
use super::{Store, StoreError};

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// The carrier's name of it; its id where the carrier has none.
    pub(crate) name: String,
    /// Who called whom.
    pub(crate) direction: Direction,
}

impl Store {
    /// The calls of these tenants that are not over. One that waits to be dialled is not among them:
    /// nobody has it yet.
    pub(crate) async fn alive(&self, tenants: &[TenantId]) -> Result<Vec<Alive>, StoreError> {
        // A list in JSON: the one form that both engines take as a value.
        let names = serde_json::json!(tenants).to_string();
        let mut tx = self.db().survey().await?;
        let sql = tx.pick(SELECT);
        let rows: Vec<(String, String, String)> =
            on!(tx, |c| sqlx::query_as(sql).bind(&names).fetch_all(c).await)?;
        let read = |(tenant, name, direction): (String, String, String)| {
            let malformed = StoreError::Row { what: "call" };
            let read = TenantId::new(tenant).ok().zip(direction.parse::<Direction>().ok());
            let (tenant, direction) = read.ok_or(malformed)?;
            Ok(Alive { tenant, name, direction })
        };
        rows.into_iter().map(read).collect()
    }
}

macro_rules! select {
    ($tenants:literal) => {
        concat!(
            "SELECT tenant, coalesce(call_sid, id), direction FROM calls \
             WHERE state <> 'ended' AND tenant IN (",
            $tenants,
            ") AND (direction = 'inbound' OR state <> 'queued' OR EXISTS (SELECT 1 FROM dials \
             WHERE dials.call = calls.id AND dials.state <> 'waiting'))"
        )
    };
}

const SELECT: Sql = Sql {
    postgres: select!("SELECT json_array_elements_text($1::json)"),
    sqlite: select!("SELECT value FROM json_each($1)"),
};

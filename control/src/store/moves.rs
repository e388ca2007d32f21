//! What is asked of the store to let calls go on at other nodes.

use link::event::{Role, Turn};
use link::id::{CallId, NodeId, TenantId};
use link::message::Said;

use super::call::Call;
use super::rows::{EventRow, call_columns};
use super::tx::{Scope, on};
use super::{Store, StoreError};
use crate::events::{Record, json_of};

impl Store {
    /// The phone calls, of all tenants, that a stream carries on this node, oldest first and at most
    /// `limit` of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn active_on(&self, node: &NodeId, limit: u32) -> Result<Vec<Call>, StoreError> {
        let mut tx = self.db().survey().await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_ACTIVE)
            .bind(node.as_str())
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?)
    }

    /// What was said in a call last, oldest first, as much of it as a node is told.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn said(&self, tenant: &TenantId, call: &CallId) -> Result<Vec<Said>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<EventRow> = on!(tx, |c| sqlx::query_as(SELECT_LAST_TURNS)
            .bind(tenant.as_str())
            .bind(call.as_str())
            .bind(TURNS_MAX)
            .fetch_all(c)
            .await)?;
        Ok(in_order(rows.into_iter().map(|row| row.0)))
    }
}

/// Turns, newest first, as what was said, oldest first. Turns are told when they are complete; where
/// they stand in the conversation, they say themselves.
fn in_order(newest_first: impl Iterator<Item = Record>) -> Vec<Said> {
    let mut bytes_left = SAID_BYTES_MAX;
    let mut turns = Vec::new();
    for record in newest_first {
        // What another release has written in another way is not told.
        let Ok(turn) = serde_json::from_str::<Turn>(&record.data) else { continue };
        let cut = turn.role == Role::Agent && turn.interrupted;
        let (order, said) = (turn.order, Said { role: turn.role, text: turn.text, cut });
        // As it travels: JSON may escape a byte with six.
        let Some(left) = bytes_left.checked_sub(json_of(&said).len()) else { break };
        bytes_left = left;
        turns.push((record.generation, order, record.seq, said));
    }
    turns.sort_by_key(|(generation, order, seq, _)| (*generation, *order, *seq));
    turns.into_iter().map(|(.., said)| said).collect()
}

/// The turns that a node is told: as many as it remembers itself.
const TURNS_MAX: i64 = 96;

/// What they may take as they travel: half of a frame of the link.
const SAID_BYTES_MAX: usize = 32 * 1024;

/// Among the calls that are not over, which an index has.
const SELECT_ACTIVE: &str = concat!(
    "SELECT ",
    call_columns!(),
    " FROM calls WHERE state <> 'ended' AND state = 'active' AND node = $1 \
     AND call_sid IS NOT NULL ORDER BY created_us LIMIT $2"
);

const SELECT_LAST_TURNS: &str = "SELECT seq, call, generation, type, at_us, body FROM events \
     WHERE tenant = $1 AND call = $2 AND type = 'turn' ORDER BY seq DESC LIMIT $3";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Seq;
    use link::id::{Gen, WallTime};

    fn turn(seq: u64, generation: u32, order: u32, turn: &serde_json::Value) -> Record {
        let mut data = turn.clone();
        data["item"] = "i".into();
        data["order"] = order.into();
        Record {
            seq: Seq(seq),
            kind: "turn".into(),
            call: None,
            generation: Some(Gen(generation)),
            at: WallTime(0),
            data: data.to_string(),
        }
    }

    fn texts(said: &[Said]) -> Vec<&str> {
        said.iter().map(|said| said.text.as_str()).collect()
    }

    #[test]
    fn turns_are_told_in_the_order_in_which_they_were_said() {
        let caller = |text: &str| serde_json::json!({"role": "caller", "text": text});
        let agent = serde_json::json!({"role": "agent", "text": "two", "interrupted": true});
        let records = [
            turn(4, 1, 1, &caller("three")),
            turn(3, 0, 1, &caller("one")),
            turn(2, 0, 2, &agent),
            Record { data: "{}".into(), ..turn(1, 0, 0, &caller("of another release")) },
        ];
        let said = in_order(records.into_iter());
        assert_eq!(texts(&said), ["one", "two", "three"]);
        assert_eq!(said.iter().map(|said| said.cut).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn what_is_told_fits_a_frame_and_the_newest_counts() {
        let long = serde_json::json!({"role": "caller", "text": "\u{1}".repeat(1_000)});
        let said = in_order((1..=96).rev().map(|n| turn(n, 0, u32::try_from(n).unwrap(), &long)));
        assert!(!said.is_empty() && said.len() < 6);
        assert!(serde_json::to_vec(&said).unwrap().len() < link::frame::FRAME_BYTES_MAX / 2);
    }
}

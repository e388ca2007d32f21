//! What is said about a call without changing its life.

use link::id::{TenantId, WallTime};
use serde_json::json;

use super::call::{AnsweredBy, Call, CarrierIds};
use super::calls::Find;
use super::{Store, StoreError};
use crate::dialer::plan::OnMachine;
use crate::events::Fact;

impl Store {
    /// The carrier could not open or keep a stream, in the carrier's words; `None` when there is
    /// no such call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_stream_error(
        &self,
        tenant: &TenantId,
        carrier: &CarrierIds,
        words: &str,
        now: WallTime,
    ) -> Result<Option<Call>, StoreError> {
        // PostgreSQL stores no NUL.
        let data = json!({"why": words.replace('\0', "")}).to_string();
        let fact = Fact { kind: "stream.error", at: now, data };
        let changed = self.change(tenant, Find::Carrier(carrier), |_| ((), Some(fact)));
        Ok(changed.await?.map(|(call, ())| call))
    }

    /// The carrier believes that somebody of this kind has picked up: the call, and what its plan
    /// says about machines. `None` when there is no such call, or this is not the first word.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_answered_by(
        &self,
        tenant: &TenantId,
        carrier: &CarrierIds,
        by: AnsweredBy,
        now: WallTime,
    ) -> Result<Option<(Call, Option<OnMachine>)>, StoreError> {
        let changed = self.change(tenant, Find::Carrier(carrier), |call| {
            let fact = call.on_answered_by(by, now);
            (fact.is_some(), fact)
        });
        let Some((call, true)) = changed.await? else { return Ok(None) };
        let dial = self.dial(tenant, &call.id).await?;
        Ok(Some((call, dial.and_then(|dial| dial.plan.machine))))
    }
}

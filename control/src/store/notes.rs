//! What is said about a call without changing its life.

use link::id::{TenantId, WallTime};
use serde_json::json;

use super::call::{Call, CarrierIds};
use super::calls::Find;
use super::{Store, StoreError};
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
}

//! What was decided about calls while the database was away ([`crate::standby`]), written down when
//! it is back.
//!
//! A call that began meanwhile gets its row. One that has a row takes over what is newer: a stream of
//! a higher generation, an answer, an end. What others have decided meanwhile stands: a call that has
//! ended stays so, and a stream that was given out in spite of that is ended. Done twice, or by two
//! instances, it changes nothing more.

use link::id::{Gen, NodeId, WallTime};
use serde_json::json;

use super::call::{Call, CallEnd, CallState};
use super::calls::{Find, insert, insert_pending, lock, save};
use super::tx::{Scope, Tx};
use super::{Store, StoreError};
use crate::events::Fact;
use crate::standby::Unwritten;

/// What became of a call that was written down late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaughtUp {
    /// The database has it.
    Done,
    /// The call had ended or was given away before this stream was asked for, which nobody knew who
    /// could not ask the database.
    Over {
        /// Where the stream is.
        node: Option<NodeId>,
        /// Which one it is.
        generation: Gen,
    },
}

impl Store {
    /// Writes down what was decided about a call without the database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn catch_up(&self, kept: &Unwritten, now: WallTime) -> Result<CaughtUp, StoreError> {
        let call = &kept.call;
        let mut tx = self.db().write(Scope::Tenant(&call.tenant)).await?;
        let Some(mut row) = lock(&mut tx, &call.tenant, Find::Id(&call.id)).await? else {
            return self.write_late(tx, kept, now).await;
        };
        let before = row.clone();
        let (caught, facts) = row.catch_up(call, now);
        if row == before && facts.is_empty() {
            return Ok(caught);
        }
        save(&mut tx, &row).await?;
        for fact in &facts {
            insert_pending(&mut tx, &row, fact).await?;
        }
        tx.commit().await?;
        self.inner.pending.notify_one();
        Ok(caught)
    }

    /// Makes the row of a call that has none.
    async fn write_late(
        &self,
        mut tx: Tx,
        kept: &Unwritten,
        now: WallTime,
    ) -> Result<CaughtUp, StoreError> {
        let call = &kept.call;
        if !insert(&mut tx, call).await? {
            // Begun on an instance that had the database, under another id; its events tell it.
            tracing::warn!(call = %call.id, "the carrier's call is known by another id");
            return Ok(CaughtUp::Done);
        }
        save(&mut tx, call).await?;
        let mut teller = call.clone();
        if !kept.facts().iter().any(|(_, fact)| fact.kind == STARTED) {
            let data = call.introduction().to_string();
            insert_pending(&mut tx, call, &Fact { kind: STARTED, at: now, data }).await?;
        }
        for (generation, fact) in kept.facts() {
            teller.generation = *generation;
            insert_pending(&mut tx, &teller, fact).await?;
        }
        tx.commit().await?;
        self.inner.pending.notify_one();
        Ok(CaughtUp::Done)
    }
}

impl Call {
    /// Takes over what was decided about the call without the database, and says what follows.
    pub(crate) fn catch_up(&mut self, kept: &Self, now: WallTime) -> (CaughtUp, Vec<Fact>) {
        let is_newer = kept.generation > self.generation;
        if matches!(self.state, CallState::Ended | CallState::Transferred) {
            return self.keep_end(kept, is_newer, now);
        }
        let mut facts = Vec::new();
        if let (Some(at), None) = (kept.answered_at, self.answered_at) {
            self.answered_at = Some(at);
            facts.push(Fact { kind: "call.answered", at, data: json!({}).to_string() });
        }
        if is_newer {
            self.generation = kept.generation;
            self.resumes.clone_from(&kept.resumes);
            self.resume_token.clone_from(&kept.resume_token);
        }
        // Of the same generation the database knows better, but for a stream that was only asked for.
        let was_asked_for = matches!(self.state, CallState::Queued | CallState::Starting);
        if is_newer || (was_asked_for && kept.generation == self.generation) {
            self.node.clone_from(&kept.node);
            self.follow(kept);
        }
        facts.extend(self.take_end(kept, now));
        (CaughtUp::Done, facts)
    }

    /// The call is over for its agent, whatever was decided later without knowing that.
    fn keep_end(&mut self, kept: &Self, is_newer: bool, now: WallTime) -> (CaughtUp, Vec<Fact>) {
        let facts = self.take_end(kept, now).into_iter().collect();
        let is_carried = match kept.state {
            CallState::Starting | CallState::Active | CallState::Detached => true,
            CallState::Queued | CallState::Transferred | CallState::Ended => false,
        };
        if is_newer && is_carried {
            let (node, generation) = (kept.node.clone(), kept.generation);
            return (CaughtUp::Over { node, generation }, facts);
        }
        (CaughtUp::Done, facts)
    }

    /// Stands where the other one stands, unless that is an end, which is said.
    fn follow(&mut self, kept: &Self) {
        match kept.state {
            CallState::Starting | CallState::Active | CallState::Detached => {
                self.state = kept.state;
                self.detach_reason.clone_from(&kept.detach_reason);
                self.detached_at = kept.detached_at;
            }
            CallState::Queued | CallState::Transferred | CallState::Ended => {}
        }
    }

    /// Ends or gives away as the other one was, and says so once.
    fn take_end(&mut self, kept: &Self, now: WallTime) -> Option<Fact> {
        match (kept.state, &kept.transfer_to) {
            (CallState::Ended, _) => {
                let end = kept.end_reason.as_deref().and_then(CallEnd::read)?;
                let at = kept.ended_at.unwrap_or(now);
                self.on_phone_over(end, kept.end_detail.as_deref(), at)
            }
            (CallState::Transferred, Some(to)) => {
                self.transfer(kept.generation, to.clone(), now, now)
            }
            (CallState::Transferred, None)
            | (
                CallState::Queued | CallState::Starting | CallState::Active | CallState::Detached,
                _,
            ) => None,
        }
    }
}

const STARTED: &str = "call.started";

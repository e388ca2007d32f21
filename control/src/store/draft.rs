//! One transaction of the sequencer, step by step: [`Ledger::write`] calls them in order.
//!
//! Nothing here refuses an event for good: one that names no tenant, a call that is not there, or
//! a stream that is long over is stored and changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use link::event::{CallEvent, EndReason, NodeEvent};
use link::id::{EventNumber, Gen, NodeId, TenantId, WallTime};

use super::call::{Call, CallEnd, Number};
use super::calls::{Find, lock, save};
use super::ledger::{Entry, Gap, Ledger, Source, Written, mark, micros};
use super::rows::{PendingRow, call_columns};
use super::tx::{Sql, Tx, on};
use super::{SELECT_HEAD, StoreError, postgres, sqlite};
use crate::events::{Fact, Record, Seq, split};

/// A transaction under way. It moves the ledger's copies ahead; an error throws them away.
pub(super) struct Draft<'a> {
    ledger: &'a mut Ledger,
    tx: Tx,
    now: WallTime,
    written: Written,
}

impl<'a> Draft<'a> {
    /// Begins, on a transaction that has found the lease to be its ledger's. `now` is the
    /// database's time.
    pub(super) fn new(ledger: &'a mut Ledger, tx: Tx, now: WallTime) -> Self {
        Self { ledger, tx, now, written: Written::default() }
    }

    /// What control decided comes first: it was committed before any relay could know of it.
    pub(super) async fn take_pending(&mut self) -> Result<(), StoreError> {
        let mut rows: Vec<PendingRow> = on!(self.tx, |c| sqlx::query_as(TAKE_PENDING)
            .bind(PENDING_MAX as i64)
            .fetch_all(c)
            .await)?;
        self.written.more = rows.len() == PENDING_MAX;
        // RETURNING promises no order.
        rows.sort_by_key(|row| row.id);
        for row in rows {
            self.put(row.tenant, None, row.record).await?;
        }
        Ok(())
    }

    /// Takes what is new of a batch, up to the first gap.
    pub(super) async fn take_batch(
        &mut self,
        source: &Source,
        events: &[NodeEvent],
    ) -> Result<(), StoreError> {
        let mut last = self.mark(source).await?;
        for event in events {
            // Sent again after a link broke before the acknowledgement: expected, and counted.
            if event.n <= last {
                self.written.duplicates += 1;
                continue;
            }
            if event.n != last.next() {
                self.written.outcomes.push(Err(Gap { expected: last.next() }));
                return Ok(());
            }
            self.take_event(source, event).await?;
            last = event.n;
            self.ledger.marks.insert(source.clone(), last);
        }
        self.written.outcomes.push(Ok(last));
        Ok(())
    }

    async fn take_event(&mut self, source: &Source, event: &NodeEvent) -> Result<(), StoreError> {
        if matches!(event.event, CallEvent::Unknown) {
            self.written.unknown += 1;
            return Ok(());
        }
        // Whatever the event changes, it is stored under its source's number, which makes a repeat
        // visible.
        let place = Some((source.clone(), event.n));
        let (kind, data) = split(&event.event);
        let (call, generation) = event.call.as_ref().map(|c| (c.id.clone(), c.generation)).unzip();
        let record = Record { seq: Seq(0), kind, call, generation, at: event.at, data };
        let tenant = self.tenant_of(event).await?;
        // Most events are about what is said in a call, not about the call: they lock no row.
        let Some(mut call) = self.call_of(&tenant, event).await? else {
            return self.put(tenant, place, record).await;
        };
        let generation = record.generation.unwrap_or_default();
        let change = take(&mut call, &source.node, (generation, event), self.now);
        // State and record are one transaction: nobody ever sees the one without the other.
        save(&mut self.tx, &call).await?;
        match change {
            Change::Nothing => self.put(tenant, place, record).await,
            Change::Before(fact) => {
                self.put(tenant.clone(), None, said(&call, fact)).await?;
                self.put(tenant, place, record).await
            }
            Change::Instead(fact) => self.put(tenant, place, said(&call, fact)).await,
            Change::After(fact) => {
                self.put(tenant.clone(), place, record).await?;
                self.put(tenant, None, said(&call, fact)).await
            }
        }
    }

    /// The tenant that the event names, if there is one; else the default tenant, so that no
    /// event is ever refused for good.
    async fn tenant_of(&mut self, event: &NodeEvent) -> Result<TenantId, StoreError> {
        let default = TenantId::new(DEFAULT_TENANT).map_err(|_| StoreError::Row { what: "tenant" });
        let Some(call) = &event.call else { return default };
        if self.ledger.tenants.contains(&call.tenant) {
            return Ok(call.tenant.clone());
        }
        let found: Option<String> = on!(self.tx, |c| sqlx::query_scalar(SELECT_TENANT)
            .bind(call.tenant.as_str())
            .fetch_optional(c)
            .await)?;
        // Not remembered as absent: the tenant may be made a moment later.
        if found.is_none() {
            return default;
        }
        self.ledger.tenants.insert(call.tenant.clone());
        Ok(call.tenant.clone())
    }

    /// The call that the event changes, locked; `None` when it changes none.
    async fn call_of(
        &mut self,
        tenant: &TenantId,
        event: &NodeEvent,
    ) -> Result<Option<Call>, StoreError> {
        let changes = matches!(
            event.event,
            CallEvent::StreamStarted { .. }
                | CallEvent::Ending { .. }
                | CallEvent::StreamLeaving { .. }
                | CallEvent::StreamEnded { .. }
        );
        match &event.call {
            Some(call) if changes => lock(&mut self.tx, tenant, Find::Id(&call.id)).await,
            Some(_) | None => Ok(None),
        }
    }

    /// Ends the calls that nobody resumed.
    pub(super) async fn expire_calls(&mut self) -> Result<(), StoreError> {
        let times = self.ledger.times;
        let sql = self.tx.pick(SELECT_EXPIRED);
        let calls: Vec<Call> = on!(self.tx, |c| sqlx::query_as(sql)
            .bind(self.now.0 - micros(times.hung_up))
            .bind(self.now.0 - micros(times.lost))
            .bind(self.now.0 - micros(times.transferred))
            .fetch_all(c)
            .await)?;
        for mut call in calls {
            let Some(fact) = call.expire(self.now) else { continue };
            save(&mut self.tx, &call).await?;
            self.put(call.tenant.clone(), None, said(&call, fact)).await?;
        }
        Ok(())
    }

    /// Gives a record its place.
    async fn put(
        &mut self,
        tenant: TenantId,
        source: Option<(Source, EventNumber)>,
        mut record: Record,
    ) -> Result<(), StoreError> {
        // Numbered in memory under the lease: a sequence of the database would leave gaps on a
        // rollback.
        let head = self.head(&tenant).await?.next();
        record.seq = head;
        self.ledger.heads.insert(tenant.clone(), head);
        self.written.entries.push(Entry { tenant, source, record: Arc::new(record) });
        Ok(())
    }

    /// Inserts, moves the heads and marks, and commits.
    pub(super) async fn finish(
        mut self,
        batches: &[(Source, Vec<NodeEvent>)],
    ) -> Result<Written, StoreError> {
        match &mut self.tx {
            Tx::Postgres(tx) => postgres::insert_events(tx, &self.written.entries).await?,
            Tx::Sqlite(tx) => sqlite::insert_events(tx, &self.written.entries).await?,
        }
        let tenants: BTreeSet<_> = self.written.entries.iter().map(|entry| &entry.tenant).collect();
        for tenant in tenants {
            let head = self.ledger.heads[tenant].0.cast_signed();
            on!(self.tx, |c| sqlx::query(SAVE_HEAD)
                .bind(tenant.as_str())
                .bind(head)
                .execute(c)
                .await
                .map(drop))?;
        }
        // One write for each source, however many batches it had in this group.
        let sources: BTreeSet<_> = batches.iter().map(|(source, _)| source).collect();
        for source in sources {
            let Some(mark) = self.ledger.marks.get(source).filter(|mark| mark.0 > 0) else {
                continue;
            };
            on!(self.tx, |c| sqlx::query(SAVE_MARK)
                .bind(source.node.as_str())
                .bind(source.epoch_column())
                .bind(mark.0.cast_signed())
                .execute(c)
                .await
                .map(drop))?;
        }
        self.tx.commit().await?;
        Ok(self.written)
    }

    async fn head(&mut self, tenant: &TenantId) -> Result<Seq, StoreError> {
        if let Some(head) = self.ledger.heads.get(tenant) {
            return Ok(*head);
        }
        let head: Option<i64> = on!(self.tx, |c| sqlx::query_scalar(SELECT_HEAD)
            .bind(tenant.as_str())
            .fetch_optional(c)
            .await)?;
        Ok(Seq(head.unwrap_or(0).cast_unsigned()))
    }

    async fn mark(&mut self, source: &Source) -> Result<EventNumber, StoreError> {
        match self.ledger.marks.get(source) {
            Some(mark) => Ok(*mark),
            None => {
                let mark = mark(&mut self.tx, source).await?;
                self.ledger.marks.insert(source.clone(), mark);
                Ok(mark)
            }
        }
    }
}

/// What a relay's event makes of a call.
pub(crate) enum Change {
    /// The event is stored as it is.
    Nothing,
    /// Control says something first.
    Before(Fact),
    /// Control says it in its own words.
    Instead(Fact),
    /// Control says what follows from it.
    After(Fact),
}

impl Change {
    /// What control says besides the relay's own words.
    pub(crate) fn fact(self) -> Option<Fact> {
        match self {
            Self::Nothing => None,
            Self::Before(fact) | Self::Instead(fact) | Self::After(fact) => Some(fact),
        }
    }
}

/// Changes a call by an event of its stream on this node. What an older generation says changes
/// nothing, and nobody answers it.
pub(crate) fn take(
    call: &mut Call,
    node: &NodeId,
    (generation, event): (Gen, &NodeEvent),
    now: WallTime,
) -> Change {
    let is_begun = matches!(event.event, CallEvent::StreamStarted { .. });
    if is_begun && generation > call.generation && !call.is_over_for(generation) {
        call.node = Some(node.clone());
    }
    apply(call, generation, event, now)
}

fn apply(call: &mut Call, generation: Gen, event: &NodeEvent, now: WallTime) -> Change {
    match &event.event {
        CallEvent::StreamStarted { .. } => {
            call.on_stream_started(generation, event.at).map_or(Change::Nothing, Change::Before)
        }
        CallEvent::StreamEnded { reason, .. } => {
            let said = call.on_stream_ended(generation, *reason, now);
            said.map_or(Change::Nothing, Change::After)
        }
        // Durable here, before the relay hears of it and closes the caller's socket: the carrier's
        // question that follows finds the decision on whichever instance it reaches.
        CallEvent::Ending { reason: EndReason::Transferred, transfer_to: Some(to), .. } => {
            let to = Number(to.as_str().to_owned());
            let said = call.transfer(generation, to, event.at, now);
            said.map_or(Change::Nothing, Change::Instead)
        }
        CallEvent::Ending { reason, detail, .. } if !call.is_over_for(generation) => {
            let said = call.end(CallEnd::Stream(*reason), detail.as_deref(), event.at);
            said.map_or(Change::Nothing, Change::Instead)
        }
        CallEvent::StreamLeaving { to } => {
            call.on_stream_leaving(generation, to.as_ref(), now);
            Change::Nothing
        }
        // Kept and not acted on: what is said about the conversation, and what comes too late.
        CallEvent::Ending { .. }
        | CallEvent::StreamRefused { .. }
        | CallEvent::AgentReady { .. }
        | CallEvent::Turn(_)
        | CallEvent::BargeIn(_)
        | CallEvent::AgentReplaced(_)
        | CallEvent::Dtmf { .. }
        | CallEvent::Tool(_)
        | CallEvent::ToolIntended(_)
        | CallEvent::CommandDone { .. }
        | CallEvent::Unknown => Change::Nothing,
    }
}

fn said(call: &Call, fact: Fact) -> Record {
    Record {
        seq: Seq(0),
        kind: fact.kind.to_owned(),
        call: Some(call.id.clone()),
        generation: Some(call.generation),
        at: fact.at,
        data: fact.data,
    }
}

/// What one transaction takes of control's own decisions; the rest follows at once.
const PENDING_MAX: usize = 200;

/// Whose events those are that name no tenant.
const DEFAULT_TENANT: &str = "default";

const TAKE_PENDING: &str = "DELETE FROM pending WHERE id IN \
     (SELECT id FROM pending ORDER BY id LIMIT $1) \
     RETURNING id, tenant, call, generation, type, at_us, body";

const SELECT_TENANT: &str = "SELECT id FROM tenants WHERE id = $1";

macro_rules! select_expired {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            call_columns!(),
            " FROM calls WHERE state IN ('detached', 'transferred') AND detached_us <= \
             CASE WHEN state = 'transferred' THEN $3 \
             WHEN detach_reason = 'caller_hung_up' THEN $1 ELSE $2 END \
             ORDER BY detached_us LIMIT 100",
            $rest
        )
    };
}

/// A call that somebody is changing at this moment is left to the next transaction.
const SELECT_EXPIRED: Sql =
    Sql { postgres: select_expired!(" FOR UPDATE SKIP LOCKED"), sqlite: select_expired!("") };

const SAVE_HEAD: &str = "INSERT INTO heads (tenant, seq) VALUES ($1, $2) \
     ON CONFLICT (tenant) DO UPDATE SET seq = excluded.seq";

const SAVE_MARK: &str = "INSERT INTO marks (node, epoch, n) VALUES ($1, $2, $3) \
     ON CONFLICT (node, epoch) DO UPDATE SET n = excluded.n";

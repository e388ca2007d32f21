//! Reading and writing calls.
//!
//! Every change is one transaction: lock the row, let `life` decide, save the row, and leave what
//! it says in `pending`, from where the sequencer takes it into the events. So a decision and its
//! event exist together or not at all, on whatever instance it was made.

use link::id::{AgentName, CallId, NodeId, RunId, TenantId, WallTime};

use super::call::{
    AnsweredBy, Begin, Call, CallEnd, CallState, CarrierIds, Created, Cursor, Direction, Filter,
    NewCall, Number, Page, Question, Resume, ResumeLimits,
};
use super::idempotency::Once;
use super::rows::{call_columns, times_text};
use super::tx::{Scope, Sql, Tx, on};
use super::{Store, StoreError, dials};
use crate::events::Fact;

impl Store {
    /// Makes a call, or finds the one that the carrier told of before by the same ids.
    ///
    /// # Errors
    /// When the database fails, or another tenant has a call of these ids.
    pub async fn create_call(&self, new: NewCall, now: WallTime) -> Result<Created, StoreError> {
        self.create_call_once(new, None, now).await
    }

    /// The same, for a request that may come twice.
    ///
    /// # Errors
    /// When the database fails, or another tenant has a call of these ids.
    pub async fn create_call_once(
        &self,
        new: NewCall,
        once: Option<&Once>,
        now: WallTime,
    ) -> Result<Created, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(&new.tenant)).await?;
        let call = new.begin_life(now);
        if insert(&mut tx, &call).await? {
            if let Some(once) = once {
                once.hold(&mut tx).await?;
            }
            tx.commit().await?;
            return Ok(Created::Fresh(Box::new(call)));
        }
        let known = match &call.carrier {
            Some(carrier) => by_carrier(&mut tx, &call.tenant, carrier).await?,
            None => None,
        };
        let known = known.ok_or(StoreError::Row { what: "carrier id" })?;
        Ok(Created::Known(Box::new(known)))
    }

    /// One call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn call(&self, tenant: &TenantId, id: &CallId) -> Result<Option<Call>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_BY_ID)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await)?)
    }

    /// The call that the carrier names so.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn call_by_carrier(
        &self,
        tenant: &TenantId,
        carrier: &CarrierIds,
    ) -> Result<Option<Call>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        by_carrier(&mut tx, tenant, carrier).await
    }

    /// A page of the tenant's calls that pass the filter, newest first, at most `limit` of them,
    /// behind `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calls(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page, StoreError> {
        let Filter { run, state, direction, agent, from, to, since, until } = filter;
        // A later page begins before the end of the first one anyway.
        let first = until.map_or(i64::MAX, |until| until.0);
        let created_before = after.map_or(first, |cursor| cursor.created_at.0.min(first));
        // Two texts and not one with an `OR`: each finds its own index.
        let sql = if run.is_some() { SELECT_PAGE_OF_RUN } else { SELECT_PAGE };
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let mut calls: Vec<Call> = on!(tx, |c| sqlx::query_as(sql)
            .bind(tenant.as_str())
            .bind(created_before)
            .bind(after.map_or("", |cursor| cursor.id.as_str()))
            .bind(i64::from(limit) + 1)
            .bind(run.as_ref().map(RunId::as_str))
            .bind(state.map(CallState::as_str))
            .bind(direction.map(Direction::as_str))
            .bind(agent.as_ref().map(AgentName::as_str))
            .bind(from.as_ref().map(Number::as_str))
            .bind(to.as_ref().map(Number::as_str))
            .bind(since.map(|since| since.0))
            .fetch_all(c)
            .await)?;
        let has_more = calls.len() > limit as usize;
        calls.truncate(limit as usize);
        let last = calls.last().filter(|_| has_more);
        let next = last.map(|call| Cursor { created_at: call.created_at, id: call.id.clone() });
        Ok(Page { calls, next })
    }

    /// The carrier asks what to do with a call: its first stream shall go to `node`. The first
    /// question says `call.started`; a repeated one gets the same generation.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_stream(
        &self,
        tenant: &TenantId,
        id: &CallId,
        node: &NodeId,
        now: WallTime,
    ) -> Result<Begin, StoreError> {
        let changed = self.change(tenant, Find::Id(id), |call| ((), call.begin(node, now))).await?;
        Ok(match changed {
            None => Begin::Unknown,
            Some((call, ())) => match call.state {
                CallState::Ended => Begin::HangUp,
                CallState::Transferred => Begin::Transfer(Box::new(call)),
                CallState::Queued
                | CallState::Starting
                | CallState::Active
                | CallState::Detached => Begin::Stream(Box::new(call)),
            },
        })
    }

    /// A page is given a token for a stream on `node`, which is good until then; `None` when there
    /// is no such call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn await_page(
        &self,
        tenant: &TenantId,
        id: &CallId,
        node: &NodeId,
        until: WallTime,
    ) -> Result<Option<Call>, StoreError> {
        let now = crate::clock::wall();
        let changed =
            self.change(tenant, Find::Id(id), |call| ((), call.await_page(node, until, now)));
        Ok(changed.await?.map(|(call, ())| call))
    }

    /// The carrier asks what follows a stream, once. `node` is where another stream would go;
    /// `None` when no node takes it.
    ///
    /// # Errors
    /// When the database fails; nothing is decided then.
    pub async fn resume(
        &self,
        tenant: &TenantId,
        id: &CallId,
        node: Option<&NodeId>,
        now: WallTime,
    ) -> Result<Resume, StoreError> {
        self.resume_asked(
            tenant,
            id,
            Question { node, token: None, given: None, limits: ResumeLimits::default(), now },
        )
        .await
    }

    /// The same for a question that may come again: it gets the same answer.
    ///
    /// # Errors
    /// When the database fails; nothing is decided then.
    pub async fn resume_asked(
        &self,
        tenant: &TenantId,
        id: &CallId,
        question: Question<'_>,
    ) -> Result<Resume, StoreError> {
        let changed =
            self.change(tenant, Find::Id(id), |call| call.resume_asked(&question)).await?;
        let Some((call, decision)) = changed else { return Ok(Resume::Unknown) };
        Ok(decision.about(call))
    }

    /// Ends a call that no stream will end; `None` when there is no such call. A call that has
    /// ended keeps its first reason.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_call(
        &self,
        tenant: &TenantId,
        id: &CallId,
        end: Ending<'_>,
        now: WallTime,
    ) -> Result<Option<Call>, StoreError> {
        let changed =
            self.change(tenant, Find::Id(id), |call| ((), call.end(end.reason, end.detail, now)));
        Ok(changed.await?.map(|(call, ())| call))
    }

    /// The carrier says that the phone call is over; `None` when there is no such call. One that
    /// was transferred ended by that, whatever `end` says.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn phone_over(
        &self,
        tenant: &TenantId,
        id: &CallId,
        end: Ending<'_>,
        now: WallTime,
    ) -> Result<Option<Call>, StoreError> {
        let changed = self.change(tenant, Find::Id(id), |call| {
            ((), call.on_phone_over(end.reason, end.detail, now))
        });
        Ok(changed.await?.map(|(call, ())| call))
    }

    pub(super) async fn change<T>(
        &self,
        tenant: &TenantId,
        find: Find<'_>,
        decide: impl FnOnce(&mut Call) -> (T, Option<Fact>) + Send,
    ) -> Result<Option<(Call, T)>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let Some(mut call) = lock(&mut tx, tenant, find).await? else { return Ok(None) };
        let before = call.clone();
        let (decided, fact) = decide(&mut call);
        // A repeated question costs no write, and on SQLite no disk sync.
        if call == before && fact.is_none() {
            return Ok(Some((call, decided)));
        }
        save(&mut tx, &call).await?;
        self.say(tx, &call, fact).await?;
        Ok(Some((call, decided)))
    }

    /// Commits what was done to a call together with what is said about it.
    pub(super) async fn say(
        &self,
        mut tx: Tx,
        call: &Call,
        fact: Option<Fact>,
    ) -> Result<(), StoreError> {
        if let Some(fact) = &fact {
            insert_pending(&mut tx, call, fact).await?;
        }
        tx.commit().await?;
        // Another instance's sequencer is not woken; it looks four times a second.
        if fact.is_some() {
            self.inner.pending.notify_one();
        }
        Ok(())
    }
}

/// How a call ends that no stream ends.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Why.
    pub reason: CallEnd,
    /// What an operator can act on; no secrets, no numbers.
    pub detail: Option<&'a str>,
}

/// How a call is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Find<'a> {
    Id(&'a CallId),
    Carrier(&'a CarrierIds),
}

/// Reads a call and keeps everybody else from changing it until the transaction ends.
pub(super) async fn lock(
    tx: &mut Tx,
    tenant: &TenantId,
    find: Find<'_>,
) -> Result<Option<Call>, StoreError> {
    let (sql, name, account) = match find {
        Find::Id(id) => (LOCK_BY_ID, id.as_str(), None),
        Find::Carrier(carrier) => {
            (LOCK_BY_CARRIER, carrier.call_sid.as_str(), Some(carrier.account_sid.as_str()))
        }
    };
    let sql = tx.pick(sql);
    Ok(on!(*tx, |c| sqlx::query_as(sql)
        .bind(tenant.as_str())
        .bind(name)
        .bind(account)
        .fetch_optional(c)
        .await)?)
}

/// Writes back a locked call.
pub(super) async fn save(tx: &mut Tx, call: &Call) -> Result<(), StoreError> {
    let resumes = times_text(&call.resumes);
    on!(*tx, |c| sqlx::query(UPDATE)
        .bind(call.tenant.as_str())
        .bind(call.id.as_str())
        .bind(call.carrier.as_ref().map(|carrier| carrier.account_sid.as_str()))
        .bind(call.carrier.as_ref().map(|carrier| carrier.call_sid.as_str()))
        .bind(i64::from(call.generation.0))
        .bind(call.node.as_ref().map(NodeId::as_str))
        .bind(call.state.as_str())
        .bind(call.end_reason.as_deref())
        .bind(call.end_detail.as_deref())
        .bind(call.transfer_to.as_ref().map(Number::as_str))
        .bind(call.detach_reason.as_deref())
        .bind(call.carrier_status.as_deref())
        .bind(call.carrier_seq)
        .bind(resumes)
        .bind(call.answered_at.map(|at| at.0))
        .bind(call.detached_at.map(|at| at.0))
        .bind(call.ended_at.map(|at| at.0))
        .bind(call.resume_token.as_deref())
        .bind(call.answered_by.map(AnsweredBy::as_str))
        .execute(c)
        .await
        .map(drop))?;
    // In the same transaction, wherever it ends: its slot is free from then on.
    if call.state == CallState::Ended && call.direction == Direction::Outbound {
        dials::forget(tx, call).await?;
    }
    Ok(())
}

/// Whether the call was new; if not, nothing happened.
pub(super) async fn insert(tx: &mut Tx, call: &Call) -> Result<bool, StoreError> {
    let rows = on!(*tx, |c| sqlx::query(INSERT)
        .bind(call.id.as_str())
        .bind(call.tenant.as_str())
        .bind(call.carrier.as_ref().map(|carrier| carrier.account_sid.as_str()))
        .bind(call.carrier.as_ref().map(|carrier| carrier.call_sid.as_str()))
        .bind(call.direction.as_str())
        .bind(call.from.as_str())
        .bind(call.to.as_str())
        .bind(call.agent.as_str())
        .bind(i64::from(call.agent_version))
        .bind(i64::from(call.generation.0))
        .bind(call.state.as_str())
        .bind(call.created_at.0)
        .bind(call.run.as_ref().map(RunId::as_str))
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Leaves what is said about a call for the sequencer.
pub(super) async fn insert_pending(
    tx: &mut Tx,
    call: &Call,
    fact: &Fact,
) -> Result<(), StoreError> {
    on!(*tx, |c| sqlx::query(INSERT_PENDING)
        .bind(call.tenant.as_str())
        .bind(call.id.as_str())
        .bind(i64::from(call.generation.0))
        .bind(fact.kind)
        .bind(fact.at.0)
        .bind(fact.data.as_str())
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

async fn by_carrier(
    tx: &mut Tx,
    tenant: &TenantId,
    carrier: &CarrierIds,
) -> Result<Option<Call>, StoreError> {
    Ok(on!(*tx, |c| sqlx::query_as(SELECT_BY_CARRIER)
        .bind(tenant.as_str())
        .bind(carrier.call_sid.as_str())
        .bind(carrier.account_sid.as_str())
        .fetch_optional(c)
        .await)?)
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", call_columns!(), " FROM calls WHERE tenant = $1 AND ", $rest)
    };
}

const SELECT_BY_ID: &str = select!("id = $2");
const SELECT_BY_CARRIER: &str = select!("call_sid = $2 AND account_sid = $3");

macro_rules! select_page {
    ($of_run:literal) => {
        concat!(
            select!("(created_us, id) < ($2, $3) AND "),
            $of_run,
            " AND ($6 IS NULL OR state = $6) AND ($7 IS NULL OR direction = $7) \
             AND ($8 IS NULL OR agent = $8) AND ($9 IS NULL OR from_number = $9) \
             AND ($10 IS NULL OR to_number = $10) AND ($11 IS NULL OR created_us >= $11) \
             ORDER BY created_us DESC, id DESC LIMIT $4"
        )
    };
}

const SELECT_PAGE: &str = select_page!("$5 IS NULL");
const SELECT_PAGE_OF_RUN: &str = select_page!("run = $5");

// Both take the same three values, so that one call serves them.
const LOCK_BY_ID: Sql = Sql {
    postgres: select!("id = $2 AND $3 IS NULL FOR UPDATE"),
    sqlite: select!("id = $2 AND $3 IS NULL"),
};
const LOCK_BY_CARRIER: Sql = Sql {
    postgres: select!("call_sid = $2 AND account_sid = $3 FOR UPDATE"),
    sqlite: select!("call_sid = $2 AND account_sid = $3"),
};

const INSERT: &str = "INSERT INTO calls (id, tenant, account_sid, call_sid, direction, \
     from_number, to_number, agent, agent_version, generation, state, resumes, created_us, run) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', $12, $13) \
     ON CONFLICT (account_sid, call_sid) DO NOTHING";

const UPDATE: &str = "UPDATE calls SET account_sid = $3, call_sid = $4, generation = $5, \
     node = $6, state = $7, end_reason = $8, end_detail = $9, transfer_to = $10, \
     detach_reason = $11, carrier_status = $12, carrier_seq = $13, resumes = $14, \
     answered_us = $15, detached_us = $16, ended_us = $17, resume_token = $18, \
     answered_by = $19 WHERE tenant = $1 AND id = $2";

const INSERT_PENDING: &str = "INSERT INTO pending (tenant, call, generation, type, at_us, body) \
     VALUES ($1, $2, $3, $4, $5, $6)";

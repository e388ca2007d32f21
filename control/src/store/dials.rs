//! Outbound calls on their way to the carrier: queued, placed, missed, dialled again.
//!
//! A call that is to be dialled has a row in `dials` from the transaction that makes the call until
//! the one that ends it. Whoever changes both locks the call first. Who takes dials from the queue,
//! and when, is in `queue.rs`.
//!
//! ```text
//! waiting -> asking -> placed -> (missed) waiting
//!    ^         |          ^
//!    |         v          |
//!    +------ unsure ------+
//! ```
//!
//! `asking` and `unsure` are leases: when the moment `due_at` has passed, whoever asked is presumed
//! dead, and what it did is not known. Such a dial is looked for at the carrier, and only one that
//! is not there is asked for once more.

use std::time::Duration;

use link::id::{CallId, TenantId, WallTime};
use serde_json::json;

use super::call::{Call, CallState, CarrierIds, CarrierWord, NewCall, Number, UnknownWord};
use super::calls::{Find, insert, insert_pending, lock, save};
use super::idempotency::Once;
use super::rows::dial_columns;
use super::runs::{self, Run};
use super::tx::{Scope, Sql, Tx, on};
use super::{Store, StoreError};
use crate::dialer::plan::{Missed, Plan};
use crate::events::{Fact, rfc3339};

/// A call that is to be dialled, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// The call.
    pub call: CallId,
    /// Whose call it is.
    pub tenant: TenantId,
    /// The account at the carrier that pays.
    pub account: String,
    /// Who calls.
    pub from: Number,
    /// Who is called.
    pub to: Number,
    /// Where it is on its way.
    pub state: DialState,
    /// How often the carrier was asked for it; names each of those times in its addresses.
    pub attempt: u32,
    /// How often it was placed and nobody was reached.
    pub tries: u32,
    /// When it may be looked at again: dialled, or presumed forgotten by whoever asked.
    pub due_at: WallTime,
    /// When the carrier was asked last.
    pub asked_at: Option<WallTime>,
    /// When it is given up, unless it was dialled before.
    pub until: WallTime,
    /// What is wanted besides.
    pub plan: Plan,
    /// The carrier's ids of the times that nobody was reached.
    pub past: Vec<String>,
}

/// Where a dial is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialState {
    /// It waits for its turn.
    Waiting,
    /// Somebody asks the carrier for it.
    Asking,
    /// The carrier was asked, and did not say what it did.
    Unsure,
    /// The carrier has it.
    Placed,
}

impl DialState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Asking => "asking",
            Self::Unsure => "unsure",
            Self::Placed => "placed",
        }
    }
}

impl std::str::FromStr for DialState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let all = [Self::Waiting, Self::Asking, Self::Unsure, Self::Placed];
        all.into_iter().find(|state| state.as_str() == word).ok_or(UnknownWord)
    }
}

/// What it takes to queue a call, besides the call.
#[derive(Debug, Clone)]
pub struct NewDial {
    /// The account at the carrier that pays.
    pub account: String,
    /// What is wanted besides.
    pub plan: Plan,
    /// Not before this moment; the past means at once.
    pub not_before: WallTime,
    /// When it is given up.
    pub until: WallTime,
}

impl Store {
    /// Makes a call and puts it into the queue, in one; with `once`, for a request that may come
    /// twice.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn enqueue(
        &self,
        new: NewCall,
        dial: NewDial,
        once: Option<&Once>,
        now: WallTime,
    ) -> Result<Call, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(&new.tenant)).await?;
        if let Some(once) = once {
            once.hold(&mut tx).await?;
        }
        let call = put(&mut tx, new, dial, now).await?;
        self.commit_queued(tx).await?;
        Ok(call)
    }

    /// Makes a run and all of its calls, and puts them into the queue, in one: all of them wait
    /// for their turn, or there is no run. With `once`, for a request that may come twice.
    ///
    /// # Errors
    /// When the database fails; nothing was made then, as far as anybody knows.
    pub async fn start_run(
        &self,
        tenant: &TenantId,
        run: &Run,
        calls: Vec<(NewCall, NewDial)>,
        once: Option<&Once>,
    ) -> Result<Vec<Call>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        if let Some(once) = once {
            once.hold(&mut tx).await?;
        }
        runs::insert(&mut tx, tenant, run).await?;
        let mut queued = Vec::with_capacity(calls.len());
        for (new, dial) in calls {
            queued.push(put(&mut tx, new, dial, run.created_at).await?);
        }
        self.commit_queued(tx).await?;
        Ok(queued)
    }

    /// Commits calls that were put into the queue; what they begin with waits for its place.
    async fn commit_queued(&self, tx: Tx) -> Result<(), StoreError> {
        tx.commit().await?;
        self.inner.pending.notify_one();
        Ok(())
    }

    /// Says how the carrier names an outbound call, as it was asked for the `attempt`th time; none
    /// for a call that was never in the queue. The first answer stands, and the name of a time that
    /// nobody was reached is none. `None` when there is no such call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn name_call(
        &self,
        tenant: &TenantId,
        id: &CallId,
        attempt: Option<u32>,
        carrier: CarrierIds,
        now: WallTime,
    ) -> Result<Option<Call>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let Some(mut call) = lock(&mut tx, tenant, Find::Id(id)).await? else { return Ok(None) };
        let dial = lock_dial(&mut tx, tenant, id).await?;
        let is_its_name = match &dial {
            Some(dial) => attempt == Some(dial.attempt) && !dial.past.contains(&carrier.call_sid),
            // One that has ended meanwhile still belongs to a call of the carrier's.
            None => attempt.is_none() || call.state == CallState::Ended,
        };
        if call.carrier.is_some() || !is_its_name {
            return Ok(Some(call));
        }
        call.carrier = Some(carrier);
        save(&mut tx, &call).await?;
        let fact = match dial {
            Some(dial) => {
                set(&mut tx, &dial, DialState::Placed, dial.due_at).await?;
                let data = json!({"try": dial.tries + 1}).to_string();
                Some(Fact { kind: "call.dialled", at: now, data })
            }
            None => None,
        };
        self.say(tx, &call, fact).await?;
        Ok(Some(call))
    }

    /// The carrier's word on a call; `None` when there is no such call. When it means that nobody
    /// was reached, the call's plan may have it dialled again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn carrier_word(
        &self,
        tenant: &TenantId,
        carrier: &CarrierIds,
        word: &CarrierWord,
        now: WallTime,
    ) -> Result<Option<Call>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let Some(mut call) = lock(&mut tx, tenant, Find::Carrier(carrier)).await? else {
            return Ok(None);
        };
        let before = call.clone();
        // Only a call that never had a stream reached nobody.
        let missed = word.over.and_then(Missed::of).filter(|_| call.state == CallState::Queued);
        let again = match missed {
            Some(missed) => again(&mut tx, &call, missed, now).await?,
            None => None,
        };
        let fact = match again {
            Some(fact) => {
                call.forget_carrier();
                Some(fact)
            }
            None => call.on_carrier_word(word, now),
        };
        if call == before && fact.is_none() {
            return Ok(Some(call));
        }
        save(&mut tx, &call).await?;
        self.say(tx, &call, fact).await?;
        Ok(Some(call))
    }

    /// Moves a dial on that this process has claimed, unless somebody else has meanwhile: asked for
    /// it again, heard of it, or ended its call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn move_dial(
        &self,
        dial: &Dial,
        state: DialState,
        due_at: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().write(Scope::Tenant(&dial.tenant)).await?;
        let Some(now) = lock_dial(&mut tx, &dial.tenant, &dial.call).await? else { return Ok(()) };
        if (now.attempt, now.state) == (dial.attempt, dial.state) {
            set(&mut tx, dial, state, due_at).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// A call's place in the queue; `None` when it has ended, or never had one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dial(&self, tenant: &TenantId, call: &CallId) -> Result<Option<Dial>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT)
            .bind(tenant.as_str())
            .bind(call.as_str())
            .fetch_optional(c)
            .await)?)
    }
}

/// Makes a call, puts it into the queue, and leaves the event that it begins with.
async fn put(tx: &mut Tx, new: NewCall, dial: NewDial, now: WallTime) -> Result<Call, StoreError> {
    let call = new.begin_life(now);
    if !insert(tx, &call).await? {
        return Err(StoreError::Row { what: "call id" });
    }
    let NewDial { account, plan, not_before, until } = dial;
    let plan = plan_text(&plan);
    on!(*tx, |c| sqlx::query(INSERT)
        .bind(call.id.as_str())
        .bind(call.tenant.as_str())
        .bind(account)
        .bind(call.from.as_str())
        .bind(call.to.as_str())
        .bind(not_before.0)
        .bind(until.0)
        .bind(plan)
        .execute(c)
        .await
        .map(drop))?;
    let fact = Fact { kind: "call.queued", at: now, data: call.introduction().to_string() };
    insert_pending(tx, &call, &fact).await?;
    Ok(call)
}

/// Puts a missed call into the queue again, if its plan says so; what is said about it.
async fn again(
    tx: &mut Tx,
    call: &Call,
    missed: Missed,
    now: WallTime,
) -> Result<Option<Fact>, StoreError> {
    let Some(dial) = lock_dial(tx, &call.tenant, &call.id).await? else { return Ok(None) };
    let tries = dial.tries + 1;
    let Some(pause) = dial.plan.again_after(missed, tries) else { return Ok(None) };
    let due = after(now, pause);
    let until = after(due, Duration::from_secs(u64::from(dial.plan.within_s)));
    let sid = call.carrier.iter().map(|carrier| carrier.call_sid.as_str());
    let past: Vec<&str> = dial.past.iter().map(String::as_str).chain(sid).collect();
    on!(*tx, |c| sqlx::query(AGAIN)
        .bind(call.tenant.as_str())
        .bind(call.id.as_str())
        .bind(i64::from(tries))
        .bind(due.0)
        .bind(until.0)
        .bind(past.join(","))
        .execute(c)
        .await
        .map(drop))?;
    let data = json!({"after": missed.as_str(), "try": tries + 1, "at": rfc3339(due)});
    Ok(Some(Fact { kind: "call.retrying", at: now, data: data.to_string() }))
}

/// Reads a dial and keeps everybody else from changing it until the transaction ends.
async fn lock_dial(
    tx: &mut Tx,
    tenant: &TenantId,
    call: &CallId,
) -> Result<Option<Dial>, StoreError> {
    let sql = tx.pick(LOCK);
    Ok(on!(*tx, |c| sqlx::query_as(sql)
        .bind(tenant.as_str())
        .bind(call.as_str())
        .fetch_optional(c)
        .await)?)
}

async fn set(
    tx: &mut Tx,
    dial: &Dial,
    state: DialState,
    due_at: WallTime,
) -> Result<(), StoreError> {
    on!(*tx, |c| sqlx::query(SET)
        .bind(dial.tenant.as_str())
        .bind(dial.call.as_str())
        .bind(state.as_str())
        .bind(due_at.0)
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

/// Takes a call that has ended out of the queue.
pub(super) async fn forget(tx: &mut Tx, call: &Call) -> Result<(), StoreError> {
    on!(*tx, |c| sqlx::query(FORGET)
        .bind(call.tenant.as_str())
        .bind(call.id.as_str())
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

pub(super) fn after(at: WallTime, pause: Duration) -> WallTime {
    at.plus_us(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX / 4))
}

/// A plan has nothing in it that JSON cannot say.
fn plan_text(plan: &Plan) -> String {
    serde_json::to_string(plan).unwrap_or_else(|_| "{}".to_owned())
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", dial_columns!(), " FROM dials WHERE tenant = $1 AND call = $2", $rest)
    };
}

const SELECT: &str = select!("");
const LOCK: Sql = Sql { postgres: select!(" FOR UPDATE"), sqlite: select!("") };

const INSERT: &str = "INSERT INTO dials (call, tenant, account, from_number, to_number, state, \
     attempt, tries, due_us, until_us, plan, past) \
     VALUES ($1, $2, $3, $4, $5, 'waiting', 0, 0, $6, $7, $8, '')";

const AGAIN: &str = "UPDATE dials SET state = 'waiting', tries = $3, due_us = $4, until_us = $5, \
     past = $6 WHERE tenant = $1 AND call = $2";

const SET: &str = "UPDATE dials SET state = $3, due_us = $4 WHERE tenant = $1 AND call = $2";

const FORGET: &str = "DELETE FROM dials WHERE tenant = $1 AND call = $2";

//! Who is dialled next, decided for all instances in one place: under one lock, from what the queue
//! and the paces say at one moment.
//!
//! A pace is a moment before which nobody is dialled for an account, a number or a tenant; each
//! call moves it on by the time that one call takes (a bucket of one). So a restart forgets
//! nothing, and several instances together are no faster than one. Slots are counted from the
//! queue itself: whatever the carrier has, or may have, holds one.
//!
//! An account that fails again and again is left alone for a while: then one call is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use link::id::{TenantId, WallTime};

use super::dials::{Dial, DialState, after};
use super::rows::dial_columns;
use super::tx::{Sql, Tx, on};
use super::{Store, StoreError};

/// How fast and how much may be dialled.
#[derive(Debug, Clone)]
pub struct Pacing {
    /// The time between two calls of one account.
    pub account_every: Duration,
    /// The time between two calls of one number.
    pub number_every: Duration,
    /// Calls of one account that the carrier has at once.
    pub account_slots: u32,
    /// What bounds each tenant besides; one that is not here is not bounded.
    pub tenants: BTreeMap<TenantId, Bounds>,
    /// How long a claim is good for: whoever has claimed a dial and not said what became of it by
    /// then is presumed dead.
    pub lease: Duration,
}

/// What bounds a tenant's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The time between two calls; zero when only accounts and numbers count.
    pub every: Duration,
    /// Calls that the carrier has at once.
    pub slots: u32,
}

impl Default for Bounds {
    /// None.
    fn default() -> Self {
        Self { every: Duration::ZERO, slots: u32::MAX }
    }
}

impl Default for Pacing {
    /// The carrier's own pace, and slots for a small fleet.
    fn default() -> Self {
        Self {
            account_every: Duration::from_secs(1),
            number_every: Duration::from_secs(1),
            account_slots: 100,
            tenants: BTreeMap::new(),
            lease: LEASE,
        }
    }
}

/// What was claimed. Each dial is as it is stored now, and belongs to the caller for the lease.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The carrier is to be asked for these.
    pub ask: Vec<Dial>,
    /// These are to be looked for at the carrier.
    pub look: Vec<Dial>,
    /// The turn of these has not come in time.
    pub late: Vec<Dial>,
    /// When there may be more; `None` when nothing is known to come by itself.
    pub next: Option<WallTime>,
}

/// How a request for an account went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The carrier did something sensible with it, be it a refusal of this one call.
    Fine,
    /// It was not reached, or failed, or does not know the account.
    Failed,
}

impl Store {
    /// Takes what is due from the queue, at most `most` to look for and to ask for together. `now`
    /// is the database's time ([`Store::time`]), so that instances agree.
    ///
    /// # Errors
    /// When the database fails; nothing was claimed then, as far as anybody knows.
    pub async fn claim(
        &self,
        pacing: &Pacing,
        most: usize,
        now: WallTime,
    ) -> Result<Claimed, StoreError> {
        let mut tx = self.db().dial().await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let next: Option<i64> = on!(tx, |c| sqlx::query_scalar(NEXT).fetch_one(c).await)?;
        // Most of the time nothing is due, and nothing is locked or written.
        if next.is_none_or(|next| next > now.0) {
            return Ok(Claimed { next: next.map(WallTime), ..Claimed::default() });
        }
        let sql = tx.pick(LOCK);
        on!(tx, |c| sqlx::query(sql).execute(c).await.map(drop))?;
        // Whoever asked is dead; what the carrier did is not known.
        on!(tx, |c| sqlx::query(LAPSE).bind(now.0).execute(c).await.map(drop))?;
        let mut claimed = Claimed {
            late: select(&mut tx, LATE, now, most).await?,
            look: select(&mut tx, UNSURE, now, most).await?,
            ..Claimed::default()
        };
        let lease = after(now, pacing.lease);
        for dial in &mut claimed.look {
            on!(tx, |c| sqlx::query(HOLD)
                .bind(dial.call.as_str())
                .bind(lease.0)
                .execute(c)
                .await
                .map(drop))?;
            dial.due_at = lease;
        }
        let due = select(&mut tx, DUE, now, DUE_MAX).await?;
        let mut desk = Desk::new(&mut tx, pacing, now).await?;
        let room = usize::try_from(most).unwrap_or(usize::MAX);
        for dial in due {
            if claimed.look.len() + claimed.ask.len() >= room {
                break;
            }
            match desk.admit(&mut tx, &dial).await? {
                Admission::Now => claimed.ask.extend(ask(&mut tx, dial, lease, now).await?),
                Admission::At(at) => {
                    claimed.next = Some(claimed.next.map_or(at, |next| next.min(at)));
                }
                Admission::Full => {}
            }
        }
        desk.save(&mut tx).await?;
        let later: Option<i64> =
            on!(tx, |c| sqlx::query_scalar(LATER).bind(now.0).fetch_one(c).await)?;
        claimed.next = claimed.next.into_iter().chain(later.map(WallTime)).min();
        tx.commit().await?;
        Ok(claimed)
    }

    /// Says how a request for an account went: after several failures in a row it is left alone for
    /// a time that grows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account_health(
        &self,
        account: &str,
        health: Health,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.db().dial().await?;
        let name = health_of(account);
        let mut pace = read_pace(&mut tx, &name).await?;
        match health {
            // Not written each time: an account is fine nearly always.
            Health::Fine if pace.failures == 0 => return Ok(()),
            Health::Fine => pace = Pace::default(),
            Health::Failed => {
                pace.failures += 1;
                if pace.failures >= FAILURES_MAX {
                    let doubled = (pace.failures - FAILURES_MAX).min(16);
                    let pause = REST_FIRST.saturating_mul(1 << doubled).min(REST_MAX);
                    tracing::warn!(
                        seconds = pause.as_secs(),
                        "the carrier fails; it is left alone"
                    );
                    pace.free_at = after(now, pause);
                }
            }
        }
        write_pace(&mut tx, &name, pace).await?;
        tx.commit().await
    }

    /// The database's time, which all instances share.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn time(&self) -> Result<WallTime, StoreError> {
        let mut tx = self.db().read(super::tx::Scope::Shared).await?;
        let sql = tx.pick(TIME);
        Ok(WallTime(on!(tx, |c| sqlx::query_scalar(sql).fetch_one(c).await)?))
    }
}

/// Whether a call may be dialled.
enum Admission {
    Now,
    /// Not before this moment.
    At(WallTime),
    /// When another one has ended.
    Full,
}

/// When somebody may be dialled for again.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    free_at: WallTime,
    /// Failures in a row; only an account's health counts them.
    failures: u32,
}

/// What a claim knows besides the queue, as it changes call by call.
struct Desk<'a> {
    pacing: &'a Pacing,
    now: WallTime,
    paces: BTreeMap<String, Pace>,
    moved: BTreeSet<String>,
    accounts: BTreeMap<String, u32>,
    tenants: BTreeMap<TenantId, u32>,
}

impl<'a> Desk<'a> {
    async fn new(tx: &mut Tx, pacing: &'a Pacing, now: WallTime) -> Result<Self, StoreError> {
        let busy: Vec<(String, String, i64)> =
            on!(*tx, |c| sqlx::query_as(BUSY).fetch_all(c).await)?;
        let (mut accounts, mut tenants) = (BTreeMap::new(), BTreeMap::new());
        for (tenant, account, many) in busy {
            let many = u32::try_from(many).unwrap_or(u32::MAX);
            let tenant = TenantId::new(tenant).map_err(|_| StoreError::Row { what: "tenant" })?;
            *accounts.entry(account).or_insert(0) += many;
            *tenants.entry(tenant).or_insert(0) += many;
        }
        let (paces, moved) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { pacing, now, paces, moved, accounts, tenants })
    }

    /// Lets a call pass, and counts it everywhere, or says when it may.
    async fn admit(&mut self, tx: &mut Tx, dial: &Dial) -> Result<Admission, StoreError> {
        let bounds = self.pacing.tenants.get(&dial.tenant).copied().unwrap_or_default();
        let of_account = self.accounts.get(&dial.account).copied().unwrap_or(0);
        let of_tenant = self.tenants.get(&dial.tenant).copied().unwrap_or(0);
        let is_full = of_account >= self.pacing.account_slots || of_tenant >= bounds.slots;
        if is_full {
            return Ok(Admission::Full);
        }
        let health = health_of(&dial.account);
        let paces = [
            (format!("account/{}", dial.account), self.pacing.account_every),
            (format!("number/{}/{}", dial.account, dial.from.as_str()), self.pacing.number_every),
            (format!("tenant/{}", dial.tenant), bounds.every),
        ];
        let mut free_at = self.pace(tx, &health).await?.free_at;
        for (name, _) in &paces {
            free_at = free_at.max(self.pace(tx, name).await?.free_at);
        }
        if free_at > self.now {
            return Ok(Admission::At(free_at));
        }
        for (name, every) in paces.into_iter().filter(|(_, every)| !every.is_zero()) {
            let now = self.now;
            let pace = self.paces.entry(name.clone()).or_default();
            pace.free_at = after(pace.free_at.max(now), every);
            self.moved.insert(name);
        }
        // An account that has failed is tried with one call; what becomes of it decides.
        let (now, lease) = (self.now, self.pacing.lease);
        let sick = self.paces.get_mut(&health).filter(|pace| pace.failures >= FAILURES_MAX);
        if let Some(pace) = sick {
            pace.free_at = after(now, lease);
            self.moved.insert(health);
        }
        *self.accounts.entry(dial.account.clone()).or_insert(0) += 1;
        *self.tenants.entry(dial.tenant.clone()).or_insert(0) += 1;
        Ok(Admission::Now)
    }

    async fn pace(&mut self, tx: &mut Tx, name: &str) -> Result<Pace, StoreError> {
        if let Some(pace) = self.paces.get(name) {
            return Ok(*pace);
        }
        let pace = read_pace(tx, name).await?;
        self.paces.insert(name.to_owned(), pace);
        Ok(pace)
    }

    async fn save(self, tx: &mut Tx) -> Result<(), StoreError> {
        for name in &self.moved {
            write_pace(tx, name, self.paces[name]).await?;
        }
        Ok(())
    }
}

/// The name under which an account's health is kept.
fn health_of(account: &str) -> String {
    format!("health/{account}")
}

async fn read_pace(tx: &mut Tx, name: &str) -> Result<Pace, StoreError> {
    let found: Option<(i64, i64)> =
        on!(*tx, |c| sqlx::query_as(SELECT_PACE).bind(name).fetch_optional(c).await)?;
    let (free, failures) = found.unwrap_or_default();
    Ok(Pace { free_at: WallTime(free), failures: u32::try_from(failures).unwrap_or(u32::MAX) })
}

async fn write_pace(tx: &mut Tx, name: &str, pace: Pace) -> Result<(), StoreError> {
    on!(*tx, |c| sqlx::query(SAVE_PACE)
        .bind(name)
        .bind(pace.free_at.0)
        .bind(i64::from(pace.failures))
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

/// Marks a dial as being asked for; `None` when somebody was faster: its call has ended.
async fn ask(
    tx: &mut Tx,
    mut dial: Dial,
    lease: WallTime,
    now: WallTime,
) -> Result<Option<Dial>, StoreError> {
    let rows = on!(*tx, |c| sqlx::query(ASK)
        .bind(dial.call.as_str())
        .bind(now.0)
        .bind(lease.0)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    dial.attempt += 1;
    dial.state = DialState::Asking;
    dial.asked_at = Some(now);
    dial.due_at = lease;
    Ok((rows == 1).then_some(dial))
}

async fn select(
    tx: &mut Tx,
    sql: &'static str,
    now: WallTime,
    most: i64,
) -> Result<Vec<Dial>, StoreError> {
    Ok(on!(*tx, |c| sqlx::query_as(sql).bind(now.0).bind(most).fetch_all(c).await)?)
}

/// Longer than a request to the carrier may take with all its tries. Doubling it doubles the time
/// until a call is looked for whose asker has died.
const LEASE: Duration = Duration::from_secs(45);

/// How many waiting calls one claim looks at: the first of each number before the second of any.
const DUE_MAX: i64 = 200;

/// Failures in a row after which an account is left alone.
const FAILURES_MAX: u32 = 5;

/// How long it is left alone first, and at most.
const REST_FIRST: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(300);

/// One claim at a time over all instances. SQLite's transaction is that lock itself.
const LOCK: Sql = Sql { postgres: "SELECT pg_advisory_xact_lock(7161115, 5)", sqlite: "SELECT 1" };

const TIME: Sql = Sql {
    postgres: "SELECT (extract(epoch FROM now()) * 1000000)::bigint",
    sqlite: "SELECT CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)",
};

/// When something is due, at the earliest: now, or later.
const NEXT: &str = "SELECT min(due_us) FROM (SELECT min(due_us) AS due_us FROM dials \
     WHERE state <> 'placed' UNION ALL SELECT min(until_us) FROM dials \
     WHERE state = 'waiting') AS found";

const LATER: &str = "SELECT min(due_us) FROM (SELECT min(due_us) AS due_us FROM dials \
     WHERE state <> 'placed' AND due_us > $1 UNION ALL SELECT min(until_us) FROM dials \
     WHERE state = 'waiting' AND until_us > $1) AS found";

const LAPSE: &str = "UPDATE dials SET state = 'unsure' WHERE state = 'asking' AND due_us <= $1";

const UNSURE: &str = concat!(
    "SELECT ",
    dial_columns!(),
    " FROM dials WHERE state = 'unsure' AND due_us <= $1 ORDER BY due_us LIMIT $2"
);

const HOLD: &str = "UPDATE dials SET due_us = $2 WHERE call = $1 AND state = 'unsure'";

const LATE: &str = concat!(
    "SELECT ",
    dial_columns!(),
    " FROM dials WHERE state = 'waiting' AND until_us <= $1 ORDER BY until_us LIMIT $2"
);

/// Nobody's long list holds up another's call: the first of each goes before the second of any.
const DUE: &str = concat!(
    "SELECT ",
    dial_columns!(),
    " FROM (SELECT ",
    dial_columns!(),
    ", row_number() OVER (PARTITION BY tenant, account, from_number ORDER BY due_us, call) \
     AS turn FROM dials WHERE state = 'waiting' AND due_us <= $1 AND until_us > $1) AS due \
     ORDER BY turn, due_us, call LIMIT $2"
);

const ASK: &str = "UPDATE dials SET state = 'asking', attempt = attempt + 1, asked_us = $2, \
     due_us = $3 WHERE call = $1 AND state = 'waiting'";

const BUSY: &str = "SELECT tenant, account, CAST(count(*) AS BIGINT) FROM dials \
     WHERE state <> 'waiting' GROUP BY tenant, account";

const SELECT_PACE: &str = "SELECT free_us, failures FROM paces WHERE name = $1";

const SAVE_PACE: &str = "INSERT INTO paces (name, free_us, failures) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO UPDATE SET free_us = excluded.free_us, failures = excluded.failures";

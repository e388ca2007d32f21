//! The ledger: the sequencer's transaction.
//!
//! One transaction checks the lease, moves what control decided out of `pending`, takes what
//! relays report, gives every event its place, changes the calls that the events are about, and
//! moves the marks. Only after its commit is anything acknowledged. What the ledger remembers
//! between transactions (marks and heads) is a copy, thrown away after any error: nobody knows
//! whether a commit that failed to answer has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use link::event::NodeEvent;
use link::id::{Epoch, EventNumber, NodeId, TenantId, WallTime};

use super::draft::Draft;
use super::tx::{Sql, Tx, on};
use super::{Store, StoreError};
use crate::events::{Record, Seq};

/// Where events come from: one life of one node. Their numbers are dense within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub epoch: Epoch,
}

impl Source {
    /// The epoch as a column: all its bits, whatever they mean as a signed number.
    pub(super) fn epoch_column(&self) -> i64 {
        self.epoch.0.cast_signed()
    }
}

/// A batch that does not follow what was committed: the relay sends again from `expected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events are missing; {} is next", expected.0)]
pub struct Gap {
    /// The number that is next.
    pub expected: EventNumber,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else holds the lease.
    #[error("another instance holds the lease")]
    Lost,
    /// The database failed; whether the transaction was committed is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// How long things may last, by the database's clock.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long a lease is good for after its last transaction. Doubling it doubles the time
    /// without events after a crash.
    pub lease: Duration,
    /// How long a call may stay detached after its caller hung up, before it has ended.
    pub hung_up: Duration,
    /// How long a call may stay detached after its stream was lost, before it has ended.
    pub lost: Duration,
    /// How long a call may stay transferred without a word of the carrier, before it has ended.
    pub transferred: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(2),
            hung_up: Duration::from_secs(10),
            lost: Duration::from_secs(60),
            // The carrier ends what it dials after 4 hours (`timeLimit`), and says so.
            transferred: Duration::from_secs(5 * 3_600),
        }
    }
}

/// An event with its place, as it is stored.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose event it is.
    pub tenant: TenantId,
    /// The relay's number of it; `None` for what control itself decided.
    pub source: Option<(Source, EventNumber)>,
    /// The event.
    pub record: Arc<Record>,
}

/// What a committed transaction did.
#[derive(Debug, Default)]
pub struct Written {
    /// What is new, in order within each tenant.
    pub entries: Vec<Entry>,
    /// For each batch, the last committed number of its source, or what is missing.
    pub outcomes: Vec<Result<EventNumber, Gap>>,
    /// Events that had been committed before, and were dropped.
    pub duplicates: u64,
    /// Events of a kind that this version does not know: acknowledged, not stored.
    pub unknown: u64,
    /// Whether control has decided more than one transaction takes.
    pub more: bool,
}

/// The right to number events, and a copy of where the numbers stand.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    lease_epoch: i64,
    pub(super) times: Times,
    pub(super) marks: BTreeMap<Source, EventNumber>,
    pub(super) heads: BTreeMap<TenantId, Seq>,
    pub(super) tenants: BTreeSet<TenantId>,
}

impl Ledger {
    /// Takes the lease if nobody holds it, or whoever held it has been silent for too long.
    /// `at_once` takes it in any case, for a database that only this process can have.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take(
        store: &Store,
        holder: &str,
        times: Times,
        at_once: AtOnce,
    ) -> Result<Option<Self>, StoreError> {
        // One statement decides: of several that ask at once, one finds the row as it must be.
        let mut tx = store.db().sequence().await?;
        let sql = tx.pick(TAKE);
        let taken: Option<i64> = on!(tx, |c| sqlx::query_scalar(sql)
            .bind(holder)
            .bind(micros(times.lease))
            .bind(i64::from(at_once == AtOnce::Yes))
            .fetch_optional(c)
            .await)?;
        tx.commit().await?;
        Ok(taken.map(|lease_epoch| Self {
            store: store.clone(),
            times,
            lease_epoch,
            marks: BTreeMap::new(),
            heads: BTreeMap::new(),
            tenants: BTreeSet::new(),
        }))
    }

    /// Which term of office this is: grows with each holder.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.lease_epoch.cast_unsigned()
    }

    /// Writes batches, what control decided, and the end of calls that nobody resumed, in one
    /// transaction. It renews the lease, too.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] when another instance holds the lease: nothing was written. Any other
    /// error leaves open whether it was.
    pub async fn write(
        &mut self,
        batches: &[(Source, Vec<NodeEvent>)],
    ) -> Result<Written, LedgerError> {
        let result = self.try_write(batches).await;
        // Whether it was committed is not known, so nothing remembered can be trusted: it is read
        // anew.
        if result.is_err() {
            self.marks.clear();
            self.heads.clear();
            self.tenants.clear();
        }
        result
    }

    /// Whether there is anything to write besides what relays send.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_due(&self) -> Result<bool, StoreError> {
        let mut tx = self.store.db().sequence().await?;
        let sql = tx.pick(DUE);
        let due: i64 = on!(tx, |c| sqlx::query_scalar(sql)
            .bind(micros(self.times.hung_up))
            .bind(micros(self.times.lost))
            .bind(micros(self.times.transferred))
            .fetch_one(c)
            .await)?;
        Ok(due != 0)
    }

    /// Gives the lease back, so that another instance need not wait.
    ///
    /// # Errors
    /// When the database fails; the lease then runs out.
    pub async fn release(self) -> Result<(), StoreError> {
        let mut tx = self.store.db().sequence().await?;
        on!(tx, |c| sqlx::query(RELEASE).bind(self.lease_epoch).execute(c).await.map(drop))?;
        tx.commit().await
    }

    async fn try_write(
        &mut self,
        batches: &[(Source, Vec<NodeEvent>)],
    ) -> Result<Written, LedgerError> {
        let mut tx = self.store.db().sequence().await?;
        let sql = tx.pick(RENEW);
        let now: Option<i64> = on!(tx, |c| sqlx::query_scalar(sql)
            .bind(self.lease_epoch)
            .bind(micros(self.times.lease))
            .fetch_optional(c)
            .await)?;
        // The database's time: instances may disagree about theirs, and leases are between
        // instances.
        let now = WallTime(now.ok_or(LedgerError::Lost)?);
        let mut draft = Draft::new(self, tx, now);
        // Before the batches: `call.started` was decided before any relay could know of the call.
        draft.take_pending().await?;
        for (source, events) in batches {
            draft.take_batch(source, events).await?;
        }
        // After the batches: a stream that has just begun saves its call from being given up.
        draft.expire_calls().await?;
        Ok(draft.finish(batches).await?)
    }
}

/// Whether a lease is taken from its holder without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtOnce {
    /// Nobody else can be alive.
    Yes,
    /// Only when it has run out.
    No,
}

/// The last committed number of a source.
pub(super) async fn mark(tx: &mut Tx, source: &Source) -> Result<EventNumber, StoreError> {
    let mark: Option<i64> = on!(*tx, |c| sqlx::query_scalar(SELECT_MARK)
        .bind(source.node.as_str())
        .bind(source.epoch_column())
        .fetch_optional(c)
        .await)?;
    Ok(EventNumber(mark.unwrap_or(0).cast_unsigned()))
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2)
}

/// The database's time in microseconds, in its own words.
macro_rules! postgres_now {
    () => {
        "(extract(epoch FROM now()) * 1000000)::bigint"
    };
}
macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)"
    };
}

/// A statement that names the time between two texts.
macro_rules! timed {
    ($($part:literal),+; $last:literal) => {
        Sql {
            postgres: concat!($($part, postgres_now!(),)+ $last),
            sqlite: concat!($($part, sqlite_now!(),)+ $last),
        }
    };
}

const TAKE: Sql = timed!(
    "UPDATE lease SET holder = $1, lease_epoch = lease_epoch + 1, until_us = $2 + ",
    " WHERE id = 1 AND ($3 = 1 OR until_us <= ";
    ") RETURNING lease_epoch"
);

/// Fences and renews in one: the row stays locked until the commit, so that nobody takes the lease
/// in the middle, and somebody else's epoch matches no row.
const RENEW: Sql = timed!(
    "UPDATE lease SET until_us = $2 + ";
    " WHERE id = 1 AND lease_epoch = $1 RETURNING until_us - $2"
);

const RELEASE: &str = "UPDATE lease SET until_us = 0 WHERE id = 1 AND lease_epoch = $1";

const DUE: Sql = timed!(
    "SELECT CAST(count(*) AS BIGINT) FROM (SELECT id FROM pending UNION ALL \
     SELECT 1 FROM calls WHERE state IN ('detached', 'transferred') AND detached_us + \
     CASE WHEN state = 'transferred' THEN $3 \
     WHEN detach_reason = 'caller_hung_up' THEN $1 ELSE $2 END <= ";
    ") AS due"
);

const SELECT_MARK: &str = "SELECT n FROM marks WHERE node = $1 AND epoch = $2";

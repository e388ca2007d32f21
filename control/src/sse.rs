//! The stream of records that one SSE client gets.
//!
//! A client has no queue: it is a place in its tenant's records, what it has seen last. The window
//! of `hub.rs` says what follows, and where it does not reach, the database does. So there is no
//! moment of handing over between the two, and nothing to lose or to repeat in it.
//!
//! What is told for the moment (`ephemeral.rs`) is for a client that wants it and has every record:
//! while records wait for it, nothing else does for long.
//!
//! The HTTP side (headers, framing, the route) is in `api/`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use link::id::{CallId, RunId, TenantId};
use tokio::sync::watch;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::ephemeral::{Batch, Ear, Passing};
use crate::events::{Record, Seq};
use crate::hub::{Hub, Look, Subscription};
use crate::store::{Store, StoreError};

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The next record.
    Record(Arc<Record>),
    /// Something for the moment: it has no place, and is not there for a client that comes back.
    Passing(Arc<Passing>),
    /// What follows does not continue what the client has seen: it should read the present state
    /// anew. The stream goes on behind it.
    Reset(Reset),
    /// Nothing for a while; keeps proxies from closing the connection.
    Ping,
    /// The last item: why the stream ends. The client comes back with the last id it has seen.
    End(End),
}

/// A break in what a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// The last record that it says it has seen.
    pub after: Seq,
    /// The stream goes on behind this one; it is the id of the break itself.
    pub resumes_after: Seq,
    /// Why.
    pub because: Because,
}

/// Why there is a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Records in between are older than what is kept.
    Expired,
    /// There is no such record yet: the id is another database's, or this one was set back.
    UnknownId,
}

impl Because {
    /// The word as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::UnknownId => "unknown_id",
        }
    }
}

impl Reset {
    /// The break as the `data` line of its SSE message: one line of JSON, shaped as a record's.
    #[must_use]
    pub fn json(&self) -> String {
        let Self { after, resumes_after, because } = self;
        let because = because.as_str();
        format!(
            r#"{{"seq":{resumes_after},"type":"reset","call":null,"generation":null,"data":{{"after":{after},"because":"{because}"}}}}"#
        )
    }
}

/// Why a stream of records ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// This instance is stopping.
    Shutdown,
    /// The client fell too far behind while others wait for nobody.
    TooSlow,
    /// The database failed while the client was catching up.
    StoreFailed,
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Whose events.
    pub tenant: TenantId,
    /// The last record that the client has seen; `None` starts with what happens next.
    pub after: Option<Seq>,
    /// Only this call's records.
    pub call: Option<CallId>,
    /// Only records of this run's calls.
    pub run: Option<RunId>,
    /// Whether the client also wants what is told for the moment.
    pub ephemeral: bool,
}

/// Streams a tenant's records, each exactly once and in order, until the client goes, is too slow,
/// or `shutdown` is cancelled. Where records are missing for good, a [`Reset`] says so.
pub fn stream(
    store: Store,
    hub: &Hub,
    watch: Watch,
    shutdown: CancellationToken,
) -> impl Stream<Item = Item> + Send + use<> {
    let subscription = hub.subscribe(&watch.tenant);
    let news = subscription.news();
    let ear = watch.ephemeral.then(|| subscription.listen());
    let mut ping = tokio::time::interval(PING_EVERY);
    // The first tick would be at once.
    ping.reset();
    let client = Client {
        store,
        subscription,
        watch,
        news,
        ear,
        ping,
        shutdown,
        seen: None,
        of_run: BTreeSet::new(),
        ready: VecDeque::new(),
        passing: VecDeque::new(),
        reset: None,
        is_live: false,
        has_ended: false,
    };
    futures_util::stream::unfold(client, |mut client| async move {
        let item = client.next().await?;
        client.ping.reset();
        Some((item, client))
    })
}

/// One client's place in a tenant's records.
struct Client {
    store: Store,
    subscription: Subscription,
    watch: Watch,
    news: watch::Receiver<()>,
    /// `None` when the client wants records only.
    ear: Option<Ear>,
    ping: Interval,
    shutdown: CancellationToken,
    /// The last record that was looked at; `None` before the beginning was found.
    seen: Option<Seq>,
    /// The calls of the run that is watched.
    of_run: BTreeSet<CallId>,
    /// Records on their way out, at most one look's.
    ready: VecDeque<Arc<Record>>,
    /// What was told for the moment and is on its way out, at most one batch.
    passing: VecDeque<Arc<Passing>>,
    /// A break that the client is told of before anything else.
    reset: Option<Reset>,
    /// Whether it has caught up once: from then on it must keep up.
    is_live: bool,
    has_ended: bool,
}

impl Client {
    async fn next(&mut self) -> Option<Item> {
        if self.has_ended {
            return None;
        }
        loop {
            if self.shutdown.is_cancelled() {
                return self.end(End::Shutdown);
            }
            if let Some(reset) = self.reset.take() {
                return Some(Item::Reset(reset));
            }
            // One at a time: a client that does not read shows by its lag, not by a queue.
            if let Some(record) = self.ready.pop_front() {
                return Some(Item::Record(record));
            }
            match self.refill().await {
                Ok(Refill::Looked) => {}
                Ok(Refill::TooSlow) => return self.end(End::TooSlow),
                Ok(Refill::CaughtUp) => {
                    // Only now: whoever has records to read gets nothing else.
                    if let Some(passing) = self.passing.pop_front() {
                        return Some(Item::Passing(passing));
                    }
                    tokio::select! {
                        () = self.shutdown.cancelled() => {}
                        // The sender lives in the feed that the subscription holds.
                        _ = self.news.changed() => {}
                        batch = heard(&mut self.ear) => self.keep_wanted(&batch),
                        _ = self.ping.tick() => return Some(Item::Ping),
                    }
                }
                Err(error) => {
                    warn!(error = error.explain(), "an event stream could not read the database");
                    return self.end(End::StoreFailed);
                }
            }
        }
    }

    /// Looks for what follows. News are marked as known *before* the look, so that what comes
    /// during it wakes the client again.
    async fn refill(&mut self) -> Result<Refill, StoreError> {
        let seen = match self.seen {
            Some(seen) => seen,
            None => self.find_beginning().await?,
        };
        if self.reset.is_some() {
            return Ok(Refill::Looked);
        }
        self.news.mark_unchanged();
        let look = self.subscription.window().look(seen);
        match look {
            Look::CaughtUp => {
                self.is_live = true;
                Ok(Refill::CaughtUp)
            }
            Look::Records { lag, .. } | Look::Behind { lag, .. }
                if self.is_live && lag.is_too_much() =>
            {
                Ok(Refill::TooSlow)
            }
            Look::Records { records, .. } => {
                self.seen = records.last().map_or(self.seen, |record| Some(record.seq));
                let wanted: Vec<_> =
                    records.into_iter().filter(|record| self.wants(record)).collect();
                self.ready.extend(wanted);
                Ok(Refill::Looked)
            }
            Look::Behind { head, .. } => {
                // It must catch up from the database first, and may take its time for that.
                self.is_live = false;
                // By the time it has caught up, the turns of these words are there.
                self.passing.clear();
                self.ear.iter_mut().for_each(Ear::skip);
                self.read_database(seen, head).await?;
                Ok(Refill::Looked)
            }
        }
    }

    /// Whether a record is one that the client asks for.
    fn wants(&mut self, record: &Record) -> bool {
        let Watch { call, run, .. } = &self.watch;
        if call.is_some() && record.call != *call {
            return false;
        }
        let Some(run) = run else { return true };
        let Some(call) = &record.call else { return false };
        if self.of_run.contains(call) {
            return true;
        }
        // A call that joins a run says so in its first record.
        let joins = BEGINNINGS.contains(&record.kind.as_str()) && record.names_run(run);
        joins && self.of_run.insert(call.clone())
    }

    /// Takes of what was told for the moment what the client asks for.
    fn keep_wanted(&mut self, batch: &Batch) {
        let Watch { call, run, .. } = &self.watch;
        let is_of_call = |passing: &Passing| call.as_ref().is_none_or(|call| passing.call == *call);
        let is_of_run = |passing: &Passing| run.is_none() || self.of_run.contains(&passing.call);
        let wanted = batch.iter().filter(|passing| is_of_call(passing) && is_of_run(passing));
        self.passing.extend(wanted.cloned());
    }

    /// A client without a last record begins behind the last committed one; with an id that was
    /// never given out as well, and is told so.
    async fn find_beginning(&mut self) -> Result<Seq, StoreError> {
        let head = self.store.head(&self.watch.tenant).await?;
        self.subscription.window().begin(head);
        if let Some(run) = &self.watch.run {
            self.of_run = self.store.calls_of_run(&self.watch.tenant, run).await?;
        }
        let seen = self.watch.after.map_or(head, |after| after.min(head));
        self.seen = Some(seen);
        if let Some(after) = self.watch.after.filter(|after| *after > head) {
            self.reset = Some(Reset { after, resumes_after: head, because: Because::UnknownId });
        }
        Ok(seen)
    }

    /// Reads a page. `head` was known to be committed before, so that a page that is not full
    /// holds everything up to it.
    async fn read_database(&mut self, seen: Seq, head: Seq) -> Result<(), StoreError> {
        let Watch { tenant, call, run, .. } = &self.watch;
        let page = match run {
            None => self.store.events_after(tenant, seen, call.as_ref(), PAGE_RECORDS).await?,
            Some(run) => self.store.events_of_run(tenant, seen, run, PAGE_RECORDS).await?,
        };
        // Places are dense, so a page of all records shows by itself that none is missing before
        // it. Asked after the page: what is missing only grows.
        let is_whole = call.is_none()
            && run.is_none()
            && page.first().is_some_and(|first| first.seq == seen.next());
        if !is_whole {
            let oldest = self.store.oldest(tenant).await?;
            // Nothing is kept: what was there until `head` is gone, too.
            let gone = oldest.map_or(head, |oldest| Seq(oldest.0.saturating_sub(1)));
            if gone > seen {
                self.seen = Some(gone);
                // Whoever asks for everything gets everything there is; nothing breaks off.
                self.reset = (seen > Seq(0)).then_some(Reset {
                    after: seen,
                    resumes_after: gone,
                    because: Because::Expired,
                });
                return Ok(());
            }
        }
        let last = page.last().map_or(seen, |record| record.seq);
        let is_full = page.len() == PAGE_RECORDS as usize;
        self.seen = Some(if is_full { last } else { last.max(head) });
        let wanted = |record: &Record| call.is_none() || record.call == *call;
        self.ready.extend(page.into_iter().filter(wanted).map(Arc::new));
        Ok(())
    }

    fn end(&mut self, end: End) -> Option<Item> {
        self.has_ended = true;
        Some(Item::End(end))
    }
}

/// What an ear hears; nothing, ever, when there is none.
async fn heard(ear: &mut Option<Ear>) -> Batch {
    match ear {
        Some(ear) => ear.hear().await,
        None => std::future::pending().await,
    }
}

enum Refill {
    /// There may be records now, and there may be more behind them.
    Looked,
    /// Nothing follows yet.
    CaughtUp,
    /// The client has fallen behind for good.
    TooSlow,
}

/// The records that a call begins with.
const BEGINNINGS: [&str; 2] = ["call.queued", "call.started"];

/// Proxies close what is silent for 30 to 60 s.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Records read from the database at once by a client that catches up: about 150 KB.
const PAGE_RECORDS: u32 = 500;

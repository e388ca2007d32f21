//! The sequencer: one task that gives every event its place.
//!
//! Links and control's own decisions come in, grouped into one transaction each (`store/ledger.rs`
//! says what it does); acknowledgements and records go out, only after its commit. It works while
//! this instance holds the lease. Without it, offers wait in a bounded queue and the rest of
//! control serves what the holder has committed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use link::event::NodeEvent;
use link::id::{ControlId, EventNumber};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::hub::Hub;
use crate::retention;
use crate::store::{AtOnce, Gap, Ledger, LedgerError, Source, Store, StoreError, Times, Written};

/// The way to the sequencer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sequencer {
    offers: mpsc::Sender<Offer>,
    state: watch::Receiver<LeaseState>,
    term: watch::Receiver<Option<u64>>,
    control: ControlId,
    counts: Arc<Counts>,
}

/// How this instance stands with the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Another instance holds it, or nobody has been asked yet. Reads are served.
    Waiting,
    /// This instance numbers events.
    Held,
    /// This instance held the lease last, and the database does not take its events.
    Failing,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not follow what was committed.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// Another instance numbers events, or nobody: the relay tells the holder.
    #[error("this instance does not hold the lease")]
    NotHolder,
    /// This instance is stopping; the batch is safe with the relay.
    #[error("this instance is stopping")]
    Stopped,
}

/// How a sequencer works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This process's name in the lease and on the link; never that of another process.
    pub holder: ControlId,
    /// How long leases and detached calls last.
    pub times: Times,
    /// How long events are kept, in days after the one on which they were stored.
    pub keep_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let holder = ControlId::new(uuid::Uuid::new_v4().simple().to_string())
            .expect("hexadecimal digits are an id");
        Self { holder, times: Times::default(), keep_days: KEEP_DAYS }
    }
}

/// What the sequencer has done since the process began.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events committed.
    pub events: AtomicU64,
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Transactions that failed; each was tried again.
    pub failures: AtomicU64,
    /// Events that had been committed before.
    pub duplicates: AtomicU64,
    /// Batches that did not follow what was committed.
    pub gaps: AtomicU64,
    /// Events of a kind that this version does not know.
    pub unknown: AtomicU64,
}

/// Makes a sequencer. The caller runs the future, which ends after `shutdown` is cancelled, what
/// was offered is committed and the lease is given back.
pub fn sequencer(
    store: Store,
    hub: Hub,
    settings: Settings,
    shutdown: CancellationToken,
) -> (Sequencer, impl Future<Output = ()> + Send) {
    let (offers, queue) = mpsc::channel(QUEUE_BATCHES_MAX);
    let (state, watching) = watch::channel(LeaseState::Waiting);
    let (term, term_watching) = watch::channel(None);
    let counts = Arc::new(Counts::default());
    let handle = Sequencer {
        offers,
        state: watching.clone(),
        term: term_watching,
        control: settings.holder.clone(),
        counts: Arc::clone(&counts),
    };
    let keeper =
        retention::keep(store.clone(), settings.keep_days, watching.clone(), shutdown.clone());
    let follower = hub.clone().follow(store.clone(), watching, shutdown.clone());
    let group = Group::new();
    let task = Task { store, hub, settings, shutdown, queue, state, term, counts, group };
    let both = async move {
        tokio::join!(task.run(), follower, keeper);
    };
    (handle, both)
}

impl Sequencer {
    /// Offers a batch. Waits while the queue is full; the receipt resolves when the batch is
    /// committed. Batches of one source keep their order.
    ///
    /// # Errors
    /// [`Refused::Stopped`] when the sequencer has ended.
    pub async fn submit(&self, source: Source, events: Vec<NodeEvent>) -> Result<Receipt, Refused> {
        let (reply, receipt) = oneshot::channel();
        let offer = Offer { source, events, reply };
        self.offers.send(offer).await.map_err(|_| Refused::Stopped)?;
        Ok(Receipt(receipt))
    }

    /// How this instance stands with the lease, and every change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.state.clone()
    }

    /// In which term of office this instance numbers events, and every change of it; `None` while
    /// it does not. An instance whose database fails keeps its term until somebody else has one.
    #[must_use]
    pub fn term(&self) -> watch::Receiver<Option<u64>> {
        self.term.clone()
    }

    /// What this instance is called.
    #[must_use]
    pub fn control(&self) -> &ControlId {
        &self.control
    }

    /// What has been done.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Resolves to the last committed number of the batch's source.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<EventNumber, Refused>>);

impl Future for Receipt {
    type Output = Result<EventNumber, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(answer.unwrap_or(Err(Refused::Stopped)))
    }
}

#[derive(Debug)]
struct Offer {
    source: Source,
    events: Vec<NodeEvent>,
    reply: oneshot::Sender<Result<EventNumber, Refused>>,
}

/// Batches that share a transaction, and who waits for each. It outlives failures: it is offered
/// again until it is committed or known to have been. When the lease is lost it is given back, since
/// relays tell the next holder everything again.
#[derive(Debug)]
struct Group {
    batches: Vec<(Source, Vec<NodeEvent>)>,
    replies: Vec<oneshot::Sender<Result<EventNumber, Refused>>>,
    events: usize,
}

impl Group {
    fn new() -> Self {
        Self { batches: Vec::new(), replies: Vec::new(), events: 0 }
    }

    fn add(&mut self, offer: Offer) {
        self.events += offer.events.len();
        self.batches.push((offer.source, offer.events));
        self.replies.push(offer.reply);
    }
}

struct Task {
    store: Store,
    hub: Hub,
    settings: Settings,
    shutdown: CancellationToken,
    queue: mpsc::Receiver<Offer>,
    state: watch::Sender<LeaseState>,
    term: watch::Sender<Option<u64>>,
    counts: Arc<Counts>,
    group: Group,
}

/// Why a holder stops.
enum Over {
    Lost,
    Shutdown,
}

impl Task {
    async fn run(mut self) {
        // Whoever held a private database's lease is dead, since this process could open it.
        let is_private = self.store.is_private();
        let mut at_once = if is_private { AtOnce::Yes } else { AtOnce::No };
        if is_private {
            self.settings.times.lease = self.settings.times.lease.max(PRIVATE_LEASE);
        }
        while let Some(mut ledger) = self.take_lease(at_once).await {
            at_once = AtOnce::No;
            info!("holding the lease for events");
            self.state.send_replace(LeaseState::Held);
            self.term.send_replace(Some(ledger.term()));
            match self.hold(&mut ledger).await {
                Over::Lost => {
                    warn!("another instance has taken the lease for events");
                    self.state.send_replace(LeaseState::Waiting);
                    self.term.send_replace(None);
                    self.give_back();
                }
                Over::Shutdown => {
                    if let Err(error) = ledger.release().await {
                        debug!(error = error.explain(), "the lease was not given back");
                    }
                    break;
                }
            }
        }
        self.state.send_replace(LeaseState::Waiting);
        self.term.send_replace(None);
    }

    /// Says no to everything that was offered and not committed.
    fn give_back(&mut self) {
        let group = std::mem::replace(&mut self.group, Group::new());
        let mut replies = group.replies;
        while let Ok(offer) = self.queue.try_recv() {
            replies.push(offer.reply);
        }
        for reply in replies {
            // A link that has gone tells the next holder all the same.
            reply.send(Err(Refused::NotHolder)).ok();
        }
    }

    /// Waits for the lease; `None` when the process stops first.
    async fn take_lease(&self, at_once: AtOnce) -> Option<Ledger> {
        let Settings { holder, times, .. } = &self.settings;
        loop {
            match Ledger::take(&self.store, holder.as_str(), *times, at_once).await {
                Ok(Some(ledger)) => return Some(ledger),
                Ok(None) => debug!("another instance holds the lease for events"),
                Err(error) => {
                    warn!(error = error.explain(), "the lease for events cannot be taken");
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(times.lease.min(TAKE_EVERY)) => {}
            }
        }
    }

    async fn hold(&mut self, ledger: &mut Ledger) -> Over {
        let mut renew = ticks(self.settings.times.lease / 4);
        let mut look = ticks(if self.store.is_private() { LOOK_PRIVATE } else { LOOK_SHARED });
        // What is left from before comes first; so does whatever happened while nobody held.
        loop {
            if let Err(over) = self.write(ledger).await {
                return over;
            }
            if !self.wait(ledger, &mut renew, &mut look).await {
                // Relays are told of what is committed now and need not send it to the next holder.
                self.take_rest();
                return self.write(ledger).await.err().unwrap_or(Over::Shutdown);
            }
        }
    }

    /// Waits until there is something to write; `false` when the process stops.
    async fn wait(&mut self, ledger: &Ledger, renew: &mut Interval, look: &mut Interval) -> bool {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                offer = self.queue.recv() => match offer {
                    Some(offer) => self.group.add(offer),
                    None => return false,
                },
                () = self.store.pending_written() => {}
                _ = renew.tick() => return true,
                _ = look.tick() => match ledger.is_due().await {
                    Ok(false) => continue,
                    // An error will show again where it is handled, in the write.
                    Ok(true) | Err(_) => return true,
                },
            }
            self.gather().await;
            return true;
        }
    }

    /// Lets a group fill for a moment.
    async fn gather(&mut self) {
        let over = tokio::time::sleep(GROUP_WAIT);
        tokio::pin!(over);
        while self.group.events < GROUP_EVENTS {
            tokio::select! {
                biased;
                offer = self.queue.recv() => match offer {
                    Some(offer) => self.group.add(offer),
                    None => return,
                },
                () = &mut over => return,
            }
        }
    }

    /// Takes what was offered before the process began to stop.
    fn take_rest(&mut self) {
        self.queue.close();
        while let Ok(offer) = self.queue.try_recv() {
            self.group.add(offer);
        }
    }

    /// Commits the group, however often it takes.
    async fn write(&mut self, ledger: &mut Ledger) -> Result<(), Over> {
        let mut pause = RETRY_FIRST;
        loop {
            match ledger.write(&self.group.batches).await {
                Ok(written) => {
                    // Only a change wakes those who watch the state, not every commit.
                    self.state.send_if_modified(|state| {
                        std::mem::replace(state, LeaseState::Held) != LeaseState::Held
                    });
                    let is_all = !written.more;
                    self.on_written(written);
                    if is_all {
                        return Ok(());
                    }
                }
                Err(LedgerError::Lost) => return Err(Over::Lost),
                Err(LedgerError::Store(error)) => {
                    self.on_failure(&error);
                    tokio::select! {
                        () = self.shutdown.cancelled() => return Err(Over::Shutdown),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    fn on_written(&mut self, written: Written) {
        let group = std::mem::replace(&mut self.group, Group::new());
        for (reply, outcome) in group.replies.into_iter().zip(&written.outcomes) {
            self.counts.gaps.fetch_add(u64::from(outcome.is_err()), Ordering::Relaxed);
            // A link that has gone learns the same when it returns, from the mark.
            reply.send(outcome.map_err(Refused::Gap)).ok();
        }
        self.hub.publish(&written.entries);
        self.counts.commits.fetch_add(1, Ordering::Relaxed);
        self.counts.events.fetch_add(written.entries.len() as u64, Ordering::Relaxed);
        self.counts.duplicates.fetch_add(written.duplicates, Ordering::Relaxed);
        self.counts.unknown.fetch_add(written.unknown, Ordering::Relaxed);
    }

    fn on_failure(&self, error: &StoreError) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        self.state.send_replace(LeaseState::Failing);
        warn!(error = error.explain(), "events were not committed; trying again");
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// How long events are kept when nobody says.
const KEEP_DAYS: u32 = 30;

/// Batches that wait, of at most 64 events each, from all links together. When full, links wait,
/// and relays keep what they have.
const QUEUE_BATCHES_MAX: usize = 64;

/// A transaction takes at least this many events if they are there; measured, larger ones are
/// hardly cheaper by the event.
const GROUP_EVENTS: usize = 200;

/// How long a group may fill. Doubling it adds as much to every acknowledgement.
const GROUP_WAIT: Duration = Duration::from_millis(10);

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How often the lease is asked for while another instance holds it.
const TAKE_EVERY: Duration = Duration::from_millis(200);

/// A private database's lease is renewed every 15 s: each renewal is a disk sync.
const PRIVATE_LEASE: Duration = Duration::from_secs(60);

/// How often to look for what other instances have decided, and for calls to end.
const LOOK_SHARED: Duration = Duration::from_millis(250);

/// Only for calls to end: this process knows of its own decisions.
const LOOK_PRIVATE: Duration = Duration::from_secs(1);

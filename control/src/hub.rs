//! The hub: recent committed records, one window for each tenant that somebody watches.
//!
//! The window only ever answers "these follow", "nothing follows yet" or "ask the database"; who
//! asks is in `sse.rs`. Only what is committed gets here: from the sequencer of this instance, or,
//! while another one holds the lease, from the database. Beside the window stands the voice of what
//! is told for the moment (`ephemeral.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::ephemeral::Ephemeral;
use link::id::TenantId;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::answers::Answers;
use crate::ephemeral::{Counts, Ear, Voice, by_tenant};
use crate::events::{Record, Seq};
use crate::sequencer::LeaseState;
use crate::store::{Entry, Store, StoreError};

/// All windows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    feeds: Arc<Mutex<BTreeMap<TenantId, Watched>>>,
    answers: Answers,
    ephemeral: Arc<Counts>,
}

/// A tenant that somebody watches.
#[derive(Debug)]
struct Watched {
    clients: usize,
    feed: Arc<Feed>,
}

#[derive(Debug)]
struct Feed {
    window: Mutex<Window>,
    news: watch::Sender<()>,
    voice: Voice,
}

impl Hub {
    /// Makes a hub that nobody watches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many clients watch.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.feeds().values().map(|watched| watched.clients).sum()
    }

    /// Who waits for the answer to a command.
    #[must_use]
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Shows committed entries to whoever watches their tenants or waits for an answer. In order
    /// within each tenant; what was shown before is skipped.
    pub fn publish(&self, entries: &[Entry]) {
        // Those who wait for one answer first: they hold a request open.
        self.answers.tell(entries);
        let feeds = self.feeds();
        for of_tenant in entries.chunk_by(|a, b| a.tenant == b.tenant) {
            let Some(watched) = of_tenant.first().and_then(|entry| feeds.get(&entry.tenant)) else {
                continue;
            };
            // The window is full before the news go out: whoever they wake finds everything.
            // One lock for all records of the group, not one for each.
            let records = of_tenant.iter().map(|entry| Arc::clone(&entry.record));
            watched.feed.window().publish(records);
            watched.feed.news.send_replace(());
        }
    }

    /// Shows what relays tell for the moment to whoever wants it.
    pub fn pass(&self, events: &[Ephemeral]) {
        let feeds = self.feeds();
        for (tenant, events) in by_tenant(events) {
            if let Some(watched) = feeds.get(tenant) {
                watched.feed.voice.tell(events);
            }
        }
    }

    /// What has become of what was told for the moment.
    pub(crate) fn ephemeral(&self) -> &Counts {
        &self.ephemeral
    }

    /// While another instance numbers events, reads what it commits for this one's clients.
    pub(crate) async fn follow(
        self,
        store: Store,
        mut state: watch::Receiver<LeaseState>,
        shutdown: CancellationToken,
    ) {
        let mut every = tokio::time::interval(FOLLOW_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whoever has just taken the lease looks once more: what its predecessor committed last.
        let mut is_behind = true;
        loop {
            let is_holder = *state.borrow_and_update() == LeaseState::Held;
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = state.changed() => if changed.is_err() { return },
                _ = every.tick(), if is_behind || !is_holder => match self.poll(&store).await {
                    Ok(()) => is_behind = !is_holder,
                    Err(error) => {
                        debug!(error = error.explain(), "event streams wait for the database");
                    }
                }
            }
        }
    }

    async fn poll(&self, store: &Store) -> Result<(), StoreError> {
        let known: BTreeMap<TenantId, Seq> = {
            let feeds = self.feeds();
            let known = |(tenant, watched): (&TenantId, &Watched)| {
                Some((tenant.clone(), watched.feed.window().head?))
            };
            feeds.iter().filter_map(known).collect()
        };
        if known.is_empty() {
            return Ok(());
        }
        let tenants: Vec<TenantId> = known.keys().cloned().collect();
        for (tenant, head) in store.heads(&tenants).await? {
            let known = known[&tenant];
            if head <= known {
                continue;
            }
            // After a long silence only the newest: clients read the rest from the database.
            let page = Seq(head.0.saturating_sub(u64::from(PAGE_RECORDS)));
            let after = known.max(page);
            let records = store.events_after(&tenant, after, None, PAGE_RECORDS).await?;
            let entry =
                |record| Entry { tenant: tenant.clone(), source: None, record: Arc::new(record) };
            let entries: Vec<Entry> = records.into_iter().map(entry).collect();
            self.publish(&entries);
        }
        Ok(())
    }

    /// Sees to it that answers of a tenant's calls are heard here, for as long as what it returns
    /// is held: also while another instance numbers events.
    pub(crate) async fn attend(
        &self,
        store: &Store,
        tenant: &TenantId,
    ) -> Result<Subscription, StoreError> {
        let subscription = self.subscribe(tenant);
        let is_known = subscription.window().head.is_some();
        if !is_known {
            let head = store.head(tenant).await?;
            subscription.window().begin(head);
        }
        Ok(subscription)
    }

    /// Joins those who watch a tenant.
    pub(crate) fn subscribe(&self, tenant: &TenantId) -> Subscription {
        let mut feeds = self.feeds();
        let watched = feeds.entry(tenant.clone()).or_insert_with(|| {
            let voice = Voice::new(Arc::clone(&self.ephemeral));
            let feed = Feed { window: Mutex::default(), news: watch::Sender::new(()), voice };
            Watched { clients: 0, feed: Arc::new(feed) }
        });
        watched.clients += 1;
        let feed = Arc::clone(&watched.feed);
        Subscription { hub: self.clone(), tenant: tenant.clone(), feed }
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<TenantId, Watched>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's hold on its tenant's feed. The last one to go takes the window with it.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Hub,
    tenant: TenantId,
    feed: Arc<Feed>,
}

impl Subscription {
    /// Wakes whenever the window has more.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.feed.news.subscribe()
    }

    /// An ear for what is told for the moment.
    pub(crate) fn listen(&self) -> Ear {
        self.feed.voice.listen()
    }

    /// The tenant's window.
    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        self.feed.window()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut feeds = self.hub.feeds();
        let Some(watched) = feeds.get_mut(&self.tenant) else { return };
        watched.clients -= 1;
        if watched.clients == 0 {
            feeds.remove(&self.tenant);
        }
    }
}

/// Recent records of a tenant, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The last record that is known to be committed; `None` before anybody asked.
    head: Option<Seq>,
    /// The last record of the publication before the newest one: what every client has had the
    /// time to see. How many come at once is no fault of a client.
    seen_by_now: Seq,
    records: VecDeque<Arc<Record>>,
    bytes: usize,
}

/// What the window says to a client.
pub(crate) enum Look {
    /// Nothing follows yet.
    CaughtUp,
    /// These follow.
    Records { records: Vec<Arc<Record>>, lag: Lag },
    /// What follows is in the database only.
    Behind { head: Seq, lag: Lag },
}

/// How far a client is behind.
#[derive(Clone, Copy)]
pub(crate) struct Lag {
    events: u64,
    bytes: usize,
}

impl Lag {
    pub(crate) fn is_too_much(self) -> bool {
        self.events > LAG_EVENTS_MAX || self.bytes > LAG_BYTES_MAX
    }
}

impl Window {
    /// Learns where the records stand, from one who has asked the database.
    pub(crate) fn begin(&mut self, head: Seq) {
        self.head.get_or_insert(head);
    }

    /// Takes records that were committed together.
    fn publish(&mut self, records: impl Iterator<Item = Arc<Record>>) {
        self.seen_by_now = self.head.unwrap_or_default();
        records.for_each(|record| self.push(record));
    }

    fn push(&mut self, record: Arc<Record>) {
        match self.head {
            Some(head) if record.seq <= head => return,
            Some(head) if record.seq == head.next() => {}
            // Another instance has committed in between: what it was is in the database.
            Some(_) | None => {
                self.records.clear();
                self.bytes = 0;
            }
        }
        self.head = Some(record.seq);
        self.bytes += record.bytes();
        self.records.push_back(record);
        while self.records.len() > WINDOW_RECORDS_MAX || self.bytes > WINDOW_BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    /// What follows the record that a client has seen last.
    pub(crate) fn look(&self, seen: Seq) -> Look {
        let head = self.head.unwrap_or_default();
        if seen >= head {
            return Look::CaughtUp;
        }
        let behind = head.0 - seen.0;
        let late = self.seen_by_now.0.saturating_sub(seen.0);
        let known = self.records.len() as u64;
        let Some(skip) = known.checked_sub(behind) else {
            return Look::Behind { head, lag: Lag { events: late, bytes: 0 } };
        };
        let following = self.records.range(skip as usize..);
        let bytes = following.clone().take(late as usize).map(|record| record.bytes()).sum();
        let records = following.take(LOOK_RECORDS).cloned().collect();
        Look::Records { records, lag: Lag { events: late, bytes } }
    }
}

/// A client that has caught up may fall this far behind before it is sent away. Doubling it
/// doubles what a burst may hold up, not what it costs: records are shared.
const LAG_EVENTS_MAX: u64 = 256;

/// The same in bytes.
const LAG_BYTES_MAX: usize = 1024 * 1024;

/// The window holds what one transaction can bring, so that nobody who keeps up has to ask the
/// database, and what the slowest allowed client needs besides.
const WINDOW_RECORDS_MAX: usize = 4_096 + 2 * LAG_EVENTS_MAX as usize;
const WINDOW_BYTES_MAX: usize = 2 * LAG_BYTES_MAX;

/// Records taken from the window in one look.
const LOOK_RECORDS: usize = 32;

/// Records read from the database at once.
const PAGE_RECORDS: u32 = 500;

/// How often an instance without the lease asks where the watched tenants stand: one short question.
/// Doubling it adds as much to what its clients see late.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use link::id::WallTime;

    fn record(seq: u64, data_bytes: usize) -> Arc<Record> {
        Arc::new(Record {
            seq: Seq(seq),
            kind: "turn".into(),
            call: None,
            generation: None,
            at: WallTime(0),
            data: "x".repeat(data_bytes),
        })
    }

    fn window(seqs: impl Iterator<Item = u64>) -> Window {
        let mut window = Window::default();
        window.publish(seqs.map(|seq| record(seq, 10)));
        window
    }

    /// The places that follow; `None` when the database must be asked.
    fn follows(window: &Window, seen: u64) -> Option<Vec<u64>> {
        match window.look(Seq(seen)) {
            Look::CaughtUp => Some(Vec::new()),
            Look::Records { records, .. } => Some(records.iter().map(|r| r.seq.0).collect()),
            Look::Behind { .. } => None,
        }
    }

    #[test]
    fn a_window_knows_what_follows_only_from_its_first_record_on() {
        let window = window(5..=8);
        assert_eq!(follows(&window, 3), None);
        assert_eq!(follows(&window, 4), Some(vec![5, 6, 7, 8]));
        assert_eq!(follows(&window, 7), Some(vec![8]));
        assert_eq!(follows(&window, 8), Some(vec![]));
    }

    #[test]
    fn what_another_instance_committed_in_between_is_left_to_the_database() {
        let window = window([1, 2, 3, 7, 8].into_iter());
        assert_eq!(follows(&window, 2), None);
        assert_eq!(follows(&window, 5), None);
        assert_eq!(follows(&window, 6), Some(vec![7, 8]));
        let bytes: usize = window.records.iter().map(|record| record.bytes()).sum();
        assert_eq!(window.bytes, bytes);
    }

    #[test]
    fn what_was_shown_before_is_skipped() {
        let mut window = window([1, 2, 2, 1, 3].into_iter());
        assert_eq!(follows(&window, 0), Some(vec![1, 2, 3]));
        window.begin(Seq(9));
        assert_eq!(window.head, Some(Seq(3)), "the window knows better");
    }

    #[test]
    fn a_window_forgets_the_oldest_by_number_and_by_size() {
        let many = window(1..=6_000);
        assert_eq!(many.records.len(), WINDOW_RECORDS_MAX);
        let mut heavy = Window::default();
        (1..=100).for_each(|seq| heavy.push(record(seq, 64 * 1024)));
        assert!(heavy.bytes <= WINDOW_BYTES_MAX);
        assert!(follows(&heavy, 99).is_some() && follows(&heavy, 1).is_none());
    }

    #[test]
    fn lag_is_counted_in_events_and_in_bytes() {
        let mut heavy = Window::default();
        heavy.publish((1..=40).map(|seq| record(seq, 32 * 1024)));
        let lag = |window: &Window, seen| match window.look(Seq(seen)) {
            Look::Records { lag, .. } | Look::Behind { lag, .. } => lag.is_too_much(),
            Look::CaughtUp => false,
        };
        assert!(!lag(&heavy, 1), "nobody could have seen them yet");
        heavy.publish(std::iter::once(record(41, 10)));
        assert!(lag(&heavy, 1) && !lag(&heavy, 30));
        let mut many = window(1..=400);
        many.publish(std::iter::once(record(401, 10)));
        assert!(lag(&many, 143) && !lag(&many, 144));
    }

    #[test]
    fn the_last_client_takes_the_window_with_it() {
        let hub = Hub::new();
        let tenant = TenantId::new("default").unwrap();
        let clients = [hub.subscribe(&tenant), hub.subscribe(&tenant)];
        assert_eq!(hub.clients(), 2);
        drop(clients);
        assert!(hub.feeds().is_empty());
    }
}

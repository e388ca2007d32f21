//! The spool's thread: takes what the house hands over, writes it, syncs it, and tries again when
//! the disk takes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use link::id::{Epoch, EventNumber};

use super::record;
use super::shelf::{Idle, Place, Shelf, Trouble};
use super::{Entry, Order, Page, QUEUE_MAX, SYNC_WITHIN, Shared};
use crate::call::moment::Moment;
use crate::clock::Clock;
use crate::metrics::Counters;
use crate::node::chain;

/// What is written at once: less than a segment, so that a new one is begun in time.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// The pause after which a disk that takes nothing is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often is told that it does not.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long nothing happens before the last file is removed, too, if control has committed all.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// The spool's thread.
#[derive(Debug)]
pub(in crate::node) struct Desk {
    place: Place,
    inbox: Receiver<Order>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    clock: Clock,
    /// What was offered and is not on file. Bounded by what the house may offer.
    pending: VecDeque<Entry>,
    /// `None` until the folder could be opened.
    shelf: Option<Shelf>,
    /// When something that is not synced has to be.
    sync_due: Option<Moment>,
    /// When a disk that takes nothing is tried again; `None` while it takes everything.
    retry_at: Option<Moment>,
    /// When that was told last.
    warned_at: Option<Moment>,
    /// Whether it was told of the present time without a disk.
    is_told: bool,
    /// The highest event on file.
    written: EventNumber,
}

impl Desk {
    pub(super) fn new(
        place: Place,
        inbox: Receiver<Order>,
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Self {
        Self {
            place,
            inbox,
            shared,
            counters,
            clock,
            pending: VecDeque::new(),
            shelf: None,
            sync_due: None,
            retry_at: None,
            warned_at: None,
            is_told: false,
            written: EventNumber(0),
        }
    }

    /// Works until the house is gone.
    pub(in crate::node) fn run(mut self) {
        self.open();
        loop {
            let wait = self.wait();
            match self.inbox.recv_timeout(wait) {
                Ok(order) => {
                    self.take(order);
                    self.take_rest();
                    self.work(Idle::No);
                }
                Err(RecvTimeoutError::Timeout) if wait < IDLE_AFTER => self.work(Idle::No),
                Err(RecvTimeoutError::Timeout) => self.work(Idle::Yes),
                Err(RecvTimeoutError::Disconnected) => {
                    self.finish();
                    return;
                }
            }
        }
    }

    /// Takes what else is here, so that it is written at once.
    fn take_rest(&mut self) {
        for _ in 0..QUEUE_MAX {
            let Ok(order) = self.inbox.try_recv() else { return };
            self.take(order);
        }
    }

    /// How long nothing has to be done by itself.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let retry = self.retry_at.filter(|_| self.wants_disk());
        let due = self.sync_due.into_iter().chain(retry);
        due.map(|due| due.since(now)).min().unwrap_or(IDLE_AFTER).min(IDLE_AFTER)
    }

    /// Whether there is something to do that a disk in trouble stops.
    fn wants_disk(&self) -> bool {
        !self.pending.is_empty() || self.shelf.is_none()
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Write(entry) => self.pending.push_back(entry),
            Order::Look => {}
            Order::Read { life, from, reply } => {
                // Whoever has gone does not want it any more.
                let _ = reply.send(self.page(life, from));
            }
            Order::Lives { reply } => {
                if let Some(shelf) = &self.shelf {
                    let _ = reply.send(shelf.old_lives());
                }
            }
            Order::AcknowledgeOld { life, through } => {
                self.remove(|shelf| shelf.acknowledge_old(life, through));
            }
            Order::Forget { life } => self.remove(|shelf| shelf.forget(life)),
            Order::Finish { reply } => {
                self.finish();
                let _ = reply.send(());
            }
        }
    }

    /// Events from a life's files, and from what is still on its way there.
    pub(super) fn page(&mut self, life: Epoch, from: EventNumber) -> Page {
        let mut page = Page::new(from);
        if let Some(shelf) = &mut self.shelf {
            let damaged = shelf.read(life, &mut page);
            if damaged > 0 {
                self.counters.spool_damaged.add(damaged);
                tracing::error!(damaged, "files of the spool end in something that is no event");
            }
        }
        if life == self.place.epoch {
            for entry in &self.pending {
                if page.is_full() {
                    break;
                }
                page.take(record::read(&entry.record, 1).events);
            }
        }
        if page.filled > 0 {
            let events = page.filled;
            self.counters.spool_filled.add(events);
            tracing::error!(events, "events are missing on file");
        }
        page
    }

    /// Writes, syncs and removes what is due.
    pub(super) fn work(&mut self, idle: Idle) {
        let now = self.clock.now();
        self.drop_committed();
        let acked = self.acked();
        self.remove(|shelf| shelf.acknowledge(acked, idle));
        if self.wants_disk() && self.retry_at.is_none_or(|at| at <= now) {
            let written = self.write(now);
            self.judge(written, now);
        }
        if let Some(due) = self.sync_due.filter(|due| *due <= now) {
            self.sync_due = None;
            // What control has committed is safe there.
            if self.acked() < self.written {
                self.sync(due, now);
            }
        }
        let bytes = self.shelf.as_ref().map_or(0, Shelf::bytes);
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Makes what was written since `due` was set outlive the machine.
    fn sync(&mut self, due: Moment, now: Moment) {
        match self.shelf.as_mut().map_or(Ok(()), Shelf::sync) {
            Ok(()) => {
                let written = due - SYNC_WITHIN;
                self.counters.spool_durable.observe(self.clock.now().since(written));
            }
            Err(trouble) => self.fail(&trouble, now),
        }
    }

    /// What control has committed while the disk took nothing need not be written.
    fn drop_committed(&mut self) {
        let acked = self.acked();
        while self.pending.front().is_some_and(|entry| entry.n <= acked) {
            self.drop_first(1);
        }
    }

    /// Appends what waits.
    fn write(&mut self, now: Moment) -> Result<(), Trouble> {
        self.open_again()?;
        let Some(shelf) = &mut self.shelf else { return Ok(()) };
        let mut records = Vec::new();
        while !self.pending.is_empty() {
            records.clear();
            let (mut count, mut last) = (0, EventNumber(0));
            for Entry { n, record } in &self.pending {
                if count > 0 && records.len() + record.len() > WRITE_BYTES_MAX {
                    break;
                }
                records.extend_from_slice(record);
                (count, last) = (count + 1, *n);
            }
            shelf.append(&records, last)?;
            self.written = last;
            self.sync_due.get_or_insert(now + SYNC_WITHIN);
            self.shared.queued.fetch_sub(records.len(), Ordering::Relaxed);
            drop(self.pending.drain(..count));
        }
        Ok(())
    }

    fn drop_first(&mut self, count: usize) {
        let bytes = self.pending.drain(..count).map(|entry| entry.record.len()).sum();
        self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn open(&mut self) {
        let now = self.clock.now();
        let opened = self.open_again();
        self.judge(opened, now);
    }

    fn open_again(&mut self) -> Result<(), Trouble> {
        if self.shelf.is_none() {
            let shelf = Shelf::open(self.place.clone())?;
            let (folder, lives) = (self.place.folder.display(), shelf.old_lives().len());
            tracing::info!(%folder, lives, bytes = shelf.bytes(), "events are spooled");
            self.shelf = Some(shelf);
        }
        Ok(())
    }

    /// What it means that the disk took what there was, or did not. Calls go on in either case.
    fn judge(&mut self, outcome: Result<(), Trouble>, now: Moment) {
        match outcome {
            Ok(()) => {
                self.retry_at = None;
                self.shared.is_in_trouble.store(false, Ordering::Relaxed);
                if std::mem::take(&mut self.is_told) {
                    tracing::info!("the spool takes events again");
                }
            }
            Err(trouble) => self.fail(&trouble, now),
        }
    }

    fn fail(&mut self, trouble: &Trouble, now: Moment) {
        self.retry_at = Some(now + RETRY_AFTER);
        self.shared.is_in_trouble.store(true, Ordering::Relaxed);
        if self.warned_at.is_none_or(|warned| now.since(warned) >= WARN_EVERY) {
            (self.warned_at, self.is_told) = (Some(now), true);
            let error = chain(trouble);
            tracing::warn!(%error, "events are in memory only; calls go on");
        }
    }

    /// Removes files; those that cannot be removed are tried again with the next ones.
    fn remove(&mut self, remove: impl FnOnce(&mut Shelf) -> std::io::Result<()>) {
        if let Some(Err(error)) = self.shelf.as_mut().map(remove) {
            tracing::debug!(%error, "a file of the spool is not removed yet");
        }
    }

    /// Writes and syncs everything, and removes what nobody needs.
    fn finish(&mut self) {
        self.take_rest();
        let now = self.clock.now();
        self.drop_committed();
        let acked = self.acked();
        let synced = self.write(now).and_then(|()| self.shelf.as_mut().map_or(Ok(()), Shelf::sync));
        self.judge(synced, now);
        self.remove(|shelf| shelf.acknowledge(acked, Idle::Yes));
        self.sync_due = None;
    }

    fn acked(&self) -> EventNumber {
        EventNumber(self.shared.acked.load(Ordering::Relaxed))
    }

    /// Does what is here to do, without waiting for anything.
    #[cfg(test)]
    pub(super) fn step(&mut self) {
        self.take_rest();
        self.work(Idle::No);
    }

    /// What whoever reads gets, behind all that was offered before.
    #[cfg(test)]
    pub(super) fn answer(&mut self, life: Epoch, from: EventNumber) -> Page {
        self.take_rest();
        self.page(life, from)
    }
}

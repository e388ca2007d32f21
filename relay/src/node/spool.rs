//! The spool: events that control has not committed, on file, so that they outlive the process and
//! do not fill its memory while control is away.
//!
//! ```text
//! house --- offer ---> queue --> spool's thread --> NODE.STARTED.EPOCH.NUMBER.spool
//!       <-- pages ---                                (shelf.rs; records: record.rs)
//! ```
//!
//! Each event goes to the file as it is told, by a thread of its own (`desk.rs`): no shard and not the
//! house ever waits for a disk. What was written outlives the process at once, and the machine
//! [`SYNC_WITHIN`] later at the latest, plus what the sync takes: one sync for all that came
//! meanwhile, and none when control has committed it by then. With a sync of up to 100 ms, a turn is
//! durable within 250 ms of its end.
//!
//! A file holds events of one life of one node and is removed once control has committed all of
//! them. What earlier lives have left is told to control under their own epoch (`replay.rs`).
//! At its bound, and while the disk takes nothing, events are in memory only and counted; calls
//! go on, and the spool is tried again each second.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use link::event::{CallEvent, NodeEvent};
use link::id::{Epoch, EventNumber};
use tokio::sync::oneshot;

use self::desk::Desk;
use self::shelf::Place;
use super::Surroundings;

pub mod record;

mod desk;
mod shelf;

/// How long an event may be on file and not be safe from the machine's death. Halved, it doubles
/// the syncs of a busy node; doubled, a turn is durable later than 250 ms after its end.
pub const SYNC_WITHIN: Duration = Duration::from_millis(150);
/// What waits for the disk, in bytes. When full, events are in memory only.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// What waits for the spool's thread, in messages. When full, events are in memory only.
const QUEUE_MAX: usize = 8_192;
/// The most events that are read at once: sixteen batches of the link.
const PAGE_EVENTS_MAX: usize = 1_024;
/// The longest run of lost numbers that is filled. A whole spool of short events is shorter.
const FILL_MAX: u64 = 1 << 20;

/// Where the spool is and how large it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The folder. Several nodes may share it.
    pub folder: PathBuf,
    /// The most bytes that this node's files have.
    pub bytes_max: u64,
}

/// The house's end of the spool. Cheap to clone; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct Spool {
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
}

/// What house and thread both see.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes that were offered and are not on file.
    queued: AtomicUsize,
    /// The highest event of this life that control has committed.
    acked: AtomicU64,
    /// Bytes on file.
    bytes: AtomicU64,
    /// Whether the last try to write or sync failed.
    is_in_trouble: AtomicBool,
}

/// What the house wants of the thread.
#[derive(Debug)]
enum Order {
    /// An event's record is to be appended.
    Write(Entry),
    /// Control has committed something; how much is shared.
    Look,
    /// Events of a life, from one on.
    Read { life: Epoch, from: EventNumber, reply: oneshot::Sender<Page> },
    /// Which earlier lives have left something; no answer while nobody knows.
    Lives { reply: oneshot::Sender<Vec<Epoch>> },
    /// Control has committed events of an earlier life.
    AcknowledgeOld { life: Epoch, through: EventNumber },
    /// Control has committed all of an earlier life.
    Forget { life: Epoch },
    /// Everything is to be safe now.
    Finish { reply: oneshot::Sender<()> },
}

/// One event on its way to the file.
#[derive(Debug)]
struct Entry {
    n: EventNumber,
    record: Vec<u8>,
}

/// The spool cannot take an event now: the disk is slow, or takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the spool takes nothing now")]
pub struct Busy;

/// Makes a spool. The caller runs the desk on a thread of its own.
pub(super) fn spool(settings: SpoolSettings, around: &Surroundings) -> (Spool, Desk) {
    let SpoolSettings { folder, bytes_max } = settings;
    let place = Place {
        folder,
        bytes_max,
        node: around.identity.node.clone(),
        started: around.identity.started,
        epoch: around.epoch,
    };
    let (spool, inbox) = channel();
    let shared = Arc::clone(&spool.shared);
    (spool, Desk::new(place, inbox, shared, Arc::clone(&around.counters), around.clock))
}

fn channel() -> (Spool, Receiver<Order>) {
    let (orders, inbox) = sync_channel(QUEUE_MAX);
    (Spool { orders, shared: Arc::default() }, inbox)
}

impl Spool {
    /// Hands an event over, if there is room for it now. Numbers are handed over in their order.
    ///
    /// # Errors
    /// [`Busy`] when there is none.
    pub fn offer(&self, n: EventNumber, record: Vec<u8>) -> Result<(), Busy> {
        let bytes = record.len();
        if self.shared.queued.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            return Err(Busy);
        }
        // Before the thread can take it off again.
        self.shared.queued.fetch_add(bytes, Ordering::Relaxed);
        let sent = self.orders.try_send(Order::Write(Entry { n, record }));
        if sent.is_err() {
            self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent.map_err(|_| Busy)
    }

    /// Control has committed this life's events up to here.
    pub fn acknowledge(&self, through: EventNumber) {
        self.shared.acked.fetch_max(through.0, Ordering::Relaxed);
        // A thread that is busy looks by itself when it is done.
        let _ = self.orders.try_send(Order::Look);
    }

    /// Whether its disk takes nothing, or it has reached its bound.
    #[must_use]
    pub fn is_in_trouble(&self) -> bool {
        self.shared.is_in_trouble.load(Ordering::Relaxed)
    }

    /// Bytes on file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Events of a life, from `from` on, in their order; 0 is the first that there is. `None` when
    /// the thread has no time: ask again.
    pub(super) async fn read(&self, life: Epoch, from: EventNumber) -> Option<Page> {
        let (reply, page) = oneshot::channel();
        self.orders.try_send(Order::Read { life, from, reply }).ok()?;
        page.await.ok()
    }

    /// The earlier lives of this node that have left events, the oldest first. `None` while nobody
    /// knows, since the folder cannot be opened: ask again.
    pub(super) async fn old_lives(&self) -> Option<Vec<Epoch>> {
        let (reply, lives) = oneshot::channel();
        self.orders.try_send(Order::Lives { reply }).ok()?;
        lives.await.ok()
    }

    /// Control has committed events of an earlier life. A word that is lost costs a file that is
    /// removed later.
    pub(super) fn acknowledge_old(&self, life: Epoch, through: EventNumber) {
        let _ = self.orders.try_send(Order::AcknowledgeOld { life, through });
    }

    /// Control has committed all that an earlier life has left.
    ///
    /// # Errors
    /// [`Busy`] when the thread has no time: say it again.
    pub(super) fn forget(&self, life: Epoch) -> Result<(), Busy> {
        self.orders.try_send(Order::Forget { life }).map_err(|_| Busy)
    }

    /// Waits until what was offered is safe, or the thread has ended.
    pub(super) async fn finish(&self) {
        let (reply, finished) = oneshot::channel();
        if self.orders.try_send(Order::Finish { reply }).is_ok() {
            // A thread that has ended has finished.
            let _ = finished.await;
        }
    }
}

/// Events of one life, in their order and without gaps.
#[derive(Debug)]
pub(super) struct Page {
    /// The events.
    pub(super) events: Vec<NodeEvent>,
    from: EventNumber,
    /// The event before the next one; `None` when any may be the first.
    last: Option<EventNumber>,
    /// Numbers that are missing on file: lost, unless control has them.
    filled: u64,
}

impl Page {
    /// An empty page that is to begin with `from`; with the first that there is when that is 0.
    fn new(from: EventNumber) -> Self {
        let last = from.0.checked_sub(1).map(EventNumber);
        Self { events: Vec::new(), from, last, filled: 0 }
    }

    fn is_full(&self) -> bool {
        self.room() == 0
    }

    fn room(&self) -> usize {
        PAGE_EVENTS_MAX.saturating_sub(self.events.len())
    }

    /// The event that would come next.
    fn next(&self) -> EventNumber {
        self.last.map_or(self.from, EventNumber::next)
    }

    /// The last event so far.
    fn last(&self) -> EventNumber {
        self.last.unwrap_or_default()
    }

    /// Takes events that were read. Where some are missing, control would wait for them for ever: their
    /// numbers are filled with what means nothing and is stored by nobody.
    fn take(&mut self, events: Vec<NodeEvent>) {
        for event in events {
            if let Some(last) = self.last {
                let missing = event.n.0.saturating_sub(last.0.saturating_add(1));
                if event.n <= last {
                    continue;
                }
                if missing > FILL_MAX {
                    self.filled += 1;
                    continue;
                }
                self.filled += missing;
                let numbers = (last.0 + 1..event.n.0).map(EventNumber);
                let at = event.at;
                let filler = |n| NodeEvent { n, at, call: None, event: CallEvent::Unknown };
                self.events.extend(numbers.map(filler));
            }
            self.last = Some(event.n);
            self.events.push(event);
        }
    }
}

#[cfg(test)]
mod tests;

//! The events that control has not committed yet.
//!
//! ```text
//!   acknowledged | sent ......... | not sent ..... | on file only | next
//!   (forgotten)  | front          |                | end          | number
//! ```
//!
//! Numbers are dense from 1 in the life of the process: an event that finds no room gets none.
//!
//! Without a spool everything is in memory, and nothing here touches anything else. With one,
//! every event is handed to it as well, and when memory is full it is on file only, until there
//! is room again and [`Ring::refill`] brings it back. Events are handed over in their order: while
//! the spool is busy, those that follow wait in memory for their turn.

use std::collections::VecDeque;
use std::io;

use link::event::NodeEvent;
use link::frame::FRAME_BYTES_MAX;
use link::id::EventNumber;
use link::message::BATCH_EVENTS_MAX;
use serde::Serialize;

use super::spool::{Spool, record};
use crate::telemetry::{Noted, Receipt};

/// The most events that wait in memory. A call makes about twenty a minute, so a thousand calls fill
/// it in three minutes without control; each also has its share of [`RING_BYTES_MAX`].
pub const RING_EVENTS_MAX: usize = 65_536;
/// The most bytes of events that wait, as they will be written.
pub const RING_BYTES_MAX: usize = 32 << 20;
/// The most receipts of events that are on file only. A call that gets none goes on without it, 300 ms
/// later.
const RECEIPTS_MAX: usize = 4_096;
/// The most bytes of events in one batch; what a frame adds to them fits in the rest.
pub(super) const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX - 1_024;

/// Why an event was lost: control has been away for so long that there is no room. Calls go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for events that wait for control")]
pub struct Full;

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In memory, and with the spool if there is one.
    Safe,
    /// In memory, and the spool took it not yet.
    MemoryOnly,
}

/// The events of this life that control has not committed.
#[derive(Debug)]
pub struct Ring {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The number of the next event.
    next: EventNumber,
    /// The number after the last event in memory: the first that is on file only, or `next`.
    end: EventNumber,
    /// How many of `waiting`, from the front, were sent on the present connection.
    sent: usize,
    spool: Option<Spool>,
    /// The first event that was not handed to the spool.
    unspooled: EventNumber,
    /// Who wants to know of events that are on file only.
    receipts: VecDeque<(EventNumber, Receipt)>,
}

#[derive(Debug)]
struct Waiting {
    event: NodeEvent,
    bytes: usize,
    receipt: Option<Receipt>,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            next: EventNumber(1),
            end: EventNumber(1),
            sent: 0,
            spool: None,
            unspooled: EventNumber(1),
            receipts: VecDeque::new(),
        }
    }
}

impl Ring {
    /// A ring whose events are also on file.
    #[must_use]
    pub fn with_spool(spool: Spool) -> Self {
        Self { spool: Some(spool), ..Self::default() }
    }

    /// Numbers an event and keeps it until it is acknowledged.
    ///
    /// # Errors
    /// [`Full`] when it finds no room.
    pub fn push(&mut self, noted: Noted) -> Result<Kept, Full> {
        let Noted { call, at, event, receipt } = noted;
        let event = NodeEvent { n: self.next, at, call, event };
        let bytes = written_bytes(&event);
        let fits = self.waiting.len() < RING_EVENTS_MAX && self.bytes + bytes <= RING_BYTES_MAX;
        if self.end == self.next && fits {
            self.next = self.next.next();
            self.keep(event, bytes, receipt);
            return Ok(self.hand_over());
        }
        self.file_only(&event, receipt)?;
        self.next = self.next.next();
        Ok(Kept::Safe)
    }

    /// Puts an event behind those in memory.
    fn keep(&mut self, event: NodeEvent, bytes: usize, receipt: Option<Receipt>) {
        self.end = event.n.next();
        self.bytes += bytes;
        self.waiting.push_back(Waiting { event, bytes, receipt });
    }

    /// Gives an event to the spool alone: those before it are there, too, or in memory.
    fn file_only(&mut self, event: &NodeEvent, receipt: Option<Receipt>) -> Result<(), Full> {
        self.hand_over();
        let spool = self.spool.as_ref().filter(|_| self.unspooled == event.n).ok_or(Full)?;
        let record = record::encode(event).map_err(|_| Full)?;
        spool.offer(event.n, record).map_err(|_| Full)?;
        self.unspooled = event.n.next();
        if self.receipts.len() < RECEIPTS_MAX {
            self.receipts.extend(receipt.map(|receipt| (event.n, receipt)));
        }
        Ok(())
    }

    /// Hands the spool what it was too busy for.
    pub fn hand_over(&mut self) -> Kept {
        let Some(spool) = &self.spool else { return Kept::Safe };
        // Those in memory are numbered without gaps up to `end`.
        let behind = self.end.0.saturating_sub(self.unspooled.0);
        let behind = usize::try_from(behind).unwrap_or(usize::MAX).min(self.waiting.len());
        for waiting in self.waiting.range(self.waiting.len() - behind..) {
            let event = &waiting.event;
            // One that no record holds, which no relay tells, must not stand before all others.
            let record = record::encode(event);
            if record.is_ok_and(|record| spool.offer(event.n, record).is_err()) {
                return Kept::MemoryOnly;
            }
            self.unspooled = event.n.next();
        }
        Kept::Safe
    }

    /// The first event that is on file only, when there is room for it and many more.
    #[must_use]
    pub fn wanted(&self) -> Option<EventNumber> {
        let has_room = self.waiting.len() < RING_EVENTS_MAX / 2 && self.bytes < RING_BYTES_MAX / 2;
        (self.end < self.next && has_room).then_some(self.end)
    }

    /// Takes events back from the file, in their order from [`Self::wanted`] on. Says whether there
    /// were any.
    pub fn refill(&mut self, events: Vec<NodeEvent>) -> bool {
        let before = self.end;
        for event in events {
            if event.n != self.end || self.end == self.next {
                continue;
            }
            let receipt = match self.receipts.front() {
                Some((n, _)) if *n <= event.n => self.receipts.pop_front(),
                Some(_) | None => None,
            };
            let bytes = written_bytes(&event);
            self.keep(event, bytes, receipt.map(|(_, receipt)| receipt));
        }
        self.end != before
    }

    /// The next events to send, marked as sent; empty when all were.
    pub fn batch(&mut self) -> Vec<NodeEvent> {
        let unsent = self.waiting.iter().skip(self.sent);
        let events = batch(unsent.map(|waiting| (&waiting.event, waiting.bytes)));
        self.sent += events.len();
        events
    }

    /// Forgets what control has committed, and gives the receipts that were asked for.
    pub fn acknowledge(&mut self, through: EventNumber) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        let mut last = None;
        while self.waiting.front().is_some_and(|waiting| waiting.event.n <= through) {
            let Some(waiting) = self.waiting.pop_front() else { break };
            self.bytes -= waiting.bytes;
            self.sent = self.sent.saturating_sub(1);
            receipts.extend(waiting.receipt);
            last = Some(waiting.event.n);
        }
        if let (Some(last), Some(spool)) = (last, &self.spool) {
            // What is committed need not be handed over any more.
            self.unspooled = self.unspooled.max(last.next());
            spool.acknowledge(last);
        }
        receipts
    }

    /// A new connection: everything that is not acknowledged is sent again.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// How many wait, in memory or on file.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.on_file_only()
    }

    fn on_file_only(&self) -> usize {
        usize::try_from(self.next.0 - self.end.0).unwrap_or(usize::MAX)
    }

    /// How many were not sent on the present connection.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.len() - self.sent
    }

    /// Whether control has committed everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// As many of these events, each with its length in JSON, as fit one message.
pub(super) fn batch<'a>(unsent: impl Iterator<Item = (&'a NodeEvent, usize)>) -> Vec<NodeEvent> {
    let mut events = Vec::new();
    let mut bytes = 0;
    for (event, written) in unsent.take(BATCH_EVENTS_MAX) {
        bytes += written + 1;
        // The first always goes: a single event is far below a frame.
        if bytes > BATCH_BYTES_MAX && !events.is_empty() {
            break;
        }
        events.push(event.clone());
    }
    events
}

/// The length of an event in JSON.
pub(super) fn written_bytes(event: &impl Serialize) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, event).expect("an event is JSON, and counting cannot fail");
    counter.0
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use link::event::{CallEvent, EndReason, Role, Turn};
    use link::id::{CallId, Gen, WallTime};
    use link::message::ToControl;

    use super::*;
    use crate::call::input::RecordId;
    use crate::telemetry::TEXT_BYTES_MAX;

    fn noted(text: &str) -> Noted {
        let turn = Turn {
            order: 1,
            role: Role::Caller,
            item: "i".into(),
            text: text.into(),
            heard_ms: None,
            generated_ms: None,
            interrupted: false,
            reply_after_ms: None,
        };
        Noted { call: None, at: WallTime(0), event: CallEvent::Turn(turn), receipt: None }
    }

    fn numbers(events: &[NodeEvent]) -> Vec<u64> {
        events.iter().map(|event| event.n.0).collect()
    }

    #[test]
    fn events_are_numbered_densely_and_sent_once_a_connection() {
        let mut ring = Ring::default();
        for _ in 0..3 {
            ring.push(noted("x")).unwrap();
        }
        assert_eq!(ring.unsent(), 3);
        assert_eq!(numbers(&ring.batch()), [1, 2, 3]);
        assert_eq!(ring.unsent(), 0);
        assert!(ring.batch().is_empty());
        ring.push(noted("x")).unwrap();
        assert_eq!(numbers(&ring.batch()), [4]);
    }

    #[test]
    fn after_a_reconnect_everything_that_was_not_acknowledged_is_sent_again() {
        let mut ring = Ring::default();
        for _ in 0..4 {
            ring.push(noted("x")).unwrap();
        }
        ring.batch();
        ring.acknowledge(EventNumber(2));
        ring.rewind();
        assert_eq!(numbers(&ring.batch()), [3, 4]);
        ring.acknowledge(EventNumber(99));
        assert!(ring.is_empty());
        ring.push(noted("x")).unwrap();
        assert_eq!(numbers(&ring.batch()), [5]);
    }

    #[test]
    fn a_receipt_is_given_when_its_event_is_acknowledged() {
        let receipt = Receipt {
            shard: 1,
            call: CallId::new("c_1").unwrap(),
            generation: Gen(0),
            record: RecordId(7),
        };
        let event =
            CallEvent::Ending { reason: EndReason::AgentHungUp, detail: None, transfer_to: None };
        let mut ring = Ring::default();
        ring.push(noted("x")).unwrap();
        ring.push(Noted { event, receipt: Some(receipt.clone()), ..noted("x") }).unwrap();
        assert_eq!(ring.acknowledge(EventNumber(1)), []);
        assert_eq!(ring.acknowledge(EventNumber(2)), [receipt]);
    }

    #[test]
    fn a_batch_of_the_longest_events_fits_a_frame() {
        let mut ring = Ring::default();
        let longest = "\u{1}".repeat(TEXT_BYTES_MAX);
        for text in ["x", &longest, &longest, "x"] {
            ring.push(noted(text)).unwrap();
        }
        let mut sent = 0;
        while sent < 4 {
            let events = ring.batch();
            assert!(!events.is_empty());
            sent += events.len();
            ToControl::Events { events }.write(&mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn a_full_ring_drops_the_newest_and_keeps_its_numbers_dense() {
        let mut ring = Ring::default();
        let text = "x".repeat(TEXT_BYTES_MAX);
        while ring.push(noted(&text)).is_ok() {}
        let kept = ring.len() as u64;
        assert!(kept < RING_EVENTS_MAX as u64 && kept > 3_000, "{kept}: the bytes fill it first");
        ring.acknowledge(EventNumber(1));
        ring.push(noted(&text)).unwrap();
        assert_eq!(ring.next, EventNumber(kept + 2));

        let mut ring = Ring::default();
        for _ in 0..RING_EVENTS_MAX {
            ring.push(noted("x")).unwrap();
        }
        assert_eq!(ring.push(noted("x")), Err(Full));
    }
}

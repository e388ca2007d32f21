//! The events that control has not committed yet. Pure.
//!
//! ```text
//!   acknowledged | sent ......... | not sent ..... | next
//!   (forgotten)  | front          |                | number
//! ```
//!
//! Numbers are dense from 1 in the life of the process: an event that finds no room gets none.

use std::collections::VecDeque;
use std::io;

use link::event::NodeEvent;
use link::frame::FRAME_BYTES_MAX;
use link::id::EventNumber;
use link::message::BATCH_EVENTS_MAX;
use serde::Serialize;

use crate::telemetry::{Noted, Receipt};

/// The most events that wait. A call makes about twenty a minute, so a thousand calls fill it in
/// three minutes without control; each also has its share of [`RING_BYTES_MAX`].
pub const RING_EVENTS_MAX: usize = 65_536;
/// The most bytes of events that wait, as they will be written.
pub const RING_BYTES_MAX: usize = 32 << 20;
/// The most bytes of events in one batch; what a frame adds to them fits in the rest.
pub(super) const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX - 1_024;

/// Why an event was lost: control has been away for so long that there is no room. Calls go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for events that wait for control")]
pub struct Full;

/// The events of this life that control has not committed.
#[derive(Debug)]
pub struct Ring {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The number of the next event.
    next: EventNumber,
    /// How many of `waiting`, from the front, were sent on the present connection.
    sent: usize,
}

#[derive(Debug)]
struct Waiting {
    event: NodeEvent,
    bytes: usize,
    receipt: Option<Receipt>,
}

impl Default for Ring {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, next: EventNumber(1), sent: 0 }
    }
}

impl Ring {
    /// Numbers an event and keeps it until it is acknowledged.
    ///
    /// # Errors
    /// [`Full`] when it finds no room.
    pub fn push(&mut self, noted: Noted) -> Result<(), Full> {
        let Noted { call, at, event, receipt } = noted;
        let event = NodeEvent { n: self.next, at, call, event };
        let bytes = written_bytes(&event);
        if self.waiting.len() >= RING_EVENTS_MAX || self.bytes + bytes > RING_BYTES_MAX {
            return Err(Full);
        }
        self.next = self.next.next();
        self.bytes += bytes;
        self.waiting.push_back(Waiting { event, bytes, receipt });
        Ok(())
    }

    /// The next events to send, marked as sent; empty when all were.
    pub fn batch(&mut self) -> Vec<NodeEvent> {
        let mut events = Vec::new();
        let mut bytes = 0;
        for waiting in self.waiting.iter().skip(self.sent).take(BATCH_EVENTS_MAX) {
            bytes += waiting.bytes + 1;
            // The first always goes: a single event is far below a frame.
            if bytes > BATCH_BYTES_MAX && !events.is_empty() {
                break;
            }
            events.push(waiting.event.clone());
        }
        self.sent += events.len();
        events
    }

    /// Forgets what control has committed, and gives the receipts that were asked for.
    pub fn acknowledge(&mut self, through: EventNumber) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        while self.waiting.front().is_some_and(|waiting| waiting.event.n <= through) {
            let Some(waiting) = self.waiting.pop_front() else { break };
            self.bytes -= waiting.bytes;
            self.sent = self.sent.saturating_sub(1);
            receipts.extend(waiting.receipt);
        }
        receipts
    }

    /// A new connection: everything that is not acknowledged is sent again.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many were not sent on the present connection.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.waiting.len() - self.sent
    }

    /// Whether control has committed everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
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

//! What is told from file: events of this life that found no room in memory, and those that earlier
//! lives of the node have left.
//!
//! An earlier life's events go to the control that takes events, under that life's epoch and beside
//! those of this life, which need not wait for them. Control drops what it has. One page is under
//! way at a time; when all of a life is committed, its files are removed.

use std::collections::VecDeque;
use std::time::Duration;

use link::event::NodeEvent;
use link::id::{Epoch, EventNumber};

use super::Link;
use super::lines::LineId;
use super::ring::{self, written_bytes};
use super::spool::{Page, Spool};

/// How soon is asked again what the spool could not answer.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How soon is looked again whether earlier lives have left something, while the folder cannot be
/// opened.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The events of an earlier life that are under way. Pure.
#[derive(Debug, Default)]
pub(super) struct Replay {
    life: Option<Epoch>,
    waiting: VecDeque<(NodeEvent, usize)>,
    /// How many of `waiting`, from the front, were sent to whoever takes events.
    sent: usize,
    /// Whether control lacks what came before them.
    is_refused: bool,
}

/// How it went with a page of an earlier life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Control has committed it.
    Committed,
    /// Control lacks what came before it.
    Refused,
}

/// Who says what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// The control that takes events.
    Taker,
    /// One that took them before.
    Another,
}

impl Replay {
    /// Events of a life are to be told.
    fn begin(&mut self, life: Epoch, events: Vec<NodeEvent>) {
        let sized = |event: NodeEvent| {
            let bytes = written_bytes(&event);
            (event, bytes)
        };
        let waiting = events.into_iter().map(sized).collect();
        *self = Self { life: Some(life), waiting, sent: 0, is_refused: false };
    }

    /// The next events to send, marked as sent; `None` when all were.
    pub(super) fn batch(&mut self) -> Option<(Epoch, Vec<NodeEvent>)> {
        let life = self.life.filter(|_| !self.is_refused)?;
        let unsent = self.waiting.iter().skip(self.sent);
        let events = ring::batch(unsent.map(|(event, bytes)| (event, *bytes)));
        self.sent += events.len();
        (!events.is_empty()).then_some((life, events))
    }

    /// Somebody else takes events: what is not committed is sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Control has committed a life's events up to here; how many of them waited.
    fn acknowledge(&mut self, life: Epoch, through: EventNumber, judge: Judge) -> u64 {
        if self.life != Some(life) {
            return 0;
        }
        // It says again what it has when events do not follow that: it will never have these.
        let first = self.waiting.front().map(|(event, _)| event.n);
        let is_before = first.is_some_and(|first| through.next() < first);
        self.is_refused |= is_before && judge == Judge::Taker;
        let mut committed = 0;
        while self.waiting.front().is_some_and(|(event, _)| event.n <= through) {
            self.waiting.pop_front();
            self.sent = self.sent.saturating_sub(1);
            committed += 1;
        }
        committed
    }

    fn is_over(&self) -> bool {
        self.is_refused || self.waiting.is_empty()
    }
}

impl Link {
    /// Brings this life's events back from file, whenever there is room for them.
    pub(super) async fn refill(&self) {
        let Some(spool) = &self.spool else { return };
        while !self.stop.is_cancelled() {
            let wanted = self.ring.borrow().wanted();
            let page = match wanted {
                Some(from) => spool.read(self.around.epoch, from).await,
                None => None,
            };
            let has_more = page.is_some_and(|page| self.ring.borrow_mut().refill(page.events));
            if has_more {
                self.news.send_replace(());
                continue;
            }
            let again = async {
                match wanted {
                    // The spool has no time, or has not got that far.
                    Some(_) => tokio::time::sleep(AGAIN_AFTER).await,
                    None => self.room.notified().await,
                }
            };
            tokio::select! {
                () = again => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Tells control what earlier lives of this node have left.
    pub(super) async fn replay(&self) {
        let Some(spool) = &self.spool else { return };
        let told = async {
            let lives = loop {
                match spool.old_lives().await {
                    Some(lives) => break lives,
                    None => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
                }
            };
            for life in lives {
                self.replay_life(spool, life).await;
            }
        };
        tokio::select! {
            () = told => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn replay_life(&self, spool: &Spool, life: Epoch) {
        let (mut from, mut events_told) = (EventNumber(0), 0);
        loop {
            let Page { events, .. } = self.page(spool, life, from).await;
            let Some(last) = events.last().map(|event| event.n) else { break };
            events_told += events.len();
            match self.tell_page(life, events).await {
                Told::Committed => {}
                Told::Refused => {
                    tracing::error!(
                        epoch = life.0,
                        "control lacks events before those of an earlier life; they stay on file"
                    );
                    return;
                }
            }
            from = last.next();
            spool.acknowledge_old(life, last);
        }
        tracing::info!(epoch = life.0, events = events_told, "an earlier life is told to control");
        while spool.forget(life).is_err() {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn page(&self, spool: &Spool, life: Epoch, from: EventNumber) -> Page {
        loop {
            match spool.read(life, from).await {
                Some(page) => return page,
                None => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    /// Waits until control has committed a page, however often it has to be sent.
    async fn tell_page(&self, life: Epoch, events: Vec<NodeEvent>) -> Told {
        self.replayed.borrow_mut().begin(life, events);
        self.news.send_replace(());
        let mut acks = self.replay_acks.subscribe();
        loop {
            let (is_over, is_refused) = {
                let replay = self.replayed.borrow();
                (replay.is_over(), replay.is_refused)
            };
            match (is_over, is_refused) {
                (_, true) => return Told::Refused,
                (true, false) => return Told::Committed,
                (false, false) => {
                    // The sender is ours.
                    let _ = acks.changed().await;
                }
            }
        }
    }

    /// A control has committed events of an earlier life.
    pub(super) fn committed_of(&self, line: LineId, life: Epoch, through: EventNumber) {
        // What another one says that took events before may be old.
        let judge = if self.takes_events(line) { Judge::Taker } else { Judge::Another };
        let committed = self.replayed.borrow_mut().acknowledge(life, through, judge);
        self.around.counters.spool_replayed.add(committed);
        self.replay_acks.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use link::event::CallEvent;
    use link::id::WallTime;
    use link::message::BATCH_EVENTS_MAX;

    use super::*;

    const LIFE: Epoch = Epoch(7);

    fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<NodeEvent> {
        let event = |n| NodeEvent {
            n: EventNumber(n),
            at: WallTime(0),
            call: None,
            event: CallEvent::StreamRefused { why: "x".into() },
        };
        numbers.map(event).collect()
    }

    fn numbers(batch: Option<(Epoch, Vec<NodeEvent>)>) -> Vec<u64> {
        let (life, events) = batch.unwrap();
        assert_eq!(life, LIFE);
        events.iter().map(|event| event.n.0).collect()
    }

    #[test]
    fn a_page_goes_in_batches_and_again_to_another_control() {
        let mut replay = Replay::default();
        assert!(replay.batch().is_none());
        replay.begin(LIFE, events(11..=100));
        let first: Vec<u64> = (11..11 + BATCH_EVENTS_MAX as u64).collect();
        assert_eq!(numbers(replay.batch()), first);
        assert_eq!(numbers(replay.batch()).last(), Some(&100));
        assert!(replay.batch().is_none());
        assert_eq!(replay.acknowledge(LIFE, EventNumber(98), Judge::Taker), 88);
        replay.rewind();
        assert_eq!(numbers(replay.batch()), [99, 100]);
        assert_eq!(replay.acknowledge(Epoch(8), EventNumber(100), Judge::Taker), 0, "another life");
        assert!(!replay.is_over());
        assert_eq!(replay.acknowledge(LIFE, EventNumber(100), Judge::Taker), 2);
        assert!(replay.is_over() && !replay.is_refused);
    }

    #[test]
    fn what_control_had_before_is_committed_and_a_gap_is_refused() {
        let mut replay = Replay::default();
        replay.begin(LIFE, events(11..=20));
        replay.batch();
        assert_eq!(
            replay.acknowledge(LIFE, EventNumber(50), Judge::Taker),
            10,
            "it has more than is on file"
        );
        assert!(replay.is_over() && !replay.is_refused);
        replay.begin(LIFE, events(11..=20));
        replay.batch();
        assert_eq!(replay.acknowledge(LIFE, EventNumber(4), Judge::Another), 0);
        assert!(!replay.is_refused, "another control may be behind");
        assert_eq!(replay.acknowledge(LIFE, EventNumber(4), Judge::Taker), 0);
        assert!(replay.is_over() && replay.is_refused && replay.batch().is_none());
    }
}

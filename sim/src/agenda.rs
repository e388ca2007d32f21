//! What is going to happen, in the order of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use relay::call::input::{Loss, Side, ToolId};
use relay::call::moment::Moment;

use crate::chance::Chance;
use crate::climate::Ender;
use crate::model::{Death, Later, Told};
use crate::phone::Frame;

/// Something that happens in the world.
#[derive(Debug)]
pub(crate) enum Event {
    /// The stream is announced.
    Announced,
    /// The phone opens its stream.
    PhoneStarts,
    /// 20 ms of the phone's time are over.
    PhoneFrame,
    /// The relay's words reach the phone.
    PhoneHears(Frame),
    /// A mark of this epoch is reached.
    PhonePlayed(u32),
    /// The phone's words reach the relay.
    PhoneSays(Frame),
    /// The relay's words reach a model.
    ModelHears(usize, Vec<u8>),
    /// The answer of a model with this number goes on.
    ModelSteps(usize, u64),
    /// A model does something that it has put off.
    ModelDoes(usize, Later),
    /// A model's socket is hit.
    ModelDies(usize, Death),
    /// A model's words reach the relay.
    ModelSays(usize, String, Told),
    /// A model's socket shows that it lives.
    ModelLives(usize),
    /// The relay learns that a socket is gone.
    ModelLost(usize, Loss, &'static str),
    /// A tool ends.
    ToolEnds(ToolId),
    /// A decision is committed.
    Recorded(u32),
    /// Somebody outside wants something.
    Commanded,
    /// The shard is short of time, or no longer.
    Batches,
    /// A socket takes no more.
    Stalls,
    /// It takes more again.
    Drained(Side),
    /// What ends the call, if nothing else has.
    Ends(Ender),
    /// By here the call has ended.
    MustBeOver,
    /// The sockets of a call that is over have been quiet for long enough.
    Closed,
}

/// What is going to happen.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    now: Moment,
    entries: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    at: Moment,
    /// Of two at the same moment, the one that was put down first comes first.
    n: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.n) == (other.at, other.n)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.n).cmp(&(other.at, other.n))
    }
}

impl Agenda {
    /// The moment.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Time goes on.
    pub(crate) fn pass(&mut self, now: Moment) {
        assert!(now >= self.now, "time goes forward");
        self.now = now;
    }

    /// Puts something down.
    pub(crate) fn at(&mut self, at: Moment, event: Event) {
        self.count += 1;
        self.entries.push(Reverse(Entry { at: at.max(self.now), n: self.count, event }));
    }

    /// The same, so many milliseconds from here.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now + Duration::from_millis(ms), event);
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next thing.
    pub(crate) fn take(&mut self) -> Option<Event> {
        let Reverse(Entry { at, event, .. }) = self.entries.pop()?;
        self.pass(at);
        Some(event)
    }
}

/// One direction of a connection: what is said first arrives first, each message some time later.
#[derive(Debug)]
pub(crate) struct Way {
    trip_ms: u64,
    jitter_ms: u64,
    /// When the last message arrives.
    last: Moment,
    /// Until when nothing gets through.
    blocked: Moment,
}

impl Way {
    /// A way that takes from `trip_ms` to `trip_ms + jitter_ms`.
    pub(crate) fn new(trip_ms: u64, jitter_ms: u64) -> Self {
        Self { trip_ms, jitter_ms, last: Moment::default(), blocked: Moment::default() }
    }

    /// Nothing gets through until then.
    pub(crate) fn block(&mut self, until: Moment) {
        self.blocked = self.blocked.max(until);
    }

    /// When a message arrives that is sent `at` a moment.
    pub(crate) fn arrival(&mut self, at: Moment, chance: &mut Chance) -> Moment {
        let us = self.trip_ms * 1_000 + chance.between(0, self.jitter_ms * 1_000);
        let at = at.max(self.blocked) + Duration::from_micros(us);
        self.last = self.last.max(at);
        self.last
    }
}

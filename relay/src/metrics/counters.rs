//! What one thread counts: a [`Counters`] each, so that counting takes no lock and no shared cache
//! line. The table says what they mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use link::event::{EndReason, ReplacedBecause, ToolOutcome};

use super::labels::{self, PerLabel};
use crate::call::output::{Flow, Oddity};
use crate::stream::Leg;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks. A thread's own may be below zero, because what it gave back may
/// have been taken on another; only the sum over all threads means something.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// What it is.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, n: i64) {
        // Nothing is ordered by it: a scrape may be a moment behind.
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

/// Counts one open socket until it is dropped, on whatever thread that is.
#[derive(Debug)]
pub struct OpenSocket {
    counters: Arc<Counters>,
    leg: Leg,
}

impl OpenSocket {
    /// Counts a socket of this leg.
    #[must_use]
    pub fn new(counters: Arc<Counters>, leg: Leg) -> Self {
        counters.sockets[leg as usize].add(1);
        Self { counters, leg }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.counters.sockets[self.leg as usize].add(-1);
    }
}

/// Durations, in buckets.
#[derive(Debug)]
pub struct Times {
    bounds: &'static [Duration],
    /// One more than `bounds`: the last holds what is longer than all of them.
    buckets: Box<[Count]>,
    sum_us: Count,
}

impl Times {
    pub(super) fn bounds(&self) -> &'static [Duration] {
        self.bounds
    }

    /// How many there were in each bucket.
    pub(super) fn buckets(&self) -> &[Count] {
        &self.buckets
    }

    pub(super) fn sum_us(&self) -> &Count {
        &self.sum_us
    }

    fn new(bounds: &'static [Duration]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| Count::default()).collect();
        Self { bounds, buckets, sum_us: Count::default() }
    }

    /// Counts one duration.
    pub fn observe(&self, span: Duration) {
        // A span that equals a bound is in the bucket of that bound (`le` means at most).
        let bucket = self.bounds.partition_point(|bound| *bound < span);
        self.buckets[bucket].one();
        self.sum_us.add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }
}

/// What the relay adds to a frame's way: from 50 us, which an idle shard takes, to the 100 ms at
/// which a caller would notice.
const ADDED: &[Duration] = &[
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

/// What the caller waits for: a model's answer or its session.
const WAITS: &[Duration] = &[
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_millis(800),
    Duration::from_millis(1_200),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How long an event is on file and not safe from the machine's death: from the wait for others to
/// the 250 ms in which a turn has to be safe, and beyond.
const SYNCS: &[Duration] = &[
    Duration::from_millis(155),
    Duration::from_millis(175),
    Duration::from_millis(200),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// The counters of one thread.
#[derive(Debug)]
pub struct Counters {
    /// Public connections.
    pub connections: PerLabel<labels::Connection>,
    /// TLS handshakes that failed or took too long.
    pub tls_failures: Count,
    /// Upgrade requests, by what became of them.
    pub upgrades: PerLabel<labels::Upgrade>,
    /// Streams that were refused after the upgrade.
    pub refusals: PerLabel<labels::Refused>,
    /// Streams that became calls.
    pub streams_started: Count,
    /// Streams that ended.
    pub streams_ended: PerLabel<EndReason>,
    /// Media frames.
    pub frames: PerLabel<Flow>,
    /// Messages to agents that carry more than one frame of a caller.
    pub uplink_joined: Count,
    /// Beats of the shard's timer in which it was late.
    pub late_beats: Count,
    /// Audio that was thrown away, in milliseconds.
    pub audio_dropped_ms: PerLabel<Flow>,
    /// What the relay adds to a frame's way.
    pub added_delay: [Times; 2],
    /// From a stream's start to a verified session.
    pub agent_ready: Times,
    /// From the end of the caller's speech to the first audio of the answer.
    pub reply: Times,
    /// From a stream's start to the first audio of the agent; by whether its session was ready.
    pub first_voice: [Times; 2],
    /// What was announced, by what became of it.
    pub announcements: PerLabel<labels::Announced>,
    /// Sessions that were opened before their caller was here, by what became of them.
    pub prepared: PerLabel<labels::Prepared>,
    /// Calls that moved to their caller's shard.
    pub handed_over: Count,
    /// Open sockets.
    pub sockets: [Level; 2],
    /// Sessions that were lost, or could not be opened, in a call that went on.
    pub agents_lost: Count,
    /// Sessions that took the place of another.
    pub agents_replaced: PerLabel<ReplacedBecause>,
    /// How long nobody heard the caller, when a session was replaced.
    pub agent_gap: Times,
    /// Turns that were forgotten before a summary could take their place.
    pub turns_forgotten: Count,
    /// Keys that callers pressed.
    pub keys: Count,
    /// Uses of tools, by how they went.
    pub tools: PerLabel<ToolOutcome>,
    /// From the request of a tool to its result.
    pub tool_time: Times,
    /// Commands that wanted an answer, by what it was.
    pub commands: PerLabel<labels::Answered>,
    /// Complete turns.
    pub turns: PerLabel<labels::Speaker>,
    /// Interruptions.
    pub barge_ins: Count,
    /// Unexpected things that were tolerated.
    pub oddities: PerLabel<Oddity>,
    /// Events that found no room on their way to control.
    pub events_lost: PerLabel<labels::Lost>,
    /// Ephemeral events that were dropped.
    pub ephemeral_dropped: Count,
    /// Events that the spool could not take when they were told.
    pub spool_full: Count,
    /// From an event's write to the end of the sync that makes it outlive the machine.
    pub spool_durable: Times,
    /// Segments of the spool that ended in something that is no record.
    pub spool_damaged: Count,
    /// Events that were missing on file.
    pub spool_filled: Count,
    /// Events of earlier lives that control has committed.
    pub spool_replayed: Count,
    /// Attempts to reach control.
    pub link_attempts: PerLabel<labels::Attempt>,
    /// Messages of control that this relay does not know.
    pub link_unknown: Count,
}

impl Counters {
    /// Media frames that the thread has moved, both ways.
    #[must_use]
    pub fn frames_moved(&self) -> u64 {
        self.frames.all().iter().map(Count::total).sum()
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            connections: PerLabel::default(),
            tls_failures: Count::default(),
            upgrades: PerLabel::default(),
            refusals: PerLabel::default(),
            streams_started: Count::default(),
            streams_ended: PerLabel::default(),
            frames: PerLabel::default(),
            uplink_joined: Count::default(),
            late_beats: Count::default(),
            audio_dropped_ms: PerLabel::default(),
            added_delay: [Times::new(ADDED), Times::new(ADDED)],
            agent_ready: Times::new(WAITS),
            reply: Times::new(WAITS),
            first_voice: [Times::new(WAITS), Times::new(WAITS)],
            announcements: PerLabel::default(),
            prepared: PerLabel::default(),
            handed_over: Count::default(),
            sockets: [Level::default(), Level::default()],
            agents_lost: Count::default(),
            agents_replaced: PerLabel::default(),
            agent_gap: Times::new(WAITS),
            turns_forgotten: Count::default(),
            keys: Count::default(),
            tools: PerLabel::default(),
            tool_time: Times::new(WAITS),
            commands: PerLabel::default(),
            turns: PerLabel::default(),
            barge_ins: Count::default(),
            oddities: PerLabel::default(),
            events_lost: PerLabel::default(),
            ephemeral_dropped: Count::default(),
            spool_full: Count::default(),
            spool_durable: Times::new(SYNCS),
            spool_damaged: Count::default(),
            spool_filled: Count::default(),
            spool_replayed: Count::default(),
            link_attempts: PerLabel::default(),
            link_unknown: Count::default(),
        }
    }
}

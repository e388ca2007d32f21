//! Every metric of the relay, declared once: name, what it counts, what a rise means.
//!
//! Each shard and the house own a [`Counters`] of their own, so that counting takes no lock and no
//! shared cache line; a scrape adds them up. Labels come from enums only, never from an id.
//! The declarations are the table in [`table`], which `relay metrics` prints.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use self::labels::{Label, PerLabel};
use self::table::METRICS;

pub mod labels;
pub mod table;

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

/// Durations, in buckets.
#[derive(Debug)]
pub struct Times {
    bounds: &'static [Duration],
    /// One more than `bounds`: the last holds what is longer than all of them.
    buckets: Box<[Count]>,
    sum_us: Count,
}

impl Times {
    fn new(bounds: &'static [Duration]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| Count::default()).collect();
        Self { bounds, buckets, sum_us: Count::default() }
    }

    /// Counts one duration.
    pub fn observe(&self, span: Duration) {
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
    pub streams_ended: PerLabel<link::event::EndReason>,
    /// Media frames.
    pub frames: PerLabel<crate::call::output::Flow>,
    /// Audio that was thrown away, in milliseconds.
    pub audio_dropped_ms: PerLabel<crate::call::output::Flow>,
    /// What the relay adds to a frame's way.
    pub added_delay: [Times; 2],
    /// From a stream's start to a verified session.
    pub agent_ready: Times,
    /// From the end of the caller's speech to the first audio of the answer.
    pub reply: Times,
    /// Complete turns.
    pub turns: PerLabel<labels::Speaker>,
    /// Interruptions.
    pub barge_ins: Count,
    /// Unexpected things that were tolerated.
    pub oddities: PerLabel<crate::call::output::Oddity>,
    /// Events that found no room on their way to control.
    pub events_lost: PerLabel<labels::Lost>,
    /// Attempts to reach control.
    pub link_attempts: PerLabel<labels::Attempt>,
    /// Messages of control that this relay does not know.
    pub link_unknown: Count,
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
            audio_dropped_ms: PerLabel::default(),
            added_delay: [Times::new(ADDED), Times::new(ADDED)],
            agent_ready: Times::new(WAITS),
            reply: Times::new(WAITS),
            turns: PerLabel::default(),
            barge_ins: Count::default(),
            oddities: PerLabel::default(),
            events_lost: PerLabel::default(),
            link_attempts: PerLabel::default(),
            link_unknown: Count::default(),
        }
    }
}

/// What is true at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Seats taken: calls, and sockets that owe their `start`.
    pub calls: u32,
    /// The most calls that are taken.
    pub calls_max: u32,
    /// Whether new calls are taken.
    pub ready: bool,
    /// Whether the node is giving its calls away.
    pub draining: bool,
    /// Whether control is reached.
    pub link_up: bool,
    /// Events that wait for an acknowledgement.
    pub events_waiting: usize,
}

/// All counters of the process, and where its gauges are read.
pub struct Metrics {
    threads: Vec<Arc<Counters>>,
    gauges: Box<dyn Fn() -> Gauges + Send + Sync>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Collects what the threads of the process count.
    pub fn new(
        threads: Vec<Arc<Counters>>,
        gauges: impl Fn() -> Gauges + Send + Sync + 'static,
    ) -> Self {
        Self { threads, gauges: Box::new(gauges) }
    }

    /// The scrape: OpenMetrics text.
    ///
    /// # Errors
    /// When a metric is declared in a way that the format cannot say.
    pub fn scrape(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(self.clone())));
        let mut page = String::new();
        text::encode(&mut page, &registry)?;
        Ok(page)
    }

    fn sum(&self, read: impl Fn(&Counters) -> &Count) -> u64 {
        self.threads.iter().map(|counters| read(counters).total()).sum()
    }

    fn encode_metric(&self, metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = metric.counts;
        match metric.read {
            Read::Total(read) => encoder
                .encode_descriptor(metric.name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&self.sum(read), None),
            Read::Split(split) => {
                let mut family =
                    encoder.encode_descriptor(metric.name, help, None, MetricType::Counter)?;
                for (n, value) in split.values.iter().enumerate() {
                    let total = self.sum(|counters| &(split.read)(counters)[n]);
                    let label = [(split.key, *value)];
                    let mut one = family.encode_family(&label)?;
                    match split.unit {
                        Unit::One => one.encode_counter::<NoLabelSet, _, u64>(&total, None)?,
                        Unit::Milliseconds => {
                            let seconds = seconds(Duration::from_millis(total));
                            one.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
                        }
                    }
                }
                Ok(())
            }
            Read::Time(read) => {
                let mut one =
                    encoder.encode_descriptor(metric.name, help, None, MetricType::Histogram)?;
                self.encode_times(read, &mut one)
            }
            Read::Gauge(read) => encoder
                .encode_descriptor(metric.name, help, None, MetricType::Gauge)?
                .encode_gauge(&read(&(self.gauges)())),
        }
    }

    fn encode_times(
        &self,
        read: fn(&Counters) -> &Times,
        encoder: &mut prometheus_client::encoding::MetricEncoder<'_>,
    ) -> fmt::Result {
        let Some(first) = self.threads.first() else { return Ok(()) };
        let bounds = read(first).bounds.iter().map(|bound| seconds(*bound));
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::MAX])
            .enumerate()
            .map(|(n, bound)| (bound, self.sum(|counters| &read(counters).buckets[n])))
            .collect();
        let sum = seconds(Duration::from_micros(self.sum(|counters| &read(counters).sum_us)));
        let count = buckets.iter().map(|(_, n)| n).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

#[derive(Debug)]
struct Scrape(Arc<Metrics>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        METRICS.iter().try_for_each(|metric| self.0.encode_metric(metric, &mut encoder))
    }
}

/// One declared metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name; a counter is written with `_total` behind it.
    pub name: &'static str,
    /// What it counts, and how it adds up with others.
    pub counts: &'static str,
    /// What a rise means.
    pub rise: &'static str,
    read: Read,
}

#[derive(Debug, Clone, Copy)]
enum Read {
    Total(fn(&Counters) -> &Count),
    Split(Split),
    Time(fn(&Counters) -> &Times),
    Gauge(fn(&Gauges) -> i64),
}

#[derive(Debug, Clone, Copy)]
struct Split {
    key: &'static str,
    values: &'static [&'static str],
    unit: Unit,
    read: fn(&Counters) -> &[Count],
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    One,
    Milliseconds,
}

/// A counter split by the values of an enum; the key and values are the enum's own.
const fn split<L: Label>(read: fn(&Counters) -> &[Count]) -> Read {
    Read::Split(Split { key: L::KEY, values: L::VALUES, unit: Unit::One, read })
}

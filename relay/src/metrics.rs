//! Every metric of the relay, declared once: name, what it counts, what a rise means.
//!
//! Each shard and the house own a [`Counters`] of their own, so that counting takes no lock and no
//! shared cache line; a scrape adds them up. Labels come from enums only, never from an id.
//! The declarations are the table in [`table`], which `relay metrics` prints.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::gate::room::Strain;

use self::labels::Label;
use self::table::METRICS;

pub use self::counters::{Count, Counters, Level, OpenSocket, Times};

mod counters;
pub mod labels;
pub mod table;

/// What is true at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Seats taken: calls, and sockets that owe their `start`.
    pub calls: u32,
    /// The most calls that are taken.
    pub calls_max: u32,
    /// Whether new calls are taken.
    pub ready: bool,
    /// What there is too little of for another call.
    pub strain: Option<Strain>,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Resident memory above which no call is taken.
    pub memory_bytes_max: u64,
    /// How late the latest shard is with its own timer.
    pub lateness: Duration,
    /// Whether the node is giving its calls away.
    pub draining: bool,
    /// Whether control is reached.
    pub link_up: bool,
    /// How many controls are reached.
    pub controls: usize,
    /// Events that wait for an acknowledgement.
    pub events_waiting: usize,
    /// Bytes of events on file.
    pub spool_bytes: u64,
    /// Calls whose agent is here and whose stream is on its way.
    pub announced: usize,
    /// Sessions that are kept open for whoever comes.
    pub spares: usize,
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
            Read::TimeSplit { key, values, read } => {
                let mut family =
                    encoder.encode_descriptor(metric.name, help, None, MetricType::Histogram)?;
                for (n, value) in values.iter().enumerate() {
                    let label = [(key, *value)];
                    let mut one = family.encode_family(&label)?;
                    self.encode_times(|counters| &read(counters)[n], &mut one)?;
                }
                Ok(())
            }
            Read::Level { key, values, read } => {
                let mut family =
                    encoder.encode_descriptor(metric.name, help, None, MetricType::Gauge)?;
                for (n, value) in values.iter().enumerate() {
                    let label = [(key, *value)];
                    let now: i64 =
                        self.threads.iter().map(|counters| read(counters)[n].now()).sum();
                    family.encode_family(&label)?.encode_gauge(&now)?;
                }
                Ok(())
            }
            Read::Gauge(read) => encoder
                .encode_descriptor(metric.name, help, None, MetricType::Gauge)?
                .encode_gauge(&read(&(self.gauges)())),
            Read::Seconds(read) => encoder
                .encode_descriptor(metric.name, help, None, MetricType::Gauge)?
                .encode_gauge(&seconds(read(&(self.gauges)()))),
        }
    }

    fn encode_times(
        &self,
        read: impl Fn(&Counters) -> &Times,
        encoder: &mut prometheus_client::encoding::MetricEncoder<'_>,
    ) -> fmt::Result {
        // Every thread's histogram has the same bounds; the first one's stand for all.
        let Some(first) = self.threads.first() else { return Ok(()) };
        let bounds = read(first).bounds().iter().map(|bound| seconds(*bound));
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::MAX])
            .enumerate()
            .map(|(n, bound)| (bound, self.sum(|counters| &read(counters).buckets()[n])))
            .collect();
        let sum = seconds(Duration::from_micros(self.sum(|counters| read(counters).sum_us())));
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
    TimeSplit {
        key: &'static str,
        values: &'static [&'static str],
        read: fn(&Counters) -> &[Times],
    },
    Level {
        key: &'static str,
        values: &'static [&'static str],
        read: fn(&Counters) -> &[Level],
    },
    Gauge(fn(&Gauges) -> i64),
    Seconds(fn(&Gauges) -> Duration),
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

//! Figures over time: one point a second, merged so that an hour needs no more room than ten
//! minutes.
//!
//! Every thread records into a part of its own and hands it over when a second is full: one lock
//! a thread and second, none for a frame.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::run::measured::Counts;

/// The series of a whole load test, shared by all of its threads.
#[derive(Debug)]
pub(crate) struct Series {
    /// When measuring began, by the board's clock; `u64::MAX` before.
    origin_us: AtomicU64,
    calls_up: AtomicU32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// How many seconds one point covers.
    width: u32,
    points: Vec<Part>,
    /// The counts of every thread as it handed them over last.
    counts: Vec<Counts>,
}

/// What happened in one stretch of time.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Added delay from a caller to the model, in microseconds.
    pub(crate) up_us: Histogram<u32>,
    /// Added delay from the model to a caller.
    pub(crate) down_us: Histogram<u32>,
    /// How late the load test's own schedules were.
    pub(crate) late_us: Histogram<u32>,
    /// Blocks of 20 ms that callers heard.
    pub(crate) frames_down: u64,
    /// What the processes used; `None` until the second is over.
    pub(crate) usage: Option<Sample>,
}

/// What the system says of both processes in one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// CPU of the process under load, in per cent of one core.
    pub(crate) cpu_percent: f64,
    /// CPU of the load test, in per cent of one core.
    pub(crate) own_cpu_percent: f64,
    /// Resident memory of the process under load, in MiB.
    pub(crate) resident_mib: f64,
    /// Its threads.
    pub(crate) threads: u32,
    /// Calls that are up.
    pub(crate) calls_up: u32,
    /// Frames that are known to be lost by then, both ways.
    pub(crate) frames_lost: u64,
}

/// One thread's end of the series.
#[derive(Debug)]
pub(crate) struct Recorder {
    series: Arc<Series>,
    thread: usize,
    second: u32,
    part: Part,
}

impl Series {
    /// Nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        let inner = Inner { width: 1, points: Vec::new(), counts: Vec::new() };
        Arc::new(Self {
            origin_us: AtomicU64::new(u64::MAX),
            calls_up: AtomicU32::new(0),
            inner: Mutex::new(inner),
        })
    }

    /// Measuring begins: the first second starts here.
    pub(crate) fn begin(&self, at_us: u64) {
        self.origin_us.store(at_us, Ordering::SeqCst);
    }

    /// When measuring began; `None` before.
    pub(crate) fn origin_us(&self) -> Option<u64> {
        Some(self.origin_us.load(Ordering::SeqCst)).filter(|at_us| *at_us < u64::MAX)
    }

    /// A call came up.
    pub(crate) fn call_began(&self) {
        self.calls_up.fetch_add(1, Ordering::Relaxed);
    }

    /// A call that was up is over.
    pub(crate) fn call_ended(&self) {
        self.calls_up.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many calls are up.
    pub(crate) fn calls_up(&self) -> u32 {
        self.calls_up.load(Ordering::Relaxed)
    }

    /// Another thread's end.
    pub(crate) fn recorder(self: &Arc<Self>) -> Recorder {
        let mut inner = self.lock();
        inner.counts.push(Counts::default());
        let thread = inner.counts.len() - 1;
        Recorder { series: Arc::clone(self), thread, second: 0, part: Part::new() }
    }

    /// Adds a part of one second.
    pub(crate) fn add(&self, second: u32, part: &Part) {
        self.lock().at(second).add(part);
    }

    /// Adds what the system said of one second.
    pub(crate) fn add_sample(&self, second: u32, sample: Sample) {
        self.lock().at(second).add_sample(sample);
    }

    /// The point that covers a second.
    pub(crate) fn part(&self, second: u32) -> Option<Part> {
        let inner = self.lock();
        inner.points.get((second / inner.width) as usize).cloned()
    }

    /// Frames lost as far as the threads have said.
    pub(crate) fn frames_lost(&self) -> u64 {
        self.lock().counts.iter().map(Counts::frames_lost).sum()
    }

    /// The seconds of one point, and all points.
    pub(crate) fn points(&self) -> (u32, Vec<Part>) {
        let inner = self.lock();
        (inner.width, inner.points.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The point of a second. When there are too many, two become one.
    fn at(&mut self, second: u32) -> &mut Part {
        while (second / self.width) as usize >= POINTS_MAX {
            self.width *= 2;
            let mut merged: Vec<Part> = Vec::with_capacity(POINTS_MAX);
            for (at, part) in self.points.drain(..).enumerate() {
                match merged.last_mut() {
                    Some(last) if at % 2 == 1 => last.add(&part),
                    _ => merged.push(part),
                }
            }
            self.points = merged;
        }
        let at = (second / self.width) as usize;
        if self.points.len() <= at {
            self.points.resize_with(at + 1, Part::new);
        }
        &mut self.points[at]
    }
}

impl Part {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        // Grows with the largest value: a quiet second needs two kilobytes.
        let empty = || Histogram::new(2).expect("two digits are in their range");
        Self { up_us: empty(), down_us: empty(), late_us: empty(), frames_down: 0, usage: None }
    }

    /// Adds another part of the same time, or of the time after.
    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.up_us, &other.up_us),
            (&mut self.down_us, &other.down_us),
            (&mut self.late_us, &other.late_us),
        ] {
            mine.add(theirs).expect("a histogram that grows takes every value");
        }
        self.frames_down += other.frames_down;
        if let Some(sample) = other.usage {
            self.add_sample(sample);
        }
    }

    /// Two samples become one: of what flows the mean, of what stands the later.
    fn add_sample(&mut self, sample: Sample) {
        self.usage = Some(match self.usage {
            None => sample,
            Some(before) => Sample {
                cpu_percent: f64::midpoint(before.cpu_percent, sample.cpu_percent),
                own_cpu_percent: f64::midpoint(before.own_cpu_percent, sample.own_cpu_percent),
                ..sample
            },
        });
    }
}

impl Recorder {
    /// Audio arrived at the model.
    pub(crate) fn up(&mut self, at_us: u64, us: u64, counts: &Counts) {
        self.turn_to(at_us, counts);
        record(&mut self.part.up_us, us);
    }

    /// An answer arrived at a caller.
    pub(crate) fn down(&mut self, at_us: u64, us: u64, counts: &Counts) {
        self.turn_to(at_us, counts);
        record(&mut self.part.down_us, us);
    }

    /// A schedule was so late.
    pub(crate) fn late(&mut self, at_us: u64, us: u64, counts: &Counts) {
        self.turn_to(at_us, counts);
        record(&mut self.part.late_us, us);
    }

    /// A caller heard so many bytes of mu-law.
    pub(crate) fn heard(&mut self, at_us: u64, bytes: usize, counts: &Counts) {
        if self.series.origin_us().is_some() {
            self.turn_to(at_us, counts);
            self.part.frames_down += bytes as u64 / FRAME_BYTES;
        }
    }

    /// Hands a full second over.
    fn turn_to(&mut self, at_us: u64, counts: &Counts) {
        let origin_us = self.series.origin_us().unwrap_or(at_us);
        let second = u32::try_from(at_us.saturating_sub(origin_us) / 1_000_000).unwrap_or(u32::MAX);
        if second == self.second {
            return;
        }
        let full = std::mem::replace(&mut self.part, Part::new());
        let mut inner = self.series.lock();
        inner.at(self.second).add(&full);
        inner.counts[self.thread] = *counts;
        self.second = second;
    }
}

impl Drop for Recorder {
    /// The last second is not full, but over.
    fn drop(&mut self) {
        self.series.add(self.second, &self.part);
    }
}

/// Adds a value; the histogram grows with it.
pub(crate) fn record(histogram: &mut Histogram<u32>, us: u64) {
    histogram.record(us.clamp(1, US_MAX)).expect("a histogram that grows takes every value");
}

/// An hour: nothing that arrives later is a delay.
const US_MAX: u64 = 3_600_000_000;

/// Ten minutes of seconds: more points than a plot has room for.
const POINTS_MAX: usize = 600;

/// 20 ms of mu-law.
const FRAME_BYTES: u64 = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_all_threads_come_together() {
        let series = Series::new();
        let (mut a, mut b) = (series.recorder(), series.recorder());
        let counts = Counts { frames_lost_up: 2, ..Counts::default() };
        a.heard(0, 160, &counts);
        series.begin(5_000_000);
        a.up(5_000_000, 300, &counts);
        b.up(5_999_999, 500, &counts);
        b.heard(5_999_999, 320, &counts);
        a.up(6_000_000, 900, &counts);
        assert_eq!(series.part(0).unwrap().up_us.len(), 1);
        assert_eq!(series.frames_lost(), 2);
        drop((a, b));
        let (width, points) = series.points();
        assert_eq!((width, points.len()), (1, 2));
        assert_eq!((points[0].up_us.len(), points[0].frames_down), (2, 2));
        assert!(points[1].up_us.max().abs_diff(900) < 10);
    }

    #[test]
    fn a_day_needs_no_more_room_than_ten_minutes() {
        let series = Series::new();
        for second in 0..86_400 {
            let mut part = Part::new();
            record(&mut part.up_us, 100);
            part.frames_down = 1;
            series.add(second, &part);
            series.add_sample(second, Sample { cpu_percent: 50.0, ..Sample::default() });
        }
        let (width, points) = series.points();
        assert!(points.len() <= POINTS_MAX && points.len() > POINTS_MAX / 2, "{}", points.len());
        assert_eq!(width, 256);
        assert_eq!(points.iter().map(|part| part.frames_down).sum::<u64>(), 86_400);
        assert_eq!(points.iter().map(|part| part.up_us.len()).sum::<u64>(), 86_400);
        assert!((points[7].usage.unwrap().cpu_percent - 50.0).abs() < 1e-9);
    }
}

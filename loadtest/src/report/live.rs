//! The line that renews itself while the load test runs; plain lines where nobody watches.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use super::series::{Part, Sample, Series};
use crate::clock::Stopwatch;
use crate::run::process::{Usage, usage};

/// Waits in the place of the load test's main thread: every second it reads what both processes
/// use, and says how far the test is.
pub(crate) struct Watch<'a> {
    series: Arc<Series>,
    clock: Stopwatch,
    calls: u32,
    /// What the process under load used so far; `None` where it is not known or gone.
    reading: Box<dyn Fn() -> Option<Usage> + 'a>,
    before: Option<Moment>,
    renews: bool,
}

/// Both processes at a moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at_us: u64,
    theirs: Option<Usage>,
    own: Usage,
}

/// What is said of a stretch of the test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    /// Its name.
    pub(crate) name: &'static str,
    /// How long it takes.
    pub(crate) lasts: Duration,
}

impl<'a> Watch<'a> {
    /// Watches a test of so many calls.
    pub(crate) fn new(
        series: &Arc<Series>,
        clock: Stopwatch,
        calls: u32,
        reading: impl Fn() -> Option<Usage> + 'a,
    ) -> Self {
        Self {
            series: Arc::clone(series),
            clock,
            calls,
            reading: Box::new(reading),
            before: None,
            renews: std::io::stdout().is_terminal(),
        }
    }

    /// Waits for a stretch of the test to pass. Whatever is measured is read on whole seconds
    /// from the beginning of measuring, so that every point covers one.
    pub(crate) fn pass(&mut self, stretch: Stretch) {
        let from_us = self.clock.micros();
        let from_us =
            self.series.origin_us().filter(|at_us| from_us - at_us < 500_000).unwrap_or(from_us);
        let lasts_us = u64::try_from(stretch.lasts.as_micros()).unwrap_or(u64::MAX);
        self.before = Some(self.moment());
        let mut second = 0;
        loop {
            let due_us = ((second + 1) * 1_000_000).min(lasts_us);
            std::thread::sleep(Duration::from_micros(
                (from_us + due_us).saturating_sub(self.clock.micros()),
            ));
            let sample = self.sample();
            if self.series.origin_us() == Some(from_us) {
                self.series.add_sample(u32::try_from(second).unwrap_or(u32::MAX), sample);
            }
            let left = (lasts_us - due_us).div_ceil(1_000_000);
            self.say(stretch.name, second, left, sample);
            if due_us >= lasts_us {
                break;
            }
            second += 1;
        }
        self.clear();
    }

    /// What both processes used since the last time.
    fn sample(&mut self) -> Sample {
        let now = self.moment();
        let before = self.before.replace(now).unwrap_or(now);
        let us = u32::try_from((now.at_us - before.at_us).max(1)).unwrap_or(u32::MAX);
        let percent = |cpu_seconds: f64| cpu_seconds * 1e8 / f64::from(us);
        let theirs = now.theirs.unwrap_or_default();
        let cpu_seconds = theirs.cpu_seconds - before.theirs.unwrap_or(theirs).cpu_seconds;
        Sample {
            cpu_percent: percent(cpu_seconds.max(0.0)),
            own_cpu_percent: percent(now.own.cpu_seconds - before.own.cpu_seconds),
            resident_mib: mib(theirs.resident_bytes),
            threads: theirs.threads,
            calls_up: self.series.calls_up(),
            frames_lost: self.series.frames_lost(),
        }
    }

    fn moment(&self) -> Moment {
        let own = usage(std::process::id()).unwrap_or_default();
        Moment { at_us: self.clock.micros(), theirs: (self.reading)(), own }
    }

    /// Says how far the test is.
    #[expect(clippy::print_stdout, reason = "this is the progress")]
    fn say(&self, name: &str, second: u64, left: u64, sample: Sample) {
        // The second that is just over may not be handed over by every thread yet.
        let whole = u32::try_from(second.saturating_sub(1)).unwrap_or(u32::MAX);
        let part = self.series.origin_us().and_then(|_| self.series.part(whole));
        let line = line(name, (self.calls, left), part.as_ref(), sample);
        if self.renews {
            // Without wrapping, a narrow terminal cuts the line and renews it all the same.
            print!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h");
            let _ = std::io::stdout().flush();
        } else if (second + 1).is_multiple_of(PLAIN_EVERY) {
            println!("{line}");
        }
    }

    /// Leaves nothing of the line behind.
    #[expect(clippy::print_stdout, reason = "this is the progress")]
    fn clear(&self) {
        if self.renews {
            print!("\r\x1b[2K");
            let _ = std::io::stdout().flush();
        }
    }
}

/// One line: where the test is, the last second's delays, what is lost, what it costs.
fn line(name: &str, (calls, left): (u32, u64), part: Option<&Part>, sample: Sample) -> String {
    let mut text = format!("{name}  {}/{calls} calls  {left} s left", sample.calls_up);
    if let Some(part) = part.filter(|part| !part.up_us.is_empty()) {
        let ms = |us: u64| f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0;
        let of = |histogram: &hdrhistogram::Histogram<u32>| {
            let at = |quantile| ms(histogram.value_at_quantile(quantile));
            format!("{:.1}/{:.1}", at(0.5), at(0.99))
        };
        text += &format!("  p50/p99 up {} down {} ms", of(&part.up_us), of(&part.down_us));
    }
    text += &format!(
        "  lost {}  CPU {:.0} %  {:.0} MiB",
        sample.frames_lost, sample.cpu_percent, sample.resident_mib
    );
    text
}

/// Bytes as MiB.
#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Where output is kept, a line in so many seconds is enough.
const PLAIN_EVERY: u64 = 10;

#[cfg(test)]
mod tests {
    use super::super::series::record;
    use super::*;

    #[test]
    fn the_line_says_where_the_test_is() {
        let mut part = Part::new();
        record(&mut part.up_us, 400);
        record(&mut part.down_us, 1_500);
        let sample =
            Sample { calls_up: 7, cpu_percent: 12.3, resident_mib: 33.6, ..Sample::default() };
        assert_eq!(
            line("measuring", (9, 4), Some(&part), sample),
            "measuring  7/9 calls  4 s left  p50/p99 up 0.4/0.4 down 1.5/1.5 ms  lost 0  CPU 12 %  34 MiB"
        );
        assert_eq!(
            line("coming up", (9, 4), None, sample),
            "coming up  7/9 calls  4 s left  lost 0  CPU 12 %  34 MiB"
        );
    }

    #[test]
    fn every_second_of_a_stretch_gets_its_sample() {
        let (series, clock) = (Series::new(), Stopwatch::start());
        series.begin(clock.micros());
        let used = std::cell::Cell::new(0.0);
        let reading = || {
            used.set(used.get() + 0.25);
            Some(Usage { cpu_seconds: used.get(), resident_bytes: 3 << 20, threads: 2 })
        };
        let lasts = Duration::from_millis(1_500);
        Watch::new(&series, clock, 1, reading).pass(Stretch { name: "measuring", lasts });
        let (_, points) = series.points();
        let samples: Vec<_> = points.iter().map(|part| part.usage.unwrap()).collect();
        assert_eq!(samples.len(), 2);
        assert!(samples[0].cpu_percent > 5.0 && samples[0].cpu_percent < 30.0, "{samples:?}");
        assert!(samples[1].cpu_percent > 10.0, "{samples:?}");
        assert_eq!((samples[1].threads, samples[1].resident_mib), (2, 3.0));
    }
}

//! The load test's figures, drawn up and judged; how they are shown stands in `crate::report`.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::measured::{Counts, Figures};
use super::process::Usage;

/// Everything that a load test found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// What was put under load.
    pub(crate) subject: String,
    /// How many calls at once.
    pub(crate) calls: u32,
    /// For how long, in seconds.
    pub(crate) seconds: f64,
    /// The audio format between relay and model.
    pub(crate) audio: String,
    /// From a caller's frame to its append at the model.
    pub(crate) added_up_ms: Quantiles,
    /// From the first audio of an answer at the model to its first media at the caller.
    pub(crate) added_down_ms: Quantiles,
    /// From `speech_started` at the model to the `clear` at the caller.
    pub(crate) clear_ms: Quantiles,
    /// What callers heard of cut answers, less what the relay says was heard of them.
    pub(crate) unclaimed_ms: Quantiles,
    /// From a call's `start` to the agent's first audio; empty where the caller speaks first.
    pub(crate) first_audio_ms: Quantiles,
    /// From the end of a turn to the first audio after it; empty where answers are ours.
    pub(crate) answer_ms: Quantiles,
    /// The plain counts.
    pub(crate) counts: Counts,
    /// What the relay used.
    pub(crate) relay: RelayCost,
    /// What the load test itself used, in per cent of one core: it shares the machine.
    pub(crate) own_cpu_percent: f64,
    /// How late the load test's own schedules were: what the added delays include of its own.
    pub(crate) own_lateness_ms: OwnLateness,
    /// Whether the load test itself could not keep up, so that the figures are its own.
    pub(crate) generator_limited: bool,
    /// What makes the figures doubtful, and what was not measured.
    pub(crate) warnings: Vec<String>,
    /// Whether answers are not ours, so that they cannot be judged.
    pub(crate) foreign: bool,
    /// Whether connections are cut on purpose, so that losses are no fault of the process.
    pub(crate) lossy: bool,
}

/// What was run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// What was put under load.
    pub(crate) subject: String,
    /// How many calls at once.
    pub(crate) calls: u32,
    /// For how long, in seconds.
    pub(crate) seconds: f64,
    /// The audio format between relay and model.
    pub(crate) audio: &'static str,
    /// Whether answers are not ours.
    pub(crate) foreign: bool,
    /// Whether connections are cut on purpose.
    pub(crate) lossy: bool,
    /// Whether the process under test is known.
    pub(crate) has_process: bool,
    /// How many cores the load test may use.
    pub(crate) own_cores: usize,
}

/// A distribution, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Quantiles {
    /// How many values.
    pub(crate) count: u64,
    /// The median.
    pub(crate) p50: f64,
    /// Nine of ten are below.
    pub(crate) p90: f64,
    /// All but one of a hundred are below.
    pub(crate) p99: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Quantiles {
    /// Reads a histogram of microseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: ms(histogram.max()),
        }
    }
}

/// The schedules of the load test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OwnLateness {
    /// Callers' frames.
    pub(crate) callers: Quantiles,
    /// The fake model's audio.
    pub(crate) model: Quantiles,
}

/// What the relay used while it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RelayCost {
    /// Per cent of one core.
    pub(crate) cpu_percent: f64,
    /// CPU time of one call for one second, in microseconds.
    pub(crate) cpu_us_per_call_second: f64,
    /// Resident memory with all calls up, in MiB.
    pub(crate) resident_mib: f64,
    /// What one call adds to it, in KiB.
    pub(crate) resident_kib_per_call: f64,
    /// Resident memory before the first call, in MiB.
    pub(crate) idle_mib: f64,
    /// Resident memory after the last call, in MiB.
    pub(crate) after_mib: f64,
}

/// Readings of the relay's process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readings {
    /// Before the first call.
    pub(crate) idle: Usage,
    /// When measuring began.
    pub(crate) began: Usage,
    /// When measuring ended.
    pub(crate) ended: Usage,
    /// When every call had ended.
    pub(crate) after: Usage,
    /// CPU time of the load test itself while it measured, in seconds.
    pub(crate) own_cpu_seconds: f64,
}

impl RelayCost {
    /// Draws up the costs from readings before, at the beginning and at the end.
    fn of(readings: Readings, calls: u32, seconds: f64) -> Self {
        let cpu = readings.ended.cpu_seconds - readings.began.cpu_seconds;
        let calls = f64::from(calls.max(1));
        let grown = readings.ended.resident_bytes.saturating_sub(readings.idle.resident_bytes);
        Self {
            cpu_percent: cpu / seconds * 100.0,
            cpu_us_per_call_second: cpu * 1e6 / seconds / calls,
            resident_mib: float(readings.ended.resident_bytes) / 1_048_576.0,
            resident_kib_per_call: float(grown) / 1_024.0 / calls,
            idle_mib: float(readings.idle.resident_bytes) / 1_048_576.0,
            after_mib: float(readings.after.resident_bytes) / 1_048_576.0,
        }
    }
}

impl Report {
    /// Draws up the report.
    pub(crate) fn new(setup: Setup, figures: &Figures, readings: Readings) -> Self {
        let own_lateness_ms = OwnLateness {
            callers: Quantiles::of(&figures.callers_late_us),
            model: Quantiles::of(&figures.model_late_us),
        };
        let Setup { subject, calls, seconds, audio, foreign, lossy, has_process, own_cores } =
            setup;
        let calls_up = u32::try_from(figures.counts.calls_up).unwrap_or(u32::MAX);
        let mut report = Self {
            subject,
            calls,
            seconds,
            audio: audio.to_owned(),
            added_up_ms: Quantiles::of(&figures.up_us),
            added_down_ms: Quantiles::of(&figures.down_us),
            clear_ms: Quantiles::of(&figures.clear_us),
            unclaimed_ms: Quantiles::of(&figures.unclaimed_us),
            first_audio_ms: Quantiles::of(&figures.first_us),
            answer_ms: Quantiles::of(&figures.answer_us),
            counts: figures.counts,
            // A call that was refused costs nothing, and must not make the others look cheap.
            relay: RelayCost::of(readings, calls.min(calls_up), seconds),
            own_cpu_percent: readings.own_cpu_seconds / seconds * 100.0,
            own_lateness_ms,
            generator_limited: false,
            warnings: Vec::new(),
            foreign,
            lossy,
        };
        report.warn(own_cores);
        if !has_process {
            let text =
                "the process under test is not known (--pid): its CPU and memory are not measured";
            report.warnings.push(text.into());
        }
        report
    }

    /// Whether the load test kept its own schedules.
    fn is_punctual(&self) -> bool {
        let own = self.own_lateness_ms.callers.p99.max(self.own_lateness_ms.model.p99);
        own <= OWN_LATENESS_MS
    }

    /// Says what makes the figures doubtful.
    fn warn(&mut self, own_cores: usize) {
        let late = self.own_lateness_ms.callers.p99.max(self.own_lateness_ms.model.p99);
        let busy = self.own_cpu_percent / float(own_cores.max(1) as u64);
        if !self.is_punctual() {
            self.warnings.push(format!(
                "the load test was the bottleneck: it was {late:.1} ms late itself (p99), and the \
                 added delays include that"
            ));
        }
        if busy > OWN_BUSY_PERCENT {
            self.warnings.push(format!(
                "the load test was the bottleneck: it used {busy:.0} % of the cores that it may use"
            ));
        }
        if self.lossy {
            self.warnings.push(
                "connections were cut on purpose: losses are counted, and not held against anybody"
                    .into(),
            );
        }
        self.generator_limited = !self.is_punctual() || busy > OWN_BUSY_PERCENT;
        if self.foreign {
            self.warnings.push(
                "the target answers by itself: its audio is not ours, so added delay, loss and \
                 alteration are not measured; only the time from a turn's end to the first audio"
                    .into(),
            );
        } else if self.added_up_ms.count == 0 || self.added_down_ms.count == 0 {
            self.warnings.push("nothing was measured in one of the directions".into());
        }
    }

    /// Whether nothing was lost or altered. A turn without an answer and an interruption without
    /// a `clear` count too, unless the load test itself was late: whoever interrupts an answer
    /// that is over silences nobody.
    pub(crate) fn is_clean(&self) -> bool {
        let counts = self.counts;
        if self.lossy {
            return counts.calls_failed == 0 && self.added_up_ms.count > 0;
        }
        let lost = counts.calls_failed
            + counts.frames_lost_up
            + if self.foreign { 0 } else { counts.frames_lost_at_end }
            + counts.messages_refused
            + counts.frames_altered_up
            + counts.frames_repeated_up
            + counts.frames_lost_down
            + counts.frames_altered_down
            + counts.overclaimed;
        let unheard = counts.barge_ins_unheard + counts.unanswered;
        let measured = if self.foreign { self.answer_ms.count } else { self.added_up_ms.count };
        lost == 0 && (unheard == 0 || !self.is_punctual()) && measured > 0
    }
}

/// Microseconds as milliseconds.
pub(crate) fn ms(us: u64) -> f64 {
    float(us) / 1_000.0
}

/// A whole number as a fraction.
#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
pub(crate) fn float(whole: u64) -> f64 {
    whole as f64
}

/// A schedule later than this is no measure of somebody else's delay.
const OWN_LATENESS_MS: f64 = 5.0;

/// Whoever uses more of its cores than that has none left for bad moments.
const OWN_BUSY_PERCENT: f64 = 90.0;

#[cfg(test)]
mod tests {
    use super::super::measured::note;
    use super::*;

    fn readings() -> Readings {
        let usage =
            |cpu_seconds, mib: u64| Usage { cpu_seconds, resident_bytes: mib << 20, threads: 3 };
        Readings {
            idle: usage(0.5, 10),
            began: usage(1.0, 40),
            ended: usage(7.0, 50),
            after: usage(7.0, 12),
            own_cpu_seconds: 1.0,
        }
    }

    fn setup(calls: u32, seconds: f64) -> Setup {
        Setup {
            subject: "relay".into(),
            calls,
            seconds,
            audio: "mulaw",
            foreign: false,
            lossy: false,
            has_process: true,
            own_cores: 1,
        }
    }

    fn figures() -> Figures {
        let mut figures = Figures::new();
        for us in 1..=1_000 {
            note(&mut figures.up_us, us * 10);
        }
        note(&mut figures.down_us, 2_000);
        figures.counts.calls_up = 100;
        figures
    }

    #[test]
    fn costs_are_per_call_and_second() {
        let report = Report::new(setup(100, 60.0), &figures(), readings());
        assert!((report.relay.cpu_percent - 10.0).abs() < 1e-9);
        assert!((report.relay.cpu_us_per_call_second - 1_000.0).abs() < 1e-6);
        assert!((report.relay.resident_kib_per_call - 409.6).abs() < 1e-6);
        assert!((report.added_up_ms.p99 - 9.9).abs() < 0.02);
        assert!(report.is_clean());
    }

    #[test]
    fn calls_that_were_refused_do_not_make_the_others_look_cheap() {
        let report = Report::new(setup(200, 60.0), &figures(), readings());
        assert!((report.relay.cpu_us_per_call_second - 1_000.0).abs() < 1e-6);
    }

    #[test]
    fn one_lost_frame_is_not_clean() {
        let mut figures = figures();
        figures.counts.frames_lost_down = 1;
        assert!(!Report::new(setup(1, 1.0), &figures, readings()).is_clean());
    }

    #[test]
    fn the_table_and_the_json_say_the_same() {
        let mut figures = figures();
        figures.counts.frames_sent = 1_234;
        note(&mut figures.callers_late_us, 9_000);
        let report = Report::new(setup(100, 60.0), &figures, readings());
        let table = crate::report::table::table(&report);
        assert!(table.contains("1234, 0, 0"), "{table}");
        assert!(table.contains("WARNING"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["counts"]["frames_sent"], 1_234);
        assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_generator_without_a_free_core_is_the_bottleneck() {
        let busy = Readings { own_cpu_seconds: 57.0, ..readings() };
        let report = Report::new(setup(100, 60.0), &figures(), busy);
        assert!(report.generator_limited);
        assert!(crate::report::table::table(&report).contains("bottleneck"));
        let wide = Setup { own_cores: 2, ..setup(100, 60.0) };
        assert!(!Report::new(wide, &figures(), busy).generator_limited);
    }

    #[test]
    fn what_answers_by_itself_is_not_judged() {
        let foreign = Setup { foreign: true, has_process: false, ..setup(1, 60.0) };
        let mut figures = Figures::new();
        figures.counts.frames_lost_at_end = 7;
        note(&mut figures.answer_us, 700_000);
        let report = Report::new(foreign, &figures, readings());
        assert!(report.is_clean());
        assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
        assert!(crate::report::table::table(&report).contains("end of a turn to first audio"));
    }
}

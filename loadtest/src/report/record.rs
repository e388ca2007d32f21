//! The file of one load test: its figures, what they are drawn from, where and how it ran.
//!
//! A file of an older or newer kind is read as far as it goes: what it does not say is empty.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

use super::flat::Flatness;
use super::lines;
use super::machine::Machine;
use super::series::{Part, Sample, Series};
use crate::clock;
use crate::run::RunArgs;
use crate::run::measured::Figures;
use crate::run::report::{Report, float, ms};
use crate::run::scenario::Scenario;

/// One load test.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The kind of file: [`SCHEMA`]. 0 in files that are older than this number.
    pub(crate) schema: u32,
    /// The program and its version.
    pub(crate) program: String,
    /// When it began, in UTC.
    pub(crate) began_at: String,
    /// The command line, word by word.
    pub(crate) command: Vec<String>,
    /// Whatever decides what is measured: runs that differ here do not compare.
    pub(crate) settings: BTreeMap<String, String>,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// The figures.
    #[serde(flatten)]
    pub(crate) report: Report,
    /// The distributions.
    pub(crate) curves: Curves,
    /// The figures over time.
    pub(crate) series: Vec<Point>,
}

/// Percentile curves: pairs of quantile and milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Curves {
    /// Added delay from a caller to the model.
    pub(crate) added_up: Vec<(f64, f64)>,
    /// Added delay from the model to a caller.
    pub(crate) added_down: Vec<(f64, f64)>,
    /// From `speech_started` to the `clear`.
    pub(crate) clear: Vec<(f64, f64)>,
    /// From the end of a turn to the first audio, where answers are not ours.
    pub(crate) answer: Vec<(f64, f64)>,
    /// The load test's own lateness, callers.
    pub(crate) own_late: Vec<(f64, f64)>,
}

/// One stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Point {
    /// Where it begins, in seconds since measuring began.
    pub(crate) at_s: u32,
    /// How many seconds it covers.
    pub(crate) seconds: u32,
    /// Added delay from a caller to the model; `None` when nothing arrived.
    pub(crate) up_ms: Option<Tail>,
    /// Added delay from the model to a caller.
    pub(crate) down_ms: Option<Tail>,
    /// How late the load test itself was.
    pub(crate) late_ms: Option<Tail>,
    /// Frames that arrived at the model, a second.
    pub(crate) frames_up: f64,
    /// Frames that callers heard, a second.
    pub(crate) frames_down: f64,
    /// What the processes used.
    #[serde(flatten)]
    pub(crate) sample: Sample,
}

/// A distribution in a stretch of time, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tail {
    /// The median.
    pub(crate) p50: f64,
    /// All but one of a hundred are below.
    pub(crate) p99: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// What is known before the test begins.
#[derive(Debug)]
pub(crate) struct Opening {
    began_at: String,
    settings: BTreeMap<String, String>,
    machine: Machine,
}

impl Opening {
    /// The moment before the test.
    pub(crate) fn now(args: &RunArgs, scenario: &Scenario) -> Self {
        let began = i64::try_from(clock::wall_us() / 1_000_000).unwrap_or_default();
        let began = jiff::Timestamp::from_second(began).unwrap_or_default();
        Self {
            began_at: began.to_string(),
            settings: settings(args, scenario),
            machine: Machine::here(),
        }
    }

    /// The test is over.
    pub(crate) fn close(self, report: Report, figures: &Figures, series: &Arc<Series>) -> Record {
        Record {
            schema: SCHEMA,
            program: concat!("loadtest ", env!("CARGO_PKG_VERSION")).to_owned(),
            began_at: self.began_at,
            command: command(),
            settings: self.settings,
            machine: self.machine,
            curves: Curves {
                added_up: curve(&figures.up_us),
                added_down: curve(&figures.down_us),
                clear: curve(&figures.clear_us),
                answer: curve(&figures.answer_us),
                own_late: curve(&figures.callers_late_us),
            },
            series: points(series, report.seconds),
            report,
        }
    }
}

impl Record {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is none, or of a kind that this program does not know.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let record: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no report of a load test", path.display()))?;
        if record.schema > SCHEMA {
            anyhow::bail!("{}: written by a newer program", path.display());
        }
        Ok(record)
    }

    /// As JSON.
    ///
    /// # Errors
    /// When a figure has no form in JSON.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        lines::to_string(self)
    }

    /// Whether memory stayed where it was; why that cannot be said.
    pub(crate) fn flatness(&self) -> Result<Flatness, String> {
        let readings: Vec<(f64, f64)> = self
            .series
            .iter()
            .filter(|point| point.sample.resident_mib > 0.0)
            .map(|point| (f64::from(point.at_s + point.seconds), point.sample.resident_mib))
            .collect();
        Flatness::judge(&readings)
    }
}

/// The command line, without the folder that the program lies in.
pub(crate) fn command() -> Vec<String> {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        let name = Path::new(program).file_name().and_then(|name| name.to_str());
        *program = name.unwrap_or("loadtest").to_owned();
    }
    words
}

/// Whatever decides what is measured.
fn settings(args: &RunArgs, scenario: &Scenario) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
    set("calls", scenario.calls().to_string());
    set("seconds", scenario.duration_s.to_string());
    set("audio", scenario.audio.as_str().to_owned());
    set("greeting", scenario.greeting.to_string());
    set("tls", scenario.tls.to_string());
    set("scenario", scenario.words());
    let cores = |cores: &Option<crate::system::Cores>| {
        cores.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string)
    };
    set("cores under load", cores(&args.relay_cores));
    set("own cores", cores(&args.own_cores));
    for (name, value) in &scenario.relay_env {
        set(name, value.clone());
    }
    settings
}

/// The series, ready to be written. What arrived after the measured time has no point.
fn points(series: &Series, seconds: f64) -> Vec<Point> {
    let (width, parts) = series.points();
    let mut points = Vec::with_capacity(parts.len());
    let mut at_s = 0;
    for part in &parts {
        let covered = (seconds - f64::from(at_s)).min(f64::from(width));
        if covered < 1.0 {
            break;
        }
        points.push(point(part, at_s, covered));
        at_s += width;
    }
    points
}

/// One point.
fn point(part: &Part, at_s: u32, covered: f64) -> Point {
    let sample = part.usage.unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^32")]
    let seconds = covered as u32;
    Point {
        at_s,
        seconds,
        up_ms: tail(&part.up_us),
        down_ms: tail(&part.down_us),
        late_ms: tail(&part.late_us),
        frames_up: round(float(part.up_us.len()) / covered),
        frames_down: round(float(part.frames_down) / covered),
        sample: Sample {
            cpu_percent: round(sample.cpu_percent),
            own_cpu_percent: round(sample.own_cpu_percent),
            resident_mib: round(sample.resident_mib),
            ..sample
        },
    }
}

fn tail(histogram: &Histogram<u32>) -> Option<Tail> {
    (!histogram.is_empty()).then(|| Tail {
        p50: ms(histogram.value_at_quantile(0.5)),
        p99: ms(histogram.value_at_quantile(0.99)),
        max: ms(histogram.max()),
    })
}

/// The percentile curve: ten points for every nine, up to where single values stand.
fn curve<T: Counter>(histogram: &Histogram<T>) -> Vec<(f64, f64)> {
    let mut curve = Vec::new();
    if histogram.is_empty() {
        return curve;
    }
    for step in 0..=70 {
        let rest = 10_f64.powf(-f64::from(step) / 10.0);
        if rest * float(histogram.len()) < 1.0 {
            break;
        }
        let quantile = 1.0 - rest;
        curve.push(((quantile * 1e8).round() / 1e8, ms(histogram.value_at_quantile(quantile))));
    }
    curve
}

/// To three digits after the point: more is noise.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The kind of file that this program writes.
pub(crate) const SCHEMA: u32 = 1;

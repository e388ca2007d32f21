//! What a scene comes to: figures with what was promised of each, as a table, JSON and a page.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::acts::Blow;
use super::judge::Findings;
use super::scenes::Bounds;
use crate::carrier::NOT_FROM_TWILIO;
use crate::report::machine::Machine;
use crate::report::record::command;
use crate::run::report::Quantiles;

/// A report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scene: String,
    command: Vec<String>,
    machine: Machine,
    about: &'static str,
    calls: u32,
    seconds: u64,
    figures: Vec<Figure>,
    blows: Vec<Blow>,
    problems: Vec<String>,
}

/// What is said of a scene besides what was found.
pub(super) struct Setting {
    /// Its name.
    pub(super) scene: String,
    /// Calls at once.
    pub(super) calls: u32,
    /// How long it took.
    pub(super) seconds: u64,
    /// The most sessions of the model that were opened in one second.
    pub(super) sessions_a_second: u64,
}

/// One figure, and what was promised.
#[derive(Debug, Serialize)]
struct Figure {
    what: &'static str,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
}

impl Figure {
    /// A figure that is no number keeps no promise.
    fn is_kept(&self) -> bool {
        self.at_most.is_none_or(|most| self.value <= most)
            && self.at_least.is_none_or(|least| self.value >= least)
    }

    /// The bound and whether it holds, in words; empty without one.
    fn verdict(&self) -> String {
        let bound = match (self.at_most, self.at_least) {
            (Some(most), _) => format!("at most {most}"),
            (None, Some(least)) => format!("at least {least}"),
            (None, None) => return String::new(),
        };
        format!("{bound}: {}", if self.is_kept() { "holds" } else { "BROKEN" })
    }

    /// The value without digits that mean nothing.
    fn shown(&self) -> String {
        let digits = match self.unit {
            "%" => 2,
            _ if self.value.fract() == 0.0 => 0,
            _ => 1,
        };
        format!("{:.digits$} {}", self.value, self.unit)
    }
}

/// Figures in the making.
struct Figures(Vec<Figure>);

impl Figures {
    fn say(&mut self, what: &'static str, value: f64, unit: &'static str) {
        self.0.push(Figure { what, value, unit, at_most: None, at_least: None });
    }

    fn most(&mut self, what: &'static str, value: f64, unit: &'static str, at_most: Option<f64>) {
        self.0.push(Figure { what, value, unit, at_most, at_least: None });
    }

    fn least(&mut self, what: &'static str, value: f64, unit: &'static str, at_least: Option<f64>) {
        self.0.push(Figure { what, value, unit, at_most: None, at_least });
    }

    /// Half and 99 of 100 of some times; of none nothing can be promised.
    fn times(&mut self, names: [&'static str; 2], times: &Histogram<u64>, most: [Option<f64>; 2]) {
        let quantiles = Quantiles::of(times);
        let [p50, p99] = most.map(|most| most.filter(|_| quantiles.count > 0));
        self.most(names[0], quantiles.p50, "ms", p50);
        self.most(names[1], quantiles.p99, "ms", p99);
    }
}

impl Report {
    /// Draws it up.
    pub(super) fn new(
        setting: Setting,
        found: Findings,
        blows: Vec<Blow>,
        bounds: &Bounds,
        more: Vec<String>,
    ) -> Self {
        let mut figures = Figures(Vec::new());
        counted(&mut figures, &found, bounds);
        timed(&mut figures, &found, bounds);
        figures.say(
            "model sessions opened, most in a second",
            setting.sessions_a_second as f64,
            "",
        );
        let asked: u64 = blows.iter().map(|blow| blow.newcomers).sum();
        if asked > 0 {
            let answered: u64 = blows.iter().map(|blow| blow.newcomers_answered).sum();
            let least = bounds.newcomers_share.map(|share| share * 100.0);
            figures.least("new calls meanwhile, answered", share(answered, asked), "%", least);
        }
        let problems = found.problems.into_iter().chain(more).collect();
        Self {
            scene: setting.scene,
            command: command(),
            machine: Machine::here(),
            about: NOT_FROM_TWILIO,
            calls: setting.calls,
            seconds: setting.seconds,
            figures: figures.0,
            blows,
            problems,
        }
    }

    /// Whether every promise was kept. A scene that struck nobody proves nothing.
    pub(super) fn is_kept(&self) -> bool {
        self.figures.iter().all(Figure::is_kept)
            && self.blows.iter().all(|blow| blow.problem.is_none())
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{}: {} calls, {} s\n", self.scene, self.calls, self.seconds);
        for figure in &self.figures {
            let (value, verdict) = (figure.shown(), figure.verdict());
            let _ = writeln!(text, "{:<46} {value:>12}   {verdict}", figure.what);
        }
        let _ = writeln!(text, "{:<46} {:>12}", "problems", self.problems.len());
        for problem in self.problems.iter().take(SHOWN_MAX) {
            let _ = writeln!(text, "  {problem}");
        }
        let _ = writeln!(text, "{}", self.about);
        text
    }

    /// One page.
    pub(super) fn page(&self) -> String {
        let mut rows = String::new();
        for figure in &self.figures {
            let (value, verdict) = (figure.shown(), figure.verdict());
            let what = escaped(figure.what);
            let _ = writeln!(rows, "<tr><td>{what}<td>{value}<td>{verdict}");
        }
        let problems: Vec<String> =
            self.problems.iter().map(|problem| format!("<li>{}", escaped(problem))).collect();
        format!(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{scene}</title>\n\
             <style>body{{font:15px sans-serif;margin:2em}}td{{padding:.2em 1em}}</style>\n\
             <h1>{scene}: {calls} calls</h1>\n<p><code>{command}</code></p>\n\
             <table>\n{rows}</table>\n<h2>Problems</h2>\n<ul>\n{problems}\n</ul>\n<p>{about}</p>\n",
            scene = escaped(&self.scene),
            calls = self.calls,
            command = escaped(&self.command.join(" ")),
            problems = problems.join("\n"),
            about = escaped(self.about),
        )
    }
}

/// What is counted.
fn counted(figures: &mut Figures, found: &Findings, bounds: &Bounds) {
    figures.least("calls that it concerned", found.struck as f64, "", Some(1.0));
    let alive = Some(bounds.alive_share * 100.0);
    figures.least("alive", share(found.alive, found.struck), "%", alive);
    figures.say("finished turns", found.turns as f64, "");
    figures.most("finished turns lost", found.turns_lost as f64, "", Some(0.0));
    figures.most("turns the next session was not told", found.turns_untold as f64, "", Some(0.0));
    figures.say("tool effects", found.effects as f64, "");
    figures.most("tool effects repeated", found.effects_repeated as f64, "", Some(0.0));
    figures.most("events lost (all calls)", found.events_missing as f64, "", Some(0.0));
    figures.most("events twice (all calls)", found.events_twice as f64, "", Some(0.0));
}

/// What is timed.
fn timed(figures: &mut Figures, found: &Findings, bounds: &Bounds) {
    if found.ends > 0 {
        let [speech_p50, speech_p99] =
            [bounds.speech_ms.map(|b| b.0), bounds.speech_ms.map(|b| b.1)];
        let names = ["first sound, p50 beyond the carrier", "first sound, p99 beyond the carrier"];
        figures.times(names, &found.sound, [None, bounds.sound_p99_ms]);
        let names = [
            "first agent speech, p50 beyond the carrier",
            "first agent speech, p99 beyond the carrier",
        ];
        figures.times(names, &found.speech, [speech_p50, speech_p99]);
        let names = [
            "first caller audio at the model, p50 beyond",
            "first caller audio at the model, p99 beyond",
        ];
        figures.times(names, &found.hearing, [None, None]);
        let names =
            ["between two streams, p50 beyond the carrier", "between two streams, p99 beyond"];
        figures.times(names, &found.gap, [None, bounds.gap_p99_ms]);
        let quiet = share(found.quiet_ends, found.ends);
        let least = bounds.outside_speech_share.map(|share| share * 100.0);
        figures.least("streams that ended while nobody spoke", quiet, "%", least);
        let back = found.all_back_us as f64 / 1_000.0;
        figures.most("the last call back after", back, "ms", bounds.all_back_ms);
    }
    let names = ["answer after a sentence before, p50", "answer after a sentence before, p99"];
    figures.times(names, &found.replies_before, [None, None]);
    if !found.replies_during.is_empty() {
        let names =
            ["answer after a sentence meanwhile, p50", "answer after a sentence meanwhile, p99"];
        figures.times(names, &found.replies_during, [None, None]);
    }
}

/// A part of a whole, in per cent; of nothing, nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Text as it may stand in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// As many problems as a person reads.
const SHOWN_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_its_promise_was_kept() {
        let mut figures = Figures(Vec::new());
        figures.least("alive", share(999, 1_000), "%", Some(99.9));
        figures.most("lost", 1.0, "", Some(0.0));
        figures.say("seen", 2.5, "ms");
        let said: Vec<_> =
            figures.0.iter().map(|figure| (figure.shown(), figure.verdict())).collect();
        let wanted =
            [("99.90 %", "at least 99.9: holds"), ("1 ", "at most 0: BROKEN"), ("2.5 ms", "")];
        assert_eq!(said, wanted.map(|(value, verdict)| (value.to_owned(), verdict.to_owned())));
    }

    #[test]
    fn times_of_nobody_break_no_promise() {
        let mut figures = Figures(Vec::new());
        let nobody = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        figures.times(["half", "most"], &nobody, [Some(0.0), Some(0.0)]);
        assert!(figures.0.iter().all(Figure::is_kept));
    }
}

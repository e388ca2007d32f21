//! How scenes went: figures, what was promised of each, and all of them as a table and as files.

use std::fmt::Write as _;

use serde::Serialize;

use super::EventsArgs;
use crate::clock;
use crate::report::machine::Machine;
use crate::report::record::command;

/// How a scene went.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    scene: String,
    figures: Vec<Figure>,
    /// What must not have happened and did, in words.
    pub(super) faults: Vec<String>,
    #[serde(skip)]
    judged: Judged,
}

/// What decides whether a scene went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// That everything came, and within what was promised.
    ByFigures,
    /// That everything came: the scene is a small one, on whatever machine.
    ByFaults,
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
    fn of(what: &'static str, value: f64, unit: &'static str) -> Self {
        Self { what, value, unit, at_most: None, at_least: None }
    }

    /// A figure that is no number keeps no promise.
    fn is_kept(&self) -> bool {
        self.at_most.is_none_or(|most| self.value <= most)
            && self.at_least.is_none_or(|least| self.value >= least)
    }

    fn bound(&self) -> String {
        match (self.at_most, self.at_least) {
            (Some(most), _) => format!("at most {most}"),
            (None, Some(least)) => format!("at least {least}"),
            (None, None) => String::new(),
        }
    }

    /// Whether the bound holds, in a word; empty without one.
    fn verdict(&self) -> &'static str {
        let is_bound = self.at_most.is_some() || self.at_least.is_some();
        match (is_bound, self.is_kept()) {
            (false, _) => "",
            (true, true) => "holds",
            (true, false) => "BROKEN",
        }
    }
}

impl Figures {
    /// Nothing has been measured.
    pub(super) fn of(scene: &str, args: &EventsArgs) -> Self {
        let judged = if args.quick { Judged::ByFaults } else { Judged::ByFigures };
        Self { scene: scene.to_owned(), figures: Vec::new(), faults: Vec::new(), judged }
    }

    /// A scene that could not be played to its end.
    pub(super) fn broken(scene: &str, args: &EventsArgs, why: String) -> Self {
        let mut figures = Self::of(scene, args);
        figures.faults.push(why);
        figures
    }

    /// A figure of which nothing was promised.
    pub(super) fn say(&mut self, what: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure::of(what, value, unit));
    }

    /// A figure that must not be higher.
    pub(super) fn promise(
        &mut self,
        what: &'static str,
        value: f64,
        unit: &'static str,
        at_most: f64,
    ) {
        let at_most = (self.judged == Judged::ByFigures).then_some(at_most);
        self.figures.push(Figure { at_most, ..Figure::of(what, value, unit) });
    }

    /// A figure that must not be lower.
    pub(super) fn promise_no_less(
        &mut self,
        what: &'static str,
        value: f64,
        unit: &'static str,
        at_least: f64,
    ) {
        let at_least = (self.judged == Judged::ByFigures).then_some(at_least);
        self.figures.push(Figure { at_least, ..Figure::of(what, value, unit) });
    }

    /// Whether everything that was promised is so.
    pub(super) fn are_kept(&self) -> bool {
        self.faults.is_empty() && self.figures.iter().all(Figure::is_kept)
    }

    /// Shows it in the terminal.
    #[expect(clippy::print_stdout, reason = "the result of a command")]
    pub(super) fn print(&self) {
        println!("{}", self.scene);
        for figure in &self.figures {
            let Figure { what, value, unit, .. } = figure;
            let (bound, verdict) = (figure.bound(), figure.verdict());
            println!("  {what:<44} {value:>12.1} {unit:<4} {bound:<16} {verdict}");
        }
        for fault in &self.faults {
            println!("  FAULT: {fault}");
        }
    }
}

/// All scenes of one run, and where and how it ran.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    program: &'static str,
    began_at: String,
    /// Empty where no git says it.
    commit: String,
    command: Vec<String>,
    machine: Machine,
    scenes: Vec<Figures>,
}

impl Record {
    /// The moment before the first scene.
    pub(super) fn begin() -> Self {
        let began = i64::try_from(clock::wall_us() / 1_000_000).unwrap_or_default();
        Self {
            program: concat!("loadtest ", env!("CARGO_PKG_VERSION")),
            began_at: jiff::Timestamp::from_second(began).unwrap_or_default().to_string(),
            commit: commit(),
            command: command(),
            machine: Machine::here(),
            scenes: Vec::new(),
        }
    }

    /// A scene is over.
    pub(super) fn add(&mut self, figures: Figures) {
        self.scenes.push(figures);
    }

    /// Whether every scene went as it was promised.
    pub(super) fn is_kept(&self) -> bool {
        self.scenes.iter().all(Figures::are_kept)
    }

    /// Every figure with its bound as a page of Markdown.
    pub(super) fn markdown(&self) -> String {
        let Self { began_at, command, machine, commit, .. } = self;
        let day = began_at.split('T').next().unwrap_or_default();
        let command = command.join(" ");
        let mut page = format!("# Events and voice webhooks, {day}\n\n```sh\n{command}\n```\n\n");
        // What a write into a String says is always that it was done.
        let _ = writeln!(
            page,
            "Machine: {}, {} cores, {} MiB, Linux {}, {}; load average before: {:.2}.\n\
             Commit: {commit}. Control's own binary on a PostgreSQL of the machine, with fsync; relays, \
             readers and carrier on the same cores.\n",
            machine.processor,
            machine.cores,
            machine.memory_mib,
            machine.kernel,
            machine.system,
            machine.load_before,
        );
        page.push_str("| scene | figure | value | bound | |\n|---|---|--:|---|---|\n");
        for scene in &self.scenes {
            for figure in &scene.figures {
                let Figure { what, value, unit, .. } = figure;
                let (bound, verdict) = (figure.bound(), figure.verdict());
                let name = &scene.scene;
                let _ =
                    writeln!(page, "| {name} | {what} | {value:.1} {unit} | {bound} | {verdict} |");
            }
            for fault in &scene.faults {
                let _ = writeln!(page, "| {} | FAULT: {fault} | | none | BROKEN |", scene.scene);
            }
        }
        page
    }
}

/// The commit that the folder stands at.
fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    match asked {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        // A figure is as good without it; whoever keeps the file writes it in.
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: EventsArgs,
    }

    fn args(words: &[&str]) -> EventsArgs {
        Line::parse_from(std::iter::once(&"events").chain(words)).args
    }

    #[test]
    fn a_broken_bound_or_a_fault_breaks_the_scene() {
        let mut figures = Figures::of("a scene", &args(&[]));
        figures.say("events", 5.0, "/s");
        figures.promise("late", 20.0, "ms", 20.0);
        figures.promise_no_less("delivered", 7.0, "/s", 7.0);
        assert!(figures.are_kept());
        figures.promise("late", f64::NAN, "ms", 20.0);
        assert!(!figures.are_kept(), "what could not be measured keeps no promise");
        let mut lost = Figures::of("a scene", &args(&[]));
        lost.faults.push("one is lost".to_owned());
        assert!(!lost.are_kept());
        assert!(!Figures::broken("a scene", &args(&[]), "no database".to_owned()).are_kept());
    }

    #[test]
    fn a_small_scene_is_judged_by_its_faults_alone() {
        let mut figures = Figures::of("a scene", &args(&["--quick"]));
        figures.promise("late", 900.0, "ms", 20.0);
        figures.promise_no_less("delivered", 1.0, "/s", 7.0);
        assert!(figures.are_kept());
        figures.faults.push("one is lost".to_owned());
        assert!(!figures.are_kept());
    }

    #[test]
    fn the_page_has_a_line_for_each_figure_with_its_bound() {
        let mut record = Record::begin();
        let mut figures = Figures::of("a scene", &args(&[]));
        figures.promise("late", 21.0, "ms", 20.0);
        figures.promise_no_less("delivered", 8.0, "/s", 7.0);
        record.add(figures);
        let page = record.markdown();
        assert!(page.contains("| a scene | late | 21.0 ms | at most 20 | BROKEN |"), "{page}");
        assert!(page.contains("| a scene | delivered | 8.0 /s | at least 7 | holds |"), "{page}");
        assert!(!record.is_kept());
    }
}

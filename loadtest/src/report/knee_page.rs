//! One HTML page for a search of the knee: delay and cost over the number of calls.

use std::fmt::Write as _;

use super::chart::{Axis, Chart, Line, Size, escape, number};
use super::machine::Machine;
use super::page::{figure, frame};
use super::page_text::quoted;
use super::record::command;
use crate::run::report::{Report, float};

/// What the page is made from.
pub(crate) struct KneeFigures<'a> {
    /// What was put under load.
    pub(crate) subject: &'a str,
    /// The result in a sentence.
    pub(crate) words: String,
    /// What the added delay may be, in milliseconds.
    pub(crate) bound_ms: f64,
    /// Every step that gave figures: how many calls, how it went, what came out.
    pub(crate) steps: Vec<(u32, &'static str, &'a Report)>,
}

/// The whole page.
pub(crate) fn knee_page(mut knee: KneeFigures<'_>) -> String {
    knee.steps.sort_by_key(|(calls, ..)| *calls);
    let body = format!(
        "<p><strong>{}</strong></p>\n<h2>Added delay, by calls</h2>\n<p>{READ}</p>\n{}\
         <h2>What it costs</h2>\n<div class=\"pair\">\n{}{}</div>\n{}{}",
        escape(&knee.words),
        figure("", &delays(&knee), ""),
        figure("CPU", &cpu(&knee), ""),
        figure("Memory", &memory(&knee), ""),
        table(&knee),
        machine()
    );
    frame(&format!("The knee: {}", knee.subject), &body)
}

/// The tails, and what they may be.
fn delays(knee: &KneeFigures<'_>) -> Chart {
    let bound = knee.steps.iter().map(|(calls, ..)| (f64::from(*calls), Some(knee.bound_ms)));
    let lines = vec![
        Line { class: "own", name: "what it may be".into(), points: bound.collect() },
        line(knee, "up", "caller to model, 99th percentile", |report| report.added_up_ms.p99),
        line(knee, "down", "model to caller, 99th percentile", |report| report.added_down_ms.p99),
    ];
    chart(knee, Size::Wide, "Added delay by calls", Axis::powers("ms", values(&lines)), lines)
}

fn cpu(knee: &KneeFigures<'_>) -> Chart {
    let lines = vec![
        line(knee, "own", "the load test itself", |report| report.own_cpu_percent),
        line(knee, "up", "under load", |report| report.relay.cpu_percent),
    ];
    chart(knee, Size::Half, "CPU by calls", Axis::from_zero("% of one core", values(&lines)), lines)
}

fn memory(knee: &KneeFigures<'_>) -> Chart {
    let lines = vec![line(knee, "up", "under load", |report| report.relay.resident_mib)];
    chart(
        knee,
        Size::Half,
        "Memory by calls",
        Axis::from_zero("MiB resident", values(&lines)),
        lines,
    )
}

/// A chart over the number of calls.
fn chart(knee: &KneeFigures<'_>, size: Size, title: &str, y: Axis, lines: Vec<Line>) -> Chart {
    let calls = knee.steps.iter().map(|(calls, ..)| f64::from(*calls));
    Chart { size, title: title.into(), x: Axis::from_zero("calls at once", calls), y, lines }
}

/// A line over the number of calls.
fn line(
    knee: &KneeFigures<'_>,
    class: &'static str,
    name: &str,
    of: impl Fn(&Report) -> f64,
) -> Line {
    let points = knee.steps.iter().map(|(calls, _, report)| (f64::from(*calls), Some(of(report))));
    Line { class, name: name.into(), points: points.collect() }
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| line.points.iter().filter_map(|point| point.1))
}

/// Every step.
fn table(knee: &KneeFigures<'_>) -> String {
    let mut html = "<h2>All steps</h2>\n<table>\n<tr><th>calls</th><th>p99 up, ms</th><th>p99 down, ms</th>\
                    <th>lost</th><th>CPU, %</th><th>own CPU, %</th><th>own lateness p99, ms</th><th></th></tr>\n"
        .to_owned();
    for (calls, how, report) in &knee.steps {
        let late = report.own_lateness_ms.callers.p99.max(report.own_lateness_ms.model.p99);
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{:.2}</td><td>{:.2}</td><td>{}</td><td>{:.0}</td><td>{:.0}</td>\
             <td>{late:.2}</td><td>{how}</td></tr>",
            number(f64::from(*calls)),
            report.added_up_ms.p99,
            report.added_down_ms.p99,
            number(float(report.counts.frames_lost())),
            report.relay.cpu_percent,
            report.own_cpu_percent,
        );
    }
    html + "</table>\n"
}

/// Where it ran, and how to run it again.
fn machine() -> String {
    let machine = Machine::here();
    let words: Vec<String> = command().iter().map(|word| quoted(word)).collect();
    format!(
        "<h2>The machine, and how to repeat this</h2>\n<p>{}, {} cores, {} GiB, {}, kernel {}</p>\n<pre>{}</pre>\n",
        escape(&machine.processor),
        machine.cores,
        number(float(machine.memory_mib) / 1_024.0),
        escape(&machine.system),
        escape(&machine.kernel),
        escape(&words.join(" "))
    )
}

/// How the chart is read.
const READ: &str = "Every point is a run of its own, with a fresh process. The knee is the last one \
                    below the dashed line that lost nothing.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_every_step_in_order() {
        let mut slow = Report::default();
        slow.added_up_ms.p99 = 31.25;
        let fast = Report::default();
        let steps = vec![(1_200, "too slow", &slow), (800, "carried", &fast)];
        let words = "800 calls were carried".to_owned();
        let page = knee_page(KneeFigures { subject: "relay", words, bound_ms: 20.0, steps });
        assert!(page.find("<td>800</td>") < page.find("<td>1,200</td>"), "{page}");
        assert!(page.contains("31.25") && page.contains("800 calls were carried"));
        assert!(!page.contains("://") && page.ends_with("</html>\n"));
    }
}

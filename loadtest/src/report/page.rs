//! One HTML page for a load test: figures, plots, the machine, and how to repeat it.
//!
//! It is whole in itself: no script, nothing is fetched, light and dark by the reader's setting.
//! `chart` draws, `page_text` puts figures into words.

use std::fmt::Write as _;

use super::chart::{Axis, Chart, Line, Size, escape};
use super::page_text as text;
use super::record::{Point, Record, Tail};

/// The whole page.
pub(crate) fn page(record: &Record) -> String {
    let mut html = String::new();
    html += &text::verdict(record);
    html += &text::warnings(record);
    html += &text::tiles(record);
    html += &distribution(record);
    if record.series.len() > 1 {
        html += &over_time(record);
        html += &costs(record);
        html += &traffic(record);
    }
    html += &text::tables(record);
    html += &text::repeat(record);
    frame(&text::title(record), &html)
}

/// A page with its look, a heading and what stands under it.
pub(super) fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{0}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n\
         {body}</main>\n</body>\n</html>\n",
        escape(title)
    )
}

/// The percentile curves.
fn distribution(record: &Record) -> String {
    let curves = &record.curves;
    let named = [
        ("own", "the load test's own lateness", &curves.own_late),
        ("up", "caller to model", &curves.added_up),
        ("down", "model to caller", &curves.added_down),
        ("down99", "end of a turn to first audio", &curves.answer),
    ];
    let shown: Vec<_> = named.into_iter().filter(|(_, _, curve)| !curve.is_empty()).collect();
    let values = shown.iter().flat_map(|(_, _, curve)| curve.iter().map(|point| point.1));
    let largest = shown.iter().filter_map(|(_, _, curve)| curve.last()).map(|point| point.0);
    let chart = Chart {
        size: Size::Wide,
        title: "Distribution of delays".into(),
        x: Axis::nines(largest.fold(0.0, f64::max)),
        y: Axis::powers("ms", values),
        lines: shown
            .iter()
            .map(|(class, name, curve)| Line {
                class,
                name: (*name).to_owned(),
                points: curve.iter().map(|(q, ms)| (Axis::nines_of(*q), Some(*ms))).collect(),
            })
            .collect(),
    };
    let what = if record.report.foreign { "Time to answer" } else { "Added delay" };
    format!("<h2>{what}, by percentile</h2>\n<p>{}</p>\n", text::READ_CURVE)
        + &figure("", &chart, "")
}

/// Delays over time, a chart for each way.
fn over_time(record: &Record) -> String {
    let html = delays(record, "Caller to model", ["upmax", "up99", "up50"], |point| point.up_ms)
        + &delays(record, "Model to caller", ["downmax", "down99", "down50"], |point| {
            point.down_ms
        });
    if html.is_empty() {
        return html;
    }
    format!(
        "<h2>Added delay over time</h2>\n<p>{}</p>\n<div class=\"pair\">\n{html}</div>\n",
        text::READ_TIME
    )
}

/// The delays of one way over time; nothing where none was measured.
fn delays(
    record: &Record,
    name: &str,
    [max, p99, p50]: [&'static str; 3],
    of: impl Fn(&Point) -> Option<Tail>,
) -> String {
    if record.series.iter().all(|point| of(point).is_none()) {
        return String::new();
    }
    let lines = vec![
        series("own", "own lateness, 99th", record, |point| point.late_ms.map(|ms| ms.p99)),
        series(max, "slowest", record, |point| of(point).map(|ms| ms.max)),
        series(p99, "99th percentile", record, |point| of(point).map(|ms| ms.p99)),
        series(p50, "median", record, |point| of(point).map(|ms| ms.p50)),
    ];
    // One scale for both ways, so that they can be compared.
    let values = record.series.iter().flat_map(|point| {
        let tails = [point.up_ms, point.down_ms, point.late_ms].into_iter().flatten();
        tails.flat_map(|tail| [tail.p50, tail.max])
    });
    let y = Axis::powers("ms", values);
    let chart = Chart {
        size: Size::Half,
        title: format!("{name}, over time"),
        x: Axis::time(length(record)),
        y,
        lines,
    };
    figure(name, &chart, "")
}

/// CPU and memory over time.
fn costs(record: &Record) -> String {
    if record.series.iter().all(|point| point.sample.resident_mib <= 0.0) {
        return String::new();
    }
    let cpu = chart_from_zero(
        record,
        ("CPU over time", "% of one core"),
        vec![
            series("own", "the load test itself", record, |point| {
                Some(point.sample.own_cpu_percent)
            }),
            series("up", "under load", record, |point| Some(point.sample.cpu_percent)),
        ],
    );
    let memory = chart_from_zero(
        record,
        ("Memory over time", "MiB resident"),
        vec![series("up", "under load", record, |point| Some(point.sample.resident_mib))],
    );
    let flat = record.flatness().map(|flat| flat.words()).unwrap_or_default();
    let threads = text::threads(record);
    format!(
        "<h2>What it costs</h2>\n<div class=\"pair\">\n{}{}</div>\n",
        figure("CPU", &cpu, &threads),
        figure("Memory", &memory, &flat)
    )
}

/// Frames and calls over time.
fn traffic(record: &Record) -> String {
    let frames = chart_from_zero(
        record,
        ("Frames over time", "frames a second"),
        vec![
            series("up", "arrived at the model", record, |point| Some(point.frames_up)),
            series("down", "heard by callers", record, |point| Some(point.frames_down)),
        ],
    );
    let calls = chart_from_zero(
        record,
        ("Calls over time", "calls up"),
        vec![series("up", "calls up", record, |point| Some(f64::from(point.sample.calls_up)))],
    );
    format!(
        "<h2>What went through</h2>\n<div class=\"pair\">\n{}{}</div>\n",
        figure("Frames", &frames, "A frame is 20 ms of one caller: 50 a second and call."),
        figure("Calls", &calls, "")
    )
}

/// A chart over time whose values start at 0.
fn chart_from_zero(record: &Record, (title, unit): (&str, &str), lines: Vec<Line>) -> Chart {
    let values = lines.iter().flat_map(|line| line.points.iter().filter_map(|point| point.1));
    let y = Axis::from_zero(unit, values);
    Chart { size: Size::Half, title: title.into(), x: Axis::time(length(record)), y, lines }
}

/// A line over time. A point stands at the end of its time.
fn series(
    class: &'static str,
    name: &str,
    record: &Record,
    of: impl Fn(&Point) -> Option<f64>,
) -> Line {
    let points =
        record.series.iter().map(|point| (f64::from(point.at_s + point.seconds), of(point)));
    Line { class, name: name.to_owned(), points: points.collect() }
}

/// How long the series is, in seconds.
fn length(record: &Record) -> f64 {
    record.series.last().map_or(1.0, |point| f64::from(point.at_s + point.seconds))
}

/// A chart with its heading, legend and words.
pub(super) fn figure(heading: &str, chart: &Chart, caption: &str) -> String {
    let mut html = "<figure>\n".to_owned();
    if !heading.is_empty() {
        let _ = writeln!(html, "<h3>{heading}</h3>");
    }
    html += "<div class=\"legend\">";
    // What matters most is drawn last, and named first.
    for line in chart.lines.iter().rev() {
        let _ = write!(
            html,
            "<span><svg viewBox=\"0 0 26 10\"><line class=\"{}\" x1=\"1\" y1=\"5\" x2=\"25\" y2=\"5\"/>\
             </svg>{}</span>",
            line.class,
            escape(&line.name)
        );
    }
    let _ = writeln!(html, "</div>\n{}", chart.svg());
    if !caption.is_empty() {
        let _ = writeln!(html, "<figcaption>{}</figcaption>", escape(caption));
    }
    html + "</figure>\n"
}

/// The look.
const CSS: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use quick_xml::events::Event;

    use super::super::record::{Curves, SCHEMA};
    use super::super::series::Sample;
    use super::*;

    /// A run of 90 seconds whose figures are easy to find again.
    fn record() -> Record {
        let mut record = Record {
            schema: SCHEMA,
            program: "loadtest 9.8.7".into(),
            began_at: "2026-11-24T10:00:00Z".into(),
            command: vec!["loadtest".into(), "run".into(), "it's <odd>".into()],
            curves: Curves {
                added_up: vec![(0.0, 0.2), (0.9, 0.7), (0.999, 4.0)],
                ..Curves::default()
            },
            ..Record::default()
        };
        let report = &mut record.report;
        (report.calls, report.seconds, report.audio) = (512, 90.0, "mulaw".into());
        report.counts.calls_up = 512;
        report.counts.frames_sent = 2_304_000;
        report.counts.frames_lost_up = 17;
        report.added_up_ms = crate::run::report::Quantiles {
            count: 2_304_000,
            p50: 0.31,
            p90: 1.5,
            p99: 4.75,
            max: 12.25,
        };
        report.relay.resident_mib = 43.0;
        report.relay.cpu_us_per_call_second = 640.0;
        report.warnings.push("a & b are \"busy\"".into());
        record.machine.processor = "Processor <X>".into();
        record.series = (0..90).map(point).collect();
        record
    }

    fn point(at_s: u32) -> Point {
        let tail = Tail { p50: 0.3, p99: 2.0, max: 5.0 + f64::from(at_s % 7) };
        let sample = Sample { cpu_percent: 33.0, resident_mib: 43.0, ..Sample::default() };
        Point {
            at_s,
            seconds: 1,
            up_ms: Some(tail),
            frames_up: 25_600.0,
            sample,
            ..Point::default()
        }
    }

    #[test]
    fn the_page_is_well_formed() {
        let page = page(&record());
        let mut reader = quick_xml::Reader::from_str(&page);
        let mut open = Vec::new();
        loop {
            let event = reader.read_event().unwrap();
            if let Event::Start(tag) = &event {
                open.push(tag.name().as_ref().to_vec());
            } else if let Event::End(tag) = &event {
                assert_eq!(open.pop().unwrap(), tag.name().as_ref());
            } else if event == Event::Eof {
                break;
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_page_is_whole_in_itself() {
        let page = page(&record());
        for outside in
            ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "://"]
        {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn the_page_holds_the_figures() {
        let page = page(&record());
        for figure in [
            "512 calls for 90 s",
            "17 frames were lost",
            "2,304,000",
            "0.31 / 4.8 <small>ms",
            "12.25",
            "0.64 <small>ms",
            "a &amp; b are &quot;busy&quot;",
            "Processor &lt;X&gt;",
            "loadtest run 'it'\\''s &lt;odd&gt;'",
            "Memory is flat",
        ] {
            assert!(page.contains(figure), "{figure}");
        }
        assert!(page.find("busy") < page.find("<svg"), "warnings come first");
    }

    #[test]
    fn a_report_of_an_older_kind_has_a_page_too() {
        let page = page(&serde_json::from_str::<Record>("{\"calls\": 3}").unwrap());
        assert!(page.contains("3 calls"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = record();
        assert_eq!(serde_json::from_str::<Record>(&record.json().unwrap()).unwrap(), record);
    }
}

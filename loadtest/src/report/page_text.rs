//! What the page says in words and tables.

use std::fmt::Write as _;

use super::chart::{escape, number};
use super::record::Record;
use crate::run::report::{Quantiles, float};

/// What was tested.
pub(crate) fn title(record: &Record) -> String {
    let report = &record.report;
    let subject = if report.subject.is_empty() { "relay" } else { &report.subject };
    format!("{} calls for {}: {subject}", number(f64::from(report.calls)), time(report.seconds))
}

/// The outcome in one line, and when it was.
pub(crate) fn verdict(record: &Record) -> String {
    let report = &record.report;
    let (class, words) = match report.counts.frames_lost() {
        _ if report.is_clean() && report.foreign => ("good", "Every call was answered.".to_owned()),
        _ if report.is_clean() => ("good", "No call and no frame was lost.".to_owned()),
        0 => ("bad", "Not everything was as it has to be: see the counts below.".to_owned()),
        lost => ("bad", format!("{} frames were lost or altered.", number(float(lost)))),
    };
    let day = record.began_at.replace('T', " ").replace('Z', " UTC");
    let program = escape(&record.program);
    format!(
        "<p><strong class=\"{class}\">{words}</strong> <span class=\"soft\">{day} &#183; {program}\
         </span></p>\n"
    )
}

/// What makes the figures doubtful, before any figure.
pub(crate) fn warnings(record: &Record) -> String {
    let warnings = &record.report.warnings;
    if warnings.is_empty() {
        return String::new();
    }
    let mut html = "<div class=\"warnings\" role=\"note\">\n<strong>Read these figures with care</strong>\n<ul>\n".to_owned();
    for warning in warnings {
        let _ = writeln!(html, "<li>{}</li>", escape(warning));
    }
    html + "</ul>\n</div>\n"
}

/// The figures that matter most.
pub(crate) fn tiles(record: &Record) -> String {
    let report = &record.report;
    let counts = &report.counts;
    let mut html = "<div class=\"tiles\">\n".to_owned();
    let mut tile = |name: &str, value: String, note: String| {
        let _ = writeln!(
            html,
            "<div class=\"tile\"><div class=\"name\">{name}</div><div class=\"value\">{value}</div>\
             <div class=\"note\">{note}</div></div>"
        );
    };
    let failed = number(float(counts.calls_failed));
    tile(
        "Calls at once",
        number(float(counts.calls_up)),
        format!("{failed} failed &#183; {}", escape(&report.audio)),
    );
    if !report.foreign {
        let frames = number(float(counts.frames_sent));
        let answers = number(float(counts.replies));
        tile(
            "Frames lost or altered",
            number(float(counts.frames_lost())),
            format!("of {frames} sent &#183; {answers} answers heard"),
        );
        tile("Added delay, caller to model", both(&report.added_up_ms), HALF_AND_TAIL.into());
        tile("Added delay, model to caller", both(&report.added_down_ms), HALF_AND_TAIL.into());
    } else {
        tile("End of a turn to first audio", both(&report.answer_ms), HALF_AND_TAIL.into());
    }
    if report.relay.resident_mib > 0.0 {
        tile(
            "CPU, a call and second",
            format!("{} <small>ms</small>", number(report.relay.cpu_us_per_call_second / 1_000.0)),
            format!("{} % of one core in all", number(report.relay.cpu_percent)),
        );
        tile(
            "Memory a call",
            format!("{} <small>KiB</small>", number(report.relay.resident_kib_per_call)),
            format!(
                "{} MiB in all &#183; {} before, {} after the calls",
                number(report.relay.resident_mib),
                number(report.relay.idle_mib),
                number(report.relay.after_mib)
            ),
        );
    }
    html + "</div>\n"
}

/// Median and 99th percentile.
fn both(q: &Quantiles) -> String {
    if q.count == 0 {
        return "&#8211;".to_owned();
    }
    format!("{} / {} <small>ms</small>", number(q.p50), number(q.p99))
}

/// Threads of the process under load, at the most.
pub(crate) fn threads(record: &Record) -> String {
    let threads = record.series.iter().map(|point| point.sample.threads).max().unwrap_or_default();
    if threads == 0 { String::new() } else { format!("{threads} threads at the most.") }
}

/// All distributions and counts.
pub(crate) fn tables(record: &Record) -> String {
    let report = &record.report;
    let mut html =
        "<h2>All figures</h2>\n<table>\n<tr><th>milliseconds</th><th>values</th><th>median</th>\
                    <th>90th</th><th>99th</th><th>slowest</th></tr>\n"
            .to_owned();
    let rows = [
        ("added delay, caller to model", &report.added_up_ms),
        ("added delay, model to caller", &report.added_down_ms),
        ("caller begins to speak, until the relay clears the answer", &report.clear_ms),
        ("heard of a cut answer, beyond what the model is told", &report.unclaimed_ms),
        ("start of a call to the agent's first audio", &report.first_audio_ms),
        ("end of a turn to first audio", &report.answer_ms),
        ("own lateness, callers", &report.own_lateness_ms.callers),
        ("own lateness, model", &report.own_lateness_ms.model),
    ];
    for (name, q) in rows.into_iter().filter(|(_, q)| q.count > 0) {
        let _ = writeln!(
            html,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            number(float(q.count)),
            exact(q.p50),
            exact(q.p90),
            exact(q.p99),
            exact(q.max)
        );
    }
    html + "</table>\n" + &counts(record)
}

/// The plain counts.
fn counts(record: &Record) -> String {
    let counts = &record.report.counts;
    let rows = [
        ("calls up", counts.calls_up),
        ("calls failed", counts.calls_failed),
        ("calls refused at the door", counts.calls_refused),
        ("calls ended in their time", counts.calls_ended),
        ("frames sent by callers", counts.frames_sent),
        ("frames lost on the way up", counts.frames_lost_up),
        ("frames lost at the end of calls", counts.frames_lost_at_end),
        ("messages that the relay did not take", counts.messages_refused),
        ("frames repeated on the way up", counts.frames_repeated_up),
        ("frames altered on the way up", counts.frames_altered_up),
        ("answers heard", counts.replies),
        ("frames of answers lost", counts.frames_lost_down),
        ("frames of answers altered", counts.frames_altered_down),
        ("interruptions", counts.barge_ins),
        ("interruptions without a clear", counts.barge_ins_unheard),
        ("cut answers of which too much is claimed", counts.overclaimed),
        ("turns without an answer", counts.unanswered),
    ];
    let mut html = "<table>\n<tr><th>counts</th><th></th></tr>\n".to_owned();
    for (name, count) in rows {
        let _ = writeln!(html, "<tr><td>{name}</td><td>{}</td></tr>", number(float(count)));
    }
    html + "</table>\n"
}

/// Where it ran, and how to run it again.
pub(crate) fn repeat(record: &Record) -> String {
    let machine = &record.machine;
    let mut html = "<h2>The machine, and how to repeat this</h2>\n<dl>\n".to_owned();
    let mut term = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
        }
    };
    term("processor", machine.processor.clone());
    if machine.cores > 0 {
        term("cores", format!("{}", machine.cores));
        term("memory", format!("{} GiB", number(float(machine.memory_mib) / 1_024.0)));
        term("load before", format!("{:.2} processes (one minute's average)", machine.load_before));
    }
    term("system", machine.system.clone());
    term("kernel", machine.kernel.clone());
    for (name, value) in &record.settings {
        term(name, value.clone());
    }
    let own = number(record.report.own_cpu_percent);
    term("CPU of the load test", format!("{own} % of one core, on the same machine"));
    html += "</dl>\n";
    if !record.command.is_empty() {
        let words: Vec<String> = record.command.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(html, "<pre>{}</pre>", escape(&words.join(" ")));
    }
    html
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Milliseconds in a table: as exact as they were measured.
fn exact(ms: f64) -> String {
    format!("{ms:.2}")
}

/// A length of time.
fn time(seconds: f64) -> String {
    if seconds >= 120.0 {
        return format!("{} minutes", number((seconds / 6.0).round() / 10.0));
    }
    format!("{} s", number(seconds))
}

/// Under the pairs of figures.
const HALF_AND_TAIL: &str = "median / 99th percentile";

/// How the percentile curve is read.
pub(crate) const READ_CURVE: &str = "How long the system under load holds audio on its way. At 99 % on the horizontal axis, one of \
     a hundred values is slower than the line says. Both axes are logarithmic. Where the dashed \
     line is as high as the others, the figures are the load test's own.";

/// How the series are read.
pub(crate) const READ_TIME: &str = "It is good when nothing moves: no trend, no waves, no spikes that come again. A spike that the \
     dashed line has too belongs to the machine or to the load test.";

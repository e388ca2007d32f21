//! The load test's figures as a table in the terminal.

use std::fmt::Write as _;

use crate::run::report::{Quantiles, Report};

/// The table.
pub(crate) fn table(report: &Report) -> String {
    let mut text = String::new();
    let counts = report.counts;
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<34} {value}");
    };
    line("under load", report.subject.clone());
    line(
        "calls, seconds, audio",
        format!("{}, {:.0}, {}", report.calls, report.seconds, report.audio),
    );
    line("", "   p50      p90      p99      max   (ms)".into());
    if report.foreign {
        line("end of a turn to first audio", quantiles(&report.answer_ms));
    } else {
        line("added delay up", quantiles(&report.added_up_ms));
        line("added delay down", quantiles(&report.added_down_ms));
        line("speech started to clear", quantiles(&report.clear_ms));
        line("heard, beyond what is claimed", quantiles(&report.unclaimed_ms));
    }
    if report.first_audio_ms.count > 0 {
        line("start to first audio", quantiles(&report.first_audio_ms));
    }
    line("own lateness, callers", quantiles(&report.own_lateness_ms.callers));
    line("own lateness, model", quantiles(&report.own_lateness_ms.model));
    line(
        "frames up: sent, lost, altered",
        three(counts.frames_sent, counts.frames_lost_up, counts.frames_altered_up),
    );
    line(
        "  at the end of calls, not taken",
        two(counts.frames_lost_at_end, counts.messages_refused),
    );
    line("answers heard", counts.replies.to_string());
    line("frames down: lost, altered", two(counts.frames_lost_down, counts.frames_altered_down));
    line("interruptions, without a clear", two(counts.barge_ins, counts.barge_ins_unheard));
    line("cut answers with too much claimed", counts.overclaimed.to_string());
    line(
        "calls up, failed, unanswered",
        three(counts.calls_up, counts.calls_failed, counts.unanswered),
    );
    line(
        "calls ended, refused, turned away",
        three(counts.calls_ended, counts.calls_refused, counts.calls_turned_away),
    );
    line(
        "CPU under load",
        format!(
            "{:.1} % of a core, {:.0} us a call and second",
            report.relay.cpu_percent, report.relay.cpu_us_per_call_second
        ),
    );
    line(
        "memory under load",
        format!(
            "{:.1} MiB, {:.1} KiB a call; {:.1} MiB before, {:.1} MiB after",
            report.relay.resident_mib,
            report.relay.resident_kib_per_call,
            report.relay.idle_mib,
            report.relay.after_mib
        ),
    );
    line("own CPU", format!("{:.1} % of a core", report.own_cpu_percent));
    for warning in &report.warnings {
        line("WARNING", warning.clone());
    }
    text
}

/// A line of the table.
fn quantiles(q: &Quantiles) -> String {
    format!(
        "{:>6.2}   {:>6.2}   {:>6.2}   {:>6.2}   ({} values)",
        q.p50, q.p90, q.p99, q.max, q.count
    )
}

/// Two counts.
fn two(a: u64, b: u64) -> String {
    format!("{a}, {b}")
}

/// Three counts.
fn three(a: u64, b: u64, c: u64) -> String {
    format!("{a}, {b}, {c}")
}

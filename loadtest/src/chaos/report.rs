//! What a chaos found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::ChaosArgs;
use super::call::CallSeen;
use super::cutter::{Cut, Struck};
use super::judge::{Session, judge};
use super::stage::{Fakes, Open, instructions};
use crate::model::{SessionEnd, SessionRecord};
use crate::run::report::Quantiles;

/// Everything that a chaos found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    seed: u64,
    seconds: u64,
    /// How many calls at once, and how many in all.
    calls_at_once: u32,
    calls: usize,
    /// Cuts, by how they were made.
    cuts: BTreeMap<&'static str, usize>,
    /// Sessions that the relay opened.
    sessions: usize,
    /// From a cut to a new session that is ready, in milliseconds; black holes apart, which nobody
    /// can notice at once.
    gap_ms: Quantiles,
    /// The same, of black holes.
    hole_gap_ms: Quantiles,
    /// How many times a finished turn was looked for in a rebuilt session.
    turns_checked: u64,
    /// Sentences that were not answered in time, in calls that had a black hole and in others:
    /// their sound was in a session that was cut before it could say that it had heard anything.
    unanswered_by_holes: u64,
    unanswered: u64,
    /// What was still open after the last call.
    left_open: Open,
    /// What the fake model had to complain of.
    complaints: Vec<String>,
    /// What was wrong with calls.
    problems: Vec<String>,
}

impl Report {
    /// Compares everything.
    pub(super) fn new(
        args: &ChaosArgs,
        calls: &[CallSeen],
        fakes: &Fakes,
        struck: &[Struck],
        left_open: Open,
        millis: u64,
    ) -> Self {
        let records = fakes.model.sessions();
        let complaints = fakes.model.summary().complaints;
        let complaints =
            complaints.into_iter().map(|one| format!("{}: {}", one.event, one.message));
        let mut cuts = BTreeMap::new();
        for one in struck {
            *cuts.entry(one.how.name()).or_default() += 1;
        }
        let holes: BTreeMap<&str, u64> = struck
            .iter()
            .filter(|one| one.how == Cut::BlackHole)
            .map(|one| (one.peer.as_str(), one.at_us))
            .collect();
        let mut gaps = Gaps::new();
        let (mut turns_checked, mut problems) = (0, Vec::new());
        let (mut unanswered, mut unanswered_by_holes) = (0, 0);
        for call in calls {
            let sessions = sessions_of(call, &records, &holes);
            let judgement = judge(call, &sessions);
            turns_checked += judgement.turns_checked;
            let hole = |session: &Session<'_>| holes.contains_key(session.record.peer.as_str());
            match sessions.iter().any(hole) {
                true => unanswered_by_holes += judgement.unanswered,
                false => unanswered += judgement.unanswered,
            }
            problems.extend(judgement.problems);
            gaps.measure(&sessions, &holes);
        }
        Self {
            seed: args.seed,
            seconds: millis / 1_000,
            calls_at_once: args.calls,
            calls: calls.len(),
            cuts,
            sessions: records.len(),
            gap_ms: Quantiles::of(&gaps.cuts_us),
            hole_gap_ms: Quantiles::of(&gaps.holes_us),
            turns_checked,
            unanswered_by_holes,
            unanswered,
            left_open,
            complaints: complaints.collect(),
            problems,
        }
    }

    /// Whether every call came through.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.left_open.is_empty() && self.complaints.is_empty()
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<34} {value}");
        };
        line("seed, seconds", format!("{}, {}", self.seed, self.seconds));
        line("calls, at once", format!("{}, {}", self.calls, self.calls_at_once));
        line("cuts", self.cuts.values().sum::<usize>().to_string());
        for (name, count) in &self.cuts {
            line(&format!("  {name}"), count.to_string());
        }
        line("sessions of the model", self.sessions.to_string());
        let gap = |q: &Quantiles| {
            format!("p50 {:.0}, p99 {:.0}, max {:.0} ({} values)", q.p50, q.p99, q.max, q.count)
        };
        line("gap after a cut (ms)", gap(&self.gap_ms));
        line("gap after a black hole (ms)", gap(&self.hole_gap_ms));
        line("finished turns looked for", self.turns_checked.to_string());
        line(
            "sentences without an answer",
            format!("{}, {} by black holes", self.unanswered, self.unanswered_by_holes),
        );
        let mut list = |name: &str, all: &[String]| {
            line(name, all.len().to_string());
            for one in all.iter().take(SHOWN_MAX) {
                line("", one.clone());
            }
        };
        list("left open", &self.left_open);
        list("complaints of the fake model", &self.complaints);
        list("problems", &self.problems);
        text
    }
}

/// The sessions of a call: those of its slot's agent, opened while it lasted.
fn sessions_of<'a>(
    call: &CallSeen,
    records: &'a [SessionRecord],
    holes: &BTreeMap<&str, u64>,
) -> Vec<Session<'a>> {
    let instructions = instructions(call.slot);
    let (from, to) = call.span_us;
    records
        .iter()
        .filter(|record| record.instructions == instructions)
        .filter(|record| (from..=to).contains(&record.opened_at_us))
        .map(|record| {
            let closed_us = record.closed_at_us.unwrap_or(u64::MAX);
            let hole_us = holes.get(record.peer.as_str()).copied().unwrap_or(u64::MAX);
            Session { record, cut_us: closed_us.min(hole_us) }
        })
        .collect()
}

/// How long nobody heard a caller.
struct Gaps {
    cuts_us: Histogram<u64>,
    holes_us: Histogram<u64>,
}

impl Gaps {
    /// Nothing yet.
    fn new() -> Self {
        let empty = || Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are right");
        Self { cuts_us: empty(), holes_us: empty() }
    }

    /// From each session that was cut while it spoke to the next one that is ready.
    fn measure(&mut self, sessions: &[Session<'_>], holes: &BTreeMap<&str, u64>) {
        for session in sessions {
            let closed = matches!(session.record.end, Some(SessionEnd::Closed(_)));
            let is_hole = holes.contains_key(session.record.peer.as_str());
            if (closed && !is_hole) || session.ready_us() > session.cut_us {
                continue;
            }
            let ready = sessions.iter().map(Session::ready_us).filter(|at| *at > session.cut_us);
            let Some(next) = ready.min().filter(|at| *at < u64::MAX) else { continue };
            let gaps = if is_hole { &mut self.holes_us } else { &mut self.cuts_us };
            gaps.saturating_record(next - session.cut_us);
        }
    }
}

/// As many problems as a person reads.
const SHOWN_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_from_a_cut_to_the_next_session() {
        let record = |ready: u64, end| SessionRecord {
            configured_at_us: Some(ready),
            end: Some(end),
            peer: format!("peer-{ready}"),
            ..SessionRecord::default()
        };
        let records = [
            record(100_000, SessionEnd::Left),
            record(650_000, SessionEnd::Lost),
            record(5_900_000, SessionEnd::Closed(1000)),
        ];
        let cuts = [600_000, 900_000, 9_000_000];
        let sessions: Vec<Session<'_>> =
            records.iter().zip(cuts).map(|(record, cut_us)| Session { record, cut_us }).collect();
        let holes = BTreeMap::from([("peer-650000", 900_000)]);
        let mut gaps = Gaps::new();
        gaps.measure(&sessions, &holes);
        let one = |histogram: &Histogram<u64>| (histogram.len(), histogram.max() / 10_000);
        assert_eq!((one(&gaps.cuts_us), one(&gaps.holes_us)), ((1, 5), (1, 500)));
    }
}

//! How long things took in the caller's ear, out of the fake Twilio's notes.

use crate::carrier::{CallRecord, What};

/// From the opened stream to the first sound of the agent, in milliseconds.
pub(crate) fn answer_ms(record: &CallRecord) -> Option<u64> {
    let opened = at(record, 0, |what| matches!(what, What::StreamOpened { .. }))?;
    let heard = at(record, opened, |what| *what == What::AgentHeard)?;
    Some(span_ms(record, opened, heard))
}

/// From the end of each thing the caller said to the agent's next sound, in milliseconds.
pub(crate) fn reply_ms(record: &CallRecord) -> Vec<u64> {
    let reply = |finished: usize| {
        let heard = at(record, finished, |what| *what == What::AgentHeard)?;
        Some(span_ms(record, finished, heard))
    };
    positions(record, |what| *what == What::CallerFinished).filter_map(reply).collect()
}

/// From the beginning of the interruption to silence, in milliseconds.
pub(crate) fn cut_ms(record: &CallRecord, cleared: usize) -> Option<u64> {
    let speaks = (0..cleared)
        .rev()
        .find(|at| matches!(record.notes[*at].what, What::CallerSpeaks { .. }))?;
    Some(span_ms(record, speaks, cleared))
}

/// Where the notes of one kind are.
pub(crate) fn positions(
    record: &CallRecord,
    wanted: impl Fn(&What) -> bool,
) -> impl Iterator<Item = usize> {
    record.notes.iter().enumerate().filter(move |(_, note)| wanted(&note.what)).map(|(at, _)| at)
}

/// The first note of a kind from a place on.
fn at(record: &CallRecord, from: usize, wanted: impl Fn(&What) -> bool) -> Option<usize> {
    positions(record, wanted).find(|at| *at >= from)
}

/// Milliseconds between two notes.
fn span_ms(record: &CallRecord, from: usize, to: usize) -> u64 {
    record.notes[to].at_us.saturating_sub(record.notes[from].at_us) / 1_000
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::carrier::Note;

    /// A record with notes at these milliseconds.
    pub(crate) fn record(notes: &[(u64, What)]) -> CallRecord {
        let note = |(ms, what): &(u64, What)| Note { at_us: ms * 1_000, what: what.clone() };
        CallRecord { notes: notes.iter().map(note).collect(), ..CallRecord::default() }
    }

    #[test]
    fn latencies_are_measured_in_the_callers_ear() {
        let speaks = || What::CallerSpeaks { text: String::new() };
        let record = record(&[
            (100, What::StreamOpened { stream: "MZ1".into() }),
            (400, What::AgentHeard),
            (2_000, speaks()),
            (3_000, What::CallerFinished),
            (3_700, What::AgentHeard),
            (6_000, speaks()),
            (6_250, What::Cleared { played_ms: 4_850, dropped_ms: 300 }),
            (8_000, What::CallerFinished),
            (8_800, What::AgentHeard),
        ]);
        assert_eq!(answer_ms(&record), Some(300));
        assert_eq!(reply_ms(&record), [700, 800]);
        assert_eq!(cut_ms(&record, 6), Some(250));
    }
}

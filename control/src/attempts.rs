//! What an agent that goes on after a lost stream is told of tools: which ones with effects were asked
//! for in the streams before, and what became of them. Pure.
//!
//! The model's service has forgotten the calls of the session that was lost, and its new one would ask
//! for the same thing again. What was intended and has no outcome may have been done: nobody knows.

use std::collections::BTreeMap;

use link::event::{ToolIntent, ToolOutcome, ToolUse};
use serde::Deserialize;

use crate::events::Record;

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Said {
    #[serde(rename = "tool.intended")]
    Intended(ToolIntent),
    #[serde(rename = "tool")]
    Used(ToolUse),
}

/// The types of records that say what was done with tools.
pub(crate) const KINDS: [&str; 2] = ["tool.intended", "tool"];

/// A note for the agent, from the records of its call in their order; `None` when there is nothing to
/// tell.
#[must_use]
pub fn note(records: &[Record]) -> Option<String> {
    let mut attempts: Vec<ToolIntent> = Vec::new();
    let mut outcomes: BTreeMap<String, ToolOutcome> = BTreeMap::new();
    for record in records {
        match read(record) {
            Some(Said::Intended(intent)) => attempts.push(intent),
            Some(Said::Used(used)) => drop(outcomes.insert(used.request, used.outcome)),
            None => {}
        }
    }
    // The newest are what an agent may be about to repeat.
    let skipped = attempts.len().saturating_sub(ATTEMPTS_MAX);
    let told: Vec<String> = attempts
        .iter()
        .skip(skipped)
        .filter_map(|ToolIntent { name, request }| {
            Some(format!("{name}: {}.", words(outcomes.get(request).copied())?))
        })
        .collect();
    if told.is_empty() {
        return None;
    }
    Some(format!("{BEFORE}\n{}\n{BEHIND}", told.join("\n")))
}

/// What became of it, in words; `None` when nothing was done.
fn words(outcome: Option<ToolOutcome>) -> Option<&'static str> {
    Some(match outcome {
        Some(ToolOutcome::Done) => "done",
        Some(ToolOutcome::Failed) => "it failed, perhaps after it had an effect",
        Some(ToolOutcome::TimedOut) => "no answer came in time; it may have been done",
        Some(ToolOutcome::Cancelled) => return None,
        None => "asked for when the line was lost; it may have been done",
    })
}

fn read(record: &Record) -> Option<Said> {
    if !KINDS.contains(&record.kind.as_str()) {
        return None;
    }
    let mut fields: serde_json::Value = serde_json::from_str(&record.data).ok()?;
    fields.as_object_mut()?.insert("type".to_owned(), record.kind.as_str().into());
    serde_json::from_value(fields).ok()
}

const BEFORE: &str = "The line was lost for a moment and the call goes on. You have already asked \
     for these tools in this call:";

const BEHIND: &str = "Do not ask for the same thing a second time. Where it is not known whether it \
     was done, say so and offer to check.";

/// Attempts that are told of.
const ATTEMPTS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Seq, split};
    use link::event::CallEvent;
    use link::id::WallTime;

    fn record(event: &CallEvent) -> Record {
        let (kind, data) = split(event);
        Record { seq: Seq(1), kind, call: None, generation: None, at: WallTime(0), data }
    }

    fn intended(name: &str, request: &str) -> Record {
        let (name, request) = (name.to_owned(), request.to_owned());
        record(&CallEvent::ToolIntended(ToolIntent { name, request }))
    }

    fn used(name: &str, request: &str, outcome: ToolOutcome) -> Record {
        let (name, request) = (name.to_owned(), request.to_owned());
        record(&CallEvent::Tool(ToolUse { name, request, outcome, after_ms: 1 }))
    }

    #[test]
    fn what_was_attempted_is_told_with_what_became_of_it() {
        let records = [
            intended("book_slot", "c1"),
            used("book_slot", "c1", ToolOutcome::Done),
            used("find_slot", "c2", ToolOutcome::Done),
            intended("charge", "c3"),
            used("charge", "c3", ToolOutcome::TimedOut),
            intended("mail", "c4"),
            used("mail", "c4", ToolOutcome::Cancelled),
            intended("mail", "c5"),
        ];
        let note = note(&records).unwrap();
        let lines: Vec<_> = note.lines().collect();
        assert_eq!(lines[1], "book_slot: done.");
        assert_eq!(lines[2], "charge: no answer came in time; it may have been done.");
        assert_eq!(lines[3], "mail: asked for when the line was lost; it may have been done.");
        assert_eq!(lines.len(), 5, "neither what changes nothing nor what was not done: {note}");
    }

    #[test]
    fn nothing_is_told_when_nothing_was_attempted() {
        assert_eq!(note(&[]), None);
        assert_eq!(note(&[used("find_slot", "c1", ToolOutcome::Done)]), None);
    }

    #[test]
    fn a_long_list_is_cut_and_fits_a_command() {
        let name = "x".repeat(64);
        let records: Vec<_> = (0..50).map(|n| intended(&name, &format!("c{n}"))).collect();
        let note = note(&records).unwrap();
        assert_eq!(note.lines().count(), ATTEMPTS_MAX + 2);
        assert!(note.len() < link::message::Command::TEXT_BYTES_MAX);
    }
}

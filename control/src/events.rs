//! Event records: what was committed, numbered for its tenant, as API users see it.
//!
//! Not here: who numbers them (`sequencer.rs`), who carries them to clients (`sse.rs`).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use link::id::{CallId, Gen, RunId, WallTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The place of a record in its tenant's stream: dense from 1, never reused. It is the id of the
/// SSE record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The place that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seq {
    type Err = std::num::ParseIntError;

    /// Reads a `Last-Event-ID`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(Self)
    }
}

/// One committed event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the tenant's stream.
    pub seq: Seq,
    /// What happened, as a stable word: `call.started`, `turn`, ...
    pub kind: String,
    /// The call it belongs to; `None` when a stream never proved one.
    pub call: Option<CallId>,
    /// The generation of the stream that said so; `None` without a call.
    pub generation: Option<Gen>,
    /// When it happened, by the clock of who said so.
    pub at: WallTime,
    /// What else is known, as the text of a JSON object.
    pub data: String,
}

impl Record {
    /// The record as the `data` line of its SSE message: one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Written by hand around the stored text: `data` is never parsed on its way to a client.
        let call = json_of(self.call.as_ref().map(CallId::as_str));
        let generation = json_of(self.generation.map(|generation| generation.0));
        format!(
            r#"{{"seq":{},"type":{},"call":{call},"generation":{generation},"at":"{}","data":{}}}"#,
            self.seq,
            json_of(&self.kind),
            rfc3339(self.at),
            self.data,
        )
    }

    /// Whether its data says that its call belongs to a run.
    #[must_use]
    pub fn names_run(&self, run: &RunId) -> bool {
        #[derive(Deserialize)]
        struct Said {
            run: Option<RunId>,
        }
        // Looked for as text first: most records say nothing of it, and parsing them is work.
        self.data.contains(run.as_str())
            && serde_json::from_str(&self.data)
                .is_ok_and(|said: Said| said.run.as_ref() == Some(run))
    }

    /// Bytes that the record takes on the wire, about: what clients' bounds count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        RECORD_BYTES + self.data.len()
    }
}

/// A moment as API users see it: RFC 3339 in UTC with microseconds.
#[must_use]
pub fn rfc3339(at: WallTime) -> String {
    let at = Timestamp::from_microsecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.6}")
}

/// What control itself says about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// What happened.
    pub(crate) kind: &'static str,
    /// When it was decided.
    pub(crate) at: WallTime,
    /// What else is known, as the text of a JSON object.
    pub(crate) data: String,
}

/// Splits a relay's event into its type and the text of its fields.
pub(crate) fn split(event: &impl Serialize) -> (String, String) {
    // Through a value, not a struct for each: a new event of the link needs no change here.
    let mut fields = match serde_json::to_value(event) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let kind = match fields.remove("type") {
        Some(Value::String(kind)) => kind,
        Some(_) | None => "unknown".to_owned(),
    };
    (kind, Value::Object(fields).to_string())
}

/// A value as the text of its JSON.
pub(crate) fn json_of(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_else(|_| "null".to_owned())
}

/// What a record's fixed fields and its SSE framing take, rounded up.
const RECORD_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use link::event::{BargeIn, CallEvent};

    #[test]
    fn a_record_is_one_line_of_json() {
        let (kind, data) = split(&CallEvent::BargeIn(BargeIn {
            item: "line\nbreak".into(),
            heard_ms: 480,
            sent_ms: 900,
            generated_ms: 2_000,
        }));
        let record = Record {
            seq: Seq(12),
            kind,
            call: Some(CallId::new("c_1").unwrap()),
            generation: Some(Gen(0)),
            at: WallTime(1_795_514_400_123_456),
            data,
        };
        let text = record.json();
        assert!(!text.contains('\n'));
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["seq"], 12);
        assert_eq!(json["type"], "barge_in");
        assert_eq!(json["at"], "2026-11-24T10:00:00.123456Z");
        assert_eq!(json["data"]["heard_ms"], 480);
        assert!(json["data"].get("type").is_none());
    }

    #[test]
    fn a_moment_outside_the_calendar_is_shown_not_fatal() {
        assert_eq!(rfc3339(WallTime(i64::MAX)), "1970-01-01T00:00:00.000000Z");
    }
}

//! Calls of tools and their results: each call one, in every session that knows the call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relay::call::input::ToolId;
use relay::call::moment::Moment;
use relay::call::output::Recalled;

/// The tools' side of the books.
#[derive(Debug, Default)]
pub(super) struct Tools {
    running: BTreeSet<ToolId>,
    /// By session: calls that it knows, and since when they wait for their result.
    open: BTreeMap<(usize, String), Moment>,
    answered: BTreeSet<(usize, String)>,
}

impl Tools {
    /// The relay hears that a tool is called.
    pub(super) fn called(&mut self, conn: usize, call: &str, name: &str, now: Moment) {
        // The end of the call is its result, or the caller's objection.
        if name != "hang_up" {
            self.open.insert((conn, call.to_owned()), now);
        }
    }

    /// A tool runs.
    pub(super) fn runs(&mut self, id: ToolId, name: &str) {
        assert_eq!(name, "find_slot", "only the owner's tools run");
        assert!(self.running.insert(id), "a tool runs once");
    }

    /// Nobody waits for a tool any more.
    pub(super) fn dropped(&mut self, id: ToolId) {
        assert!(self.running.remove(&id), "a tool is dropped that does not run");
    }

    /// The relay is about to hear that a tool has ended; says whether it waits for that.
    pub(super) fn ends(&mut self, id: ToolId) -> bool {
        self.running.remove(&id)
    }

    /// Whether any runs.
    pub(super) fn are_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// A session is told something.
    pub(super) fn recalled(&mut self, conn: usize, recalled: &Recalled<'_>, now: Moment) {
        match recalled {
            Recalled::Call { call, name, .. } if *name != "hang_up" => {
                self.open.insert((conn, (*call).to_owned()), now);
            }
            Recalled::Result { call, .. } => {
                let key = (conn, (*call).to_owned());
                self.open.remove(&key);
                assert!(self.answered.insert(key), "a second result of {call}");
            }
            _ => {}
        }
    }

    /// No call waits for its result for longer than a tool may take.
    pub(super) fn look(&self, speaker: Option<usize>, now: Moment) {
        for ((conn, call), since) in &self.open {
            if Some(*conn) == speaker {
                let waited = now.since(*since);
                assert!(waited <= RESULT_MAX, "{call} waits for its result for {waited:?}");
            }
        }
    }

    /// The call is over.
    pub(super) fn ended(&self) {
        assert!(self.running.is_empty(), "tools run after the end: {:?}", self.running);
    }
}

/// The tool's own time-out, what the relay adds, and a late look at the clock.
const RESULT_MAX: Duration = Duration::from_millis(6_000);

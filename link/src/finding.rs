//! What a `doctor` command of either process finds: a line for each thing that was looked at, and
//! what to do about it. For people and for programs.

use std::fmt::Write as _;

use serde_json::json;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Calls are carried, and something is worth a look.
    Warning,
    /// Calls will fail.
    Failed,
}

impl State {
    /// The word that is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How it is.
    pub state: State,
    /// The same in words. Never holds a secret.
    pub words: String,
    /// What to do about it; empty when nothing is to be done.
    pub mend: String,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn ok(what: impl Into<String>, words: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Ok, words: words.into(), mend: String::new() }
    }

    /// Worth a look.
    #[must_use]
    pub fn warning(
        what: impl Into<String>,
        words: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (what, words, mend) = (what.into(), words.into(), mend.into());
        Self { what, state: State::Warning, words, mend }
    }

    /// What makes calls fail.
    #[must_use]
    pub fn failed(
        what: impl Into<String>,
        words: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { state: State::Failed, ..Self::warning(what, words, mend) }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of a call's way.
    pub findings: Vec<Finding>,
}

impl Report {
    /// What there is to say when not even a runtime can be had.
    #[must_use]
    pub fn of_nothing(error: &std::io::Error) -> Self {
        let mend = "look at the limits of open files and processes (`ulimit -a`)";
        Self { findings: vec![Finding::failed("this machine", error.to_string(), mend)] }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.count(State::Failed) == 0
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    /// For people: a line for each thing, and what to do below it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { what, state, words, mend } in &self.findings {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{:<8} {what}: {}", state.as_str(), indented(words));
            if !mend.is_empty() {
                let _ = writeln!(text, "         -> {}", indented(mend));
            }
        }
        let [failed, warnings, ok] =
            [State::Failed, State::Warning, State::Ok].map(|state| self.count(state));
        let _ = writeln!(text, "\n{failed} failed, {warnings} to look at, {ok} ok");
        text
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> String {
        let finding = |Finding { what, state, words, mend }: &Finding| json!({"what": what, "state": state.as_str(), "words": words, "mend": mend});
        let findings: Vec<_> = self.findings.iter().map(finding).collect();
        format!("{:#}\n", json!({"well": self.is_well(), "findings": findings}))
    }
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n         ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_from_the_top_and_ends_with_its_sum() {
        let findings = vec![
            Finding::ok("settings", "node n1"),
            Finding::failed("agent", "refused", "give a key"),
            Finding::warning("clock", "3 s ahead", "set it"),
        ];
        let report = Report { findings };
        assert!(!report.is_well());
        assert_eq!(
            report.text(),
            "ok       settings: node n1\n\
             failed   agent: refused\n         -> give a key\n\
             warning  clock: 3 s ahead\n         -> set it\n\n\
             1 failed, 1 to look at, 1 ok\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["well"], false);
        assert_eq!(json["findings"][1]["mend"], "give a key");
    }
}

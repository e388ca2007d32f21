//! The committed counts, and what is said about new ones.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// `bench/instructions.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Where it was counted.
    pub machine: Machine,
    /// Instructions of one round of each piece, by its name.
    pub instructions: BTreeMap<String, u64>,
}

/// What a count depends on besides the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The instruction set, as Rust calls it.
    pub architecture: String,
    /// What `rustc --version` says.
    pub compiler: String,
    /// What `valgrind --version` says.
    pub valgrind: String,
}

/// How a new count compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// One line a piece.
    pub lines: Vec<String>,
    /// What must not be: pieces that cost more, pieces without a baseline, ones that are gone.
    pub complaints: Vec<String>,
    /// Whether something costs so much less that the baseline should keep it.
    pub is_cheaper: bool,
}

/// A piece may cost so much more, in per cent.
const MORE_PERCENT_MAX: u64 = 5;

/// And so many instructions: a register that is spilled in a piece of fifty is no news.
const MORE_MAX: u64 = 8;

impl Baseline {
    /// Compares new counts with the committed ones.
    #[must_use]
    pub fn judge(&self, counted: &[(&str, u64)]) -> Verdict {
        let mut verdict = Verdict { lines: Vec::new(), complaints: Vec::new(), is_cheaper: false };
        for (name, new) in counted {
            let Some(old) = self.instructions.get(*name) else {
                verdict.lines.push(format!("{name:<28} {:>8} {new:>8}", "-"));
                verdict.complaints.push(format!("{name} is new: {new} instructions"));
                continue;
            };
            let change = Change { old: *old, new: *new };
            verdict.lines.push(format!("{name:<28} {old:>8} {new:>8} {change:>8}"));
            if change.is_too_much() {
                verdict.complaints.push(format!("{name}: {old} -> {new} instructions ({change})"));
            }
            verdict.is_cheaper |= change.turned().is_too_much();
        }
        let gone = self.instructions.keys().filter(|old| !counted.iter().any(|(n, _)| n == old));
        verdict.complaints.extend(gone.map(|name| format!("{name} is not counted any more")));
        verdict
    }

    /// The file's text.
    ///
    /// # Errors
    /// Never: names and numbers can be written.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        let mut text = String::from(HEAD);
        let body = toml::to_string(self)?;
        let _ = write!(text, "{body}");
        Ok(text)
    }
}

const HEAD: &str = "\
# Instructions of one round of each hot-path piece, counted by callgrind: `make bench-baseline` writes
# this file, `make check-long` fails when a piece costs 5 % more. What is fixed: bench/src/counts.rs.

";

/// From one count to another.
#[derive(Debug, Clone, Copy)]
struct Change {
    old: u64,
    new: u64,
}

impl Change {
    fn is_too_much(self) -> bool {
        self.new * 100 > self.old * (100 + MORE_PERCENT_MAX) && self.new > self.old + MORE_MAX
    }

    fn turned(self) -> Self {
        Self { old: self.new, new: self.old }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.new as f64 / self.old as f64 - 1.0) * 100.0;
        f.pad(&format!("{percent:+.1} %"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(of: &[(&str, u64)]) -> Baseline {
        let machine = Machine {
            architecture: "x86_64".into(),
            compiler: "rustc 1.95.0".into(),
            valgrind: "valgrind-3.19.0".into(),
        };
        let instructions = of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        Baseline { machine, instructions }
    }

    #[test]
    fn five_per_cent_more_are_not_taken() {
        let baseline = baseline(&[("up", 1_000), ("down", 2_000)]);
        assert_eq!(baseline.judge(&[("up", 1_050), ("down", 2_100)]).complaints, [""; 0]);
        let verdict = baseline.judge(&[("up", 1_051), ("down", 2_000)]);
        assert_eq!(verdict.complaints, ["up: 1000 -> 1051 instructions (+5.1 %)"]);
        assert!(!verdict.is_cheaper);
    }

    #[test]
    fn a_few_instructions_of_a_tiny_piece_are_taken() {
        let baseline = baseline(&[("tick", 40)]);
        assert_eq!(baseline.judge(&[("tick", 48)]).complaints, [""; 0]);
        assert_eq!(baseline.judge(&[("tick", 49)]).complaints.len(), 1);
    }

    #[test]
    fn what_costs_less_is_worth_keeping() {
        assert!(baseline(&[("up", 1_000)]).judge(&[("up", 900)]).is_cheaper);
        assert!(!baseline(&[("up", 1_000)]).judge(&[("up", 990)]).is_cheaper);
    }

    #[test]
    fn a_piece_that_is_new_or_gone_is_said() {
        let verdict = baseline(&[("up", 1_000)]).judge(&[("down", 1)]);
        assert_eq!(
            verdict.complaints,
            ["down is new: 1 instructions", "up is not counted any more"]
        );
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let baseline = baseline(&[("messages/up", 1_000)]);
        let text = baseline.text().unwrap();
        assert_eq!(toml::from_str::<Baseline>(&text).unwrap(), baseline);
    }
}

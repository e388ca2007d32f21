//! A canary: one version, or one node, that gets a share of new calls of its own, so that it can be
//! watched before it gets more. Pure.
//!
//! Which calls it gets follows from their ids alone: a question that is asked again gets the same
//! answer on every instance, and a call that it gets at some share it also gets at every larger one.

use link::id::{CallId, NodeId};

use super::placement::lot;

/// What gets a share of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All nodes of this software, as they say it.
    Version(String),
    /// This node.
    Node(NodeId),
}

impl Subject {
    /// What kind of thing it is, as it is stored.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Node(_) => "node",
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Version(version) => version,
            Self::Node(node) => node.as_str(),
        }
    }

    /// Reads back what was stored; `None` for what another release has stored.
    #[must_use]
    pub fn read(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "version" => Self::version(name),
            "node" => NodeId::new(name).ok().map(Self::Node),
            _ => None,
        }
    }

    /// A version by its words; `None` when no relay could say them.
    #[must_use]
    pub fn version(words: &str) -> Option<Self> {
        let fits = !words.is_empty() && words.len() <= VERSION_BYTES_MAX;
        let is_text = !words.chars().any(char::is_control);
        (fits && is_text).then(|| Self::Version(words.to_owned()))
    }
}

/// A share of calls, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// Takes a number as a share; `None` above 100.
    #[must_use]
    pub fn new(percent: u8) -> Option<Self> {
        (percent <= 100).then_some(Self(percent))
    }

    /// The number, 0 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// What gets a share of its own, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What it is.
    pub subject: Subject,
    /// Its share of new calls. With 0 it gets none, not even when nothing else is free.
    pub percent: Percent,
}

impl Canary {
    /// The side that a call belongs to.
    #[must_use]
    pub fn side_of_call(&self, call: &CallId) -> Side {
        let is_drawn = lot(self.subject.name(), call) % 100 < u64::from(self.percent.0);
        if is_drawn { Side::Canary } else { Side::Rest }
    }
}

/// The two sides that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Everything else.
    Rest,
    /// What is tried.
    Canary,
}

impl Side {
    /// The side of a node.
    #[must_use]
    pub fn of(canary: Option<&Canary>, node: &NodeId, software: &str) -> Self {
        let is_tried = canary.is_some_and(|canary| match &canary.subject {
            Subject::Version(version) => version == software,
            Subject::Node(tried) => tried == node,
        });
        if is_tried { Self::Canary } else { Self::Rest }
    }

    /// The word, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Canary => "canary",
        }
    }

    /// Reads back what [`Side::as_str`] wrote.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        [Self::Rest, Self::Canary].into_iter().find(|side| side.as_str() == word)
    }
}

/// The longest version that a canary may have: no release of ours comes near.
const VERSION_BYTES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u32) -> CallId {
        CallId::new(format!("c_{n:032x}")).unwrap()
    }

    fn canary(percent: u8) -> Canary {
        let subject = Subject::version("linecard-relay 0.2.0").unwrap();
        Canary { subject, percent: Percent::new(percent).unwrap() }
    }

    #[test]
    fn a_share_is_what_it_says_and_a_larger_one_keeps_its_calls() {
        let drawn = |percent: u8| {
            let canary = canary(percent);
            let is_drawn = |n: &u32| canary.side_of_call(&call(*n)) == Side::Canary;
            (0..20_000).filter(is_drawn).collect::<Vec<_>>()
        };
        assert!(drawn(0).is_empty());
        assert_eq!(drawn(100).len(), 20_000);
        let (few, more) = (drawn(5), drawn(20));
        // Five standard deviations, of a thousand and of four thousand.
        assert!(few.len().abs_diff(1_000) < 155, "{}", few.len());
        assert!(more.len().abs_diff(4_000) < 285, "{}", more.len());
        assert!(few.iter().all(|n| more.contains(n)));
    }

    #[test]
    fn a_node_is_tried_by_its_version_or_its_name() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let version = canary(5);
        assert_eq!(Side::of(Some(&version), &a, "linecard-relay 0.2.0"), Side::Canary);
        assert_eq!(Side::of(Some(&version), &a, "linecard-relay 0.1.0"), Side::Rest);
        let node = Canary { subject: Subject::Node(a.clone()), ..version };
        assert_eq!(Side::of(Some(&node), &a, "linecard-relay 0.1.0"), Side::Canary);
        assert_eq!(Side::of(Some(&node), &b, "linecard-relay 0.1.0"), Side::Rest);
        assert_eq!(Side::of(None, &a, "linecard-relay 0.1.0"), Side::Rest);
    }

    #[test]
    fn what_is_stored_is_read_back_and_what_is_no_share_is_none() {
        let node = Subject::Node(NodeId::new("fra-1").unwrap());
        for subject in [canary(1).subject, node] {
            assert_eq!(Subject::read(subject.kind(), subject.name()), Some(subject));
        }
        assert_eq!(Subject::read("region", "fra"), None);
        assert_eq!(Subject::version(""), None);
        assert_eq!(Subject::version("a\u{0}b"), None);
        assert_eq!(Subject::version(&"x".repeat(101)), None);
        for side in [Side::Rest, Side::Canary] {
            assert_eq!(Side::read(side.as_str()), Some(side));
        }
        assert_eq!((Percent::new(100).map(Percent::get), Percent::new(101)), (Some(100), None));
    }
}

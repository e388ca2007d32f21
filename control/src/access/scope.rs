//! What a key may do: scopes like `calls:read`, and which of them a request needs.
//!
//! What a request needs follows from its method and path, in one place: a route that nobody
//! thought of is closed to every key that was not given everything.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use http::Method;

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It is looked at.
    Read,
    /// It is made, changed, or told to do something.
    Write,
}

/// One right: an action on a resource of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The resource, as the first word of its path.
    pub resource: &'static str,
    /// What may be done to it.
    pub action: Action,
}

/// The resources of the API. `*` opens those of later releases, too.
pub const RESOURCES: [&str; 14] = [
    "agents",
    "audit",
    "calls",
    "do_not_call",
    "events",
    "keys",
    "nodes",
    "numbers",
    "runs",
    "search",
    "sessions",
    "tenant",
    "usage",
    "webhooks",
];

/// A text that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a scope")]
pub struct BadScope;

impl Scope {
    /// The right that a request needs; `None` when no single scope gives it.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        let mut words = path.strip_prefix("/v1/")?.split('/');
        let word = words.next()?;
        let resource = RESOURCES.into_iter().find(|known| *known == word)?;
        // A ticket shows its bearer events and nothing else: whoever may read may hand it on.
        let is_ticket = resource == "events" && words.next() == Some("tickets");
        let reads = matches!(*method, Method::GET | Method::HEAD) || is_ticket;
        Some(Self { resource, action: if reads { Action::Read } else { Action::Write } })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Read => "read",
            Action::Write => "write",
        };
        write!(f, "{}:{action}", self.resource)
    }
}

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        let (word, action) = text.split_once(':').ok_or(BadScope)?;
        let resource = RESOURCES.into_iter().find(|known| *known == word).ok_or(BadScope)?;
        let action = match action {
            "read" => Action::Read,
            "write" => Action::Write,
            _ => return Err(BadScope),
        };
        Ok(Self { resource, action })
    }
}

/// All rights of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scopes {
    /// Everything of its tenant.
    All,
    /// These.
    Some(BTreeSet<Scope>),
}

impl Scopes {
    /// Reads a list; `*` is everything.
    ///
    /// # Errors
    /// When it is empty or one of its words is no scope.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, BadScope> {
        let mut scopes = BTreeSet::new();
        let mut all = false;
        for word in words {
            if word == "*" {
                all = true;
            } else {
                scopes.insert(word.parse()?);
            }
        }
        match (all, scopes.is_empty()) {
            (true, _) => Ok(Self::All),
            (false, true) => Err(BadScope),
            (false, false) => Ok(Self::Some(scopes)),
        }
    }

    /// Reads what was stored. A word of a newer release gives nothing here and does not spoil the
    /// rest.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        let words = text.split(' ');
        if words.clone().any(|word| word == "*") {
            return Self::All;
        }
        Self::Some(words.filter_map(|word| word.parse().ok()).collect())
    }

    /// Whether they include a right.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        match self {
            Self::All => true,
            Self::Some(scopes) => scopes.contains(&scope),
        }
    }

    /// Whether they include all of the others: nobody hands on what they do not have.
    #[must_use]
    pub fn cover(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::All, _) => true,
            (Self::Some(_), Self::All) => false,
            (Self::Some(mine), Self::Some(theirs)) => theirs.is_subset(mine),
        }
    }

    /// The list, in order, as it is shown.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::All => vec!["*".to_owned()],
            Self::Some(scopes) => scopes.iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(method: Method, path: &str) -> Option<String> {
        Scope::of(&method, path).map(|scope| scope.to_string())
    }

    #[test]
    fn what_a_request_needs_follows_from_method_and_path() {
        let needs = |method, path| needs(method, path).unwrap_or_default();
        assert_eq!(needs(Method::GET, "/v1/calls/c_1/transcript"), "calls:read");
        assert_eq!(needs(Method::POST, "/v1/calls/c_1/hang_up"), "calls:write");
        assert_eq!(needs(Method::DELETE, "/v1/keys/k"), "keys:write");
        assert_eq!(needs(Method::POST, "/v1/events/tickets"), "events:read");
        assert_eq!(needs(Method::GET, "/v1/nothing"), "");
        assert_eq!(needs(Method::GET, "/other"), "");
    }

    #[test]
    fn every_scope_is_read_as_it_is_written() {
        for resource in RESOURCES {
            for action in [Action::Read, Action::Write] {
                let scope = Scope { resource, action };
                assert_eq!(scope.to_string().parse(), Ok(scope));
            }
        }
        for bad in ["", "calls", "calls:", "calls:all", "call:read", "*:read"] {
            assert_eq!(bad.parse::<Scope>(), Err(BadScope), "{bad}");
        }
    }

    #[test]
    fn nobody_covers_more_than_they_have() {
        let read = |words: &[&str]| Scopes::read(words.iter().copied()).unwrap();
        let (all, both, one) =
            (read(&["*"]), read(&["calls:read", "events:read"]), read(&["calls:read"]));
        assert!(all.cover(&both) && both.cover(&one) && both.cover(&both));
        assert!(!both.cover(&all) && !one.cover(&both));
        assert_eq!(Scopes::read([]), Err(BadScope));
        assert_eq!(read(&["*", "calls:read"]), Scopes::All);
        assert_eq!(both.words(), ["calls:read", "events:read"]);
        assert_eq!(Scopes::stored("calls:read events:read songs:read"), both);
        assert_eq!(Scopes::stored("*"), all);
        assert!(!Scopes::stored("").cover(&one));
    }
}

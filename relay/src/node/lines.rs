//! The controls that are reached, and which of them takes events. Pure.
//!
//! Each control says whether it numbers events, and in which term. Two may say so for a moment: one
//! has lost the lease and does not know it yet. The higher term is right.

use std::collections::BTreeMap;

use link::id::ControlId;
use link::secret::Secret;
use link::ticket::VerifyingKey;

/// The lines that are up.
#[derive(Debug, Default)]
pub(super) struct Lines {
    next: u64,
    up: BTreeMap<LineId, Line>,
}

/// One connection to one control; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineId(u64);

/// Who takes events: this line, in this term of its control.
pub(super) type Taker = (LineId, u64);

#[derive(Debug)]
struct Line {
    /// `None` when it does not say: then it is the only one.
    control: Option<ControlId>,
    term: Option<u64>,
    keys: Vec<VerifyingKey>,
    signatures: Vec<Secret>,
}

/// A control that is reached already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Twin;

impl Lines {
    /// A control has let us in. `term` is what is known of it before it says so.
    pub(super) fn begin(
        &mut self,
        control: Option<ControlId>,
        term: Option<u64>,
    ) -> Result<LineId, Twin> {
        let is_here = control.is_some() && self.up.values().any(|line| line.control == control);
        if is_here {
            return Err(Twin);
        }
        let id = LineId(self.next);
        self.next += 1;
        let line = Line { control, term, keys: Vec::new(), signatures: Vec::new() };
        self.up.insert(id, line);
        Ok(id)
    }

    /// The line is over.
    pub(super) fn end(&mut self, id: LineId) {
        self.up.remove(&id);
    }

    /// The control says whether it numbers events.
    pub(super) fn set_term(&mut self, id: LineId, term: Option<u64>) {
        if let Some(line) = self.up.get_mut(&id) {
            line.term = term;
        }
    }

    /// Who takes events; `None` while nobody who is reached says so.
    pub(super) fn taker(&self) -> Option<Taker> {
        let takers = self.up.iter().filter_map(|(id, line)| Some((line.term?, *id)));
        takers.max().map(|(term, id)| (id, term))
    }

    /// How many controls are reached.
    pub(super) fn len(&self) -> usize {
        self.up.len()
    }

    /// A control pushes its ticket keys; the keys of all of them. One that has not heard of a new
    /// key yet does not take it away from the others.
    pub(super) fn set_keys(&mut self, id: LineId, keys: Vec<VerifyingKey>) -> Vec<VerifyingKey> {
        if let Some(line) = self.up.get_mut(&id) {
            line.keys = keys;
        }
        union(self.up.values().map(|line| &line.keys), |a, b| a == b)
    }

    /// A control pushes what signatures may be; those of all of them.
    pub(super) fn set_signatures(&mut self, id: LineId, values: Vec<Secret>) -> Vec<Secret> {
        if let Some(line) = self.up.get_mut(&id) {
            line.signatures = values;
        }
        let is_same = |a: &Secret, b: &Secret| a.reveal() == b.reveal();
        union(self.up.values().map(|line| &line.signatures), is_same)
    }
}

/// Each of several lists' elements once. The lists are a handful long.
fn union<'a, T: Clone + 'a>(
    lists: impl Iterator<Item = &'a Vec<T>>,
    is_same: impl Fn(&T, &T) -> bool,
) -> Vec<T> {
    let mut all = Vec::new();
    for one in lists.flatten() {
        if !all.iter().any(|known| is_same(known, one)) {
            all.push(one.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use link::ticket::SigningKey;

    use super::*;

    fn control(name: &str) -> Option<ControlId> {
        Some(ControlId::new(name).unwrap())
    }

    #[test]
    fn the_highest_term_takes_events() {
        let mut lines = Lines::default();
        let a = lines.begin(control("a"), None).unwrap();
        let b = lines.begin(control("b"), None).unwrap();
        assert_eq!(lines.taker(), None);
        lines.set_term(a, Some(5));
        assert_eq!(lines.taker(), Some((a, 5)));
        // `a` has not noticed yet that it is over.
        lines.set_term(b, Some(6));
        assert_eq!(lines.taker(), Some((b, 6)));
        lines.set_term(a, None);
        lines.set_term(a, Some(7));
        assert_eq!(lines.taker(), Some((a, 7)));
        lines.end(a);
        assert_eq!(lines.taker(), Some((b, 6)));
        lines.set_term(a, Some(9));
        assert_eq!(
            (lines.taker(), lines.len()),
            (Some((b, 6)), 1),
            "a line that is over says nothing"
        );
    }

    #[test]
    fn a_control_at_two_addresses_is_one_control() {
        let mut lines = Lines::default();
        let a = lines.begin(control("a"), None).unwrap();
        assert_eq!(lines.begin(control("a"), None), Err(Twin));
        assert!(lines.begin(control("b"), None).is_ok());
        lines.end(a);
        assert!(lines.begin(control("a"), None).is_ok());
        // Older ones do not say who they are.
        assert!(lines.begin(None, Some(0)).is_ok() && lines.begin(None, Some(0)).is_ok());
    }

    #[test]
    fn a_control_that_is_behind_takes_no_key_away() {
        let key = |name: &str| SigningKey::generate(name).unwrap().verifying();
        let (old, new) = (key("old"), key("new"));
        let mut lines = Lines::default();
        let a = lines.begin(control("a"), None).unwrap();
        let b = lines.begin(control("b"), None).unwrap();
        assert_eq!(lines.set_keys(a, vec![old.clone(), new.clone()]).len(), 2);
        assert_eq!(lines.set_keys(b, vec![old.clone()]).len(), 2);
        assert_eq!(lines.set_keys(a, vec![new.clone()]).len(), 2);
        assert_eq!(lines.set_keys(b, vec![new.clone()]), [new]);
        let (x, y) = (Secret::new("x"), Secret::new("y"));
        lines.set_signatures(a, vec![x.clone()]);
        assert_eq!(lines.set_signatures(b, vec![y, x]).len(), 2);
    }
}

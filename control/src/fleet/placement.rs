//! Which node takes a call: the ready one with the fewest calls. Pure.

use link::id::NodeId;

/// A node as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The node.
    pub node: &'a NodeId,
    /// Calls on it, and calls that were promised to it.
    pub calls: u32,
    /// The most calls it takes.
    pub calls_max: u32,
    /// Whether it takes new calls.
    pub ready: bool,
}

/// Chooses; among equals the first by name, so that the same state always gives the same answer.
/// `None` when no node takes a call.
#[must_use]
pub fn choose<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>) -> Option<&'a NodeId> {
    candidates
        .into_iter()
        .filter(|candidate| candidate.ready && candidate.calls < candidate.calls_max)
        .min_by_key(|candidate| (candidate.calls, candidate.node))
        .map(|candidate| candidate.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fleet = Vec<(NodeId, u32, u32, bool)>;

    fn fleet() -> impl Strategy<Value = Fleet> {
        let node = (0_u32..6, 0_u32..6, any::<bool>());
        prop::collection::vec(node, 0..8).prop_map(|nodes| {
            let named = |(n, (calls, max, ready)): (usize, (u32, u32, bool))| {
                (NodeId::new(format!("n{n}")).unwrap(), calls, max, ready)
            };
            nodes.into_iter().enumerate().map(named).collect()
        })
    }

    fn candidates(fleet: &Fleet) -> Vec<Candidate<'_>> {
        fleet
            .iter()
            .map(|(node, calls, calls_max, ready)| Candidate {
                node,
                calls: *calls,
                calls_max: *calls_max,
                ready: *ready,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_chosen_node_takes_calls_and_none_that_does_has_fewer(fleet in fleet()) {
            let all = candidates(&fleet);
            let taking: Vec<_> =
                all.iter().filter(|node| node.ready && node.calls < node.calls_max).collect();
            match choose(all.iter().copied()) {
                None => prop_assert!(taking.is_empty()),
                Some(chosen) => {
                    let chosen = taking.iter().find(|node| node.node == chosen).unwrap();
                    prop_assert!(taking.iter().all(|node| node.calls >= chosen.calls));
                }
            }
        }

        #[test]
        fn the_order_of_the_candidates_does_not_matter(fleet in fleet()) {
            let all = candidates(&fleet);
            let turned = all.iter().rev().copied();
            prop_assert_eq!(choose(turned), choose(all.iter().copied()));
        }
    }
}

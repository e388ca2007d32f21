//! Which node takes a call: of the ready ones that with the fewest calls for its weight. Pure.

use std::cmp::Ordering;

use link::id::NodeId;

/// How many calls a node gets, measured against the weights of others. Without any it gets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(u8);

impl Weight {
    /// What a node has of which nobody says anything else.
    pub const FULL: Self = Self(100);

    /// Takes a number as a weight; `None` above 100.
    #[must_use]
    pub fn new(weight: u8) -> Option<Self> {
        (weight <= Self::FULL.0).then_some(Self(weight))
    }

    /// The number, 0 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::FULL
    }
}

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
    /// How many it gets against others.
    pub weight: Weight,
}

impl Candidate<'_> {
    fn takes_calls(&self) -> bool {
        self.ready && self.calls < self.calls_max && self.weight.get() > 0
    }

    /// Who would have fewer calls for its weight with one more. Counted with that one, so that of
    /// two empty nodes the heavier comes first.
    fn against(&self, other: &Self) -> Ordering {
        // Without a division: a weight is at least 1, and both products fit.
        let times =
            |one: &Self, weight: Weight| (u64::from(one.calls) + 1) * u64::from(weight.get());
        let (ours, theirs) = (times(self, other.weight), times(other, self.weight));
        ours.cmp(&theirs).then_with(|| self.node.cmp(other.node))
    }
}

/// Chooses; among equals the first by name, so that the same state always gives the same answer.
/// `None` when no node takes a call.
#[must_use]
pub fn choose<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>) -> Option<&'a NodeId> {
    candidates
        .into_iter()
        .filter(Candidate::takes_calls)
        .min_by(Candidate::against)
        .map(|candidate| candidate.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fleet = Vec<(NodeId, u32, u32, bool)>;

    fn named(n: usize) -> NodeId {
        NodeId::new(format!("n{n}")).unwrap()
    }

    fn fleet() -> impl Strategy<Value = Fleet> {
        let node = (0_u32..6, 0_u32..6, any::<bool>());
        prop::collection::vec(node, 0..8).prop_map(|nodes| {
            let node = |(n, (calls, max, ready))| (named(n), calls, max, ready);
            nodes.into_iter().enumerate().map(node).collect()
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
                weight: Weight::FULL,
            })
            .collect()
    }

    /// Sends so many calls to nodes of these weights, one after the other; how many each has got.
    fn spread(weights: &[u8], many: u32) -> Vec<u32> {
        let names: Vec<_> = (0..weights.len()).map(named).collect();
        let mut calls = vec![0; weights.len()];
        for _ in 0..many {
            let all = names.iter().zip(&calls).zip(weights);
            let chosen = choose(all.map(|((node, calls), weight)| Candidate {
                node,
                calls: *calls,
                calls_max: u32::MAX,
                ready: true,
                weight: Weight::new(*weight).unwrap(),
            }));
            let Some(chosen) = chosen else { break };
            calls[names.iter().position(|name| name == chosen).unwrap()] += 1;
        }
        calls
    }

    #[test]
    fn a_weight_is_a_number_up_to_a_hundred() {
        assert_eq!(Weight::new(100), Some(Weight::default()));
        assert_eq!(Weight::new(0).map(Weight::get), Some(0));
        assert_eq!(Weight::new(101), None);
    }

    #[test]
    fn calls_are_spread_by_weight_and_a_node_without_any_gets_none() {
        assert_eq!(spread(&[100, 100], 10), [5, 5]);
        assert_eq!(spread(&[25, 75, 0], 8), [2, 6, 0]);
        assert_eq!(spread(&[1, 100], 1), [0, 1], "the heavier of two empty ones comes first");
        assert_eq!(spread(&[0, 0], 3), [0, 0], "nobody takes it");
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

        /// This way of choosing is known from parliaments (D'Hondt's), and so is this about it.
        #[test]
        fn no_node_gets_less_than_its_whole_share(
            weights in prop::collection::vec(0_u8..=100, 1..6),
            many in 0_u32..200,
        ) {
            let sum: u32 = weights.iter().copied().map(u32::from).sum();
            let calls = spread(&weights, many);
            let placed: u32 = calls.iter().sum();
            prop_assert_eq!(placed, if sum == 0 { 0 } else { many });
            for (weight, calls) in weights.iter().zip(calls) {
                let share = (many * u32::from(*weight)).checked_div(sum).unwrap_or(0);
                prop_assert!(calls >= share, "{calls} of {many} for {weight} of {sum}");
                prop_assert!(*weight > 0 || calls == 0);
            }
        }
    }
}

use super::*;
use crate::fleet::canary::{Percent, Subject};
use proptest::prelude::*;

/// A node of a test, owned, so that candidates can borrow of it.
#[derive(Debug, Clone)]
struct Relay {
    node: NodeId,
    region: Option<&'static str>,
    software: &'static str,
    standing: Standing,
    calls: u32,
    reserved: u32,
    calls_max: u32,
    weight: u8,
}

impl Relay {
    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            node: &self.node,
            region: self.region,
            software: self.software,
            standing: self.standing,
            calls: self.calls,
            reserved: self.reserved,
            calls_max: self.calls_max,
            weight: Weight::new(self.weight).unwrap(),
        }
    }
}

fn named(n: usize) -> NodeId {
    NodeId::new(format!("n{n}")).unwrap()
}

fn call(n: u32) -> CallId {
    CallId::new(format!("c_{n:032x}")).unwrap()
}

/// An empty node that takes as many calls as anybody wants.
fn ready(n: usize) -> Relay {
    Relay {
        node: named(n),
        region: None,
        software: "old",
        standing: Standing::Ready,
        calls: 0,
        reserved: 0,
        calls_max: u32::MAX,
        weight: 100,
    }
}

fn snapshot<'a>(relays: &'a [Relay], canary: Option<&'a Canary>) -> Snapshot<'a> {
    Snapshot { candidates: relays.iter().map(Relay::candidate).collect(), canary }
}

fn canary(percent: u8) -> Canary {
    let subject = Subject::version("new").unwrap();
    Canary { subject, percent: Percent::new(percent).unwrap() }
}

/// Sends so many calls to these nodes, one after the other; how many each has got.
fn spread(relays: &mut [Relay], canary: Option<&Canary>, many: u32) -> Vec<u32> {
    for n in 0..many {
        let id = call(n);
        let Ok(chosen) = snapshot(relays, canary).choose(&Wish::from(&id)).cloned() else { break };
        relays.iter_mut().find(|relay| relay.node == chosen).unwrap().calls += 1;
    }
    relays.iter().map(|relay| relay.calls).collect()
}

fn weighted(weights: &[u8]) -> Vec<Relay> {
    let relay = |(n, weight): (usize, &u8)| Relay { weight: *weight, ..ready(n) };
    weights.iter().enumerate().map(relay).collect()
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        4 => Just(Standing::Ready),
        1 => Just(Standing::Draining),
        1 => Just(Standing::Full),
        1 => Just(Standing::Suspect),
        1 => Just(Standing::Stuck),
    ]
}

fn relays() -> impl Strategy<Value = Vec<Relay>> {
    let region = prop::sample::select(vec![None, Some("fra"), Some("ams"), Some("iad")]);
    let software = prop::sample::select(vec!["old", "new"]);
    let weight = prop::sample::select(vec![0_u8, 1, 50, 100]);
    let node = (standing(), region, software, weight, (0_u32..6, 0_u32..3, 0_u32..8));
    prop::collection::vec(node, 0..8).prop_map(|nodes| {
        let relay = |(n, (standing, region, software, weight, (calls, reserved, calls_max)))| {
            let node = named(n);
            Relay { node, region, software, standing, calls, reserved, calls_max, weight }
        };
        nodes.into_iter().enumerate().map(relay).collect()
    })
}

fn canaries() -> impl Strategy<Value = Option<Canary>> {
    let percent = prop::sample::select(vec![0_u8, 5, 50, 100]);
    prop::option::of(percent.prop_map(canary))
}

/// A wish of a call, with regions of its own or none.
fn wish(call: &CallId, has_regions: bool) -> Wish<'_> {
    let regions = if has_regions { vec!["fra".to_owned(), "ams".to_owned()] } else { Vec::new() };
    Wish { call, regions, left: None }
}

#[test]
fn a_weight_is_a_number_up_to_a_hundred() {
    assert_eq!(Weight::new(100), Some(Weight::default()));
    assert_eq!(Weight::new(0).map(Weight::get), Some(0));
    assert_eq!(Weight::new(101), None);
}

#[test]
fn calls_are_spread_by_weight_and_a_node_without_any_gets_none() {
    assert_eq!(spread(&mut weighted(&[100, 100]), None, 10), [5, 5]);
    assert_eq!(spread(&mut weighted(&[25, 75, 0]), None, 8), [2, 6, 0]);
    assert_eq!(spread(&mut weighted(&[1, 100]), None, 1), [0, 1], "the heavier comes first");
    assert_eq!(spread(&mut weighted(&[0, 0]), None, 3), [0, 0], "nobody takes it");
}

#[test]
fn a_full_region_flows_over_into_the_next_and_then_anywhere() {
    let of = |n, region, calls_max| Relay { region, calls_max, ..ready(n) };
    let mut fleet =
        [of(0, None, 2), of(1, Some("iad"), 1), of(2, Some("ams"), 1), of(3, Some("fra"), 2)];
    let mut order = Vec::new();
    for n in 0..7 {
        let id = call(n);
        let chosen = snapshot(&fleet, None).choose(&wish(&id, true)).cloned();
        if let Ok(chosen) = &chosen {
            fleet.iter_mut().find(|relay| relay.node == *chosen).unwrap().reserved += 1;
        }
        order.push(chosen.map(|node| node.as_str().to_owned()));
    }
    let (rest, last) = (&order[3..6], order.last().unwrap());
    let first: Vec<_> = order[..3].iter().map(|node| node.as_deref().unwrap()).collect();
    assert_eq!(first, ["n3", "n3", "n2"]);
    assert!(rest.iter().all(|node| matches!(node.as_deref(), Ok("n0" | "n1"))), "{rest:?}");
    assert_eq!(*last, Err(Unplaced::Full));
}

#[test]
fn a_canary_gets_its_share_and_is_compared_by_weight_within_it() {
    let new = |n| Relay { software: "new", ..ready(n) };
    let canary = canary(5);
    let mut fleet = [ready(0), ready(1), new(2)];
    let calls = spread(&mut fleet, Some(&canary), 20_000);
    assert!(calls[2].abs_diff(1_000) < 155, "five standard deviations: {calls:?}");
    assert!(calls[0].abs_diff(calls[1]) <= 1, "{calls:?}");
}

#[test]
fn a_side_that_takes_no_calls_leaves_them_to_the_other_but_a_share_of_0_gets_none() {
    let new = Relay { software: "new", ..ready(1) };
    let full = Relay { standing: Standing::Full, ..ready(0) };
    assert_eq!(spread(&mut [full.clone(), new.clone()], Some(&canary(5)), 100), [0, 100]);
    assert_eq!(spread(&mut [full, new.clone()], Some(&canary(0)), 100), [0, 0]);
    let gone = Relay { standing: Standing::Draining, ..new };
    assert_eq!(spread(&mut [ready(0), gone], Some(&canary(100)), 100), [100, 0]);
}

#[test]
fn a_call_goes_back_to_the_node_it_comes_from_only_when_no_other_takes_it() {
    // Everything speaks for the node that it was on: its region, its side, its load.
    let was_on = Relay { region: Some("fra"), ..ready(0) };
    let other = Relay { region: Some("iad"), software: "new", calls: 9, ..ready(1) };
    let (id, canary) = (call(1), canary(5));
    let wish = wish(&id, true).leaving(Some(&was_on.node));
    let choose = |fleet: &[Relay]| snapshot(fleet, Some(&canary)).choose(&wish).cloned();
    assert_eq!(choose(&[was_on.clone(), other.clone()]), Ok(other.node));
    assert_eq!(choose(std::slice::from_ref(&was_on)), Ok(was_on.node.clone()));
}

#[test]
fn each_node_says_why_it_takes_no_calls() {
    let canary = canary(0);
    let with = |standing| Relay { standing, ..ready(0) };
    for (relay, why, free) in [
        (Relay { calls: 1, reserved: 2, calls_max: 10, ..ready(0) }, Why::Free, 7),
        (Relay { calls: 1, reserved: 9, calls_max: 10, ..ready(0) }, Why::Reserved, 0),
        (Relay { weight: 0, ..ready(0) }, Why::Unweighted, 0),
        (Relay { software: "new", ..ready(0) }, Why::HeldBack, 0),
        (with(Standing::Draining), Why::Draining, 0),
        (with(Standing::Suspect), Why::Suspect, 0),
        (with(Standing::Stuck), Why::Stuck, 0),
        (with(Standing::Full), Why::Full, 0),
    ] {
        let fleet = [relay];
        let snapshot = snapshot(&fleet, Some(&canary));
        let one = &snapshot.candidates[0];
        assert_eq!((snapshot.why(one), snapshot.free(one)), (why, free));
        assert!(why.words().ends_with('.'));
    }
}

#[test]
fn a_fleet_that_says_nothing_may_be_waited_for_and_one_that_is_full_may_not() {
    let (silent, id) = (Relay { standing: Standing::Suspect, ..ready(0) }, call(1));
    let choose = |fleet: &[Relay]| snapshot(fleet, None).choose(&Wish::from(&id)).cloned();
    assert_eq!(choose(&[]), Err(Unplaced::Nobody));
    assert_eq!(choose(std::slice::from_ref(&silent)), Err(Unplaced::Nobody));
    let full = Relay { standing: Standing::Full, ..ready(1) };
    assert_eq!(choose(&[silent, full]), Err(Unplaced::Full));
}

proptest! {
    #[test]
    fn only_a_node_that_is_ready_and_has_a_seat_gets_a_call(
        relays in relays(),
        canary in canaries(),
        n in any::<u32>(),
        has_regions in any::<bool>(),
    ) {
        let (id, snapshot) = (call(n), snapshot(&relays, canary.as_ref()));
        match snapshot.choose(&wish(&id, has_regions)) {
            Ok(chosen) => {
                let chosen = relays.iter().find(|relay| relay.node == *chosen).unwrap();
                prop_assert_eq!(chosen.standing, Standing::Ready);
                prop_assert!(chosen.weight > 0);
                prop_assert!(chosen.calls + chosen.reserved < chosen.calls_max);
            }
            Err(_) => prop_assert!(
                snapshot.candidates.iter().all(|one| snapshot.why(one) != Why::Free)
            ),
        }
    }

    #[test]
    fn the_same_call_gets_the_same_node_whatever_the_order_of_the_candidates(
        relays in relays(),
        canary in canaries(),
        n in any::<u32>(),
        has_regions in any::<bool>(),
    ) {
        let (id, one) = (call(n), snapshot(&relays, canary.as_ref()));
        let mut turned = one.clone();
        turned.candidates.reverse();
        let wish = wish(&id, has_regions);
        prop_assert_eq!(one.choose(&wish), turned.choose(&wish));
        prop_assert_eq!(one.choose(&wish), one.choose(&wish));
    }

    #[test]
    fn no_call_leaves_a_region_that_takes_it(relays in relays(), n in any::<u32>()) {
        let (id, snapshot) = (call(n), snapshot(&relays, None));
        let wish = wish(&id, true);
        if let Ok(chosen) = snapshot.choose(&wish) {
            let rank = |one: &Candidate<'_>| wish.rank(one.region);
            let free = snapshot.candidates.iter().filter(|one| snapshot.why(one) == Why::Free);
            let best = free.map(rank).min().unwrap();
            let chosen = snapshot.candidates.iter().find(|one| one.node == chosen).unwrap();
            prop_assert_eq!(rank(chosen), best);
        }
    }

    /// This way of choosing is known from parliaments (D'Hondt's), and so is this about it.
    #[test]
    fn no_node_gets_less_than_its_whole_share(
        weights in prop::collection::vec(0_u8..=100, 1..6),
        many in 0_u32..200,
    ) {
        let sum: u32 = weights.iter().copied().map(u32::from).sum();
        let calls = spread(&mut weighted(&weights), None, many);
        let placed: u32 = calls.iter().sum();
        prop_assert_eq!(placed, if sum == 0 { 0 } else { many });
        for (weight, calls) in weights.iter().zip(calls) {
            let share = (many * u32::from(*weight)).checked_div(sum).unwrap_or(0);
            prop_assert!(calls >= share, "{calls} of {many} for {weight} of {sum}");
            prop_assert!(*weight > 0 || calls == 0);
        }
    }

    /// Shares are of twenty calls at least; of fewer a tenth is less than one.
    #[test]
    fn calls_are_spread_within_a_tenth_of_the_weights(
        weights in prop::collection::vec(20_u8..=100, 1..6),
    ) {
        let (sum, many) = (weights.iter().copied().map(u32::from).sum::<u32>(), 500);
        let calls = spread(&mut weighted(&weights), None, many);
        for (weight, calls) in weights.iter().zip(calls) {
            let share = f64::from(many * u32::from(*weight)) / f64::from(sum);
            let off = (f64::from(calls) - share).abs();
            prop_assert!(off <= share / 10.0, "{calls} for a share of {share}");
        }
    }
}

//! Simulated calls as a test: those that went wrong once, and a few hundred more.

/// Lives a call. What does not hold is a panic; the seed is what somebody needs to see it again.
fn live(seed: u64) {
    let lived = std::panic::catch_unwind(|| sim::live(seed));
    if let Err(panic) = lived {
        panic!("SIM_SEED={seed}: {}", sim::message(&*panic));
    }
}

#[test]
fn calls_that_went_wrong_once_go_well() {
    let seeds = include_str!("../../seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for seed in seeds {
        live(seed.parse().expect("a line is a seed"));
        count += 1;
    }
    assert!(count > 0, "there are seeds");
}

#[test]
fn a_few_hundred_hostile_calls_go_well() {
    for seed in 1..=250 {
        live(seed);
    }
}

#[test]
fn a_seed_is_the_same_call_every_time() {
    for seed in [3, 14, 15] {
        assert_eq!(sim::sheet(seed), sim::sheet(seed));
    }
}

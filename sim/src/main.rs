//! `sim [--seconds N] [--first SEED]` lives calls until the time is over and says how it went;
//! `SIM_SEED=N sim` lives one, and prints its call sheet.
#![expect(clippy::print_stdout, reason = "this is a command")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    if let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return replay(seed);
    }
    let argument = |name: &str| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments.nth(1).and_then(|value| value.parse::<u64>().ok())
    };
    let first = argument("--first").unwrap_or(1);
    campaign(first, Duration::from_secs(argument("--seconds").unwrap_or(120)))
}

fn replay(seed: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    let lines = sim::sheet(seed);
    for line in &lines {
        println!("{line}");
    }
    let failed = lines.last().is_some_and(|line| line.starts_with("FAILED"));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Where the last panic was.
static PLACE: Mutex<String> = Mutex::new(String::new());

fn campaign(first: u64, span: Duration) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if let Ok(mut last) = PLACE.lock() {
            *last = place;
        }
    }));
    let began = now();
    let cpu_began = cpu_seconds();
    let (mut seed, mut lasted, mut wait) = (first, Duration::ZERO, Duration::ZERO);
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failures: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while now().duration_since(began) < span {
        match std::panic::catch_unwind(|| sim::live(seed)) {
            Ok(outcome) => {
                lasted += outcome.lasted;
                wait = wait.max(outcome.longest_wait);
                *ends.entry(outcome.end.as_str()).or_default() += 1;
            }
            Err(panic) => {
                let place = PLACE.lock().map(|place| place.clone()).unwrap_or_default();
                let what = format!("{place}: {}", sim::message(&*panic));
                let known = failures.keys().find(|known| known.starts_with(&place)).cloned();
                failures.entry(known.unwrap_or(what)).or_default().push(seed);
            }
        }
        seed += 1;
    }
    let wall = now().duration_since(began).as_secs_f64();
    let cpu = match (cpu_began, cpu_seconds()) {
        (Some(began), Some(ended)) => ended - began,
        _ => wall,
    };
    let hours = lasted.as_secs_f64() / 3_600.0;
    println!("seeds {first} to {}: {} calls, {hours:.1} call-hours", seed - 1, seed - first);
    println!("{cpu:.1} CPU seconds, {:.0} call-hours per CPU-hour", hours * 3_600.0 / cpu);
    println!("longest wait of a caller for a word: {} ms", wait.as_millis());
    println!("ends: {ends:?}");
    for (what, seeds) in &failures {
        let some: Vec<_> = seeds.iter().take(8).collect();
        println!("FAILED {} times, seeds {some:?}: {what}", seeds.len());
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "the campaign's length is in real time")]
fn now() -> Instant {
    Instant::now()
}

/// What this process has used so far, where the kernel says.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let ns: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(ns / 1e9)
}

//! Phone calls that never happened: hostile callers, models, networks and operators around the
//! real [`Call`](relay::call::Call) and the real words of the vendors, in virtual time.
//!
//! A seed is a call. It decides the weather ([`climate`]), and everything that then happens; no
//! clock is read, no socket opened, nothing sleeps, so the same seed is the same call. The phone
//! plays in real time and the model answers by its own rules, both speak JSON, and neither looks
//! into the call. A [`witness`] keeps its own books and compares after every step.
//!
//! Read [`world`], then the two sides ([`phone`], [`model`]), then what must hold ([`witness`]).

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a witness looks at what it checks, and a sheet writes the rest as it is"
)]

mod world;

mod model;
mod phone;

mod witness;

mod book;
mod desk;
mod sheet;

mod agenda;
mod chance;
mod climate;

pub use self::world::Outcome;

use self::sheet::Sheet;
use self::world::World;

/// Lives the call of a seed.
///
/// # Panics
/// When something does not hold.
#[must_use]
pub fn live(seed: u64) -> Outcome {
    World::new(seed, Sheet::new(false)).run()
}

/// Lives the call of a seed, and gives its call sheet line by line, also when it goes wrong: then
/// with the panic's message at its end.
#[must_use]
pub fn sheet(seed: u64) -> Vec<String> {
    let mut world = World::new(seed, Sheet::new(true));
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let mut lines = world.desk.sheet.take();
    lines.push(match lived {
        Ok(outcome) => format!("{outcome:?}"),
        Err(panic) => format!("FAILED: {}", message(&*panic)),
    });
    lines
}

/// What a panic says.
#[must_use]
pub fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

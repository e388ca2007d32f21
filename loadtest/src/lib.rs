//! Independent witnesses of the relay: fakes that refuse what the real services refuse, a demo
//! call and a load test. Nothing here shares wire code with the relay.
//!
//! Read [`model`] for the fake OpenAI Realtime server, [`carrier`] for the fake Twilio, [`page`] for a web page, [`proxy`]
//! for a network that fails on purpose, [`demo`] for one call through all of it, [`run`] for many, [`chaos`] for
//! many that lose their model again and again, `fleet` for many whose relays, controls and database
//! come and go, [`events`] for what control does with what relays
//! tell it, `report` for what is said of a load test.

#![expect(
    clippy::disallowed_methods,
    reason = "reading clocks and starting tasks and processes is this crate's job"
)]

pub mod audio;
pub mod carrier;
pub mod chaos;
pub mod cli;
pub mod demo;
pub mod events;
pub(crate) mod fleet;
pub mod model;
pub mod page;
pub mod proxy;
pub mod report;
pub mod run;

mod assets;
mod capture;
mod clock;
mod noise;
mod serve;
mod system;

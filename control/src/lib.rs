//! The control plane: HTTP API, Twilio webhooks, store, events, fleet.

pub mod keys;

pub mod store;

pub mod events;
pub mod sequencer;

pub mod hub;
pub mod sse;

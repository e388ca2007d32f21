//! The control plane: HTTP API, Twilio webhooks, store, events, fleet.

pub mod events;
pub mod keys;
pub mod store;

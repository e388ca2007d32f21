//! Integration tests of control, one binary.
//!
//! What the store promises is checked by the same tests on both engines: `on_both!` runs each
//! claim once on a SQLite file and once on a database of a throw-away PostgreSQL cluster (`pg`).
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test owns its tasks, and a helper that fails should fail its test"
)]

mod pg;

mod db;
mod store_calls;
mod store_open;
mod store_tenants;

mod sequencer_lease;
mod sequencer_ledger;
mod sequencer_task;

mod sse_stream;

mod carrier;
mod web;

mod twilio_resume;
mod twilio_status;
mod twilio_voice;

mod api_calls;
mod api_commands;
mod api_events;

mod link_relay;

mod process_serve;

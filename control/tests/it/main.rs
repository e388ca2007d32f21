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
mod store_agents;
mod store_calls;
mod store_dials;
mod store_keys;
mod store_numbers;
mod store_once;
mod store_open;
mod store_rings;
mod store_runs;
mod store_tenants;

mod sequencer_lease;
mod sequencer_ledger;
mod sequencer_task;

mod retention;
mod sse_stream;
mod webhooks;

mod carrier;
mod web;

mod described;

mod twilio_numbers;
mod twilio_resume;
mod twilio_status;
mod twilio_unaided;
mod twilio_voice;

mod api_agents;
mod api_calls;
mod api_canary;
mod api_commands;
mod api_compat;
mod api_compat_search;
mod api_credentials;
mod api_events;
mod api_keys;
mod api_nodes;
mod api_rates;
mod api_sessions;
mod api_tenant;
mod api_tickets;

mod dialer_carrier;
mod dialer_rules;

mod api_numbers;
mod api_once;
mod api_runs;
mod api_scopes;
mod instances;
mod limits;

mod other_host;
mod platform_files;

mod fleet_moves;
mod link_agents;
mod link_beats;
mod link_certificates;
mod link_ephemeral;
mod link_relay;
mod link_spool;

mod process_doctor;
mod process_serve;

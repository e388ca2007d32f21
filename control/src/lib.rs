//! The control plane: starts calls, tells the carrier what to do with them, keeps their state, and
//! says what happened. It carries no media: that is `relay`, which dials in over [`fleet::link`].
//!
//! A tour, in reading order:
//!
//! - [`server`]: the process, from its settings to its end; [`plane`] is what every request needs.
//! - [`twilio`]: the carrier's questions and its answers. `voice` begins a call, `resume` decides
//!   what follows each stream, `status` hears how it ends, `rest` places calls.
//! - [`directory`]: who answers. [`fleet`]: the relays. `link` talks to them, `nodes` knows them, `placement` chooses one.
//! - [`store`]: everything durable; [`standby`]: what is known while it is away; [`sequencer`] gives
//!   every event its place; [`hub`] and [`sse`]
//!   bring events to clients.
//! - [`attempts`]: what an agent that goes on is told of its tools.
//! - [`access`]: who may do what.
//!   bring events to clients, [`webhooks`] to customers' servers; `retention` forgets them in time.
//! - [`api`]: what web applications use; [`dialer`] is what the API does to calls, [`commands`] what
//!   it does in them while they run, and [`answers`] who waits for what becomes of it.
//! - [`operator`]: what is done at the command line.
//! - [`doctor`]: what would keep calls from coming up, and what to do about it.
//! - [`http`]: one route table behind our own accept loop; [`error`]: what a refusal looks like.
//! - [`keys`] seals secrets, [`tokens`] signs tickets and passes, [`config`] reads the environment,
//!   [`metrics`] counts, [`admin`] answers probes, [`clock`] reads time.

pub mod config;
pub mod plane;
pub mod server;

pub mod twilio;

pub mod directory;
pub mod fleet;

pub mod store;

pub mod events;
pub mod sequencer;
pub mod standby;

pub mod attempts;

pub mod ephemeral;

mod retention;

pub mod hub;
pub mod sse;
pub mod webhooks;

pub mod access;

pub mod answers;
pub mod api;
pub mod commands;
pub mod dialer;

pub mod operator;

pub mod admin;
pub mod doctor;
pub mod error;
pub mod http;

pub mod clock;
pub mod keys;
pub mod metrics;
pub mod tokens;

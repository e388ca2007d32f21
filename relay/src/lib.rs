//! The data plane: one WebSocket from the phone, one to the model, and the call between them.
//!
//! The data path is `main > server > shard > bridge > call`. The house accepts and hands a socket
//! to a shard, the shard upgrades and admits it, the bridge drives one call per task, the call
//! decides. Everything below `call` is pure; everything above it moves bytes and decides nothing.
//!
//! A tour, in reading order:
//!
//! - [`bridge`]: one screen, one task per call. [`call`] is what it drives: the rules of a phone
//!   call, without a socket or a clock. [`wire`] is how each vendor writes and is read.
//! - [`shard`]: a thread of calls; from a connection's first byte to the bridge. [`front`] says
//!   whether a request is for this node, [`upgrade`], [`admit`], [`gate`] and [`known`] who may come
//!   in, [`lobby`] who is expected.
//! - [`server`]: the house, from listening to the drain. [`node`] is its link to control,
//!   [`config`] its environment.
//! - [`ws`] over [`stream`]: frames in place; [`tls`] and [`dial`] open sockets, [`forward`] passes
//!   on what is not a stream, [`tools`] runs what a model asks for, [`answer`] is what the relay
//!   says itself.
//! - [`doctor`] looks for what would keep a node from serving, [`kernel`] for what the system does
//!   not allow it.
//! - [`mailbox`] brings word into a call, [`telemetry`] and [`metrics`] bring it out; [`clock`]
//!   reads time.

pub mod bridge;
pub mod call;
pub mod wire;

pub mod front;
pub mod shard;
pub mod upgrade;

pub mod admit;
pub mod gate;
pub mod known;
pub mod lobby;

pub mod server;

pub mod config;
pub mod node;

pub mod ws;

pub mod dial;
pub mod forward;
pub mod stream;
pub mod tls;
pub mod tools;

pub mod answer;

pub mod mailbox;
pub mod telemetry;

pub mod doctor;
pub mod kernel;

pub mod clock;
pub mod metrics;

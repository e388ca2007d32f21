//! The data plane: one WebSocket from the phone, one to the model, and the call between them.
//!
//! `main > server > shard > bridge > call`: the house accepts and hands a socket to a shard, the
//! shard upgrades and admits it, the bridge drives one call per task, the call decides. Everything
//! below `call` is pure; everything above it moves bytes and decides nothing.
//!
//! Suggested reading order is the order of the lines below.

// The call itself, and the words it uses.
pub mod call;
pub mod wire;
pub mod clock;

// One call's surroundings: who drives it, who may come in, what reaches it, what it tells.
pub mod config;
pub mod server;
pub mod node;
pub mod bridge;
pub mod shard;
pub mod upgrade;
pub mod admit;
pub mod gate;
pub mod known;
pub mod mailbox;
pub mod telemetry;
pub mod metrics;

// The sockets.
pub mod stream;
pub mod ws;
pub mod dial;
pub mod forward;
pub mod answer;
pub mod tls;

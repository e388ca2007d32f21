//! A strict fake of the OpenAI Realtime service (GA, WebSocket), for tests, the demo and anyone
//! who builds against it.
//!
//! It hears speech by energy, answers from a [`Script`] in bursts faster than real time, refuses
//! what the real service refuses, and keeps a list of what its clients did wrong. It was written
//! from the documentation, not from the relay.

mod conversation;
mod fields;
mod record;
mod refusal;
mod repertoire;
mod reply;
mod script;
mod server;
mod session;
mod trouble;
mod vad;
mod visit;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::record::{ItemKind, ItemRecord, ResponseRecord, SessionEnd, SessionRecord};
pub use self::script::{Answer, Script, ToolCall, Turn};
pub use self::server::FakeModel;
pub use self::trouble::{Leave, Mishap, Stopped, Trouble};

/// How a fake model behaves.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What it says.
    pub script: Script,
    /// What goes wrong.
    pub fault: Fault,
    /// How long a session may last; the real service's hour when `None`.
    pub session_limit: Option<Duration>,
    /// From the request to the answer that lets a client in: what a real service takes to set a
    /// session up.
    pub set_up: Duration,
    /// The round trip to the service: everything that it says comes so much later.
    pub round_trip: Duration,
    /// A file for everything on the wire, one event a line.
    pub capture: Option<PathBuf>,
}

impl Default for ModelSettings {
    /// A free loopback port, the plain script, no fault.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            script: Script::plain(),
            fault: Fault::None,
            session_limit: None,
            set_up: Duration::ZERO,
            round_trip: Duration::ZERO,
            capture: None,
        }
    }
}

/// What goes wrong, on purpose, in every connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The upgrade is answered with 401.
    RefuseUpgrade,
    /// The upgrade succeeds; then an error `insufficient_quota` and a close.
    Quota,
    /// The socket is closed with 1011 two seconds after the session was configured.
    CloseMidCall,
    /// The connection vanishes without a close, two seconds after the session was configured.
    Vanish,
    /// Every response fails, without an `error` event.
    FailResponses,
    /// Turns are heard but never answered.
    Silence,
    /// The session is introduced, and then nothing is ever answered.
    Mute,
}

/// Something that a client did wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// The type of the client's event.
    pub event: String,
    /// The code of the error it got; `none` where the service gives none.
    pub code: String,
    /// The sentence of the error.
    pub message: String,
}

/// What a fake model saw since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Connections that were let in.
    pub sessions: u64,
    /// Connections that are open.
    pub open: u64,
    /// Milliseconds of audio that all clients appended.
    pub appended_ms: u64,
    /// Sessions that reached their limit.
    #[serde(default)]
    pub expired: u64,
    /// What the clients did wrong, in order; at most a thousand.
    pub complaints: Vec<Complaint>,
}

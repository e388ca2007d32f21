//! Opening an agent's socket, and what it means to the call when that fails or the socket is lost.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use link::agent::AgentSpec;
use rustls::ClientConfig;

use crate::call::input::Loss;
use crate::dial::{self, DialError, Target};
use crate::metrics::{Counters, OpenSocket};
use crate::shard::Shard;
use crate::stream::Leg;
use crate::wire::{self, AgentWire};
use crate::ws::{Limits, Socket, SocketError};

use super::line::Line;

/// A socket that is being opened. Everything it needs is its own, so that it is polled beside the
/// legs, dropped with the call, and may move to another shard with it.
pub(super) type Dialling = Pin<Box<dyn Future<Output = Result<Socket, Undialled>> + Send>>;

/// Why there is no socket, as the call hears it.
pub(super) struct Undialled {
    /// How.
    pub(super) cause: Loss,
    /// For the operator.
    pub(super) detail: String,
}

/// Opens the sockets of one agent.
pub(super) struct Dialer {
    /// Whom it dials.
    pub(super) agent: Arc<AgentSpec>,
    tls: Arc<ClientConfig>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("agent", &self.agent.name).finish_non_exhaustive()
    }
}

impl Dialer {
    /// Dials this agent from this shard.
    pub(super) fn new(shard: &Shard, agent: Arc<AgentSpec>) -> Self {
        Self { agent, tls: shard.agent_tls.clone(), counters: shard.counters().clone() }
    }

    /// Begins to open a socket.
    pub(super) fn dial(&self) -> Dialling {
        let (agent, tls, counters) = (self.agent.clone(), self.tls.clone(), self.counters.clone());
        // Boxed, because a call dials a handful of times in its life and is polled for hours.
        Box::pin(async move {
            let socket = open(&agent, &tls).await?;
            Ok(socket.counted(OpenSocket::new(counters, Leg::Agent)))
        })
    }

    /// The line of a socket that is open.
    pub(super) fn line(&self, socket: Socket) -> Line<AgentWire> {
        Line::new(socket, AgentWire::new(self.agent.clone()))
    }
}

/// A socket that was being opened when its call moved to this shard: it is moved as well once it is
/// open, or every read would wake the first shard.
pub(super) fn travelled(dialling: Dialling) -> Dialling {
    Box::pin(async move {
        let moved = dialling.await?.detach().and_then(|socket| socket.attach());
        moved.map_err(|error| Undialled { cause: Loss::Unreachable, detail: error.to_string() })
    })
}

async fn open(agent: &AgentSpec, tls: &Arc<ClientConfig>) -> Result<Socket, Undialled> {
    let door = wire::door(agent);
    let target = Target::parse(&door.url)
        .and_then(|target| target.with_bearer(door.bearer))
        .map_err(|bad| Undialled { cause: Loss::Refused, detail: bad.to_string() })?;
    dial::connect(&target, tls, Limits::AGENT).await.map_err(|error| {
        let cause = match &error {
            DialError::Refused { status } => wire::handshake_loss(status.as_u16()),
            DialError::BadAnswer(_) | DialError::NotLoopback => Loss::Refused,
            DialError::NoAddress(_)
            | DialError::Connect(_)
            | DialError::Tls(_)
            | DialError::Broken(_)
            | DialError::TimedOut(_) => Loss::Unreachable,
        };
        Undialled { cause, detail: error.to_string() }
    })
}

/// How a socket that was open was lost.
pub(super) fn loss(error: &SocketError) -> Loss {
    match error {
        SocketError::Closed(code) => wire::loss(Some(code.0)),
        SocketError::Ended | SocketError::Io(_) => wire::loss(None),
        // The service is not done with us, we are with this socket of it.
        SocketError::Violation(_) | SocketError::BacklogFull => Loss::Closed,
    }
}

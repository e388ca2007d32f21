//! The way to a shard: what is said to it, and what is seen of it from outside.

use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use link::agent::AgentSpec;
use link::id::{CallId, Gen};
use link::message::Said;
use tokio::sync::{mpsc, oneshot};

use super::anteroom::HandedOver;
use crate::call::moment::Moment;
use crate::gate::Waits;
use crate::lobby::WaitId;
use crate::mailbox::Letter;

/// What the house, or another shard, says to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// A connection to serve.
    Connection(Accepted),
    /// Something for one call.
    Letter {
        /// Which call.
        call: CallId,
        /// The generation it is meant for; another one does not get it.
        generation: Gen,
        /// What it says.
        letter: Letter,
    },
    /// A stream is on its way: its agent is to be ready when it comes.
    Prepare {
        /// Its entry in the index.
        waits: Waits,
        /// Who answers.
        agent: Arc<AgentSpec>,
        /// What was said in the call so far; `None` for one that begins.
        continues: Option<Vec<Said>>,
    },
    /// More is known of what was said in a call that goes on here, and is prepared already.
    Continue {
        /// Where it waits.
        id: WaitId,
        /// Which stream.
        stream: (CallId, Gen),
        /// What was said.
        said: Vec<Said>,
    },
    /// Another shard's stream claims a call that waits here.
    Claim {
        /// Which.
        id: WaitId,
        /// Where it goes; nothing when it is not here any more.
        to: oneshot::Sender<Option<HandedOver>>,
    },
    /// Nobody new is let in: what waits for streams is closed, and nothing more is prepared.
    Empty,
    /// Waiting is over: every call is told to close.
    Drain,
    /// The thread ends, whatever is open.
    Stop,
}

/// A connection that the house has accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, of no reactor yet: a tokio stream would stay with the house's.
    pub tcp: StdTcpStream,
    /// Who connected.
    pub peer: SocketAddr,
    /// Counts the connection while it lives.
    pub place: Place,
}

/// One connection in the count of its shard.
#[derive(Debug)]
pub struct Place(Arc<Gauge>);

/// What the house sees of a shard without asking it.
#[derive(Debug, Default)]
pub struct Gauge {
    connections: AtomicU64,
    /// The moment at which the shard last had time for its own clock, in microseconds.
    beat_us: AtomicU64,
    /// How late it was with its own clock of late, in microseconds.
    late_us: AtomicU64,
}

impl Gauge {
    /// Open connections; each call is one, and next to them the few that are plain HTTP.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection until the place is dropped.
    #[must_use]
    pub fn place(self: &Arc<Self>) -> Place {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Place(self.clone())
    }

    /// The shard has time for its own clock, and is this late with it.
    pub(crate) fn beats(&self, now: Moment, late: Duration) {
        self.beat_us.store(now.micros(), Ordering::Relaxed);
        self.late_us.store(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How late the shard is: what its last beats say, or how long it has owed one when that is
    /// more.
    #[must_use]
    pub fn lateness(&self, now: Moment) -> Duration {
        let owes = now.since(self.beat()).saturating_sub(BEAT);
        owes.max(Duration::from_micros(self.late_us.load(Ordering::Relaxed)))
    }

    /// When the shard last showed that it lives.
    #[must_use]
    pub fn beat(&self) -> Moment {
        Moment::from_micros(self.beat_us.load(Ordering::Relaxed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often a shard shows that it has time, and how late it is.
pub(super) const BEAT: Duration = Duration::from_millis(100);

/// The way to every shard. Nobody waits on it: a shard whose channel is full is stuck, and what it
/// does not take is dropped.
#[derive(Debug, Clone)]
pub struct Post {
    shards: Arc<[mpsc::Sender<ToShard>]>,
}

/// Messages that wait for one shard. Each is handled in microseconds, so that even a herd of
/// connections passes; when it is full, the house tries the next shard.
pub const TO_SHARD_MAX: usize = 512;

impl Post {
    /// The way to these shards.
    #[must_use]
    pub fn new(shards: Vec<mpsc::Sender<ToShard>>) -> Self {
        Self { shards: shards.into() }
    }

    /// Sends to one shard, or gives the message back.
    ///
    /// # Errors
    /// The message, when the shard takes none.
    pub fn send(&self, shard: usize, message: ToShard) -> Result<(), ToShard> {
        let Some(to) = self.shards.get(shard) else { return Err(message) };
        to.try_send(message).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Sends to every shard and waits for room.
    pub async fn send_all(&self, message: impl Fn() -> ToShard) {
        for to in self.shards.iter() {
            // A shard that is gone has nothing left to be told.
            let _ = to.send(message()).await;
        }
    }
}

//! The acceptor: one for the process. It hands each connection to the shard with the fewest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream};

use super::StartError;
use crate::clock::Clock;
use crate::kernel;
use crate::metrics::Counters;
use crate::metrics::labels::Connection;
use crate::shard::{Accepted, Gauge, Post, ToShard};

/// Connections beyond one for each call: sockets before their upgrade, and forwarded requests.
pub(super) const CONNECTIONS_SPARE: u64 = 2_048;
/// The pause after the system would not give a connection. Without file descriptors `accept`
/// fails at once and would spin; calls that end meanwhile give some back.
const PAUSE: Duration = Duration::from_millis(50);

/// A shard that is so late, or has owed its beat for so long, gets no connection while another one
/// takes it: a call that blocks its thread delays those that are there, and nobody new.
const STUCK: Duration = Duration::from_millis(500);

/// Opens a port, with room for a herd.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // A restart must not wait for the old process's connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        // The system's own `somaxconn` may bound it lower.
        socket.listen(kernel::BACKLOG)
    };
    open().map_err(|cause| StartError::Listen { address, cause })
}

/// The public port when a service manager holds it (socket activation): connections wait there while
/// the process is started again, and nobody is refused. To be asked before there are threads.
///
/// # Errors
/// When what was passed on is no TCP socket that listens.
pub(super) fn passed_on() -> Result<Option<TcpListener>, StartError> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() > 1 {
        tracing::warn!(sockets = sockets.len(), "of the sockets passed on only the first is used");
    }
    let taken = sockets.take_tcp_listener(0).and_then(|socket| {
        let Some(socket) = socket else { return Ok(None) };
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Some)
    });
    taken.map_err(StartError::PassedOn)
}

/// Accepts for all shards.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) post: Post,
    pub(super) clock: Clock,
    pub(super) gauges: Arc<[Arc<Gauge>]>,
    pub(super) counters: Arc<Counters>,
    pub(super) connections_max: u64,
}

impl Acceptor {
    /// Accepts for ever.
    pub(super) async fn run(&self) {
        loop {
            let outcome = match self.listener.accept().await {
                Ok((tcp, peer)) => self.hand_over(tcp, peer),
                Err(error) => {
                    // A peer that has gone again costs nothing; everything else needs a breath.
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        tracing::warn!(%error, "no connection can be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Connection::AcceptFailed
                }
            };
            self.counters.connections.of(outcome).one();
        }
    }

    /// Gives a connection to the shard with the fewest, or to the next one when that is busy.
    fn hand_over(&self, tcp: TcpStream, peer: SocketAddr) -> Connection {
        let now = self.clock.now();
        let look = |gauge: &Arc<Gauge>| (gauge.lateness(now) > STUCK, gauge.connections());
        let mut shards: Vec<_> = self.gauges.iter().map(look).enumerate().collect();
        let connections: u64 = shards.iter().map(|(_, (_, connections))| connections).sum();
        if connections >= self.connections_max {
            return Connection::TooMany;
        }
        // Of no reactor any more: the shard's own takes it.
        let Ok(tcp) = tcp.into_std() else { return Connection::AcceptFailed };
        // One that is stuck comes last, however few it has.
        shards.sort_by_key(|(_, look)| *look);
        let mut tcp = tcp;
        for (shard, _) in shards {
            let place = self.gauges[shard].place();
            let accepted = ToShard::Connection(Accepted { tcp, peer, place });
            match self.post.send(shard, accepted) {
                Ok(()) => return Connection::Accepted,
                Err(ToShard::Connection(back)) => tcp = back.tcp,
                Err(_) => return Connection::ShardsBusy,
            }
        }
        Connection::ShardsBusy
    }
}

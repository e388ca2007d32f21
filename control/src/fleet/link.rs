//! Control's end of the link: the QUIC server that relays dial.
//!
//! One task for each connection, in `session`; this file owns the endpoint and those tasks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, Incoming, ServerConfig, TransportConfig};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, AuthorityError};
use crate::clock;
use crate::plane::Plane;

mod session;

/// The listening link.
#[derive(Debug)]
pub struct Link {
    endpoint: Endpoint,
    authority: Arc<Authority>,
}

/// Why the link does not listen.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Its certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Its address could not be taken.
    #[error("the link cannot listen on UDP {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl Link {
    /// Takes the address; relays may dial from here on.
    ///
    /// # Errors
    /// When the address is taken, or no certificate can be made.
    pub fn bind(address: SocketAddr, authority: Arc<Authority>) -> Result<Self, LinkError> {
        let config = server_config(&authority)?;
        let endpoint = Endpoint::server(config, address)
            .map_err(|source| LinkError::Listen { address, source })?;
        Ok(Self { endpoint, authority })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves relays until `stop` is cancelled.
    #[expect(clippy::disallowed_methods, reason = "this file owns the tasks of the connections")]
    pub async fn serve(self, plane: Arc<Plane>, stop: CancellationToken) {
        let mut sessions = JoinSet::new();
        let mut renew = interval_at(Instant::now() + LEAF_RENEWAL, LEAF_RENEWAL);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                incoming = self.endpoint.accept() => {
                    // A link that is gone for good cannot be served around: a restart may help.
                    let Some(incoming) = incoming else {
                        tracing::error!("the link's socket failed; the process stops");
                        plane.shutdown.cancel();
                        break;
                    };
                    let Some(incoming) = self.admit(incoming) else { continue };
                    let (plane, authority) = (Arc::clone(&plane), Arc::clone(&self.authority));
                    let stop = stop.clone();
                    sessions.spawn(session::serve(plane, authority, incoming, stop));
                }
                // Ended sessions leave the set; a panic costs its own connection.
                Some(_) = sessions.join_next() => {}
                _ = renew.tick() => self.renew(),
            }
        }
        // Sessions hear the same stop; each closes its own connection.
        while sessions.join_next().await.is_some() {}
        self.endpoint.close(0_u32.into(), b"control stops");
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.endpoint.wait_idle()).await;
    }

    /// Refuses what is too much, and asks strangers to prove their address when there are many.
    fn admit(&self, incoming: Incoming) -> Option<Incoming> {
        let open = self.endpoint.open_connections();
        if open >= CONNECTIONS_MAX {
            tracing::warn!(open, "too many link connections; one is refused");
            incoming.refuse();
            return None;
        }
        // A retry costs the stranger a trip and us no state: a forged address never comes back.
        if open >= CONNECTIONS_TRUSTED && incoming.may_retry() {
            let _ = incoming.retry();
            return None;
        }
        Some(incoming)
    }

    fn renew(&self) {
        // Connections that are open keep the leaf they began with.
        match server_config(&self.authority) {
            Ok(config) => self.endpoint.set_server_config(Some(config)),
            Err(error) => tracing::error!(%error, "the link's certificate is not renewed"),
        }
    }
}

fn server_config(authority: &Authority) -> Result<ServerConfig, AuthorityError> {
    let mut config = ServerConfig::with_crypto(authority.quic_config(clock::wall())?);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE_MAX.try_into().expect("five seconds are a time-out")))
        .keep_alive_interval(Some(KEEP_ALIVE))
        // One stream carries the link and one the relay's beats; a peer that opens more is not a
        // relay of ours.
        .max_concurrent_bidi_streams(1_u8.into())
        .max_concurrent_uni_streams(1_u8.into())
        .datagram_receive_buffer_size(None)
        // Events that wait for the database fill their own window and leave room for beats.
        .stream_receive_window(RECEIVE_BYTES_MAX.into())
        .receive_window((RECEIVE_BYTES_MAX + BEATS_BYTES_MAX).into())
        .send_window(SEND_BYTES_MAX);
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Silence after which a connection is given up. Who is silent is known by beats long before
/// ([`link::beat`]) and gets no calls; until then it is shown, and may come back. A relay that does
/// not beat asks for 1.5 s, and the smaller of both counts.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// How often silence is broken.
const KEEP_ALIVE: Duration = Duration::from_millis(300);

/// Connections at once. A fleet is tens of nodes; the rest is a mistake or an attack.
const CONNECTIONS_MAX: usize = 1_024;

/// Up to here nobody has to prove an address, which takes one more trip.
const CONNECTIONS_TRUSTED: usize = 128;

/// What a relay may have under way to us: four full frames.
const RECEIVE_BYTES_MAX: u32 = 256 * 1024;

/// What a relay may have under way of beats: a minute of them.
const BEATS_BYTES_MAX: u32 = 64 * 1024;

/// What may be under way to a relay: all agents of a large file.
const SEND_BYTES_MAX: u64 = 1024 * 1024;

/// How often the leaf is made anew: far below its life.
const LEAF_RENEWAL: Duration = Duration::from_secs(24 * 3_600);

/// How long the last closing packets may take.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

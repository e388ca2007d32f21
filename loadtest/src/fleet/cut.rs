//! A relay's way to control, as a network that can be cut: datagrams pass from a loopback port to
//! a control and back, until none does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A way that is open until it is cut.
pub(super) struct Way {
    /// Where the relay dials.
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    target: SocketAddr,
    is_cut: AtomicBool,
    /// Datagrams that were swallowed.
    swallowed: AtomicU64,
    peers: Mutex<Vec<Peer>>,
}

/// Somebody who has dialled, and the socket that stands for them towards the target. Dropped, its
/// way back ends.
struct Peer {
    address: SocketAddr,
    outward: Arc<UdpSocket>,
    _stop: DropGuard,
}

impl Way {
    /// Opens a way to a control's link.
    ///
    /// # Errors
    /// When there is no port for it.
    pub(super) async fn to(target: SocketAddr) -> std::io::Result<Self> {
        let inward = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = inward.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            is_cut: AtomicBool::new(false),
            swallowed: AtomicU64::new(0),
            peers: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let forth = forth(inward, Arc::clone(&shared), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(forth));
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// Lets nothing pass from here on, in either direction; nobody is told.
    pub(super) fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
    }

    /// Lets everything pass again.
    pub(super) fn heal(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
    }

    /// Datagrams that were swallowed so far.
    pub(super) fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Whether a datagram passes; one that does not is counted.
    fn passes(&self) -> bool {
        let is_cut = self.is_cut.load(Ordering::SeqCst);
        if is_cut {
            self.swallowed.fetch_add(1, Ordering::SeqCst);
        }
        !is_cut
    }

    fn known(&self, address: SocketAddr) -> Option<Arc<UdpSocket>> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = peers.iter().find(|peer| peer.address == address);
        known.map(|peer| Arc::clone(&peer.outward))
    }

    /// Keeps somebody new; of too many the oldest is forgotten.
    fn keep(&self, peer: Peer) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS_MAX {
            peers.remove(0);
        }
        peers.push(peer);
    }
}

/// From whoever dials to the target.
async fn forth(inward: Arc<UdpSocket>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // A refusal of an earlier datagram comes up here; the next one may pass.
        let Ok((length, from)) = inward.recv_from(&mut bytes).await else { continue };
        if !shared.passes() {
            continue;
        }
        let outward = match shared.known(from) {
            Some(outward) => outward,
            None => match meet(from, &inward, &shared, &stop).await {
                Ok(outward) => outward,
                Err(_) => continue,
            },
        };
        // The target may be away: then its datagrams are lost, as in any network.
        let _ = outward.send(bytes.get(..length).unwrap_or_default()).await;
    }
}

/// Makes a socket that stands for somebody new, and its way back.
async fn meet(
    from: SocketAddr,
    inward: &Arc<UdpSocket>,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) -> std::io::Result<Arc<UdpSocket>> {
    let outward = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    outward.connect(shared.target).await?;
    let own = stop.child_token();
    let back = back(Arc::clone(&outward), Arc::clone(inward), from, Arc::clone(shared));
    tokio::spawn(own.clone().run_until_cancelled_owned(back));
    shared.keep(Peer { address: from, outward: Arc::clone(&outward), _stop: own.drop_guard() });
    Ok(outward)
}

/// From the target to whoever has dialled.
async fn back(
    outward: Arc<UdpSocket>,
    inward: Arc<UdpSocket>,
    to: SocketAddr,
    shared: Arc<Shared>,
) {
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match outward.recv(&mut bytes).await {
            Ok(length) if shared.passes() => {
                let _ = inward.send_to(bytes.get(..length).unwrap_or_default(), to).await;
            }
            Ok(_) => {}
            // The target's port is closed while its process is away.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// More than QUIC ever puts into one.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// A relay dials from a new port now and then.
const PEERS_MAX: usize = 64;

/// How long nobody listens behind a refusal.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn hears(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut bytes = [0; 16];
        let heard = tokio::time::timeout(Duration::from_millis(300), socket.recv_from(&mut bytes));
        let (length, from) = heard.await.ok()?.ok()?;
        Some((bytes[..length].to_vec(), from))
    }

    #[tokio::test]
    async fn datagrams_pass_both_ways_until_the_way_is_cut() {
        let control = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let way = Way::to(control.local_addr().unwrap()).await.unwrap();
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        relay.send_to(b"up", way.address).await.unwrap();
        let (up, from) = hears(&control).await.unwrap();
        assert_eq!(up, b"up");
        control.send_to(b"down", from).await.unwrap();
        assert_eq!(hears(&relay).await, Some((b"down".to_vec(), way.address)));
        way.cut();
        relay.send_to(b"lost", way.address).await.unwrap();
        assert_eq!(hears(&control).await, None);
        assert_eq!(way.swallowed(), 1);
        way.heal();
        relay.send_to(b"again", way.address).await.unwrap();
        assert_eq!(hears(&control).await.unwrap().0, b"again");
    }
}

//! A TCP proxy that does on purpose what networks do by accident. It stands between the relay and
//! a fake model, or between a fake carrier and the relay.
//!
//! Faults are ordered at run time ([`FaultProxy::strike`]) or come by themselves out of a seeded
//! [`Plan`]. `fault` says what there is, `link` is one connection, `pump` one direction of it.

mod fault;
mod link;
mod pump;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::fault::{BadFault, Fault, Flow, Plan};

use self::link::Order;
use crate::clock::wall_us;

/// How a proxy is set up.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it connects to.
    pub target: SocketAddr,
    /// Faults that come by themselves.
    pub plan: Plan,
}

impl ProxySettings {
    /// A free loopback port, and nothing but what is ordered.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 0).into(), target, plan: Plan::none() }
    }
}

/// What happens to those who dial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Door {
    /// They are connected.
    #[default]
    Open,
    /// They are reset at once.
    Refusing,
    /// They are taken, and nothing ever answers.
    Silent,
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Its number, from 0 in the order of dialling.
    pub id: u64,
    /// The proxy's address towards the target: who the target thinks is there. `None` before it
    /// was connected.
    pub outward: Option<SocketAddr>,
    /// When it was dialled, in microseconds since 1970.
    pub opened_at_us: u64,
    /// Whether it is open on either side.
    pub open: bool,
    /// Bytes that went from the one who dialled to the target.
    pub up_bytes: u64,
    /// Bytes that went the other way.
    pub down_bytes: u64,
}

/// A running proxy. It stops, and every connection with it, when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What the connections share.
struct Shared {
    target: SocketAddr,
    plan: Plan,
    door: Mutex<Door>,
    known: Mutex<Vec<Arc<Known>>>,
}

/// One connection, as everybody sees it.
struct Known {
    id: u64,
    opened_at_us: u64,
    outward: Mutex<Option<SocketAddr>>,
    /// Full when somebody orders faults faster than they can happen; those are refused.
    orders: mpsc::Sender<Order>,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
}

impl FaultProxy {
    /// Starts one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(settings: ProxySettings) -> std::io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: settings.target,
            plan: settings.plan,
            door: Mutex::default(),
            known: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let doorman = accept(listener, Arc::clone(&shared), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(doorman));
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection so far, in the order of dialling.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.shared.known).iter().map(|known| known.look()).collect()
    }

    /// How many connections are open on either side.
    #[must_use]
    pub fn open(&self) -> usize {
        lock(&self.shared.known).iter().filter(|known| !known.orders.is_closed()).count()
    }

    /// Lets a fault happen to a connection; gives whether it was still open.
    pub fn strike(&self, connection: u64, flow: Flow, fault: Fault) -> bool {
        let known = usize::try_from(connection)
            .ok()
            .and_then(|at| lock(&self.shared.known).get(at).cloned());
        known.is_some_and(|known| known.orders.try_send(Order { flow, fault }).is_ok())
    }

    /// Decides what happens to those who dial from here on.
    pub fn set_door(&self, door: Door) {
        *lock(&self.shared.door) = door;
    }
}

impl Known {
    /// What is known of it.
    fn look(&self) -> Connection {
        Connection {
            id: self.id,
            outward: *lock(&self.outward),
            opened_at_us: self.opened_at_us,
            open: !self.orders.is_closed(),
            up_bytes: self.up_bytes.load(Ordering::Relaxed),
            down_bytes: self.down_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Plain values are behind these; whoever panicked has not left half of one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes connections until the proxy is dropped.
async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let door = *lock(&shared.door);
        if door == Door::Refusing {
            let _ = stream.set_zero_linger();
            continue;
        }
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let known = {
            let mut all = lock(&shared.known);
            let known = Arc::new(Known {
                id: all.len() as u64,
                opened_at_us: wall_us(),
                outward: Mutex::new(None),
                orders,
                up_bytes: AtomicU64::new(0),
                down_bytes: AtomicU64::new(0),
            });
            all.push(Arc::clone(&known));
            known
        };
        let shared = Arc::clone(&shared);
        let life = async move {
            match door {
                Door::Silent => link::ignore(stream).await,
                Door::Open | Door::Refusing => connect(stream, &shared, &known, taken).await,
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(life));
    }
}

/// Connects somebody who dialled, and stays until both ends are gone. `orders` ends with it, which
/// is how a connection is known to be closed.
async fn connect(stream: TcpStream, shared: &Shared, known: &Known, orders: mpsc::Receiver<Order>) {
    let Ok(target) = TcpStream::connect(shared.target).await else {
        let _ = stream.set_zero_linger();
        return;
    };
    *lock(&known.outward) = target.local_addr().ok();
    for stream in [&stream, &target] {
        let _ = stream.set_nodelay(true);
    }
    let planned = shared.plan.faults_of(known.id);
    link::Link::new(stream, target, known).run(orders, planned).await;
}

/// A connection is told a few things at most.
const ORDERS_MAX: usize = 8;

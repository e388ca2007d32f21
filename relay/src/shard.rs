//! A shard: one thread, one current-thread runtime, the sockets, buffers and timers of its calls.
//!
//! The house hands it connections through one bounded channel. Each connection is one task from
//! its first byte to its last: TLS, HTTP, the upgrade, admission (`shard/admission.rs`), the call
//! ([`bridge`](crate::bridge)). A panic ends that task and nothing else; what it held is given
//! back by the guards that it owned.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use link::id::{CallId, Gen, TenantId};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::admit::{Allowance, Identity};
use crate::call::input::Batch;
use crate::clock::Clock;
use crate::forward::{Forward, Origin, Scheme};
use crate::front::Front;
use crate::gate::Gate;
use crate::known::Known;
use crate::mailbox::{Letter, Mailbox};
use crate::metrics::Counters;
use crate::stream::{Leg, Stream, tune};
use crate::telemetry::{CallRef, NOT_HERE, Outlet};
use crate::tls;
use crate::tools::Tools;
use crate::ws::{ReadBuffer, WriteBuffer};

use self::anteroom::Anteroom;
use self::lateness::Lateness;
use self::post::BEAT;
use self::spares::Patience;

pub use self::post::{Accepted, Gauge, Place, Post, TO_SHARD_MAX, ToShard};
pub use self::pressure::Pressure;

mod admission;
mod anteroom;
mod door;
mod lateness;
mod post;
mod pressure;
mod spares;

/// The buffers that all sockets of a shard share; borrowed for one poll at a time.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What was read last.
    pub read: ReadBuffer,
    /// What is being written to a caller.
    pub to_caller: WriteBuffer,
    /// What is being written to an agent, for each of the two slots.
    pub to_agent: [WriteBuffer; 2],
    /// What is being written to sockets that only finish.
    pub aside: WriteBuffer,
}

/// What the calls of one shard share.
#[derive(Debug)]
pub struct Shard {
    /// The process's clock.
    pub clock: Clock,
    /// Borrowed for one poll at a time, never across an await.
    pub buffers: RefCell<Buffers>,
    /// Whom this process trusts when it dials agents.
    pub agent_tls: Arc<rustls::ClientConfig>,
    /// How far playout may be ahead of the caller's ear.
    pub playout_lead: Duration,
    setup: Setup,
    /// By generation too: an older stream of a call may be falling silent beside the newer one.
    mailboxes: RefCell<HashMap<(CallId, Gen), Rc<Mailbox>>>,
    anteroom: RefCell<Anteroom>,
    spare_patience: RefCell<Patience>,
    /// Calls that were sent away and still close their sockets.
    leaving: watch::Sender<u32>,
    /// Whose TLS handshake goes on in this turn of the shard.
    handshaking: tokio::sync::Mutex<()>,
    refusals_told: RefCell<Allowance>,
    pressure: Pressure,
}

/// What a shard is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which shard it is, from 0.
    pub index: usize,
    /// The process's clock.
    pub clock: Clock,
    /// The node and the start of the process.
    pub identity: Identity,
    /// What streams are judged by.
    pub known: Arc<Known>,
    /// The node's door.
    pub gate: Arc<Gate>,
    /// The way to the other shards.
    pub post: Post,
    /// The way out for events and counters.
    pub outlet: Outlet,
    /// What the house sees.
    pub gauge: Arc<Gauge>,
    /// The relay's own certificate; `None` when a proxy in front ends TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What stands in front of the public port.
    pub front: Front,
    /// The way to control for whatever is not a stream.
    pub forward: Option<Forward>,
    /// Whom this process trusts when it dials agents.
    pub agent_tls: Arc<rustls::ClientConfig>,
    /// Runs what agents ask for.
    pub tools: Tools,
    /// How far playout may be ahead of the caller's ear.
    pub playout_lead: Duration,
    /// How callers' audio is sent on.
    pub uplink: UplinkPace,
    /// Sessions for each agent that the node keeps open for streams that nobody announces.
    pub spare_agents: u32,
    /// How many shards the node has.
    pub shards: usize,
}

/// How callers' audio is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkPace {
    /// Like this.
    Always(Batch),
    /// Frame by frame, and like this while the shard is late.
    WhenLate(Batch),
}

/// Connections that are begun in one turn of the shard. Each costs some 50 us before its request
/// is there, and calls that have something to read wait behind them.
const BEGUN_MAX: u32 = 8;

/// Starts a shard's thread.
///
/// # Errors
/// When the system gives no thread, or the thread no runtime.
pub fn start(setup: Setup, inbox: mpsc::Receiver<ToShard>) -> io::Result<JoinHandle<()>> {
    let (told, ready) = std::sync::mpsc::sync_channel(1);
    let name = format!("shard-{}", setup.index);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // Built here, because it never leaves its thread: tasks need no second queue for that.
        let options = LocalOptions::default();
        let runtime = match Builder::new_current_thread().enable_all().build_local(options) {
            Ok(runtime) => runtime,
            Err(error) => return drop(told.send(Err(error))),
        };
        drop(told.send(Ok(())));
        runtime.block_on(Rc::new(Shard::new(setup)).serve(inbox));
        // A name that is still being looked up must not hold the thread.
        runtime.shutdown_background();
    })?;
    ready.recv().map_err(io::Error::other)??;
    Ok(thread)
}

impl Shard {
    /// A shard without calls.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            clock: setup.clock,
            buffers: RefCell::default(),
            agent_tls: setup.agent_tls.clone(),
            playout_lead: setup.playout_lead,
            mailboxes: RefCell::default(),
            anteroom: RefCell::default(),
            spare_patience: RefCell::default(),
            leaving: watch::Sender::new(0),
            handshaking: tokio::sync::Mutex::default(),
            refusals_told: RefCell::new(Allowance::new(setup.clock.now())),
            pressure: Pressure::default(),
            setup,
        }
    }

    /// The shard's way out for events and counters.
    #[must_use]
    pub fn outlet(&self) -> &Outlet {
        &self.setup.outlet
    }

    /// The shard's counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        self.setup.outlet.counters()
    }

    /// How the shard's calls send their callers' audio on.
    #[must_use]
    pub fn uplink_batch(&self) -> Batch {
        match self.setup.uplink {
            UplinkPace::Always(batch) => batch,
            UplinkPace::WhenLate(batch) if self.pressure.is_late() => batch,
            UplinkPace::WhenLate(_) => Batch::Off,
        }
    }

    /// How late the shard is.
    #[must_use]
    pub fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// Runs what agents ask for.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.setup.tools
    }

    /// Serves what the house says, until it says stop. Runs on a `LocalSet`, which owns its tasks.
    pub async fn serve(self: Rc<Self>, mut inbox: mpsc::Receiver<ToShard>) {
        // Beats that were missed come at once, each as late as it is.
        let (mut beat, mut lateness) = (tokio::time::interval(BEAT), Lateness::default());
        let mut begun = 0;
        // A shard that keeps none has nothing that wakes it five times a second.
        if self.setup.spare_agents > 0 {
            self.begin(self.clone().keep_spares());
        }
        loop {
            let message = tokio::select! {
                message = inbox.recv() => message,
                due = beat.tick() => {
                    let now = self.clock.now();
                    let late = lateness.beat(now.since(self.clock.moment(due)));
                    self.setup.gauge.beats(now, late);
                    self.pressure.beat(late);
                    self.counters().late_beats.add(u64::from(self.pressure.is_late()));
                    continue;
                }
            };
            match message {
                Some(ToShard::Connection(accepted)) => {
                    self.begin(self.clone().connection(accepted));
                    begun += 1;
                    if begun % BEGUN_MAX == 0 {
                        // A herd of connections is spread over turns, with media between them.
                        tokio::task::yield_now().await;
                    }
                }
                Some(ToShard::Letter { call, generation, letter }) => {
                    self.deliver((call, generation), letter);
                }
                Some(ToShard::Prepare { waits, agent, continues }) => {
                    self.prepare(waits, &agent, continues);
                }
                Some(ToShard::Continue { id, stream, said }) => {
                    self.continue_with(id, stream, &said);
                }
                Some(ToShard::Claim { id, to }) => self.hand_over(id, to),
                Some(ToShard::Empty) => self.empty_anteroom(),
                Some(ToShard::Drain) => self.drain(),
                // What is still open then is cut; the house has waited for it.
                Some(ToShard::Stop) | None => return self.until_left().await,
            }
        }
    }

    /// Starts a task of the shard. Its handle is dropped: a task owns its guards, and the panic
    /// hook logs.
    #[expect(clippy::disallowed_methods, reason = "one task a call, owned by the shard's runtime")]
    fn begin(&self, task: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(task));
    }

    fn deliver(&self, to: (CallId, Gen), letter: Letter) {
        // The house looked the call up before it wrote, and the call may have ended since.
        let mailbox = self.mailboxes.borrow().get(&to).cloned();
        let Some(mailbox) = mailbox else {
            let call = CallRef { id: to.0, tenant: TenantId::default(), generation: to.1 };
            return self.setup.outlet.return_letter(&call, &letter, NOT_HERE);
        };
        if let Err(letter) = mailbox.post(letter) {
            let call = CallRef { id: to.0, tenant: TenantId::default(), generation: to.1 };
            tracing::warn!(call = %call.id, generation = %call.generation, "a call takes no letters");
            self.setup.outlet.return_letter(&call, &letter, "the call has too much to do");
        }
    }

    fn drain(&self) {
        #[expect(clippy::iter_over_hash_type, reason = "every call gets the same letter at once")]
        for mailbox in self.mailboxes.borrow().values() {
            // A full mailbox belongs to a call that is stuck; it is left behind all the same.
            let _ = mailbox.post(Letter::Drain);
        }
    }

    /// One connection, from its first byte to its last.
    async fn connection(self: Rc<Self>, accepted: Accepted) {
        let Accepted { tcp, peer, place } = accepted;
        let _place = place;
        let (stream, scheme) = match self.secure(tcp).await {
            Ok(secured) => secured,
            Err(error) => {
                self.setup.outlet.counters().tls_failures.one();
                tracing::debug!(%error, "a connection broke before HTTP");
                return;
            }
        };
        let origin = Origin { address: peer.ip(), scheme };
        if let Some((socket, visitor)) = self.clone().http(stream, origin).await {
            self.stream(socket, visitor).await;
        }
    }

    async fn secure(&self, tcp: StdTcpStream) -> io::Result<(Stream, Scheme)> {
        let tcp = TcpStream::from_std(tcp)?;
        tune(&tcp, Leg::Caller)?;
        let Some(config) = &self.setup.tls else { return Ok((Stream::Plain(tcp), Scheme::Http)) };
        Ok((self.in_turns(tls::accept(tcp, config)).await?, Scheme::Https))
    }

    /// Polls a handshake at most once in a turn of the shard, and no other one in that turn: a step
    /// may cost a millisecond of the core that also carries calls, so media goes between any two.
    /// Whoever waits for its peer holds nothing, so a peer that dawdles keeps nobody out.
    async fn in_turns<T>(&self, handshake: impl Future<Output = T>) -> T {
        let mut handshake = pin!(handshake);
        loop {
            let turn = self.handshaking.lock().await;
            // Back once the sockets of the turn have been served.
            tokio::task::yield_now().await;
            if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await
            {
                return done;
            }
            drop(turn);
            let mut is_woken = false;
            poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
                true => Poll::Ready(()),
                // The handshake has left word with its socket and its deadline.
                false => Poll::Pending,
            })
            .await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

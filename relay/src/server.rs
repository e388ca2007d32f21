//! The house: the main thread's runtime. It accepts connections for the shards, serves probes and
//! metrics, keeps the link, and lets the process end without cutting calls.
//!
//! ```text
//! listening -> serving -- SIGTERM --> draining -- last call or deadline --> closing --> gone
//!                                        |                                    ^
//!                                        +--- second signal ------------------+
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use link::ephemeral::Ephemeral;
use link::id::Epoch;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::accept::Acceptor;
use self::admin::Admin;
use crate::admit::Identity;
use crate::clock::{self, Clock};
use crate::config::{Config, Mode};
use crate::front::Front;
use crate::gate::Gate;
use crate::gate::room::Bounds;
use crate::kernel::{self, Needs};
use crate::known::Known;
use crate::metrics::{Counters, Metrics};
use crate::node::{self, FromShards, Link, LinkState, Phase, Surroundings};
use crate::shard::{self, Gauge, Post, Setup, ToShard};
use crate::telemetry::{Noted, Outlet};
use crate::tls::Own;

mod accept;

pub(crate) use self::files::{limit_raised as files_limit, needed as files_needed};
pub(crate) use self::memory::bound as memory_bound;

mod admin;
mod certificate;
mod files;
mod memory;
mod room;
mod watchdog;

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What the service manager holds for the public port cannot be listened on.
    #[error("the socket that was passed on is no TCP socket")]
    PassedOn(#[source] io::Error),
    /// The system gives no thread, runtime, signal or randomness.
    #[error("the system refuses what every process needs")]
    System(#[from] io::Error),
}

/// Where the process listens: what was asked for, with the ports that the system chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// The public port.
    pub public: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

/// Events on their way from the shards to the house, all shards together.
const FROM_SHARDS_MAX: usize = 16_384;
/// What is told for the moment on the same way: more than a tenth of a second of a thousand calls. When
/// it is full, words are dropped; turns still come whole.
const PASSING_MAX: usize = 2_048;
/// How long calls that were told to close may take: a close frame, its answer, the last event.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How often a drain says how many calls are left.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long the last events may take to be committed before the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// How long threads and the link may take to end when nothing is left to do.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// How long the public port still forwards when calls have ended in the drain: the carrier asks
/// what follows each stream through this very port, some 300 ms after it.
const LINGER: Duration = Duration::from_secs(3);

/// Serves until a signal ends the process. `listening` is told once both ports are open.
///
/// # Errors
/// When the process cannot serve; nothing has been accepted then.
pub async fn run(
    config: Config,
    clock: Clock,
    listening: impl FnOnce(Listening),
) -> Result<(), StartError> {
    // First of all: it changes the environment, and there are no threads yet.
    let passed_on = accept::passed_on()?;
    let signals = Signals::new()?;
    files::raise_limit(config.calls_max);
    let has_link = matches!(config.mode, Mode::Joined(_));
    kernel::warn(Needs { calls_max: config.calls_max, has_link });
    let public = match passed_on {
        Some(public) => public,
        None => accept::listen(config.listen)?,
    };
    let admin = accept::listen(config.admin_listen)?;
    let addresses = Listening { public: public.local_addr()?, admin: admin.local_addr()? };
    let house = House::new(config, clock)?;
    listening(addresses);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    house.start(public, admin);
    house.until_done(signals).await;
    house.stop().await;
    Ok(())
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What the house holds while it serves.
struct House {
    clock: Clock,
    identity: Identity,
    epoch: Epoch,
    gate: Arc<Gate>,
    gauges: Arc<[Arc<Gauge>]>,
    metrics: Arc<Metrics>,
    counters: Arc<Counters>,
    post: Post,
    tie: Tie,
    link_state: watch::Receiver<LinkState>,
    shards: Rc<tokio::sync::Mutex<FromShards>>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    drain_max: Duration,
    forwards: bool,
    certificate: Option<Arc<Own>>,
    front: Front,
}

/// Whom the house tells events.
#[derive(Clone)]
enum Tie {
    /// Control, over the link.
    Link(Rc<Link>),
    /// Nobody.
    Nobody,
}

/// The ways from the shards to the house.
struct Ways {
    events: mpsc::Sender<Noted>,
    /// `None` when there is nobody to pass anything on to.
    passing: Option<mpsc::Sender<Ephemeral>>,
}

impl Ways {
    fn new(mode: &Mode) -> (Self, FromShards) {
        let (events, from_shards) = mpsc::channel(FROM_SHARDS_MAX);
        let (passing, to_pass_on) = mpsc::channel(PASSING_MAX);
        let passing = match mode {
            Mode::Joined(_) => Some(passing),
            Mode::Alone(_) => None,
        };
        (Self { events, passing }, FromShards { events: from_shards, passing: to_pass_on })
    }

    /// The way out of one shard.
    fn outlet(&self, shard: usize, counters: Arc<Counters>, clock: Clock) -> Outlet {
        let outlet = Outlet::new(shard, counters, self.events.clone(), clock);
        match &self.passing {
            Some(passing) => outlet.with_passing(passing.clone()),
            None => outlet,
        }
    }
}

impl House {
    fn new(config: Config, clock: Clock) -> Result<Self, StartError> {
        let identity = Identity { node: config.node.clone(), started: clock::wall() };
        let epoch = epoch()?;
        let known = Arc::new(Known::nothing());
        let bounds = Bounds {
            memory_max: memory::bound(config.memory_max),
            files_max: files::for_calls(),
            lateness_max: config.lateness_max,
        };
        let gate = Arc::new(Gate::new(config.calls_max, bounds));
        let counters = Arc::new(Counters::default());
        let (ways, from_shards) = Ways::new(&config.mode);
        let (senders, inboxes): (Vec<_>, Vec<_>) =
            (0..config.shards).map(|_| mpsc::channel(shard::TO_SHARD_MAX)).unzip();
        let post = Post::new(senders);

        let (mut threads, mut gauges, mut all_counters) = (vec![], vec![], vec![counters.clone()]);
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let (gauge, own) = (Arc::new(Gauge::default()), Arc::new(Counters::default()));
            let setup = Setup {
                index,
                clock,
                identity: identity.clone(),
                known: known.clone(),
                gate: gate.clone(),
                post: post.clone(),
                outlet: ways.outlet(index, own.clone(), clock),
                gauge: gauge.clone(),
                tls: config.tls.as_ref().map(|own| own.config()),
                front: config.front,
                forward: config.forward.clone(),
                agent_tls: config.agent_tls.clone(),
                tools: config.tools.clone(),
                playout_lead: config.playout_lead,
                uplink: config.uplink,
                spare_agents: config.spare_agents,
                shards: config.shards,
            };
            threads.push(shard::start(setup, inbox)?);
            gauges.push(gauge);
            all_counters.push(own);
        }

        let (stop, gauges) = (CancellationToken::new(), Arc::from(gauges));
        let around = Surroundings {
            clock,
            identity: identity.clone(),
            epoch,
            known: known.clone(),
            gate: gate.clone(),
            post: post.clone(),
            gauges: Arc::clone(&gauges),
            counters: counters.clone(),
            shards_count: all_counters.iter().skip(1).cloned().collect(),
        };
        let (tie, link_state) = tie(config.mode, around, &stop);
        Ok(Self {
            metrics: admin::metrics(all_counters, gate.clone(), link_state.clone()),
            clock,
            identity,
            epoch,
            gate,
            gauges,
            counters,
            post,
            tie,
            link_state,
            shards: Rc::new(tokio::sync::Mutex::new(from_shards)),
            stop,
            threads,
            drain_max: config.drain_max,
            forwards: config.forward.is_some(),
            certificate: config.tls,
            front: config.front,
        })
    }

    /// Starts what runs beside the calls. Each may panic and is started again: no call depends on
    /// one of them.
    fn start(&self, public: TcpListener, admin: TcpListener) {
        let acceptor = Rc::new(Acceptor {
            listener: public,
            post: self.post.clone(),
            clock: self.clock,
            gauges: self.gauges.clone(),
            counters: self.counters.clone(),
            connections_max: u64::from(self.gate.calls_max()) + accept::CONNECTIONS_SPARE,
        });
        supervise("acceptor", move || {
            let acceptor = acceptor.clone();
            async move { acceptor.run().await }
        });
        let admin = Rc::new((admin, Rc::new(self.admin())));
        supervise("admin", move || {
            let admin = admin.clone();
            async move { admin::serve(&admin.0, &admin.1).await }
        });
        let (tie, shards, post) = (self.tie.clone(), self.shards.clone(), self.post.clone());
        supervise("events", move || {
            let (tie, shards, post) = (tie.clone(), shards.clone(), post.clone());
            async move {
                let mut shards = shards.lock().await;
                match tie {
                    Tie::Link(link) => link.gather(&mut shards).await,
                    Tie::Nobody => node::gather_alone(&mut shards.events, &post).await,
                }
            }
        });
        if let Tie::Link(link) = self.tie.clone() {
            supervise("link", move || {
                let link = link.clone();
                async move { link.keep_up().await }
            });
        }
        let (gauges, clock, front) = (self.gauges.clone(), self.clock, self.front);
        supervise("watchdog", move || watchdog::watch(gauges.clone(), clock, front));
        if let Some(own) = self.certificate.clone() {
            supervise("certificate", move || certificate::follow(own.clone()));
        }
        let (gate, gauges) = (self.gate.clone(), self.gauges.clone());
        supervise("room", move || room::measure(gate.clone(), gauges.clone(), clock));
    }

    fn admin(&self) -> Admin {
        Admin {
            clock: self.clock,
            node: self.identity.node.clone(),
            epoch: self.epoch,
            gate: self.gate.clone(),
            gauges: self.gauges.clone(),
            link: self.link_state.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Serves until a signal, then lets calls end, as long as they may.
    async fn until_done(&self, mut signals: Signals) {
        signals.next().await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.gate.drain();
        // Sessions that wait for streams would wait in vain: the carrier is sent elsewhere.
        self.post.send_all(|| ToShard::Empty).await;
        let calls = self.gate.occupancy().calls;
        tracing::info!(calls, seconds = self.drain_max.as_secs(), "draining");
        tokio::select! {
            drained = timeout(self.drain_max, self.until_empty()) => {
                if drained.is_err() {
                    tracing::warn!(calls = self.gate.occupancy().calls, "calls are closed");
                }
            }
            () = signals.next() => tracing::warn!("a second signal: calls are closed at once"),
        }
        self.post.send_all(|| ToShard::Drain).await;
        if timeout(CLOSE_WITHIN, self.until_empty()).await.is_err() {
            tracing::warn!(calls = self.gate.occupancy().calls, "calls are left behind");
        }
        if self.forwards && calls > 0 {
            tokio::time::sleep(LINGER).await;
        }
    }

    /// Waits until no call is left, and says every few seconds how many are.
    async fn until_empty(&self) {
        let mut occupancy = self.gate.watch();
        let mut often = tokio::time::interval(TELL_EVERY);
        // The first tick is now.
        often.tick().await;
        loop {
            tokio::select! {
                // The gate lives as long as the house, so the channel cannot close.
                _ = occupancy.wait_for(|occupancy| occupancy.calls == 0) => return,
                _ = often.tick() => {
                    tracing::info!(calls = self.gate.occupancy().calls, "calls are left");
                }
            }
        }
    }

    /// Ends the shards, gives control the last events, and takes leave of it.
    async fn stop(self) {
        self.post.send_all(|| ToShard::Stop).await;
        if timeout(STOP_WITHIN, join(self.threads)).await.is_err() {
            tracing::error!("a shard does not end");
        }
        if let Tie::Link(link) = &self.tie {
            // The shards' ends of the channel are gone, so its reader ends once all of it is in
            // the ring, and gives the channel free.
            let mut state = self.link_state.clone();
            let flushed = async {
                drop(self.shards.lock().await);
                let _ = state.wait_for(|state| state.events_waiting == 0).await;
            };
            if timeout(FLUSH_WITHIN, flushed).await.is_err() {
                let events = self.link_state.borrow().events_waiting;
                if link.has_spool() {
                    tracing::info!(events, "events wait on file for the next start");
                } else {
                    tracing::warn!(events, "events are left behind");
                }
            }
            self.stop.cancel();
            let left = state.wait_for(|state| state.phase != Phase::Up);
            let _ = timeout(STOP_WITHIN, left).await;
            if timeout(STOP_WITHIN, link.finish_spool()).await.is_err() {
                tracing::warn!("the spool's disk is too slow: its last events may be lost");
            }
        }
        tracing::info!("gone");
    }
}

/// Waits for the shards' threads, beside the runtime that the link needs meanwhile.
#[expect(clippy::disallowed_methods, reason = "a blocking wait; at most one, at the very end")]
async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(|| {
        threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
    });
    if joined.await.unwrap_or_default() > 0 {
        tracing::error!("a shard has ended by a panic");
    }
}

/// Ties the house to control, or gives it what its files say.
fn tie(
    mode: Mode,
    around: Surroundings,
    stop: &CancellationToken,
) -> (Tie, watch::Receiver<LinkState>) {
    match mode {
        Mode::Joined(joined) => {
            let link = Link::new(joined, around, stop.clone());
            let state = link.watch();
            (Tie::Link(link), state)
        }
        Mode::Alone(alone) => {
            node::know_alone(alone, &around.known, &around.gate);
            (Tie::Nobody, node::alone())
        }
    }
}

/// A number for this life of the process, below 2^53 so that every JSON reader takes it.
fn epoch() -> io::Result<Epoch> {
    let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Epoch(random >> 11))
}

/// Runs a piece of the house until it is done, again and again when it panics.
#[expect(clippy::disallowed_methods, reason = "the house's own tasks, owned by its LocalSet")]
fn supervise<F: Future<Output = ()> + 'static>(name: &'static str, make: impl Fn() -> F + 'static) {
    drop(tokio::task::spawn_local(async move {
        while tokio::task::spawn_local(make()).await.is_err() {
            tracing::error!(name, "a part of the house has panicked and is started again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }));
}

/// Starts one admin connection's task.
#[expect(clippy::disallowed_methods, reason = "the house's own tasks, owned by its LocalSet")]
fn begin(connection: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(connection));
}

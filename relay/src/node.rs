//! The relay's end of the link: finds control, tells it events, takes what calls need from it.
//!
//! There may be several controls, which share a database: a line is kept to each, found by name and
//! looked up again and again. Commands come over any of them; events go over the one whose control
//! numbers them (`lines.rs`), and when that changes, all that is not acknowledged is sent again.
//!
//! Control being away changes nothing for calls: events wait in the [`Ring`] and on file
//! ([`spool`]), keys and agents stay known, and the node stays ready once it has been synced. What
//! is told for the moment (`passing.rs`) goes to all controls that are there, and to none later.
//! Each line has its heartbeat (`beat.rs`), which finds out that a control is away before anybody
//! closes anything. A node that runs alone has no link; its events only feed metrics, and what it
//! asks to be recorded is recorded at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use link::ephemeral::Ephemeral;
use link::id::Epoch;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::lines::{Lines, Taker};
use self::passing::Recent;
use self::passport::Passport;
use self::replay::Replay;
use self::ring::{Kept, Ring};
use self::session::Broken;
use self::spool::Spool;
use crate::admit::Identity;
use crate::clock::Clock;
use crate::config::Joined;
use crate::gate::Gate;
use crate::known::Known;
use crate::mailbox::Letter;
use crate::metrics::Counters;
use crate::metrics::labels::{Attempt, Lost};
use crate::shard::{Gauge, Post, ToShard};
use crate::telemetry::{Noted, Receipt};

pub mod ring;
pub mod spool;

mod beat;
mod lines;
mod orders;
mod passing;
mod passport;
mod replay;
mod session;

pub use self::session::trust;

/// Finds out whether control can be reached and is the one of the join token. Says nothing: the
/// node that serves keeps its place.
///
/// # Errors
/// What is in the way.
pub(crate) async fn knock(joined: &Joined) -> Result<(), String> {
    match session::reach_any(joined).await {
        Ok((endpoint, connection)) => {
            connection.close(0_u32.into(), b"");
            // Gives the close a chance to leave.
            let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
            Ok(())
        }
        Err(Broken::Stopped | Broken::Twin) => Err("the process stops".to_owned()),
        Err(Broken::Refused(why)) => Err(why),
        Err(Broken::Failed(error)) => Err(error.to_string()),
    }
}

/// How the link is, for probes and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Whether control is reached.
    pub phase: Phase,
    /// How many controls are reached.
    pub controls: usize,
    /// Events that control has not committed.
    pub events_waiting: usize,
    /// Bytes of events on file; 0 without a spool.
    pub spool_bytes: u64,
}

/// Whether control is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no control: the node runs alone.
    Alone,
    /// Not at the moment.
    Away,
    /// Yes.
    Up,
}

impl Phase {
    /// The phase as `/health` writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Away => "away",
            Self::Up => "up",
        }
    }
}

/// What both kinds of node need to pass things on.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The process's clock.
    pub clock: Clock,
    /// The node and the start of the process.
    pub identity: Identity,
    /// This life of the process.
    pub epoch: Epoch,
    /// What streams are judged by.
    pub known: Arc<Known>,
    /// The node's door.
    pub gate: Arc<Gate>,
    /// The way to the shards.
    pub post: Post,
    /// What is seen of the shards.
    pub gauges: Arc<[Arc<Gauge>]>,
    /// The house's counters.
    pub counters: Arc<Counters>,
    /// What each shard counts, for the progress that beats tell.
    pub shards_count: Arc<[Arc<Counters>]>,
}

/// What shards tell the house.
#[derive(Debug)]
pub struct FromShards {
    /// To be kept until control has committed it.
    pub events: mpsc::Receiver<Noted>,
    /// To be passed on or dropped; the house looks for it by itself.
    pub passing: mpsc::Receiver<Ephemeral>,
}

/// The link of a node that joins.
#[derive(Debug)]
pub struct Link {
    joined: Joined,
    around: Surroundings,
    ring: RefCell<Ring>,
    /// `None` when events are in memory only.
    spool: Option<Spool>,
    /// What an earlier life has left and is under way.
    replayed: RefCell<Replay>,
    /// Control has committed something of it.
    replay_acks: watch::Sender<()>,
    /// There is room in the ring, perhaps for what is on file.
    room: Notify,
    passing: RefCell<Recent>,
    lines: RefCell<Lines>,
    passport: RefCell<Passport>,
    /// Who was told the events that the ring counts as sent.
    taker: Cell<Option<Taker>>,
    /// Where controls are, as far as their names say.
    addresses: watch::Sender<BTreeSet<SocketAddr>>,
    /// Whether the last event found no room: said once, not for each.
    losing: Cell<bool>,
    /// Something is here that was not sent, or another control takes events.
    news: watch::Sender<()>,
    state: watch::Sender<LinkState>,
    stop: CancellationToken,
}

/// The first wait after a lost connection; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The longest wait: what an operator who starts control again has to wait for.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The wait after a refusal, which no try but only an operator changes.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// The wait before an address is tried again that leads to a control that is reached already.
const TWIN_WAIT: Duration = Duration::from_secs(30);
/// How often is looked for what shards tell for the moment: words of one item that come within it
/// become one event. Doubling it adds as much to what pages see late, and halves the messages.
const PASS_ON_EVERY: Duration = Duration::from_millis(100);
/// How often names are looked up: what a control that is added has to wait for.
const LOOK_UP_EVERY: Duration = Duration::from_secs(2);

impl Link {
    /// A link that is not connected yet.
    #[must_use]
    pub fn new(joined: Joined, around: Surroundings, stop: CancellationToken) -> Rc<Self> {
        let state = nothing_waits(Phase::Away);
        let spool = open_spool(&joined, &around);
        let ring = spool.clone().map_or_else(Ring::default, Ring::with_spool);
        Rc::new(Self {
            joined,
            around,
            ring: RefCell::new(ring),
            spool,
            replayed: RefCell::default(),
            replay_acks: watch::Sender::default(),
            room: Notify::new(),
            passing: RefCell::default(),
            lines: RefCell::default(),
            passport: RefCell::default(),
            taker: Cell::default(),
            addresses: watch::Sender::default(),
            losing: Cell::new(false),
            news: watch::Sender::default(),
            state: watch::Sender::new(state),
            stop,
        })
    }

    /// Tells how the link is.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Takes the shards' events into the ring, until no shard is left, and passes on what they tell
    /// for the moment.
    pub async fn gather(&self, shards: &mut FromShards) {
        let mut often = tokio::time::interval(PASS_ON_EVERY);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                noted = shards.events.recv() => {
                    let Some(noted) = noted else { return };
                    // A shard told the words of a turn before the turn.
                    self.pass_on(&mut shards.passing);
                    self.keep(noted);
                }
                _ = often.tick() => {
                    self.pass_on(&mut shards.passing);
                    // A spool that was busy may have time.
                    self.ring.borrow_mut().hand_over();
                    self.show_waiting();
                }
            }
        }
    }

    /// Passes on what shards have told for the moment.
    fn pass_on(&self, passing: &mut mpsc::Receiver<Ephemeral>) {
        let told = std::iter::from_fn(|| passing.try_recv().ok());
        // More than fits would only push itself out again.
        if self.passing.borrow_mut().gather(told.take(passing::RECENT_MAX)) {
            self.news.send_replace(());
        }
    }

    /// Puts an event into the ring.
    fn keep(&self, noted: Noted) {
        let kept = self.ring.borrow_mut().push(noted);
        // A control that is away for long loses thousands; one line says so.
        let was_losing = self.losing.replace(kept.is_err());
        match kept {
            Ok(kept) => {
                let is_in_trouble = self.spool.as_ref().is_some_and(Spool::is_in_trouble);
                if kept == Kept::MemoryOnly || is_in_trouble {
                    self.around.counters.spool_full.one();
                }
            }
            Err(full) => {
                self.around.counters.events_lost.of(Lost::Ring).one();
                if !was_losing {
                    tracing::error!(why = %full, "events are lost; calls go on");
                }
            }
        }
        self.show_waiting();
        self.news.send_replace(());
    }

    /// Keeps lines to all controls up until the process stops, and tells what is on file.
    pub async fn keep_up(&self) {
        tokio::join!(self.look_up(), self.keep_lines(), self.refill(), self.replay());
    }

    /// Waits until every event that was told is safe on file, if there is a spool.
    pub async fn finish_spool(&self) {
        self.ring.borrow_mut().hand_over();
        if let Some(spool) = &self.spool {
            spool.finish().await;
        }
    }

    /// Whether events that control has not committed outlive the process.
    #[must_use]
    pub fn has_spool(&self) -> bool {
        self.spool.is_some()
    }

    /// Keeps knowing where controls are. What was known stays known while names cannot be looked
    /// up.
    async fn look_up(&self) {
        // Names that cannot be looked up are told once, not every two seconds.
        let mut is_lost = false;
        loop {
            match session::addresses(&self.joined).await {
                Ok(found) => {
                    is_lost = false;
                    self.addresses.send_if_modified(|known| {
                        let is_new = *known != found;
                        *known = found;
                        is_new
                    });
                }
                Err(error) => {
                    self.around.counters.link_attempts.of(Attempt::Failed).one();
                    if !std::mem::replace(&mut is_lost, true) {
                        tracing::warn!(%error, "control's name has no address; calls go on");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_UP_EVERY) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Keeps a line to each address that is known.
    async fn keep_lines(&self) {
        let mut known = self.addresses.subscribe();
        let mut kept = BTreeSet::new();
        let mut lines = FuturesUnordered::new();
        while !self.stop.is_cancelled() {
            for address in known.borrow_and_update().iter() {
                if kept.insert(*address) {
                    lines.push(self.keep_line(*address));
                }
            }
            tokio::select! {
                // The sender is ours.
                _ = known.changed() => {}
                Some(ended) = lines.next() => {
                    kept.remove(&ended);
                }
                () = self.stop.cancelled() => {}
            }
        }
        // Each hears the same stop, and takes leave of its control.
        while lines.next().await.is_some() {}
    }

    /// Keeps a line to one address until the process stops, or the address is nobody's any more and
    /// the line breaks.
    async fn keep_line(&self, address: SocketAddr) -> SocketAddr {
        let mut wait = RETRY_MIN;
        while !self.stop.is_cancelled() {
            let ended = self.connect_and_serve(address).await;
            let pause = match ended.broken {
                Broken::Stopped => break,
                Broken::Twin => {
                    self.around.counters.link_attempts.of(Attempt::Twin).one();
                    tracing::debug!(%address, "this control is reached at another address");
                    TWIN_WAIT
                }
                Broken::Refused(why) => {
                    self.around.counters.link_attempts.of(Attempt::Refused).one();
                    tracing::error!(%address, %why, "control refuses this node");
                    REFUSED_WAIT
                }
                Broken::Failed(error) => {
                    self.around.counters.link_attempts.of(Attempt::Failed).one();
                    wait = if ended.was_up { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
                    let error = chain(&*error);
                    tracing::warn!(%address, %error, "a control is not reached; calls go on");
                    jittered(wait)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
            if !self.addresses.borrow().contains(&address) {
                break;
            }
        }
        address
    }

    /// Sees whether another control takes events; if so, it is told everything that nobody has
    /// acknowledged.
    fn choose_taker(&self) {
        let taker = self.lines.borrow().taker();
        if self.taker.replace(taker) != taker {
            self.ring.borrow_mut().rewind();
            self.replayed.borrow_mut().rewind();
            self.news.send_replace(());
        }
    }

    fn show_lines(&self) {
        let controls = self.lines.borrow().len();
        let phase = if controls > 0 { Phase::Up } else { Phase::Away };
        self.state.send_if_modified(|state| {
            let shown = (state.phase, state.controls);
            (state.phase, state.controls) = (phase, controls);
            shown != (phase, controls)
        });
    }

    fn show_waiting(&self) {
        let waiting = self.ring.borrow().len();
        let bytes = self.spool.as_ref().map_or(0, Spool::bytes);
        self.state.send_if_modified(|state| {
            let shown = (state.events_waiting, state.spool_bytes);
            (state.events_waiting, state.spool_bytes) = (waiting, bytes);
            shown != (waiting, bytes)
        });
    }
}

/// Starts the spool, if there is to be one. Calls go on without it.
fn open_spool(joined: &Joined, around: &Surroundings) -> Option<Spool> {
    let Some(settings) = joined.spool.clone() else {
        tracing::info!(
            "events that wait for control are in memory only: RELAY_SPOOL_DIR is not set"
        );
        return None;
    };
    let (spool, desk) = spool::spool(settings, around);
    // It ends by itself once the link is gone, and the process does not wait for it longer than for
    // `finish_spool`.
    match std::thread::Builder::new().name("spool".to_owned()).spawn(move || desk.run()) {
        Ok(_) => Some(spool),
        Err(error) => {
            tracing::error!(%error, "no thread for the spool; events are in memory only");
            None
        }
    }
}

/// How a link begins.
fn nothing_waits(phase: Phase) -> LinkState {
    LinkState { phase, controls: 0, events_waiting: 0, spool_bytes: 0 }
}

/// The house of a node that runs alone: nobody commits anything, so everything counts as recorded.
pub async fn gather_alone(events: &mut mpsc::Receiver<Noted>, post: &Post) {
    while let Some(noted) = events.recv().await {
        if let Some(receipt) = noted.receipt {
            deliver(post, receipt);
        }
    }
}

/// How the "link" of a node that runs alone looks, for ever.
#[must_use]
pub fn alone() -> watch::Receiver<LinkState> {
    watch::channel(nothing_waits(Phase::Alone)).1
}

/// What a node that runs alone knows from its files; it is ready at once.
pub fn know_alone(alone: crate::config::Alone, known: &Known, gate: &Gate) {
    known.set_keys(alone.keys);
    known.set_signatures(alone.signatures);
    for agent in alone.agents {
        if let Err(error) = known.keep_agent(agent) {
            tracing::error!(%error, "an agent of the file is left out");
        }
    }
    known.set_synced();
    gate.open();
}

/// Tells a call that its decision is committed.
fn deliver(post: &Post, receipt: Receipt) {
    let Receipt { shard, call, generation, record } = receipt;
    let letter = Letter::Recorded(record);
    if post.send(shard, ToShard::Letter { call, generation, letter }).is_err() {
        // The call closes without the word, 300 ms after it asked.
        tracing::warn!(shard, "a shard takes no messages");
    }
}

/// Half of the wait and a random share of the other half, so that a fleet does not come back as
/// one.
fn jittered(wait: Duration) -> Duration {
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    wait.mul_f64(0.5 + 0.5 * share)
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

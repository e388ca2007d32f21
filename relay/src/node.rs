//! The relay's end of the link: finds control, tells it events, takes what calls need from it.
//!
//! Control being away changes nothing for calls: events wait in the [`Ring`], keys and agents stay
//! known, and the node stays ready once it has been synced. A node that runs alone has no link; its
//! events only feed metrics, and what it asks to be recorded is recorded at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use link::id::Epoch;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::ring::Ring;
use self::session::Broken;
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

mod orders;
mod session;

pub use self::session::trust;

/// Finds out whether control can be reached and is the one of the join token. Says nothing: the
/// node that serves keeps its place.
///
/// # Errors
/// What is in the way.
pub(crate) async fn knock(joined: &Joined) -> Result<(), String> {
    match session::reach(joined).await {
        Ok((endpoint, connection)) => {
            connection.close(0_u32.into(), b"");
            // Gives the close a chance to leave.
            let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
            Ok(())
        }
        Err(Broken::Stopped) => Err("the process stops".to_owned()),
        Err(Broken::Refused(why)) => Err(why),
        Err(Broken::Failed(error)) => Err(error.to_string()),
    }
}

/// How the link is, for probes and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Whether control is reached.
    pub phase: Phase,
    /// Events that control has not committed.
    pub events_waiting: usize,
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
}

/// The link of a node that joins.
#[derive(Debug)]
pub struct Link {
    joined: Joined,
    around: Surroundings,
    ring: RefCell<Ring>,
    /// Whether the last event found no room: said once, not for each.
    losing: Cell<bool>,
    /// Something is in the ring that was not sent.
    unsent: Notify,
    state: watch::Sender<LinkState>,
    stop: CancellationToken,
}

/// The first wait after a lost connection; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The longest wait: what an operator who starts control again has to wait for.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The wait after a refusal, which no try but only an operator changes.
const REFUSED_WAIT: Duration = Duration::from_secs(30);

impl Link {
    /// A link that is not connected yet.
    #[must_use]
    pub fn new(joined: Joined, around: Surroundings, stop: CancellationToken) -> Rc<Self> {
        let (state, _) = watch::channel(LinkState { phase: Phase::Away, events_waiting: 0 });
        let (ring, unsent) = (RefCell::default(), Notify::new());
        let losing = Cell::new(false);
        Rc::new(Self { joined, around, ring, losing, unsent, state, stop })
    }

    /// Tells how the link is.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Takes the shards' events into the ring, for ever.
    pub async fn gather(&self, events: &mut mpsc::Receiver<Noted>) {
        while let Some(noted) = events.recv().await {
            self.keep(noted);
        }
    }

    /// Puts an event into the ring.
    fn keep(&self, noted: Noted) {
        let kept = self.ring.borrow_mut().push(noted);
        // A control that is away for long loses thousands; one line says so.
        let was_losing = self.losing.replace(kept.is_err());
        if let Err(full) = kept {
            self.around.counters.events_lost.of(Lost::Ring).one();
            if !was_losing {
                tracing::error!(why = %full, "events are lost; calls go on");
            }
        }
        self.show_waiting();
        self.unsent.notify_one();
    }

    /// Keeps the link up until the process stops.
    pub async fn keep_up(&self) {
        let mut wait = RETRY_MIN;
        loop {
            let broken = self.connect_and_serve().await;
            let was_up = self.show(Phase::Away) == Phase::Up;
            let pause = match broken {
                Broken::Stopped => return,
                Broken::Refused(why) => {
                    self.around.counters.link_attempts.of(Attempt::Refused).one();
                    tracing::error!(%why, "control refuses this node");
                    REFUSED_WAIT
                }
                Broken::Failed(error) => {
                    self.around.counters.link_attempts.of(Attempt::Failed).one();
                    wait = if was_up { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
                    tracing::warn!(error = %chain(&*error), "the link is down; calls go on");
                    jittered(wait)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Changes the phase and gives the one before.
    fn show(&self, phase: Phase) -> Phase {
        let mut before = phase;
        self.state.send_if_modified(|state| {
            before = std::mem::replace(&mut state.phase, phase);
            before != phase
        });
        before
    }

    fn show_waiting(&self) {
        let waiting = self.ring.borrow().len();
        self.state.send_if_modified(|state| {
            std::mem::replace(&mut state.events_waiting, waiting) != waiting
        });
    }
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
    watch::channel(LinkState { phase: Phase::Alone, events_waiting: 0 }).1
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

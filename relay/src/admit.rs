//! Who may come in: the pure part. Seats, tickets, generations.
//!
//! A stream passes three doors. The upgrade takes a [`Seat`](crate::gate::Seat), if it is a
//! carrier's; a page's, which nobody has signed, takes it later. `start` must bring a ticket that
//! [`judge`] accepts; the [`Register`] then makes the ticket one-time and the generation the
//! newest. Nothing here touches a socket; `shard` does, and closes with 1008 on a [`Refusal`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use link::agent::AgentSpec;
use link::id::{CallId, Gen, NodeId, WallTime};
use link::ticket::{Bearer, Claims, SKEW_SECONDS};
use sha2::{Digest as _, Sha256};

use crate::call::moment::Moment;
use crate::known::{AgentKey, Known};
use crate::metrics::labels::Refused;
use crate::telemetry::CallRef;
use crate::wire::CallerDialect;
use crate::wire::opening::{Format, Start};
use crate::ws::Message;

/// How long a socket may take from the upgrade to a valid `start`.
pub const START_WITHIN: Duration = Duration::from_secs(5);

/// How much may come up to and including `start`, in bytes of text. A real `start` with a ticket
/// has some 1,200.
pub const START_BYTES_MAX: usize = 4 * 1024;

/// A stream that has become a call.
#[derive(Debug)]
pub struct Admitted {
    /// What its ticket says.
    pub claims: Claims,
    /// Which words the caller's side speaks.
    pub dialect: CallerDialect,
    /// The carrier's id of the stream; a page's is the number of its token.
    pub stream_sid: String,
    /// The agent that answers.
    pub agent: Arc<AgentSpec>,
    /// Messages that the read that brought `start` also brought, in order; they come before
    /// whatever the socket gives next.
    pub early: Vec<Early>,
}

/// A message that came with the one that began the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Early {
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Early {
    /// Keeps a message; `None` for one that means nothing, or that the socket says again.
    #[must_use]
    pub fn keep(message: Message<'_>) -> Option<Self> {
        match message {
            Message::Text(text) => Some(Self::Text(text.to_owned())),
            Message::Binary(bytes) => Some(Self::Bytes(bytes.to_owned())),
            // The socket says again that it is closed when it is read next.
            Message::Pong | Message::Closed { .. } => None,
        }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Bytes(bytes) => Message::Binary(bytes),
        }
    }
}

/// How a stream asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asking {
    /// A carrier's `start`.
    Carrier(Start),
    /// A page.
    Page {
        /// The token of its `start`.
        token: String,
        /// The origin that its browser stated at the upgrade.
        origin: Option<String>,
    },
}

impl Asking {
    /// Which words its side speaks.
    #[must_use]
    pub fn dialect(&self) -> CallerDialect {
        match self {
            Self::Carrier(_) => CallerDialect::CARRIER,
            Self::Page { .. } => CallerDialect::PAGE,
        }
    }

    /// What it brings, if it is in a form that can be judged.
    fn ticket(&self) -> Result<&str, Refusal> {
        match self {
            Self::Carrier(start) if start.format != Format::Ulaw8k => {
                Err(Refusal::unproved(Refused::Format, "the audio is not mu-law, 8 kHz, mono"))
            }
            Self::Carrier(start) => start.ticket.as_deref().ok_or_else(|| {
                Refusal::unproved(Refused::NoTicket, "no ticket among the parameters")
            }),
            Self::Page { token, .. } => Ok(token),
        }
    }

    /// What does not fit between a ticket's bearer and whoever brings it.
    fn mismatch(&self, bearer: &Bearer) -> Option<&'static str> {
        match (self, bearer) {
            (Self::Carrier(start), Bearer::Carrier { call_sid }) => {
                (start.call_sid != *call_sid).then_some("the ticket is for another CallSid")
            }
            (Self::Page { origin, .. }, Bearer::Page { origin: expected }) => {
                (origin != expected).then_some("the token is for another origin")
            }
            (Self::Carrier(_), Bearer::Page { .. }) => Some("a page's token opens no phone call"),
            (Self::Page { .. }, Bearer::Carrier { .. }) => {
                Some("a phone call's ticket opens no page")
            }
        }
    }
}

impl Admitted {
    /// Which call, whose, and which generation.
    #[must_use]
    pub fn call_ref(&self) -> CallRef {
        call_ref(&self.claims)
    }
}

fn call_ref(claims: &Claims) -> CallRef {
    CallRef {
        id: claims.call.clone(),
        tenant: claims.tenant.clone(),
        generation: claims.generation,
    }
}

/// Why a stream was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for counting.
    pub why: Refused,
    /// The reason, for the operator. Never holds the ticket or anything the peer wrote.
    pub words: String,
    /// The call, once a signature has proved it.
    pub call: Option<CallRef>,
}

impl Refusal {
    /// A refusal before any call was proved.
    #[must_use]
    pub fn unproved(why: Refused, words: impl Into<String>) -> Self {
        Self { why, words: words.into(), call: None }
    }

    /// A refusal of what a good ticket asks for.
    #[must_use]
    pub fn of(claims: &Claims, why: Refused, words: impl Into<String>) -> Self {
        Self { why, words: words.into(), call: Some(call_ref(claims)) }
    }
}

/// This process, as tickets see it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The node's name.
    pub node: NodeId,
    /// When the process began. It does not know which older tickets were used.
    pub started: WallTime,
}

/// Judges a stream by everything that needs no memory of other streams.
///
/// # Errors
/// The [`Refusal`] that applies first.
pub fn judge(
    asking: &Asking,
    known: &Known,
    identity: &Identity,
    now: WallTime,
) -> Result<(Claims, Arc<AgentSpec>), Refusal> {
    let claims = known
        .verify(asking.ticket()?, now)
        .map_err(|refusal| Refusal::unproved(Refused::BadTicket, refusal.to_string()))?;
    let refuse = |why, words: &str| Err(Refusal::of(&claims, why, words));
    if claims.node != identity.node {
        return refuse(Refused::Mismatch, "the ticket is for another node");
    }
    if let Some(words) = asking.mismatch(&claims.bearer) {
        return refuse(Refused::Mismatch, words);
    }
    if claims.issued_at < identity.started.seconds() {
        return refuse(Refused::Old, "the ticket was issued before this node started");
    }
    let Some(agent) = known.agent(&AgentKey::of_claims(&claims)) else {
        return refuse(Refused::UnknownAgent, "this node does not hold the ticket's agent version");
    };
    Ok((claims, agent))
}

/// Where a call runs on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// The generation of its stream.
    pub generation: Gen,
    /// The shard that carries it.
    pub shard: usize,
}

/// What a [`Register`] remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Calls that are carried.
    pub calls: usize,
    /// Tickets that were used and have not expired.
    pub tickets: usize,
}

/// The node's memory of used tickets and carried calls. One for the process, behind a lock that is
/// taken twice a call and never on the media path.
#[derive(Debug, Default)]
pub struct Register {
    used: UsedTickets,
    calls: HashMap<CallId, Carried>,
}

impl Register {
    /// Enters a stream. Gives the older stream of the same call on this node, which must fall
    /// silent.
    ///
    /// # Errors
    /// When the ticket was used before, or the node carries this or a newer generation.
    pub fn enter(
        &mut self,
        claims: &Claims,
        shard: usize,
        now: WallTime,
    ) -> Result<Option<Carried>, Refusal> {
        self.used.take(claims, now)?;
        let carried = Carried { generation: claims.generation, shard };
        match self.calls.get(&claims.call) {
            Some(other) if other.generation >= claims.generation => Err(Refusal::of(
                claims,
                Refused::StaleGeneration,
                format!("generation {} of the call is carried already", other.generation),
            )),
            _ => Ok(self.calls.insert(claims.call.clone(), carried)),
        }
    }

    /// Takes a stream out, unless a newer one has its place.
    pub fn leave(&mut self, call: &CallId, generation: Gen) {
        if self.find(call).is_some_and(|carried| carried.generation == generation) {
            self.calls.remove(call);
        }
    }

    /// Gives back what a herd of calls has left behind: tickets that have expired since, and room
    /// that nobody needs. The house does it once a second; no stream waits for it.
    pub fn tidy(&mut self, now: WallTime) {
        let Self { used, calls } = self;
        used.forget_expired(now);
        if is_spacious(used.jtis.len(), used.jtis.capacity()) {
            used.jtis.shrink_to(used.jtis.capacity() / 2);
        }
        if is_spacious(used.order.len(), used.order.capacity()) {
            used.order.shrink_to(used.order.capacity() / 2);
        }
        if is_spacious(calls.len(), calls.capacity()) {
            calls.shrink_to(calls.capacity() / 2);
        }
    }

    /// How much is remembered.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        Remembered { calls: self.calls.len(), tickets: self.used.order.len() }
    }

    /// Where a call runs.
    #[must_use]
    pub fn find(&self, call: &CallId) -> Option<Carried> {
        self.calls.get(call).copied()
    }
}

/// The tickets that were used and have not expired.
#[derive(Debug, Default)]
struct UsedTickets {
    jtis: HashSet<Fingerprint>,
    /// In the order of use, which is nearly that of expiry: a ticket behind a page's token, which
    /// lives a minute longer, is remembered that minute longer.
    order: VecDeque<(i64, Fingerprint)>,
}

/// Half of a ticket number's SHA-256: 16 bytes in place of a text on the heap, twice a call. Two
/// numbers that share it would be a collision that nobody has found.
type Fingerprint = [u8; 16];

/// The most used tickets that are remembered: a thousand new calls a second for all of a ticket's
/// life, or half as many for that of a page's token. Only control can fill it; when it is full, streams are refused.
const USED_MAX: usize = 65_536;

impl UsedTickets {
    fn take(&mut self, claims: &Claims, now: WallTime) -> Result<(), Refusal> {
        self.forget_expired(now);
        let jti = fingerprint(&claims.jti);
        if self.jtis.contains(&jti) {
            return Err(Refusal::of(claims, Refused::Replayed, "the ticket was used before"));
        }
        if self.order.len() >= USED_MAX {
            let words = "more tickets are in use than this node remembers";
            return Err(Refusal::of(claims, Refused::Replayed, words));
        }
        self.jtis.insert(jti);
        self.order.push_back((claims.expires_at, jti));
        Ok(())
    }

    fn forget_expired(&mut self, now: WallTime) {
        while let Some((expires_at, jti)) = self.order.front() {
            // The same bound as `KeySet::verify`: what is forgotten is refused there.
            if expires_at + SKEW_SECONDS > now.seconds() {
                break;
            }
            self.jtis.remove(jti);
            self.order.pop_front();
        }
    }
}

fn fingerprint(jti: &str) -> Fingerprint {
    let digest = Sha256::digest(jti.as_bytes());
    std::array::from_fn(|n| digest[n])
}

/// Whether a table has grown for a herd that is gone. Halved and not emptied, so that the next one
/// does not grow it from nothing.
pub(crate) fn is_spacious(len: usize, capacity: usize) -> bool {
    capacity > 1_024 && len < capacity / 4
}

/// How many refusals are told to control: enough for an operator to see what is wrong, few enough
/// that a flood of them cannot fill the ring of events.
#[derive(Debug)]
pub struct Allowance {
    left: u32,
    refilled: Moment,
}

impl Allowance {
    const MAX: u32 = 20;
    const EVERY: Duration = Duration::from_millis(500);

    /// A full allowance.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self { left: Self::MAX, refilled: now }
    }

    /// Whether one more may be told.
    pub fn take(&mut self, now: Moment) -> bool {
        let due = now.since(self.refilled).as_micros() / Self::EVERY.as_micros();
        if due > 0 {
            let due = u32::try_from(due).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(due).min(Self::MAX);
            self.refilled = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests;

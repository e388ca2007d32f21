//! A call as it is stored, and the words that its life is told in.
//!
//! How it moves from state to state is in `life.rs`, how it is read and written in `calls.rs`.

use std::fmt;
use std::str::FromStr;

use link::id::{AgentName, CallId, Gen, NodeId, RunId, TenantId, WallTime};

mod end;

pub use self::end::CallEnd;

/// A call as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The call.
    pub id: CallId,
    /// Whose call it is.
    pub tenant: TenantId,
    /// The carrier's ids; `None` until the carrier has taken an outbound call, and in a session of a
    /// web page.
    pub carrier: Option<CarrierIds>,
    /// Who called whom.
    pub direction: Direction,
    /// The number that calls; the origin of a page.
    pub from: Number,
    /// The number that is called; the agent that a page talks with.
    pub to: Number,
    /// The agent that answers.
    pub agent: AgentName,
    /// The version of the agent's spec; a call keeps the one it began with.
    pub agent_version: u32,
    /// The run that it was started with; `None` for one that was started alone.
    pub run: Option<RunId>,
    /// The generation of the call's latest stream.
    pub generation: Gen,
    /// The node that its latest stream was sent to; `None` before the first.
    pub node: Option<NodeId>,
    /// Where the call is in its life.
    pub state: CallState,
    /// Why it ended, once it has.
    pub end_reason: Option<String>,
    /// What an operator can act on, where the end has such a thing.
    pub end_detail: Option<String>,
    /// Whom the caller was given to; `None` for a call that stays with its agent.
    pub transfer_to: Option<Number>,
    /// Why the latest stream ended, while the call is detached.
    pub detach_reason: Option<String>,
    /// The carrier's last word on the call, in the carrier's words.
    pub carrier_status: Option<String>,
    /// The number of that word in the carrier's order.
    pub carrier_seq: Option<i64>,
    /// When the last resumes were, oldest first.
    pub resumes: Vec<WallTime>,
    /// When control first heard of the call.
    pub created_at: WallTime,
    /// When its first stream began.
    pub answered_at: Option<WallTime>,
    /// When its latest stream ended, while the call is detached, or when it was given to somebody
    /// else, while it is transferred; by the database's clock.
    pub detached_at: Option<WallTime>,
    /// When it ended.
    pub ended_at: Option<WallTime>,
    /// What names the last question that got the call another stream: when it comes again, the
    /// answer was lost on its way.
    pub resume_token: Option<String>,
    /// Who has picked up, as far as the carrier can tell; `None` while it has not said, or was not
    /// asked.
    pub answered_by: Option<AnsweredBy>,
}

/// Who has picked up, as far as the carrier can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// A person.
    Human,
    /// An answering machine.
    Machine,
    /// A fax.
    Fax,
    /// It cannot tell.
    Unknown,
}

impl Call {
    /// Whether it is a session of a web page: nobody's phone is in it, and no carrier asks what
    /// follows its stream.
    #[must_use]
    pub fn is_session(&self) -> bool {
        // A phone that calls us is told of by its carrier.
        self.direction == Direction::Inbound && self.carrier.is_none()
    }
}

/// The carrier's names of a call; unique together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarrierIds {
    /// The account that pays for the call.
    pub account_sid: String,
    /// The call in that account.
    pub call_sid: String,
}

/// A phone number or SIP address. It is masked in debug output, so that no log shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Number(pub String);

impl Number {
    /// Shows the number to the one who may see it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Number(***)")
    }
}

/// Who called whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A person called.
    Inbound,
    /// The API called a person.
    Outbound,
}

/// Where a call is in its life. `Ended` is never left, and `Transferred` only for `Ended`.
///
/// ```text
/// queued -> starting -> active <-> detached -> ended
///              ^          |-- resume --+         ^
///              +----------+-> transferred -------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Known, and no stream was asked for yet.
    Queued,
    /// The carrier was told to open a stream, which has not begun.
    Starting,
    /// A stream carries it.
    Active,
    /// Its stream is over, and the carrier has not said what is next.
    Detached,
    /// The agent's part is over: the caller was given to somebody else. The phone call lives on
    /// without a stream until the carrier says that it is over.
    Transferred,
    /// Over.
    Ended,
}

/// The words of an enum, as they are stored and shown.
macro_rules! words {
    ($name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $name {
            /// The word, as it is stored and shown.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err(UnknownWord) }
            }
        }
    };
}

words!(Direction { Inbound => "inbound", Outbound => "outbound" });
words!(AnsweredBy {
    Human => "human",
    Machine => "machine",
    Fax => "fax",
    Unknown => "unknown",
});
words!(CallState {
    Queued => "queued",
    Starting => "starting",
    Active => "active",
    Detached => "detached",
    Transferred => "transferred",
    Ended => "ended",
});

/// A word that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a word that this version does not know")]
pub struct UnknownWord;

/// What it takes to make a call.
#[derive(Debug, Clone)]
pub struct NewCall {
    /// The id that a fresh call gets.
    pub id: CallId,
    /// Whose call it is; the tenant exists.
    pub tenant: TenantId,
    /// The carrier's ids, by which the same call is found again; `None` for a call that the
    /// carrier does not know yet.
    pub carrier: Option<CarrierIds>,
    /// Who called whom.
    pub direction: Direction,
    /// The number that calls.
    pub from: Number,
    /// The number that is called.
    pub to: Number,
    /// The agent that answers.
    pub agent: AgentName,
    /// The version of its spec.
    pub agent_version: u32,
    /// The run that it is started with.
    pub run: Option<RunId>,
}

impl NewCall {
    /// The call as it is stored first.
    pub(crate) fn begin_life(self, now: WallTime) -> Call {
        Call {
            id: self.id,
            tenant: self.tenant,
            carrier: self.carrier,
            direction: self.direction,
            from: self.from,
            to: self.to,
            agent: self.agent,
            agent_version: self.agent_version,
            run: self.run,
            generation: Gen(0),
            node: None,
            state: CallState::Queued,
            end_reason: None,
            end_detail: None,
            transfer_to: None,
            detach_reason: None,
            carrier_status: None,
            carrier_seq: None,
            resumes: Vec::new(),
            created_at: now,
            answered_at: None,
            detached_at: None,
            ended_at: None,
            resume_token: None,
            answered_by: None,
        }
    }
}

/// What became of [`NewCall`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The call is new.
    Fresh(Box<Call>),
    /// The carrier has told of this call before.
    Known(Box<Call>),
}

impl Created {
    /// The call, new or not.
    #[must_use]
    pub fn into_call(self) -> Call {
        match self {
            Self::Fresh(call) | Self::Known(call) => *call,
        }
    }
}

/// What to tell the carrier when it first asks what to do with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Open a stream, by the call's node and generation.
    Stream(Box<Call>),
    /// Give the caller to whom the call says.
    Transfer(Box<Call>),
    /// The call is over.
    HangUp,
    /// There is no such call.
    Unknown,
}

/// The carrier's question what follows a stream.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Where another stream would go; `None` when no node takes it.
    pub node: Option<&'a NodeId>,
    /// What names the question, the same however often it comes; `None` when it has no name.
    pub token: Option<&'a str>,
    /// The generation of the stream that it follows, as the pass says; it may have been given out
    /// without the database. `None` when nobody says.
    pub given: Option<Gen>,
    /// How often streams may end.
    pub limits: ResumeLimits,
    /// When it was asked.
    pub now: WallTime,
}

/// How often a call goes on after a stream of it has ended. Beyond that it is given up: whatever ends
/// its streams would go on for ever, at the caller's cost, and may bring down one node after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeLimits {
    /// How many times within the window. Doubling it doubles what a call can do to nodes.
    pub max: usize,
    /// The window, in microseconds. Only what lies within it counts: a long call may lose a stream
    /// every few minutes.
    pub window_us: i64,
}

impl Default for ResumeLimits {
    fn default() -> Self {
        Self { max: 3, window_us: 60_000_000 }
    }
}

/// What to tell the carrier when a stream is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Open another stream, by the call's node and new generation.
    Reconnect(Box<Call>),
    /// The call goes on, but there is no node for it. Nothing was changed or counted.
    NoNode,
    /// The call is over.
    HangUp,
    /// Give the caller to whom the call says.
    Transfer(Box<Call>),
    /// The streams of this call end again and again; this very answer ended it.
    TooMany,
    /// There is no such call.
    Unknown,
}

/// The carrier's word on a call.
#[derive(Debug, Clone)]
pub struct CarrierWord {
    /// The word itself, as the carrier writes it.
    pub status: String,
    /// Its number in the carrier's order; `None` when the carrier gave none.
    pub seq: Option<i64>,
    /// Set when the word means that the call is over.
    pub over: Option<CallEnd>,
}

/// Which calls are listed. What is `None` lets every call pass.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The run that they were started with.
    pub run: Option<RunId>,
    /// Where they are in their life.
    pub state: Option<CallState>,
    /// Who called whom.
    pub direction: Option<Direction>,
    /// Who answers.
    pub agent: Option<AgentName>,
    /// The number that calls.
    pub from: Option<Number>,
    /// The number that is called.
    pub to: Option<Number>,
    /// Not created before this moment.
    pub since: Option<WallTime>,
    /// Created before this moment.
    pub until: Option<WallTime>,
}

/// A page of calls, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The calls.
    pub calls: Vec<Call>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

/// A place in the list of calls: behind this call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// When the call was created.
    pub created_at: WallTime,
    /// The call.
    pub id: CallId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at.0, self.id)
    }
}

impl FromStr for Cursor {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        // An id may hold a dot itself; the moment before the first one cannot.
        let (created, id) = text.split_once('.').ok_or(UnknownWord)?;
        let created_at = WallTime(created.parse().map_err(|_| UnknownWord)?);
        Ok(Self { created_at, id: CallId::new(id).map_err(|_| UnknownWord)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_shown_by_debug() {
        assert!(!format!("{:?}", Number("+15550100".into())).contains("555"));
    }

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor { created_at: WallTime(-5), id: CallId::new("c_1.x").unwrap() };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("7".parse::<Cursor>(), Err(UnknownWord));
        assert_eq!("x.c_1".parse::<Cursor>(), Err(UnknownWord));
    }

    #[test]
    fn words_survive_their_text() {
        assert_eq!("detached".parse(), Ok(CallState::Detached));
        assert_eq!("asleep".parse::<CallState>(), Err(UnknownWord));
    }
}

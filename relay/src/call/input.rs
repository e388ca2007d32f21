//! What can happen to a call. Past events, already freed of any vendor's words.
//!
//! Everything borrowed is valid during [`Call::handle`](super::Call::handle) only.

use std::borrow::Cow;
use std::time::Duration;

pub use ::link::message::{Command, Said};

pub use super::format::AudioFormat;

use ::link::id::CommandId;

/// One of the two agent sockets that a call may have: roll-over, dial-ahead and hedging need a
/// second one while the first still speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The first socket.
    A,
    /// The second socket.
    B,
}

/// Which leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The phone.
    Caller,
    /// A model's socket.
    Agent(Slot),
}

/// Audio in one of the forms in which it crosses the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audio<'a> {
    /// Standard base64 with padding, checked (alphabet, padding, size) by whoever copies it, in
    /// the format of the leg that it came from.
    Base64(&'a str),
    /// G.711 mu-law, 8 kHz, mono: 8 bytes a millisecond.
    Ulaw(&'a [u8]),
    /// 16-bit PCM, 24 kHz, mono, little-endian: 48 bytes a millisecond.
    PcmBytes(&'a [u8]),
    /// 16-bit PCM at the agent's rate, mono.
    Pcm(&'a [i16]),
}

impl<'a> Audio<'a> {
    /// Audio that is written in a leg's format.
    #[must_use]
    pub fn raw(format: AudioFormat, bytes: &'a [u8]) -> Self {
        match format {
            AudioFormat::Ulaw => Self::Ulaw(bytes),
            AudioFormat::Pcm24k => Self::PcmBytes(bytes),
        }
    }
}

/// Something happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The stream is on its way, or may come: the agent may be dialled already.
    Announced(Preparation),
    /// What was said in a call that goes on here, oldest first. The last word about it counts.
    Continues(&'a [Said]),
    /// On the phone's socket.
    Caller(CallerEvent<'a>),
    /// On an agent's socket.
    Agent(Slot, AgentEvent<'a>),
    /// A tool that was to run has ended.
    Tool(ToolId, ToolResult<'a>),
    /// Somebody outside the call wants something.
    Command {
        /// Comes back with the answer; `None` wants none.
        id: Option<&'a CommandId>,
        /// What is wanted.
        command: &'a Command,
    },
    /// Control has committed a decision that was noted with this number.
    Recorded(RecordId),
    /// The moment that [`Call::next_timeout`](super::Call::next_timeout) named has come.
    Tick,
    /// The process is going away and waits no longer.
    Drain,
    /// A socket cannot take more: its backlog is above the bound.
    Stalled(Side),
    /// A stalled socket has taken its backlog.
    Drained(Side),
    /// How the caller's audio is sent on from here on.
    Batch(Batch),
}

/// How much of the caller's audio goes to the agent at once. Fewer and longer messages cost less,
/// and reach the agent later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Batch {
    /// Each frame as it comes.
    #[default]
    Off,
    /// Frames are joined until they are this long.
    Writes(Duration),
    /// The caller is read only this often, and everything that has come is joined.
    Reads(Duration),
}

/// How far a call is prepared before its caller is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// A session is opened, for whoever comes: it costs nothing until something is said.
    Session,
    /// This caller is known to come: the greeting is made, and waits.
    Greeting,
    /// The call goes on from another node: a session is opened, and told what was said once the
    /// caller is here, because until then there may be more.
    Continued,
}

/// The number of a tool that runs, unique within a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolId(pub u32);

/// What a tool gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolResult<'a> {
    /// Text for the model, bounded by whoever ran it.
    Done(&'a str),
    /// It failed; why, for the model: no secrets.
    Failed(&'a str),
    /// It took too long.
    TimedOut,
}

/// The number of a decision that control is asked to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u32);

/// The name of a mark, unique within a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkId(pub u32);

/// What the caller's side says.
#[derive(Debug)]
pub enum CallerEvent<'a> {
    /// The stream began.
    Started,
    /// Audio of the caller.
    Media {
        /// The carrier's presentation time, milliseconds since the stream began.
        at_ms: u64,
        /// The carrier's counter of media messages, from 1.
        chunk: u64,
        /// Mu-law, as base64 text.
        audio: Audio<'a>,
    },
    /// Audio of a caller whose side puts no stamps on it: it follows on what came before.
    Speech(Audio<'a>),
    /// Everything that was sent before the mark has been played, or was thrown away by a clear.
    Mark(MarkId),
    /// The caller pressed a key.
    Key(char),
    /// A message that breaks the protocol. Tolerated a few times.
    Malformed,
    /// The carrier ended the stream.
    Stopped,
    /// The socket is gone without a word.
    Lost,
    /// The socket's own protocol was broken, which ends it.
    Violated,
}

/// What an agent's side says.
#[derive(Debug)]
pub enum AgentEvent<'a> {
    /// The socket is up and the service has introduced its session.
    Opened,
    /// The service states its session; formats are what it will really use.
    Configured {
        /// The format in which it takes the caller's audio; `None` is one that no relay asks for.
        uplink: Option<AudioFormat>,
        /// The format in which it gives audio; `None` is one that no relay asks for.
        playout: Option<AudioFormat>,
        /// Who begins an answer when the caller has spoken.
        answering: Answering,
    },
    /// A sign of life, and nothing else.
    Alive,
    /// What was said so far, in few words; `None` when the service could not say.
    Summarised {
        /// The words.
        summary: Option<Cow<'a, str>>,
        /// Tokens that it used, in and out.
        tokens: u64,
    },
    /// The service hears speech.
    SpeechStarted,
    /// The service hears the end of speech.
    SpeechStopped,
    /// The caller's turn has become an item of the conversation.
    CallerTurn {
        /// The item.
        item: &'a str,
    },
    /// Words of the caller, as the service makes them out, before their item is complete.
    CallerSaying {
        /// The item.
        item: &'a str,
        /// The next words.
        text: Cow<'a, str>,
    },
    /// What the caller said in an item; may come after the answer to it.
    CallerSaid {
        /// The item.
        item: &'a str,
        /// The words; empty when the service could not make out any.
        text: Cow<'a, str>,
    },
    /// The service began to answer.
    ResponseStarted {
        /// The answer.
        response: &'a str,
    },
    /// Audio of an answer.
    Audio {
        /// The answer.
        response: &'a str,
        /// The item within the answer.
        item: &'a str,
        /// The part within the item.
        part: u32,
        /// In the agent's playout format.
        audio: Audio<'a>,
    },
    /// All audio of this part has been given.
    AudioEnded {
        /// The answer.
        response: &'a str,
        /// The item within the answer.
        item: &'a str,
    },
    /// Words of an answer, as they are spoken.
    Saying {
        /// The answer.
        response: &'a str,
        /// The item within the answer.
        item: &'a str,
        /// The next words.
        text: Cow<'a, str>,
    },
    /// The service asks for a tool.
    ToolCalled {
        /// The answer.
        response: &'a str,
        /// The service's id of the request.
        call: &'a str,
        /// The tool's name.
        name: &'a str,
        /// Its arguments, JSON text, possibly broken.
        arguments: Cow<'a, str>,
    },
    /// An answer is over; always comes, whatever happened.
    ResponseEnded {
        /// The answer.
        response: &'a str,
        /// How it ended.
        outcome: Outcome<'a>,
        /// Tokens that it used, in and out.
        tokens: u64,
    },
    /// The service complains.
    Complained {
        /// How bad it is.
        severity: Severity,
        /// The service's code, for the operator.
        code: &'a str,
    },
    /// Something known that changes nothing, or something unknown.
    Ignored,
    /// A message that could not be read.
    Malformed,
    /// The socket could not be opened, or is gone.
    Lost {
        /// How.
        cause: Loss,
        /// A code or a phrase for the operator; no secrets.
        detail: &'a str,
    },
}

impl Slot {
    /// The slot beside it.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Said in full.
    Completed,
    /// Cut short by the caller or by us.
    Cancelled,
    /// Stopped by a limit or a filter.
    Incomplete,
    /// The service failed; nobody hears anything unless the relay acts.
    Failed {
        /// The service's code.
        code: &'a str,
        /// Whether asking once more can help.
        retry: Retry,
    },
}

/// Whether trying once more can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It can: the trouble passes.
    MayHelp,
    /// It cannot: a key, a quota, a configuration.
    IsUseless,
}

/// Who begins an answer when the caller has spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// The service does, and stops by itself when the caller speaks.
    ByService,
    /// The relay asks for each answer, and stops it.
    ByRelay,
}

/// How bad a complaint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A known race; nothing to do.
    Benign,
    /// An answer was asked for while another one runs: it is to be asked for again.
    TooEarly,
    /// Something of ours was refused; the session goes on.
    Refused,
    /// This session is over; a new one can go on.
    Over,
    /// The session cannot go on, and trying again would not help.
    Fatal,
}

/// How an agent's socket was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nobody answered, or not in time.
    Unreachable,
    /// The service answered that it cannot now.
    Busy,
    /// The service answered and said no.
    Refused,
    /// It was open and is gone.
    Closed,
    /// It was open, and the service closed it with a word that says not to come back.
    Dismissed,
}

//! What can happen to a call, in a form that a fuzzer writes: few names, so that they meet.

use arbitrary::{Arbitrary, Unstructured};
use relay::call::input::{Loss, Outcome, Retry, Severity, Side, Slot};

/// One call.
#[derive(Debug, Arbitrary)]
pub(super) struct Script {
    /// The agent.
    pub agent: Agent,
    /// How it begins, before anything odd happens.
    pub begins: Begins,
    /// What happens to it, in order.
    pub steps: Vec<Step>,
}

/// What a call depends on in its agent.
#[derive(Debug, Arbitrary)]
pub(super) struct Agent {
    pub greets: bool,
    pub voices: Voices,
    pub hedges: bool,
    /// Limits that are met within a script, or those of real calls.
    pub is_hasty: bool,
}

/// How the two legs speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voices {
    /// A phone, and an agent that speaks as phones do.
    Ulaw,
    /// A phone, and an agent that speaks PCM.
    Transcoded,
    /// A web page, whose agent always speaks PCM.
    Page,
}

impl<'a> Arbitrary<'a> for Voices {
    /// From one byte, of which inputs that were found before there were pages have the last bit.
    fn arbitrary(from: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let byte = u8::arbitrary(from)?;
        Ok(match (byte & 0b110, byte & 1) {
            (0b110, _) => Self::Page,
            (_, 1) => Self::Transcoded,
            _ => Self::Ulaw,
        })
    }
}

/// How a call begins.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Begins {
    /// As the steps say.
    AsItComes,
    /// With its caller.
    Called,
    /// With its caller, and with an agent that answers.
    Live,
    /// Before its caller, who comes as the steps say.
    Announced { greeting: bool },
    /// Before its caller, with an agent that answers.
    Prepared { greeting: bool },
}

/// Which of the two agent sockets.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum At {
    A,
    B,
}

/// One of a few names.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Name {
    One,
    Two,
    Three,
    Four,
}

/// Something that happens.
#[derive(Debug, Arbitrary)]
pub(super) enum Step {
    Announced {
        greeting: bool,
    },
    /// What the carrier's socket says, whatever it is.
    Carrier(Carries),
    /// So many frames of 20 ms, in time.
    Speaks {
        frames: u8,
    },
    /// The phone has played up to the oldest mark.
    Played,
    /// It has played everything, or thrown it away.
    AllPlayed,
    /// The agent's socket opens, and the session is as it was asked for.
    Welcomed(At),
    /// What an agent's socket says, whatever it is.
    Agent(At, Says),
    /// A whole answer, as a well-behaved service gives it.
    Answers(At, Name, u16),
    /// The oldest tool that runs ends.
    Tool(ToolEnds),
    /// Control has the oldest decision.
    Recorded,
    Command {
        counted: bool,
        wish: Wish,
    },
    /// Time passes; the call is woken whenever it wants to be.
    Wait {
        ms: u16,
    },
    /// Much of it.
    WaitLong {
        seconds: u8,
    },
    Tick,
    Drain,
    Stalled(Leg),
    Drained(Leg),
    Batch(Joins),
}

/// How the caller's audio is sent on.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Joins {
    Nothing,
    Writes,
    Reads,
}

/// What the carrier's socket says beyond good media and marks.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Carries {
    Started,
    /// A frame from anywhere in the carrier's time.
    OddMedia {
        at_ms: u16,
        chunk: u8,
    },
    StrayMark(u32),
    Key(u8),
    Malformed,
    Gone(Gone),
}

/// How the carrier goes. One of many things that it may say, so that calls get on.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Gone {
    Stopped,
    Lost,
    Violated,
}

/// Whose socket.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Leg {
    Caller,
    Agent(At),
}

/// What an agent's socket says.
#[derive(Debug, Arbitrary)]
pub(super) enum Says {
    Opened,
    Configured { pcm: bool, by_service: bool, unknown: bool },
    Alive,
    Summarised { said: bool },
    Speech { begins: bool },
    CallerTurn(Name),
    CallerSaid(Name, bool),
    ResponseStarted(Name),
    Audio { response: Name, item: Name, part: bool, ms: u16 },
    AudioBroken(Name, Name),
    AudioEnded(Name, Name),
    Saying(Name, Name),
    ToolCalled { response: Name, call: Name, tool: Tool, sound: bool },
    ResponseEnded { response: Name, outcome: Ended, tokens: u16 },
    Complained(Complaint),
    Ignored,
    Malformed,
    Lost(LostHow),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Tool {
    HangUp,
    Transfer,
    SendDtmf,
    Http,
    Unknown,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum ToolEnds {
    Done,
    Failed,
    TimedOut,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Ended {
    Completed,
    Cancelled,
    Incomplete,
    FailedForNow,
    FailedForGood,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Complaint {
    Benign,
    TooEarly,
    Refused,
    Over,
    Fatal,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum LostHow {
    Unreachable,
    Busy,
    Refused,
    Closed,
    Dismissed,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Wish {
    HangUp,
    Yield,
    Say,
    Inject,
    Instruct,
    MuteCaller(bool),
    MuteAgent(bool),
    Transfer,
    Unknown,
}

impl Name {
    pub(super) fn response(self) -> &'static str {
        ["r1", "r2", "r3", "r4"][self as usize]
    }

    pub(super) fn item(self) -> &'static str {
        ["i1", "i2", "i3", "i4"][self as usize]
    }

    pub(super) fn call(self) -> &'static str {
        ["call_1", "call_2", "call_3", "call_4"][self as usize]
    }
}

impl Tool {
    /// Its name and its arguments, sound or not.
    pub(super) fn called(self, sound: bool) -> (&'static str, &'static str) {
        let (name, arguments) = match self {
            Self::HangUp => ("hang_up", "{}"),
            Self::Transfer => ("transfer", r#"{"destination":"desk"}"#),
            Self::SendDtmf => ("send_dtmf", r#"{"digits":"12w#"}"#),
            Self::Http => ("find_slot", r#"{"day":"mon"}"#),
            Self::Unknown => ("no_such_tool", "{}"),
        };
        (name, if sound { arguments } else { r#"{"destination":7,"digits":"x""# })
    }
}

impl At {
    pub(super) fn slot(self) -> Slot {
        match self {
            Self::A => Slot::A,
            Self::B => Slot::B,
        }
    }
}

impl Leg {
    pub(super) fn side(self) -> Side {
        match self {
            Self::Caller => Side::Caller,
            Self::Agent(at) => Side::Agent(at.slot()),
        }
    }
}

impl Ended {
    pub(super) fn outcome(self) -> Outcome<'static> {
        match self {
            Self::Completed => Outcome::Completed,
            Self::Cancelled => Outcome::Cancelled,
            Self::Incomplete => Outcome::Incomplete,
            Self::FailedForNow => Outcome::Failed { code: "server_error", retry: Retry::MayHelp },
            Self::FailedForGood => Outcome::Failed { code: "no_money", retry: Retry::IsUseless },
        }
    }
}

impl Complaint {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Benign => Severity::Benign,
            Self::TooEarly => Severity::TooEarly,
            Self::Refused => Severity::Refused,
            Self::Over => Severity::Over,
            Self::Fatal => Severity::Fatal,
        }
    }
}

impl LostHow {
    pub(super) fn loss(self) -> Loss {
        match self {
            Self::Unreachable => Loss::Unreachable,
            Self::Busy => Loss::Busy,
            Self::Refused => Loss::Refused,
            Self::Closed => Loss::Closed,
            Self::Dismissed => Loss::Dismissed,
        }
    }
}

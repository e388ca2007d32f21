//! What a call wants done. Commands to the bridge, which carries them out and decides nothing.

use std::time::Duration;

use link::event::EndReason;

use super::input::{Audio, MarkId, RecordId, Slot};

/// Takes what a call wants done, in order. The bridge frames straight into write buffers; tests
/// record.
pub trait Outbox {
    /// Carries out one wish; what it borrows is valid during the call only.
    fn put(&mut self, output: Output<'_>);
}

/// Something the call wants done.
#[derive(Debug)]
pub enum Output<'a> {
    /// Say something on the phone's socket.
    ToCaller(CallerMessage<'a>),
    /// Say something on an agent's socket.
    ToAgent(Slot, AgentMessage<'a>),
    /// Open an agent's socket.
    Dial(Slot),
    /// Close an agent's socket.
    CloseAgent(Slot),
    /// Something worth telling: the only road to metrics, logs and events.
    Note(Milestone<'a>),
    /// Close the phone's socket.
    CloseCaller(CloseWhy),
    /// The call is over on this node; nothing follows.
    End(EndReason),
}

/// Why the phone's socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseWhy {
    /// All is said.
    Normal,
    /// The other side broke the protocol.
    Protocol,
    /// The node goes away; the carrier asks `resume` where to go.
    GoingAway,
}

/// What is said on the phone's socket.
#[derive(Debug)]
pub enum CallerMessage<'a> {
    /// Audio to be played after what is queued.
    Media(Audio<'a>),
    /// To be sent back once everything before it has been played.
    Mark(MarkId),
    /// Throw away what has not been played.
    Clear,
}

/// What is said on an agent's socket.
#[derive(Debug)]
pub enum AgentMessage<'a> {
    /// State the session: formats, instructions, tools, turn detection.
    Configure,
    /// Audio of the caller, in the agent's uplink format.
    Audio(Audio<'a>),
    /// Speak the greeting.
    Greet,
    /// Answer what is in the conversation.
    Respond,
    /// Stop the answer.
    Cancel {
        /// Which one.
        response: &'a str,
    },
    /// Forget what was not heard.
    Truncate {
        /// The item to cut.
        item: &'a str,
        /// The part within the item.
        part: u32,
        /// Where to cut, in milliseconds of the part.
        heard_ms: u32,
    },
    /// The result of a tool.
    ToolResult {
        /// The service's id of the request.
        call: &'a str,
        /// The result, text.
        output: &'a str,
    },
}

/// Something worth telling.
#[derive(Debug)]
pub enum Milestone<'a> {
    /// The stream began.
    Started,
    /// The agent's session is verified.
    AgentReady {
        /// Time since the stream began.
        after: Duration,
    },
    /// A turn of the caller is complete.
    CallerTurn {
        /// The item.
        item: &'a str,
        /// The words.
        text: &'a str,
    },
    /// A turn of the agent is complete: heard in full, or cut.
    AgentTurn(AgentTurn<'a>),
    /// The caller interrupted.
    BargeIn(BargeIn<'a>),
    /// A decision to end the call; control commits it and says so.
    Ending {
        /// Comes back as [`Input::Recorded`](super::input::Input::Recorded).
        record: RecordId,
        /// Why.
        reason: EndReason,
        /// For the operator.
        detail: Option<&'a str>,
    },
    /// Audio that was thrown away.
    Dropped {
        /// Of which direction.
        flow: Flow,
        /// How much, in milliseconds.
        ms: u32,
    },
    /// Something unexpected that was tolerated.
    Tolerated(Oddity),
}

/// Which way audio flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// From the caller to the agent.
    Uplink,
    /// From the agent to the caller.
    Playout,
}

/// Something unexpected that was tolerated; each is a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Oddity {
    /// A broken message of the caller's side.
    CallerMalformed,
    /// A broken message of the agent's side.
    AgentMalformed,
    /// A mark that nobody set.
    StrayMark,
    /// Media that came twice or out of order.
    StrayMedia,
    /// Audio of an answer that was cut.
    LateAudio,
    /// A harmless complaint of the agent's service.
    BenignComplaint,
    /// The agent's service refused something of ours.
    RefusedByAgent,
    /// A tool that does not exist.
    UnknownTool,
}

/// A complete turn of the agent.
#[derive(Debug)]
pub struct AgentTurn<'a> {
    /// The item.
    pub item: &'a str,
    /// The words; of an interrupted turn, those that were heard.
    pub text: &'a str,
    /// Provably heard, in milliseconds.
    pub heard_ms: u32,
    /// Made by the model, in milliseconds.
    pub generated_ms: u32,
    /// Whether the caller cut it.
    pub interrupted: bool,
    /// From the end of the caller's speech to the first audio of this turn leaving; `None` for a
    /// greeting.
    pub reply_after: Option<Duration>,
}

/// The caller interrupted.
#[derive(Debug)]
pub struct BargeIn<'a> {
    /// The item that was cut.
    pub item: &'a str,
    /// Provably heard, in milliseconds.
    pub heard_ms: u32,
    /// Sent to the carrier, in milliseconds.
    pub sent_ms: u32,
    /// Made by the model, in milliseconds.
    pub generated_ms: u32,
}

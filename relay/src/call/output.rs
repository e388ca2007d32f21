//! What a call wants done. Commands to the bridge, which carries them out and decides nothing.

use std::time::Duration;

use ::link::event::{EndReason, ReplacedBecause, Role, ToolOutcome};
use ::link::id::{CommandId, NodeId};
use ::link::tool::Address;

use super::format::AudioFormat;
use super::input::{Answering, Audio, MarkId, RecordId, Slot, ToolId};

/// Takes what a call wants done, in order. The bridge frames straight into write buffers; tests
/// record.
pub trait Outbox {
    /// Carries out one wish; what it borrows is valid during the call only.
    fn put(&mut self, output: Output<'_>);
}

/// Something the call wants done.
#[derive(Debug)]
pub enum Output<'a> {
    /// Say something on the caller's socket.
    ToCaller(CallerMessage<'a>),
    /// Say something on an agent's socket.
    ToAgent(Slot, AgentMessage<'a>),
    /// Open an agent's socket.
    Dial(Slot),
    /// Ask an agent's socket for a sign of life: a frame of the socket's own, no message.
    Ping(Slot),
    /// Close an agent's socket.
    CloseAgent(Slot),
    /// Run a tool of the agent's; its end is an [`Input::Tool`](super::input::Input::Tool).
    RunTool(ToolId, ToolRequest<'a>),
    /// Nobody waits for a tool any more. It may have had its effect.
    DropTool(ToolId),
    /// Something worth telling: the only road to metrics, logs and events.
    Note(Milestone<'a>),
    /// Close the caller's socket; the reason is for a side that wants to know it.
    CloseCaller(CloseWhy, EndReason),
    /// The call is over on this node; nothing follows.
    End(EndReason),
}

/// Why the caller's socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseWhy {
    /// All is said.
    Normal,
    /// The other side broke the protocol.
    Protocol,
    /// The node goes away; the carrier asks `resume` where to go.
    GoingAway,
}

/// What is said on the caller's socket.
#[derive(Debug)]
pub enum CallerMessage<'a> {
    /// Audio to be played after what is queued, in the caller's format. The n-th of a call is
    /// followed by the mark of that number.
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
    Configure {
        /// How audio is written, both ways.
        format: AudioFormat,
        /// Instead of the agent's own instructions.
        instructions: Option<&'a str>,
        /// Who begins an answer when the caller has spoken.
        answering: Answering,
    },
    /// From here on, the service answers by itself when the caller has spoken.
    AnswerByYourself,
    /// Replace the standing instructions.
    Instruct {
        /// The new ones.
        instructions: &'a str,
    },
    /// Audio of the caller, in the agent's uplink format.
    Audio(Audio<'a>),
    /// Answer what is in the conversation.
    Respond,
    /// Say something that the conversation does not ask for.
    Speak(Cue<'a>),
    /// Put something into the conversation. Nobody answers it by itself.
    Recall(Recalled<'a>),
    /// Sum up what was said, beside the conversation: for a session to come.
    Summarise,
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
}

/// What the agent is asked to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cue<'a> {
    /// The greeting of its spec.
    Greeting,
    /// These words.
    Words(&'a str),
    /// Whether the caller is still there.
    StillThere,
    /// Goodbye: the call must end.
    Farewell,
}

/// Something that a session is told about the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalled<'a> {
    /// What was said before, in few words.
    Summary(&'a str),
    /// The caller said it; empty when nobody could make out any words.
    Caller(&'a str),
    /// The agent said it, and the caller heard it.
    Agent(&'a str),
    /// The agent called a tool.
    Call {
        /// The service's id of the request.
        call: &'a str,
        /// The tool's name.
        name: &'a str,
        /// Its arguments, JSON text.
        arguments: &'a str,
    },
    /// What the tool gave.
    Result {
        /// The service's id of the request.
        call: &'a str,
        /// The result, text.
        output: &'a str,
    },
    /// A message of the system.
    System(&'a str),
    /// The call goes on: nobody is to be greeted again.
    CallContinues,
}

/// A tool that is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolRequest<'a> {
    /// The tool's name, one of the agent's HTTP tools.
    pub name: &'a str,
    /// The service's id of the request: the key of its effect.
    pub call: &'a str,
    /// Its arguments, JSON text, possibly broken.
    pub arguments: &'a str,
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
    /// The first audio of the agent left for the caller.
    FirstVoice {
        /// Time since the stream began.
        after: Duration,
        /// Whether a session was ready when the stream began.
        prepared: bool,
    },
    /// An agent's session was lost, or could not be opened; another one is tried.
    AgentLost {
        /// A code or a phrase for the operator.
        detail: &'a str,
    },
    /// Another session took the place of the agent's.
    AgentReplaced {
        /// Why.
        because: ReplacedBecause,
        /// How long nobody heard the caller.
        gap: Duration,
        /// Turns that it was told about.
        turns: u32,
        /// For the operator; empty when there is nothing to say.
        detail: &'a str,
    },
    /// Turns were forgotten before a summary could take their place.
    Forgotten {
        /// How many.
        turns: u32,
    },
    /// The caller pressed a key.
    Key(char),
    /// The use of a tool is over.
    Tool {
        /// The tool's name.
        name: &'a str,
        /// The service's id of the request.
        request: &'a str,
        /// How it went.
        outcome: ToolOutcome,
        /// From the request to the result.
        after: Duration,
    },
    /// A command is done with.
    CommandDone {
        /// Which.
        id: &'a CommandId,
        /// Why it was not carried out; `None` when it was.
        refused: Option<&'static str>,
    },
    /// Words of a turn that is not complete: for whoever listens at this moment.
    Saying {
        /// Who says them.
        role: Role,
        /// The item.
        item: &'a str,
        /// The next words.
        text: &'a str,
    },
    /// A turn of the caller is complete.
    CallerTurn {
        /// Where it stands in the conversation.
        order: u32,
        /// The item.
        item: &'a str,
        /// The words.
        text: &'a str,
    },
    /// A turn of the agent is complete: heard in full, or cut.
    AgentTurn(AgentTurn<'a>),
    /// The caller interrupted.
    BargeIn(BargeIn<'a>),
    /// A tool that may have an effect is about to run; control commits that and says so.
    ToolIntended {
        /// Comes back as [`Input::Recorded`](super::input::Input::Recorded).
        record: RecordId,
        /// The tool's name.
        name: &'a str,
        /// The service's id of the request.
        request: &'a str,
    },
    /// A decision to end the call; control commits it and says so.
    Ending {
        /// Comes back as [`Input::Recorded`](super::input::Input::Recorded).
        record: RecordId,
        /// Why.
        reason: EndReason,
        /// For the operator.
        detail: Option<&'a str>,
        /// Whom the caller is connected to next.
        transfer_to: Option<&'a Address>,
    },
    /// A decision to close the stream, so that the call goes on at another node; control commits it
    /// and says so.
    Leaving {
        /// Comes back as [`Input::Recorded`](super::input::Input::Recorded).
        record: RecordId,
        /// The node that is ready for the call, as far as it was named.
        to: Option<&'a NodeId>,
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
    /// The service failed to answer.
    FailedAnswer,
    /// An answer was stopped by a limit or a filter.
    IncompleteAnswer,
    /// The service was asked, and did not begin to answer in time.
    SilentAgent,
    /// A gap in the caller's audio, filled with silence.
    FilledGap,
}

/// A complete turn of the agent.
#[derive(Debug)]
pub struct AgentTurn<'a> {
    /// Where it stands in the conversation.
    pub order: u32,
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

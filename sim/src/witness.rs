//! Who looks: keeps its own books about a call, and compares after every step.
//!
//! It sees what the world tells the relay ([`Witness::told`], before the call hears it) and what
//! the call wants done ([`Witness::see`], as the call says it). What does not fit is a panic that
//! says what, and when.
//!
//! | file | looks at |
//! |---|---|
//! | `ear` | what is sent, cut, proven and claimed to be heard |
//! | `answers` | who is asked for what, and when |
//! | `turns` | the transcript, and what later sessions are told of it |
//! | `tools` | calls of tools and their results |
//! | `uplink` | whether what the caller says reaches anybody |
//! | here | sockets, phases, commands, silence, the end |

mod answers;
mod ear;
mod tools;
mod turns;
mod uplink;

use std::time::Duration;

use link::event::EndReason;
use relay::call::input::{Audio, Slot, ToolId};
use relay::call::moment::Moment;
use relay::call::output::{AgentMessage, CallerMessage, Flow, Milestone, Output};

use crate::book::Book;
use crate::climate::Climate;
use crate::model::Told;

use self::answers::Answers;
use self::ear::Ear;
use self::tools::Tools;
use self::turns::Turns;
use self::uplink::Uplink;

/// Who looks at one call.
#[derive(Debug)]
pub(crate) struct Witness {
    now: Moment,
    pub(crate) book: Book,
    /// Whether only the caller is hostile.
    is_calm: bool,
    /// Whether the model, or a limit, may end the call with a goodbye.
    says_goodbye: bool,
    /// Whether the caller is to be greeted.
    is_greeted: bool,
    sockets: [Socket; 2],
    /// Which connection speaks with the caller.
    pub(crate) speaker: Option<usize>,
    ear: Ear,
    answers: Answers,
    turns: Turns,
    tools: Tools,
    uplink: Uplink,
    /// The reason, once the call is over.
    pub(crate) end: Option<EndReason>,
    is_caller_closed: bool,
    /// The decision to end it, as it was told.
    decided: Option<EndReason>,
    /// Commands that were answered in this step.
    commands_done: u32,
    is_agent_muted: bool,
    /// Since when the caller waits for an answer.
    owed_since: Option<Moment>,
    /// The longest that a caller has waited.
    pub(crate) longest_wait: Duration,
}

/// An agent's socket, as the relay should see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    Absent,
    /// Dialled: this connection.
    Dialled(usize),
    /// Introduced: it may be told what session is wanted.
    Introduced(usize),
    /// Stated: it may be told everything.
    Stated(usize),
}

impl Socket {
    fn conn(self) -> Option<usize> {
        match self {
            Self::Absent => None,
            Self::Dialled(conn) | Self::Introduced(conn) | Self::Stated(conn) => Some(conn),
        }
    }
}

impl Witness {
    /// Nothing has happened.
    pub(crate) fn new(climate: &Climate) -> Self {
        Self {
            now: Moment::default(),
            book: Book::new(climate.kind, climate.is_pcm),
            is_calm: climate.is_calm(),
            says_goodbye: climate.says_goodbye(),
            sockets: [Socket::Absent; 2],
            speaker: None,
            ear: Ear::default(),
            answers: Answers::new(climate.spec.agent.greeting.is_some()),
            turns: Turns::default(),
            tools: Tools::default(),
            uplink: Uplink::new(climate.kind),
            is_greeted: climate.spec.agent.greeting.is_some(),
            end: None,
            is_caller_closed: false,
            decided: None,
            commands_done: 0,
            is_agent_muted: false,
            owed_since: None,
            longest_wait: Duration::ZERO,
        }
    }

    /// The connection in a slot.
    pub(crate) fn conn(&self, slot: Slot) -> Option<usize> {
        self.sockets[slot as usize].conn()
    }

    /// The slot of a connection.
    pub(crate) fn slot(&self, conn: usize) -> Option<Slot> {
        [Slot::A, Slot::B].into_iter().find(|slot| self.conn(*slot) == Some(conn))
    }

    /// Whether a connection may be told everything.
    pub(crate) fn is_stated(&self, slot: Slot) -> bool {
        matches!(self.sockets[slot as usize], Socket::Stated(_))
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, now: Moment) {
        self.now = now;
        self.commands_done = 0;
    }

    /// A step is over: a command was handled in it, or not.
    pub(crate) fn finish(&mut self, commands: u32) {
        if self.end.is_none() {
            assert_eq!(self.commands_done, commands, "each command has one answer");
            self.tools.look(self.speaker, self.now);
            self.turns.look();
            if self.is_calm && self.decided.is_none() {
                self.ear.look(self.now, &self.book);
            }
            self.look_for_silence();
        }
    }

    /// The relay is about to hear a mark.
    pub(crate) fn mark_told(&mut self, mark: u32) {
        self.ear.moves(self.now);
        self.ear.mark_told(mark, &mut self.book);
    }

    /// The relay is about to hear the caller.
    pub(crate) fn caller_said(&mut self, chunk: Option<u64>, audio: Audio<'_>) {
        // Without a session it is held, or dropped with the oldest.
        if self.decided.is_none() && self.speaker.is_some() && !self.book.is_resampled() {
            self.uplink.said(chunk, audio);
        }
    }

    /// The relay is about to hear that a tool has ended; says whether it waits for that.
    pub(crate) fn tool_ends(&mut self, id: ToolId) -> bool {
        self.tools.ends(id)
    }

    /// The relay is about to hear that a socket is gone.
    pub(crate) fn socket_lost(&mut self, conn: usize) {
        if let Some(slot) = self.slot(conn) {
            self.sockets[slot as usize] = Socket::Absent;
        }
        if self.speaker == Some(conn) {
            self.speaker = None;
        }
    }

    /// The service introduces its session.
    pub(crate) fn introduced(&mut self, slot: Slot) {
        if let Socket::Dialled(conn) = self.sockets[slot as usize] {
            self.sockets[slot as usize] = Socket::Introduced(conn);
        }
    }

    /// The relay is about to hear what a model says.
    pub(crate) fn told(&mut self, slot: Slot, told: &Told) {
        let socket = self.sockets[slot as usize];
        let Some(conn) = socket.conn() else { return };
        if let (Told::Configured, Socket::Introduced(_)) = (told, socket) {
            self.sockets[slot as usize] = Socket::Stated(conn);
        }
        let is_heard = self.speaker == Some(conn);
        self.answers.told(conn, told);
        if !is_heard {
            return;
        }
        match told {
            Told::SpeechStarted => {
                self.answers.speech_started(self.now);
                self.owed_since = None;
            }
            Told::Committed(item) => {
                self.turns.begins(item);
                if self.answers.is_answered(self.now) {
                    self.owed_since.get_or_insert(self.now);
                }
            }
            Told::CallerSaid(item, words) => self.turns.caller_said(item, words),
            Told::Audio(n, bytes) => {
                let spoken = &mut self.book.spoken[*n];
                spoken.told_bytes += bytes;
                self.ear.moves(self.now);
                self.turns.begins(&spoken.item);
            }
            Told::Words(n, words) => {
                let spoken = &mut self.book.spoken[*n];
                spoken.words.push_str(words);
                self.turns.begins(&spoken.item);
            }
            Told::Tool(call, name) => self.tools.called(conn, call, name, self.now),
            Told::Summary(number, is_made) => self.turns.summarised(conn, *number, *is_made),
            // A model may have nothing to say.
            Told::Done(_, "completed" | "cancelled", false) => self.owed_since = None,
            Told::Created(_) | Told::Done(..) | Told::Refused => {}
            Told::Configured | Told::Nothing => {}
        }
    }

    /// The call wants something done.
    pub(crate) fn see(&mut self, output: &Output<'_>, conns: &mut usize) {
        assert_eq!(self.end, None, "nothing follows the end: {output:?}");
        match output {
            Output::ToCaller(message) => {
                assert!(!self.is_caller_closed, "the caller's socket is closed");
                self.caller_told(message);
            }
            Output::ToAgent(slot, message) => self.agent_told(*slot, message),
            Output::Dial(slot) => {
                let socket = &mut self.sockets[*slot as usize];
                assert_eq!(*socket, Socket::Absent, "a slot holds one socket");
                *socket = Socket::Dialled(*conns);
                *conns += 1;
            }
            Output::Ping(slot) => {
                let socket = self.sockets[*slot as usize];
                assert!(
                    matches!(socket, Socket::Stated(_)),
                    "a ping to a socket that is {socket:?}"
                );
            }
            Output::CloseAgent(slot) => {
                let closed = std::mem::replace(&mut self.sockets[*slot as usize], Socket::Absent);
                if closed.conn().is_some() && self.speaker == closed.conn() {
                    self.speaker = None;
                }
            }
            Output::RunTool(id, request) => self.tools.runs(*id, request.name),
            Output::DropTool(id) => self.tools.dropped(*id),
            Output::Note(milestone) => self.note(milestone),
            Output::CloseCaller(..) => {
                assert!(!self.is_caller_closed, "the caller's socket is closed once");
                self.is_caller_closed = true;
            }
            Output::End(reason) => {
                assert!(
                    self.decided.is_none_or(|decided| decided == *reason || !reason.ends_call()),
                    "{reason:?} after {:?} was decided",
                    self.decided
                );
                for socket in self.sockets {
                    assert_eq!(socket, Socket::Absent, "a socket is left open");
                }
                self.tools.ended();
                self.uplink.look();
                self.end = Some(*reason);
            }
        }
    }

    fn caller_told(&mut self, message: &CallerMessage<'_>) {
        match message {
            CallerMessage::Media(audio) => {
                self.owed_since = None;
                self.ear.moves(self.now);
                self.ear.sent(*audio, &mut self.book);
            }
            CallerMessage::Mark(mark) => self.ear.marked(mark.0, &self.book),
            CallerMessage::Clear => self.ear.cleared(&mut self.book),
        }
    }

    fn agent_told(&mut self, slot: Slot, message: &AgentMessage<'_>) {
        let socket = self.sockets[slot as usize];
        let is_configuring = matches!(message, AgentMessage::Configure { .. });
        let conn = match socket {
            Socket::Introduced(conn) if is_configuring => conn,
            Socket::Stated(conn) if !is_configuring => conn,
            other => panic!("{message:?} to a socket that is {other:?}"),
        };
        // Whoever is told anything of the call from here on speaks.
        if !matches!(message, AgentMessage::Configure { .. }) {
            self.speaker = Some(conn);
        }
        self.answers.said(conn, message, self.now, &self.book);
        match message {
            AgentMessage::Recall(recalled) => {
                self.turns.recalled(conn, recalled);
                self.tools.recalled(conn, recalled, self.now);
            }
            AgentMessage::Audio(audio) => {
                self.uplink.passed_on(*audio);
                self.turns.session_begins(conn);
            }
            AgentMessage::Respond | AgentMessage::Speak(_) => self.turns.session_begins(conn),
            AgentMessage::Summarise => self.turns.sums_up(conn),
            AgentMessage::Truncate { item, part, heard_ms } => {
                assert_eq!(*part, 0, "items have one part");
                self.ear.claimed("truncate", item, *heard_ms, &mut self.book);
            }
            AgentMessage::Configure { .. }
            | AgentMessage::AnswerByYourself
            | AgentMessage::Instruct { .. }
            | AgentMessage::Cancel { .. } => {}
        }
    }

    fn note(&mut self, milestone: &Milestone<'_>) {
        match milestone {
            Milestone::CallerTurn { order, item, text } => {
                self.turns.noted(*order, item, text, self.speaker);
            }
            Milestone::AgentTurn(turn) => {
                self.ear.claimed("turn", turn.item, turn.heard_ms, &mut self.book);
                self.ear.told(turn, self.is_calm, &mut self.book);
                self.turns.noted(turn.order, turn.item, turn.text, self.speaker);
            }
            Milestone::BargeIn(cut) => {
                assert!(cut.heard_ms <= cut.sent_ms, "heard more than was sent");
                assert!(cut.sent_ms <= cut.generated_ms, "sent more than was made");
                self.ear.claimed("barge-in", cut.item, cut.heard_ms, &mut self.book);
            }
            Milestone::Forgotten { turns } => self.turns.forgotten(*turns),
            Milestone::CommandDone { .. } => self.commands_done += 1,
            Milestone::Ending { reason, .. } => {
                assert_eq!(self.decided, None, "one decision");
                self.decided = Some(*reason);
                self.turns.ends();
                self.owed_since = None;
            }
            Milestone::Dropped { flow: Flow::Uplink, ms } => self.uplink.dropped(*ms),
            // Whoever is to be greeted waits from here on.
            Milestone::Started => self.owed_since = self.is_greeted.then_some(self.now),
            Milestone::AgentReady { .. }
            | Milestone::FirstVoice { .. }
            | Milestone::AgentLost { .. }
            | Milestone::AgentReplaced { .. }
            | Milestone::Saying { .. }
            | Milestone::Key(_)
            | Milestone::ToolIntended { .. }
            | Milestone::Tool { .. }
            | Milestone::Leaving { .. }
            | Milestone::Dropped { .. }
            | Milestone::Tolerated(_) => {}
        }
    }

    /// The agent is muted, or heard again.
    pub(crate) fn mutes(&mut self, on: bool) {
        self.is_agent_muted = on;
        self.answers.was_muted |= on;
    }

    /// A line that is stalled, or a tool that runs, is a reason to be silent.
    pub(crate) fn excuse_silence(&mut self) {
        self.ear.moves(self.now);
        if self.owed_since.is_some() {
            self.owed_since = Some(self.now);
        }
    }

    fn look_for_silence(&mut self) {
        if self.is_agent_muted {
            self.owed_since = None;
        }
        if self.tools.are_running() {
            self.excuse_silence();
        }
        let Some(since) = self.owed_since else { return };
        let waited = self.now.since(since);
        self.longest_wait = self.longest_wait.max(waited);
        let most = if self.says_goodbye { SILENCE_MAX + GOODBYE_MAX } else { SILENCE_MAX };
        assert!(waited <= most, "the caller has waited for {} ms", waited.as_millis());
    }
}

/// The longest that a caller waits for an answer, or for a word that there is none.
const SILENCE_MAX: Duration = Duration::from_secs(12);

/// How much longer, where a goodbye may be waited for that the model does not say.
const GOODBYE_MAX: Duration = Duration::from_secs(16);

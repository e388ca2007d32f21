//! What the agent may do besides speaking: hang up, transfer the caller, press keys, and whatever
//! its owner's servers do.
//!
//! A tool that may have an effect runs once control has committed that it is about to, or has not
//! answered in time: whoever goes on with the call on another node knows what may have been done.
//!
//! A goodbye is one answer that speaks and calls `hang_up`. The line stays open until the caller
//! has heard it ([`ending`](super::ending)); a caller who speaks into it calls it off. A transfer
//! waits in the same way, and is not called off: who is being connected may well say thanks.
//! Every call of a tool is answered, because a service waits for that answer. When all tools of an
//! answer have theirs, the agent is asked to go on, unless the caller has the word by then.

use std::time::Duration;

use ::link::event::ToolOutcome;
use ::link::tool::{Address, HttpTool, Tool};
use serde::Deserialize;

use super::Call;
use super::input::{RecordId, ToolId, ToolResult};
use super::moment::Moment;
use super::output::{AgentMessage, Milestone, Oddity, Outbox, Output, Recalled, ToolRequest};
use super::phase::{Goodbye, Next, Phase, Saying};
use super::timers::{GOODBYE_MAX, RECORD_MAX, TOOL_GRACE, Timer};
use super::turns::{Ask, Yield};

/// A call of a tool, in the service's words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    /// The answer.
    pub(super) response: &'a str,
    /// The service's id of the request.
    pub(super) call: &'a str,
    /// The tool's name.
    pub(super) name: &'a str,
    /// Its arguments, JSON text, possibly broken.
    pub(super) arguments: &'a str,
}

/// A tool that runs, or is about to.
#[derive(Debug)]
pub(super) struct Running {
    id: ToolId,
    response: Box<str>,
    call: Box<str>,
    name: Box<str>,
    began: Moment,
    due: Moment,
    stage: Stage,
}

/// How far a tool has come.
#[derive(Debug)]
enum Stage {
    /// It may have an effect, and control is told so before it runs.
    Intended {
        record: RecordId,
        arguments: Box<str>,
        /// How long it may run.
        within: Duration,
    },
    /// It runs.
    Runs,
}

/// The arguments of a transfer.
#[derive(Deserialize)]
struct TransferArguments {
    destination: String,
}

/// The arguments of key tones.
#[derive(Deserialize)]
struct DtmfArguments {
    digits: String,
}

impl Call {
    /// The agent calls a tool.
    pub(super) fn on_tool_called(&mut self, wish: Wish<'_>, now: Moment, out: &mut impl Outbox) {
        self.memory.called(wish.call, wish.name, wish.arguments, out);
        let is_wanted = self.turns.is_wanted(wish.response);
        self.turns.on_yield(Yield::Tool, now);
        // The caller has cut the answer that wanted it: nothing is done that nobody wants any more.
        if !is_wanted {
            return self.answer_tool(wish, (ToolOutcome::Cancelled, CUT), out);
        }
        // A greeting that is made ahead has nobody to do anything for.
        if matches!(self.phase, Phase::Announced) {
            return self.answer_tool(wish, (ToolOutcome::Failed, NOBODY_HERE), out);
        }
        let spec = self.spec.agent.clone();
        match spec.tools.iter().find(|tool| tool.name() == wish.name) {
            Some(Tool::HangUp) => self.on_hang_up(wish, now, out),
            Some(Tool::Transfer { destinations }) => {
                let chosen = serde_json::from_str::<TransferArguments>(wish.arguments).ok();
                let to = chosen.and_then(|chosen| {
                    destinations.iter().find(|known| known.name == chosen.destination)
                });
                match to {
                    Some(destination) => self.on_transfer(wish, &destination.to, now, out),
                    None => self.go_on(wish, (ToolOutcome::Failed, NO_SUCH_DESTINATION), out),
                }
            }
            Some(Tool::SendDtmf) => self.on_send_dtmf(wish, out),
            Some(Tool::Http(tool)) => self.run(wish, tool, now, out),
            None => {
                out.put(Output::Note(Milestone::Tolerated(Oddity::UnknownTool)));
                self.go_on(wish, (ToolOutcome::Failed, NO_SUCH_TOOL), out);
            }
        }
    }

    fn on_hang_up(&mut self, wish: Wish<'_>, now: Moment, out: &mut impl Outbox) {
        match self.phase {
            Phase::Live => self.say_goodbye(wish, Next::HangUp { call: wish.call.into() }, now),
            Phase::Goodbye(_) => self.answer_tool(wish, (ToolOutcome::Failed, ENDING), out),
            Phase::Announced | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => {}
        }
    }

    fn on_transfer(&mut self, wish: Wish<'_>, to: &Address, now: Moment, out: &mut impl Outbox) {
        match self.phase {
            Phase::Live => {
                self.say_goodbye(wish, Next::Transfer(to.clone()), now);
                self.answer_tool(wish, (ToolOutcome::Done, TRANSFERRING), out);
            }
            Phase::Goodbye(_) => self.answer_tool(wish, (ToolOutcome::Failed, ENDING), out),
            Phase::Announced | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => {}
        }
    }

    /// From here on the call ends, once what the answer says was heard.
    fn say_goodbye(&mut self, wish: Wish<'_>, next: Next, now: Moment) {
        let response = Some(wish.response.into());
        self.phase = Phase::Goodbye(Goodbye { response, saying: Saying::Unfinished, next });
        self.timers.set(Timer::LastWords, now + self.playout.unheard() + GOODBYE_MAX);
    }

    fn on_send_dtmf(&mut self, wish: Wish<'_>, out: &mut impl Outbox) {
        let mut tones = Vec::new();
        let digits = serde_json::from_str::<DtmfArguments>(wish.arguments).ok();
        let made = digits.is_some_and(|wish| codec::dtmf::tones(&wish.digits, &mut tones).is_ok());
        if made && self.playout.unsent() < TONES_AFTER_MAX {
            self.playout.say(&tones);
            self.go_on(wish, (ToolOutcome::Done, SENT), out);
        } else {
            self.go_on(wish, (ToolOutcome::Failed, BAD_DIGITS), out);
        }
    }

    fn run(&mut self, wish: Wish<'_>, tool: &HttpTool, now: Moment, out: &mut impl Outbox) {
        if self.tools.len() == TOOLS_MAX {
            return self.go_on(wish, (ToolOutcome::Failed, TOO_MANY), out);
        }
        self.tool_ids += 1;
        let id = ToolId(self.tool_ids);
        let Wish { response, call, name, arguments } = wish;
        let within = tool.timeout() + TOOL_GRACE;
        let (due, stage) = if tool.read_only {
            out.put(Output::RunTool(id, ToolRequest { name, call, arguments }));
            (now + within, Stage::Runs)
        } else {
            self.records += 1;
            let record = RecordId(self.records);
            out.put(Output::Note(Milestone::ToolIntended { record, name, request: call }));
            let arguments = arguments.into();
            (now + RECORD_MAX, Stage::Intended { record, arguments, within })
        };
        let (response, call, name) = (response.into(), call.into(), name.into());
        self.tools.push(Running { id, response, call, name, began: now, due, stage });
        self.watch_tools();
    }

    /// Control has committed that a tool is about to run.
    pub(super) fn on_intent_recorded(
        &mut self,
        committed: RecordId,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        for tool in &mut self.tools {
            tool.start_if(|record| record == committed, now, out);
        }
        self.watch_tools();
    }

    /// A tool has ended.
    pub(super) fn on_tool(
        &mut self,
        id: ToolId,
        result: ToolResult<'_>,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        // It may have been given up a moment ago.
        let Some(at) = self.tools.iter().position(|tool| tool.id == id) else { return };
        let tool = self.tools.remove(at);
        self.watch_tools();
        let failed;
        let (outcome, output) = match result {
            ToolResult::Done(output) => (ToolOutcome::Done, output),
            ToolResult::Failed(why) => {
                failed = serde_json::json!({ "error": why }).to_string();
                (ToolOutcome::Failed, failed.as_str())
            }
            ToolResult::TimedOut => (ToolOutcome::TimedOut, TIMED_OUT),
        };
        let (request, name, after) = (&*tool.call, &*tool.name, now.since(tool.began));
        out.put(Output::Note(Milestone::Tool { name, request, outcome, after }));
        self.give_result(&tool.call, output, out);
        if !self.tools.iter().any(|other| other.response == tool.response) {
            self.go_on_after(&tool.response);
        }
    }

    /// A tool has taken too long, whatever its runner says.
    pub(super) fn on_tool_deadline(&mut self, now: Moment, out: &mut impl Outbox) {
        // Control is away: the caller does not wait for it, and the relay keeps the event.
        for tool in self.tools.iter_mut().filter(|tool| tool.due <= now) {
            tool.start_if(|_| true, now, out);
        }
        let due = |tool: &&Running| tool.due <= now;
        while let Some(id) = self.tools.iter().find(due).map(|tool| tool.id) {
            out.put(Output::DropTool(id));
            self.on_tool(id, ToolResult::TimedOut, now, out);
        }
        self.watch_tools();
    }

    /// Nobody waits for any tool any more.
    pub(super) fn drop_tools(&mut self, out: &mut impl Outbox) {
        for tool in self.tools.drain(..) {
            match tool.stage {
                Stage::Runs => out.put(Output::DropTool(tool.id)),
                // It was told that it would run, and it has not.
                Stage::Intended { .. } => {
                    let (name, request) = (&*tool.name, &*tool.call);
                    let (outcome, after) = (ToolOutcome::Cancelled, Duration::ZERO);
                    out.put(Output::Note(Milestone::Tool { name, request, outcome, after }));
                }
            }
        }
    }

    fn watch_tools(&mut self) {
        let due = self.tools.iter().map(|tool| tool.due).min();
        self.timers.set(Timer::Tool, due);
    }

    /// Who speaks into a goodbye wants to go on. The agent hears that it has not hung up; its
    /// service answers what the caller says by itself.
    pub(super) fn call_off_goodbye(&mut self, out: &mut impl Outbox) {
        let Phase::Goodbye(Goodbye { next: Next::HangUp { call }, .. }) = &self.phase else {
            return;
        };
        let call = call.clone();
        self.phase = Phase::Live;
        self.timers.set(Timer::LastWords, None);
        self.give_result(&call, CALLED_OFF, out);
    }

    /// Answers a call of a tool that did not run, and lets the agent speak about it.
    fn go_on(&mut self, wish: Wish<'_>, how: (ToolOutcome, &str), out: &mut impl Outbox) {
        self.answer_tool(wish, how, out);
        self.go_on_after(wish.response);
    }

    fn answer_tool(
        &mut self,
        wish: Wish<'_>,
        (outcome, output): (ToolOutcome, &str),
        out: &mut impl Outbox,
    ) {
        let (request, name, after) = (wish.call, wish.name, Duration::ZERO);
        out.put(Output::Note(Milestone::Tool { name, request, outcome, after }));
        self.give_result(wish.call, output, out);
    }

    fn give_result(&mut self, call: &str, output: &str, out: &mut impl Outbox) {
        self.memory.result(call, output, out);
        self.link.say(AgentMessage::Recall(Recalled::Result { call, output }), out);
    }

    /// The agent has the results of an answer's tools, and is to speak about them: behind that
    /// answer, if it still runs. If the caller has the word, or another answer does, the next
    /// answer speaks about them anyway.
    fn go_on_after(&mut self, response: &str) {
        let nobody_speaks = self.turns.is_quiet() || self.link.speaker().is_none();
        if self.turns.is_running(response) || nobody_speaks {
            self.turns.want(Ask::Answer);
        }
    }
}

impl Running {
    /// Runs it, if it waits for such a record.
    fn start_if(
        &mut self,
        is_recorded: impl Fn(RecordId) -> bool,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        match std::mem::replace(&mut self.stage, Stage::Runs) {
            Stage::Intended { record, arguments, within } if is_recorded(record) => {
                let (name, call, arguments) = (&*self.name, &*self.call, &*arguments);
                out.put(Output::RunTool(self.id, ToolRequest { name, call, arguments }));
                self.due = now + within;
            }
            stage @ (Stage::Intended { .. } | Stage::Runs) => self.stage = stage,
        }
    }
}

/// The most tools that run at once. A model asks for one or two.
pub(super) const TOOLS_MAX: usize = 8;

/// Tones wait behind what is being said; beyond 20 s of that nobody would know what they are for.
const TONES_AFTER_MAX: Duration = Duration::from_secs(20);

const CUT: &str = r#"{"done":false,"because":"the caller interrupted"}"#;
const NOBODY_HERE: &str = r#"{"error":"the caller is not here yet"}"#;
const CALLED_OFF: &str = r#"{"ended":false,"because":"the caller goes on speaking"}"#;
const ENDING: &str = r#"{"error":"the call is ending already"}"#;
const TRANSFERRING: &str = r#"{"transferring":true}"#;
const SENT: &str = r#"{"sent":true}"#;
const TIMED_OUT: &str = r#"{"error":"the tool took too long"}"#;
const TOO_MANY: &str = r#"{"error":"too many tools run at once"}"#;
const NO_SUCH_TOOL: &str = r#"{"error":"there is no such tool"}"#;
const NO_SUCH_DESTINATION: &str = r#"{"error":"there is no such destination"}"#;
const BAD_DIGITS: &str = r#"{"error":"digits must be 1 to 32 of 0-9 * # A-D, with w for a pause"}"#;

//! What somebody outside wants of a call that runs. Each command is answered: done, or why not.
//!
//! *Done* means that the call has taken it: words are owed to the caller, a message is in the
//! conversation, an end is decided. What comes of it is told by the call's other events.

use std::time::Duration;

use ::link::agent::AgentSpec;
use ::link::event::EndReason;
use ::link::id::CommandId;
use ::link::message::{Command, Side};
use ::link::tool::Address;

use super::Call;
use super::input::Answering;
use super::moment::Moment;
use super::moving::{Leaving, Otherwise};
use super::output::{AgentMessage, Milestone, Outbox, Output};
use super::phase::{Ending, Phase};
use super::turns::Ask;

impl Call {
    /// Somebody outside wants something.
    pub(super) fn on_command(
        &mut self,
        id: Option<&CommandId>,
        command: &Command,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        // Its answer comes before its effect: nothing follows an end.
        let refused = self.refusal(command);
        if let Some(id) = id {
            out.put(Output::Note(Milestone::CommandDone { id, refused }));
        }
        if refused.is_none() {
            self.obey(command, now, out);
        }
    }

    /// Why a command cannot be carried out.
    fn refusal(&self, command: &Command) -> Option<&'static str> {
        let needs_live = !matches!(command, Command::HangUp | Command::Yield | Command::Unknown);
        match self.phase {
            Phase::Announced if needs_live => return Some("the caller is not there yet"),
            Phase::Goodbye(_) | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over
                if needs_live =>
            {
                return Some("the call is ending");
            }
            Phase::Announced
            | Phase::Live
            | Phase::Goodbye(_)
            | Phase::Sorry(_)
            | Phase::Recording { .. }
            | Phase::Over => {}
        }
        match command {
            Command::Say { text } | Command::Inject { text } if text.trim().is_empty() => {
                Some("the text is empty")
            }
            Command::Say { text } | Command::Inject { text }
                if text.len() > Command::TEXT_BYTES_MAX =>
            {
                Some("the text is longer than 8 KiB")
            }
            Command::Say { .. } if !self.turns.has_room() => Some("too much is waiting to be said"),
            Command::Instruct { instructions }
                if instructions.trim().is_empty()
                    || instructions.len() > AgentSpec::INSTRUCTIONS_BYTES_MAX =>
            {
                Some("instructions must be 1 byte to 32 KiB")
            }
            Command::Unknown => Some("this relay does not know the command"),
            Command::HangUp
            | Command::Yield
            | Command::Say { .. }
            | Command::Inject { .. }
            | Command::Instruct { .. }
            | Command::Mute { .. }
            | Command::Leave { .. }
            | Command::Transfer { .. } => None,
        }
    }

    fn obey(&mut self, command: &Command, now: Moment, out: &mut impl Outbox) {
        match command {
            Command::HangUp => self.stop(EndReason::OperatorHungUp, now, out),
            Command::Yield => self.on_yield(out),
            // There is room: `refusal` has looked.
            Command::Say { text } => {
                self.turns.want(Ask::Words(text.as_str().into()));
            }
            Command::Inject { text } => self.tell(text, out),
            Command::Instruct { instructions } => {
                self.instructions = Some(instructions.as_str().into());
                self.link.say(AgentMessage::Instruct { instructions }, out);
            }
            Command::Mute { side: Side::Caller, on } => self.uplink.mute(*on),
            Command::Mute { side: Side::Agent, on } => {
                self.is_agent_muted = *on;
                if *on {
                    self.silence_agent(now, out);
                }
            }
            Command::Leave { within_ms, anyway, to } => {
                let otherwise = if *anyway { Otherwise::Leaves } else { Otherwise::Stays };
                let within = Duration::from_millis((*within_ms).into());
                self.on_leave(Leaving { to: to.clone(), otherwise }, now + within);
            }
            Command::Transfer { to } => self.transfer(to, now, out),
            Command::Unknown => {}
        }
    }

    /// What the agent says now is not heard any further; the caller goes on being heard.
    fn silence_agent(&mut self, now: Moment, out: &mut impl Outbox) {
        self.interrupt(Answering::ByRelay, now, out);
    }

    fn transfer(&mut self, to: &Address, now: Moment, out: &mut impl Outbox) {
        self.decide(Ending::transfer(to.clone()), now, out);
    }
}

//! What the agent may do besides speaking: hang up.
//!
//! A goodbye is one answer that speaks and calls [`HANG_UP`]. The line stays open until the
//! caller has heard it ([`ending`](super::ending)); a caller who speaks into it calls it off.
//! Every call of a tool is answered, because a service waits for that answer.

use std::time::Duration;

use super::Call;
use super::moment::Moment;
use super::output::{AgentMessage, Milestone, Oddity, Outbox, Output, Recalled};
use super::phase::{Goodbye, Phase, Saying};
use super::timers::Timer;

/// The tool by which the agent hangs up.
pub const HANG_UP: &str = "hang_up";

impl Call {
    /// The agent calls a tool.
    pub(super) fn on_tool_called(
        &mut self,
        response: &str,
        call: &str,
        name: &str,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        match self.phase {
            Phase::Live if name == HANG_UP && self.turns.is_wanted(response) => {
                self.phase = Phase::Goodbye(Goodbye {
                    response: response.into(),
                    call: call.into(),
                    saying: Saying::Unfinished,
                });
                let answer_max = self.playout.unheard() + GOODBYE_MAX;
                self.timers.set(Timer::LastWords, now + answer_max);
            }
            // The caller has cut the answer that wanted to hang up, or it asks twice.
            Phase::Live | Phase::Goodbye(_) if name == HANG_UP => {
                self.give_result(call, CALLED_OFF, out);
            }
            Phase::Live | Phase::Goodbye(_) => {
                out.put(Output::Note(Milestone::Tolerated(Oddity::UnknownTool)));
                self.give_result(call, NO_SUCH_TOOL, out);
                self.turns.want_answer(self.agent.slot(), out);
            }
            Phase::Announced | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => {}
        }
    }

    /// Who speaks into a goodbye wants to go on. The agent hears that it has not hung up; its
    /// service answers what the caller says by itself.
    pub(super) fn call_off_goodbye(&mut self, out: &mut impl Outbox) {
        match std::mem::replace(&mut self.phase, Phase::Live) {
            Phase::Goodbye(goodbye) => {
                self.give_result(&goodbye.call, CALLED_OFF, out);
                self.timers.set(Timer::LastWords, None);
            }
            other @ (Phase::Announced
            | Phase::Live
            | Phase::Sorry(_)
            | Phase::Recording { .. }
            | Phase::Over) => self.phase = other,
        }
    }

    fn give_result(&self, call: &str, output: &str, out: &mut impl Outbox) {
        out.put(Output::ToAgent(
            self.agent.slot(),
            AgentMessage::Recall(Recalled::Result { call, output }),
        ));
    }
}

const CALLED_OFF: &str = r#"{"ended":false,"because":"the caller goes on speaking"}"#;

const NO_SUCH_TOOL: &str = r#"{"error":"there is no such tool"}"#;

/// The longest a goodbye may still be made, beyond what is to be heard of it already.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

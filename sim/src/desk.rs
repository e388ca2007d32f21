//! Where the bridge would be: puts what the call wants into the vendors' words, in order.

use std::sync::Arc;

use link::agent::AgentSpec;
use relay::call::input::{Slot, ToolId};
use relay::call::output::{AgentMessage, Milestone, Outbox, Output};
use relay::wire::{AgentWire, CallerDialect, CallerWire, Frame as Leaves};

use crate::phone::{Frame, Kind, STREAM};
use crate::sheet::Sheet;
use crate::witness::Witness;

/// Something to be carried out.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A frame for the phone.
    ToPhone(Frame),
    /// Text for a model.
    ToModel(usize, Vec<u8>),
    /// A ping for a model.
    Ping(usize),
    /// A model is dialled.
    Dial(usize),
    /// A model's socket is closed.
    Close(usize),
    /// A tool is to run.
    RunTool(ToolId),
    /// A decision is to be committed.
    Record(u32),
    /// The phone's socket is closed.
    CloseCaller,
}

/// Takes what the call wants done.
#[derive(Debug)]
pub(crate) struct Desk {
    agent: Arc<AgentSpec>,
    caller: CallerWire,
    agents: [Option<AgentWire>; 2],
    /// Connections that were dialled.
    conns: usize,
    /// What is to be carried out.
    pub(crate) effects: Vec<Effect>,
    /// Who looks.
    pub(crate) witness: Witness,
    /// The call sheet.
    pub(crate) sheet: Sheet,
}

impl Desk {
    /// The desk of a call.
    pub(crate) fn new(kind: Kind, agent: Arc<AgentSpec>, witness: Witness, sheet: Sheet) -> Self {
        let dialect = match kind {
            Kind::Phone => CallerDialect::Twilio,
            Kind::Page => CallerDialect::Browser,
        };
        let caller = CallerWire::new(dialect, STREAM);
        Self { agent, caller, agents: [None, None], conns: 0, effects: Vec::new(), witness, sheet }
    }

    /// Which words the caller's side speaks.
    pub(crate) fn dialect(&self) -> CallerDialect {
        self.caller.dialect()
    }

    fn agent_told(&mut self, slot: Slot, message: &AgentMessage<'_>) {
        let conn = self.witness.conn(slot).expect("the witness has seen that it is open");
        let mut text = Vec::new();
        let wire = self.agents[slot as usize].as_mut().expect("a socket has its words");
        wire.write(message, &mut text);
        self.effects.push(Effect::ToModel(conn, text));
    }
}

impl Outbox for Desk {
    fn put(&mut self, output: Output<'_>) {
        self.sheet.wants(&output);
        let closing = match &output {
            Output::CloseAgent(slot) => self.witness.conn(*slot),
            _ => None,
        };
        self.witness.see(&output, &mut self.conns);
        match &output {
            Output::ToCaller(message) => {
                let frame = match self.caller.frame(message) {
                    Leaves::Text => {
                        let mut text = Vec::new();
                        self.caller.write(message, &mut text);
                        Some(Frame::text(text))
                    }
                    Leaves::Bytes(bytes) => Some(Frame::Bytes(bytes.to_owned())),
                    Leaves::None => None,
                };
                self.effects.extend(frame.map(Effect::ToPhone));
            }
            Output::ToAgent(slot, message) => self.agent_told(*slot, message),
            Output::Dial(slot) => {
                self.agents[*slot as usize] = Some(AgentWire::new(self.agent.clone()));
                self.effects.push(Effect::Dial(self.conns - 1));
            }
            Output::Ping(slot) => {
                let conn = self.witness.conn(*slot).expect("the witness has seen that it is open");
                self.effects.push(Effect::Ping(conn));
            }
            Output::CloseAgent(_) => self.effects.extend(closing.map(Effect::Close)),
            Output::RunTool(id, _) => self.effects.push(Effect::RunTool(*id)),
            Output::Note(milestone) => {
                if let Some(told) = self.caller.told(milestone) {
                    let mut text = Vec::new();
                    told.write(&mut text);
                    self.effects.push(Effect::ToPhone(Frame::text(text)));
                }
                if let Milestone::Ending { record, .. } | Milestone::ToolIntended { record, .. } =
                    milestone
                {
                    self.effects.push(Effect::Record(record.0));
                }
            }
            Output::CloseCaller(..) => self.effects.push(Effect::CloseCaller),
            Output::DropTool(_) | Output::End(_) => {}
        }
    }
}

//! What everybody but the phone and the model does: tools, commits, commands, stalls, ends.

use link::id::CommandId;
use link::message::Side as Muted;
use link::tool::Address;
use relay::call::input::{Batch, Command};

use super::*;

impl World {
    pub(super) fn announce(&mut self) {
        if let Some(prepared) = self.climate.prepared {
            self.put(Input::Announced(prepared.how), 0);
        }
    }

    /// The phone opens its stream.
    pub(super) fn start(&mut self) {
        // Nobody waits for it any more: it would be told so at the door.
        if self.desk.witness.end.is_some() {
            return;
        }
        self.is_started = true;
        self.phone.start(&mut self.agenda, &mut self.chance);
        self.put(Input::Caller(CallerEvent::Started), 0);
        let (length_ms, ender) = (self.climate.length_ms, self.climate.ender);
        self.agenda.after(length_ms, Event::Ends(ender));
        let bound_ms = match ender {
            Ender::Stopped | Ender::Lost | Ender::Violated | Ender::Drain | Ender::Yield => 5_000,
            Ender::HangUp => 5_000,
            // A search, what is said already, a clip, and marks that are late; a call that ends
            // already refuses a transfer.
            Ender::Transfer | Ender::Dismissed => 120_000,
        };
        self.agenda.after(length_ms + bound_ms, Event::MustBeOver);
    }

    pub(super) fn end(&mut self, ender: Ender) {
        if self.desk.witness.end.is_some() {
            return;
        }
        match ender {
            Ender::Stopped => {
                let goodbye = self.phone.kind.goodbye();
                self.phone.say(goodbye, &mut self.agenda, &mut self.chance);
            }
            Ender::Lost => self.put(Input::Caller(CallerEvent::Lost), 0),
            Ender::Violated => self.put(Input::Caller(CallerEvent::Violated), 0),
            Ender::HangUp => self.put(Input::Command { id: None, command: &Command::HangUp }, 0),
            Ender::Transfer => {
                let to = Address::new("+4930123456").expect("it is a number");
                self.put(Input::Command { id: None, command: &Command::Transfer { to } }, 0);
            }
            Ender::Drain => self.put(Input::Drain, 0),
            Ender::Yield => self.put(Input::Command { id: None, command: &Command::Yield }, 0),
            Ender::Dismissed => {
                self.is_dismissing = true;
                for conn in 0..self.models.len() {
                    let death = Event::ModelDies(conn, Death::Closed(Some(1000)));
                    self.agenda.after(0, death);
                }
            }
        }
    }

    pub(super) fn run_tool(&mut self, id: ToolId) {
        if !self.chance.happens(self.climate.world.tools_hang) {
            let ms = self.chance.skewed(0, self.climate.world.tools_ms);
            self.agenda.after(ms, Event::ToolEnds(id));
        }
    }

    pub(super) fn tool_ends(&mut self, id: ToolId) {
        // A result of a tool that was given up may be on its way.
        if self.desk.witness.tool_ends(id) || self.chance.happens(500) {
            let result = self.chance.pick(&[
                ToolResult::Done("At ten."),
                ToolResult::Done("At ten."),
                ToolResult::Done(""),
                ToolResult::Failed("The server said 500."),
                ToolResult::TimedOut,
            ]);
            self.put(Input::Tool(id, result), 0);
        }
    }

    pub(super) fn record(&mut self, number: u32) {
        if self.chance.happens(self.climate.world.records_lost) {
            // Of another decision, which is not this call's.
            self.agenda.after(self.chance.between(0, 200), Event::Recorded(number + 1));
            return;
        }
        let ms = self.chance.between(0, self.climate.world.records_ms);
        self.agenda.after(ms, Event::Recorded(number));
    }

    pub(super) fn command(&mut self) {
        if let Some(ms) = self.climate.world.commands_ms {
            self.agenda.after(self.chance.between(1, ms), Event::Commanded);
        }
        let text = || "Something to be said.".to_owned();
        let command = match self.chance.between(0, 29) {
            0 => Command::HangUp,
            1 => {
                Command::Transfer { to: Address::new("sip:sales@example.com").expect("it is one") }
            }
            2..=8 => Command::Say { text: text() },
            9 => Command::Say { text: " ".to_owned() },
            10..=15 => Command::Inject { text: text() },
            16 => Command::Inject { text: "x".repeat(9_000) },
            17..=20 => Command::Instruct { instructions: text() },
            21 => Command::Instruct { instructions: String::new() },
            22 => Command::Mute { side: Muted::Agent, on: true },
            23..=24 => Command::Mute { side: Muted::Agent, on: false },
            25 => Command::Mute { side: Muted::Caller, on: true },
            26..=28 => Command::Mute { side: Muted::Caller, on: false },
            _ => Command::Unknown,
        };
        self.commands += 1;
        let id = CommandId::new(format!("cmd_{}", self.commands)).expect("it is an id");
        if let Command::Mute { side: Muted::Agent, on } = command
            && self.is_started
        {
            self.desk.witness.mutes(on);
        }
        self.put(Input::Command { id: Some(&id), command: &command }, 1);
    }

    /// The shard wants the caller's audio sent on in another way.
    pub(super) fn batch(&mut self) {
        self.plan_batches();
        let span = Duration::from_millis(self.chance.pick(&[40, 60]));
        let ways = [Batch::Off, Batch::Writes(span), Batch::Reads(span)];
        let batch = self.chance.pick(&ways);
        self.put(Input::Batch(batch), 0);
    }

    pub(super) fn stall(&mut self) {
        if let Some(ms) = self.climate.world.stalls_ms {
            self.agenda.after(self.chance.between(1, ms), Event::Stalls);
        }
        let until_ms = self.chance.skewed(20, 5_000);
        let until = self.agenda.now() + Duration::from_millis(until_ms);
        let side = self.chance.pick(&[Side::Caller, Side::Agent(Slot::A), Side::Agent(Slot::B)]);
        match side {
            Side::Caller if self.is_started => {
                self.stalled.0 = true;
                self.phone.down.block(until);
            }
            Side::Agent(slot) if self.desk.witness.is_stated(slot) => {
                let Some(conn) = self.desk.witness.conn(slot) else { return };
                self.stalled.1[slot as usize] = Some(conn);
                self.models[conn].up.block(until);
            }
            Side::Caller | Side::Agent(_) => return,
        }
        self.agenda.at(until, Event::Drained(side));
        self.put(Input::Stalled(side), 0);
    }

    pub(super) fn drained(&mut self, side: Side) {
        match side {
            Side::Caller => self.stalled.0 = false,
            Side::Agent(slot) => {
                let stalled = self.stalled.1[slot as usize].take();
                // Another socket is there by now, or none.
                if stalled.is_none() || stalled != self.desk.witness.conn(slot) {
                    return;
                }
            }
        }
        self.put(Input::Drained(side), 0);
    }
}

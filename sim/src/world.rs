//! One call from its first announcement to the last message after its end.

mod acts;

use std::time::Duration;

use link::event::EndReason;
use relay::call::Call;
use relay::call::input::{
    AgentEvent, CallerEvent, Input, MarkId, RecordId, Side, Slot, ToolId, ToolResult,
};
use relay::call::moment::Moment;
use relay::wire::AgentDialect;

use crate::agenda::{Agenda, Event};
use crate::chance::Chance;
use crate::climate::{Climate, Ender};
use crate::desk::{Desk, Effect};
use crate::model::{Around, Death, Model, Told};
use crate::phone::{Frame, Phone};
use crate::sheet::Sheet;
use crate::witness::Witness;

/// The world around one call.
#[derive(Debug)]
pub(crate) struct World {
    climate: Climate,
    chance: Chance,
    agenda: Agenda,
    call: Call,
    /// Where what the call wants is taken.
    pub(crate) desk: Desk,
    phone: Phone,
    /// By connection.
    models: Vec<Model>,
    /// When the call has asked to be woken, and when it is.
    alarm: Option<(Moment, Moment)>,
    /// Whether the phone's stream is open.
    is_started: bool,
    /// Whether the service dismisses whoever comes.
    is_dismissing: bool,
    /// Which sockets are stalled: the phone's, and by slot a connection's.
    stalled: (bool, [Option<usize>; 2]),
    commands: u32,
    /// Deadlines in a row that came at the same moment, and which.
    ticks: u32,
    ticked_at: Moment,
    is_closed: bool,
}

/// How a call went.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Why it ended.
    pub end: EndReason,
    /// How long its phone was there.
    pub lasted: Duration,
    /// Sessions that were dialled.
    pub dials: usize,
    /// The longest that its caller waited for a word.
    pub longest_wait: Duration,
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(seed: u64, sheet: Sheet) -> Self {
        let mut chance = Chance::new(seed);
        let climate = Climate::new(seed, &mut chance);
        let mut agenda = Agenda::default();
        agenda.pass(Moment::from_micros(5_000_000));
        let call = Call::new(climate.spec.clone(), agenda.now());
        let agent = climate.spec.agent.clone();
        let witness = Witness::new(&climate);
        let mut world = Self {
            phone: Phone::new(climate.kind, &climate.phone),
            desk: Desk::new(climate.kind, agent, witness, sheet),
            climate,
            chance,
            agenda,
            call,
            models: Vec::new(),
            alarm: None,
            is_started: false,
            is_dismissing: false,
            stalled: (false, [None; 2]),
            commands: 0,
            ticks: 0,
            ticked_at: Moment::default(),
            is_closed: false,
        };
        world.desk.sheet.write("", &format_args!("{:#?}", world.climate));
        world.plan();
        world
    }

    fn plan(&mut self) {
        match self.climate.prepared {
            Some(prepared) => {
                self.agenda.after(0, Event::Announced);
                match prepared.claimed_after_ms {
                    Some(ms) => self.agenda.after(ms, Event::PhoneStarts),
                    // A spare session waits the longest.
                    None => self.agenda.after(310_000, Event::MustBeOver),
                }
            }
            None => self.agenda.after(0, Event::PhoneStarts),
        }
        if let Some(ms) = self.climate.world.commands_ms {
            self.agenda.after(self.chance.between(0, ms), Event::Commanded);
        }
        if let Some(ms) = self.climate.world.stalls_ms {
            self.agenda.after(self.chance.between(0, ms), Event::Stalls);
        }
        self.plan_batches();
    }

    fn plan_batches(&mut self) {
        if let Some(ms) = self.climate.world.batches_ms {
            self.agenda.after(self.chance.between(0, ms), Event::Batches);
        }
    }

    /// Lives the call.
    pub(crate) fn run(&mut self) -> Outcome {
        let began = self.agenda.now();
        let mut over_at = None;
        while !self.is_closed {
            let alarm = self.alarm.map(|(_, at)| at);
            match (self.agenda.next_at(), alarm) {
                (Some(event), Some(alarm)) if alarm < event => self.tick(alarm),
                (None, Some(alarm)) => self.tick(alarm),
                (Some(_), _) => {
                    if let Some(event) = self.agenda.take() {
                        self.happens(event);
                    }
                }
                (None, None) => panic!("the call waits for nothing"),
            }
            if over_at.is_none() && self.desk.witness.end.is_some() {
                over_at = Some(self.agenda.now());
                self.phone.stop();
                assert_eq!(self.call.next_timeout(), None, "a call that is over waits for nothing");
                self.agenda.after(3_000, Event::Closed);
            }
        }
        let end = self.desk.witness.end.expect("a call ends");
        let lasted = over_at.unwrap_or(began).since(began);
        let longest_wait = self.desk.witness.longest_wait;
        Outcome { end, lasted, dials: self.models.len(), longest_wait }
    }

    fn tick(&mut self, at: Moment) {
        // Other things happen between two of them, and at the same moment.
        self.ticks = if at > self.ticked_at { 0 } else { self.ticks + 1 };
        self.ticked_at = at;
        assert!(self.ticks < 100, "the call is woken again and again");
        self.agenda.pass(at);
        self.alarm = None;
        self.put(Input::Tick, 0);
    }

    /// Tells the call something, and carries out what it wants.
    fn put(&mut self, input: Input<'_>, commands: u32) {
        let now = self.agenda.now();
        self.phone.play(now, &mut self.desk.witness.book);
        self.desk.sheet.happens(&input, now);
        self.desk.witness.begin(now);
        if self.stalled.0 {
            self.desk.witness.excuse_silence();
        }
        self.call.handle(input, now, &mut self.desk);
        self.call.check();
        self.desk.witness.finish(commands);
        let due = self.call.next_timeout();
        if due != self.alarm.map(|(due, _)| due) {
            let late = self.chance.between(0, self.climate.world.ticks_late_ms * 1_000);
            let wake = |due: Moment| (due, due.max(now) + Duration::from_micros(late));
            self.alarm = due.map(wake);
        }
        for effect in std::mem::take(&mut self.desk.effects) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let now = self.agenda.now();
        match effect {
            Effect::ToPhone(frame) => {
                let at = self.phone.down.arrival(now, &mut self.chance);
                self.agenda.at(at, Event::PhoneHears(frame));
            }
            Effect::ToModel(conn, text) => {
                let at = self.models[conn].up.arrival(now, &mut self.chance);
                self.agenda.at(at, Event::ModelHears(conn, text));
            }
            Effect::Ping(conn) => self.with_model(conn, Model::ping),
            Effect::Dial(conn) => {
                assert_eq!(conn, self.models.len(), "connections are numbered");
                let is_pcm = self.climate.is_pcm;
                let model = Model::dialled(conn, is_pcm, &mut self.around());
                self.models.push(model);
                if self.is_dismissing {
                    self.agenda.after(100, Event::ModelDies(conn, Death::Closed(Some(1000))));
                }
            }
            Effect::Close(conn) => self.models[conn].close(),
            Effect::RunTool(id) => self.run_tool(id),
            Effect::Record(number) => self.record(number),
            Effect::CloseCaller => {}
        }
    }

    fn around(&mut self) -> Around<'_> {
        Around {
            agenda: &mut self.agenda,
            chance: &mut self.chance,
            book: &mut self.desk.witness.book,
            climate: &self.climate.model,
        }
    }

    fn with_model(&mut self, conn: usize, act: impl FnOnce(&mut Model, &mut Around<'_>)) {
        let mut around = Around {
            agenda: &mut self.agenda,
            chance: &mut self.chance,
            book: &mut self.desk.witness.book,
            climate: &self.climate.model,
        };
        act(&mut self.models[conn], &mut around);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Announced => self.announce(),
            Event::PhoneStarts => self.start(),
            Event::PhoneFrame => {
                self.phone.frame(&self.climate.phone, &mut self.agenda, &mut self.chance);
            }
            Event::PhoneHears(frame) => {
                let book = &mut self.desk.witness.book;
                self.phone.hear(&frame, book, &mut self.agenda, &mut self.chance);
            }
            Event::PhonePlayed(epoch) => {
                self.phone.reach(epoch, &mut self.agenda, &mut self.chance);
            }
            Event::PhoneSays(frame) => self.hear_phone(&frame),
            Event::ModelHears(conn, text) => {
                self.with_model(conn, |model, around| model.hear(&text, around));
            }
            Event::ModelSteps(conn, serial) => {
                self.with_model(conn, |model, around| model.step(serial, around));
            }
            Event::ModelDoes(conn, later) => {
                self.with_model(conn, |model, around| model.later(later, around));
            }
            Event::ModelDies(conn, death) => {
                self.with_model(conn, |model, around| model.die(death, around));
            }
            Event::ModelSays(conn, text, told) => self.hear_model(conn, &text, &told),
            Event::ModelLives(conn) => {
                if let Some(slot) = self.desk.witness.slot(conn) {
                    self.put(Input::Agent(slot, AgentEvent::Alive), 0);
                }
            }
            Event::ModelLost(conn, cause, detail) => {
                if let Some(slot) = self.desk.witness.slot(conn) {
                    self.desk.witness.socket_lost(conn);
                    self.put(Input::Agent(slot, AgentEvent::Lost { cause, detail }), 0);
                }
            }
            Event::ToolEnds(id) => self.tool_ends(id),
            Event::Recorded(number) => self.put(Input::Recorded(RecordId(number)), 0),
            Event::Commanded => self.command(),
            Event::Batches => self.batch(),
            Event::Stalls => self.stall(),
            Event::Drained(side) => self.drained(side),
            Event::Ends(ender) => self.end(ender),
            Event::MustBeOver => {
                assert!(self.desk.witness.end.is_some(), "the call does not end");
            }
            Event::Closed => self.is_closed = true,
        }
    }

    fn hear_phone(&mut self, frame: &Frame) {
        if !self.is_started {
            return;
        }
        let dialect = self.desk.dialect();
        let hear = |event: CallerEvent<'_>| {
            match &event {
                CallerEvent::Mark(MarkId(mark)) => self.desk.witness.mark_told(*mark),
                CallerEvent::Media { chunk, audio, .. } => {
                    self.desk.witness.caller_said(Some(*chunk), *audio);
                }
                CallerEvent::Speech(audio) => self.desk.witness.caller_said(None, *audio),
                _ => {}
            }
            self.put(Input::Caller(event), 0);
        };
        match frame {
            Frame::Text(text) => dialect.read(text, hear),
            Frame::Bytes(bytes) => dialect.read_bytes(bytes, hear),
        }
    }

    fn hear_model(&mut self, conn: usize, text: &str, told: &Told) {
        let slot = match self.desk.witness.slot(conn) {
            Some(slot) => slot,
            // What was read already when its socket was closed.
            None => {
                let empty = [Slot::A, Slot::B]
                    .into_iter()
                    .find(|slot| self.desk.witness.conn(*slot).is_none());
                match empty.filter(|_| self.chance.happens(self.climate.model.leftovers)) {
                    Some(slot) => slot,
                    None => return,
                }
            }
        };
        AgentDialect::OpenaiRealtime.read(text, |event| {
            if matches!(event, AgentEvent::Opened) {
                self.desk.witness.introduced(slot);
            }
            self.desk.witness.told(slot, told);
            self.put(Input::Agent(slot, event), 0);
        });
    }
}

//! Random calls against a phone that plays in real time and knows what its ear got.
//!
//! The phone is the witness: it holds what is sent, plays 8 bytes a millisecond, sends a mark back
//! when it is played (or at once, with all others, on a clear), and never looks into the call.
//! Every byte of answer `n` is `n`, so that the phone knows whose audio it plays.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::script::{base64, quiet};
use crate::call::input::{
    AgentEvent, AgentFormat, Audio, CallerEvent, Command, Input, MarkId, Outcome, RecordId, Side,
    Slot,
};
use crate::call::moment::Moment;
use crate::call::output::{AgentMessage, CallerMessage, Milestone, Outbox, Output};
use crate::call::{Call, CallSpec};

/// Something that the model or the caller does.
#[derive(Debug, Clone)]
enum Step {
    /// The model gives so many bytes of its answer; an answer begins if none runs.
    Delta(usize),
    /// The model has given all audio of its answer.
    AudioEnds,
    /// The answer is over.
    AnswerEnds,
    /// The caller speaks.
    BargeIn,
    /// The caller's socket takes no more, or takes more again.
    Stall,
    Drain,
    /// Nothing happens for so many milliseconds.
    Wait(u64),
}

/// What ends the call.
#[derive(Debug, Clone, Copy)]
enum Ender {
    Stopped,
    Lost,
    HangUp,
    Drain,
    Yield,
    AgentLost,
}

/// The phone, and the agent's ear.
#[derive(Default)]
struct Phone {
    queue: VecDeque<Played>,
    queued_bytes: usize,
    /// Marks on their way back, with the millisecond at which they arrive.
    echoes: VecDeque<(u64, MarkId)>,
    now_ms: u64,
    trip_ms: u64,
    /// By answer: bytes that came, bytes that were played.
    came: Vec<usize>,
    ear: Vec<usize>,
    /// Answers up to this one were cut.
    cut_through: usize,
    heard_of_turns: Vec<u32>,
    record: Option<RecordId>,
    ends: u32,
}

enum Played {
    Byte(u8),
    Mark(MarkId),
}

impl Phone {
    fn new(trip_ms: u64) -> Self {
        Self { trip_ms, came: vec![0; 256], ear: vec![0; 256], ..Self::default() }
    }

    /// A millisecond passes.
    fn play(&mut self) {
        self.now_ms += 1;
        let mut bytes = 8;
        while let Some(next) = self.queue.front() {
            match *next {
                Played::Byte(_) if bytes == 0 => return,
                Played::Byte(answer) => {
                    bytes -= 1;
                    self.queued_bytes -= 1;
                    self.ear[usize::from(answer)] += 1;
                }
                Played::Mark(mark) => self.echoes.push_back((self.now_ms + self.trip_ms, mark)),
            }
            self.queue.pop_front();
        }
    }

    fn echo(&mut self) -> Option<MarkId> {
        let (at, mark) = *self.echoes.front()?;
        (at <= self.now_ms).then(|| {
            self.echoes.pop_front();
            mark
        })
    }

    fn clear(&mut self) {
        let at = self.now_ms + self.trip_ms;
        for thrown in self.queue.drain(..) {
            if let Played::Mark(mark) = thrown {
                self.echoes.push_back((at, mark));
            }
        }
        self.queued_bytes = 0;
    }
}

impl Outbox for Phone {
    fn put(&mut self, output: Output<'_>) {
        assert_eq!(self.ends, 0, "nothing follows the end");
        match output {
            Output::ToCaller(CallerMessage::Media(Audio::Ulaw(bytes))) => {
                for byte in bytes {
                    let answer = usize::from(*byte);
                    assert!(
                        answer > self.cut_through,
                        "audio of a cut answer left after the clear"
                    );
                    self.came[answer] += 1;
                    self.queue.push_back(Played::Byte(*byte));
                }
                self.queued_bytes += bytes.len();
            }
            Output::ToCaller(CallerMessage::Media(other)) => panic!("{other:?}"),
            Output::ToCaller(CallerMessage::Mark(mark)) => self.queue.push_back(Played::Mark(mark)),
            Output::ToCaller(CallerMessage::Clear) => self.clear(),
            Output::ToAgent(_, AgentMessage::Truncate { item, heard_ms, .. }) => {
                let answer: usize = item[1..].parse().unwrap();
                let played_ms = self.ear[answer] / 8;
                assert!(
                    heard_ms as usize <= played_ms,
                    "{heard_ms} ms of {item}, {played_ms} played"
                );
            }
            Output::Note(Milestone::AgentTurn(turn)) => self.heard_of_turns.push(turn.heard_ms),
            Output::Note(Milestone::Ending { record, .. }) => self.record = Some(record),
            Output::End(_) => self.ends += 1,
            Output::ToAgent(..) | Output::RunTool(..) | Output::DropTool(_) => {}
            Output::Dial(_) | Output::CloseAgent(_) | Output::Note(_) | Output::CloseCaller(_) => {}
        }
    }
}

struct World {
    call: Call,
    phone: Phone,
    answer: usize,
    state: Answer,
    generated: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Speaking,
    Spoken,
}

const CLIP: [u8; 960] = [255; 960];

impl World {
    fn new(trip_ms: u64) -> Self {
        let spec = CallSpec { sorry: &CLIP, moment: &[], ..quiet() };
        let call = Call::new(spec, Moment::default());
        let phone = Phone::new(trip_ms);
        let mut world =
            Self { call, phone, answer: 0, state: Answer::None, generated: vec![0; 256] };
        world.put(Input::Caller(CallerEvent::Started));
        world.agent(AgentEvent::Opened);
        let ours = Some(AgentFormat::Ulaw);
        world.agent(AgentEvent::Configured {
            uplink: ours,
            playout: ours,
            answering: crate::call::input::Answering::ByService,
        });
        world
    }

    fn put(&mut self, input: Input<'_>) {
        let now = Moment::from_micros(self.phone.now_ms * 1_000);
        self.call.handle(input, now, &mut self.phone);
        let ahead_ms = self.phone.queued_bytes / 8;
        assert!(ahead_ms <= 401, "{ahead_ms} ms ahead of the ear");
    }

    fn agent(&mut self, event: AgentEvent<'_>) {
        self.put(Input::Agent(Slot::A, event));
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms {
            self.phone.play();
            while let Some(mark) = self.phone.echo() {
                self.put(Input::Caller(CallerEvent::Mark(mark)));
            }
            let now = Moment::from_micros(self.phone.now_ms * 1_000);
            if self.call.next_timeout().is_some_and(|at| at <= now) {
                self.put(Input::Tick);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let (response, item) = (format!("r{}", self.answer), format!("i{}", self.answer));
        match (step, self.state) {
            (Step::Delta(bytes), Answer::Speaking) => {
                let text = base64(&vec![self.answer as u8; *bytes]);
                let audio = Audio::Base64(&text);
                self.generated[self.answer] += bytes;
                self.agent(AgentEvent::Audio { response: &response, item: &item, part: 0, audio });
            }
            (Step::Delta(_), Answer::None) => {
                self.answer += 1;
                self.state = Answer::Speaking;
                let response = format!("r{}", self.answer);
                self.agent(AgentEvent::ResponseStarted { response: &response });
                self.step(step);
            }
            (Step::AudioEnds, Answer::Speaking) => {
                self.state = Answer::Spoken;
                self.agent(AgentEvent::AudioEnded { response: &response, item: &item });
            }
            (Step::AnswerEnds, Answer::Speaking | Answer::Spoken) => {
                self.state = Answer::None;
                let outcome = Outcome::Completed;
                self.agent(AgentEvent::ResponseEnded { response: &response, outcome, tokens: 0 });
            }
            (Step::BargeIn, _) => {
                self.agent(AgentEvent::SpeechStarted);
                self.phone.cut_through = self.answer;
            }
            (Step::Stall, _) => self.put(Input::Stalled(Side::Caller)),
            (Step::Drain, _) => self.put(Input::Drained(Side::Caller)),
            (Step::Wait(ms), _) => self.wait(*ms),
            (Step::Delta(_), Answer::Spoken) | (Step::AudioEnds | Step::AnswerEnds, _) => {}
        }
    }

    fn end(&mut self, ender: Ender) {
        match ender {
            Ender::Stopped => self.put(Input::Caller(CallerEvent::Stopped)),
            Ender::Lost => self.put(Input::Caller(CallerEvent::Lost)),
            Ender::Drain => self.put(Input::Drain),
            Ender::Yield => self.put(Input::Command { id: None, command: &Command::Yield }),
            Ender::HangUp => {
                self.put(Input::Command { id: None, command: &Command::HangUp });
                let record = self.phone.record.unwrap();
                self.put(Input::Recorded(record));
            }
            Ender::AgentLost => {
                self.put(Input::Drained(Side::Caller));
                let cause = crate::call::input::Loss::Dismissed;
                self.agent(AgentEvent::Lost { cause, detail: "x" });
                self.wait(3_000);
                assert_eq!(self.phone.ear[255], CLIP.len(), "the clip was heard in full");
            }
        }
        assert_eq!(self.phone.ends, 1, "{ender:?} ends the call once");
        assert_eq!(self.call.next_timeout(), None);
    }
}

fn steps(may_cut: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1_usize..4_000).prop_map(Step::Delta),
        4 => (1_usize..20).prop_map(Step::Delta),
        2 => Just(Step::AudioEnds),
        2 => Just(Step::AnswerEnds),
        3 => Just(if may_cut { Step::BargeIn } else { Step::Wait(1) }),
        1 => Just(Step::Stall),
        2 => Just(Step::Drain),
        6 => (1_u64..700).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

fn ender() -> impl Strategy<Value = Ender> {
    prop_oneof![
        Just(Ender::Stopped),
        Just(Ender::Lost),
        Just(Ender::HangUp),
        Just(Ender::Drain),
        Just(Ender::Yield),
        Just(Ender::AgentLost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_call_claims_more_than_the_ear_got(
        steps in steps(true),
        ender in ender(),
        trip_ms in 0_u64..300,
    ) {
        let mut world = World::new(trip_ms);
        for step in &steps {
            world.step(step);
        }
        world.end(ender);
    }

    #[test]
    fn what_nobody_interrupts_is_heard_to_the_last_sample(
        steps in steps(false),
        trip_ms in 0_u64..300,
    ) {
        let mut world = World::new(trip_ms);
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Drain);
        world.step(&Step::AnswerEnds);
        world.wait(steps.len() as u64 * 600 + 1_000);
        prop_assert_eq!(&world.phone.ear, &world.generated);
        prop_assert_eq!(&world.phone.came, &world.generated);
        let turns = world.generated.iter().filter(|bytes| **bytes >= 8).count();
        let told = world.phone.heard_of_turns.iter().filter(|heard| **heard > 0).count();
        prop_assert_eq!(told, turns, "each answer became a turn");
    }
}

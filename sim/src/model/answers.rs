//! The service's answers: begun, gone on with step by step, cut.

use super::plan::{Kind, Plan, Step, plan};
use super::{Around, Model, Told, says};
use crate::agenda::Event;

/// An answer that is being made.
#[derive(Debug)]
pub(super) struct Answer {
    serial: u64,
    pub(super) response: String,
    kind: Kind,
    plan: Plan,
    item: String,
    items: u32,
    spoken: Option<usize>,
    tools: u32,
    is_created: bool,
}

impl Model {
    pub(super) fn begin(&mut self, kind: Kind, around: &mut Around<'_>) {
        self.answers += 1;
        let serial = self.answers;
        let plan = plan(kind, around.climate, self.is_pcm, around.chance);
        self.answer = Some(Answer {
            serial,
            response: format!("resp_{}_{serial}", self.conn),
            kind,
            plan,
            item: format!("item_{}_{serial}_0", self.conn),
            items: 0,
            spoken: None,
            tools: 0,
            is_created: false,
        });
        self.plan_step(around);
    }

    fn plan_step(&mut self, around: &mut Around<'_>) {
        let Some(answer) = &self.answer else { return };
        // Without a next step the answer hangs, for ever.
        if let Some((ms, _)) = answer.plan.front() {
            around.agenda.after(*ms, Event::ModelSteps(self.conn, answer.serial));
        }
    }

    /// The answer with this number goes on.
    pub(crate) fn step(&mut self, serial: u64, around: &mut Around<'_>) {
        let Some(mut answer) = self.answer.take_if(|answer| answer.serial == serial) else {
            return;
        };
        let Some((_, step)) = answer.plan.pop_front() else { return };
        match step {
            Step::Done(status, code) => {
                let came_to = answer.spoken.is_some() || answer.items > 0 || answer.tools > 0;
                let tokens = around.chance.between(0, 800);
                let text = says::done(&answer.response, status, code, tokens);
                return self.tell(text, Told::Done(answer.response, status, came_to), around);
            }
            other => self.make(&mut answer, other, around),
        }
        self.answer = Some(answer);
        self.plan_step(around);
    }

    fn make(&mut self, answer: &mut Answer, step: Step, around: &mut Around<'_>) {
        match step {
            Step::Created => {
                answer.is_created = true;
                let told = Told::Created(answer.response.clone());
                self.tell(says::created(&answer.response), told, around);
            }
            Step::Words(count) => {
                let n = self.spoken(answer, around);
                let spoken = &mut around.book.spoken[n];
                let mut words = String::new();
                for _ in 0..count {
                    words.push_str(&format!("a{n}w{} ", spoken.words_made));
                    spoken.words_made += 1;
                }
                let text = says::words(&answer.response, &answer.item, &words);
                self.tell(text, Told::Words(n, words), around);
            }
            Step::Audio(ms, bytes) => {
                let n = self.spoken(answer, around);
                let bytes = ms * around.book.bytes_per_ms() + bytes;
                let mut audio = Vec::new();
                around.book.make(n, bytes, &mut audio);
                let text = says::audio(&answer.response, &answer.item, &audio);
                self.tell(text, Told::Audio(n, bytes), around);
            }
            Step::AudioDone => {
                self.say(says::audio_done(&answer.response, &answer.item), around);
            }
            Step::NextItem => {
                answer.items += 1;
                answer.item = format!("item_{}_{}_{}", self.conn, answer.serial, answer.items);
                answer.spoken = None;
            }
            Step::Tool(name, arguments) => {
                answer.tools += 1;
                let call = format!("call_{}_{}_{}", self.conn, answer.serial, answer.tools);
                self.calls.insert(call.clone(), false);
                let text = says::tool(&answer.response, &call, name, arguments);
                self.tell(text, Told::Tool(call, name), around);
            }
            Step::Done(..) => unreachable!("it is told before"),
        }
    }

    fn spoken(&mut self, answer: &mut Answer, around: &mut Around<'_>) -> usize {
        *answer.spoken.get_or_insert_with(|| {
            let n = around.book.begin(&answer.item, answer.kind == Kind::Greeting);
            self.items.insert(answer.item.clone(), n);
            n
        })
    }

    /// The answer that runs is cut.
    pub(super) fn stop_answer(&mut self, around: &mut Around<'_>) {
        let Some(answer) = self.answer.take() else { return };
        if !answer.is_created {
            let told = Told::Created(answer.response.clone());
            self.tell(says::created(&answer.response), told, around);
        }
        if answer.spoken.is_some() {
            self.say(says::audio_done(&answer.response, &answer.item), around);
        }
        let text = says::done(&answer.response, "cancelled", "", around.chance.between(0, 100));
        self.tell(text, Told::Done(answer.response, "cancelled", true), around);
    }
}

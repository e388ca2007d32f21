//! What must be true of every call, however often its model was cut off.
//!
//! The truth about the agent's turns is the recording of the phone; the truth about the caller's
//! is what the model wrote down and had time to tell. A turn counts as finished when that was
//! `SETTLED_US` before whatever cut the session: what is on the way at that moment may be lost.

use super::call::{CallSeen, GREETING, Play, SENTENCES, sentence_of};
use crate::audio::words::head;
use crate::carrier::{StreamEnd, What};
use crate::model::{ItemKind, ItemRecord, SessionRecord};

/// A session of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session<'a> {
    /// What it was told and said.
    pub(super) record: &'a SessionRecord,
    /// When nothing arrived any more, in microseconds since 1970.
    pub(super) cut_us: u64,
}

impl Session<'_> {
    /// When it was ready.
    pub(super) fn ready_us(&self) -> u64 {
        self.record.configured_at_us.unwrap_or(u64::MAX)
    }

    /// Whether it lived long enough to be told everything.
    fn was_told(&self) -> bool {
        self.cut_us >= self.ready_us().saturating_add(TELLING_US)
    }

    /// Whether it was told these words: as a turn, or in a summary of what was said before.
    fn knows(&self, kind: ItemKind, text: &str) -> bool {
        self.record.told().any(|item| {
            let is_turn = item.kind == kind && head(item.text.trim_end()) == text;
            is_turn || (item.kind == ItemKind::System && item.text.contains(text))
        })
    }
}

/// What was compared, and what was wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// How many times a finished turn was looked for in a rebuilt session.
    pub(super) turns_checked: u64,
    /// Sentences that were not answered in time.
    pub(super) unanswered: u64,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

/// Judges a call by its sessions, in the order in which they were opened.
pub(super) fn judge(call: &CallSeen, sessions: &[Session<'_>]) -> Judgement {
    let mut judgement = Judgement::default();
    judgement.planned_end(call);
    for session in sessions.iter().filter(|session| session.was_told()) {
        judgement.caller_turns(session, sessions);
        judgement.agent_turns(session, call);
        judgement.no_more_than_heard(session, call);
        judgement.in_order(session, call);
    }
    judgement.one_greeting(call, sessions);
    for problem in &mut judgement.problems {
        *problem = format!("call {}.{}: {problem}", call.slot, call.number);
    }
    judgement
}

impl Judgement {
    /// The caller said everything and hung up; the stream was one, and the carrier is content.
    fn planned_end(&mut self, call: &CallSeen) {
        let record = &call.record;
        let said = record.what().filter(|what| **what == What::CallerFinished).count();
        if said != SENTENCES as usize {
            self.problems.push(format!("{said} of {SENTENCES} sentences were said"));
        }
        let ends: Vec<_> = record.streams.iter().map(|stream| &stream.end).collect();
        if ends != [&Some(StreamEnd::HungUp)] {
            self.problems.push(format!("its streams ended by {ends:?}"));
        }
        if let Some(fault) = record.faults.first() {
            self.problems.push(format!("the carrier complains: {fault}"));
        }
        self.unanswered += record.what().filter(|what| **what == What::GaveUp).count() as u64;
    }

    /// Every sentence that an earlier session has written down in time.
    fn caller_turns(&mut self, session: &Session<'_>, all: &[Session<'_>]) {
        for earlier in all.iter().filter(|earlier| earlier.record.id != session.record.id) {
            for item in earlier.record.items.iter().filter(|item| !item.by_client) {
                let Some(written_us) = item.written_at_us else { continue };
                let settled_us = written_us + SETTLED_US;
                if settled_us > earlier.cut_us || settled_us > session.ready_us() {
                    continue;
                }
                self.turns_checked += 1;
                if !session.knows(ItemKind::Caller, &item.text) {
                    self.missing(session, "the caller's", &item.text);
                }
            }
        }
    }

    /// Everything that the caller has heard of the agent, whole or cut, before the session was
    /// ready.
    fn agent_turns(&mut self, session: &Session<'_>, call: &CallSeen) {
        let summed_up = session.record.told().any(is_summary);
        for play in &call.plays {
            if play.until_us + SETTLED_US > session.ready_us() {
                continue;
            }
            if play.is_whole() {
                self.turns_checked += 1;
                if !session.knows(ItemKind::Agent, &play.text) {
                    self.missing(session, "the agent's", &play.text);
                }
            } else if play.heard_ms >= HEARD_MS_MIN && !summed_up {
                self.turns_checked += 1;
                if !session.record.told().any(|item| is_part(item, play)) {
                    self.missing(session, "the agent's cut", &play.text);
                }
            }
        }
    }

    /// A turn that is missing.
    fn missing(&mut self, session: &Session<'_>, whose: &str, text: &str) {
        let told: Vec<&str> = session.record.told().map(|item| item.text.as_str()).collect();
        let number = told.len();
        self.problems.push(format!("{whose} \"{text}\" is missing in {number} items: {told:?}"));
    }

    /// No session is told that more was heard than was.
    fn no_more_than_heard(&mut self, session: &Session<'_>, call: &CallSeen) {
        for item in session.record.told().filter(|item| item.kind == ItemKind::Agent) {
            let plays = call.plays.iter().filter(|play| is_part(item, play));
            let share = |play: &Play| {
                let said = head(item.text.trim_end()).len() as u64;
                play.whole_ms * said / (play.text.len() as u64).max(1)
            };
            // The recording goes on after the session was told, so the end of a play is no bound.
            let proven = plays.map(|play| (share(play), play.heard_ms));
            let fits = proven.fold(None, |best, (share, heard)| {
                Some(best.unwrap_or(false) || share <= heard + WORDS_MS)
            });
            if fits != Some(true) {
                self.problems.push(format!("told more than was heard: \"{}\"", item.text));
            }
        }
    }

    /// The caller's sentences are told in the order in which they were said.
    fn in_order(&mut self, session: &Session<'_>, call: &CallSeen) {
        let sentences: Vec<String> =
            (0..SENTENCES).map(|n| sentence_of(call.slot, call.number, n)).collect();
        let told = session.record.told().filter(|item| item.kind == ItemKind::Caller);
        let places: Vec<usize> = told
            .filter_map(|item| sentences.iter().position(|sentence| *sentence == item.text))
            .collect();
        // A carrier that stalls in the middle of a sentence makes two turns of it.
        if !places.windows(2).all(|pair| pair[0] <= pair[1]) {
            self.problems.push(format!("told in the order {places:?}"));
        }
    }

    /// No session is asked for a greeting once somebody has heard one.
    fn one_greeting(&mut self, call: &CallSeen, sessions: &[Session<'_>]) {
        let heard = call.plays.iter().filter(|play| play.text == GREETING);
        let heard: Vec<&Play> = heard.filter(|play| play.heard_ms >= GREETED_MS).collect();
        if heard.len() > 1 {
            self.problems.push(format!("greeted {} times", heard.len()));
        }
        let Some(first) = heard.first() else { return };
        for session in sessions {
            let again =
                session.record.responses.iter().find(|response| {
                    response.greeting && response.at_us > first.until_us + SETTLED_US
                });
            let Some(again) = again else { continue };
            let told: Vec<&str> = session.record.told().map(|item| item.text.as_str()).collect();
            let (heard, by) = (first.heard_ms, &again.instructions);
            let problem = format!("greeted again, {heard} ms were heard: {by:?} after {told:?}");
            self.problems.push(problem);
        }
    }
}

/// Whether an item holds a beginning of what was said.
fn is_part(item: &ItemRecord, play: &Play) -> bool {
    let text = item.text.trim_end();
    item.kind == ItemKind::Agent && !text.is_empty() && play.text.starts_with(head(text))
}

/// Whether an item sums up what was said before; the fake model's summaries name who said what.
fn is_summary(item: &ItemRecord) -> bool {
    item.kind == ItemKind::System && item.text.contains(" said: ")
}

/// What happened so long before a cut has arrived everywhere.
const SETTLED_US: u64 = 400_000;

/// A session that lives so long has been told everything.
const TELLING_US: u64 = 500_000;

/// Of a cut turn so much must have been heard that some words of it are certain.
const HEARD_MS_MIN: u64 = 1_000;

/// Whoever has heard so much of a greeting was greeted.
const GREETED_MS: u64 = 500;

/// Words come in pieces of 400 ms, and the relay cannot know where in a piece a word is.
const WORDS_MS: u64 = 600;

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

//! What became of the calls that an act concerned: those of the struck node only, or all where
//! nobody was spared.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;

use super::acts::{Act, Blow};
use super::ledger::{CallSeen, StreamSeen};
use super::talk;
use super::watch::Told;
use crate::model::{ItemKind, SessionRecord};

/// Everything that was seen of a scene.
pub(super) struct Evidence<'a> {
    /// The calls, by the carrier.
    pub(super) calls: &'a [CallSeen],
    /// The sessions of the model.
    pub(super) sessions: &'a [SessionRecord],
    /// What control told its reader.
    pub(super) told: &'a Told,
    /// How many effects each booking had.
    pub(super) effects: &'a BTreeMap<String, usize>,
    /// The carrier's own time.
    pub(super) carrier: CarrierTime,
    /// From the moment at which the model has written a turn down to the moment from which on it may
    /// not be lost any more.
    pub(super) durable_after_us: u64,
}

/// What the carrier itself takes of a move, which no relay can give back.
#[derive(Debug, Clone, Copy)]
pub(super) struct CarrierTime {
    /// From its document to `connected`.
    pub(super) stream_us: u64,
    /// From `connected` to the caller's first audio.
    pub(super) audio_us: u64,
}

/// What was found. Times are microseconds, beyond the carrier's own where a carrier has a part in
/// them.
#[derive(Debug)]
pub(super) struct Findings {
    /// Calls that the acts concerned.
    pub(super) struck: u64,
    /// Those of them that live on.
    pub(super) alive: u64,
    /// From the end of a stream to the first sound in the next one.
    pub(super) sound: Histogram<u64>,
    /// To the first words of the agent, where the agent had the word.
    pub(super) speech: Histogram<u64>,
    /// To the caller's first audio at a model.
    pub(super) hearing: Histogram<u64>,
    /// From one stream to the next.
    pub(super) gap: Histogram<u64>,
    /// Streams that ended while nobody spoke, and all.
    pub(super) quiet_ends: u64,
    pub(super) ends: u64,
    /// From the act to the last call that was back.
    pub(super) all_back_us: u64,
    /// Turns that were finished and old enough.
    pub(super) turns: u64,
    /// Those of them that control does not know.
    pub(super) turns_lost: u64,
    /// The last few turns of each call that its next session was not told.
    pub(super) turns_untold: u64,
    /// Effects of tools, and those that came again.
    pub(super) effects: u64,
    pub(super) effects_repeated: u64,
    /// Events that never came, and those that came twice; of all calls.
    pub(super) events_missing: u64,
    pub(super) events_twice: u64,
    /// From the end of a sentence to the answer, half a minute before the acts and during them.
    pub(super) replies_before: Histogram<u64>,
    pub(super) replies_during: Histogram<u64>,
    /// What was wrong, in words, for whoever looks into it.
    pub(super) problems: Vec<String>,
}

/// Judges a scene.
pub(super) fn judge(evidence: &Evidence<'_>, blows: &[Blow]) -> Findings {
    let mut findings = Findings::new();
    let sessions = by_call(evidence.sessions);
    let known: BTreeSet<(&str, &str)> =
        evidence.told.turns.iter().map(|turn| (turn.role.as_str(), turn.text.as_str())).collect();
    let mut struck = BTreeSet::new();
    for blow in blows {
        findings.problems.extend(blow.problem.clone());
        for call in evidence.calls {
            let Some((here, later)) = call.stream_at(blow.at_us) else { continue };
            if blow.node.as_ref().is_some_and(|node| *node != here.node) {
                continue;
            }
            struck.insert(call.number);
            let own = sessions.get(&call.number).map(Vec::as_slice).unwrap_or_default();
            let case = Case { blow, call, here, later, sessions: own, evidence };
            findings.add(&case, &known);
        }
    }
    let mine = |(booking, _): &(&String, &usize)| {
        talk::call_of_booking(booking).is_some_and(|call| struck.contains(&call))
    };
    for (booking, count) in evidence.effects.iter().filter(mine) {
        findings.effects += 1;
        if *count > 1 {
            findings.effects_repeated += *count as u64 - 1;
            findings.note(format!("booking {booking} was made {count} times"));
        }
    }
    findings.events_missing = evidence.told.missing;
    findings.events_twice = evidence.told.twice();
    findings
}

/// The sessions of each call, in the order in which they were opened.
fn by_call(sessions: &[SessionRecord]) -> BTreeMap<u32, Vec<&SessionRecord>> {
    let mut all: BTreeMap<u32, Vec<&SessionRecord>> = BTreeMap::new();
    for session in sessions {
        let call = session.items.iter().find_map(|item| talk::call_of(&item.text));
        if let Some(call) = call {
            all.entry(call).or_default().push(session);
        }
    }
    all
}

/// One call that one act concerned.
struct Case<'a> {
    blow: &'a Blow,
    call: &'a CallSeen,
    /// The stream that was open then.
    here: &'a StreamSeen,
    /// Those after it.
    later: &'a [StreamSeen],
    /// The call's sessions of the model.
    sessions: &'a [&'a SessionRecord],
    evidence: &'a Evidence<'a>,
}

impl Case<'_> {
    /// The stream in which a call went on.
    fn next(&self) -> Option<&StreamSeen> {
        self.later.iter().find(|stream| stream.opened_us > 0)
    }

    /// From when on nobody was at the other end: a stream that ends says so, one that stands still
    /// does not.
    fn left_us(&self) -> u64 {
        match self.blow.act {
            Act::FreezeNode => self.blow.at_us,
            Act::KillNode
            | Act::DrainNode
            | Act::ControlDown
            | Act::DatabaseDown
            | Act::Partition => self.here.ended_us,
        }
    }

    /// Until when what was finished may not be lost.
    fn edge_us(&self) -> u64 {
        match self.blow.act.moves_calls() {
            true => self.left_us(),
            false => self.blow.healed_us,
        }
    }

    /// Whether the call went on, in the way in which it was to.
    fn lives_on(&self) -> Result<(), String> {
        let call = self.call.number;
        if !self.blow.act.moves_calls() {
            let healed_us = self.blow.healed_us;
            if self.here.ended_us < healed_us {
                return Err(format!("call {call} lost its stream by {:?}", self.here.end));
            }
            return Ok(());
        }
        let Some(next) = self.next() else {
            return Err(format!("call {call} had no stream after {:?}", self.here.end));
        };
        if next.ended_us < next.opened_us + LIVES_US {
            return Err(format!("call {call} went on for a moment only: {:?}", next.end));
        }
        if next.first_sound_us.is_none() {
            return Err(format!("call {call} heard nothing any more"));
        }
        Ok(())
    }

    /// Whether it was for the agent to speak when the stream ended, and until it did.
    fn agent_has_the_word(&self, spoken_us: u64) -> bool {
        let from_us = self.left_us();
        let begins = |(begin, _): &(u64, u64)| (from_us..spoken_us).contains(begin);
        !self.call.caller_speaks_at(from_us) && !self.call.caller.iter().any(begins)
    }

    /// When a model first heard the caller again.
    fn heard_us(&self) -> Option<u64> {
        let heard = self.sessions.iter().filter_map(|session| session.first_audio_at_us);
        heard.filter(|at| *at >= self.left_us()).min()
    }

    /// The turns that were finished in time: whose, and the words.
    fn finished(&self) -> Vec<(&'static str, &str)> {
        let edge_us = self.edge_us();
        let early = |session: &&&SessionRecord| session.opened_at_us < edge_us;
        let mut turns = Vec::new();
        for session in self.sessions.iter().filter(early) {
            let is_written = |at: Option<u64>| {
                at.is_some_and(|at| at + self.evidence.durable_after_us <= edge_us)
            };
            let written = |place: usize| {
                let later = session.items.get(place..).unwrap_or_default();
                later.iter().any(|item| {
                    item.kind == ItemKind::Caller
                        && !item.by_client
                        && is_written(item.written_at_us)
                })
            };
            for (place, item) in session.items.iter().enumerate() {
                let is_known = talk::call_of(&item.text).is_some();
                if item.by_client || !is_known {
                    continue;
                }
                if item.kind == ItemKind::Caller && is_written(item.written_at_us) {
                    turns.push(("caller", item.text.as_str()));
                }
                // Callers listen to the end: what a sentence follows was heard.
                let is_whole = item.made_ms.is_some() && item.cut_ms.is_none();
                if item.kind == ItemKind::Agent && is_whole && written(place + 1) {
                    turns.push(("agent", item.text.as_str()));
                }
            }
        }
        turns
    }

    /// Which of the last finished turns the next session was not told.
    fn untold(&self, finished: &[(&'static str, &str)]) -> Vec<String> {
        let left_us = self.left_us();
        let takes_over =
            |session: &&&SessionRecord| session.first_audio_at_us.is_some_and(|at| at >= left_us);
        let Some(session) = self.sessions.iter().find(takes_over) else { return Vec::new() };
        let told: Vec<&str> = session.told().map(|item| item.text.as_str()).collect();
        let last = finished.iter().rev().take(TOLD_LAST);
        let missing = last.filter(|(_, text)| !told.iter().any(|item| item.contains(text)));
        missing.map(|(_, text)| (*text).to_owned()).collect()
    }
}

impl Findings {
    /// Nothing yet.
    fn new() -> Self {
        let empty = || Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are right");
        Self {
            struck: 0,
            alive: 0,
            sound: empty(),
            speech: empty(),
            hearing: empty(),
            gap: empty(),
            quiet_ends: 0,
            ends: 0,
            all_back_us: 0,
            turns: 0,
            turns_lost: 0,
            turns_untold: 0,
            effects: 0,
            effects_repeated: 0,
            events_missing: 0,
            events_twice: 0,
            replies_before: empty(),
            replies_during: empty(),
            problems: Vec::new(),
        }
    }

    /// Adds what became of one call.
    fn add(&mut self, case: &Case<'_>, known: &BTreeSet<(&str, &str)>) {
        self.struck += 1;
        match case.lives_on() {
            Ok(()) => self.alive += 1,
            Err(why) => self.note(why),
        }
        let finished = case.finished();
        for turn in &finished {
            self.turns += 1;
            if !known.contains(turn) {
                self.turns_lost += 1;
                self.note(format!("control does not know the {}'s \"{}\"", turn.0, turn.1));
            }
        }
        self.time_replies(case);
        if !case.blow.act.moves_calls() {
            return;
        }
        self.time_move(case);
        for text in case.untold(&finished) {
            self.turns_untold += 1;
            self.note(format!("call {}'s next session was not told \"{text}\"", case.call.number));
        }
    }

    /// How long the answers took, before and during.
    fn time_replies(&mut self, case: &Case<'_>) {
        let (from_us, to_us) = (case.blow.at_us, case.blow.healed_us);
        for (finished_us, took_us) in case.call.replies() {
            if (from_us.saturating_sub(BEFORE_US)..from_us).contains(&finished_us) {
                self.replies_before.saturating_record(took_us.max(1));
            } else if (from_us..to_us).contains(&finished_us) {
                self.replies_during.saturating_record(took_us.max(1));
            }
        }
    }

    /// How long a move took.
    fn time_move(&mut self, case: &Case<'_>) {
        let left_us = case.left_us();
        let CarrierTime { stream_us, audio_us } = case.evidence.carrier;
        self.ends += 1;
        // The end itself is the last moment of whoever was cut off.
        let before_us = left_us.saturating_sub(PLAYING_US);
        let speaks = case.call.caller_speaks_at(before_us) || case.call.agent_speaks_at(before_us);
        self.quiet_ends += u64::from(!speaks);
        let Some(next) = case.next() else { return };
        let beyond = |at_us: u64, own_us: u64| at_us.saturating_sub(left_us + own_us).max(1);
        self.gap.saturating_record(beyond(next.opened_us, stream_us));
        self.all_back_us = self.all_back_us.max(next.opened_us.saturating_sub(case.blow.at_us));
        if let Some(at_us) = next.first_sound_us {
            self.sound.saturating_record(beyond(at_us, stream_us));
        }
        if let Some(at_us) = next.first_speech_us.filter(|at| case.agent_has_the_word(*at)) {
            self.speech.saturating_record(beyond(at_us, stream_us));
        }
        if let Some(at_us) = case.heard_us() {
            self.hearing.saturating_record(beyond(at_us, stream_us + audio_us));
        }
    }

    /// Notes what was wrong, as much as a person reads.
    fn note(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// Whoever has a stream for so long lives on.
const LIVES_US: u64 = 2_000_000;

/// How much of what was finished the next session must have been told: older turns may be in a
/// summary.
const TOLD_LAST: usize = 6;

/// Answers of so long before an act are what those during it are compared with.
const BEFORE_US: u64 = 30_000_000;

/// A frame and a little: what was played until then was cut.
const PLAYING_US: u64 = 40_000;

/// More problems than this teach nothing.
const PROBLEMS_MAX: usize = 200;

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

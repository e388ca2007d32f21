//! What an answer is going to be: decided as it begins, said step by step.

use std::collections::VecDeque;

use crate::chance::Chance;
use crate::climate::ModelClimate;

/// What an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The conversation.
    Reply,
    /// The greeting.
    Greeting,
    /// Words that the relay asks for.
    Words,
}

/// One step of an answer.
#[derive(Debug)]
pub(super) enum Step {
    /// It begins.
    Created,
    /// Some words are said to be spoken.
    Words(usize),
    /// So many milliseconds of audio, and so many bytes more.
    Audio(u64, u64),
    /// All audio of the item is given.
    AudioDone,
    /// Another item follows.
    NextItem,
    /// A tool is called.
    Tool(&'static str, &'static str),
    /// It is over.
    Done(&'static str, &'static str),
}

/// Steps with the milliseconds before each.
pub(super) type Plan = VecDeque<(u64, Step)>;

/// Decides about an answer.
pub(super) fn plan(kind: Kind, climate: &ModelClimate, is_pcm: bool, chance: &mut Chance) -> Plan {
    let mut plan = Plan::new();
    plan.push_back((chance.skewed(5, 700), Step::Created));
    let late_ms = if chance.happens(climate.delays) { chance.between(1_000, 9_500) } else { 0 };
    if chance.happens(climate.silences) {
        // Says nothing, for ever or to its end.
        if chance.happens(500) {
            plan.push_back((chance.between(5, 500), Step::Done("completed", "")));
        }
        return plan;
    }
    let has_tool = kind == Kind::Reply && chance.happens(climate.tools);
    if !has_tool || chance.happens(600) {
        speak(&mut plan, late_ms, climate, is_pcm, chance);
    }
    if chance.happens(climate.failures) {
        fail(&mut plan, chance);
        return plan;
    }
    if has_tool {
        call_tools(&mut plan, climate, chance);
    }
    plan.push_back((chance.between(0, 60), Step::Done("completed", "")));
    plan
}

fn fail(plan: &mut Plan, chance: &mut Chance) {
    // In the middle of what was planned.
    let kept = chance.between(1, plan.len() as u64);
    plan.truncate(usize::try_from(kept).unwrap_or(1));
    let (status, code) = chance.pick(&[
        ("failed", "server_error"),
        ("failed", "rate_limit_exceeded"),
        ("failed", ""),
        ("failed", "server_error"),
        ("incomplete", ""),
        ("incomplete", ""),
        ("cancelled", ""),
        ("unheard_of", ""),
    ]);
    plan.push_back((chance.between(0, 2_000), Step::Done(status, code)));
}

fn speak(plan: &mut Plan, late_ms: u64, climate: &ModelClimate, is_pcm: bool, chance: &mut Chance) {
    let mut left_ms = if chance.happens(climate.floods) {
        chance.between(40_000, 90_000)
    } else {
        chance.skewed(20, climate.speech_ms)
    };
    let speed = chance.between(1, climate.speed).max(2);
    let longest = chance.pick(&[40, 100, 200, 800]);
    let words = chance.pick(&[Placed::Before, Placed::Beside, Placed::Beside, Placed::After]);
    let count = usize::try_from(left_ms / 300).unwrap_or(0) + 1;
    let mut delay_ms = late_ms + chance.skewed(10, 600);
    let mut items = 1;
    if words == Placed::Before {
        plan.push_back((delay_ms, Step::Words(count)));
        delay_ms = chance.between(0, 50);
    }
    while left_ms > 0 {
        let ms = chance.between(1, longest).min(left_ms);
        left_ms -= ms;
        // A service may cut its bytes anywhere, also inside a sample.
        let bytes = if is_pcm { chance.between(0, 47) } else { chance.between(0, 7) };
        if chance.happens(climate.delays / 20) {
            delay_ms += chance.between(100, 9_500);
        }
        if words == Placed::Beside && chance.happens(400) {
            plan.push_back((delay_ms, Step::Words(1)));
            delay_ms = 0;
        }
        plan.push_back((delay_ms, Step::Audio(ms, bytes)));
        // Few enough that all that waits to be heard sounds different.
        if chance.happens(5) && items < ITEMS_MAX {
            items += 1;
            plan.push_back((0, Step::AudioDone));
            plan.push_back((chance.between(0, 50), Step::NextItem));
        }
        delay_ms = ms / speed;
    }
    plan.push_back((delay_ms, Step::AudioDone));
    if words == Placed::After {
        plan.push_back((chance.between(0, 100), Step::Words(count)));
    }
}

/// Where the words stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    Before,
    Beside,
    After,
}

fn call_tools(plan: &mut Plan, climate: &ModelClimate, chance: &mut Chance) {
    if chance.happens(climate.goodbyes) {
        let (name, arguments) =
            chance.pick(&[("hang_up", "{}"), ("transfer", r#"{"destination":"sales"}"#)]);
        plan.push_back((chance.between(0, 300), Step::Tool(name, arguments)));
    }
    for _ in 0..chance.skewed(1, 12) {
        let (name, arguments) = chance.pick(&[
            ("find_slot", r#"{"day":1}"#),
            ("find_slot", "{"),
            ("find_slot", ""),
            ("send_dtmf", r#"{"digits":"1w#"}"#),
            ("send_dtmf", r#"{"digits":"hello"}"#),
            ("transfer", r#"{"destination":"nobody"}"#),
            ("no_such_tool", "{}"),
        ]);
        // Tones would be taken for an answer's edge.
        plan.push_back((chance.between(0, 300), Step::Tool(name, arguments)));
    }
}

/// The most items of one answer.
const ITEMS_MAX: u32 = 4;

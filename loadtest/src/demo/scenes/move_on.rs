//! A call that outlives its relay: a second one has just started, and the first one is killed, or
//! asked to end as in a deploy. The caller talks on, the conversation is known, nobody is greeted
//! twice.

use super::super::call;
use super::super::checks::{Check, check, common, ended, greeted_once, in_order, told_until};
use super::super::follow::Seen;
use super::super::scene::{Play, Twist};
use crate::carrier::{Step, StreamEnd, What};
use crate::model::{Answer, Script, Turn};

/// The relay is killed in the middle of a long answer.
pub(crate) fn kill_node() -> Play {
    let turns =
        vec![call::turn(1, call::agent(1)), call::turn(3, call::agent(3).then_calls("hang_up"))];
    Play {
        about: "a relay is killed in mid-call; the caller talks on at another one",
        // The gap is waited out, so that what is said next is said to the new relay.
        caller: vec![
            call::listen(400),
            call::say(1),
            Step::Wait { ms: 6_000 },
            call::listen(600),
            call::say(3),
        ],
        twist: Some(Twist::Killed),
        judge: judge_killed,
        ..play(turns)
    }
}

/// The relay is asked to end while there are still things to say.
pub(crate) fn deploy() -> Play {
    let turns = vec![
        call::turn(1, call::agent(2)),
        call::turn(2, call::agent(2)),
        call::turn(3, call::agent(3).then_calls("hang_up")),
    ];
    Play {
        about: "a new relay takes over from the old one; the caller talks on across",
        // The pause is where a call may move: longer than the rate at which calls do.
        caller: vec![
            call::listen(400),
            call::say(1),
            call::listen(400),
            Step::Wait { ms: 3_000 },
            call::say(2),
            call::listen(1_500),
            call::say(3),
        ],
        twist: Some(Twist::AskedToEnd),
        judge: judge_deployed,
        ..play(turns)
    }
}

/// What both have in common.
fn play(turns: Vec<Turn>) -> Play {
    Play {
        about: "",
        script: Script {
            greeting: call::greeting(),
            turns,
            more: Answer::words("Is there anything else?"),
        },
        caller: Vec::new(),
        tools: r#"{ kind = "hang_up" }"#,
        agent: "",
        session_limit: None,
        twist: None,
        judge: common,
    }
}

/// The claims of a crash.
fn judge_killed(seen: &Seen) -> Vec<Check> {
    let lost = |end: &StreamEnd| *end == StreamEnd::Lost;
    let mut checks = vec![
        check("the stream was lost, and the next one was at the other relay", moved(seen, lost)),
        check("the caller heard something again soon", soon(seen, CRASH_MS_MAX)),
    ];
    checks.extend(both(seen));
    checks
}

/// The claims of a deploy.
fn judge_deployed(seen: &Seen) -> Vec<Check> {
    let closed = |end: &StreamEnd| matches!(end, StreamEnd::Closed { .. });
    let mut checks = vec![
        check("the stream was closed, and the next one was at the new relay", moved(seen, closed)),
        check("the new stream was open soon", reopened(seen)),
        check("nobody was speaking when it moved", quiet(seen)),
        check("the old relay ended by itself, with 0", emptied(seen)),
    ];
    checks.extend(both(seen));
    checks
}

/// The claims of both.
fn both(seen: &Seen) -> Vec<Check> {
    let order = ["call.answered", "stream.started", "turn", "stream.started", "turn", "call.ended"];
    let mut checks = vec![
        check("events in order: answered, turns, another stream, turns", in_order(seen, &order)),
        check("the new session was told every turn", told(seen)),
        check("nobody was greeted twice", greeted_once(seen)),
        check("what the caller said then was understood", understood(seen)),
        check("the agent said goodbye and hung up", ended(seen, "agent_hung_up")),
        check("resume was answered <Connect>, then <Hangup/>", resumed(seen)),
    ];
    checks.extend(common(seen));
    checks
}

/// Two streams, the first one ended in this way, each at another relay.
fn moved(seen: &Seen, ended: impl Fn(&StreamEnd) -> bool) -> Result<(), String> {
    let [first, second] = seen.record.streams.as_slice() else {
        return Err(format!("there were {} streams", seen.record.streams.len()));
    };
    if !first.end.as_ref().is_some_and(ended) {
        return Err(format!("the first one ended by {:?}", first.end));
    }
    match first.url == second.url {
        true => Err(format!("both were at {}", first.url)),
        false => Ok(()),
    }
}

/// The first note of a kind behind the end of the first stream, in milliseconds after it.
fn after_end_ms(seen: &Seen, wanted: impl Fn(&What) -> bool) -> Result<u64, String> {
    let notes = &seen.record.notes;
    let ends = |what: &What| matches!(what, What::StreamEnded { .. });
    let end = notes.iter().position(|note| ends(&note.what)).ok_or("no stream ended")?;
    let later = notes.iter().skip(end).find(|note| wanted(&note.what));
    let later = later.ok_or("nothing came after the first stream")?;
    let ended_us = notes.get(end).map_or(0, |note| note.at_us);
    Ok(later.at_us.saturating_sub(ended_us) / 1_000)
}

/// The caller hears something, a clip or the agent.
fn soon(seen: &Seen, ms_max: u64) -> Result<(), String> {
    let ms = after_end_ms(seen, |what| *what == What::AgentHeard)?;
    if ms <= ms_max { Ok(()) } else { Err(format!("after {ms} ms")) }
}

/// The other stream is open.
fn reopened(seen: &Seen) -> Result<(), String> {
    let ms = after_end_ms(seen, |what| matches!(what, What::StreamOpened { .. }))?;
    if ms <= MOVE_MS_MAX { Ok(()) } else { Err(format!("after {ms} ms")) }
}

/// Neither side was cut off by the move.
fn quiet(seen: &Seen) -> Result<(), String> {
    let notes = &seen.record.notes;
    let ends = |what: &What| matches!(what, What::StreamEnded { .. });
    let end = notes.iter().position(|note| ends(&note.what)).ok_or("no stream ended")?;
    let (before, _) = notes.split_at(end);
    let says = |what: &What| matches!(what, What::CallerSpeaks { .. } | What::CallerFinished);
    let caller = before.iter().rev().find(|note| says(&note.what));
    if caller.is_some_and(|note| note.what != What::CallerFinished) {
        return Err("the caller was speaking".into());
    }
    // The stream may end with the last sample of a turn; nothing of it is missing then.
    let mut turns = seen.events.iter().filter(|event| event.kind == "turn");
    match turns.find(|event| event.data["interrupted"] == true) {
        Some(cut) => Err(format!("a turn was cut: {}", cut.data["text"])),
        None => Ok(()),
    }
}

/// The relay that was asked to end has.
fn emptied(seen: &Seen) -> Result<(), String> {
    match seen.relay_ended.as_deref() {
        Some("exit status: 0") => Ok(()),
        Some(other) => Err(other.to_owned()),
        None => Err("it still runs".into()),
    }
}

/// Every turn that control knew of before the second stream, the second session was told.
fn told(seen: &Seen) -> Result<(), String> {
    told_until(seen, second_start(seen)?)
}

/// What the caller said at the end is a turn of the second stream.
fn understood(seen: &Seen) -> Result<(), String> {
    let later = seen.events.iter().skip(second_start(seen)?);
    let mut turns = later.filter(|event| event.kind == "turn" && event.text("role") == "caller");
    let words = call::words(3);
    match turns.any(|turn| turn.text("text") == words) {
        true => Ok(()),
        false => Err(format!("no turn says \"{words}\"")),
    }
}

/// Where the second stream begins among the events.
fn second_start(seen: &Seen) -> Result<usize, String> {
    let starts = seen.events.iter().enumerate();
    let mut starts = starts.filter(|(_, event)| event.kind == "stream.started");
    starts.nth(1).map(|(at, _)| at).ok_or_else(|| "there was no second stream".to_owned())
}

/// Every end of a stream leads to the same question.
fn resumed(seen: &Seen) -> Result<(), String> {
    let asked = seen.record.hooks.iter().filter(|hook| hook.url.contains("/v1/twilio/resume/"));
    let answers: Vec<&str> = asked.filter_map(|hook| hook.twiml.as_deref()).collect();
    match answers.as_slice() {
        // While no node takes it, a call waits a second and asks again.
        [waits @ .., last] if last.contains("<Hangup/>") => {
            let connects = waits.iter().filter(|answer| answer.contains("<Connect>")).count();
            if connects == 1 { Ok(()) } else { Err(format!("it was answered {answers:?}")) }
        }
        answers => Err(format!("it was answered {answers:?}")),
    }
}

/// The issue's bound for agent speech after a crash, and what a busy machine adds.
const CRASH_MS_MAX: u64 = 3_500;

/// A move adds little to the carrier's own time.
const MOVE_MS_MAX: u64 = 1_500;

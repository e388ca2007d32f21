//! What must be true of the demo's call.

use super::events::Event;
use super::follow::Seen;
use super::measure;
use crate::carrier::What;
use crate::model::Summary;

/// One thing that must be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What must be true.
    pub(crate) claim: &'static str,
    /// Why it is not; `None` when it is.
    pub(crate) problem: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict(pub(crate) Vec<Check>);

impl Verdict {
    /// Whether everything is true.
    pub(crate) fn passed(&self) -> bool {
        self.0.iter().all(|check| check.problem.is_none())
    }
}

/// Judges a call.
pub(crate) fn judge(seen: &Seen, model: Option<&Summary>) -> Verdict {
    let mut checks = vec![
        check("events in order: started, answered, turns, barge-in, ended", order(seen)),
        check("the whole conversation is in the turns", turns(seen)),
        check("barge-in says what was heard, as the phone played it", barge_in(seen)),
        check("the agent said goodbye and hung up", ended(seen)),
        check("resume was asked and answered <Hangup/>", resume(seen)),
        check("the fake Twilio had nothing to complain of", twilio(seen)),
    ];
    if let Some(summary) = model {
        checks.push(check("the fake model had nothing to complain of", complaints(summary)));
    }
    Verdict(checks)
}

/// Names what must be true and why it is not.
fn check(claim: &'static str, truth: Result<(), String>) -> Check {
    Check { claim, problem: truth.err() }
}

/// The events of a call in the order of its life, each call ended once, the numbers without a
/// gap.
fn order(seen: &Seen) -> Result<(), String> {
    let mut wanted =
        vec!["call.started", "call.answered", "stream.started", "turn", "barge_in", "call.ended"];
    if seen.real_model {
        // A real model may finish before it is interrupted.
        wanted.retain(|kind| *kind != "barge_in");
    }
    let mut from = 0;
    for kind in wanted {
        let found = seen.events[from..].iter().position(|event| event.kind == kind);
        let Some(at) = found else {
            return Err(format!("no {kind} after the ones before it: {}", kinds(seen)));
        };
        from += at + 1;
    }
    let ends = seen.of("call.ended").count();
    if ends != 1 {
        return Err(format!("call.ended came {ends} times"));
    }
    let seqs: Vec<u64> = seen.events.iter().map(|event| event.seq).collect();
    if !seqs.windows(2).all(|pair| pair[1] == pair[0] + 1) {
        return Err(format!("the numbers have gaps: {seqs:?}"));
    }
    Ok(())
}

/// The kinds of all events, for a message that says what came instead.
fn kinds(seen: &Seen) -> String {
    seen.events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>().join(" ")
}

/// Every turn of both sides is there, with words.
fn turns(seen: &Seen) -> Result<(), String> {
    let of = |role: &str| seen.of("turn").filter(|event| event.text("role") == role).count();
    let (caller, agent) = (of("caller"), of("agent"));
    let enough =
        if seen.real_model { caller >= 1 && agent >= 2 } else { (caller, agent) == (3, 4) };
    if !enough {
        return Err(format!("{caller} turns of the caller and {agent} of the agent"));
    }
    match seen.of("turn").find(|turn| turn.text("text").is_empty() && !seen.real_model) {
        Some(turn) => Err(format!("a turn of the {} has no words", turn.text("role"))),
        None => Ok(()),
    }
}

/// What the relay says was heard against what the fake Twilio really played: never more, and less
/// by one marked chunk and the network at most.
fn barge_in(seen: &Seen) -> Result<(), String> {
    let Some(barge_in) = seen.of("barge_in").next() else {
        return if seen.real_model { Ok(()) } else { Err("there was none".into()) };
    };
    let number =
        |name: &str| barge_in.number(name).ok_or_else(|| format!("barge_in has no {name}"));
    let (heard, sent, generated) =
        (number("heard_ms")?, number("sent_ms")?, number("generated_ms")?);
    if !(heard <= sent && sent <= generated) {
        return Err(format!("heard {heard}, sent {sent}, generated {generated} ms"));
    }
    let played = played_of(seen, barge_in.text("item"))?;
    if heard > played + ROUNDING_MS || played.saturating_sub(heard) > CHUNK_MS + NETWORK_MS {
        return Err(format!("the relay says {heard} ms were heard, the phone played {played} ms"));
    }
    Ok(())
}

/// How much of an item was played when it was cut: everything that was played until then, less
/// the agent's turns before it.
pub(crate) fn played_of(seen: &Seen, item: &str) -> Result<u64, String> {
    let cleared = seen.record.what().find(|what| matches!(what, What::Cleared { .. }));
    let Some(What::Cleared { played_ms: played, .. }) = cleared else {
        return Err("the relay never cleared the phone's buffer".into());
    };
    let agent = seen.of("turn").filter(|turn| turn.text("role") == "agent");
    let before: u64 = agent
        .take_while(|turn| turn.text("item") != item)
        .filter_map(|turn| turn.number("generated_ms"))
        .sum();
    Ok(played.saturating_sub(before))
}

/// The agent ended the call, and both ends say so.
fn ended(seen: &Seen) -> Result<(), String> {
    let reason = seen.of("call.ended").next().map_or("none", |event: &Event| event.text("reason"));
    let expected = reason == "agent_hung_up" && seen.record.status == "completed";
    if expected {
        return Ok(());
    }
    Err(format!("the reason is {reason}, Twilio's status {}", seen.record.status))
}

/// What every end of a stream leads to: Twilio asks, control answers from what was committed.
fn resume(seen: &Seen) -> Result<(), String> {
    let asked = seen.record.hooks.iter().filter(|hook| hook.url.contains("/v1/twilio/resume/"));
    let answers: Vec<_> = asked.filter_map(|hook| hook.twiml.as_deref()).collect();
    match answers.as_slice() {
        [answer] if answer.contains("<Hangup/>") => Ok(()),
        [] => Err("it was not asked".into()),
        answers => Err(format!("it was answered {answers:?}")),
    }
}

/// Nothing in Twilio's debugger, and nobody waited in vain.
fn twilio(seen: &Seen) -> Result<(), String> {
    let faults: Vec<String> = seen.record.faults.iter().map(ToString::to_string).collect();
    if !faults.is_empty() {
        return Err(faults.join("; "));
    }
    match measure::positions(&seen.record, |what| *what == What::GaveUp).count() {
        0 => Ok(()),
        _ => Err("the caller waited for the agent in vain".into()),
    }
}

/// The model refused nothing that the relay said.
fn complaints(summary: &Summary) -> Result<(), String> {
    let lines: Vec<String> = summary
        .complaints
        .iter()
        .map(|complaint| format!("{}: {} ({})", complaint.event, complaint.message, complaint.code))
        .collect();
    if summary.sessions == 0 {
        return Err("nobody ever connected to it".into());
    }
    if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
}

/// Each turn before the cut one is rounded to a millisecond, and a resampler keeps a few samples.
const ROUNDING_MS: u64 = 4;

/// The relay marks every 60 ms of audio.
const CHUNK_MS: u64 = 60;

/// An echoed mark, a busy machine's scheduler and the way of the `clear`, together.
const NETWORK_MS: u64 = 80;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::measure::tests::record;
    use super::*;
    use crate::carrier::{Fault, Hook};

    fn events(events: &[(&str, Value)]) -> Vec<Event> {
        let event = |(seq, (kind, data)): (usize, &(&str, Value))| Event {
            seq: seq as u64,
            kind: (*kind).to_owned(),
            call: Some("c_1".into()),
            data: data.clone(),
        };
        events.iter().enumerate().map(event).collect()
    }

    fn turn(role: &str, item: &str, generated_ms: u64) -> (&'static str, Value) {
        let text = "Words.";
        ("turn", json!({"role": role, "item": item, "text": text, "generated_ms": generated_ms}))
    }

    fn good() -> Seen {
        let barge_in = json!({"item": "a1", "heard_ms": 2_500, "sent_ms": 2_900,
                              "generated_ms": 9_000});
        let mut record = record(&[
            (0, What::StreamOpened { stream: "MZ1".into() }),
            (9_000, What::Cleared { played_ms: 6_060, dropped_ms: 340 }),
        ]);
        record.status = "completed".into();
        record.hooks = vec![Hook {
            at_us: 0,
            url: "https://linecard.test/v1/twilio/resume/x".into(),
            method: "POST".into(),
            params: Vec::new(),
            signature: String::new(),
            idempotency_token: String::new(),
            status: 200,
            attempts: 1,
            twiml: Some("<Response><Hangup/></Response>".into()),
        }];
        let events = events(&[
            ("call.started", json!({})),
            ("call.answered", json!({})),
            ("stream.started", json!({})),
            turn("agent", "a0", 3_500),
            turn("caller", "c1", 0),
            ("barge_in", barge_in),
            turn("agent", "a1", 9_000),
            turn("caller", "c2", 0),
            turn("agent", "a2", 2_000),
            turn("caller", "c3", 0),
            turn("agent", "a3", 2_000),
            ("call.ended", json!({"reason": "agent_hung_up"})),
            ("stream.ended", json!({})),
        ]);
        Seen { events, record, real_model: false }
    }

    fn summary() -> Summary {
        Summary { sessions: 1, ..Summary::default() }
    }

    fn failed(seen: &Seen) -> Vec<&'static str> {
        let Verdict(checks) = judge(seen, Some(&summary()));
        checks.iter().filter(|check| check.problem.is_some()).map(|check| check.claim).collect()
    }

    #[test]
    fn a_good_call_passes() {
        assert_eq!(failed(&good()), [""; 0]);
        assert_eq!(played_of(&good(), "a1"), Ok(2_560));
    }

    #[test]
    fn more_heard_than_played_does_not_pass() {
        for heard in [2_565, 2_419] {
            let mut seen = good();
            seen.events[5].data["heard_ms"] = heard.into();
            assert_eq!(failed(&seen), ["barge-in says what was heard, as the phone played it"]);
        }
    }

    #[test]
    fn a_missing_or_misplaced_event_does_not_pass() {
        let mut seen = good();
        seen.events.swap(0, 1);
        assert_eq!(failed(&seen).len(), 1);
        let mut seen = good();
        seen.events.remove(5);
        assert!(failed(&seen).len() >= 2);
    }

    #[test]
    fn another_end_does_not_pass() {
        let mut seen = good();
        seen.events[11].data["reason"] = "agent_failed".into();
        assert_eq!(failed(&seen), ["the agent said goodbye and hung up"]);
        let mut seen = good();
        seen.record.hooks[0].twiml = Some("<Response><Connect/></Response>".into());
        assert_eq!(failed(&seen), ["resume was asked and answered <Hangup/>"]);
    }

    #[test]
    fn a_complaint_of_either_fake_does_not_pass() {
        let mut seen = good();
        seen.record.faults.push(Fault { code: 31951, message: "x".into() });
        assert_eq!(failed(&seen), ["the fake Twilio had nothing to complain of"]);
        let Verdict(checks) = judge(&good(), Some(&Summary::default()));
        assert!(checks.last().unwrap().problem.is_some());
    }
}

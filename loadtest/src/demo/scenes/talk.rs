//! The whole of a call: greeting, questions, an interruption, goodbye.

use super::super::call;
use super::super::checks::{Check, check, common, ended, in_order, played_of, resume};
use super::super::follow::Seen;
use super::super::scene::Play;
use crate::model::{Answer, ItemKind, Script};

/// The demo as everybody knows it.
pub(crate) fn call() -> Play {
    Play {
        about: "one phone call from webhook to goodbye",
        script: Script {
            greeting: call::greeting(),
            turns: vec![
                call::turn(1, call::agent(1)),
                call::turn(2, call::agent(2)),
                call::turn(3, call::agent(3).then_calls("hang_up")),
            ],
            more: Answer::words("Is there anything else?"),
        },
        caller: vec![
            call::listen(400),
            call::say(1),
            call::interrupt(2_600, 2),
            call::listen(400),
            call::say(3),
        ],
        tools: r#"{ kind = "hang_up" }"#,
        agent: "",
        session_limit: None,
        twist: None,
        judge,
    }
}

/// The same call, looked at for what everybody believes of the interrupted answer.
pub(crate) fn interruption() -> Play {
    Play {
        about: "an interruption, and what was heard of the interrupted answer",
        judge: |seen| {
            let mut checks = judge(seen);
            checks.push(check("the model remembers what was heard, and no more", remembered(seen)));
            checks.push(check("the turn has the words that were heard, and no more", words(seen)));
            checks
        },
        ..call()
    }
}

/// The claims of the call.
fn judge(seen: &Seen) -> Vec<Check> {
    let mut order =
        vec!["call.started", "call.answered", "stream.started", "turn", "barge_in", "call.ended"];
    if seen.real_model {
        // A real model may finish before it is interrupted.
        order.retain(|kind| *kind != "barge_in");
    }
    let mut checks = vec![
        check("events in order: started, answered, turns, barge-in, ended", in_order(seen, &order)),
        check("the whole conversation is in the turns", turns(seen)),
        check("barge-in says what was heard, as the phone played it", barge_in(seen)),
        check("the agent said goodbye and hung up", ended(seen, "agent_hung_up")),
        check("resume was asked and answered <Hangup/>", resume(seen, "<Hangup/>")),
    ];
    checks.extend(common(seen));
    checks
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

/// The model's own memory of the interrupted answer ends where the relay says that it was heard.
fn remembered(seen: &Seen) -> Result<(), String> {
    let barge_in = seen.of("barge_in").next().ok_or("there was none")?;
    let items = seen.sessions.iter().flat_map(|session| &session.items);
    let cut = items.filter(|item| item.kind == ItemKind::Agent).find_map(|item| item.cut_ms);
    if cut.is_some() && cut == barge_in.number("heard_ms") {
        return Ok(());
    }
    Err(format!("cut at {cut:?}, heard {:?} ms", barge_in.number("heard_ms")))
}

/// The words of the interrupted turn are a beginning of what the model said, as long as what was
/// heard of it, give or take a word or two.
fn words(seen: &Seen) -> Result<(), String> {
    let turn = seen.of("turn").find(|turn| turn.data["interrupted"] == true);
    let turn = turn.ok_or("no turn was interrupted")?;
    let whole = call::agent(1).text;
    let (text, heard) = (turn.text("text"), turn.number("heard_ms").unwrap_or_default());
    let whole_ms = call::agent(1).clip().load().map_err(|error| error.to_string())?.ms();
    let fits = whole.len() as u64 * heard / u64::from(whole_ms.max(1));
    if whole.starts_with(text.trim_end()) && (text.len() as u64).abs_diff(fits) <= WORDS_BYTES {
        return Ok(());
    }
    Err(format!("{heard} of {whole_ms} ms: \"{text}\""))
}

/// The fake gives its words in pieces of 400 ms, and speech has no constant speed.
const WORDS_BYTES: u64 = 24;

/// Each turn before the cut one is rounded to a millisecond, and a resampler keeps a few samples.
const ROUNDING_MS: u64 = 4;

/// The relay marks every 60 ms of audio.
const CHUNK_MS: u64 = 60;

/// An echoed mark, a busy machine's scheduler and the way of the `clear`, together.
const NETWORK_MS: u64 = 80;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::events::Event;
    use super::super::super::measure::tests::record;
    use super::*;
    use crate::carrier::{Fault, Hook, What};
    use crate::model::Summary;

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
        let summary = Summary { sessions: 1, ..Summary::default() };
        Seen { events, record, summary: Some(summary), ..Seen::default() }
    }

    fn failed(seen: &Seen) -> Vec<&'static str> {
        judge(seen)
            .iter()
            .filter(|check| check.problem.is_some())
            .map(|check| check.claim)
            .collect()
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
        let mut seen = good();
        seen.summary = Some(Summary::default());
        assert_eq!(failed(&seen), ["the fake model had nothing to complain of"]);
    }
}

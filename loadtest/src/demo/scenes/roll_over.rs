//! The model ends sessions after eighteen seconds, the relay replaces them after six: the caller
//! hears nothing of either.

use super::super::call;
use super::super::checks::{
    Check, check, common, ended, greeted_once, in_order, replaced, resume, told_turns,
};
use super::super::follow::Seen;
use super::super::scene::Play;
use super::loss::one_stream;
use crate::model::{Answer, Script, SessionEnd};

/// A call that is longer than a session may be.
pub(crate) fn play() -> Play {
    Play {
        about: "the model's session reaches its limit; the caller hears nothing of it",
        script: Script {
            greeting: call::greeting(),
            turns: vec![
                call::turn(1, call::agent(2)),
                call::turn(2, call::agent(2)),
                call::turn(3, call::agent(3).then_calls("hang_up")),
            ],
            more: Answer::words("Is there anything else?"),
        },
        caller: vec![
            call::listen(400),
            call::say(1),
            call::listen(1_500),
            call::say(2),
            call::listen(1_500),
            call::say(3),
        ],
        tools: r#"{ kind = "hang_up" }"#,
        agent: "\n[agent.session]\nroll_over_seconds = 6\n",
        session_limit: Some(18),
        twist: None,
        judge,
    }
}

/// The claims of the scene.
fn judge(seen: &Seen) -> Vec<Check> {
    let order = ["call.answered", "turn", "agent.replaced", "turn", "call.ended"];
    let mut checks = vec![
        check("events in order: answered, turns, agent replaced, ended", in_order(seen, &order)),
        check("the session was replaced without a gap", no_gap(seen)),
        check("no session reached the model's limit", not_expired(seen)),
        check("every answer was heard whole, and promptly", undisturbed(seen)),
        check("the new session was told every turn", told_turns(seen)),
        check("nobody was greeted twice", greeted_once(seen)),
        check("the same stream served the whole call", one_stream(seen)),
        check("the agent said goodbye and hung up", ended(seen, "agent_hung_up")),
        check("resume was asked and answered <Hangup/>", resume(seen, "<Hangup/>")),
    ];
    checks.extend(common(seen));
    checks
}

/// The second session took over before the first one was gone.
fn no_gap(seen: &Seen) -> Result<(), String> {
    let gap = replaced(seen, "rolled_over")?.number("gap_ms").unwrap_or_default();
    if gap > 0 { Err(format!("a gap of {gap} ms")) } else { Ok(()) }
}

/// Every session was closed by the relay.
fn not_expired(seen: &Seen) -> Result<(), String> {
    let expired = seen.summary.as_ref().map_or(0, |summary| summary.expired);
    if expired > 0 {
        return Err(format!("{expired} sessions expired"));
    }
    let closed = |end: &Option<SessionEnd>| matches!(end, Some(SessionEnd::Closed(_)));
    match seen.sessions.iter().find(|session| !closed(&session.end)) {
        Some(session) => Err(format!("a session ended by {:?}", session.end)),
        None => Ok(()),
    }
}

/// What the caller would notice: an answer that breaks off, or comes late.
fn undisturbed(seen: &Seen) -> Result<(), String> {
    for turn in seen.of("turn").filter(|turn| turn.text("role") == "agent") {
        let (heard, made) = (turn.number("heard_ms"), turn.number("generated_ms"));
        if turn.data["interrupted"] == true || heard.unwrap_or_default() + 60 < made.unwrap_or(0) {
            return Err(format!("{heard:?} of {made:?} ms of \"{}\" heard", turn.text("text")));
        }
        let after = turn.number("reply_after_ms").unwrap_or_default();
        if after > LATE_MS {
            return Err(format!("\"{}\" came after {after} ms", turn.text("text")));
        }
    }
    Ok(())
}

/// The fake model thinks for 180 ms; whoever waits longer than this has noticed.
const LATE_MS: u64 = 1_000;

//! The model's connection is reset in the middle of an answer, and nobody is let in again for a
//! second and a half. The call goes on: a clip fills the silence, a new session is told what was
//! said, nobody is greeted twice.

use super::super::call;
use super::super::checks::{
    Check, check, common, ended, greeted_once, in_order, replaced, resume, told_turns,
};
use super::super::follow::Seen;
use super::super::scene::Play;
use crate::carrier::Step;
use crate::model::{Answer, Leave, Mishap, Script};

/// The long answer is cut after a second.
pub(crate) fn play() -> Play {
    let cut = Mishap::Leave { how: Leave::Reset, after_ms: 1_200, away_ms: AWAY_MS };
    Play {
        about: "the model's connection is cut in mid-call; the caller survives it",
        script: Script {
            greeting: call::greeting(),
            turns: vec![
                call::turn(1, call::agent(1).with_trouble(cut)),
                call::turn(3, call::agent(3).then_calls("hang_up")),
            ],
            more: Answer::words("Is there anything else?"),
        },
        // The gap is waited out: whoever speaks into it is heard too, but later.
        caller: vec![
            call::listen(400),
            call::say(1),
            Step::Wait { ms: 6_000 },
            call::listen(600),
            call::say(3),
        ],
        tools: r#"{ kind = "hang_up" }"#,
        agent: "",
        session_limit: None,
        twist: None,
        judge,
    }
}

/// The claims of the scene.
fn judge(seen: &Seen) -> Vec<Check> {
    let order = ["call.answered", "stream.started", "turn", "agent.replaced", "turn", "call.ended"];
    let mut checks = vec![
        check(
            "events in order: answered, turns, agent replaced, turns, ended",
            in_order(seen, &order),
        ),
        check("the agent's session was lost and replaced", lost(seen)),
        check("a clip was heard while nobody was there", clip(seen)),
        check("the new session was told every turn", told_turns(seen)),
        check("nobody was greeted twice", greeted_once(seen)),
        check("the same stream served the whole call", one_stream(seen)),
        check("the agent said goodbye and hung up", ended(seen, "agent_hung_up")),
        check("resume was asked and answered <Hangup/>", resume(seen, "<Hangup/>")),
    ];
    checks.extend(common(seen));
    checks
}

/// Control says that the session was lost, and how long nobody heard the caller.
fn lost(seen: &Seen) -> Result<(), String> {
    let event = replaced(seen, "lost")?;
    let gap = event.number("gap_ms").ok_or("it has no gap_ms")?;
    if !(AWAY_MS / 2..=AWAY_MS + GAP_MS_MAX).contains(&gap) {
        return Err(format!("a gap of {gap} ms"));
    }
    Ok(())
}

/// The phone hears something between 0.7 s after the cut and the new session, which cannot be the
/// model.
fn clip(seen: &Seen) -> Result<(), String> {
    let (Some(cut), Some(next)) = (seen.sessions.first(), seen.sessions.get(1)) else {
        return Err(format!("there were {} sessions", seen.sessions.len()));
    };
    let (Some(from), Some(to)) = (cut.closed_at_us, next.configured_at_us) else {
        return Err("a session without a beginning or an end".into());
    };
    let loud_ms = seen.recording.agent_loud_ms(from + CLIP_AFTER_MS * 1_000, to);
    if loud_ms >= 100 { Ok(()) } else { Err(format!("{loud_ms} ms of sound in the gap")) }
}

/// The caller noticed no other connection.
pub(super) fn one_stream(seen: &Seen) -> Result<(), String> {
    match seen.record.streams.len() {
        1 => Ok(()),
        streams => Err(format!("there were {streams} streams")),
    }
}

/// How long the model is away.
const AWAY_MS: u64 = 1_500;

/// What a redial with backoff may take beyond that, on a busy machine.
const GAP_MS_MAX: u64 = 2_500;

/// After 0.7 s without an agent the relay plays a clip of its own; a busy machine may need more.
const CLIP_AFTER_MS: u64 = 600;

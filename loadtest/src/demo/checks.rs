//! What must be true of the demo's call.

use super::events::Event;
use super::follow::Seen;
use super::measure;
use crate::carrier::What;
use crate::model::{ItemKind, SessionRecord, Summary};

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

/// What must be true of every scene.
pub(crate) fn common(seen: &Seen) -> Vec<Check> {
    let mut checks = vec![check("the fake Twilio had nothing to complain of", twilio(seen))];
    if let Some(summary) = &seen.summary {
        checks.push(check("the fake model had nothing to complain of", complaints(summary)));
        checks.push(check("no socket of the model is left open", all_closed(seen)));
    }
    checks
}

/// Names what must be true and why it is not.
pub(crate) fn check(claim: &'static str, truth: Result<(), String>) -> Check {
    Check { claim, problem: truth.err() }
}

/// These events in this order, others between them; the call ended once, the numbers without a
/// gap.
pub(crate) fn in_order(seen: &Seen, wanted: &[&str]) -> Result<(), String> {
    let mut from = 0;
    for kind in wanted {
        let found = seen.events[from..].iter().position(|event| event.kind == *kind);
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

/// The call ended for this reason, and both ends say so.
pub(crate) fn ended(seen: &Seen, reason: &str) -> Result<(), String> {
    let told = seen.of("call.ended").next().map_or("none", |event: &Event| event.text("reason"));
    if told == reason && seen.record.status == "completed" {
        return Ok(());
    }
    Err(format!("the reason is {told}, Twilio's status {}", seen.record.status))
}

/// What every end of a stream leads to: Twilio asks, control answers from what was committed.
pub(crate) fn resume(seen: &Seen, wanted: &str) -> Result<(), String> {
    let asked = seen.record.hooks.iter().filter(|hook| hook.url.contains("/v1/twilio/resume/"));
    let asked = asked.filter(|hook| hook.param("DialCallStatus").is_none());
    let answers: Vec<_> = asked.filter_map(|hook| hook.twiml.as_deref()).collect();
    match answers.as_slice() {
        [answer] if answer.contains(wanted) => Ok(()),
        [] => Err("it was not asked".into()),
        answers => Err(format!("it was answered {answers:?}")),
    }
}

/// Everything that the phone was given it has played, and the agent's last turn was heard whole.
pub(crate) fn heard_whole(seen: &Seen) -> Result<(), String> {
    for stream in &seen.record.streams {
        if stream.played_ms < stream.received_ms {
            let (played, given) = (stream.played_ms, stream.received_ms);
            return Err(format!("{played} of {given} ms were played"));
        }
    }
    let agent = seen.of("turn").filter(|turn| turn.text("role") == "agent");
    let last = agent.last().ok_or("the agent has no turn")?;
    let (heard, made) = (last.number("heard_ms"), last.number("generated_ms"));
    match (heard, made) {
        (Some(heard), Some(made)) if heard == made && made > 0 => Ok(()),
        _ => Err(format!("{heard:?} of {made:?} ms heard")),
    }
}

/// The event that says that another session took the place of the agent's.
pub(crate) fn replaced<'a>(seen: &'a Seen, because: &str) -> Result<&'a Event, String> {
    let event = seen.of("agent.replaced").next().ok_or("there was no agent.replaced")?;
    if event.text("because") == because {
        return Ok(event);
    }
    Err(format!("because: {}", event.text("because")))
}

/// Every turn that control knew of before the agent was replaced, the new session was told: with
/// the same words, in the same order; and that the call goes on.
pub(crate) fn told_turns(seen: &Seen) -> Result<(), String> {
    let replaced = seen.events.iter().position(|event| event.kind == "agent.replaced");
    told_until(seen, replaced.unwrap_or(seen.events.len()))
}

/// The same of every turn among so many events.
pub(crate) fn told_until(seen: &Seen, events: usize) -> Result<(), String> {
    let session = seen.sessions.get(1).ok_or("there was no second session")?;
    let mut told = session.told().skip_while(|item| item.kind == ItemKind::System);
    let before = seen.events.iter().take(events);
    let mut turns: Vec<&Event> = before.filter(|event| event.kind == "turn").collect();
    turns.sort_by_key(|turn| turn.number("order"));
    for turn in turns.into_iter().filter(|turn| !turn.text("text").is_empty()) {
        let kind = match turn.text("role") {
            "caller" => ItemKind::Caller,
            _ => ItemKind::Agent,
        };
        let text = turn.text("text");
        if !told.by_ref().any(|item| item.kind == kind && item.text == text) {
            let all: Vec<&str> = session.told().map(|item| item.text.as_str()).collect();
            return Err(format!("\"{text}\" is missing or misplaced in {all:?}"));
        }
    }
    // What was still being played when the session was lost may be told behind it.
    let goes_on = session.told().any(|item| item.kind == ItemKind::System);
    if goes_on { Ok(()) } else { Err("nothing says that the call goes on".into()) }
}

/// The greeting was asked for once, in the first session.
pub(crate) fn greeted_once(seen: &Seen) -> Result<(), String> {
    let greetings = |session: &SessionRecord| {
        session.responses.iter().filter(|response| response.greeting).count()
    };
    let counts: Vec<usize> = seen.sessions.iter().map(greetings).collect();
    let first = counts.first() == Some(&1);
    if first && counts.iter().sum::<usize>() == 1 { Ok(()) } else { Err(format!("{counts:?}")) }
}

/// Every session is over soon after the call.
fn all_closed(seen: &Seen) -> Result<(), String> {
    match seen.sessions.iter().filter(|session| session.closed_at_us.is_none()).count() {
        0 => Ok(()),
        open => Err(format!("{open} of {} are open", seen.sessions.len())),
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

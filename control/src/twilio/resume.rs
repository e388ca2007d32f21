//! What follows a stream, however it ended: the one place where that is decided, from what is
//! durable; while the database is away, from the pass and from memory (`unaided.rs`).
//!
//! The address carries a pass ([`crate::tokens`]), so that nobody can ask about another's call.
//! While no node takes the call the carrier is told to ask again in a second, a bounded number of
//! times (`?try=`). The end of a leg that was dialled for a transfer leads here, too
//! (`?after=dial`): nothing follows it, and with it the call is over.

use std::time::Duration;

use link::event::EndReason;
use link::id::NodeId;
use warp::reply::Response;

use super::twiml::{Twiml, Verb};
use super::{
    Answer, Hook, TRY_HARD, Undecided, again, apology, connect, hang_up, in_time, say, transfer,
    unaided, wish,
};
use crate::attempts;
use crate::clock;
use crate::error::Problem;
use crate::fleet::openings::Opener;
use crate::metrics::Told;
use crate::plane::Plane;
use crate::sequencer::LeaseState;
use crate::standby;
use crate::store::Ending;
use crate::store::call::{Call, CallEnd, Question, Resume};
use crate::tokens::Pass;

/// Answers the carrier.
///
/// # Errors
/// When the question is not the carrier's.
pub async fn answer(plane: &Plane, pass: &str, hook: &Hook) -> Result<Response, Problem> {
    let carrier = hook.carrier()?;
    let read = plane.tokens.read_pass(pass, clock::wall());
    // A pass for another call of the same account is as worthless as none.
    let Some(read) = read.ok().filter(|read| read.call_sid == carrier.call_sid) else {
        tracing::warn!("a resume without a valid pass");
        return say(plane, apology());
    };
    let answer = match in_time(plane, follow(plane, pass, &read, hook)).await {
        Ok(answer) => answer,
        Err(Undecided::Away) => match unaided::resume(plane, &read, hook).await {
            Some(answer) => answer,
            None if hook.tries() < TRIES_MAX => wait(plane, pass, hook),
            None => apology(),
        },
        Err(Undecided::Problem(problem)) => return Err(problem),
    };
    say(plane, answer)
}

async fn follow(plane: &Plane, pass: &str, read: &Pass, hook: &Hook) -> Answer {
    // What was decided without the database comes first.
    standby::settle(plane, &read.call).await?;
    if hook.query("after") == Some("dial") {
        return after_dial(plane, read, hook).await;
    }
    if hook.field("CallStatus") == Some("completed") {
        // The carrier asks out of habit and does not listen.
        over(plane, read, None).await?;
        return Ok(hang_up());
    }
    decide(plane, pass, read, hook).await
}

/// Lets the carrier ask again in a second.
fn wait(plane: &Plane, pass: &str, hook: &Hook) -> (Twiml, Told) {
    again(address(plane, pass, &After::Wait(hook.tries() + 1)))
}

/// What the carrier asks about when it comes to the address of a resume.
pub(super) enum After {
    /// A stream.
    Stream,
    /// A pause in which no node took the call, and how many there were.
    Wait(u32),
    /// A leg that was dialled for the caller.
    Dial,
}

/// Where the carrier asks about a call.
pub(super) fn address(plane: &Plane, pass: &str, after: &After) -> String {
    let query = match after {
        After::Stream => String::new(),
        After::Wait(tries) => format!("?try={tries}"),
        After::Dial => "?after=dial".to_owned(),
    };
    let path = format!("/v1/twilio/resume/{pass}{query}");
    plane.public.url(&path) + TRY_HARD
}

/// Lets the store decide under the call's lock: of two questions at once one comes first.
async fn decide(plane: &Plane, pass: &str, read: &Pass, hook: &Hook) -> Answer {
    // Chosen before the decision, which may not need it: an unused promise lapses in seconds.
    let node = match expected_at(plane, read).await {
        Some(node) => Some(node),
        None => placed(plane, read, hook).await,
    };
    let asked = question(plane, read, hook, node.as_ref());
    let decided = plane.store.resume_asked(&read.tenant, &read.call, asked).await?;
    if !matches!(decided, Resume::Reconnect(_)) {
        plane.nodes.release(&read.call);
    }
    Ok(match decided {
        Resume::Reconnect(call) => {
            let answer = connect(plane, &call).await?;
            leave_note(plane, &call).await;
            answer
        }
        Resume::HangUp => hang_up(),
        Resume::Transfer(call) => transfer(plane, &call)?,
        Resume::NoNode if hook.tries() < TRIES_MAX => wait(plane, pass, hook),
        Resume::NoNode => {
            end(plane, read, CallEnd::NoNode).await?;
            apology()
        }
        Resume::TooMany => {
            tracing::warn!(call = %read.call, "a call's streams end again and again");
            apology()
        }
        // Begun on an instance that had no database, and not written yet.
        Resume::Unknown => unaided::resume(plane, read, hook).await.unwrap_or_else(apology),
    })
}

/// A node for another stream, unless the agent's service is dialled too often at this moment.
async fn placed(plane: &Plane, read: &Pass, hook: &Hook) -> Option<NodeId> {
    if !may_open(plane, read, hook) {
        return None;
    }
    // It may be dead and not known to be, and its socket was refused or lost there a moment ago.
    let wish = wish(plane, hook, &read.call, None).leaving(read.node());
    let node = plane.nodes.place_soon(wish, ARRIVE_WITHIN).await.ok();
    node.filter(|node| may_open_on(plane, node, hook))
}

/// Leaves word of the tools that were asked for, for the agent of the next stream. The stream does
/// not depend on it.
async fn leave_note(plane: &Plane, call: &Call) {
    match plane.store.tool_records(&call.tenant, &call.id, TOOL_RECORDS_MAX).await {
        Ok(records) => {
            if let Some(note) = attempts::note(&records) {
                plane.standby.leave_note(call, note);
            }
        }
        Err(error) => {
            let error = error.explain();
            tracing::warn!(call = %call.id, error, "an agent is not told of tools of before");
        }
    }
}

/// What is asked of a call's life. `node` is where another stream would go.
pub(super) fn question<'a>(
    plane: &Plane,
    read: &Pass,
    hook: &'a Hook,
    node: Option<&'a NodeId>,
) -> Question<'a> {
    let (token, given, limits) = (hook.token(), read.generation(), plane.survival.resumes);
    Question { node, token, given, limits, now: clock::wall() }
}

/// Whether the agent's service may be dialled for this call at this moment. When many calls come back
/// at once, some wait a second and ask again, and none of them for long.
pub(super) fn may_open(plane: &Plane, read: &Pass, hook: &Hook) -> bool {
    let Some(last) = &read.last else { return true };
    let Some(spec) = plane.directory.newest(&read.tenant, Some(&last.agent)) else { return true };
    let service = Opener::Service(read.tenant.clone(), spec.provider.key_name());
    hook.tries() >= SHAPED_TRIES_MAX || plane.openings.take(service)
}

/// Whether this node may dial at this moment.
pub(super) fn may_open_on(plane: &Plane, node: &NodeId, hook: &Hook) -> bool {
    hook.tries() >= SHAPED_TRIES_MAX || plane.openings.take(Opener::Node(node.clone()))
}

/// The node that has a session open for the call, if it moves there and the node takes it.
async fn expected_at(plane: &Plane, read: &Pass) -> Option<NodeId> {
    let node = match plane.moves.target(&read.call) {
        Some(node) => Some(node),
        None => sent_to(plane, read).await,
    };
    let takes_calls = |node: &NodeId| {
        let load = plane.nodes.state(node).and_then(|state| state.load);
        load.is_some_and(|load| load.ready && load.calls < load.calls_max)
    };
    node.filter(takes_calls)
}

/// The same, as another instance has arranged it: that stands in the call's row.
async fn sent_to(plane: &Plane, read: &Pass) -> Option<NodeId> {
    // Whoever numbers events moves calls.
    let moves_calls = *plane.sequencer.state().borrow() == LeaseState::Held;
    if moves_calls {
        return None;
    }
    // Without it the call goes to any node; what is wrong with the database shows in the decision.
    let call = plane.store.call(&read.tenant, &read.call).await.ok()??;
    if call.was_sent_away() { call.node } else { None }
}

/// Ends the call here; the answer ends it at the carrier.
async fn end(plane: &Plane, read: &Pass, reason: CallEnd) -> Result<(), Problem> {
    let end = Ending { reason, detail: None };
    plane.store.end_call(&read.tenant, &read.call, end, clock::wall()).await?;
    Ok(())
}

/// The leg of a transfer is over, and the call with it. A caller who is still there because nobody
/// was reached hears so: a line that just goes dead sounds like a fault.
/// Source: Twilio, `<Dial>` "DialCallStatus", read 2026-11-20.
async fn after_dial(plane: &Plane, read: &Pass, hook: &Hook) -> Answer {
    // Matched to words of our own: the carrier's text never becomes an event's detail.
    let failed = match hook.field("DialCallStatus") {
        Some("busy") => Some("busy"),
        Some("no-answer") => Some("no-answer"),
        Some("failed") => Some("failed"),
        Some("canceled") => Some("canceled"),
        Some(_) | None => None,
    };
    // Recorded before the answer: the carrier may never ask again.
    over(plane, read, failed).await?;
    Ok(match failed {
        Some(_) => (Twiml(vec![Verb::Say(NOT_REACHED.to_owned()), Verb::Hangup]), Told::Hangup),
        None => hang_up(),
    })
}

/// The phone call is over; a call that was transferred ended by that.
async fn over(plane: &Plane, read: &Pass, detail: Option<&str>) -> Result<(), Problem> {
    let end = Ending { reason: CallEnd::Stream(EndReason::CallerHungUp), detail };
    plane.store.phone_over(&read.tenant, &read.call, end, clock::wall()).await?;
    Ok(())
}

const NOT_REACHED: &str = "We are sorry, nobody can be reached there. Please call again later.";

/// How long a caller waits for the first relay before being told to wait by the second.
const ARRIVE_WITHIN: Duration = Duration::from_millis(1_000);

/// Records of tools that are looked at: the first of a call, far more than an agent is told of.
const TOOL_RECORDS_MAX: u32 = 500;

/// How often a caller waits a second because too many come back at once; then it is not asked any
/// more whether they are too many.
const SHAPED_TRIES_MAX: u32 = 5;

/// How often a caller waits a second for a node, in silence.
const TRIES_MAX: u32 = 15;

//! What follows a stream, however it ended: the one place where that is decided, from what is
//! durable.
//!
//! The address carries a pass ([`crate::tokens`]), so that nobody can ask about another's call.
//! While no node takes the call the carrier is told to ask again in a second, a bounded number of
//! times (`?try=`). The end of a leg that was dialled for a transfer leads here, too
//! (`?after=dial`): nothing follows it, and with it the call is over.

use std::time::Duration;

use link::event::EndReason;
use warp::reply::Response;

use super::twiml::{Twiml, Verb};
use super::{
    Answer, Hook, TRY_HARD, Undecided, again, apology, connect, hang_up, in_time, say, transfer,
};
use crate::clock;
use crate::error::Problem;
use crate::metrics::Told;
use crate::plane::Plane;
use crate::store::Ending;
use crate::store::call::{CallEnd, Question, Resume};
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
    let answer = match in_time(follow(plane, pass, &read, hook)).await {
        Ok(answer) => answer,
        // Nothing follows a dialled leg; its end is told by the carrier's last word, too.
        Err(Undecided::Away) if hook.query("after") == Some("dial") => hang_up(),
        Err(Undecided::Away) if hook.tries() < TRIES_MAX => wait(plane, pass, hook),
        Err(Undecided::Away) => apology(),
        Err(Undecided::Problem(problem)) => return Err(problem),
    };
    say(plane, answer)
}

async fn follow(plane: &Plane, pass: &str, read: &Pass, hook: &Hook) -> Answer {
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
    let node = plane.nodes.place_soon(&read.call, ARRIVE_WITHIN).await.ok();
    let asked = Question { node: node.as_ref(), token: hook.token(), now: clock::wall() };
    let decided = plane.store.resume_asked(&read.tenant, &read.call, asked).await?;
    Ok(match decided {
        Resume::Reconnect(call) => connect(plane, &call).await?,
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
        Resume::Unknown => apology(),
    })
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

/// How often a caller waits a second for a node, in silence.
const TRIES_MAX: u32 = 15;

//! What follows a stream, however it ended: the one place where that is decided, from what is
//! durable.
//!
//! The address carries a pass ([`crate::tokens`]), so that nobody can ask about another's call.
//! While no node takes the call the carrier is told to ask again in a second, a bounded number of
//! times (`?try=`). The end of a leg that was dialled for a transfer leads here, too
//! (`?after=dial`): nothing follows it, and with it the call is over.

use link::event::EndReason;
use warp::reply::Response;

use super::twiml::{Twiml, Verb};
use super::{Answer, Hook, apology, connect, hang_up, say, transfer};
use crate::clock;
use crate::error::Problem;
use crate::metrics::Told;
use crate::plane::Plane;
use crate::store::Ending;
use crate::store::call::{CallEnd, Resume};
use crate::tokens::Pass;

/// Answers the carrier.
///
/// # Errors
/// When the database fails: the address asks the carrier to try again.
pub async fn answer(plane: &Plane, pass: &str, hook: &Hook) -> Result<Response, Problem> {
    let carrier = hook.carrier()?;
    let read = plane.tokens.read_pass(pass, clock::wall());
    // A pass for another call of the same account is as worthless as none.
    let Some(read) = read.ok().filter(|read| read.call_sid == carrier.call_sid) else {
        tracing::warn!("a resume without a valid pass");
        return say(plane, apology());
    };
    let has_gone = hook.field("CallStatus") == Some("completed");
    let answer = if hook.query("after") == Some("dial") {
        after_dial(plane, &read, hook).await?
    } else if has_gone {
        // The carrier asks out of habit and does not listen.
        over(plane, &read, None).await?;
        hang_up()
    } else {
        decide(plane, pass, &read, tries(hook)).await?
    };
    say(plane, answer)
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

/// Where the carrier asks about a call. The part behind `#` is not sent: it tells the carrier to
/// try hard. Source: Twilio, "Webhooks: connection overrides", read 2026-11-20.
pub(super) fn address(plane: &Plane, pass: &str, after: &After) -> String {
    let query = match after {
        After::Stream => String::new(),
        After::Wait(tries) => format!("?try={tries}"),
        After::Dial => "?after=dial".to_owned(),
    };
    let path = format!("/v1/twilio/resume/{pass}{query}");
    plane.public.url(&path) + "#rc=3&rp=all&ct=1500&rt=2500&tt=8000"
}

/// Lets the store decide under the call's lock: of two questions at once one comes first.
async fn decide(plane: &Plane, pass: &str, read: &Pass, tries: u32) -> Answer {
    // Chosen before the decision, which may not need it: an unused promise lapses in seconds.
    let node = plane.nodes.place_soon(&read.call).await;
    let now = clock::wall();
    let decided = plane.store.resume(&read.tenant, &read.call, node.as_ref(), now).await?;
    Ok(match decided {
        Resume::Reconnect(call) => connect(plane, &call)?,
        Resume::HangUp => hang_up(),
        Resume::Transfer(call) => transfer(plane, &call)?,
        Resume::NoNode if tries < TRIES_MAX => {
            let again = address(plane, pass, &After::Wait(tries + 1));
            (Twiml(vec![Verb::Pause(1), Verb::Redirect(again)]), Told::Wait)
        }
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

/// How often the carrier has been told to wait. The address is signed, so nobody else counts.
fn tries(hook: &Hook) -> u32 {
    hook.query("try").and_then(|text| text.parse().ok()).unwrap_or(0)
}

const NOT_REACHED: &str = "We are sorry, nobody can be reached there. Please call again later.";

/// How often a caller waits a second for a node, in silence.
const TRIES_MAX: u32 = 15;

//! What follows a stream, however it ended: the one place where that is decided, from what is
//! durable.
//!
//! The address carries a pass ([`crate::tokens`]), so that nobody can ask about another's call.
//! While no node takes the call the carrier is told to ask again in a second, a bounded number of
//! times (`?try=`).

use link::event::EndReason;
use warp::reply::Response;

use super::twiml::{Target, Twiml, Verb};
use super::{Answer, Hook, apology, connect, hang_up, say};
use crate::clock;
use crate::error::Problem;
use crate::metrics::Told;
use crate::plane::Plane;
use crate::store::Ending;
use crate::store::call::{CallEnd, Number, Resume};
use crate::tokens::Pass;

/// Answers the carrier.
///
/// # Errors
/// When the database fails: the address asks the carrier to try again.
pub async fn answer(plane: &Plane, pass: &str, hook: &Hook) -> Result<Response, Problem> {
    let carrier = hook.carrier()?;
    let read = plane.tokens.read_pass(pass, clock::wall());
    let Some(read) = read.ok().filter(|read| read.call_sid == carrier.call_sid) else {
        tracing::warn!("a resume without a valid pass");
        return say(plane, apology());
    };
    let answer = if hook.field("CallStatus") == Some("completed") {
        // The caller has gone; the carrier asks out of habit and does not listen.
        end(plane, &read, CallEnd::Stream(EndReason::CallerHungUp)).await?;
        hang_up()
    } else {
        decide(plane, pass, &read, tries(hook)).await?
    };
    say(plane, answer)
}

/// Where the carrier asks about a call. The part behind `#` is not sent: it tells the carrier to
/// try hard. Source: Twilio, "Webhooks: connection overrides", read 2026-11-20.
pub(super) fn address(plane: &Plane, pass: &str, tries: Option<u32>) -> String {
    let query = tries.map(|tries| format!("?try={tries}")).unwrap_or_default();
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
        Resume::Transfer { to } => (Twiml(vec![Verb::Dial(target(to))]), Told::Transfer),
        Resume::NoNode if tries < TRIES_MAX => {
            let again = address(plane, pass, Some(tries + 1));
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

/// Where a transfer goes, as the carrier writes it.
fn target(Number(to): Number) -> Target {
    if to.starts_with("sip:") { Target::Sip(to) } else { Target::Number(to) }
}

/// How often the carrier has been told to wait. The address is signed, so nobody else counts.
fn tries(hook: &Hook) -> u32 {
    hook.query("try").and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// How often a caller waits a second for a node, in silence.
const TRIES_MAX: u32 = 15;

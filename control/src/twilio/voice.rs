//! How a call begins: the carrier asks what to do with it.
//!
//! An inbound call is known by the carrier's ids, so that a repeated question finds the same call
//! and gets the same generation. An outbound call was made by the API before; its id is in the
//! address (`?call=`), because the carrier may ask before its REST answer has reached us. The
//! operator may put `?agent=NAME` into a number's address, to have another agent than the default.

use http::StatusCode;
use link::id::{AgentName, CallId};
use uuid::Uuid;
use warp::reply::Response;

use super::twiml::{Twiml, Verb};
use super::{Answer, Hook, apology, connect, hang_up, say, transfer};
use crate::clock;
use crate::error::Problem;
use crate::metrics::Told;
use crate::plane::{Plane, tenant};
use crate::store::Ending;
use crate::store::call::{Begin, Call, CallEnd, CallState, Direction, NewCall, Number};

/// Answers the carrier.
///
/// # Errors
/// When the database fails: the carrier then turns to the number's fallback.
pub async fn answer(plane: &Plane, hook: &Hook) -> Result<Response, Problem> {
    let answer = match hook.query("call") {
        Some(id) => match outbound(plane, hook, id).await? {
            Some(call) => begin(plane, hook, call).await?,
            None => apology(),
        },
        None => begin(plane, hook, inbound(plane, hook).await?).await?,
    };
    say(plane, answer)
}

/// A fresh id: ordered by time, so that lists need no other order.
pub(crate) fn new_call_id() -> CallId {
    CallId::new(format!("c_{}", Uuid::now_v7().simple())).expect("hexadecimal digits are an id")
}

/// The call of the carrier's ids, made if it is new: before any TwiML, so that the stream finds it.
async fn inbound(plane: &Plane, hook: &Hook) -> Result<Call, Problem> {
    let carrier = hook.carrier()?;
    let name = hook.query("agent").map(AgentName::new).transpose();
    let spec = name.ok().and_then(|name| plane.agents.newest(name.as_ref())).ok_or_else(|| {
        let detail = "?agent= names no agent of CONTROL_AGENT_FILE; correct the number's address.";
        Problem::new(StatusCode::NOT_FOUND, "agent_not_found", detail)
    })?;
    let number = |name| Number(hook.field(name).unwrap_or_default().to_owned());
    // Somebody else's outbound call may be sent here, too.
    let is_outbound = hook.field("Direction").is_some_and(|word| word.starts_with("outbound"));
    let new = NewCall {
        id: new_call_id(),
        tenant: tenant(),
        carrier: Some(carrier),
        direction: if is_outbound { Direction::Outbound } else { Direction::Inbound },
        from: number("From"),
        to: number("To"),
        agent: spec.name.clone(),
        agent_version: spec.version,
    };
    Ok(plane.store.create_call(new, clock::wall()).await?.into_call())
}

/// The call that the API made; `None` when there is none, or it is another of the carrier's.
async fn outbound(plane: &Plane, hook: &Hook, id: &str) -> Result<Option<Call>, Problem> {
    let carrier = hook.carrier()?;
    let Ok(id) = CallId::new(id) else { return Ok(None) };
    let call = plane.store.name_call(&tenant(), &id, carrier.clone()).await?;
    // The first name stands: a second call of the carrier cannot take this one over by its address.
    Ok(call.filter(|call| call.carrier.as_ref() == Some(&carrier)))
}

/// Sends the call to a node. The store decides about a repeated question: the generation stays,
/// and the node too once a stream has begun.
async fn begin(plane: &Plane, hook: &Hook, call: Call) -> Answer {
    // Neither needs a node, and a call that was given away must not end because none is free.
    match call.state {
        CallState::Ended => return Ok(hang_up()),
        CallState::Transferred => return transfer(plane, &call),
        CallState::Queued | CallState::Starting | CallState::Active | CallState::Detached => {}
    }
    let Some(node) = plane.nodes.place_soon(&call.id).await else {
        return no_node(plane, hook, &call).await;
    };
    let now = clock::wall();
    Ok(match plane.store.begin_stream(&call.tenant, &call.id, &node, now).await? {
        Begin::Stream(call) => connect(plane, &call)?,
        Begin::Transfer(call) => transfer(plane, &call)?,
        Begin::HangUp => hang_up(),
        Begin::Unknown => apology(),
    })
}

/// A call that nobody has answered yet gets the busy tone and costs nothing; another one is told.
async fn no_node(plane: &Plane, hook: &Hook, call: &Call) -> Answer {
    tracing::warn!(call = %call.id, "no node takes a call");
    let end = Ending { reason: CallEnd::NoNode, detail: None };
    plane.store.end_call(&call.tenant, &call.id, end, clock::wall()).await?;
    let is_unanswered =
        call.direction == Direction::Inbound && hook.field("CallStatus") == Some("ringing");
    let verbs = if is_unanswered {
        vec![Verb::RejectBusy]
    } else {
        vec![Verb::Say(BUSY.to_owned()), Verb::Hangup]
    };
    Ok((Twiml(verbs), Told::Busy))
}

const BUSY: &str = "All lines are busy. Please call again in a moment.";

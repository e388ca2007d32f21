//! How a call begins: the carrier asks what to do with it.
//!
//! An inbound call is known by the carrier's ids, so that a repeated question finds the same call
//! and gets the same generation. An outbound call was made by the API before; its id is in the
//! address (`?call=`), because the carrier may ask before its REST answer has reached us.
//!
//! Whose an inbound call is, and who answers it, the number says that was called
//! ([`crate::directory`]). A number that nobody has taken is the default tenant's. The operator may
//! put `?agent=NAME` into a number's address, to have another agent. A number that moves here from
//! an old backend sends a share of its calls there, and what cannot be answered here.

use std::sync::Arc;
use std::time::Duration;

use link::agent::AgentSpec;
use link::id::{AgentName, CallId, TenantId};
use uuid::Uuid;
use warp::reply::Response;

use super::twiml::{Twiml, Verb};
use super::{
    Answer, Hook, TRY_HARD, Undecided, again, apology, connect, hang_up, in_time, say, transfer,
    unaided, wish,
};
use crate::access::crowd;
use crate::clock;
use crate::directory::can_answer;
use crate::error::Problem;
use crate::fleet::nodes::Unplaced;
use crate::metrics::Told;
use crate::plane::{Plane, tenant};
use crate::standby;
use crate::store::Ending;
use crate::store::call::{Begin, Call, CallEnd, CallState, CarrierIds, NewCall};
use crate::store::numbers::{Legacy, Line};

/// Answers the carrier.
///
/// # Errors
/// When the question is not the carrier's.
pub async fn answer(plane: &Plane, hook: &Hook) -> Result<Response, Problem> {
    let answer = match in_time(plane, decide(plane, hook)).await {
        Ok(answer) => answer,
        Err(Undecided::Away) => match unaided::begin(plane, hook).await {
            Some(answer) => answer,
            None if hook.tries() < TRIES_MAX => wait(plane, hook),
            None => busy(is_unanswered(hook)),
        },
        Err(Undecided::Problem(problem)) => return Err(problem),
    };
    say(plane, answer)
}

async fn decide(plane: &Plane, hook: &Hook) -> Answer {
    match hook.query("call") {
        Some(_) => match outbound(plane, hook).await? {
            Some(call) => begin(plane, hook, call).await,
            None => Ok(apology()),
        },
        None => arrived(plane, hook).await,
    }
}

/// A call that somebody made to one of our numbers.
async fn arrived(plane: &Plane, hook: &Hook) -> Answer {
    let line = hook.line(plane);
    let legacy = line.as_ref().and_then(|line| line.route.legacy.as_ref());
    let Some((line, legacy)) = line.as_ref().zip(legacy) else {
        return here(plane, hook, line.as_deref()).await;
    };
    let carrier = hook.carrier()?;
    let known = plane.store.call_by_carrier(&line.tenant, &carrier).await;
    let known = known.ok().flatten();
    // One that was begun here before the share grew stays here. Without an answer of the database it
    // could not be begun here at all.
    if known.is_none() && legacy.takes(&carrier.call_sid) {
        return Ok(elsewhere(legacy));
    }
    // The answer that sent it there was lost: the carrier asks again, and gets the same.
    if known.is_some_and(|call| call.end_reason.as_deref() == Some(CallEnd::NoNode.as_str())) {
        return Ok(elsewhere(legacy));
    }
    match here(plane, hook, Some(&**line)).await {
        Ok((_, Told::Busy | Told::Crowded | Told::Apology)) | Err(_) => {
            tracing::warn!("the old backend gets a call that cannot be answered here");
            Ok(elsewhere(legacy))
        }
        answer => answer,
    }
}

/// Begins a call that came in, with the agent of its number.
async fn here(plane: &Plane, hook: &Hook, line: Option<&Line>) -> Answer {
    match inbound(plane, hook, line).await? {
        Arrived::Call(call) => begin(plane, hook, *call).await,
        Arrived::Crowded => Ok(crowded()),
        Arrived::Nobody => Ok(apology()),
    }
}

/// What becomes of a call that came in.
enum Arrived {
    /// It is there.
    Call(Box<Call>),
    /// Its tenant has as many calls as it may have.
    Crowded,
    /// Nobody is there who could answer it.
    Nobody,
}

/// The old backend answers. It is asked as if it had been asked first: the carrier signs for the
/// account, which is the same.
fn elsewhere(legacy: &Legacy) -> (Twiml, Told) {
    (Twiml(vec![Verb::Redirect(legacy.url.clone())]), Told::Elsewhere)
}

/// A fresh id: ordered by time, so that lists need no other order.
pub(crate) fn new_call_id() -> CallId {
    CallId::new(format!("c_{}", Uuid::now_v7().simple())).expect("hexadecimal digits are an id")
}

/// The call of the carrier's ids, made if it is new: before any TwiML, so that the stream finds it.
async fn inbound(plane: &Plane, hook: &Hook, line: Option<&Line>) -> Result<Arrived, Problem> {
    let carrier = hook.carrier()?;
    // What was decided without the database comes first.
    if let Some(begun) = plane.standby.call_by_carrier(&carrier) {
        standby::settle(plane, &begun.id).await?;
    }
    let tenant = line.map_or_else(tenant, |line| line.tenant.clone());
    let Some(spec) = wanted(plane, hook, &tenant, line) else { return Ok(Arrived::Nobody) };
    // From memory: whoever has too many calls costs the database nothing. Held until it is written
    // down.
    let Ok(_place) = crowd::admit(plane, &tenant, &carrier.call_sid).await else {
        tracing::warn!(%tenant, "a tenant has as many calls as it may have; one is refused");
        return Ok(Arrived::Crowded);
    };
    let new = newcomer(hook, (new_call_id(), tenant, carrier), &spec);
    let call = plane.store.create_call(new, clock::wall()).await?.into_call();
    Ok(Arrived::Call(Box::new(call)))
}

/// Who is to answer a call that came in; `None` when nobody can, and the log says why.
pub(super) fn wanted(
    plane: &Plane,
    hook: &Hook,
    tenant: &TenantId,
    line: Option<&Line>,
) -> Option<Arc<AgentSpec>> {
    let name = match hook.query("agent") {
        Some(name) => AgentName::new(name).map(Some),
        None => Ok(line.and_then(|line| line.route.agent.clone())),
    };
    let spec = name.ok().and_then(|name| plane.directory.newest(tenant, name.as_ref()));
    let Some(spec) = spec else {
        // The caller is told something; the operator finds this.
        tracing::error!(
            %tenant,
            "?agent= names no agent, or nobody is the default one; correct the number's address, \
             or make an agent with POST /v1/agents"
        );
        return None;
    };
    if !can_answer(&spec) {
        let (agent, provider) = (&spec.name, spec.provider.key_name());
        tracing::error!(
            %tenant, %agent, provider,
            "an agent has no key for its service; PUT /v1/keys/providers/{{provider}} with a key of \
             its tenant"
        );
        return None;
    }
    Some(spec)
}

/// A call that came in, as the carrier tells of it.
pub(super) fn newcomer(
    hook: &Hook,
    (id, tenant, carrier): (CallId, TenantId, CarrierIds),
    spec: &AgentSpec,
) -> NewCall {
    NewCall {
        id,
        tenant,
        carrier: Some(carrier),
        direction: hook.direction(),
        from: hook.number("From"),
        to: hook.number("To"),
        agent: spec.name.clone(),
        agent_version: spec.version,
        run: None,
    }
}

/// The call that the API made; `None` when there is none, or it is another of the carrier's.
async fn outbound(plane: &Plane, hook: &Hook) -> Result<Option<Call>, Problem> {
    let carrier = hook.carrier()?;
    let Some((id, attempt)) = hook.call() else { return Ok(None) };
    let (tenant, now) = (hook.tenant(plane), clock::wall());
    let call = plane.store.name_call(&tenant, &id, attempt, carrier.clone(), now).await?;
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
    // The newest version: whichever answers, they speak through the same service.
    let agent = plane.directory.newest(&call.tenant, Some(&call.agent));
    let wish = wish(plane, hook, &call.id, agent.as_deref());
    let node = match plane.nodes.place_soon(wish, ARRIVE_WITHIN).await {
        Ok(node) => node,
        // Control or the fleet has just started. The caller hears it ring meanwhile.
        Err(Unplaced::Nobody) if hook.tries() < TRIES_MAX => return Ok(wait(plane, hook)),
        Err(Unplaced::Nobody | Unplaced::Full) => return no_node(plane, hook, &call).await,
    };
    let now = clock::wall();
    Ok(match plane.store.begin_stream(&call.tenant, &call.id, &node, now).await? {
        Begin::Stream(call) => connect(plane, &call).await?,
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
    Ok(busy(is_unanswered(hook)))
}

/// Whether nobody has picked up yet.
fn is_unanswered(hook: &Hook) -> Unanswered {
    let is_inbound = hook.field("Direction").is_none_or(|word| word == "inbound");
    match hook.field("CallStatus") {
        Some("ringing") if is_inbound => Unanswered::Yes,
        Some(_) | None => Unanswered::No,
    }
}

/// Whether a call still rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    Yes,
    No,
}

fn busy(unanswered: Unanswered) -> (Twiml, Told) {
    let verbs = match unanswered {
        Unanswered::Yes => vec![Verb::RejectBusy],
        Unanswered::No => vec![Verb::Say(BUSY.to_owned()), Verb::Hangup],
    };
    (Twiml(verbs), Told::Busy)
}

/// Says that the tenant takes no more calls. It is spoken, whether or not somebody has picked up: the
/// busy tone says nothing of trying again.
fn crowded() -> (Twiml, Told) {
    (Twiml(vec![Verb::Say(BUSY.to_owned()), Verb::Hangup]), Told::Crowded)
}

/// Lets the carrier ask the same again in a second.
fn wait(plane: &Plane, hook: &Hook) -> (Twiml, Told) {
    again(plane.public.url(&hook.again("/v1/twilio/voice")) + TRY_HARD)
}

/// How long a call waits for the first relay before the carrier is told something: a refusal takes
/// less than 100 ms.
const ARRIVE_WITHIN: Duration = Duration::from_millis(75);

/// How often a caller hears it ring for a second more: about as long as control or a relay needs to
/// start.
const TRIES_MAX: u32 = 6;

const BUSY: &str = "All lines are busy. Please call again in a moment.";

//! What the API does to calls: places them, and ends them.
//!
//! Both change the store first and ask the carrier second. So whatever the carrier says or asks in
//! between finds the call as it should be. A call to be placed goes into a queue in the database, in
//! the transaction that makes it; [`queue`] takes it from there when its turn has come.
//!
//! Suggested reading order: [`plan`] (what may be wanted), [`rules`] with [`country`] and [`hours`]
//! (what must hold), [`queue`] (how a call gets to the carrier), [`waiting`] (who waits for that).

use std::time::Duration;

use http::StatusCode;
use link::event::EndReason;
use link::id::{AgentName, CallId, RunId, TenantId, WallTime};
use link::message::Command;

use self::plan::Plan;
use self::rules::Callee;
use self::waiting::Outcome;
use crate::clock;
use crate::directory::{can_answer, no_key};
use crate::error::Problem;
use crate::fleet::orders::Order;
use crate::metrics::Asked;
use crate::plane::Plane;
use crate::store::Ending;
use crate::store::call::{Call, CallEnd, CallState, Direction, NewCall, Number};
use crate::store::dials::NewDial;
use crate::store::idempotency::Once;
use crate::store::runs::Run;
use crate::twilio::rest::RestError;
pub(crate) use crate::twilio::voice::new_call_id;

pub mod plan;

pub mod country;
pub mod hours;
pub mod rules;

pub mod queue;
pub mod waiting;

/// A call that somebody wants placed.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Who is called, E.164.
    pub to: Number,
    /// Who calls, E.164.
    pub from: Number,
    /// Which agent speaks; `None` takes the default.
    pub agent: Option<AgentName>,
    /// What is wanted besides.
    pub plan: Plan,
    /// The run that the call is started with.
    pub run: Option<RunId>,
}

/// Places a call: queues it, and waits for a moment to hear what becomes of it.
///
/// # Errors
/// A problem that says which rule forbids it, or what the carrier said against it. A call that was
/// refused by the carrier is over.
pub async fn place(
    plane: &Plane,
    tenant: &TenantId,
    wish: Wish,
    once: Option<&Once>,
) -> Result<Call, Problem> {
    let id = new_call_id();
    // Before it is queued: it may be dialled at once, and by another task.
    let waiting = plane.dialler.expect(&id);
    let call = enqueue(plane, tenant, id, (wish, once)).await?;
    let outcome = match waiting {
        Some(waiting) => waiting.outcome(PLACED_WITHIN).await,
        None => Outcome::Queued,
    };
    match outcome {
        Outcome::Refused(problem) => Err(problem),
        // It is queued, whatever the database says to another question.
        Outcome::Placed | Outcome::Queued => {
            let known = plane.store.call(tenant, &call.id).await.ok().flatten();
            Ok(known.unwrap_or(call))
        }
    }
}

/// Queues a call, which is dialled when its turn has come.
///
/// # Errors
/// A problem that says which rule forbids it.
pub async fn enqueue(
    plane: &Plane,
    tenant: &TenantId,
    id: CallId,
    (wish, once): (Wish, Option<&Once>),
) -> Result<Call, Problem> {
    let now = clock::wall();
    let (new, dial) = ready(plane, tenant, (id, wish), now).await?;
    let call = plane.store.enqueue(new, dial, once, now).await?;
    plane.dialler.queued(&call.id);
    Ok(call)
}

/// Starts a run: queues all of its calls in one, which are dialled when their turns have come.
///
/// # Errors
/// A problem that names the callee whom a rule forbids to call. Nobody is called then.
pub async fn start_run(
    plane: &Plane,
    tenant: &TenantId,
    run: &Run,
    (wishes, once): (Vec<Wish>, Option<&Once>),
) -> Result<Vec<Call>, Problem> {
    let mut calls = Vec::with_capacity(wishes.len());
    for (place, wish) in wishes.into_iter().enumerate() {
        let ready = ready(plane, tenant, (new_call_id(), wish), run.created_at).await;
        calls.push(ready.map_err(|problem| of_callee(problem, place))?);
    }
    let queued = plane.store.start_run(tenant, run, calls, once).await?;
    plane.dialler.wake();
    Ok(queued)
}

/// The same problem, with the callee named whom it is about. A database that is away is about
/// nobody.
fn of_callee(problem: Problem, place: usize) -> Problem {
    if problem.is_store() {
        return problem;
    }
    Problem { detail: format!("`calls.{place}`: {}", problem.detail), ..problem }
}

/// What it takes to queue a call that every rule allows.
async fn ready(
    plane: &Plane,
    tenant: &TenantId,
    (id, wish): (CallId, Wish),
    now: WallTime,
) -> Result<(NewCall, NewDial), Problem> {
    let Wish { to, from, agent, mut plan, run } = wish;
    let spec = plane.directory.newest_or_new(plane, tenant, agent.as_ref()).await?;
    let spec = spec.ok_or_else(|| {
        let detail = "`agent` names no agent, or without it nobody is the default one. \
            GET /v1/agents lists those there are.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "agent_not_found", detail)
    })?;
    if !can_answer(&spec) {
        return Err(no_key(&spec));
    }
    // Settled here: the call keeps the policy it was wanted with.
    plan.machine = plan.machine.or_else(|| spec.machine.clone());
    let callee = Callee { tenant, to: &to, from: &from, hours: plan.hours };
    let open = rules::check(plane, callee, now).await?.map_err(rules::Forbidden::problem)?;
    let within = i64::from(plan.within_s) * 1_000_000;
    let dial = NewDial {
        account: plane.carrier.account_sid().to_owned(),
        // At once means at once, whatever this clock says to the database's.
        not_before: if open > now { open } else { WallTime(0) },
        until: open.plus_us(within),
        plan,
    };
    let new = NewCall {
        id,
        tenant: tenant.clone(),
        carrier: None,
        direction: Direction::Outbound,
        from,
        to,
        agent: spec.name.clone(),
        agent_version: spec.version,
        run,
    };
    Ok((new, dial))
}

/// Ends a call. The node that carries it says goodbye to its streams itself; without one the
/// carrier is asked. Ending a call that is over changes nothing.
///
/// # Errors
/// A problem when there is no such call, or the carrier could not be asked.
pub async fn hang_up(plane: &Plane, tenant: &TenantId, id: &CallId) -> Result<Call, Problem> {
    let call = plane.store.call(tenant, id).await?.ok_or_else(Problem::no_call)?;
    match call.state {
        CallState::Ended => return Ok(call),
        CallState::Active if order_hang_up(plane, &call) => return Ok(call),
        CallState::Queued
        | CallState::Starting
        | CallState::Active
        | CallState::Detached
        | CallState::Transferred => {}
    }
    // Recorded first: whatever the carrier asks in between is answered with a hang-up.
    let end = Ending { reason: CallEnd::Stream(EndReason::OperatorHungUp), detail: None };
    let ended = plane.store.end_call(&call.tenant, id, end, clock::wall()).await?;
    let ended = ended.ok_or_else(Problem::no_call)?;
    complete(plane, &ended).await?;
    Ok(ended)
}

/// Whether this is a phone number in E.164: `+` and 7 to 15 digits, the first not zero.
#[must_use]
pub fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    let is_long_enough = (7..=15).contains(&digits.len());
    is_long_enough && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the call's node was told.
fn order_hang_up(plane: &Plane, call: &Call) -> bool {
    let Some(node) = &call.node else { return false };
    let order = Order::Do {
        call: call.id.clone(),
        generation: call.generation,
        // The end of the call is the answer.
        id: None,
        command: Command::HangUp,
    };
    match plane.nodes.send(node, order) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(call = %call.id, %node, %error, "a hang-up goes by the carrier");
            false
        }
    }
}

/// Asks the carrier to end a call that has ended here.
async fn complete(plane: &Plane, call: &Call) -> Result<(), Problem> {
    // Without a name the carrier does not know the call, or will be told when it names it.
    let Some(carrier) = &call.carrier else { return Ok(()) };
    let done = plane.carrier.complete(carrier).await;
    plane.metrics.asked(done.as_ref().err().map_or(Asked::Done, RestError::asked));
    done.map_err(|error| problem(&error))
}

/// What the API's user is told about the carrier's refusal: never the carrier's own words, which
/// repeat numbers.
fn problem(error: &RestError) -> Problem {
    match error {
        RestError::Credentials => Problem::new(
            StatusCode::BAD_GATEWAY,
            "carrier_credentials",
            "The carrier refuses the account. Compare TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN \
             with the console.",
        ),
        RestError::Refused { code } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "carrier_refused",
            format!("The carrier refuses: https://www.twilio.com/docs/errors/{code} says why."),
        ),
        RestError::Gone => {
            let detail = "The carrier knows no such call, or it is over.";
            Problem::new(StatusCode::CONFLICT, "carrier_call_gone", detail)
        }
        RestError::Throttled => {
            let detail = "The carrier is asked too much at once. Try again.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "carrier_throttled", detail)
                .again_after(2)
        }
        RestError::Silent(_) | RestError::Failed { .. } => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "carrier_silent",
            "The carrier did not answer; it may have acted all the same. Look at the call's \
             events before trying again.",
        ),
        RestError::Unreachable(_) => {
            let detail = "The carrier cannot be reached; nothing was done. Try again.";
            Problem::new(StatusCode::BAD_GATEWAY, "carrier_unreachable", detail).again_after(2)
        }
    }
}

/// How long the one who wants a call waits to hear of it. The carrier answers within 300 ms.
const PLACED_WITHIN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_e164_is_dialled() {
        for good in ["+15551230001", "+4930123456", "+123456789012345"] {
            assert!(is_e164(good), "{good}");
        }
        for bad in [
            "",
            "+",
            "15551230001",
            "+0155512300",
            "+155512",
            "+1234567890123456",
            "+1 5551230001",
            "sip:a@b",
        ] {
            assert!(!is_e164(bad), "{bad}");
        }
    }
}

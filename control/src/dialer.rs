//! What the API does to calls: places them, and ends them.
//!
//! Both change the store first and ask the carrier second. So whatever the carrier says or asks in
//! between finds the call as it should be, and a process that dies in between leaves a call that
//! the carrier's own word will end.

use http::StatusCode;
use link::event::EndReason;
use link::id::{AgentName, CallId, TenantId};
use link::message::Command;

use crate::clock;
use crate::error::Problem;
use crate::fleet::orders::Order;
use crate::metrics::Asked;
use crate::plane::Plane;
use crate::store::Ending;
use crate::store::call::{Call, CallEnd, CallState, Direction, NewCall, Number};
use crate::twilio::rest::{Placing, RestError};
use crate::twilio::voice::new_call_id;

/// A call that somebody wants placed.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Who is called, E.164.
    pub to: Number,
    /// Who calls, E.164.
    pub from: Number,
    /// Which agent speaks; `None` takes the default.
    pub agent: Option<AgentName>,
}

/// Places a call. It exists before the carrier hears of it, so that nothing the carrier says about
/// it can come too early.
///
/// # Errors
/// A problem that says what the carrier said. The call is then over, unless the carrier was silent.
pub async fn place(plane: &Plane, tenant: &TenantId, wish: Wish) -> Result<Call, Problem> {
    let spec = plane.agents.newest(wish.agent.as_ref()).ok_or_else(|| {
        let detail = "There is no such agent in CONTROL_AGENT_FILE.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "agent_not_found", detail)
    })?;
    let new = NewCall {
        id: new_call_id(),
        tenant: tenant.clone(),
        carrier: None,
        direction: Direction::Outbound,
        from: wish.from,
        to: wish.to,
        agent: spec.name.clone(),
        agent_version: spec.version,
    };
    let call = plane.store.create_call(new, clock::wall()).await?.into_call();
    let hook = |path: &str| plane.public.url(&format!("{path}?call={}", call.id));
    let placing = Placing {
        to: &call.to,
        from: &call.from,
        url: hook("/v1/twilio/voice"),
        status_callback: hook("/v1/twilio/status"),
    };
    match plane.carrier.create(&placing).await {
        Ok(carrier) => {
            plane.metrics.asked(Asked::Done);
            let named = plane.store.name_call(&call.tenant, &call.id, carrier).await?;
            let call = named.ok_or_else(Problem::no_call)?;
            if call.state == CallState::Ended {
                // Somebody hung up before the carrier had a name for the call.
                complete(plane, &call).await?;
            }
            Ok(call)
        }
        Err(error) => Err(not_placed(plane, &call, &error).await?),
    }
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

/// Counts and records that a call was not placed. One that may have been placed all the same
/// stays as it is: its hook or its status tells.
async fn not_placed(plane: &Plane, call: &Call, error: &RestError) -> Result<Problem, Problem> {
    plane.metrics.asked(error.asked());
    tracing::warn!(call = %call.id, %error, "a call was not placed");
    let may_exist = matches!(error, RestError::Silent(_) | RestError::Failed { .. });
    if !may_exist {
        let detail = error.to_string();
        let end = Ending { reason: CallEnd::CarrierFailed, detail: Some(&detail) };
        plane.store.end_call(&call.tenant, &call.id, end, clock::wall()).await?;
    }
    Ok(problem(error))
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

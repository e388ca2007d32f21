//! Calls: placed, listed, looked at, ended.
//!
//! What these do to a call is in [`crate::dialer`]; here are words and numbers of HTTP. A call is
//! shown with its numbers, to whoever has a key, and nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::event::Blame;
use link::id::{AgentName, CallId, RunId, WallTime};
use serde::Deserialize;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::filter::{self, Place};
use super::numbers::{caller, e164};
use super::once::{self, Next, Request};
use super::version::{Shown, shown};
use super::{done, transcript};
use crate::dialer::hours::Hours;
use crate::dialer::plan::{OnMachine, Plan, Retry, WITHIN_SECONDS};
use crate::dialer::{self, Wish};
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::{body, queries};
use crate::plane::Plane;
use crate::store::call::{AnsweredBy, Call, CallEnd, Number};
use crate::store::idempotency::Once;

/// `/v1/calls`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let place = warp::path!("v1" / "calls")
        .and(warp::post())
        .and(keyed(plane))
        .and(once::key())
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, key: Option<String>, body: Bytes| async move {
            shown(create(&client, key.as_deref(), &body).await)
        });
    let list = warp::path!("v1" / "calls")
        .and(warp::get())
        .and(keyed(plane))
        .and(queries())
        .and_then(|client: Client, queries| async move { done(list(&client, &queries).await) });
    let show = warp::path!("v1" / "calls" / String)
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(show(&client, &id).await) });
    let hang_up = warp::path!("v1" / "calls" / String / "hang_up")
        .and(warp::post())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(hang_up(&client, &id).await) });
    place.or(list).unify().or(show).unify().or(hang_up).unify().boxed()
}

/// The body of `POST /v1/calls`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Placement {
    to: String,
    from: Option<String>,
    agent: Option<AgentName>,
    retry: Option<Retry>,
    machine: Option<OnMachine>,
    hours: Option<Hours>,
    within_s: Option<u32>,
}

/// `POST /v1/calls`.
async fn create(client: &Client, key: Option<&str>, body: &[u8]) -> Result<Shown, Problem> {
    match once::begin(client, &Request { key, what: "calls", body }).await? {
        Next::Say(shown) => Ok(shown),
        Next::Do(once) => {
            let placed = place(client, body, once.as_ref()).await;
            once::end(client, once, placed).await
        }
    }
}

/// Unknown fields are refused: a misspelt `from` must not be overlooked.
async fn place(client: &Client, body: &[u8], once: Option<&Once>) -> Result<Shown, Problem> {
    // A misspelt field is a mistake: a call that goes out from the wrong number cannot be taken
    // back.
    let wish: Placement = serde_json::from_slice(body).map_err(|error| {
        // Place and kind, not the text: it may hold a number.
        let at = format!("line {}, column {}", error.line(), error.column());
        let detail = format!("The body is not {FIELDS} ({at}).");
        Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
    })?;
    let to = e164(wish.to, "to")?;
    let from = caller(client, wish.from).await?;
    let plan = Plan {
        retry: wish.retry.unwrap_or_default(),
        machine: wish.machine,
        hours: wish.hours,
        within_s: wish.within_s.unwrap_or(WITHIN_SECONDS),
    };
    if let Some(detail) = plan.problem() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "plan_malformed", detail));
    }
    let wish = Wish { to, from, agent: wish.agent, plan, run: None };
    let call = dialer::place(&client.plane, &client.tenant, wish, once).await?;
    Ok(Shown::new(StatusCode::CREATED, json_of(&call), None))
}

/// `GET /v1/calls`. The cursor is a place among calls, so that new ones do not move the pages.
async fn list(
    client: &Client,
    queries: &BTreeMap<String, String>,
) -> Result<(StatusCode, Value), Problem> {
    let Place { limit, cursor } = filter::place(queries)?;
    let filter = filter::read(queries)?;
    let page = client.plane.store.calls(&client.tenant, &filter, cursor.as_ref(), limit).await?;
    let calls: Vec<Value> = page.calls.iter().map(json_of).collect();
    let next = page.next.map(|next| next.to_string());
    Ok((StatusCode::OK, json!({"calls": calls, "next": next})))
}

/// `GET /v1/calls/{id}`, with what was said so far.
async fn show(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let id = CallId::new(id).map_err(|_| Problem::no_call())?;
    let call = client.plane.store.call(&client.tenant, &id).await?.ok_or_else(Problem::no_call)?;
    let mut shown = json_of(&call);
    shown["turns"] = transcript::turns(client, &id).await?.turns.into();
    Ok((StatusCode::OK, shown))
}

/// `POST /v1/calls/{id}/hang_up`. 202: a node says goodbye to its streams before the call has
/// ended, which an event then tells.
async fn hang_up(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let id = CallId::new(id).map_err(|_| Problem::no_call())?;
    let call = dialer::hang_up(&client.plane, &client.tenant, &id).await?;
    Ok((StatusCode::ACCEPTED, json_of(&call)))
}

/// A call as the API shows it.
pub(super) fn json_of(call: &Call) -> Value {
    let moment = |at: Option<WallTime>| at.map(rfc3339);
    let carrier = call
        .carrier
        .as_ref()
        .map(|carrier| json!({"account_sid": carrier.account_sid, "call_sid": carrier.call_sid}));
    // Derived, not stored: a reason of a newer release is shown without blame.
    let end = call.end_reason.as_deref().and_then(CallEnd::read);
    let blame = end.map(CallEnd::blame);
    json!({
        "id": call.id.as_str(),
        "direction": call.direction.as_str(),
        "from": call.from.as_str(),
        "to": call.to.as_str(),
        "agent": call.agent.as_str(),
        "agent_version": call.agent_version,
        "answered_by": call.answered_by.map(AnsweredBy::as_str),
        "run": call.run.as_ref().map(RunId::as_str),
        "state": call.state.as_str(),
        "transfer_to": call.transfer_to.as_ref().map(Number::as_str),
        "end_reason": call.end_reason,
        "end_blame": blame.map(Blame::as_str),
        "end_detail": call.end_detail,
        "generation": call.generation.0,
        "node": call.node.as_ref().map(|node| node.as_str()),
        "carrier": carrier,
        "created_at": rfc3339(call.created_at),
        "answered_at": moment(call.answered_at),
        "ended_at": moment(call.ended_at),
    })
}

/// What a placement takes.
const FIELDS: &str = "{\"to\", \"from\"?, \"agent\"?, \"retry\"?: {\"on\": [\"busy\", \
    \"no_answer\", \"failed\"], \"times\", \"after_s\"?}, \"machine\"?: {\"do\": \"continue\", \
    \"hang_up\" or \"leave_message\", \"text\"?}, \"hours\"?: {\"from\", \"to\"}, \"within_s\"?}";

/// The body of a placement is a few short texts, and a message for a machine.
const BODY_BYTES_MAX: usize = 16 * 1024;

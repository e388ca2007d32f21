//! Runs: several people are called at once, and followed on one stream (`/v1/events?run=`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use link::id::{AgentName, RunId};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::filter::{self, Place};
use super::numbers::{caller, e164};
use super::once::{self, Next, Request};
use super::version::{Shown, shown};
use super::{calls, done};
use crate::clock;
use crate::dialer::plan::{Plan, WITHIN_SECONDS};
use crate::dialer::{self, Wish};
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::{body, queries};
use crate::plane::Plane;
use crate::store::call::{Call, Filter};
use crate::store::idempotency::Once;
use crate::store::runs::Run;

/// `/v1/runs`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let all = warp::path!("v1" / "runs");
    let start = all
        .and(warp::post())
        .and(keyed(plane))
        .and(once::key())
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, key: Option<String>, body: Bytes| async move {
            shown(start(&client, key.as_deref(), &body).await)
        });
    let list = all
        .and(warp::get())
        .and(keyed(plane))
        .and(queries())
        .and_then(|client: Client, queries| async move { done(list(&client, &queries).await) });
    let show = warp::path!("v1" / "runs" / String)
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(show(&client, &id).await) });
    let hang_up = warp::path!("v1" / "runs" / String / "hang_up")
        .and(warp::post())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(hang_up(&client, &id).await) });
    start.or(list).unify().or(show).unify().or(hang_up).unify().boxed()
}

/// The body that starts a run. What a callee does not say, the run says for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    agent: Option<String>,
    from: Option<String>,
    calls: Vec<Callee>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callee {
    to: String,
    from: Option<String>,
    agent: Option<String>,
}

/// `POST /v1/runs`.
async fn start(client: &Client, key: Option<&str>, body: &[u8]) -> Result<Shown, Problem> {
    match once::begin(client, &Request { key, what: "runs", body }).await? {
        Next::Say(shown) => Ok(shown),
        Next::Do(once) => {
            let started = place(client, body, once.as_ref()).await;
            once::end(client, once, started).await
        }
    }
}

/// Everything is checked before the first call, and all calls are queued in one: a run that is
/// refused called nobody. What the carrier then says about one call is that call's business.
pub(super) async fn place(
    client: &Client,
    body: &[u8],
    once: Option<&Once>,
) -> Result<Shown, Problem> {
    let run = Run { id: new_run_id(), calls: 0, created_at: clock::wall() };
    let wishes = wishes(client, body, &run.id).await?;
    let run = Run { calls: u32::try_from(wishes.len()).unwrap_or(u32::MAX), ..run };
    let Client { plane, tenant, .. } = client;
    // They wait for their turns: a run of many callees is not answered when the last one rings.
    let calls = dialer::start_run(plane, tenant, &run, (wishes, once)).await?;
    Ok(Shown::new(StatusCode::CREATED, json_of(&run, &calls), None))
}

/// `GET /v1/runs`, newest first.
async fn list(
    client: &Client,
    queries: &BTreeMap<String, String>,
) -> Result<(StatusCode, Value), Problem> {
    let Place { limit, cursor } = filter::place(queries)?;
    let (runs, next) = client.plane.store.runs(&client.tenant, cursor.as_ref(), limit).await?;
    let runs: Vec<Value> = runs.iter().map(head_of).collect();
    Ok((StatusCode::OK, json!({"runs": runs, "next": next.map(|next| next.to_string())})))
}

/// `GET /v1/runs/{id}`, with its calls.
async fn show(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let run = found(client, id).await?;
    let calls = calls_of(client, &run.id).await?;
    Ok((StatusCode::OK, json_of(&run, &calls)))
}

/// `POST /v1/runs/{id}/hang_up`: ends every call of it. 202: each has ended when its event says so.
async fn hang_up(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let run = found(client, id).await?;
    let calls = calls_of(client, &run.id).await?;
    let Client { plane, tenant, .. } = client;
    let ended = stream::iter(calls)
        .map(|call| async move { dialer::hang_up(plane, tenant, &call.id).await });
    let ended: Vec<_> = ended.buffered(PLACED_AT_ONCE).collect().await;
    // All of them are tried; the first that could not be ended is told.
    ended.into_iter().collect::<Result<Vec<_>, _>>()?;
    let calls = calls_of(client, &run.id).await?;
    Ok((StatusCode::ACCEPTED, json_of(&run, &calls)))
}

/// Reads who is called by whom, and refuses what cannot be placed, by its field.
async fn wishes(client: &Client, body: &[u8], run: &RunId) -> Result<Vec<Wish>, Problem> {
    let Start { agent, from, calls } = serde_json::from_slice(body).map_err(|error| {
        // Place and kind, not the text: it may hold a number.
        let at = format!("line {}, column {}", error.line(), error.column());
        let detail = format!(
            "The body is not {{\"agent\"?, \"from\"?, \"calls\": [{{\"to\", \"from\"?, \
             \"agent\"?}} ...]}} ({at}).",
        );
        Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
    })?;
    if !(1..=CALLS_MAX).contains(&calls.len()) {
        let detail = format!("`calls` holds 1 to {CALLS_MAX} callees.");
        return Err(unprocessable("calls_too_many", detail));
    }
    let mut wishes = Vec::with_capacity(calls.len());
    for (place, callee) in calls.into_iter().enumerate() {
        let to = e164(callee.to, &format!("calls.{place}.to"))?;
        let from = caller(client, callee.from.or_else(|| from.clone())).await?;
        let agent = callee.agent.or_else(|| agent.clone());
        let agent = speaker(client, agent, place).await?;
        let (agent, run) = (Some(agent), Some(run.clone()));
        let plan = Plan { within_s: WITHIN_SECONDS, ..Plan::default() };
        wishes.push(Wish { to, from, agent, plan, run });
    }
    Ok(wishes)
}

/// The agent that speaks to one callee.
async fn speaker(
    client: &Client,
    name: Option<String>,
    place: usize,
) -> Result<AgentName, Problem> {
    let none = || {
        let detail = format!(
            "`agent` of `calls.{place}` names no agent, or without it nobody is the default one. \
             GET /v1/agents lists those there are.",
        );
        unprocessable("agent_not_found", detail)
    };
    let name = name.map(AgentName::new).transpose().map_err(|_| none())?;
    let plane = &client.plane;
    let spec = plane.directory.newest_or_new(plane, &client.tenant, name.as_ref()).await?;
    spec.map(|spec| spec.name.clone()).ok_or_else(none)
}

async fn found(client: &Client, id: &str) -> Result<Run, Problem> {
    let id = RunId::new(id).map_err(|_| no_run())?;
    client.plane.store.run(&client.tenant, &id).await?.ok_or_else(no_run)
}

/// There is no such run, or it is somebody else's.
pub(super) fn no_run() -> Problem {
    let detail = "There is no such run. GET /v1/runs lists those there are.";
    Problem::new(StatusCode::NOT_FOUND, "run_not_found", detail)
}

/// The calls of a run, in the order in which they were made.
async fn calls_of(client: &Client, run: &RunId) -> Result<Vec<Call>, Problem> {
    let filter = Filter { run: Some(run.clone()), ..Filter::default() };
    let most = u32::try_from(CALLS_MAX).unwrap_or(u32::MAX);
    let mut page = client.plane.store.calls(&client.tenant, &filter, None, most).await?;
    page.calls.reverse();
    Ok(page.calls)
}

/// A fresh id: ordered by time, so that lists need no other order.
fn new_run_id() -> RunId {
    RunId::new(format!("run_{}", Uuid::now_v7().simple())).expect("hexadecimal digits are an id")
}

fn head_of(run: &Run) -> Value {
    let Run { id, calls, created_at } = run;
    json!({"id": id.as_str(), "calls_total": calls, "created_at": rfc3339(*created_at)})
}

fn json_of(run: &Run, calls: &[Call]) -> Value {
    let mut states: BTreeMap<&str, u32> = BTreeMap::new();
    for call in calls {
        *states.entry(call.state.as_str()).or_default() += 1;
    }
    let mut shown = head_of(run);
    shown["states"] = json!(states);
    shown["calls"] = calls.iter().map(calls::json_of).collect();
    shown
}

fn unprocessable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

/// Calls of one run; more are several runs.
const CALLS_MAX: usize = 200;

/// Requests to the carrier at once. It takes one call a second from a new account, and says so.
const PLACED_AT_ONCE: usize = 4;

/// A callee is three short texts.
const BODY_BYTES_MAX: usize = 64 * 1024;

//! Compatible routes: `/api/...`, as web apps have them that come from a serverless host, so that
//! they move by changing one base URL. Thin adapters over v1; two more, which the carrier asks, are
//! beside its other hooks.
//!
//! Such apps send no credentials. So the routes are off until `CONTROL_COMPAT_ORIGIN` names their
//! pages; then having something made needs that `Origin`, and is bounded by rate, country and spend.
//! An `Origin` is not authentication, which the start says, too. What is looked at is found by its
//! id alone, which therefore cannot be guessed.
//!
//! Suggested reading order: `guard` (who may), `name` (ids that cannot be guessed), `wish` (what is
//! read leniently), `prompt` (an agent for a prompt), [`search`] (businesses).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::StatusCode;
use link::id::{CallId, RunId};
use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection};

use self::guard::{Maker, charge, making, visiting};
pub(crate) use self::guard::{is_path, on};
use self::name::Names;
use self::search::Search;
use self::wish::Callee;
use super::auth::Client;
use super::tickets::Watcher;
use super::{calls, done, events, numbers, runs, sessions, transcript};
use crate::access::origin::Origin;
use crate::admin;
use crate::clock;
use crate::dialer::rules::{self, Forbidden};
use crate::error::Problem;
use crate::events::{Record, Seq, rfc3339};
use crate::http::{body, queries};
use crate::plane::Plane;
use crate::sse::Watch;
use crate::store::call::Call;
use crate::store::{Store, StoreError};

mod guard;
mod name;

mod prompt;
mod wish;

pub mod search;

/// What the routes need that ask for no key.
#[derive(Debug)]
pub struct Compat {
    origins: Vec<Origin>,
    names: Names,
    search: Option<Search>,
}

impl Compat {
    /// Puts together who may ask, what signs ids, and who looks businesses up.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(
        store: &Store,
        origins: Vec<Origin>,
        search: Option<Search>,
    ) -> Result<Self, StoreError> {
        Ok(Self { origins, names: Names::load(store).await?, search })
    }

    /// Whether a page of this origin may use the routes.
    #[must_use]
    pub fn is_open_to(&self, origin: &str) -> bool {
        self.origins.iter().map(Origin::as_str).any(|known| known == origin)
    }
}

/// The routes, but for the carrier's.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let start = warp::path!("api" / "start-calls")
        .and(on(plane))
        .and(warp::post())
        .and(making(plane))
        .and(body(BODY_BYTES_MAX))
        .and_then(|maker: Maker, body: Bytes| async move {
            done(start_calls(&maker.client, &body).await)
        });
    let session = warp::path!("api" / "start-session")
        .and(on(plane))
        .and(warp::post())
        .and(making(plane))
        .and(body(BODY_BYTES_MAX))
        .and_then(
            |maker: Maker, body: Bytes| async move { done(start_session(maker, &body).await) },
        );
    let search = warp::path!("api" / "search")
        .and(on(plane))
        .and(warp::get())
        .and(searching(plane))
        .and(queries())
        .and_then(
            |client: Client, queries| async move { done(search_for(&client, &queries).await) },
        );
    start.or(session).unify().or(search).unify().or(looking(plane)).unify().boxed()
}

/// The routes at which something is looked at, and nothing is made.
fn looking(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let call = warp::path!("api" / "calls" / String)
        .and(on(plane))
        .and(warp::get())
        .and(visiting(plane))
        .and_then(|id: String, client: Client| async move { done(show_call(&client, &id).await) });
    let events = warp::path!("api" / "events")
        .and(on(plane))
        .and(warp::get())
        .and(visiting(plane))
        .and(warp::header::optional::<String>("last-event-id"))
        .and(queries())
        .and_then(|client: Client, last: Option<String>, queries| async move {
            Ok::<_, Rejection>(watch_run(client, last.as_deref(), &queries).await?)
        });
    let health = warp::path!("api" / "health")
        .and(on(plane))
        .and(warp::get())
        .and(visiting(plane))
        .and_then(|client: Client| async move { done(Ok(health(&client.plane).await)) });
    call.or(events).unify().or(health).unify().boxed()
}

/// Lets requests pass that want something looked up. It costs the operator money, so it is guarded
/// as if something was made; that nobody can look anything up is said before.
fn searching(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Client,), Error = Rejection> + Clone + use<> {
    let is_there = crate::http::with(plane).and_then(|plane: Arc<Plane>| async move {
        plane.compat.search().map(drop).map_err(Rejection::from)
    });
    is_there.untuple_one().and(making(plane)).map(|maker: Maker| maker.client)
}

/// `POST /api/start-calls`. Everything is checked before an agent is made and anybody called.
async fn start_calls(client: &Client, body: &[u8]) -> Result<(StatusCode, Value), Problem> {
    let callees = wish::read(body)?;
    let Client { plane, tenant, .. } = client;
    // The request was counted as one.
    charge(plane, callees.len().saturating_sub(1))?;
    let (from, now) = (numbers::caller(client, None).await?, clock::wall());
    rules::check_spend(plane, tenant, now).await?.map_err(Forbidden::problem)?;
    for Callee { to, .. } in &callees {
        let callee = rules::Callee { tenant, to, from: &from, hours: None };
        rules::check(plane, callee, now).await?.map_err(Forbidden::problem)?;
    }
    let mut wanted = Vec::with_capacity(callees.len());
    for Callee { to, prompt, .. } in &callees {
        let agent = prompt::agent(client, prompt.as_deref()).await?;
        let agent = agent.as_ref().map(link::id::AgentName::as_str);
        wanted.push(json!({"to": to.as_str(), "agent": agent}));
    }
    let wish = json!({"calls": wanted}).to_string();
    let run = runs::place(client, wish.as_bytes(), None).await?.body;
    Ok((StatusCode::CREATED, run_of(plane, &run, &callees)?))
}

/// A run as these routes show it, of how v1 shows it.
fn run_of(plane: &Plane, run: &Value, callees: &[Callee]) -> Result<Value, Problem> {
    let names = &plane.compat.names;
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let id = RunId::new(text(run, "id")).map_err(|_| runs::no_run())?;
    let mut calls = Vec::new();
    for call in run["calls"].as_array().into_iter().flatten() {
        let (id, to) = (text(call, "id"), text(call, "to"));
        let id = CallId::new(id).map_err(|_| Problem::no_call())?;
        let callee = callees.iter().find(|callee| callee.to.as_str() == to);
        calls.push(json!({
            "callId": names.of_call(&id),
            "to": to,
            "name": callee.and_then(|callee| callee.name.as_deref()),
            "status": call["state"],
        }));
    }
    let ids: Vec<_> = calls.iter().map(|call| call["callId"].clone()).collect();
    Ok(json!({"runId": names.of_run(&id), "callIds": ids, "calls": calls}))
}

/// `POST /api/start-session`: a session for the page that asks, bound to its origin.
async fn start_session(maker: Maker, body: &[u8]) -> Result<(StatusCode, Value), Problem> {
    let Maker { client, origin } = maker;
    let prompt = wish::read_prompt(body)?;
    let Client { plane, tenant, .. } = &client;
    rules::check_spend(plane, tenant, clock::wall()).await?.map_err(Forbidden::problem)?;
    let agent = prompt::agent(&client, prompt.as_deref()).await?;
    let session = sessions::begin(&client, agent.as_ref(), Some(origin), None).await?;
    let id = session["id"].as_str().unwrap_or_default();
    let id = CallId::new(id).map_err(|_| Problem::no_call())?;
    // In the first message and not in the address: addresses are logged on their way.
    let start = json!({"type": "start", "token": session["token"]}).to_string();
    let shown = json!({
        "sessionId": plane.compat.names.of_call(&id),
        "wsUrl": session["ws_url"],
        "startMessage": start,
        "token": session["token"],
        "expiresAt": session["expires_at"],
        "howTo": HOW_TO,
    });
    Ok((StatusCode::CREATED, shown))
}

/// `GET /api/calls/{callId}`; of a session, too.
async fn show_call(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let Client { plane, tenant, .. } = client;
    let id = plane.compat.names.call(id).ok_or_else(no_call)?;
    let call = plane.store.call(tenant, &id).await?.ok_or_else(no_call)?;
    let turns = transcript::turns(client, &id).await?.turns;
    Ok((StatusCode::OK, call_of(plane, &call, &turns)))
}

/// A call as these routes show it.
fn call_of(plane: &Plane, call: &Call, turns: &[Value]) -> Value {
    let (shown, names) = (calls::json_of(call), &plane.compat.names);
    let turn = |turn: &Value| json!({"role": turn["role"], "text": turn["text"], "at": turn["at"]});
    json!({
        "callId": names.of_call(&call.id),
        "runId": call.run.as_ref().map(|run| names.of_run(run)),
        "status": shown["state"],
        "direction": shown["direction"],
        "from": shown["from"],
        "to": shown["to"],
        "answeredBy": shown["answered_by"],
        "createdAt": rfc3339(call.created_at),
        "answeredAt": shown["answered_at"],
        "endedAt": shown["ended_at"],
        "endReason": shown["end_reason"],
        "transcript": turns.iter().map(turn).collect::<Vec<_>>(),
    })
}

/// `GET /api/events?runId=`: what happens in a run's calls, from its beginning, as `/v1/events`
/// tells it, with calls by the ids that these routes give.
async fn watch_run(
    client: Client,
    last: Option<&str>,
    queries: &BTreeMap<String, String>,
) -> Result<Response, Problem> {
    let Client { plane, tenant, .. } = client;
    let run = queries.get("runId").ok_or_else(|| {
        let detail = "Say in `runId` which run: what POST /api/start-calls answered.";
        Problem::new(StatusCode::BAD_REQUEST, "run_id_missing", detail)
    })?;
    let run = plane.compat.names.run(run).ok_or_else(no_run)?;
    plane.store.run(&tenant, &run).await?.ok_or_else(no_run)?;
    // A page opens the stream when the calls are under way already.
    let after = events::place(last, queries)?.unwrap_or(Seq(0));
    let watch = Watch {
        tenant: tenant.clone(),
        after: Some(after),
        call: None,
        run: Some(run),
        ephemeral: false,
    };
    let until = tokio::time::sleep(WATCHED_WITHIN).boxed();
    let watcher = Watcher { plane: Arc::clone(&plane), tenant, only: None, until };
    Ok(events::reply(watcher, watch, move |record| renamed(&plane, record)))
}

/// A record whose call has the id that these routes give.
fn renamed(plane: &Plane, record: Arc<Record>) -> Arc<Record> {
    // The longest id has room for what is put behind it.
    let call = record.call.as_ref().map(|id| CallId::new(plane.compat.names.of_call(id)));
    match call {
        Some(Ok(call)) => Arc::new(Record { call: Some(call), ..(*record).clone() }),
        Some(Err(_)) | None => record,
    }
}

/// `GET /api/health`: what is known, and nothing that helps a stranger.
async fn health(plane: &Plane) -> (StatusCode, Value) {
    let why = admin::why_unready(plane).await;
    let nodes = plane.nodes.list();
    let takes_calls = nodes.iter().any(|node| node.free > 0);
    let (status, word) = match (why, takes_calls) {
        (Some(why), _) => (StatusCode::SERVICE_UNAVAILABLE, why),
        (None, true) => (StatusCode::OK, "ok"),
        // A restart would not bring relays, so this is no failure of ours.
        (None, false) => (StatusCode::OK, "no relay is ready"),
    };
    (status, json!({"status": word, "takesCalls": why.is_none() && takes_calls}))
}

/// `GET /api/search?query=&location=`.
async fn search_for(
    client: &Client,
    queries: &BTreeMap<String, String>,
) -> Result<(StatusCode, Value), Problem> {
    let results = client.plane.compat.search()?.find(&search::words(queries)?).await?;
    Ok((StatusCode::OK, json!({"results": results})))
}

impl Compat {
    /// Who looks businesses up.
    fn search(&self) -> Result<&Search, Problem> {
        self.search.as_ref().ok_or_else(search::off)
    }
}

/// There is no such call, or its id is not whole.
fn no_call() -> Problem {
    let detail = "There is no such call. Its id is the whole `callId` of POST /api/start-calls, or \
        the `sessionId` of POST /api/start-session; ids of /v1 are others.";
    Problem::new(StatusCode::NOT_FOUND, "call_not_found", detail)
}

/// There is no such run, or its id is not whole.
fn no_run() -> Problem {
    let detail = "There is no such run. Its id is the whole `runId` of POST /api/start-calls; ids \
        of /v1 are others.";
    Problem::new(StatusCode::NOT_FOUND, "run_not_found", detail)
}

/// What a page does with a session.
const HOW_TO: &str = "Open `wsUrl` from the page that asked, and send `startMessage` as the first \
    text message within five seconds; docs/browser.md says what follows.";

/// Callees are short, a prompt is at most 32 KiB, and JSON may write a character as six.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// A page that is left open comes back by itself, and nobody's stays for ever.
const WATCHED_WITHIN: Duration = Duration::from_secs(3_600);

//! Agents: who answers calls. Those that are made here are stored, version by version; those of the
//! agent file are shown beside them and changed there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::agent::AgentSpec;
use link::id::AgentName;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::once::{self, Next, Request};
use super::spec::{self, Owner};
use super::version::{Shown, expected, if_match, required, shown, stale};
use super::{done, gone, learn};
use crate::clock;
use crate::directory::no_key;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::{body, queries};
use crate::plane::Plane;
use crate::store::agents::{Agent, Changed, Expected};
use crate::store::idempotency::Once;

/// `/v1/agents`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let all = warp::path!("v1" / "agents");
    let one = warp::path!("v1" / "agents" / String);
    let create = all
        .and(warp::post())
        .and(keyed(plane))
        .and(once::key())
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, key: Option<String>, body: Bytes| async move {
            shown(create(&client, key.as_deref(), &body).await)
        });
    let list = all
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(list(&client).await) });
    let show = one.and(warp::get()).and(keyed(plane)).and(queries()).and_then(
        |name: String, client: Client, queries| async move {
            shown(show(&client, &name, &queries).await)
        },
    );
    let update =
        one.and(warp::put()).and(keyed(plane)).and(if_match()).and(body(BODY_BYTES_MAX)).and_then(
            |name: String, client: Client, version: Option<String>, body: Bytes| async move {
                shown(update(&client, &name, version.as_deref(), &body).await)
            },
        );
    let delete = one.and(warp::delete()).and(keyed(plane)).and(if_match()).and_then(
        |name: String, client: Client, version: Option<String>| async move {
            gone(delete(&client, &name, version.as_deref()).await)
        },
    );
    create.or(list).unify().or(show).unify().or(update).unify().or(delete).unify().boxed()
}

/// `POST /v1/agents`.
async fn create(client: &Client, key: Option<&str>, body: &[u8]) -> Result<Shown, Problem> {
    match once::begin(client, &Request { key, what: "agents", body }).await? {
        Next::Say(shown) => Ok(shown),
        Next::Do(once) => {
            let made = make(client, body, once.as_ref()).await;
            once::end(client, once, made).await
        }
    }
}

pub(super) async fn make(
    client: &Client,
    body: &[u8],
    once: Option<&Once>,
) -> Result<Shown, Problem> {
    let spec = spec::read(body, &Owner { tenant: &client.tenant, name: None })?.spec;
    may_change(client, &spec.name)?;
    has_key(client, &spec).await?;
    let store = &client.plane.store;
    let made = store.create_agent(spec, once, &client.key, clock::wall()).await?;
    saved(client, made, StatusCode::CREATED).await
}

/// `GET /v1/agents`: the newest version of each, by name.
async fn list(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let stored = client.plane.store.agents(&client.tenant).await?;
    let stored = stored.into_iter().map(|agent| (agent.spec.name.clone(), of_store(&agent)));
    let mut agents: BTreeMap<AgentName, Value> = stored.collect();
    // An agent of the file hides one of the database, as it does for calls.
    for spec in client.plane.directory.seeds(&client.tenant) {
        agents.insert(spec.name.clone(), of_file(&spec));
    }
    let agents: Vec<Value> = agents.into_values().collect();
    Ok((StatusCode::OK, json!({"agents": agents})))
}

/// `GET /v1/agents/{name}`, the newest version or `?version=`.
async fn show(
    client: &Client,
    name: &str,
    queries: &BTreeMap<String, String>,
) -> Result<Shown, Problem> {
    let name = AgentName::new(name).map_err(|_| no_agent())?;
    let version = queries.get("version").map(|text| text.parse::<u32>()).transpose();
    let version = version.map_err(|_| {
        let detail = "`version` is the number of an agent's version, from 1.";
        Problem::new(StatusCode::BAD_REQUEST, "version_malformed", detail)
    })?;
    let seeds = client.plane.directory.seed_versions(&client.tenant, &name);
    let is_wanted = |spec: &&Arc<AgentSpec>| version.is_none_or(|v| v == spec.version);
    // A version that the file does not have may still be one of the database.
    if let Some(spec) = seeds.iter().rev().find(is_wanted) {
        let body = of_file(spec);
        return Ok(Shown::new(StatusCode::OK, body, Some(spec.version)));
    }
    let agent = client.plane.store.agent(&client.tenant, &name, version).await?;
    let agent = agent.ok_or_else(no_agent)?;
    Ok(Shown::new(StatusCode::OK, of_store(&agent), Some(agent.spec.version)))
}

/// `PUT /v1/agents/{name}`: another version. Calls that go on keep theirs.
async fn update(
    client: &Client,
    name: &str,
    version: Option<&str>,
    body: &[u8],
) -> Result<Shown, Problem> {
    let name = AgentName::new(name).map_err(|_| no_agent())?;
    may_change(client, &name)?;
    let store = &client.plane.store;
    // Before anything is said about the body: a foreign agent is not there, whatever is sent.
    let earlier = store.agent(&client.tenant, &name, None).await?.ok_or_else(no_agent)?;
    let expected = required(version)?;
    let written = spec::read(body, &Owner { tenant: &client.tenant, name: Some(&name) })?;
    let spec = written.with_keys_of(&earlier.spec);
    has_key(client, &spec).await?;
    // What the keys were taken from must be what is replaced.
    let current = Expected::Version(earlier.spec.version);
    let expected = if expected == Expected::Any { current } else { expected };
    let changed = store.update_agent(spec, expected, &client.key, clock::wall()).await?;
    saved(client, changed, StatusCode::OK).await
}

/// `DELETE /v1/agents/{name}`. Calls that it has answered go on.
async fn delete(client: &Client, name: &str, version: Option<&str>) -> Result<(), Problem> {
    let name = AgentName::new(name).map_err(|_| no_agent())?;
    may_change(client, &name)?;
    let expected = expected(version)?.unwrap_or(Expected::Any);
    let store = &client.plane.store;
    let (tenant, key, now) = (&client.tenant, &client.key, clock::wall());
    let deleted = store.delete_agent(tenant, &name, expected, key, now).await?;
    match deleted {
        Changed::Done(()) => {
            learn(&client.plane).await;
            Ok(())
        }
        Changed::Stale(version) => Err(stale(version)),
        Changed::InUse => {
            let detail = "A number of /v1/numbers names this agent; give the number another one \
                first.";
            Err(Problem::new(StatusCode::CONFLICT, "agent_in_use", detail))
        }
        Changed::Absent | Changed::Exists | Changed::TooMany => Err(no_agent()),
    }
}

async fn saved(
    client: &Client,
    changed: Changed<Agent>,
    status: StatusCode,
) -> Result<Shown, Problem> {
    match changed {
        Changed::Done(agent) => {
            learn(&client.plane).await;
            Ok(Shown::new(status, of_store(&agent), Some(agent.spec.version)))
        }
        Changed::Exists => {
            let detail = "There is an agent of this name; PUT /v1/agents/{name} changes it.";
            Err(Problem::new(StatusCode::CONFLICT, "agent_exists", detail))
        }
        Changed::TooMany => {
            let detail = "There are 200 agents; delete one that is not needed.";
            Err(Problem::new(StatusCode::CONFLICT, "agents_too_many", detail))
        }
        Changed::Stale(version) => Err(stale(version)),
        Changed::Absent | Changed::InUse => Err(no_agent()),
    }
}

fn may_change(client: &Client, name: &AgentName) -> Result<(), Problem> {
    if !client.plane.directory.is_seed(&client.tenant, name) {
        return Ok(());
    }
    let detail = "This agent stands in CONTROL_AGENT_FILE, where the operator changes it. Make one \
        of another name.";
    Err(Problem::new(StatusCode::CONFLICT, "agent_read_only", detail))
}

async fn has_key(client: &Client, spec: &AgentSpec) -> Result<(), Problem> {
    let Plane { directory, store, .. } = &*client.plane;
    if directory.has_key(store, spec).await? { Ok(()) } else { Err(no_key(spec)) }
}

fn no_agent() -> Problem {
    let detail =
        "There is no such agent, or no such version. GET /v1/agents lists those there are.";
    Problem::new(StatusCode::NOT_FOUND, "agent_not_found", detail)
}

fn of_store(agent: &Agent) -> Value {
    let mut shown = spec::shown(&agent.spec);
    shown["source"] = "api".into();
    shown["created_at"] = rfc3339(agent.created_at).into();
    shown["updated_at"] = rfc3339(agent.updated_at).into();
    shown
}

fn of_file(spec: &AgentSpec) -> Value {
    let mut shown = spec::shown(spec);
    shown["source"] = "file".into();
    shown["created_at"] = Value::Null;
    shown["updated_at"] = Value::Null;
    shown
}

/// A spec of 62 KiB, with room for spaces and escapes.
const BODY_BYTES_MAX: usize = 256 * 1024;

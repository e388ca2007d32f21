//! Nodes: the relays of the installation, for whoever runs it. How each is doing, how many calls it
//! gets against others, and why it takes new ones or none.
//!
//! That a node is drained only the node itself knows: it is told so over the link, and tells every
//! control that it takes no calls; its calls move to others ([`crate::fleet::mover`]). It forgets it
//! when its process ends. Weights are stored, and so is which nodes are not let in any more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use link::id::{NodeId, WallTime};
use link::message::DRAIN_SINCE;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::{canary, done, read_body};
use crate::clock;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::fleet::nodes::NodeState;
use crate::fleet::orders::{Intake, Order};
use crate::fleet::placement::{Weight, Why};
use crate::fleet::standing::Standing;
use crate::fleet::vital::Suspicion;
use crate::http::body;
use crate::plane::Plane;
use crate::sequencer::LeaseState;
use crate::store::Admission;

/// `/v1/nodes`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let list = warp::path!("v1" / "nodes")
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(list(&client)) });
    let show = warp::path!("v1" / "nodes" / String)
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|node: String, client: Client| async move { done(show(&client, &node)) });
    let drained = warp::path!("v1" / "nodes" / String / "drain");
    let drain =
        drained.and(warp::post()).and(keyed(plane)).and_then(
            |node: String, client: Client| async move {
                done(tell(&client, &node, Intake::Drained).await)
            },
        );
    let undrain = drained.and(warp::delete()).and(keyed(plane)).and_then(
        |node: String, client: Client| async move { done(tell(&client, &node, Intake::Open).await) },
    );
    let weigh = warp::path!("v1" / "nodes" / String / "weight")
        .and(warp::put())
        .and(keyed(plane))
        .and(body(BODY_BYTES_MAX))
        .and_then(|node: String, client: Client, body: Bytes| async move {
            done(weigh(&client, &node, &body).await)
        });
    let certificate = warp::path!("v1" / "nodes" / String / "certificate");
    let revoke = certificate.and(warp::delete()).and(keyed(plane)).and_then(
        |node: String, client: Client| async move {
            done(admit(&client, &node, Admission::Revoked).await)
        },
    );
    let readmit = certificate.and(warp::post()).and(keyed(plane)).and_then(
        |node: String, client: Client| async move {
            done(admit(&client, &node, Admission::Admitted).await)
        },
    );
    let drains = drain.or(undrain).unify();
    let certificates = revoke.or(readmit).unify();
    list.or(show).unify().or(drains).unify().or(weigh).unify().or(certificates).unify().boxed()
}

/// `GET /v1/nodes`, by name. From memory: those whose link to this control is up.
fn list(client: &Client) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let now = clock::wall();
    let nodes = &client.plane.nodes;
    let mut shown = canary::json_of(&nodes.trial(), &nodes.fares());
    shown["nodes"] = nodes.list().iter().map(|node| json_of(&client.plane, node, now)).collect();
    Ok((StatusCode::OK, shown))
}

/// `GET /v1/nodes/{node}`.
fn show(client: &Client, node: &str) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let node = named(client, node)?;
    Ok((StatusCode::OK, json_of(&client.plane, &node, clock::wall())))
}

/// `POST` and `DELETE /v1/nodes/{node}/drain`. Answers when the node says that it does so, or after a
/// moment that it was told.
async fn tell(client: &Client, node: &str, intake: Intake) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let state = named(client, node)?;
    if state.version.minor < DRAIN_SINCE {
        let detail = "This relay is of a release that cannot be drained over the API. Stop it with \
            SIGTERM, which lets its calls end, and run a newer one.";
        return Err(Problem::new(StatusCode::CONFLICT, "node_too_old", detail));
    }
    let (plane, node) = (&client.plane, &state.node);
    // First: nothing is done that stands nowhere.
    plane.store.note_intake(&client.tenant, (node, intake), &client.key, clock::wall()).await?;
    plane.nodes.send(node, Order::Intake(intake)).map_err(|error| {
        let detail = format!("Nothing was done: {error}. Try again in a moment.");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "node_unreachable", detail).again_after(1)
    })?;
    let obeys = plane.nodes.obeys(node, intake, OBEYS_WITHIN).await;
    tracing::info!(%node, ?intake, obeys, "a node is told whether to take new calls");
    let status = if obeys { StatusCode::OK } else { StatusCode::ACCEPTED };
    let state = plane.nodes.state(node).unwrap_or(state);
    Ok((status, json_of(plane, &state, clock::wall())))
}

/// The body of `PUT /v1/nodes/{node}/weight`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    weight: i64,
}

/// `PUT /v1/nodes/{node}/weight`. It holds here at once, and at other controls within five seconds.
async fn weigh(client: &Client, node: &str, body: &[u8]) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let state = named(client, node)?;
    let Wanted { weight } = read_body(body)?;
    let weight = u8::try_from(weight).ok().and_then(Weight::new).ok_or_else(|| {
        let detail = "`weight` is not 0 (no new calls) to 100 (as many as others of 100).";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "weight_malformed", detail)
    })?;
    let Plane { store, nodes, .. } = &*client.plane;
    let (node, now) = (&state.node, clock::wall());
    store.set_node_weight(&client.tenant, (node, weight), &client.key, now).await?;
    // It stands in the store; that it holds here at once is a courtesy.
    if let Err(error) = nodes.weigh(store).await {
        tracing::warn!(error = error.explain(), "a weight is known later");
    }
    let state = NodeState { weight, ..nodes.state(node).unwrap_or(state) };
    Ok((StatusCode::OK, json_of(&client.plane, &state, now)))
}

/// `DELETE` and `POST /v1/nodes/{node}/certificate`. Also of a node that is not linked: a stolen one
/// may be away. It holds here at once, and at other controls within five seconds.
async fn admit(
    client: &Client,
    node: &str,
    admission: Admission,
) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let node = NodeId::new(node).map_err(|_| no_node())?;
    let Plane { store, nodes, .. } = &*client.plane;
    let now = clock::wall();
    store.set_admission(&client.tenant, (&node, admission), &client.key, now).await?;
    // It stands in the store; that it holds here at once is a courtesy.
    if let Err(error) = nodes.weigh(store).await {
        tracing::warn!(error = error.explain(), "a node is cut later");
    }
    let is_revoked = admission == Admission::Revoked;
    Ok((StatusCode::OK, json!({"id": node.as_str(), "revoked": is_revoked})))
}

fn named(client: &Client, node: &str) -> Result<NodeState, Problem> {
    let state = NodeId::new(node).ok().and_then(|node| client.plane.nodes.state(&node));
    state.ok_or_else(no_node)
}

fn no_node() -> Problem {
    let detail = "No node of this name is linked to this control. GET /v1/nodes lists those that \
        are.";
    Problem::new(StatusCode::NOT_FOUND, "node_not_found", detail)
}

/// A node as the API shows it.
fn json_of(plane: &Plane, node: &NodeState, now: WallTime) -> Value {
    let load = node.load;
    let late_us = load.and_then(|load| load.late_us);
    // A timer that is later than a minute is late enough.
    let late_ms = late_us.map(|us| f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0);
    let state = match node.suspicion {
        Some(_) => Standing::Suspect,
        None => Standing::of(load, now.0 - node.heard_at.0),
    };
    json!({
        "id": node.node.as_str(),
        "state": state.as_str(),
        "suspicion": node.suspicion.map(Suspicion::as_str),
        "clock_ahead_ms": node.ahead_us.map(|us| us / 1_000),
        "version": node.software,
        "region": node.region,
        "calls": load.map(|load| load.calls),
        "calls_max": load.map(|load| load.calls_max),
        "late_ms": late_ms,
        "weight": node.weight.get(),
        "reserved": node.reserved,
        "placement": {"takes_calls": node.why == Why::Free, "why": node.why.words()},
        "drain": drain_of(plane, node),
        "connected_at": rfc3339(node.joined_at),
        "heard_at": load.map(|_| rfc3339(node.heard_at)),
    })
}

/// How far a node's drain is; null for one that does not drain. What has become of its calls only the
/// instance knows that moves them.
fn drain_of(plane: &Plane, node: &NodeState) -> Value {
    let Some(progress) = plane.moves.progress(&node.node) else { return Value::Null };
    let moves_calls = *plane.sequencer.state().borrow() == LeaseState::Held;
    let known = |many: u32| moves_calls.then_some(many);
    json!({
        "began_at": rfc3339(progress.began_at),
        "deadline_at": rfc3339(progress.deadline_at),
        "calls_left": node.load.map(|load| load.calls),
        "moving": known(progress.moving),
        "moved": known(progress.moved),
        "forced": known(progress.forced),
    })
}

/// How long the one who asks waits for the node's word. It comes within a trip over the link and 20 ms.
const OBEYS_WITHIN: Duration = Duration::from_secs(2);

const BODY_BYTES_MAX: usize = 1024;

//! Nodes: the relays of the installation, for whoever runs it. How each is doing, how many calls it
//! gets against others, and whether it takes new ones.
//!
//! That a node is drained only the node itself knows: it is told so over the link, and tells every
//! control that it takes no calls. It forgets it when its process ends. Weights are stored.

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
use super::{done, read_body};
use crate::clock;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::fleet::nodes::NodeState;
use crate::fleet::orders::{Intake, Order};
use crate::fleet::placement::Weight;
use crate::fleet::standing::Standing;
use crate::http::body;
use crate::plane::Plane;

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
    list.or(show).unify().or(drain).unify().or(undrain).unify().or(weigh).unify().boxed()
}

/// `GET /v1/nodes`, by name. From memory: those whose link to this control is up.
fn list(client: &Client) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let now = clock::wall();
    let nodes = client.plane.nodes.list();
    let nodes: Vec<Value> = nodes.iter().map(|node| json_of(node, now)).collect();
    Ok((StatusCode::OK, json!({"nodes": nodes})))
}

/// `GET /v1/nodes/{node}`.
fn show(client: &Client, node: &str) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let node = named(client, node)?;
    Ok((StatusCode::OK, json_of(&node, clock::wall())))
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
    Ok((status, json_of(&state, clock::wall())))
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
    Ok((StatusCode::OK, json_of(&state, now)))
}

fn named(client: &Client, node: &str) -> Result<NodeState, Problem> {
    let state = NodeId::new(node).ok().and_then(|node| client.plane.nodes.state(&node));
    state.ok_or_else(|| {
        let detail = "No node of this name is linked to this control. GET /v1/nodes lists those \
            that are.";
        Problem::new(StatusCode::NOT_FOUND, "node_not_found", detail)
    })
}

/// A node as the API shows it.
fn json_of(node: &NodeState, now: WallTime) -> Value {
    let load = node.load;
    let late_us = load.and_then(|load| load.late_us);
    // A timer that is later than a minute is late enough.
    let late_ms = late_us.map(|us| f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0);
    json!({
        "id": node.node.as_str(),
        "state": Standing::of(load, now.0 - node.heard_at.0).as_str(),
        "version": node.software,
        "region": node.region,
        "calls": load.map(|load| load.calls),
        "calls_max": load.map(|load| load.calls_max),
        "late_ms": late_ms,
        "weight": node.weight.get(),
        "connected_at": rfc3339(node.joined_at),
        "heard_at": load.map(|_| rfc3339(node.heard_at)),
    })
}

/// How long the one who asks waits for the node's word. It comes within a trip over the link and 20 ms.
const OBEYS_WITHIN: Duration = Duration::from_secs(2);

const BODY_BYTES_MAX: usize = 1024;

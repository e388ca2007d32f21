//! The canary: one version or one node that gets a share of new calls, so that it can be watched.
//!
//! `PUT` names it or changes its share, `DELETE` lets weights alone decide again, and `GET
//! /v1/nodes` shows how streams fare on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::id::NodeId;
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
use crate::fleet::canary::{Canary, Percent, Side, Subject};
use crate::fleet::tally::Group;
use crate::fleet::trial::{Fare, Trial};
use crate::http::body;
use crate::plane::Plane;

/// `/v1/nodes/canary`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let canary = warp::path!("v1" / "nodes" / "canary");
    let set = canary
        .and(warp::put())
        .and(keyed(plane))
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, body: Bytes| async move { done(set(&client, &body).await) });
    let end = canary
        .and(warp::delete())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(end(&client).await) });
    set.or(end).unify().boxed()
}

/// The body of `PUT /v1/nodes/canary`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    version: Option<String>,
    node: Option<String>,
    percent: i64,
}

/// `PUT /v1/nodes/canary`. It holds here at once, and at other controls within five seconds.
async fn set(client: &Client, body: &[u8]) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    let canary = read(read_body(body)?)?;
    let Plane { store, .. } = &*client.plane;
    store.set_canary(&client.tenant, &canary, &client.key, clock::wall()).await?;
    let (subject, percent) = (canary.subject.name(), canary.percent.get());
    tracing::info!(kind = canary.subject.kind(), subject, percent, "a canary is set");
    shown(client).await
}

/// `DELETE /v1/nodes/canary`. Without one it changes nothing.
async fn end(client: &Client) -> Result<(StatusCode, Value), Problem> {
    client.must_be_of_operator()?;
    client.plane.store.end_canary(&client.tenant, &client.key, clock::wall()).await?;
    tracing::info!("no canary is set any more");
    shown(client).await
}

/// How it is behind a change.
async fn shown(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let Plane { store, nodes, .. } = &*client.plane;
    // Read back from where it stands, so that nothing is shown that does not hold here.
    nodes.weigh(store).await?;
    Ok((StatusCode::OK, json_of(&nodes.trial(), &nodes.fares())))
}

fn read(wanted: Wanted) -> Result<Canary, Problem> {
    let subject = match (wanted.version, wanted.node) {
        (Some(version), None) => Subject::version(&version),
        (None, Some(node)) => NodeId::new(node).ok().map(Subject::Node),
        (None, None) | (Some(_), Some(_)) => None,
    };
    let percent = u8::try_from(wanted.percent).ok().and_then(Percent::new);
    subject.zip(percent).map(|(subject, percent)| Canary { subject, percent }).ok_or_else(|| {
        let detail = "A canary is either a `version`, as GET /v1/nodes shows it, or a `node`, and \
            `percent` is 0 (no new calls) to 100 (all).";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "canary_malformed", detail)
    })
}

/// The trial as the API shows it.
pub(super) fn json_of(trial: &Trial, fares: &BTreeMap<Group, Fare>) -> Value {
    let canary = trial.canary.as_ref().map(|(canary, since)| {
        let (version, node) = match &canary.subject {
            Subject::Version(version) => (Some(version.as_str()), None),
            Subject::Node(node) => (None, Some(node.as_str())),
        };
        let percent = canary.percent.get();
        json!({"version": version, "node": node, "percent": percent, "since": rfc3339(*since)})
    });
    let versions: Vec<Value> =
        fares.iter().map(|(group, fare)| json_of_fare(group, fare)).collect();
    json!({"canary": canary, "versions": versions})
}

fn json_of_fare(Group { version, side }: &Group, fare: &Fare) -> Value {
    let counts = fare.counts;
    json!({
        "version": version,
        "canary": *side == Side::Canary,
        "nodes": fare.nodes,
        "calls": fare.calls,
        "placed": counts.placed,
        "failed": {
            "never_came": counts.never_came(),
            "agent": counts.agent_failed,
            "relay": counts.relay_failed,
            "lost": counts.lost(fare.calls),
        },
    })
}

const BODY_BYTES_MAX: usize = 1024;

//! Probes and metrics, on an address of their own.
//!
//! `/livez` says that the process turns: restart it when it does not. `/readyz` says whether it
//! should get traffic. Neither looks at relays: a control without relays answers the carrier, with
//! the busy tone, and a restart would not bring relays. `/health` is for people.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderValue};
use serde_json::{Value, json};
use tokio::time::timeout;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use crate::http::with;
use crate::plane::Plane;
use crate::sequencer::LeaseState;

/// `/livez`, `/readyz`, `/health` and `/metrics`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let live = warp::path!("livez").map(|| "alive\n".into_response());
    let ready = warp::path!("readyz").and(with(plane)).then(|plane: Arc<Plane>| async move {
        match why_unready(&plane).await {
            None => "ready\n".into_response(),
            Some(why) => status(format!("{why}\n"), StatusCode::SERVICE_UNAVAILABLE),
        }
    });
    let health = warp::path!("health").and(with(plane)).then(|plane: Arc<Plane>| async move {
        let why = why_unready(&plane).await;
        warp::reply::json(&health(&plane, why)).into_response()
    });
    let metrics = warp::path!("metrics").and(with(plane)).map(|plane: Arc<Plane>| {
        // Only a metric that is declared wrongly fails, which a test would show.
        let Ok(page) = plane.metrics.scrape() else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let mut response = page.into_response();
        let kind = HeaderValue::from_static(OPEN_METRICS);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    });
    let lost = warp::any().map(|| {
        let words = "Here are /livez, /readyz, /health and /metrics.\n";
        status(words.to_owned(), StatusCode::NOT_FOUND)
    });
    let any = live.or(ready).unify().or(health).unify().or(metrics).unify();
    warp::get().and(any).or(lost).unify().boxed()
}

/// Why the process should get no traffic at the moment.
///
/// The lease does not count: an instance without it serves requests as well as the holder.
pub(crate) async fn why_unready(plane: &Plane) -> Option<&'static str> {
    if plane.shutdown.is_cancelled() {
        return Some("stopping");
    }
    // Bounded, or a probe would hang as long as the database does and say nothing.
    match timeout(DATABASE_WITHIN, plane.store.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) | Err(_) => Some("the database does not answer"),
    }
}

/// The page for people. It is JSON, so that a script may look, too.
fn health(plane: &Plane, why: Option<&str>) -> Value {
    let lease = match *plane.sequencer.state().borrow() {
        LeaseState::Waiting => "waiting",
        LeaseState::Held => "held",
        LeaseState::Failing => "failing",
    };
    let nodes: Vec<Value> = plane
        .nodes
        .list()
        .into_iter()
        .map(|node| {
            json!({
                "node": node.node.as_str(),
                "software": node.software,
                "calls": node.load.map(|load| load.calls),
                "calls_max": node.load.map(|load| load.calls_max),
                "ready": node.free > 0,
            })
        })
        .collect();
    json!({
        "status": why.unwrap_or("ready"),
        "version": env!("CARGO_PKG_VERSION"),
        "lease": lease,
        "event_streams": plane.hub.clients(),
        "nodes": nodes,
    })
}

/// A line of text with a status.
fn status(words: String, status: StatusCode) -> Response {
    warp::reply::with_status(words, status).into_response()
}

/// A probe that waits longer says the same.
const DATABASE_WITHIN: Duration = Duration::from_secs(2);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

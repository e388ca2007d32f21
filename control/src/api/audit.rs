//! `GET /v1/audit`: who changed what, oldest first. Lines are added and never changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::done;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::queries;
use crate::plane::Plane;
use crate::store::AuditLine;

/// `/v1/audit`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "audit")
        .and(warp::get())
        .and(keyed(plane))
        .and(queries())
        .and_then(|client: Client, queries| async move { done(list(&client, &queries).await) })
        .boxed()
}

async fn list(
    client: &Client,
    queries: &BTreeMap<String, String>,
) -> Result<(StatusCode, Value), Problem> {
    let after = match queries.get("after").map(|text| text.parse()) {
        None => 0,
        Some(Ok(after @ 0..)) => after,
        Some(_) => {
            let detail = "`after` is the `next` of an earlier answer.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "cursor_malformed", detail));
        }
    };
    let lines = client.plane.store.audit(&client.tenant, after, LINES_SHOWN).await?;
    // A page that is not full is the last one for now; the same `next` asks for what follows.
    let next = lines.last().map_or(after, |line| line.id);
    let lines: Vec<Value> = lines.iter().map(json_of).collect();
    Ok((StatusCode::OK, json!({"lines": lines, "next": next.to_string()})))
}

fn json_of(line: &AuditLine) -> Value {
    // The text of a JSON object, by construction.
    let detail: Value = serde_json::from_str(&line.detail).unwrap_or_default();
    json!({
        "id": line.id.to_string(),
        "at": rfc3339(line.at),
        "actor": line.actor,
        "action": line.action,
        "subject": line.subject,
        "detail": detail,
    })
}

const LINES_SHOWN: u32 = 500;

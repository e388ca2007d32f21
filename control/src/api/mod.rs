//! What web applications use: JSON over HTTP, an API key on everything, problem documents when
//! something is refused. One file a resource.

use std::sync::Arc;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use crate::error::Problem;
use crate::plane::Plane;

pub mod auth;

pub mod agents;
pub mod numbers;
mod once;
mod spec;
mod version;

pub mod calls;
pub mod commands;
pub mod do_not_call;
pub mod sessions;

mod filter;
pub mod runs;
pub mod transcript;

pub mod events;
pub mod tickets;

pub mod canary;
pub mod nodes;

pub mod audit;
pub mod credentials;
pub mod keys;
pub mod tenant;
pub mod webhooks;

pub mod usage;

pub mod compat;

pub mod docs;
pub mod openapi;

/// Every resource.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    agents::routes(plane)
        .or(numbers::routes(plane))
        .unify()
        .or(calls::routes(plane))
        .unify()
        .or(runs::routes(plane))
        .unify()
        .or(commands::routes(plane))
        .unify()
        .or(sessions::routes(plane))
        .unify()
        .or(transcript::routes(plane))
        .unify()
        .or(do_not_call::routes(plane))
        .unify()
        .or(events::routes(plane))
        .unify()
        .or(tickets::routes(plane))
        .unify()
        // Before the keys: `providers` and `carrier` are no ids of keys.
        .or(credentials::routes(plane))
        .unify()
        .or(keys::routes(plane))
        .unify()
        .or(audit::routes(plane))
        .unify()
        .or(tenant::routes(plane))
        .unify()
        .or(webhooks::routes(plane))
        .unify()
        .or(usage::routes(plane))
        .unify()
        .or(compat::routes(plane))
        .unify()
        .or(canary::routes(plane))
        .unify()
        .or(nodes::routes(plane))
        .unify()
        .or(openapi::routes())
        .unify()
        .boxed()
}

/// An answer, or a problem on its way to the end of the routes.
fn done(answer: Result<(StatusCode, Value), Problem>) -> Result<Response, Rejection> {
    let (status, value) = answer?;
    Ok(warp::reply::with_status(warp::reply::json(&value), status).into_response())
}

/// Reads a JSON body. A refusal names the field and never what was written in it: that may be a
/// number or a secret.
fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let words = error.to_string();
        // serde quotes field names only in these two; everything else may quote a value.
        let names_a_field = ["unknown field `", "missing field `"];
        let what = if names_a_field.iter().any(|start| words.starts_with(start)) {
            let end = words.rfind(" at line").unwrap_or(words.len());
            format!("{} (line {line}, column {column}).", &words[..end])
        } else if error.is_data() {
            let field = field_before(body, line, column);
            let field = field.map_or_else(|| "it".to_owned(), |field| format!("`{field}`"));
            format!("{field} has a value of the wrong kind (line {line}, column {column}).")
        } else {
            format!("It is not JSON (line {line}, column {column}).")
        };
        let detail = format!("The body cannot be used: {what}");
        Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
    })
}

/// The name of the last field before a place in a JSON text.
fn field_before(body: &[u8], line: usize, column: usize) -> Option<&str> {
    let start: usize =
        body.split_inclusive(|byte| *byte == b'\n').take(line - 1).map(<[u8]>::len).sum();
    let before = body.get(..(start + column).min(body.len()))?;
    let before = std::str::from_utf8(before).ok()?;
    let (before, _) = before.rsplit_once("\":")?;
    let (_, name) = before.rsplit_once('"')?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (name.len() <= 64 && name.bytes().all(is_name)).then_some(name)
}

/// Nothing is left to show, or a problem on its way to the end of the routes.
fn gone(answer: Result<(), Problem>) -> Result<Response, Rejection> {
    answer?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A change of agents or numbers is made; that this instance and its relays know of it at once is a
/// courtesy.
async fn learn(plane: &Plane) {
    let Plane { directory, store, nodes, .. } = plane;
    if let Err(error) = directory.refresh(store, nodes).await {
        tracing::warn!(error = error.explain(), "a change of the directory is known later");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only reading is tested")]
    struct Wish {
        to: String,
        times: Option<u32>,
    }

    #[test]
    fn a_refused_body_names_the_field_and_repeats_nothing() {
        for (body, says) in [
            (r#"{"to": "+15550199", "form": "+15550100"}"#, "unknown field `form`"),
            (r#"{"times": 1}"#, "missing field `to`"),
            ("{\n\"to\": \"+15550199\",\n \"times\": \"+15550100\"}", "`times` has a value"),
            (r#"{"to": 15550199}"#, "`to` has a value"),
            (r#"{"to": "+15550199""#, "not JSON"),
            ("", "not JSON"),
            ("[]", "line 1"),
        ] {
            let problem = read_body::<Wish>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code, "body_malformed");
            assert!(problem.detail.contains(says), "{body}: {}", problem.detail);
            assert!(!problem.detail.contains("555"), "{}", problem.detail);
        }
        assert!(read_body::<Wish>(br#"{"to": "+15550199"}"#).is_ok());
    }
}

//! What web applications use: JSON over HTTP, an API key on everything, problem documents when
//! something is refused. One file a resource.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use crate::error::Problem;
use crate::plane::Plane;

pub mod auth;

pub mod calls;
pub mod commands;
pub mod transcript;

pub mod events;

/// Every resource.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    calls::routes(plane)
        .or(commands::routes(plane))
        .unify()
        .or(transcript::routes(plane))
        .unify()
        .or(events::routes(plane))
        .unify()
        .boxed()
}

/// An answer, or a problem on its way to the end of the routes.
fn done(answer: Result<(StatusCode, Value), Problem>) -> Result<Response, Rejection> {
    let (status, value) = answer?;
    Ok(warp::reply::with_status(warp::reply::json(&value), status).into_response())
}

//! What web applications use: JSON over HTTP, an API key on everything, problem documents when
//! something is refused. One file a resource.

use std::sync::Arc;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::plane::Plane;

pub mod auth;

pub mod calls;
pub mod events;

/// Every resource.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    calls::routes(plane).or(events::routes(plane)).unify().boxed()
}

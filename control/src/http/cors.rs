//! Which web pages may ask: exact origins, as each tenant lists them, with credentials.
//!
//! A browser asks beforehand (OPTIONS) without saying for whom, so that question is answered for
//! the origins of all tenants; the request itself is held against those of its own tenant
//! ([`crate::api::auth`]). Whoever is no browser says no origin and is asked for none.
//!
//! The compatible routes have a list of their own ([`crate::api::compat`]), and no credentials.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use warp::reply::Response;

use crate::api::compat;
use crate::error::Problem;
use crate::plane::Plane;

/// Answers a browser's OPTIONS for a path; `None` when it does not ask whether its page may ask.
#[must_use]
pub fn preflight(plane: &Plane, path: &str, headers: &HeaderMap) -> Option<Response> {
    let origin = headers.get(header::ORIGIN)?;
    headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    if !is_known(plane, path, origin) {
        let is_compat = compat::is_path(path);
        let problem = if is_compat { plane.compat.refusal() } else { refused() };
        return Some(problem.response());
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, AGE_SECONDS),
    ];
    for (name, value) in answers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Tells the browser that its page may see the answer of a path, if it may.
pub fn mark(plane: &Plane, path: &str, origin: Option<&HeaderValue>, response: &mut Response) {
    let headers = response.headers_mut();
    // Also without an origin: a cache must not hand this answer to a page.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let Some(origin) = origin.filter(|origin| is_known(plane, path, origin)) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if !compat::is_path(path) {
        let yes = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    let shown = HeaderValue::from_static(EXPOSED);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
}

/// The refusal of a page, with what to do about it.
#[must_use]
pub fn refused() -> Problem {
    let detail = "This page's origin is not one of the tenant's. Add it, exactly as the browser \
        says it: PATCH /v1/tenant {\"origins\": [...]}, or `control tenant set`.";
    Problem::new(StatusCode::FORBIDDEN, "origin_refused", detail)
}

/// Whether the origin is our own or some tenant's; for a compatible route, one of its list.
fn is_known(plane: &Plane, path: &str, origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    if compat::is_path(path) {
        return plane.compat.is_open_to(origin);
    }
    origin == plane.public.as_str() || plane.tenants.is_known(origin)
}

const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
const HEADERS: &str = "authorization, content-type, idempotency-key, if-match, last-event-id";
const EXPOSED: &str = "etag, location, retry-after";

/// As long as a browser remembers an answer; a removed origin is refused by the request itself.
const AGE_SECONDS: &str = "600";

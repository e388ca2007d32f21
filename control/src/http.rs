//! One route table, and the pieces that routes are made of.
//!
//! Who accepts connections and how long they may take is in [`serve`]; what a refusal looks like
//! in [`crate::error`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use tokio::time::timeout;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reject::{self, MethodNotAllowed};
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use crate::error::Problem;
use crate::metrics::Route;
use crate::plane::Plane;
use crate::{api, twilio};

pub mod cors;
pub mod patience;
pub mod serve;

/// Everything that the public may ask, each question answered and counted.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let (counting, marking) = (Arc::clone(plane), Arc::clone(plane));
    let origin = warp::header::value("origin").map(Some).or(warp::any().map(|| None)).unify();
    let elsewhere = warp::path::full()
        .and_then(|path: FullPath| async move { Err::<Response, _>(elsewhere(&path)) });
    let answered = preflight(plane)
        .or(twilio::routes(plane))
        .unify()
        .or(api::routes(plane))
        .unify()
        .or(elsewhere)
        .unify()
        .recover(refuse)
        .unify()
        .with(warp::log::custom(move |info| {
            counting.metrics.request(Route::of(info.path()), info.status(), info.elapsed());
        }))
        .map(Reply::into_response);
    warp::path::full()
        .and(origin)
        .and(answered)
        .map(move |path: FullPath, origin: Option<HeaderValue>, mut response: Response| {
            cors::mark(&marking, path.as_str(), origin.as_ref(), &mut response);
            response
        })
        .boxed()
}

/// A browser's question whether its page may ask; everything else goes on to the other routes.
fn preflight(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    // Not warp's own filter for the method: every other request would count as a wrong one.
    let asks = warp::method().and_then(|method: Method| async move {
        if method == Method::OPTIONS { Ok(()) } else { Err(reject::not_found()) }
    });
    asks.untuple_one()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(with(plane))
        .and_then(|path: FullPath, headers: HeaderMap, plane: Arc<Plane>| async move {
            cors::preflight(&plane, path.as_str(), &headers).ok_or_else(reject::not_found)
        })
        .boxed()
}

/// Hands what every request needs to a route.
pub fn with(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Arc<Plane>,), Error = Infallible> + Clone + use<> {
    let plane = Arc::clone(plane);
    warp::any().map(move || Arc::clone(&plane))
}

/// The whole body, at most so many bytes, read within its time.
pub fn body(bytes_max: usize) -> impl Filter<Extract = (Bytes,), Error = Rejection> + Clone {
    // Not warp's own limit: that one refuses bodies without a length.
    let length = warp::header::optional::<u64>("content-length");
    length.and(warp::body::stream()).and_then(move |length: Option<u64>, body| async move {
        // What is announced as too long is not even begun.
        if length.is_some_and(|length| length > bytes_max as u64) {
            return Err(Rejection::from(too_long(bytes_max)));
        }
        Ok(collect(body, bytes_max).await?)
    })
}

/// The values of the address, decoded; of several with one name the last.
pub fn queries() -> impl Filter<Extract = (BTreeMap<String, String>,), Error = Infallible> + Clone {
    let raw = warp::query::raw().or(warp::any().map(String::new)).unify();
    raw.map(|raw: String| form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
}

async fn collect<B: bytes::Buf>(
    body: impl Stream<Item = Result<B, warp::Error>>,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let whole = timeout(BODY_WITHIN, pieces(body, bytes_max)).await;
    whole.unwrap_or_else(|_| {
        let detail = "The body did not arrive within ten seconds.";
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_slow", detail))
    })
}

/// Puts a body's pieces together, and stops at the first one too many.
async fn pieces<B: bytes::Buf>(
    body: impl Stream<Item = Result<B, warp::Error>>,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let mut body = std::pin::pin!(body);
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let mut piece = piece.map_err(|_| {
            let detail = "The body broke off.";
            Problem::new(StatusCode::BAD_REQUEST, "body_broken", detail)
        })?;
        if whole.len() + piece.remaining() > bytes_max {
            return Err(too_long(bytes_max));
        }
        while piece.has_remaining() {
            let part = piece.chunk();
            whole.extend_from_slice(part);
            let taken = part.len();
            piece.advance(taken);
        }
    }
    Ok(whole.freeze())
}

fn too_long(bytes_max: usize) -> Problem {
    let detail = format!("The body is longer than {bytes_max} bytes.");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", detail)
}

/// Paths that are nobody's; streams are somebody else's.
fn elsewhere(path: &FullPath) -> Rejection {
    let path = path.as_str();
    if path.starts_with("/v1/m/") || path == "/v1/stream" || path.starts_with("/v1/stream/") {
        let detail = "Streams connect to a relay's public port; this is control. Carriers and \
            pages are given the relay's address (RELAY_PUBLIC_URL); or let the relay's port \
            forward to control.";
        return Problem::new(StatusCode::NOT_FOUND, "stream_elsewhere", detail).into();
    }
    reject::not_found()
}

/// Writes what no route has answered. A problem of the route that the path belongs to counts
/// before what the others say, which is only that the path is not theirs.
async fn refuse(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = match rejection.find::<Problem>() {
        Some(problem) => problem.clone(),
        None if rejection.find::<MethodNotAllowed>().is_some() => {
            let detail = "There is such a path, but not with this method. Hooks of the carrier \
                are POST.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        }
        None if rejection.is_not_found() => {
            let detail = "There is nothing here. GET /docs lists what there is.";
            Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
        }
        // A header or query that warp itself could not read.
        None => {
            tracing::debug!(?rejection, "a request is malformed");
            let detail = "A header or the address could not be read.";
            Problem::new(StatusCode::BAD_REQUEST, "request_malformed", detail)
        }
    };
    Ok(problem.response())
}

/// A body of a few KiB takes well under a second.
const BODY_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    type Piece = Result<Bytes, warp::Error>;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up() {
        let begun = stream::iter([Ok(Bytes::from_static(b"a"))]);
        let slow = begun.chain(stream::pending::<Piece>());
        assert_eq!(collect(slow, 10).await.unwrap_err().code, "body_slow");
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_bounded_as_well() {
        let pieces = |count| {
            let piece = || -> Piece { Ok(Bytes::from_static(b"12345")) };
            stream::iter(std::iter::repeat_with(piece).take(count))
        };
        assert_eq!(collect(pieces(2), 10).await.unwrap(), "1234512345");
        assert_eq!(collect(pieces(3), 10).await.unwrap_err().code, "body_too_long");
    }
}

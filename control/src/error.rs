//! What a refusal looks like to an HTTP client: a problem document (RFC 9457) with a stable code
//! and a sentence that says what to do.

use http::StatusCode;
use http::header::{self, HeaderValue};
use serde_json::json;
use warp::Reply;
use warp::reply::Response;

use crate::store::StoreError;

/// A refusal. It travels as a rejection through the routes and is written at their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// What programs compare; never changes its meaning.
    pub code: &'static str,
    /// What a person should do; no secrets, no numbers.
    pub detail: String,
    /// Seconds after which it may be tried again; `None` when that is not known to help.
    pub retry_after: Option<u32>,
    /// The id of what it is about, where the asker may not know it.
    pub id: Option<String>,
}

impl warp::reject::Reject for Problem {}

impl Problem {
    /// A refusal with a sentence.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, id: None }
    }

    /// The same, worth trying again later.
    #[must_use]
    pub fn again_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same, about something that has this id.
    #[must_use]
    pub fn about(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The database did not answer; it is logged here, once.
    #[must_use]
    pub fn store(error: &StoreError) -> Self {
        tracing::error!(error = error.explain(), "the database failed a request");
        let detail = "The database does not answer. Try again; the operator's log says why.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, STORE_UNAVAILABLE, detail).again_after(1)
    }

    /// Whether this is what [`Problem::store`] made.
    #[must_use]
    pub fn is_store(&self) -> bool {
        self.code == STORE_UNAVAILABLE
    }

    /// There is no such call, or it is somebody else's.
    #[must_use]
    pub fn no_call() -> Self {
        let detail = "There is no such call. GET /v1/calls lists those there are.";
        Self::new(StatusCode::NOT_FOUND, "call_not_found", detail)
    }

    /// The refusal as a response.
    #[must_use]
    pub fn response(&self) -> Response {
        // No page behind `type`: the code is what programs compare, the detail what people read.
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(id) = &self.id {
            body["id"] = id.as_str().into();
        }
        let mut response = warp::reply::json(&body).into_response();
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 9110 asks for it with every 401.
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The code of a database that does not answer.
const STORE_UNAVAILABLE: &str = "store_unavailable";

/// An error with its causes, in one line, for a log.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::store(&error)
    }
}

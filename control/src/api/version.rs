//! Version checks: what is shown carries its version as an `ETag`, and what is changed must name it
//! in `If-Match`, so that nobody overwrites what somebody else has just changed.

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use serde_json::Value;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use crate::error::Problem;
use crate::store::agents::Expected;

/// A resource as it is shown.
pub(super) struct Shown {
    /// The status that goes with it.
    pub(super) status: StatusCode,
    /// The resource.
    pub(super) body: Value,
    /// Its version; `None` for what has none.
    pub(super) version: Option<u32>,
    /// Whether it was answered before, to the same request.
    pub(super) is_repeated: bool,
}

impl Shown {
    /// An answer that is given for the first time.
    pub(super) fn new(status: StatusCode, body: Value, version: Option<u32>) -> Self {
        Self { status, body, version, is_repeated: false }
    }
}

/// A resource with its version, or a problem on its way to the end of the routes.
pub(super) fn shown(answer: Result<Shown, Problem>) -> Result<Response, Rejection> {
    let Shown { status, body, version, is_repeated } = answer?;
    let mut response = warp::reply::with_status(warp::reply::json(&body), status).into_response();
    let headers = response.headers_mut();
    // Quotes and digits are a header's characters.
    let tag = version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok());
    if let Some(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    if is_repeated {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The version that a change names.
pub(super) fn if_match() -> impl Filter<Extract = (Option<String>,), Error = Rejection> + Clone {
    warp::header::optional::<String>("if-match")
}

/// The version that a change must name.
pub(super) fn required(header: Option<&str>) -> Result<Expected, Problem> {
    expected(header)?.ok_or_else(|| {
        let detail = "Say in `If-Match` which version this changes: the `ETag` of what was read, \
            for instance \"3\", or * for any.";
        Problem::new(StatusCode::PRECONDITION_REQUIRED, "version_missing", detail)
    })
}

/// The version that a change may name.
pub(super) fn expected(header: Option<&str>) -> Result<Option<Expected>, Problem> {
    let Some(text) = header.map(str::trim) else { return Ok(None) };
    if text == "*" {
        return Ok(Some(Expected::Any));
    }
    // Quoted, as it was given; a person writes it without.
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    text.parse().map(|version| Some(Expected::Version(version))).map_err(|_| {
        let detail = "`If-Match` is no version: the `ETag` of what was read, for instance \"3\", \
            or * for any.";
        Problem::new(StatusCode::BAD_REQUEST, "version_malformed", detail)
    })
}

/// What is changed has another version.
pub(super) fn stale(version: u32) -> Problem {
    let detail = format!(
        "Somebody has changed it: its version is {version}. Read it again, and repeat the change \
         if it is still right.",
    );
    Problem::new(StatusCode::PRECONDITION_FAILED, "version_stale", detail)
}

/// Says of an answer that it was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_was_given() {
        for (header, version) in
            [("\"3\"", Expected::Version(3)), ("3", Expected::Version(3)), ("*", Expected::Any)]
        {
            assert_eq!(required(Some(header)).unwrap(), version, "{header}");
        }
        assert_eq!(expected(None).unwrap(), None);
        assert_eq!(required(None).unwrap_err().code, "version_missing");
        for bad in ["", "\"", "W/\"3\"", "\"3\", \"4\"", "-1", "99999999999"] {
            assert_eq!(expected(Some(bad)).unwrap_err().code, "version_malformed", "{bad}");
        }
    }
}

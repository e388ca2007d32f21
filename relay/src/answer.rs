//! The few answers that the relay gives itself over HTTP.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::forward::Body;
use crate::front::REPLAY;

/// A status and a sentence.
#[must_use]
pub fn sentence(status: StatusCode, sentence: &'static str) -> Response<Body> {
    text(status, "text/plain; charset=utf-8", Bytes::from_static(sentence.as_bytes()))
}

/// A status and a body of some kind.
#[must_use]
pub fn text(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::Sentence(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        // For whoever asks in person; a carrier asks control, which sends the call elsewhere.
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    answer
}

/// An answer that lets the proxy in front ask another machine.
#[must_use]
pub fn replayed(mut answer: Response<Body>, to: HeaderValue) -> Response<Body> {
    answer.headers_mut().insert(REPLAY, to);
    answer
}

/// What a relay without a way to control says to anything that is not a stream.
#[must_use]
pub fn nothing_here() -> Response<Body> {
    let words = "This is a media relay: streams connect at /v1/m/{node}, web pages at \
                 /v1/stream/{node}; \
                 set RELAY_CONTROL_HTTP_URL to forward everything else to control.\n";
    sentence(StatusCode::NOT_FOUND, words)
}

/// The 101 that makes the connection a WebSocket.
#[must_use]
pub fn switching(accept_key: &str) -> Response<Body> {
    let mut answer = Response::new(Body::Sentence(Full::new(Bytes::new())));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(accept_key).expect("base64 is a header value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

//! The request that asks for a stream: which of them become a WebSocket. Pure; the answer is
//! given before the 101, so that nobody unsigned holds a WebSocket.

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use link::id::NodeId;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::gate::NoSeat;
use crate::gate::room::Strain;
use crate::known::{Known, Signature};
use crate::metrics::labels;
use crate::wire::opening::SIGNATURE_HEADER;

/// The path under which carriers ask for streams; a node's name follows.
pub const PREFIX: &str = "/v1/m/";

/// The path under which web pages do; a node's name may follow.
pub const PAGE_PREFIX: &str = "/v1/stream";

/// Whose stream a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// A carrier's.
    Carrier,
    /// A web page's.
    Page,
}

/// A request that asks for a stream and does not get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnedAway {
    /// For counting.
    pub why: labels::Upgrade,
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's body.
    pub sentence: &'static str,
}

/// A request that may be upgraded, once a seat is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptable {
    /// The value of the answer's `Sec-WebSocket-Accept`.
    pub accept_key: String,
}

/// Whether a request asks for a stream at all; everything else is control's.
#[must_use]
pub fn asks(path: &str) -> Option<Asks> {
    if path.starts_with(PREFIX) {
        return Some(Asks::Carrier);
    }
    let rest = path.strip_prefix(PAGE_PREFIX)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(Asks::Page)
}

/// The node whose stream a path asks for; `None` when it names none.
#[must_use]
pub fn node_of(asks: Asks, path: &str) -> Option<&str> {
    let name = match asks {
        Asks::Carrier => {
            let name = path.strip_prefix(PREFIX)?;
            name.strip_suffix('/').unwrap_or(name)
        }
        Asks::Page => path.strip_prefix(PAGE_PREFIX)?.trim_matches('/'),
    };
    (!name.is_empty()).then_some(name)
}

/// Judges a request for a stream: node, form, signature.
///
/// # Errors
/// The answer to one that is turned away.
pub fn judge(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    node: &NodeId,
    known: &Known,
) -> Result<Acceptable, TurnedAway> {
    if node_of(Asks::Carrier, path) != Some(node.as_str()) {
        return Err(away(labels::Upgrade::WrongNode, StatusCode::NOT_FOUND, WRONG_NODE));
    }
    let key = websocket_key(method, headers)?;
    if !known.is_synced() {
        return Err(NoSeat::NotReady.into());
    }
    let given = headers.get(SIGNATURE_HEADER).map(|value| value.as_bytes());
    match known.signature(given) {
        Signature::Good => Ok(Acceptable { accept_key: derive_accept_key(key) }),
        Signature::Missing => Err(away(labels::Upgrade::Unsigned, StatusCode::FORBIDDEN, UNSIGNED)),
        Signature::Forged => Err(away(labels::Upgrade::Forged, StatusCode::FORBIDDEN, FORGED)),
    }
}

/// Judges a page's request for a stream: node, form. Who it is, its token says in `start`; a browser
/// can send no header of ours.
///
/// # Errors
/// The answer to one that is turned away.
pub fn judge_page(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    node: &NodeId,
    known: &Known,
) -> Result<Acceptable, TurnedAway> {
    if node_of(Asks::Page, path).is_some_and(|name| name != node.as_str()) {
        return Err(away(labels::Upgrade::WrongNode, StatusCode::NOT_FOUND, WRONG_NODE));
    }
    let key = websocket_key(method, headers)?;
    if !known.is_synced() {
        return Err(NoSeat::NotReady.into());
    }
    Ok(Acceptable { accept_key: derive_accept_key(key) })
}

/// The origin that a browser states: every browser does, exactly once.
///
/// # Errors
/// The answer to one that is none.
pub fn origin(headers: &HeaderMap) -> Result<Option<String>, TurnedAway> {
    let bad = || away(labels::Upgrade::BadOrigin, StatusCode::FORBIDDEN, BAD_ORIGIN);
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(None) };
    let origin = origin.to_str().ok().filter(|origin| origin.len() <= ORIGIN_BYTES_MAX);
    match (origin, origins.next()) {
        (Some(origin), None) => Ok(Some(origin.to_owned())),
        (None, _) | (Some(_), Some(_)) => Err(bad()),
    }
}

/// Scheme, the longest host name, port.
const ORIGIN_BYTES_MAX: usize = 280;

/// The client's key, of a request that RFC 6455 §4.2.1 calls a handshake. Extensions and
/// subprotocols are neither asked for by carriers nor answered.
fn websocket_key<'h>(method: &Method, headers: &'h HeaderMap) -> Result<&'h [u8], TurnedAway> {
    let why = labels::Upgrade::NotWebSocket;
    let lists = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    let asks = lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, "websocket");
    if method != Method::GET || !asks {
        return Err(away(why, StatusCode::UPGRADE_REQUIRED, NOT_UPGRADE));
    }
    let is_13 = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !is_13 {
        let sentence = "Only version 13 of the WebSocket protocol is spoken.\n";
        return Err(away(why, StatusCode::UPGRADE_REQUIRED, sentence));
    }
    match headers.get(header::SEC_WEBSOCKET_KEY) {
        // 16 bytes in base64.
        Some(key) if key.len() == 24 => Ok(key.as_bytes()),
        _ => {
            Err(away(why, StatusCode::BAD_REQUEST, "The WebSocket key is missing or malformed.\n"))
        }
    }
}

const WRONG_NODE: &str = "There is no such node here.\n";
const ELSEWHERE: &str = "Another machine has this node; the proxy in front asks it.\n";
const UNREACHABLE: &str = "The machine of this node cannot be reached.\n";
const NOT_UPGRADE: &str = "This is where media streams connect, by WebSocket.\n";
const UNSIGNED: &str = "The request is not signed.\n";
const FORGED: &str = "The signature is wrong.\n";
const BAD_ORIGIN: &str = "The Origin header is not one origin.\n";
const NOT_READY: &str = "This node is not ready yet.\n";
const DRAINING: &str = "This node takes no more calls.\n";
const FULL: &str = "This node has all the calls it takes.\n";
const NO_MEMORY: &str = "This node has no memory for another call.\n";
const NO_FILES: &str = "This node may not open files for another call.\n";
const LATE: &str = "This node is late with the calls that it has.\n";

/// What a refusal shows of the way to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// It leads to a node, with everything that an upgrade needs.
    Way,
    /// The same, and the node waits for control.
    NotReady,
    /// It leads to another node.
    WrongNode,
    /// The upgrade's headers are lost on it.
    NoUpgrade,
}

/// A relay's refusals by their sentences, for whoever plays a carrier.
pub(crate) const REFUSALS: [(&str, Shows); 13] = [
    (WRONG_NODE, Shows::WrongNode),
    (ELSEWHERE, Shows::WrongNode),
    (UNREACHABLE, Shows::WrongNode),
    (NOT_UPGRADE, Shows::NoUpgrade),
    // A header was lost that no proxy needs to touch; the upgrade itself was not.
    (UNSIGNED, Shows::Way),
    (FORGED, Shows::Way),
    (BAD_ORIGIN, Shows::Way),
    (NOT_READY, Shows::NotReady),
    (DRAINING, Shows::Way),
    (FULL, Shows::Way),
    (NO_MEMORY, Shows::Way),
    (NO_FILES, Shows::Way),
    (LATE, Shows::Way),
];

fn away(why: labels::Upgrade, status: StatusCode, sentence: &'static str) -> TurnedAway {
    TurnedAway { why, status, sentence }
}

impl TurnedAway {
    /// The answer to a request that the proxy in front is to take to another machine.
    #[must_use]
    pub fn elsewhere() -> Self {
        away(labels::Upgrade::Elsewhere, StatusCode::MISDIRECTED_REQUEST, ELSEWHERE)
    }

    /// The answer to one that the proxy in front could not take there.
    #[must_use]
    pub fn unreachable() -> Self {
        away(labels::Upgrade::Unreachable, StatusCode::SERVICE_UNAVAILABLE, UNREACHABLE)
    }
}

impl From<NoSeat> for TurnedAway {
    fn from(no_seat: NoSeat) -> Self {
        let (why, sentence) = match no_seat {
            NoSeat::NotReady => (labels::Upgrade::NotReady, NOT_READY),
            NoSeat::Draining => (labels::Upgrade::Draining, DRAINING),
            NoSeat::Full => (labels::Upgrade::Full, FULL),
            NoSeat::Strained(Strain::Memory) => (labels::Upgrade::NoMemory, NO_MEMORY),
            NoSeat::Strained(Strain::Files) => (labels::Upgrade::NoFiles, NO_FILES),
            NoSeat::Strained(Strain::Lateness) => (labels::Upgrade::Late, LATE),
        };
        away(why, StatusCode::SERVICE_UNAVAILABLE, sentence)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use link::secret::Secret;

    use super::*;
    use crate::known::Signatures;

    fn known() -> Known {
        let known = Known::nothing();
        known.set_signatures(Signatures::OneOf(vec![Secret::new("good=")]));
        known.set_synced();
        known
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            (SIGNATURE_HEADER, "good="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn judged(path: &str, headers: &HeaderMap, known: &Known) -> Result<String, u16> {
        let node = NodeId::new("n1").unwrap();
        judge(&Method::GET, path, headers, &node, known)
            .map(|acceptable| acceptable.accept_key)
            .map_err(|away| away.status.as_u16())
    }

    #[test]
    fn a_signed_handshake_is_answered_as_the_rfc_says() {
        let accepted = Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        assert_eq!(judged("/v1/m/n1", &headers(), &known()), accepted);
        assert_eq!(judged("/v1/m/n1/", &headers(), &known()), accepted);
    }

    #[test]
    fn another_node_is_not_found() {
        for path in ["/v1/m/n2", "/v1/m/", "/v1/m/n1/x", "/v1/m/n1//"] {
            assert_eq!(judged(path, &headers(), &known()), Err(404), "{path}");
        }
    }

    #[test]
    fn an_unsigned_or_forged_request_is_forbidden() {
        let mut unsigned = headers();
        unsigned.remove(SIGNATURE_HEADER);
        assert_eq!(judged("/v1/m/n1", &unsigned, &known()), Err(403));
        let mut forged = headers();
        forged.insert(SIGNATURE_HEADER, HeaderValue::from_static("bad="));
        assert_eq!(judged("/v1/m/n1", &forged, &known()), Err(403));
    }

    #[test]
    fn a_node_that_is_not_ready_says_so_before_it_looks_at_signatures() {
        assert_eq!(judged("/v1/m/n1", &headers(), &Known::nothing()), Err(503));
    }

    #[test]
    fn a_page_names_its_node_or_none_and_is_not_signed() {
        assert_eq!(asks("/v1/m/n1"), Some(Asks::Carrier));
        for (path, status) in [
            ("/v1/stream", Ok(())),
            ("/v1/stream/", Ok(())),
            ("/v1/stream/n1", Ok(())),
            ("/v1/stream/n2", Err(404)),
            ("/v1/stream/n1/x", Err(404)),
        ] {
            assert_eq!(asks(path), Some(Asks::Page), "{path}");
            let node = NodeId::new("n1").unwrap();
            let mut headers = headers();
            headers.remove(SIGNATURE_HEADER);
            let judged = judge_page(&Method::GET, path, &headers, &node, &known());
            let judged = judged.map(drop).map_err(|away| away.status.as_u16());
            assert_eq!(judged, status, "{path}");
            let early = judge_page(&Method::GET, path, &headers, &node, &Known::nothing());
            assert!(early.is_err());
        }
        for path in ["/v1/streams", "/v1/streamx/n1", "/v1", "/"] {
            assert_eq!(asks(path), None, "{path}");
        }
    }

    #[test]
    fn an_origin_is_stated_once_or_not_at_all() {
        let mut headers = HeaderMap::new();
        assert_eq!(origin(&headers), Ok(None));
        headers.insert(header::ORIGIN, HeaderValue::from_static("https://app.example"));
        assert_eq!(origin(&headers), Ok(Some("https://app.example".to_owned())));
        headers.append(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert_eq!(origin(&headers).unwrap_err().status, StatusCode::FORBIDDEN);
        headers.insert(header::ORIGIN, HeaderValue::from_str(&"o".repeat(281)).unwrap());
        assert_eq!(origin(&headers).unwrap_err().status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn what_is_no_handshake_is_turned_away() {
        for (name, status) in [
            ("connection", 426),
            ("upgrade", 426),
            ("sec-websocket-version", 426),
            ("sec-websocket-key", 400),
        ] {
            let mut headers = headers();
            headers.remove(name);
            assert_eq!(judged("/v1/m/n1", &headers, &known()), Err(status), "{name}");
        }
    }
}

//! What stands in front of the public port. Pure.
//!
//! A stream's URL names its node. Behind one address of its own a node gets only what is for it;
//! behind a proxy that spreads requests over machines it also gets what is for others, and says
//! so before the upgrade, in the proxy's own words.
//!
//! Fly's proxy asks another machine when an answer has the header `fly-replay`, and does not ask a
//! third one. A machine that cannot be reached comes back to the first with `fly-replay-failed`,
//! so that the carrier hears within two seconds that it must ask control where to go on.
//! Source: Fly.io, "Dynamic Request Routing with fly-replay", read 2026-11-28.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use link::id::NodeId;

use crate::upgrade::{self, Asks, TurnedAway};

/// What stands in front of the public port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Nothing, or a proxy that sends each node what is for it.
    Plain,
    /// Fly's proxy, which picks a machine by itself; a node's name is its machine's id.
    Fly,
}

/// Where a request belongs that is for another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// The proxy is to ask the machine that this header's value names.
    Replay(HeaderValue),
    /// Nobody is to be asked; the answer.
    Away(TurnedAway),
}

/// The header of an answer that names another machine.
pub const REPLAY: HeaderName = HeaderName::from_static("fly-replay");
/// The header of a request that another machine has answered with [`REPLAY`].
const REPLAYED: HeaderName = HeaderName::from_static("fly-replay-src");
/// The header of a request whose replay failed.
const FAILED: HeaderName = HeaderName::from_static("fly-replay-failed");

impl Front {
    /// What to answer to a request for a stream of another node; `None` when this node judges it.
    #[must_use]
    pub fn elsewhere(
        self,
        asks: Asks,
        path: &str,
        headers: &HeaderMap,
        node: &NodeId,
    ) -> Option<Elsewhere> {
        match self {
            Self::Plain => return None,
            Self::Fly => {}
        }
        let name = upgrade::node_of(asks, path)?;
        if name == node.as_str() {
            return None;
        }
        if headers.contains_key(FAILED) {
            return Some(Elsewhere::Away(TurnedAway::unreachable()));
        }
        // Asked twice, it would go round: what came here by a replay is answered here.
        if headers.contains_key(REPLAYED) || !is_machine(name) {
            return None;
        }
        let to = format!("instance={name};timeout=2s;fallback=prefer_self");
        HeaderValue::from_str(&to).ok().map(Elsewhere::Replay)
    }
}

/// Whether a node's name may be a machine's id, such as `3d8d413b29d089`. Everything else in a path
/// is a stranger's words, and goes into no header.
fn is_machine(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (8..=32).contains(&name.len()) && name.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    const OWN: &str = "3d8d413b29d089";

    fn elsewhere(front: Front, path: &str, header: Option<HeaderName>) -> Option<Elsewhere> {
        let mut headers = HeaderMap::new();
        if let Some(name) = header {
            headers.insert(name, HeaderValue::from_static("instance=148ed127a37d89;t=1"));
        }
        let asks = upgrade::asks(path).unwrap();
        front.elsewhere(asks, path, &headers, &NodeId::new(OWN).unwrap())
    }

    #[test]
    fn a_stream_of_another_machine_is_replayed_there() {
        let there = "instance=148ed127a37d89;timeout=2s;fallback=prefer_self";
        let there = Some(Elsewhere::Replay(HeaderValue::from_static(there)));
        for path in ["/v1/m/148ed127a37d89", "/v1/m/148ed127a37d89/", "/v1/stream/148ed127a37d89"] {
            assert_eq!(elsewhere(Front::Fly, path, None), there, "{path}");
            assert_eq!(elsewhere(Front::Plain, path, None), None, "{path}");
        }
    }

    #[test]
    fn what_is_for_this_node_or_for_any_is_judged_here() {
        for path in ["/v1/m/3d8d413b29d089", "/v1/stream/3d8d413b29d089", "/v1/stream", "/v1/m/"] {
            assert_eq!(elsewhere(Front::Fly, path, None), None, "{path}");
        }
    }

    #[test]
    fn a_replay_is_not_replayed_again() {
        assert_eq!(elsewhere(Front::Fly, "/v1/m/148ed127a37d89", Some(REPLAYED)), None);
    }

    #[test]
    fn a_machine_that_is_gone_is_said_at_once() {
        let found = elsewhere(Front::Fly, "/v1/m/148ed127a37d89", Some(FAILED));
        let Some(Elsewhere::Away(away)) = found else { panic!("{found:?}") };
        assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_strangers_words_reach_no_header() {
        for name in ["n2", "iad-1", "148ED127A37D89", "148ed127a37d89;app=x", "148ed127a37d8%0d"] {
            assert_eq!(elsewhere(Front::Fly, &format!("/v1/m/{name}"), None), None, "{name}");
        }
    }
}

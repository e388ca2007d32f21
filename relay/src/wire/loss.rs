//! What the end of an agent's socket means: whether to come back, and when.
//!
//! Source: IANA, "WebSocket Close Code Number Registry"; which codes the service's own libraries
//! reconnect after, read 2026-11-20.

use crate::call::input::Loss;

/// What a close code means; `None` when the socket broke without one.
#[must_use]
pub fn loss(close_code: Option<u16>) -> Loss {
    match close_code {
        // Gone without a word; going away, also when a session's time is over; trouble of the
        // service's own, restarts, overload, a gateway behind it.
        None | Some(1001 | 1005 | 1006 | 1011..=1014) => Loss::Closed,
        // All is said, what we said was wrong, or a code of the service's own.
        Some(_) => Loss::Dismissed,
    }
}

/// What a refused handshake means.
#[must_use]
pub fn handshake_loss(status: u16) -> Loss {
    match status {
        408 | 429 | 500..=599 => Loss::Busy,
        // A key, an address, a right; or a redirect, which would carry the key elsewhere.
        _ => Loss::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_say_whether_to_come_back() {
        for back in [1001, 1005, 1006, 1011, 1012, 1013, 1014] {
            assert_eq!(loss(Some(back)), Loss::Closed, "{back}");
        }
        assert_eq!(loss(None), Loss::Closed);
        for away in [1000, 1002, 1003, 1007, 1008, 1009, 1010, 1015, 3000, 4000, 4999] {
            assert_eq!(loss(Some(away)), Loss::Dismissed, "{away}");
        }
    }

    #[test]
    fn a_handshake_is_refused_for_now_or_for_good() {
        for now in [408, 429, 500, 502, 503, 504, 529] {
            assert_eq!(handshake_loss(now), Loss::Busy, "{now}");
        }
        for good in [200, 301, 400, 401, 403, 404, 426] {
            assert_eq!(handshake_loss(good), Loss::Refused, "{good}");
        }
    }
}

//! Why the carrier did not do what it was asked, by what is to be done about it.

use reqwest::StatusCode;

use crate::metrics::Asked;

/// Why the carrier did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The account's name or token is wrong (operator).
    #[error("the carrier refuses the account's credentials")]
    Credentials,
    /// It will not do this, now or later; the code says why.
    #[error("the carrier refuses, code {code}")]
    Refused {
        /// The carrier's number of the error; its documentation is at `/docs/errors/CODE`.
        code: u32,
    },
    /// There is no such call, or it is over.
    #[error("the call is over")]
    Gone,
    /// Too much at once, again and again.
    #[error("the carrier is asked too much at once")]
    Throttled,
    /// No answer in time; whether it was done is not known.
    #[error("the carrier did not answer in time")]
    Silent(#[source] reqwest::Error),
    /// The request never got there.
    #[error("the carrier cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The carrier failed, or answered with something else than it should.
    #[error("the carrier failed with status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
}

impl RestError {
    /// What this is called in the metrics.
    #[must_use]
    pub fn asked(&self) -> Asked {
        match self {
            Self::Credentials => Asked::Credentials,
            Self::Refused { .. } => Asked::Refused,
            Self::Gone => Asked::Done,
            Self::Throttled => Asked::Throttled,
            Self::Silent(_) => Asked::Silent,
            Self::Unreachable(_) => Asked::Unreachable,
            Self::Failed { .. } => Asked::Failed,
        }
    }
}

/// Reads a refusal by what is to be done about it. Code before status: the carrier's codes are
/// documented, its choice among the 4xx is not.
pub(super) fn refusal(status: StatusCode, code: Option<u32>) -> RestError {
    match (status.as_u16(), code) {
        // 10004: as many calls as the account may have at once.
        (429, _) | (_, Some(20429 | 10004)) => RestError::Throttled,
        (401, _) | (_, Some(20003)) => RestError::Credentials,
        (404, _) | (_, Some(20404 | 21220)) => RestError::Gone,
        (400..=499, code) => {
            RestError::Refused { code: code.unwrap_or(u32::from(status.as_u16())) }
        }
        (status, _) => RestError::Failed { status },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carriers_codes_are_told_apart_by_what_to_do() {
        let of = |status: u16, code| refusal(StatusCode::from_u16(status).unwrap(), code).asked();
        assert_eq!(of(401, Some(20003)), Asked::Credentials);
        assert_eq!(of(404, Some(20404)), Asked::Done);
        assert_eq!(of(400, Some(21220)), Asked::Done);
        assert_eq!(of(429, Some(20429)), Asked::Throttled);
        assert_eq!(of(400, Some(21211)), Asked::Refused);
        assert_eq!(of(400, None), Asked::Refused);
        assert_eq!(of(503, None), Asked::Failed);
        assert_eq!(of(400, Some(10004)), Asked::Throttled);
    }
}

//! Why a call ended, and whose doing that was.
//!
//! More than why a stream ends: calls also end before their first stream and after their last.

use link::event::{Blame, EndReason};

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// A stream's end was the call's end.
    Stream(EndReason),
    /// Its streams ended again and again.
    TooManyResumes,
    /// The caller was given to somebody else.
    Transferred,
    /// Nobody picked up.
    NoAnswer,
    /// The line was busy.
    Busy,
    /// Called off before anybody picked up.
    Canceled,
    /// The carrier could not or would not place the call.
    CarrierFailed,
    /// No node took it.
    NoNode,
    /// Its turn to be dialled did not come in time.
    NotDialled,
    /// It may not be dialled; the detail says which rule forbids it.
    NotAllowed,
    /// A machine picked up, and the call's plan ends it then.
    Machine,
}

impl CallEnd {
    /// The reason as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stream(reason) => reason.as_str(),
            Self::TooManyResumes => "too_many_resumes",
            Self::Transferred => "transferred",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Canceled => "canceled",
            Self::CarrierFailed => "carrier_failed",
            Self::NoNode => "no_node",
            Self::NotDialled => "not_dialled",
            Self::NotAllowed => "not_allowed",
            Self::Machine => "answering_machine",
        }
    }

    /// Reads back what [`CallEnd::as_str`] wrote; `None` for a word of another version.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        let own = [
            Self::TooManyResumes,
            Self::Transferred,
            Self::NoAnswer,
            Self::Busy,
            Self::Canceled,
            Self::CarrierFailed,
            Self::NoNode,
            Self::NotDialled,
            Self::NotAllowed,
            Self::Machine,
        ];
        own.into_iter()
            .find(|end| end.as_str() == word)
            .or_else(|| serde_json::from_value(word.into()).ok().map(Self::Stream))
    }

    /// Whose doing the end is.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Stream(reason) => reason.blame(),
            Self::TooManyResumes => Blame::Relay,
            Self::Transferred => EndReason::Transferred.blame(),
            Self::NoAnswer | Self::Busy | Self::Machine => Blame::Caller,
            Self::CarrierFailed => Blame::Carrier,
            // Called off through the API, too few nodes or too slow a pace for the calls that come,
            // or a rule of the operator's own.
            Self::Canceled | Self::NoNode | Self::NotDialled | Self::NotAllowed => Blame::Operator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_back_with_its_blame() {
        for (word, blame) in [
            ("agent_refused", Blame::Provider),
            ("transferred", Blame::Agent),
            ("too_many_resumes", Blame::Relay),
            ("no_answer", Blame::Caller),
            ("carrier_failed", Blame::Carrier),
            ("no_node", Blame::Operator),
            ("not_dialled", Blame::Operator),
            ("answering_machine", Blame::Caller),
        ] {
            let end = CallEnd::read(word).unwrap();
            assert_eq!((end.as_str(), end.blame()), (word, blame));
        }
        assert_eq!(CallEnd::read("eaten_by_a_grue"), None);
    }
}

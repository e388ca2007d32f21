//! Why a socket ends: close codes (RFC 6455 §7.4) and errors.

use std::io;
use std::sync::Arc;

/// A close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// All is said.
    pub const NORMAL: Self = Self(1000);
    /// This end goes away: a node that drains.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// The close frame carried no code; never sent.
    pub const NONE: Self = Self(1005);
    /// A text message was not UTF-8.
    pub const NOT_UTF8: Self = Self(1007);
    /// The peer may not do this: a bad ticket.
    pub const POLICY: Self = Self(1008);
    /// A message was too long.
    pub const TOO_BIG: Self = Self(1009);
    /// This end failed.
    pub const INTERNAL: Self = Self(1011);
    /// This end cannot now, and may soon: no seat.
    pub const TRY_AGAIN: Self = Self(1013);

    /// Whether the code may stand in a frame: defined by the RFC or its registry and not reserved
    /// for local use (1004, 1005, 1006, 1015), or in the ranges of libraries and applications.
    #[must_use]
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Why one direction of a socket is of no more use. It is kept and given again on every later
/// call: what was read still counts when writing has failed, and the other way round.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SocketError {
    /// The peer said goodbye properly, and its messages have all been given.
    #[error("closed by the peer with {}", .0.0)]
    Closed(CloseCode),
    /// The stream ended without a close frame.
    #[error("ended without a close frame")]
    Ended,
    /// The peer broke the protocol; a close frame that says so waits for the next flush.
    #[error("broken by the peer: {0}")]
    Violation(#[from] Violation),
    /// The peer reads too slowly, or not at all.
    #[error("more is unsent than may wait")]
    BacklogFull,
    /// The system or TLS failed underneath.
    #[error("failed underneath")]
    Io(#[source] Arc<io::Error>),
}

impl From<io::Error> for SocketError {
    fn from(cause: io::Error) -> Self {
        Self::Io(Arc::new(cause))
    }
}

/// How a peer broke RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A reserved bit is set, and no extension was agreed.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// A reserved opcode.
    #[error("an opcode that does not exist")]
    Opcode,
    /// A client that does not mask, or a server that does.
    #[error("masked by the wrong side")]
    Masking,
    /// A 64-bit length with its top bit set.
    #[error("a length with its top bit set")]
    Length,
    /// A control frame of more than 125 bytes.
    #[error("a control frame that is too long")]
    LongControl,
    /// A control frame that is not the last of its message.
    #[error("a control frame in fragments")]
    FragmentedControl,
    /// A continuation of nothing.
    #[error("a continuation of nothing")]
    StrayContinuation,
    /// A new message within the fragments of another.
    #[error("a message within the fragments of another")]
    Interleaved,
    /// A close frame with a payload of one byte or a code that may not be sent.
    #[error("a close frame that means nothing")]
    Close,
    /// Text or a close reason that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A message longer than [`Limits::message_bytes_max`](super::Limits::message_bytes_max).
    #[error("a message that is too long")]
    TooBig,
}

impl Violation {
    /// The code that tells the peer.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::NotUtf8 => CloseCode::NOT_UTF8,
            Self::TooBig => CloseCode::TOO_BIG,
            Self::ReservedBit
            | Self::Opcode
            | Self::Masking
            | Self::Length
            | Self::LongControl
            | Self::FragmentedControl
            | Self::StrayContinuation
            | Self::Interleaved
            | Self::Close => CloseCode::PROTOCOL,
        }
    }
}

//! Framing of the link: length, channel, body, on one ordered byte stream.
//!
//! ```text
//! 0       4         5
//! +-------+---------+------------------+
//! | len   | channel | body (JSON)      |      len counts channel and body, big-endian
//! +-------+---------+------------------+
//! ```
//!
//! The same bytes could run over TLS; nothing here knows QUIC.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest frame, in bytes, length field included.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

const HEADER_BYTES: usize = 5;

/// What a frame is about. A receiver skips channels that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Hello, welcome, load.
    Session,
    /// Events and their acknowledgements.
    Events,
    /// Things to do in calls.
    Commands,
    /// Keys, signatures, agent specs.
    Config,
    /// What is told once and kept by nobody.
    Ephemeral,
    /// A channel of a newer side.
    Other(u8),
}

impl Channel {
    fn number(self) -> u8 {
        match self {
            Self::Session => 0,
            Self::Events => 1,
            Self::Commands => 2,
            Self::Config => 3,
            Self::Ephemeral => 4,
            Self::Other(n) => n,
        }
    }

    fn from_number(n: u8) -> Self {
        match n {
            0 => Self::Session,
            1 => Self::Events,
            2 => Self::Commands,
            3 => Self::Config,
            4 => Self::Ephemeral,
            other => Self::Other(other),
        }
    }
}

/// One frame, taken off the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is about.
    pub channel: Channel,
    /// The body's bytes.
    pub body: Vec<u8>,
}

/// Why a frame could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`]; on the reading side the connection is beyond repair.
    #[error("a frame of {bytes} bytes is longer than the link allows")]
    TooLong {
        /// The length, in bytes.
        bytes: usize,
    },
    /// Shorter than its own header.
    #[error("a frame without a channel")]
    Empty,
    /// The body is not JSON of the expected shape.
    #[error("a frame's body could not be read")]
    Body(#[source] serde_json::Error),
}

impl Frame {
    /// Writes a frame onto the end of `out`; on error `out` is as it was.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when it would exceed [`FRAME_BYTES_MAX`].
    pub fn write(
        out: &mut Vec<u8>,
        channel: Channel,
        body: &impl Serialize,
    ) -> Result<(), FrameError> {
        let start = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, channel.number()]);
        let written = serde_json::to_writer(&mut *out, body).map_err(FrameError::Body);
        let bytes = out.len() - start;
        let fits =
            if bytes > FRAME_BYTES_MAX { Err(FrameError::TooLong { bytes }) } else { Ok(()) };
        if let Err(error) = written.and(fits) {
            out.truncate(start);
            return Err(error);
        }
        let len = u32::try_from(bytes - 4).expect("bounded by FRAME_BYTES_MAX");
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`FrameError::Body`] when it is not JSON of the expected shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.body).map_err(FrameError::Body)
    }
}

/// Takes frames out of a stream that arrives in any pieces. Holds less than one frame more than
/// was pushed.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more arrives.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] or [`FrameError::Empty`] when the stream cannot be trusted any
    /// more; the connection must be closed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.bytes[self.read..];
        let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*len) as usize;
        if len + 4 > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes: len + 4 });
        }
        if len == 0 {
            return Err(FrameError::Empty);
        }
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let frame = Frame { channel: Channel::from_number(frame[0]), body: frame[1..].to_vec() };
        self.read += HEADER_BYTES - 1 + len;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_in_pieces(bytes: &[u8], piece: usize) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(texts in prop::collection::vec(".{0,200}", 0..8), piece in 1_usize..97) {
            let mut bytes = Vec::new();
            for text in &texts {
                Frame::write(&mut bytes, Channel::Events, text).unwrap();
            }
            let read: Vec<String> =
                decode_in_pieces(&bytes, piece).iter().map(|f| f.json().unwrap()).collect();
            prop_assert_eq!(read, texts);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                let _ = crate::message::ToControl::read(&frame);
                let _ = crate::message::ToRelay::read(&frame);
            }
        }
    }

    #[test]
    fn a_frame_above_the_bound_is_neither_written_nor_read() {
        let mut out = b"before".to_vec();
        let long = "x".repeat(FRAME_BYTES_MAX);
        assert!(matches!(
            Frame::write(&mut out, Channel::Events, &long),
            Err(FrameError::TooLong { .. })
        ));
        assert_eq!(out, b"before");
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { .. })));
    }
}

//! Reading: bytes of the stream into the shard's buffer, frames of it into messages, in place.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::slice;
use std::str;
use std::task::{Context, Poll, ready};

use simdutf8::basic::from_utf8 as utf8;
use tokio::io::{AsyncRead, ReadBuf};

use super::frame::{self, Head, Opcode};
use super::write::Owed;
use super::{CloseCode, Limits, Role, Socket, SocketError, Violation};
use crate::stream::Stream;

/// The bytes that a shard reads into, one socket at a time.
#[derive(Debug)]
pub struct ReadBuffer {
    /// Initialised once; only the part that was read last means anything.
    bytes: Vec<u8>,
    /// Messages that came in fragments, put together.
    joined: Vec<u8>,
    /// The messages of the last read, in order.
    items: Vec<Item>,
}

impl ReadBuffer {
    /// A buffer for one shard.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; READ_BYTES], joined: Vec::new(), items: Vec::new() }
    }

    /// Reads once from the stream to behind the first `held` bytes; 0 is the stream's end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        held: usize,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() < held + READ_BYTES {
            self.bytes.resize(held + READ_BYTES, 0);
        }
        let mut room = ReadBuf::new(&mut self.bytes[held..]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Notes a pong, unless the last message is one: a peer that sends nothing but pongs must not
    /// make the list grow with them.
    fn take_pong(&mut self, range: Range<usize>) {
        if !self.items.last().is_some_and(|item| item.kind == Kind::Pong) {
            self.items.push(Item { kind: Kind::Pong, place: Place::Read, range });
        }
    }

    fn messages(&self) -> Messages<'_> {
        Messages { bytes: &self.bytes, joined: &self.joined, items: self.items.iter() }
    }
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A message of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'b> {
    /// Text, checked to be UTF-8.
    Text(&'b str),
    /// Bytes: audio of a web page. No message of Twilio or OpenAI is one.
    Binary(&'b [u8]),
    /// The answer to a ping: a sign of life. However many come in one read, they are one.
    Pong,
    /// The peer says goodbye; always the last. The answer waits for the next flush.
    Closed {
        /// Its code; [`CloseCode::NONE`] when it gave none.
        code: CloseCode,
        /// Its reason, up to 123 bytes, possibly empty. For the operator; the peer chose it.
        reason: &'b str,
    },
}

/// The messages that one read completed, oldest first. Borrows the shard's buffer and not the
/// socket, so that answers can be written while it is walked.
#[derive(Debug, Clone)]
pub struct Messages<'b> {
    bytes: &'b [u8],
    joined: &'b [u8],
    items: slice::Iter<'b, Item>,
}

impl<'b> Iterator for Messages<'b> {
    type Item = Message<'b>;

    fn next(&mut self) -> Option<Message<'b>> {
        let item = self.items.next()?;
        let source = match item.place {
            Place::Read => self.bytes,
            Place::Joined => self.joined,
        };
        let payload = &source[item.range.clone()];
        // A second look at bytes that `take` has looked at: without unsafe code there is no other
        // way to a `str`.
        let text = || utf8(payload).expect("checked when the frame was taken");
        Some(match item.kind {
            Kind::Text => Message::Text(text()),
            Kind::Binary => Message::Binary(payload),
            Kind::Pong => Message::Pong,
            Kind::Close(code) => Message::Closed { code, reason: text() },
        })
    }
}

#[derive(Debug)]
struct Item {
    kind: Kind,
    place: Place,
    range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
    Pong,
    Close(CloseCode),
}

/// In which of the buffers a payload lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    Read,
    Joined,
}

impl Socket {
    /// Reads once and gives the messages that are complete with it; at least one. Pings are
    /// answered with the next flush. Call it until it is pending, then flush:
    /// also a read that gave nothing may have left an answer to send.
    ///
    /// # Errors
    /// Why nothing more will come, once all messages before that have been given.
    pub fn poll_read<'b>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &'b mut ReadBuffer,
    ) -> Poll<Result<Messages<'b>, SocketError>> {
        buffer.items.clear();
        buffer.joined.clear();
        while buffer.items.is_empty() {
            if let Some(ending) = &self.incoming.ending {
                return Poll::Ready(Err(ending.clone()));
            }
            let filled = match ready!(self.incoming.poll_more(cx, &mut self.stream, buffer)) {
                Ok(Some(filled)) => filled,
                Ok(None) => continue,
                Err(error) => {
                    self.incoming.ending = Some(error);
                    continue;
                }
            };
            let mut reader =
                Reader { role: self.role, limits: &self.limits, owed: &mut self.owed, buffer };
            self.incoming.take_frames(&mut reader, filled);
        }
        Poll::Ready(Ok(buffer.messages()))
    }
}

/// What the reading half of a socket keeps between wakes.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The bytes of a partial frame, as they came.
    held: Vec<u8>,
    /// How many bytes, those held included, are needed before looking at them makes sense.
    needed: usize,
    /// A message of which not all fragments have come.
    partial: Option<Partial>,
    /// Why nothing more will come.
    ending: Option<SocketError>,
}

/// The first fragments of a message.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    bytes: Vec<u8>,
    /// How many of the bytes are known to be whole characters.
    checked: usize,
}

/// What frames are taken with.
struct Reader<'a> {
    role: Role,
    limits: &'a Limits,
    owed: &'a mut Owed,
    buffer: &'a mut ReadBuffer,
}

impl Incoming {
    pub(super) const fn new(already_read: Vec<u8>) -> Self {
        Self { held: already_read, needed: 0, partial: None, ending: None }
    }

    /// Brings everything unread to the front of the buffer and says how much it is; `None` when
    /// it is still less than needed. A frame that comes in many reads is copied twice in all, not
    /// once a read.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        buffer: &mut ReadBuffer,
    ) -> Poll<Result<Option<usize>, SocketError>> {
        let held = self.held.len();
        let mut filled = held;
        if held == 0 || held < self.needed {
            let read = ready!(buffer.poll_fill(cx, stream, held))?;
            if read == 0 {
                return Poll::Ready(Err(SocketError::Ended));
            }
            filled += read;
            if filled < self.needed {
                self.held.extend_from_slice(&buffer.bytes[held..filled]);
                return Poll::Ready(Ok(None));
            }
        } else if buffer.bytes.len() < held {
            buffer.bytes.resize(held, 0);
        }
        buffer.bytes[..held].copy_from_slice(&self.held);
        self.held.clear();
        self.held.shrink_to(HELD_BYTES_KEPT);
        Poll::Ready(Ok(Some(filled)))
    }

    /// Takes every whole frame of the first `filled` bytes and holds the rest.
    fn take_frames(&mut self, reader: &mut Reader<'_>, filled: usize) {
        let mut at = 0;
        while self.ending.is_none() {
            match self.take_frame(reader, at..filled) {
                Ok(Some(end)) => at = end,
                Ok(None) => {
                    self.held.extend_from_slice(&reader.buffer.bytes[at..filled]);
                    return;
                }
                Err(violation) => {
                    reader.owed.close(violation.code(), "");
                    self.partial = None;
                    self.ending = Some(violation.into());
                }
            }
        }
    }

    /// Takes the frame at the start of the range and says where it ends; `None` when it is
    /// partial, and then `needed` says how much it takes.
    fn take_frame(
        &mut self,
        reader: &mut Reader<'_>,
        range: Range<usize>,
    ) -> Result<Option<usize>, Violation> {
        let unread = &mut reader.buffer.bytes[range.clone()];
        let Some(head) = Head::parse(unread, reader.role)? else {
            self.needed = unread.len() + 1;
            return Ok(None);
        };
        let before = match (head.opcode, &self.partial) {
            (Opcode::Continuation, Some(partial)) => partial.bytes.len(),
            (Opcode::Continuation, None) => return Err(Violation::StrayContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::Interleaved),
            (Opcode::Text | Opcode::Binary, None) => 0,
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => 0,
        };
        if head.payload_bytes > reader.limits.message_bytes_max.saturating_sub(before)
            && !head.opcode.is_control()
        {
            return Err(Violation::TooBig);
        }
        let length = head.header_bytes + head.payload_bytes;
        let Some(frame) = unread.get_mut(..length) else {
            self.needed = length;
            return Ok(None);
        };
        if let Some(mask) = head.mask {
            frame::apply_mask(&mut frame[head.header_bytes..], mask);
        }
        let end = range.start + length;
        self.take_payload(reader, head, range.start + head.header_bytes..end)?;
        Ok(Some(end))
    }

    /// Takes an unmasked payload.
    fn take_payload(
        &mut self,
        reader: &mut Reader<'_>,
        head: Head,
        range: Range<usize>,
    ) -> Result<(), Violation> {
        let payload = &reader.buffer.bytes[range.clone()];
        match (head.opcode, head.is_last) {
            (Opcode::Text, true) => {
                utf8(payload).map_err(|_| Violation::NotUtf8)?;
                reader.buffer.items.push(Item { kind: Kind::Text, place: Place::Read, range });
            }
            (Opcode::Binary, true) => {
                reader.buffer.items.push(Item { kind: Kind::Binary, place: Place::Read, range });
            }
            (Opcode::Text, false) => self.partial = Some(Partial::new(Kind::Text, payload)?),
            (Opcode::Binary, false) => self.partial = Some(Partial::new(Kind::Binary, payload)?),
            (Opcode::Continuation, is_last) => {
                let mut partial = self.partial.take().ok_or(Violation::StrayContinuation)?;
                partial.extend(payload)?;
                match is_last {
                    true => partial.finish(reader.buffer)?,
                    false => self.partial = Some(partial),
                }
            }
            (Opcode::Ping, _) => reader.owed.pong(payload),
            (Opcode::Pong, _) => reader.buffer.take_pong(range),
            (Opcode::Close, _) => {
                let code = parse_close(payload)?;
                let reason = range.start + payload.len().min(2)..range.end;
                let kind = Kind::Close(code);
                reader.owed.answer_close(code);
                reader.buffer.items.push(Item { kind, place: Place::Read, range: reason });
                self.ending = Some(SocketError::Closed(code));
            }
        }
        Ok(())
    }
}

impl Partial {
    fn new(kind: Kind, payload: &[u8]) -> Result<Self, Violation> {
        let mut partial = Self { kind, bytes: Vec::new(), checked: 0 };
        partial.extend(payload)?;
        Ok(partial)
    }

    /// Adds a fragment. Text that cannot become UTF-8 any more is refused here, not at the end.
    fn extend(&mut self, payload: &[u8]) -> Result<(), Violation> {
        self.bytes.extend_from_slice(payload);
        if self.kind == Kind::Text {
            match str::from_utf8(&self.bytes[self.checked..]) {
                Ok(_) => self.checked = self.bytes.len(),
                Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
                Err(error) => self.checked += error.valid_up_to(),
            }
        }
        Ok(())
    }

    /// Moves the message to the shard's buffer.
    fn finish(self, buffer: &mut ReadBuffer) -> Result<(), Violation> {
        if self.kind == Kind::Text && self.checked < self.bytes.len() {
            return Err(Violation::NotUtf8);
        }
        let start = buffer.joined.len();
        buffer.joined.extend_from_slice(&self.bytes);
        let range = start..buffer.joined.len();
        buffer.items.push(Item { kind: self.kind, place: Place::Joined, range });
        Ok(())
    }
}

/// Reads the code of a close frame's payload and checks its reason.
fn parse_close(payload: &[u8]) -> Result<CloseCode, Violation> {
    match payload {
        [] => Ok(CloseCode::NONE),
        [_] => Err(Violation::Close),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.may_be_sent() {
                return Err(Violation::Close);
            }
            str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok(code)
        }
    }
}

/// How much one read asks for: a burst of an agent's deltas in one system call. A shard has one
/// such buffer, so its size costs nothing per call.
const READ_BYTES: usize = 64 << 10;
/// The room for partial frames that a socket keeps: a few of Twilio's media messages (400 bytes),
/// so that a split frame allocates once in a call's life.
const HELD_BYTES_KEPT: usize = 2 << 10;

//! Writing: frames built in the shard's buffer, one write per wake, and what is left over.

use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::frame::{self, CONTROL_BYTES_MAX, Mask, Opcode};
use super::{CloseCode, Role, Socket, SocketError, Writing};
use crate::stream::Stream;

/// The bytes that a shard writes from: one per leg, used by one socket at a time, from its first
/// [`Socket::text`] to its [`Socket::flush`] in the same wake.
#[derive(Debug)]
pub struct WriteBuffer {
    bytes: Vec<u8>,
    /// The socket whose frames these are.
    owner: u64,
    masks: Masks,
}

impl WriteBuffer {
    /// A buffer for one leg of one shard.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Vec::new(), owner: 0, masks: Masks::new() }
    }

    /// Makes sure that a socket finds its own frames or none. Another's are there only after a
    /// call that panicked in mid-wake; they must not reach this peer.
    fn claim(&mut self, owner: u64) {
        if self.owner != owner {
            if !self.bytes.is_empty() {
                tracing::warn!(
                    bytes = self.bytes.len(),
                    "unflushed frames of another socket dropped"
                );
                self.bytes.clear();
            }
            self.owner = owner;
        }
    }

    fn frame(&mut self, role: Role, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        let mask = match role {
            Role::Server => None,
            Role::Client => Some(self.masks.next()),
        };
        frame::append(&mut self.bytes, opcode, mask, write);
    }
}

impl Default for WriteBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// The text of one message while it is written; append to it, take nothing away. Must be UTF-8
/// when done.
#[derive(Debug)]
pub struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    /// Appends a piece of text.
    pub fn push_str(&mut self, piece: &str) {
        self.0.extend_from_slice(piece.as_bytes());
    }
}

impl Deref for Text<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        self.0
    }
}

impl DerefMut for Text<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        self.0
    }
}

/// What waits to be sent after a flush, in bytes. While something waits, the task is woken when
/// more can be sent, and flushes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// Nothing: the kernel has it all.
    None,
    /// Some.
    Waiting(usize),
    /// More than [`Limits::stall_bytes`](super::Limits::stall_bytes): the peer does not keep up.
    Stalled(usize),
}

impl Socket {
    /// Says one text message: what `write` appends. It is framed and masked where it lies and
    /// leaves with the next flush. After [`Socket::close`] nothing is said any more.
    pub fn text(&mut self, out: &mut WriteBuffer, write: impl FnOnce(&mut Text<'_>)) {
        if self.owed.is_closed() {
            return;
        }
        out.claim(self.id);
        out.frame(self.role, Opcode::Text, |bytes| {
            let start = bytes.len();
            write(&mut Text(bytes));
            debug_assert!(bytes.get(start..).is_some_and(|text| str::from_utf8(text).is_ok()));
        });
    }

    /// Keeps what was said in this wake with the socket, to leave with its next flush, which may
    /// then be through another buffer: this one is free for another socket.
    pub fn set_aside(&mut self, out: &mut WriteBuffer) {
        // Above the bound as well: the flush that follows says so, and nobody speaks any more.
        out.claim(self.id);
        self.kept.extend_from_slice(&out.bytes);
        out.bytes.clear();
    }

    /// Says one message of bytes: audio for a web page. No carrier and no service wants one.
    pub fn binary(&mut self, out: &mut WriteBuffer, payload: &[u8]) {
        if self.owed.is_closed() {
            return;
        }
        out.claim(self.id);
        out.frame(self.role, Opcode::Binary, |bytes| bytes.extend_from_slice(payload));
    }

    /// Whether a flush would find nothing to do: most wakes write to one leg of several.
    #[must_use]
    pub fn has_nothing_to_send(&self, out: &WriteBuffer) -> bool {
        let waiting = self.kept.len() + self.unflushed + self.owed.bytes.len() + out.bytes.len();
        waiting == 0 && matches!(self.writing, Writing::Open)
    }

    /// Sends what was said in this wake, behind what is left of earlier ones: one write when the
    /// peer keeps up. What the kernel does not take stays with the socket. `out` is empty after.
    ///
    /// # Errors
    /// When the stream fails, or more would wait than
    /// [`Limits::backlog_bytes_max`](super::Limits::backlog_bytes_max); from then on always.
    pub fn flush(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut WriteBuffer,
    ) -> Result<Backlog, SocketError> {
        out.claim(self.id);
        let result = match &self.writing {
            Writing::Open => self.send(cx, out),
            Writing::Failed(error) => Err(error.clone()),
            Writing::Shut => Ok(()),
        };
        out.bytes.clear();
        if let Err(error) = result {
            self.writing = Writing::Failed(error.clone());
            return Err(error);
        }
        let waiting = self.kept.len() + self.unflushed + self.owed.bytes.len();
        Ok(match waiting {
            0 => Backlog::None,
            _ if waiting <= self.limits.stall_bytes => Backlog::Waiting(waiting),
            _ => Backlog::Stalled(waiting),
        })
    }

    fn send(&mut self, cx: &mut Context<'_>, out: &mut WriteBuffer) -> Result<(), SocketError> {
        let sent = write_some(cx, &mut self.stream, &self.kept)?;
        self.unflushed += sent;
        self.kept.advance(sent);
        let mut rest = out.bytes.as_slice();
        if self.kept.is_empty() {
            // Control frames wait for the kept bytes to leave, so that a peer that pings and
            // does not read cannot make them pile up.
            self.owed.frame_all(self.role, out);
            let sent = write_some(cx, &mut self.stream, &out.bytes)?;
            self.unflushed += sent;
            rest = &out.bytes[sent..];
            if self.kept.capacity() > KEPT_BYTES_KEPT {
                self.kept = BytesMut::new();
            }
        }
        if self.kept.len() + rest.len() > self.limits.backlog_bytes_max {
            return Err(SocketError::BacklogFull);
        }
        self.kept.extend_from_slice(rest);
        if self.unflushed > 0 && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.unflushed = 0;
        }
        Ok(())
    }
}

/// Writes until everything is written or the stream takes no more; then the task will be woken.
fn write_some(cx: &mut Context<'_>, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match Pin::new(&mut *stream).poll_write(cx, &bytes[sent..])? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(taken) => sent += taken,
            Poll::Pending => break,
        }
    }
    Ok(sent)
}

/// Control frames that wait for a flush: pongs, a ping, at last the close. They wait unframed,
/// because the masks are the shard's.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Of each frame, in order: its opcode, the length of its payload, its payload.
    bytes: Vec<u8>,
    goodbye: Goodbye,
}

/// Whether the closing handshake has begun at this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Goodbye {
    /// Everything may be said.
    #[default]
    Unsaid,
    /// The close frame is queued or sent; it is the last frame.
    Said,
}

impl Owed {
    /// Whether nothing can be said any more.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.goodbye, Goodbye::Said)
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.put(Opcode::Pong, payload);
    }

    pub(super) fn ping(&mut self) {
        self.put(Opcode::Ping, &[]);
    }

    /// Queues the close frame, unless there is one.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str) {
        debug_assert!(code.may_be_sent(), "a close code that no frame may carry");
        let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
        let mut payload = code.0.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        self.put_close(&payload);
    }

    /// Answers the peer's close frame with its own code.
    pub(super) fn answer_close(&mut self, code: CloseCode) {
        match code {
            CloseCode::NONE => self.put_close(&[]),
            code => self.close(code, ""),
        }
    }

    fn put_close(&mut self, payload: &[u8]) {
        if !self.is_closed() {
            self.put(Opcode::Close, payload);
            self.goodbye = Goodbye::Said;
        }
    }

    /// Queues a control frame. When the queue is full, the peer does not read: older pongs go, as
    /// RFC 6455 §5.5.3 allows, and the latest stays.
    fn put(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.is_closed() {
            return;
        }
        if self.bytes.len() + 2 + payload.len() > OWED_BYTES_MAX {
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(&[opcode.bits(), payload.len() as u8]);
        self.bytes.extend_from_slice(payload);
    }

    /// Moves all of it to the end of `out`, framed.
    fn frame_all(&mut self, role: Role, out: &mut WriteBuffer) {
        let mut rest = self.bytes.as_slice();
        while let [bits, length, frames @ ..] = rest {
            let (payload, frames) = frames.split_at(usize::from(*length));
            let opcode = Opcode::parse(*bits).expect("written by `put`");
            out.frame(role, opcode, |bytes| bytes.extend_from_slice(payload));
            rest = frames;
        }
        self.bytes.clear();
    }
}

/// Masking keys: the system's randomness as it is, fetched for many frames at once.
///
/// A mask keeps whoever chooses a payload from choosing the bytes on the wire, which a proxy in
/// between might take for HTTP (RFC 6455 §10.3). For that, a key must not follow from earlier
/// ones, which the peer has seen. No generator of ours is involved, so there is nothing to argue;
/// one system call serves 256 frames.
#[derive(Debug)]
struct Masks {
    /// Only the part from `used` on is secret still.
    bytes: Box<[u8; MASK_POOL_BYTES]>,
    used: usize,
}

impl Masks {
    fn new() -> Self {
        Self { bytes: Box::new([0; MASK_POOL_BYTES]), used: MASK_POOL_BYTES }
    }

    fn next(&mut self) -> Mask {
        if self.used == MASK_POOL_BYTES {
            // getrandom(2) fails only where it does not exist, and TLS would not start there.
            getrandom::fill(self.bytes.as_mut_slice()).expect("the system has randomness");
            self.used = 0;
        }
        let mut mask = Mask::default();
        mask.copy_from_slice(&self.bytes[self.used..self.used + size_of::<Mask>()]);
        self.used += size_of::<Mask>();
        mask
    }
}

/// Room for eight pongs of the longest kind; nobody sends more pings in one wake.
const OWED_BYTES_MAX: usize = 1 << 10;
/// The room for unsent bytes that an idle socket keeps: none to speak of, backlogs are rare.
const KEPT_BYTES_KEPT: usize = 4 << 10;
/// 256 masks.
const MASK_POOL_BYTES: usize = 1 << 10;

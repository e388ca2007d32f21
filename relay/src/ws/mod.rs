//! WebSocket frames (RFC 6455) over a byte stream, for both roles, read and written in place.
//!
//! The handshakes are not here: hyper gives the callers' sockets back after its 101, and
//! [`dial`](crate::dial) opens the agents' sockets. What a message means is not here either: that
//! is `wire`. The files: `frame` (headers and masks), `read`, `write`, `close` (codes and errors).
//!
//! Buffers belong to the shard and are reused by every socket of the shard; a [`Socket`] owns only
//! what outlives a wake: the bytes of a partial frame, the fragments of a message, and what the
//! kernel would not take. One wake of a call is: [`Socket::poll_read`] until it is pending,
//! [`Socket::text`] for each answer, [`Socket::flush`] once.

mod close;
mod frame;
mod read;
mod write;

pub use self::close::{CloseCode, SocketError, Violation};
pub use self::read::{Message, Messages, ReadBuffer};
pub use self::write::{Backlog, Text, WriteBuffer};

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use self::read::Incoming;
use self::write::Owed;
use crate::metrics::OpenSocket;
use crate::stream::{DetachedStream, Stream};

/// Which end of the connection this is; only the client masks what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We were dialled: the caller's leg.
    Server,
    /// We dialled: the agent's leg.
    Client,
}

/// When a socket is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// When something has happened to it: its task is woken.
    Woken,
    /// When whoever holds it has the time.
    InOwnTime,
}

/// What one socket may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message that is taken, all fragments together; a longer one is answered 1009.
    /// It bounds what a peer can make this socket hold, so it is what the protocol on top needs
    /// and no more.
    pub message_bytes_max: usize,
    /// Unsent bytes above which [`Backlog::Stalled`] is said, so that the call stops adding.
    pub stall_bytes: usize,
    /// Unsent bytes above which the socket is given up ([`SocketError::BacklogFull`]). The room
    /// above `stall_bytes` is for what a call writes in the wake in which it learns of the stall.
    pub backlog_bytes_max: usize,
}

impl Limits {
    /// A phone's stream. Twilio's messages stay below 2 KiB, a `start` with all its parameters
    /// included; one second of playout in 20 ms media messages is 16 KB.
    pub const CALLER: Self =
        Self { message_bytes_max: 64 << 10, stall_bytes: 32 << 10, backlog_bytes_max: 256 << 10 };
    /// A web page's stream: a message of audio is a second at most, and one second of playout is
    /// 48 KB.
    pub const PAGE: Self =
        Self { message_bytes_max: 64 << 10, stall_bytes: 96 << 10, backlog_bytes_max: 512 << 10 };
    /// An agent's session. Its longest messages repeat instructions, tools and whole transcripts;
    /// one second of uplink is 12 KB of mu-law or 66 KB of PCM.
    pub const AGENT: Self =
        Self { message_bytes_max: 1 << 20, stall_bytes: 72 << 10, backlog_bytes_max: 512 << 10 };
}

/// One WebSocket after its handshake.
#[derive(Debug)]
pub struct Socket<S = Stream> {
    stream: S,
    role: Role,
    limits: Limits,
    /// Tells this socket's bytes in a shared [`WriteBuffer`] from another's.
    id: u64,
    incoming: Incoming,
    /// Control frames that wait for the next flush.
    owed: Owed,
    /// Whole frames, or the rest of one, that the stream would not take.
    kept: BytesMut,
    /// Bytes that the stream has taken and not passed on yet (TLS records in rustls' buffer).
    unflushed: usize,
    writing: Writing,
    /// Counts the socket while it is open.
    open: Option<OpenSocket>,
}

/// A socket that belongs to no reactor: on its way from one shard to another, with everything that
/// was read or not yet written.
pub type DetachedSocket = Socket<DetachedStream>;

/// The writing half.
#[derive(Debug)]
enum Writing {
    /// Frames can be sent.
    Open,
    /// It failed, perhaps within a frame: nothing may follow.
    Failed(SocketError),
    /// The stream's own end (TLS' close_notify, TCP's FIN) has been sent.
    Shut,
}

impl Socket {
    /// Takes over a stream whose handshake is done. `already_read` is what the handshake read
    /// beyond its end; it is taken as the first bytes of the first frame.
    #[must_use]
    pub fn new(stream: Stream, role: Role, limits: Limits, already_read: Vec<u8>) -> Self {
        Self {
            stream,
            role,
            limits,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            incoming: Incoming::new(already_read),
            owed: Owed::default(),
            kept: BytesMut::new(),
            unflushed: 0,
            writing: Writing::Open,
            open: None,
        }
    }

    /// Counts the socket until it is dropped.
    #[must_use]
    pub fn counted(mut self, open: OpenSocket) -> Self {
        self.open = Some(open);
        self
    }

    /// Has nobody woken for this socket any more, or somebody again: see [`Stream::unwatch`].
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn watched(self, watch: Watch) -> io::Result<Self> {
        self.map_stream(match watch {
            Watch::Woken => Stream::watch,
            Watch::InOwnTime => Stream::unwatch,
        })
    }

    /// Takes the socket out of its reactor. What was said in this wake must have been flushed.
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn detach(self) -> io::Result<DetachedSocket> {
        self.map_stream(Stream::detach)
    }

    /// Begins the closing handshake, or answers the peer's; nothing can be said after it. The
    /// frame leaves with the next flush, behind all that was written before. A reason longer than
    /// 123 bytes is cut. Later calls change nothing.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.owed.close(code, reason);
    }

    /// Asks the peer for a sign of life with the next flush; any message that comes is one, and the
    /// answer is a [`Message::Pong`].
    pub fn ping(&mut self) {
        self.owed.ping();
    }

    /// Brings the socket to its end: sends what is left, closes the writing half and reads until
    /// the peer has closed, so that no reset overtakes the close frame. The caller of this owns
    /// the deadline, and drops the socket afterwards.
    pub fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut WriteBuffer,
        buffer: &mut ReadBuffer,
    ) -> Poll<()> {
        match self.flush(cx, out) {
            Ok(Backlog::None) => {}
            Ok(Backlog::Waiting(_) | Backlog::Stalled(_)) => return Poll::Pending,
            Err(_) => return Poll::Ready(()),
        }
        if matches!(self.writing, Writing::Open) {
            match ready!(Pin::new(&mut self.stream).poll_shutdown(cx)) {
                Ok(()) => self.writing = Writing::Shut,
                Err(_) => return Poll::Ready(()),
            }
        }
        while let Ok(bytes) = ready!(buffer.poll_fill(cx, &mut self.stream, 0)) {
            if bytes == 0 {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl DetachedSocket {
    /// Gives the socket to the reactor of the calling thread.
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn attach(self) -> io::Result<Socket> {
        self.map_stream(DetachedStream::attach)
    }
}

impl<S> Socket<S> {
    fn map_stream<T>(self, change: impl FnOnce(S) -> io::Result<T>) -> io::Result<Socket<T>> {
        let Self { stream, role, limits, id, incoming, owed, kept, unflushed, writing, open } =
            self;
        let stream = change(stream)?;
        Ok(Socket { stream, role, limits, id, incoming, owed, kept, unflushed, writing, open })
    }
}

/// Numbers sockets within the process; only equality matters.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

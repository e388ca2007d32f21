//! One open socket, its words, and whether it takes any.

use std::io;
use std::task::{Context, Poll, ready};

use crate::ws::{
    Backlog, DetachedSocket, Messages, ReadBuffer, Socket, SocketError, Watch, WriteBuffer,
};

/// An open socket and the words that are spoken on it.
pub(super) struct Line<W, S = Socket> {
    /// The socket.
    pub(super) socket: S,
    /// How messages are written.
    pub(super) wire: W,
    state: State,
}

/// Whether a socket takes what is said. The call is told of every change, once.
///
/// | state | on | to |
/// |---|---|---|
/// | `Free` | the backlog is above its bound | `Stalled` |
/// | `Stalled` | the backlog is gone | `Free` |
/// | `Free`, `Stalled` | an error, either way | `Gone` |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It does.
    Free,
    /// Its backlog is above the bound.
    Stalled,
    /// It is gone.
    Gone,
}

/// What a flush has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The backlog is above its bound.
    Stalled,
    /// The backlog is gone.
    Drained,
    /// The socket is gone.
    Lost,
}

impl<W> Line<W> {
    /// A socket that takes what is said.
    pub(super) fn new(socket: Socket, wire: W) -> Self {
        Self { socket, wire, state: State::Free }
    }

    /// Whether the socket is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Reads once. A socket that is gone says so once.
    pub(super) fn poll_read<'b>(
        &mut self,
        cx: &mut Context<'_>,
        read: &'b mut ReadBuffer,
    ) -> Poll<Result<Messages<'b>, SocketError>> {
        if self.is_gone() {
            return Poll::Pending;
        }
        let read = ready!(self.socket.poll_read(cx, read));
        if read.is_err() {
            self.state = State::Gone;
        }
        Poll::Ready(read)
    }

    /// Writes what was said in this wake.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, out: &mut WriteBuffer) -> Option<Found> {
        if self.state == State::Free && self.socket.has_nothing_to_send(out) {
            return None;
        }
        // Also when it is gone: the buffer is the shard's, and what was said to nobody must leave.
        let flushed = self.socket.flush(cx, out);
        let (state, found) = match (self.state, flushed) {
            (State::Free, Ok(Backlog::Stalled(_))) => (State::Stalled, Found::Stalled),
            (State::Stalled, Ok(Backlog::None)) => (State::Free, Found::Drained),
            (State::Free | State::Stalled, Err(_)) => (State::Gone, Found::Lost),
            (State::Free, Ok(Backlog::None | Backlog::Waiting(_)))
            | (State::Stalled, Ok(Backlog::Waiting(_) | Backlog::Stalled(_)))
            | (State::Gone, Ok(_) | Err(_)) => return None,
        };
        self.state = state;
        Some(found)
    }

    /// Brings the socket to its end.
    pub(super) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut WriteBuffer,
        read: &mut ReadBuffer,
    ) -> Poll<()> {
        self.socket.poll_finish(cx, out, read)
    }

    /// Has the socket looked at like this.
    pub(super) fn watched(self, watch: Watch) -> io::Result<Self> {
        let Self { socket, wire, state } = self;
        Ok(Self { socket: socket.watched(watch)?, wire, state })
    }

    /// Takes the socket off its shard.
    pub(super) fn detach(self) -> io::Result<Line<W, DetachedSocket>> {
        let Self { socket, wire, state } = self;
        Ok(Line { socket: socket.detach()?, wire, state })
    }
}

impl<W> Line<W, DetachedSocket> {
    /// Gives the socket to this shard.
    pub(super) fn attach(self) -> io::Result<Line<W>> {
        let Self { socket, wire, state } = self;
        Ok(Line { socket: socket.attach()?, wire, state })
    }
}

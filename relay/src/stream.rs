//! The byte stream under a WebSocket: TCP, or TLS over it. What each leg asks of the kernel.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connected stream. An enum, so that the plain path costs one predictable branch.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP: behind a proxy that ends TLS, or to loopback.
    Plain(TcpStream),
    /// The same, of no reactor: whoever holds it looks at it in its own time.
    Unwatched(StdTcpStream),
    /// TLS, as server or as client.
    Tls(Box<TlsStream<Tcp>>),
}

impl Stream {
    /// Takes the stream out of its reactor and keeps it here: nobody is woken for it any more, and
    /// what a poll finds is what there is at that moment. The kernel then tells nobody of every
    /// frame, which costs more than reading it.
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn unwatch(self) -> io::Result<Self> {
        Ok(match self {
            Self::Plain(tcp) => Self::Unwatched(tcp.into_std()?),
            Self::Tls(mut tls) => {
                tls.get_mut().0.detach()?;
                Self::Tls(tls)
            }
            unwatched @ Self::Unwatched(_) => unwatched,
        })
    }

    /// Gives the stream to the reactor of the calling thread, if it is of none.
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn watch(self) -> io::Result<Self> {
        Ok(match self {
            Self::Unwatched(tcp) => Self::Plain(TcpStream::from_std(tcp)?),
            Self::Tls(mut tls) => {
                tls.get_mut().0.attach()?;
                Self::Tls(tls)
            }
            watched @ Self::Plain(_) => watched,
        })
    }

    /// Takes the stream out of its reactor, so that another thread's can have it. Bytes that TLS
    /// has read or not yet written stay with it.
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn detach(self) -> io::Result<DetachedStream> {
        Ok(DetachedStream(match self {
            // Stays non-blocking, which the next reactor asks for.
            Self::Plain(tcp) => Detached::Plain(tcp.into_std()?),
            Self::Unwatched(tcp) => Detached::Plain(tcp),
            Self::Tls(mut tls) => {
                tls.get_mut().0.detach()?;
                Detached::Tls(tls)
            }
        }))
    }
}

/// A stream that belongs to no reactor: on its way from one shard to another.
#[derive(Debug)]
pub struct DetachedStream(Detached);

#[derive(Debug)]
enum Detached {
    Plain(StdTcpStream),
    Tls(Box<TlsStream<Tcp>>),
}

impl DetachedStream {
    /// Gives the stream to the reactor of the calling thread.
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self.0 {
            Detached::Plain(tcp) => Stream::Plain(TcpStream::from_std(tcp)?),
            Detached::Tls(mut tls) => {
                tls.get_mut().0.attach()?;
                Stream::Tls(tls)
            }
        })
    }
}

/// The TCP socket under TLS. No TLS stream can be built around a session that exists, so the socket
/// inside one must be able to leave its reactor where it is: that costs one branch a read or write.
#[derive(Debug)]
pub struct Tcp(Reactor);

/// Whose events the socket is part of.
#[derive(Debug)]
enum Reactor {
    /// One thread's.
    Of(TcpStream),
    /// None: it is on its way to another thread, or nobody is to be woken for it.
    None(StdTcpStream),
    /// The system would not move it, and it is closed.
    Refused,
}

impl Tcp {
    fn detach(&mut self) -> io::Result<()> {
        self.0 = match std::mem::replace(&mut self.0, Reactor::Refused) {
            Reactor::Of(tcp) => Reactor::None(tcp.into_std()?),
            same @ (Reactor::None(_) | Reactor::Refused) => same,
        };
        Ok(())
    }

    fn attach(&mut self) -> io::Result<()> {
        self.0 = match std::mem::replace(&mut self.0, Reactor::Refused) {
            Reactor::None(tcp) => Reactor::Of(TcpStream::from_std(tcp)?),
            same @ (Reactor::Of(_) | Reactor::Refused) => same,
        };
        Ok(())
    }
}

/// The system has refused to move it, and its call has been told.
fn refused() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// What a stream of no reactor gives at this moment. Nobody is woken for what it does not give.
fn now<T>(done: io::Result<T>) -> Poll<io::Result<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        // Only a signal does that, and there is a next time.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Poll::Pending,
        done => Poll::Ready(done),
    }
}

fn read_now(mut tcp: &StdTcpStream, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    now(tcp.read(buffer.initialize_unfilled())).map_ok(|bytes| buffer.advance(bytes))
}

impl From<TcpStream> for Tcp {
    fn from(tcp: TcpStream) -> Self {
        Self(Reactor::Of(tcp))
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Reactor::Of(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Reactor::None(tcp) => read_now(tcp, buffer),
            Reactor::Refused => Poll::Ready(Err(refused())),
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Reactor::Of(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Reactor::None(tcp) => now(tcp.write(bytes)),
            Reactor::Refused => Poll::Ready(Err(refused())),
        }
    }

    // Rustls hands over several records at once; one by one they would be a system call each.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Reactor::Of(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            Reactor::None(tcp) => now(tcp.write_vectored(pieces)),
            Reactor::Refused => Poll::Ready(Err(refused())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Reactor::Of(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Reactor::None(tcp) => Poll::Ready(tcp.shutdown(Shutdown::Write)),
            Reactor::Refused => Poll::Ready(Err(refused())),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Unwatched(tcp) => read_now(tcp, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Unwatched(tcp) => now(tcp.write(bytes)),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // TCP keeps nothing back.
            Self::Plain(_) | Self::Unwatched(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unwatched(tcp) => Poll::Ready(tcp.shutdown(Shutdown::Write)),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// Which leg a TCP socket serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The phone's side.
    Caller,
    /// The model's side.
    Agent,
}

/// Sets what a leg asks of the kernel: no delay of small writes, no backlog hidden in its
/// buffers, and a peer that has vanished found out within seconds.
///
/// # Errors
/// When the kernel refuses an option.
pub fn tune(tcp: &TcpStream, leg: Leg) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_BYTES_MAX)?;
    let user_timeout = match leg {
        Leg::Caller => CALLER_UNACKNOWLEDGED_MAX,
        Leg::Agent => AGENT_UNACKNOWLEDGED_MAX,
    };
    socket.set_tcp_user_timeout(Some(user_timeout))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_EVERY)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TRIES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Unsent bytes that the kernel takes: a second of playout, more than a call's lead. Without it
/// the kernel took 4,173 KiB for a peer that did not read, 305 s of audio; with it 169 KiB, nearly
/// all of it in the peer's own receive buffer (measured 2026-11-20).
const NOTSENT_BYTES_MAX: u32 = 16 << 10;
/// How long the phone's side may leave bytes unacknowledged. Media leaves every 20 ms, so this is
/// what finds a dead path: after 3.2 s, where the default took more than 60 s (2026-11-20).
const CALLER_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);
/// The same for the model's side, where one stall costs a whole session.
const AGENT_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// An idle path is probed this often, and given up after [`KEEPALIVE_TRIES`] silences.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;

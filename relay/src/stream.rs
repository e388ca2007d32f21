//! The byte stream under a WebSocket: TCP, or TLS over it. What each leg asks of the kernel.

use std::io;
use std::net::TcpStream as StdTcpStream;
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
    /// TLS, as server or as client.
    Tls(Box<TlsStream<Tcp>>),
}

impl Stream {
    /// Takes the stream out of its reactor, so that another thread's can have it. Bytes that TLS
    /// has read or not yet written stay with it.
    ///
    /// # Errors
    /// When the system refuses; the connection is closed then.
    pub fn detach(self) -> io::Result<DetachedStream> {
        Ok(DetachedStream(match self {
            // Stays non-blocking, which the next reactor asks for.
            Self::Plain(tcp) => Detached::Plain(tcp.into_std()?),
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
    /// None: it is on its way to another thread.
    None(StdTcpStream),
    /// The system would not move it, and it is closed.
    Refused,
}

impl Tcp {
    fn detach(&mut self) -> io::Result<()> {
        if let Reactor::Of(tcp) = std::mem::replace(&mut self.0, Reactor::Refused) {
            self.0 = Reactor::None(tcp.into_std()?);
        }
        Ok(())
    }

    fn attach(&mut self) -> io::Result<()> {
        if let Reactor::None(tcp) = std::mem::replace(&mut self.0, Reactor::Refused) {
            self.0 = Reactor::Of(TcpStream::from_std(tcp)?);
        }
        Ok(())
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.0 {
            Reactor::Of(tcp) => Ok(Pin::new(tcp)),
            // Only `DetachedStream` holds such a socket, and it cannot be polled; or the system has
            // refused to move it, and its call has been told.
            Reactor::None(_) | Reactor::Refused => Err(io::ErrorKind::NotConnected.into()),
        }
    }
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
        self.get_mut().tcp()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().tcp()?.poll_write(cx, bytes)
    }

    // Rustls hands over several records at once; one by one they would be a system call each.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().tcp()?.poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().tcp()?.poll_shutdown(cx)
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
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
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

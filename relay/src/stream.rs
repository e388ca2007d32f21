//! The byte stream under a WebSocket: TCP, or TLS over it. What each leg asks of the kernel.

use std::io;
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
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The TCP socket underneath.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

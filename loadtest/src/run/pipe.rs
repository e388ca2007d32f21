//! The bytes under a WebSocket: plain TCP or TLS, read by a task and written at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection.
pub(crate) enum Pipe {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, either end.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Pipe {
    /// Reads what is there, or wakes the task when something is.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        let read = match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, &mut room),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, &mut room),
        };
        read.map_ok(|()| room.filled().len())
    }

    /// Writes as much as is taken at once; nobody is woken when more would be.
    pub(crate) fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Tls(tls) = self else { return self.write_plain(bytes) };
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = 0;
        while taken < bytes.len() {
            match Pin::new(&mut *tls).poll_write(&mut cx, &bytes[taken..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => taken += written?,
                Poll::Pending => break,
            }
        }
        // What is left in the TLS session goes with the next write; so does an empty one.
        match Pin::new(&mut *tls).poll_flush(&mut cx) {
            Poll::Ready(flushed) => flushed.map(|()| taken),
            Poll::Pending => Ok(taken),
        }
    }

    fn write_plain(&self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Plain(tcp) = self else { return Ok(0) };
        match tcp.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Writes all of it, however long that takes: for handshakes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes).await,
            Self::Tls(tls) => {
                tls.write_all(bytes).await?;
                tls.flush().await
            }
        }
    }

    /// Reads behind what is there already: for handshakes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) async fn read_more(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read_buf(into).await,
            Self::Tls(tls) => tls.read_buf(into).await,
        }
    }
}

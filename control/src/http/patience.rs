//! How long a connection may stay without asking anything.
//!
//! hyper has one time-out for a request's head, and it also runs while a connection waits for its
//! next request; a proxy keeps such connections for a minute, a slow head should be cut after
//! seconds. So hyper gets the long one, and this wrapper counts the short one from the first byte
//! of a head. A connection's very first head has the short one from the start.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Between the connection and the service: whether a request is being answered.
#[derive(Debug, Clone, Default)]
pub struct Answering(Arc<AtomicBool>);

impl Answering {
    /// A request's head is complete.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Its answer's head is ready.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection whose heads must arrive in time.
#[derive(Debug)]
pub struct Patience<S> {
    stream: S,
    answering: Answering,
    head_max: Duration,
    /// Runs from the first byte of a head.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    /// Waits for the first head from now on.
    pub fn new(stream: S, answering: Answering, head_max: Duration) -> Self {
        let deadline = Some(Box::pin(sleep(head_max)));
        Self { stream, answering, head_max, deadline }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.answering.is_on() {
            this.deadline = None;
            return read;
        }
        let has_more = buffer.filled().len() > before;
        if has_more && this.deadline.is_none() {
            this.deadline = Some(Box::pin(sleep(this.head_max)));
        }
        if read.is_pending()
            && let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const HEAD_MAX: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_is_cut_and_one_that_is_answered_is_not() {
        let (mut client, server) = duplex(64);
        let answering = Answering::default();
        let mut server = Patience::new(server, answering.clone(), HEAD_MAX);
        let mut bytes = [0; 8];
        assert!(server.read(&mut bytes).await.is_err(), "nothing came at all");

        client.write_all(b"G").await.unwrap();
        let mut server = Patience::new(server.stream, answering.clone(), HEAD_MAX);
        assert_eq!(server.read(&mut bytes).await.unwrap(), 1);
        assert!(server.read(&mut bytes).await.is_err(), "one byte is no head");

        answering.begin();
        let quiet = tokio::time::timeout(HEAD_MAX * 20, server.read(&mut bytes)).await;
        assert!(quiet.is_err(), "an answer may take long");
        answering.end();
        let idle = tokio::time::timeout(HEAD_MAX * 20, server.read(&mut bytes)).await;
        assert!(idle.is_err(), "hyper's own time-out ends an idle connection");
    }
}

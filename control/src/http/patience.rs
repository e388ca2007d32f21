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
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Between the connection and the service: which request is being answered. Odd while one is.
#[derive(Debug, Clone, Default)]
pub struct Answering(Arc<AtomicU64>);

impl Answering {
    /// A request's head is complete.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Its answer's head is ready.
    pub fn end(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn step(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection whose heads must arrive in time.
#[derive(Debug)]
pub struct Patience<S> {
    stream: S,
    answering: Answering,
    head_max: Duration,
    /// Where the answering was at the last read.
    step: u64,
    /// Runs from the first byte of a head.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    /// Waits for the first head from now on.
    pub fn new(stream: S, answering: Answering, head_max: Duration) -> Self {
        let (step, deadline) = (answering.step(), Some(Box::pin(sleep(head_max))));
        Self { stream, answering, head_max, step, deadline }
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
        let step = this.answering.step();
        // A request was answered or begun since: whatever head was awaited has arrived.
        if std::mem::replace(&mut this.step, step) != step {
            this.deadline = None;
        }
        // While an answer is made, the body is read in its own time (`http::body`).
        if step % 2 == 1 {
            return read;
        }
        // The first byte of a head begins the short time; silence before it is the long one's
        // matter.
        let has_more = buffer.filled().len() > before;
        if has_more && this.deadline.is_none() {
            this.deadline = Some(Box::pin(sleep(this.head_max)));
        }
        // Only when nothing came: what came in time counts, even at the last moment.
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::timeout;

    const HEAD_MAX: Duration = Duration::from_secs(5);

    const LONG: Duration = Duration::from_secs(100);

    /// A client, and a server's end that has read the first byte of a head.
    async fn begun() -> (DuplexStream, Patience<DuplexStream>, Answering) {
        let (mut client, server) = duplex(64);
        let answering = Answering::default();
        let mut server = Patience::new(server, answering.clone(), HEAD_MAX);
        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
        (client, server, answering)
    }

    async fn is_cut(server: &mut Patience<DuplexStream>) -> bool {
        timeout(LONG, server.read(&mut [0; 8])).await.is_ok_and(|read| read.is_err())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_or_end_is_cut() {
        let (_client, server) = duplex(64);
        assert!(is_cut(&mut Patience::new(server, Answering::default(), HEAD_MAX)).await);
        let (_client, mut server, _) = begun().await;
        assert!(is_cut(&mut server).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_long_and_a_connection_may_wait_for_its_next_request() {
        let (mut client, mut server, answering) = begun().await;
        answering.begin();
        assert!(!is_cut(&mut server).await);
        answering.end();
        assert!(!is_cut(&mut server).await);
        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
        assert!(is_cut(&mut server).await, "the next head has its time, too");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_came_between_two_reads_counts() {
        let (_client, mut server, answering) = begun().await;
        answering.begin();
        answering.end();
        assert!(!is_cut(&mut server).await);
    }
}

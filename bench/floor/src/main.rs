//! The floor: a relay that copies bytes and does nothing else.
//!
//! For every connection it dials the target and copies both ways until both sides have closed. It
//! frames nothing, parses nothing, masks nothing and keeps no time. What it costs with a given
//! number of calls is what the kernel and tokio cost, so the relay's cost divided by the floor's,
//! measured in one run, says what the relay's own work costs on any machine.
//!
//! It is no strawman: one thread, one task a call, one read buffer for all calls, the relay's
//! allocator, and no copy of a byte that the kernel takes at once. Not for production: it forwards
//! whoever connects, without a limit.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More than any read of a call: a burst of 300 ms of PCM deltas is 20 KB.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// The thread's read buffer. It is empty again before a task gives the thread away, so one is
    /// enough for all calls, and it stays in the cache.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

fn main() -> anyhow::Result<()> {
    let (listen, target) = arguments(std::env::args().skip(1))?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(listen, target))
}

/// The two addresses of the command line.
fn arguments(mut words: impl Iterator<Item = String>) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let (mut listen, mut target) = (None, None);
    while let Some(word) = words.next() {
        let address = match word.as_str() {
            "--listen" => &mut listen,
            "--target" => &mut target,
            other => bail!("usage: floor --listen IP:PORT --target IP:PORT (and not {other:?})"),
        };
        let value = words.next().with_context(|| format!("{word} needs an address"))?;
        *address = Some(value.parse().with_context(|| format!("{word} {value}"))?);
    }
    Ok((listen.context("--listen is missing")?, target.context("--target is missing")?))
}

/// Two sockets a call outgrow the usual soft limit of 1,024 at 500 calls.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A refusal shows when the limit is reached, by name: too many open files.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

#[expect(clippy::print_stdout, reason = "the one line that scripts wait for")]
#[expect(clippy::disallowed_methods, reason = "one task a call; the runtime ends them all")]
async fn serve(listen: SocketAddr, target: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen {listen}"))?;
    println!("floor listening address={}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let caller = tokio::select! {
            accepted = listener.accept() => accepted.context("accept")?.0,
            _ = terminate.recv() => return Ok(()),
        };
        // A call that fails is over, and says so by closing both sockets.
        tokio::spawn(carry(caller, target));
    }
}

/// One call: both directions in one task, until both have ended or one has failed.
async fn carry(mut caller: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut agent = TcpStream::connect(target).await?;
    caller.set_nodelay(true)?;
    agent.set_nodelay(true)?;
    let (mut up, mut down) = (Way::default(), Way::default());
    poll_fn(|cx| {
        // Each side is polled on every wake: the one that has nothing to say costs an atomic load.
        let up = up.poll(cx, &mut caller, &mut agent)?;
        let down = down.poll(cx, &mut agent, &mut caller)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction of a call.
#[derive(Default)]
struct Way {
    /// What was read and the kernel has not taken yet; empty unless the reader is slow.
    rest: Vec<u8>,
    stage: Stage,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Bytes may still come.
    #[default]
    Open,
    /// The sender has closed; the receiver is yet to be told.
    Closing,
    /// The receiver knows.
    Closed,
}

impl Way {
    /// Copies what there is. Ready once the end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        while self.stage == Stage::Open {
            ready!(self.poll_rest(cx, to))?;
            ready!(READ.with_borrow_mut(|buffer| self.poll_copy(cx, from, to, buffer)))?;
        }
        if self.stage == Stage::Closing {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.stage = Stage::Closed;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what was read; what the kernel refuses moves into `rest`.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        buffer: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let bytes = read.filled();
        if bytes.is_empty() {
            self.stage = Stage::Closing;
            return Poll::Ready(Ok(()));
        }
        let taken = match Pin::new(to).poll_write(cx, bytes)? {
            Poll::Ready(taken) => taken,
            Poll::Pending => 0,
        };
        self.rest.extend_from_slice(&bytes[taken..]);
        Poll::Ready(Ok(()))
    }

    /// Ready when nothing waits to be written. While something does, nothing more is read.
    fn poll_rest(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let taken = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest))?;
            self.rest.drain(..taken);
        }
        // A burst's room is given back: the floor's memory is that of its sockets.
        if self.rest.capacity() > 0 {
            self.rest = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

//! One direction of a connection: bytes are taken, wait as long as they must, and are given.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until};

use super::fault::Fault;

/// What a step of a pump did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Took bytes.
    Took,
    /// Gave so many bytes.
    Gave(usize),
    /// The sender has finished and everything was given: the flow is over.
    Over,
    /// The sender has finished, and nobody must know.
    Swallowed,
    /// The connection is to be reset, or is broken.
    Broken,
}

/// A direction.
pub(super) struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    state: State,
    /// Bytes with the moment from which they may be given. Never more than [`QUEUE_BYTES_MAX`]:
    /// then nothing more is taken, and the sender's own buffers fill up.
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued_bytes: usize,
    delay: Duration,
    give_rate: Option<u64>,
    take_rate: Option<u64>,
    may_take_at: Instant,
    may_give_at: Instant,
    cut_after: Option<u64>,
}

/// How far a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// The sender has finished; what is queued is still given.
    Finishing,
    /// Bytes are taken and thrown away.
    Hole,
    /// Everything was given; nothing more comes.
    Over,
}

impl Pump {
    /// A direction in good order.
    pub(super) fn new(from: OwnedReadHalf, to: OwnedWriteHalf, now: Instant) -> Self {
        Self {
            from,
            to,
            state: State::Flowing,
            queue: VecDeque::new(),
            queued_bytes: 0,
            delay: Duration::ZERO,
            give_rate: None,
            take_rate: None,
            may_take_at: now,
            may_give_at: now,
            cut_after: None,
        }
    }

    /// Whether nothing more will come out of it.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Changes how bytes flow. What concerns the whole connection is done by whoever has it.
    pub(super) async fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Delay(delay) => self.delay = delay,
            Fault::Throttle(rate) => self.give_rate = Some(rate),
            Fault::SlowRead(rate) => self.take_rate = Some(rate),
            Fault::CutAfter(bytes) => self.cut_after = Some(bytes),
            Fault::BlackHole => {
                self.state = State::Hole;
                self.queue.clear();
                self.queued_bytes = 0;
            }
            Fault::HalfClose => {
                let _ = self.to.shutdown().await;
                self.suffer_hole();
            }
            Fault::Heal => {
                (self.give_rate, self.take_rate) = (None, None);
                self.delay = Duration::ZERO;
            }
            Fault::Reset | Fault::Close => {}
        }
    }

    /// After a half-close the sender may go on; nobody hears it.
    fn suffer_hole(&mut self) {
        self.state = State::Hole;
        self.queue.clear();
        self.queued_bytes = 0;
    }

    /// Asks the kernel to reset the sender's socket instead of closing it.
    pub(super) fn make_reset(&self) {
        let _ = self.from.as_ref().set_zero_linger();
    }

    /// Drops the halves of both sockets without the polite end that dropping would send.
    pub(super) fn forget(self) {
        self.to.forget();
    }

    /// Moves some bytes. May be dropped at any time and begun again: what it waits for loses
    /// nothing then.
    pub(super) async fn step(&mut self) -> Step {
        if self.cut_after == Some(0) {
            return Step::Broken;
        }
        let takes = match self.state {
            State::Flowing => self.queued_bytes < QUEUE_BYTES_MAX,
            State::Hole => true,
            State::Finishing | State::Over => false,
        };
        let front = self.queue.front();
        if self.state == State::Over || (!takes && front.is_none()) {
            return self.finish().await;
        }
        let give_at = front.map_or(self.may_give_at, |(due, _)| (*due).max(self.may_give_at));
        let front = front.map(|(_, bytes)| &bytes[..self.at_most(bytes.len())]);
        let (from, to) = (&mut self.from, &mut self.to);
        let mut buffer = [0; TAKE_BYTES_MAX];
        let take_at = self.may_take_at;
        tokio::select! {
            biased;
            given = async { sleep_until(give_at).await; to.write(front.unwrap_or_default()).await },
                if front.is_some() => self.gave(given),
            taken = async { sleep_until(take_at).await; from.read(&mut buffer).await },
                if takes => self.took(taken.map(|count| &buffer[..count])),
        }
    }

    /// How many of so many bytes may be given at once.
    fn at_most(&self, bytes: usize) -> usize {
        let cut = self.cut_after.and_then(|left| usize::try_from(left).ok());
        // A tenth of a second of a throttled flow at once: it stutters, as slow networks do.
        let rate = self.give_rate.and_then(|rate| usize::try_from(rate.div_ceil(10)).ok());
        bytes.min(cut.unwrap_or(bytes)).min(rate.unwrap_or(bytes))
    }

    /// The sender gave bytes, or has finished.
    fn took(&mut self, taken: std::io::Result<&[u8]>) -> Step {
        let Ok(bytes) = taken else { return Step::Broken };
        let now = now();
        if bytes.is_empty() {
            if self.state == State::Hole {
                return Step::Swallowed;
            }
            self.state = State::Finishing;
            return Step::Took;
        }
        if let Some(rate) = self.take_rate {
            self.may_take_at = now + span(bytes.len(), rate);
        }
        if self.state == State::Flowing {
            self.queued_bytes += bytes.len();
            self.queue.push_back((now + self.delay, bytes.to_vec()));
        }
        Step::Took
    }

    /// The receiver took bytes.
    fn gave(&mut self, given: std::io::Result<usize>) -> Step {
        let Ok(count @ 1..) = given else { return Step::Broken };
        if let Some(rate) = self.give_rate {
            self.may_give_at = now() + span(count, rate);
        }
        self.queued_bytes = self.queued_bytes.saturating_sub(count);
        if let Some((_, bytes)) = self.queue.front_mut() {
            bytes.drain(..count);
            if bytes.is_empty() {
                self.queue.pop_front();
            }
        }
        if let Some(left) = &mut self.cut_after {
            *left = left.saturating_sub(count as u64);
        }
        Step::Gave(count)
    }

    /// Passes the end on, once; after that there is nothing to wait for.
    async fn finish(&mut self) -> Step {
        if self.state == State::Over {
            return std::future::pending().await;
        }
        let _ = self.to.shutdown().await;
        self.state = State::Over;
        Step::Over
    }
}

/// How long so many bytes take.
fn span(bytes: usize, rate: u64) -> Duration {
    Duration::from_micros(bytes as u64 * 1_000_000 / rate.max(1))
}

/// This file is about when bytes move; tokio's clock stands still where a test has paused it.
fn now() -> Instant {
    Instant::now()
}

/// What one direction may hold. A network holds about as much.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// What is taken at once.
const TAKE_BYTES_MAX: usize = 4 * 1024;

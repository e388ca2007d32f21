//! A reader of control's event stream: counts, checks that nothing is missing, doubled or out of
//! order, and says how late it is. It may die again and again, and comes back with the last id.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::control::API_KEY;
use crate::clock::wall_us;
use crate::noise::Noise;

/// What all readers of a scene write down.
pub(super) struct Board {
    /// Whether what arrives is measured.
    pub(super) measures: AtomicBool,
    /// Records that arrived while it was measured.
    pub(super) delivered: AtomicU64,
    /// Connections that were made.
    pub(super) connections: AtomicU64,
    late: Mutex<Histogram<u64>>,
    faults: Mutex<Vec<String>>,
}

impl Board {
    /// An empty board.
    pub(super) fn new() -> Arc<Self> {
        // An hour in microseconds, to a hundredth.
        let late = Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("constant bounds");
        Arc::new(Self {
            measures: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            late: Mutex::new(late),
            faults: Mutex::default(),
        })
    }

    /// How late records were, in milliseconds, at this share of them.
    pub(super) fn late_ms(&self, quantile: f64) -> f64 {
        self.late().value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// What must never happen and did.
    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        // A few say what is wrong; thousands say no more.
        if faults.len() < FAULTS_MAX {
            faults.push(what);
        }
    }

    fn late(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, made_us: u64) {
        if self.measures.load(Ordering::Relaxed) {
            self.delivered.fetch_add(1, Ordering::Relaxed);
            self.late().saturating_record(wall_us().saturating_sub(made_us).max(1));
        }
    }
}

/// What a reader reads, and how it lives.
#[derive(Clone)]
pub(super) struct Plan {
    /// The controls that it may ask; another one each time when it dies.
    pub(super) controls: Vec<SocketAddr>,
    /// Only this call's.
    pub(super) call: Option<String>,
    /// From the beginning, or from what happens next.
    pub(super) from: From,
    /// What its deaths are drawn from; `None` lets it live.
    pub(super) deaths: Option<Noise>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// With everything there is.
    Beginning,
    /// With what happens next.
    Now,
}

/// A reader under way.
pub(super) struct Reader {
    plan: Plan,
    board: Arc<Board>,
    /// The last id; `None` before the first one.
    last: Option<u64>,
    /// How many of each call have come.
    counts: BTreeMap<String, u64>,
    /// How many have come in all, for whoever waits.
    total: watch::Sender<u64>,
    /// How many of the total were told to `total`.
    seen: u64,
}

impl Reader {
    /// A reader that has not begun; and its count.
    pub(super) fn new(plan: Plan, board: Arc<Board>) -> (Self, watch::Receiver<u64>) {
        let (total, watching) = watch::channel(0);
        let counts = BTreeMap::new();
        (Self { plan, board, last: None, counts, total, seen: 0 }, watching)
    }

    /// Reads until it is dropped. A stream that ends is opened again.
    pub(super) async fn run(mut self) {
        loop {
            self.board.connections.fetch_add(1, Ordering::Relaxed);
            if self.read().await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// One connection, up to its end or the reader's death.
    async fn read(&mut self) -> anyhow::Result<()> {
        let (which, mut lives) = match &mut self.plan.deaths {
            Some(noise) => (noise.next() as usize, 1 + u64::from(noise.below(LIVES_MAX))),
            None => (0, u64::MAX),
        };
        let control = self.plan.controls[which % self.plan.controls.len()];
        let mut tcp = TcpStream::connect(control).await?;
        tcp.write_all(self.request().as_bytes()).await?;
        let mut bytes = Bytes::default();
        loop {
            let head = bytes.take(b"\r\n\r\n");
            if let Some(head) = head {
                if !head.starts_with(b"HTTP/1.0 200") && !head.starts_with(b"HTTP/1.1 200") {
                    bail!("refused: {}", String::from_utf8_lossy(head));
                }
                break;
            }
            bytes.fill(&mut tcp).await?;
        }
        while lives > 0 {
            while let Some(record) = bytes.take(b"\n\n") {
                let record = std::str::from_utf8(record)?;
                if take(record, &mut self.last, &mut self.counts, &self.plan, &self.board) {
                    self.seen += 1;
                    lives -= 1;
                    if lives == 0 {
                        break;
                    }
                }
            }
            self.total.send_replace(self.seen);
            if lives > 0 {
                bytes.fill(&mut tcp).await?;
            }
        }
        Ok(())
    }

    /// HTTP/1.0, so that the body comes as it is, without pieces of its own.
    fn request(&self) -> String {
        let after = match (self.last, self.plan.from) {
            (None, From::Beginning) => "after=0",
            _ => "",
        };
        let call = self.plan.call.as_ref().map(|call| format!("call={call}")).unwrap_or_default();
        let last = self.last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        format!(
            "GET /v1/events?{after}&{call} HTTP/1.0\r\nHost: control\r\n\
             Authorization: Bearer {API_KEY}\r\n{last}\r\n"
        )
    }
}

/// Checks a record; whether it was one.
fn take(
    text: &str,
    last: &mut Option<u64>,
    counts: &mut BTreeMap<String, u64>,
    plan: &Plan,
    board: &Board,
) -> bool {
    let Some(record) = Record::read(text) else { return false };
    let Record { seq, item } = record;
    // Of one call only, places are higher; of all, each is the next.
    let is_next = match (*last, &plan.call, plan.from) {
        (None, _, From::Now) => true,
        (None, None, From::Beginning) => seq == 1,
        (last, Some(_), _) => seq > last.unwrap_or(0),
        (Some(last), None, _) => seq == last + 1,
    };
    if !is_next {
        board.fault(format!("place {seq} came after {last:?}"));
    }
    *last = Some(seq);
    let Some((call, count, made_us)) = item else { return true };
    board.arrived(made_us);
    match counts.get_mut(call) {
        Some(known) => {
            if count != *known + 1 {
                board.fault(format!("{call}: number {count} came after {known}"));
            }
            *known = count;
        }
        None => {
            if plan.from == From::Beginning && count != 1 {
                board.fault(format!("{call}: number {count} came first"));
            }
            counts.insert(call.to_owned(), count);
        }
    }
    true
}

/// What is read of a record.
#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    seq: u64,
    /// Whose call's, which of its events, and when it was made; `None` of what is not ours.
    item: Option<(&'a str, u64, u64)>,
}

impl<'a> Record<'a> {
    /// Reads one message of the stream; `None` for comments.
    fn read(text: &'a str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let seq = field("id:")?.trim().parse().ok()?;
        let item = || {
            let data = field("data:")?;
            let (_, item) = data.split_once(r#""item":""#)?;
            let mut parts = item.split('"').next()?.split('-');
            Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        };
        Some(Self { seq, item: item() })
    }
}

/// What has been read and not taken.
#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    taken: usize,
}

impl Bytes {
    /// The bytes up to an end, without it.
    fn take(&mut self, end: &[u8]) -> Option<&[u8]> {
        let rest = &self.bytes[self.taken..];
        let first = end.first()?;
        let mut from = 0;
        loop {
            let at = from + rest[from..].iter().position(|byte| byte == first)?;
            if rest[at..].starts_with(end) {
                let start = self.taken;
                self.taken += at + end.len();
                return Some(&self.bytes[start..start + at]);
            }
            from = at + 1;
        }
    }

    async fn fill(&mut self, tcp: &mut TcpStream) -> anyhow::Result<()> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let before = self.bytes.len();
        self.bytes.resize(before + READ_BYTES, 0);
        let read = tcp.read(&mut self.bytes[before..]).await;
        self.bytes.truncate(before + read.as_ref().copied().unwrap_or(0));
        (read? > 0).then_some(()).context("the stream has ended")
    }
}

/// A reader that dies does so after at most so many records.
const LIVES_MAX: u32 = 4_000;

const AGAIN: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 16 * 1024;
const FAULTS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(from: From, call: Option<&str>) -> Plan {
        Plan { controls: Vec::new(), call: call.map(str::to_owned), from, deaths: None }
    }

    fn record(seq: u64, call: &str, count: u64) -> String {
        format!(
            "id:{seq}\nevent:turn\ndata:{{\"seq\":{seq},\"data\":{{\"item\":\"{call}-{count}-7\"}}}}"
        )
    }

    fn faults(plan: &Plan, records: &[(u64, &str, u64)]) -> Vec<String> {
        let board = Board::new();
        let (mut last, mut counts) = (None, BTreeMap::new());
        for (seq, call, count) in records {
            assert!(take(&record(*seq, call, *count), &mut last, &mut counts, plan, &board));
        }
        board.faults()
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_seen() {
        let all = plan(From::Beginning, None);
        assert_eq!(faults(&all, &[(1, "a", 1), (2, "b", 1), (3, "a", 2)]), [""; 0]);
        assert_eq!(faults(&all, &[(1, "a", 1), (3, "a", 2)]).len(), 1, "a place is missing");
        assert_eq!(faults(&all, &[(1, "a", 1), (1, "a", 1)]).len(), 2, "twice");
        assert_eq!(faults(&all, &[(1, "a", 1), (2, "a", 3)]).len(), 1, "an event is missing");
        assert_eq!(faults(&all, &[(2, "a", 1)]).len(), 1, "the beginning is missing");
        let one = plan(From::Now, Some("a"));
        assert_eq!(faults(&one, &[(7, "a", 5), (9, "a", 6)]), [""; 0]);
        assert_eq!(faults(&one, &[(7, "a", 5), (6, "a", 6)]).len(), 1, "back in time");
    }

    #[test]
    fn comments_and_records_of_others_are_no_events_of_ours() {
        assert_eq!(Record::read(": ping"), None);
        let other = Record::read("id: 5\nevent: call.started\ndata: {\"seq\":5}").unwrap();
        assert_eq!(other, Record { seq: 5, item: None });
    }

    #[test]
    fn messages_are_cut_out_of_what_was_read() {
        let mut bytes = Bytes { bytes: b"a\nb\n\nc\n".to_vec(), taken: 0 };
        assert_eq!(bytes.take(b"\n\n"), Some(b"a\nb".as_slice()));
        assert_eq!(bytes.take(b"\n\n"), None);
        bytes.bytes.push(b'\n');
        assert_eq!(bytes.take(b"\n\n"), Some(b"c".as_slice()));
    }
}

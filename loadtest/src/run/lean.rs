//! A WebSocket for the load path: nothing is allocated or copied for a message that need not be.
//! It reads what RFC 6455 allows and writes whole text frames; what a relay must refuse is tried by
//! the strict fakes.

use std::fmt::Write as _;
use std::io;
use std::task::{Context, Poll};

use anyhow::{Context as _, bail};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::pipe::Pipe;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Has dialled: masks.
    Client,
    /// Was dialled: does not.
    Server,
}

/// One WebSocket.
pub(crate) struct Lean {
    pipe: Pipe,
    side: Side,
    /// What was read and is not a whole frame yet, from `at` on.
    inbox: Vec<u8>,
    at: usize,
    /// The fragments of a message that is under way.
    fragments: Vec<u8>,
    /// Frames that the socket has not taken.
    unsent: Vec<u8>,
}

/// What comes next out of the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A text.
    Text(&'a str),
    /// More has to be read.
    Nothing,
    /// The other end has said goodbye, or makes no sense.
    Gone,
}

/// The header of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    is_last: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    bytes: usize,
    length: usize,
}

impl Lean {
    fn new(pipe: Pipe, side: Side, inbox: Vec<u8>) -> Self {
        Self { pipe, side, inbox, at: 0, fragments: Vec::new(), unsent: Vec::new() }
    }

    /// Asks for a WebSocket. Gives the status where it is refused.
    ///
    /// # Errors
    /// When the connection is gone, or the answer is none of HTTP.
    pub(crate) async fn open(
        mut pipe: Pipe,
        host: &str,
        path: &str,
    ) -> anyhow::Result<Result<Self, u16>> {
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        pipe.write_all(asked.as_bytes()).await?;
        let (head, rest) = head_of(&mut pipe).await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.context("the answer is no HTTP")?;
        if status != 101 {
            return Ok(Err(status));
        }
        if header(&head, "sec-websocket-accept") != Some(&derive_accept_key(KEY.as_bytes())) {
            bail!("the handshake's key is not answered");
        }
        Ok(Ok(Self::new(pipe, Side::Client, rest)))
    }

    /// Gives a WebSocket to whoever asks for one.
    ///
    /// # Errors
    /// When that is not what is asked for.
    pub(crate) async fn accept(mut pipe: Pipe) -> anyhow::Result<Self> {
        let (head, rest) = head_of(&mut pipe).await?;
        let key = header(&head, "sec-websocket-key").context("no WebSocket is asked for")?;
        let mut answer = String::from(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        );
        let accepted = derive_accept_key(key.as_bytes());
        let _ = write!(answer, "Sec-WebSocket-Accept: {accepted}\r\n\r\n");
        pipe.write_all(answer.as_bytes()).await?;
        Ok(Self::new(pipe, Side::Server, rest))
    }

    /// Reads what is there; 0 bytes are the end. `room` is the thread's, and anything in it is lost.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = self.pipe.poll_read(cx, room);
        if let Poll::Ready(Ok(count)) = read {
            self.inbox.extend_from_slice(&room[..count]);
        }
        read
    }

    /// The next text of what was read. Pings are answered on the way.
    pub(crate) fn next(&mut self) -> Next<'_> {
        while let Some(head) = head(&self.inbox[self.at..]) {
            let body = self.at + head.bytes;
            if head.length > MESSAGE_BYTES_MAX {
                return Next::Gone;
            }
            let Some(payload) = self.inbox.get_mut(body..body + head.length) else { break };
            if let Some(mask) = head.mask {
                unmask(payload, mask);
            }
            let range = body..body + head.length;
            self.at = range.end;
            match (head.opcode, head.is_last) {
                (TEXT, true) => return text(&self.inbox[range]),
                (TEXT | CONTINUATION, is_last) => {
                    if head.opcode == TEXT {
                        self.fragments.clear();
                    }
                    self.fragments.extend_from_slice(&self.inbox[range]);
                    if self.fragments.len() > MESSAGE_BYTES_MAX {
                        return Next::Gone;
                    }
                    if is_last {
                        return text(&self.fragments);
                    }
                }
                (PING, _) => {
                    let payload = self.inbox[range].to_vec();
                    self.put(PONG, &payload);
                    self.flush();
                }
                (CLOSE, _) => return Next::Gone,
                // Pongs, and bytes that nobody asked for.
                _ => {}
            }
        }
        self.inbox.drain(..self.at);
        self.at = 0;
        Next::Nothing
    }

    /// Takes a text, to be written with the next flush.
    pub(crate) fn say(&mut self, text: &[u8]) {
        self.put(TEXT, text);
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        self.put(CLOSE, &1_000_u16.to_be_bytes());
        self.flush();
    }

    fn put(&mut self, opcode: u8, payload: &[u8]) {
        let out = &mut self.unsent;
        out.push(0x80 | opcode);
        let masked = if self.side == Side::Client { 0x80 } else { 0 };
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short @ 0..=125), _) => out.push(masked | short),
            (_, Ok(length)) => {
                out.push(masked | 126);
                out.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        if masked == 0 {
            out.extend_from_slice(payload);
            return;
        }
        out.extend_from_slice(&MASK);
        let body = out.len();
        out.extend_from_slice(payload);
        unmask(&mut out[body..], MASK);
    }

    /// Writes what the socket takes; gives whether that is everything.
    pub(crate) fn flush(&mut self) -> bool {
        if self.unsent.is_empty() {
            return true;
        }
        match self.pipe.write_now(&self.unsent) {
            Ok(taken) => {
                self.unsent.drain(..taken);
            }
            // Whoever reads will learn it; nothing can be written any more.
            Err(_) => self.unsent.clear(),
        }
        self.unsent.is_empty()
    }

    /// Bytes that the socket has not taken.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }
}

/// Reads up to the end of a head of HTTP; gives it, and what was read behind it.
async fn head_of(pipe: &mut Pipe) -> anyhow::Result<(String, Vec<u8>)> {
    let mut read = Vec::with_capacity(1_024);
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Ok((String::from_utf8(read).context("a head of HTTP")?, rest));
        }
        if read.len() > HEAD_BYTES_MAX {
            bail!("a head of HTTP without an end");
        }
        if pipe.read_more(&mut read).await? == 0 {
            bail!("the connection was closed in the handshake");
        }
    }
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Reads a frame's header; `None` when it is not whole.
fn head(bytes: &[u8]) -> Option<Head> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, mut at) = match second & 0x7F {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let mut mask = None;
    if second & 0x80 != 0 {
        mask = Some(bytes.get(at..at + 4)?.try_into().ok()?);
        at += 4;
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Some(Head { is_last: first & 0x80 != 0, opcode: first & 0x0F, mask, bytes: at, length })
}

/// Puts a mask on a payload, or takes it off: eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ word).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// Bytes as a text.
fn text(bytes: &[u8]) -> Next<'_> {
    std::str::from_utf8(bytes).map_or(Next::Gone, Next::Text)
}

/// A continued message.
const CONTINUATION: u8 = 0;
/// A text.
const TEXT: u8 = 1;
/// The end.
const CLOSE: u8 = 8;
/// Wants a pong.
const PING: u8 = 9;
/// Answers a ping.
const PONG: u8 = 10;

/// Any key will do: the answer is checked against it. This one is the RFC's example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// One mask for all: it protects proxies from scripts in browsers, and here are neither. It is not
/// zero, so that whoever unmasks has the work.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A head beyond that is none.
const HEAD_BYTES_MAX: usize = 16_384;

/// A message beyond that is none of a call's.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Both ends of a connection that has shaken hands.
    async fn pair() -> (Lean, Lean) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialled = async {
            let pipe = Pipe::Plain(TcpStream::connect(address).await.unwrap());
            Lean::open(pipe, "here", "/x?y").await.unwrap().unwrap_or_else(|_| panic!("refused"))
        };
        let accepted = async {
            let (tcp, _) = listener.accept().await.unwrap();
            Lean::accept(Pipe::Plain(tcp)).await.unwrap()
        };
        tokio::join!(dialled, accepted)
    }

    async fn hears(lean: &mut Lean) -> Option<String> {
        let mut room = vec![0; 1_000];
        loop {
            match lean.next() {
                Next::Text(text) => return Some(text.to_owned()),
                Next::Gone => return None,
                Next::Nothing => {}
            }
            poll_fn(|cx| lean.poll_fill(cx, &mut room)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn texts_of_every_length_arrive_both_ways() {
        let (mut client, mut server) = pair().await;
        for length in [0, 1, 125, 126, 1_001, 65_535, 65_536] {
            let text = "x".repeat(length);
            client.say(text.as_bytes());
            assert!(client.flush());
            assert_eq!(hears(&mut server).await.as_ref(), Some(&text));
            server.say(text.as_bytes());
            assert!(server.flush());
            assert_eq!(hears(&mut client).await.as_ref(), Some(&text));
        }
        client.close();
        assert_eq!(hears(&mut server).await, None);
    }

    #[tokio::test]
    async fn fragments_are_joined_and_pings_answered() {
        let (mut client, mut server) = pair().await;
        server.unsent.extend_from_slice(&[0x01, 2, b'a', b'b', 0x89, 1, b'!', 0x80, 1, b'c']);
        assert!(server.flush());
        assert_eq!(hears(&mut client).await.as_deref(), Some("abc"));
        let mut room = [0; 64];
        poll_fn(|cx| server.poll_fill(cx, &mut room)).await.unwrap();
        let pong = head(&server.inbox).unwrap();
        assert_eq!((pong.opcode, pong.mask, pong.length), (PONG, Some(MASK), 1));
    }

    #[tokio::test]
    async fn a_refusal_gives_its_status() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refuse = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut pipe = Pipe::Plain(tcp);
            head_of(&mut pipe).await.unwrap();
            pipe.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.unwrap();
        };
        let dial = async {
            let pipe = Pipe::Plain(TcpStream::connect(address).await.unwrap());
            Lean::open(pipe, "here", "/").await.unwrap().err()
        };
        assert_eq!(tokio::join!(dial, refuse).0, Some(503));
    }

    #[test]
    fn what_is_masked_twice_is_what_it_was() {
        let mut bytes: Vec<u8> = (0..21).collect();
        unmask(&mut bytes, MASK);
        assert_eq!((bytes[0], bytes[5], bytes[20]), (0x37, 5 ^ 0xFA, 20 ^ 0x37));
        unmask(&mut bytes, MASK);
        assert!((0..21).eq(bytes));
    }
}

//! A peer for the WebSocket tests that is written from RFC 6455 alone and shares no code with
//! `ws`: it builds frames byte by byte, also wrong ones, and takes apart what comes back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use relay::stream::Stream;
use relay::ws::{
    Backlog, CloseCode, Limits, Message, ReadBuffer, Role, Socket, SocketError, WriteBuffer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
/// The bit that ends a message.
pub(crate) const FIN: u8 = 0x80;

pub(crate) const BOTH: [Role; 2] = [Role::Server, Role::Client];

/// Bounds small enough for tests to reach.
pub(crate) const LIMITS: Limits =
    Limits { message_bytes_max: 70_000, stall_bytes: 32 << 10, backlog_bytes_max: 128 << 10 };

/// When a test that waits has failed; a second would do on an idle machine.
const HUNG: Duration = Duration::from_secs(60);

/// A message as the tests keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Text(String),
    Binary(Vec<u8>),
    Pong,
    Closed(u16, String),
}

impl From<Message<'_>> for Said {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
            Message::Pong => Self::Pong,
            Message::Closed { code, reason } => Self::Closed(code.0, reason.into()),
        }
    }
}

/// A connected pair of loopback sockets: ours, and the peer's.
pub(crate) async fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (peer, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (peer, ours) = (peer.unwrap(), ours.unwrap().0);
    // Thousands of connections a second: closed with a reset, none waits for its port.
    peer.set_zero_linger().unwrap();
    ours.set_nodelay(true).unwrap();
    peer.set_nodelay(true).unwrap();
    (ours, peer)
}

/// One of our sockets with the shard's buffers around it.
pub(crate) struct Ours {
    pub(crate) socket: Socket,
    pub(crate) read: ReadBuffer,
    pub(crate) out: WriteBuffer,
}

impl Ours {
    pub(crate) fn new(stream: TcpStream, role: Role, already_read: &[u8]) -> Self {
        Self::over(Stream::Plain(stream), role, already_read)
    }

    pub(crate) fn over(stream: Stream, role: Role, already_read: &[u8]) -> Self {
        Self::with(Socket::new(stream, role, LIMITS, already_read.to_vec()))
    }

    pub(crate) fn with(socket: Socket) -> Self {
        Self { socket, read: ReadBuffer::new(), out: WriteBuffer::new() }
    }

    /// Waits for the messages of the next read that completes one.
    pub(crate) async fn next(&mut self) -> Result<Vec<Said>, SocketError> {
        let Self { socket, read, .. } = self;
        let next = poll_fn(|cx| {
            socket.poll_read(cx, read).map(|read| read.map(|it| it.map(Said::from).collect()))
        });
        timeout(HUNG, next).await.expect("a message or an end comes")
    }

    /// The messages that are here, without waiting.
    pub(crate) async fn here(&mut self) -> Result<Vec<Said>, SocketError> {
        let Self { socket, read, .. } = self;
        let mut said = Vec::new();
        let ending = poll_fn(|cx| {
            loop {
                match socket.poll_read(cx, read) {
                    Poll::Ready(Ok(messages)) => said.extend(messages.map(Said::from)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Ready(Ok(())),
                }
            }
        })
        .await;
        match ending {
            Err(error) if said.is_empty() => Err(error),
            _ => Ok(said),
        }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.socket.text(&mut self.out, |out| out.push_str(text));
    }

    /// One flush, as at the end of a wake.
    pub(crate) async fn flush_once(&mut self) -> Result<Backlog, SocketError> {
        let Self { socket, out, .. } = self;
        poll_fn(|cx| Poll::Ready(socket.flush(cx, out))).await
    }

    /// Flushes until nothing waits.
    pub(crate) async fn flush_all(&mut self) -> Result<(), SocketError> {
        let Self { socket, out, .. } = self;
        let flushed = poll_fn(|cx| match socket.flush(cx, out) {
            Ok(Backlog::None) => Poll::Ready(Ok(())),
            Ok(Backlog::Waiting(_) | Backlog::Stalled(_)) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        });
        timeout(HUNG, flushed).await.expect("everything leaves")
    }

    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        self.socket.close(code, reason);
    }

    pub(crate) async fn finish(mut self) {
        let Self { socket, read, out } = &mut self;
        let finish = poll_fn(|cx| socket.poll_finish(cx, out, read));
        timeout(HUNG, finish).await.expect("the peer closes");
    }
}

/// A frame as the peer of `ours` must send it: masked for a server, in clear for a client.
pub(crate) fn frame(ours: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut bytes = match length {
        0..=125 => vec![first, length as u8],
        126..=0xFFFF => vec![first, 126, (length >> 8) as u8, length as u8],
        _ => [&[first, 127][..], &(length as u64).to_be_bytes()].concat(),
    };
    match ours {
        Role::Client => bytes.extend_from_slice(payload),
        Role::Server => {
            let mask = [0xA1, 0x52, length as u8, first];
            bytes[1] |= 0x80;
            bytes.extend_from_slice(&mask);
            bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
        }
    }
    bytes
}

/// A close frame's payload.
pub(crate) fn goodbye(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// A frame that we sent, as the peer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The first byte: flags and opcode.
    pub(crate) first: u8,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) payload: Vec<u8>,
}

/// Takes apart what we sent; whatever is not a whole, minimal, rightly masked frame is a failure.
pub(crate) fn frames_of(ours: Role, mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match second & 0x7F {
            126 => (u64::from(rest[0]) << 8 | u64::from(rest[1]), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()), &rest[8..]),
            short => (u64::from(short), rest),
        };
        let minimal = match length {
            0..=125 => length,
            126..=0xFFFF => 126,
            _ => 127,
        };
        assert_eq!(u64::from(second & 0x7F), minimal, "the shortest form of {length}");
        assert_eq!(second & 0x80 != 0, ours == Role::Client, "only clients mask");
        let (mask, rest) = match ours {
            Role::Server => (None, rest),
            Role::Client => (Some(rest[..4].try_into().unwrap()), &rest[4..]),
        };
        let (payload, rest) = rest.split_at(length as usize);
        let mut payload = payload.to_vec();
        if let Some(mask) = mask {
            let _: [u8; 4] = mask;
            payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
        }
        seen.push(Seen { first: *first, mask, payload });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a header was sent");
    seen
}

/// What one conversation showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Without pongs: those of one read are one, so that their number depends on the reads.
    pub(crate) said: Vec<Said>,
    /// How our socket ended, displayed.
    pub(crate) ending: String,
    /// The frames that we sent: first byte and payload.
    pub(crate) answers: Vec<(u8, Vec<u8>)>,
}

/// Feeds bytes in pieces, each read before the next is sent, then ends the stream. The first
/// piece comes as the handshake's left-over when `first_already_read`.
pub(crate) async fn converse(role: Role, pieces: &[&[u8]], first_already_read: bool) -> Observed {
    let (stream, mut peer) = loopback().await;
    let (early, pieces) = match first_already_read {
        true => (pieces[0], &pieces[1..]),
        false => (&[][..], pieces),
    };
    let mut ours = Ours::new(stream, role, early);
    let mut said = Vec::new();
    let mut ending = None;
    for piece in pieces {
        peer.write_all(piece).await.unwrap();
        // Gives the reactor its turn, so that the bytes are found.
        tokio::task::yield_now().await;
        match ours.here().await {
            Ok(messages) => said.extend(messages),
            Err(error) => {
                ending = Some(error);
                break;
            }
        }
    }
    peer.shutdown().await.unwrap();
    let ending = loop {
        match ending {
            Some(error) => break error,
            None => match ours.next().await {
                Ok(messages) => said.extend(messages),
                Err(error) => ending = Some(error),
            },
        }
    };
    said.retain(|said| *said != Said::Pong);
    ours.finish().await;
    let mut sent = Vec::new();
    peer.read_to_end(&mut sent).await.unwrap();
    let answers =
        frames_of(role, &sent).into_iter().map(|seen| (seen.first, seen.payload)).collect();
    Observed { said, ending: ending.to_string(), answers }
}

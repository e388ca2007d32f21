//! WebSocket frames, as either end reads them.

use std::net::{Shutdown, TcpListener, TcpStream as StdTcpStream};
use std::task::{Context, Poll, Waker};

use relay::stream::Stream;
use relay::ws::{Limits, Message, ReadBuffer, Role, Socket};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// The first byte chooses the role, the others are what the peer sends.
///
/// # Panics
/// When a message is longer than it may be, something follows a goodbye, or the reason why nothing
/// more comes is not given for good.
pub fn frames(bytes: &[u8]) {
    let Some((role, bytes)) = bytes.split_first() else { return };
    let role = if role % 2 == 0 { Role::Server } else { Role::Client };
    RIG.with(|rig| {
        let _runtime = rig.runtime.enter();
        let tcp = rig.tcp.try_clone().expect("a descriptor is free");
        let stream = Stream::Plain(TcpStream::from_std(tcp).expect("it is not blocking"));
        read_all(Socket::new(stream, role, LIMITS, bytes.to_vec()));
    });
}

fn read_all(mut socket: Socket) {
    let (mut buffer, mut goodbye) = (ReadBuffer::new(), false);
    let mut cx = Context::from_waker(Waker::noop());
    // What was read with the handshake comes first; then the stream is asked, which has nothing.
    while let Poll::Ready(read) = socket.poll_read(&mut cx, &mut buffer) {
        match read {
            Ok(messages) => {
                for message in messages {
                    assert!(!goodbye, "a goodbye is the last message");
                    let length = match message {
                        Message::Text(text) => text.len(),
                        Message::Binary(bytes) => bytes.len(),
                        Message::Pong => 0,
                        Message::Closed { reason, .. } => {
                            goodbye = true;
                            reason.len()
                        }
                    };
                    assert!(length <= LIMITS.message_bytes_max, "a message is bounded");
                }
            }
            Err(error) => {
                let again = socket.poll_read(&mut cx, &mut buffer);
                let Poll::Ready(Err(again)) = again else { panic!("an end is an end") };
                assert_eq!(error.to_string(), again.to_string());
                return;
            }
        }
    }
}

/// Small, so that fuzzing reaches the bound.
const LIMITS: Limits =
    Limits { message_bytes_max: 1 << 10, stall_bytes: 1 << 10, backlog_bytes_max: 8 << 10 };

/// One TCP socket serves all runs: each has a descriptor of its own of it, and only ever sees that
/// there is nothing to read.
struct Rig {
    runtime: Runtime,
    tcp: StdTcpStream,
    _peer: StdTcpStream,
}

thread_local! {
    static RIG: Rig = Rig::new().expect("loopback works");
}

impl Rig {
    fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let tcp = StdTcpStream::connect(listener.local_addr()?)?;
        let (peer, _) = listener.accept()?;
        peer.shutdown(Shutdown::Write)?;
        tcp.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        Ok(Self { runtime, tcp, _peer: peer })
    }
}

//! Sockets that change their reactor, and signs of life.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use relay::dial::{self, Target};
use relay::stream::Stream;
use relay::tls;
use relay::ws::{DetachedSocket, Role, Socket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as TheirRole;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::process_rig::within;
use crate::ws_dial::Pki;
use crate::ws_peer::{BOTH, FIN, LIMITS, Ours, PONG, Said, TEXT, frame, loopback};

/// Goes on with a socket on another thread, in a runtime of its own: hears what is said until
/// `last` comes, answers each, and gives what it heard.
fn elsewhere(socket: DetachedSocket, last: &'static str) -> std::thread::JoinHandle<Vec<Said>> {
    #[expect(clippy::disallowed_methods, reason = "a reactor of its own needs a thread")]
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut ours = Ours::with(socket.attach().unwrap());
            let mut heard = Vec::new();
            while !heard.contains(&Said::Text(last.into())) {
                let more = ours.next().await.unwrap();
                for said in &more {
                    if let Said::Text(text) = said {
                        ours.say(&format!("heard {text}"));
                    }
                }
                ours.flush_all().await.unwrap();
                heard.extend(more);
            }
            heard
        })
    })
}

async fn answers<S: AsyncRead + AsyncWrite + Unpin>(
    theirs: &mut WebSocketStream<S>,
    count: usize,
) -> Vec<String> {
    use futures_util::StreamExt as _;
    let mut heard = Vec::new();
    while heard.len() < count {
        let message = within(theirs.next()).await.unwrap().unwrap();
        heard.push(message.into_text().expect("nothing but text is said").to_string());
    }
    heard
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(theirs: &mut WebSocketStream<S>, text: &str) {
    use futures_util::SinkExt as _;
    theirs.send(Message::text(text)).await.unwrap();
}

#[tokio::test]
async fn a_plain_socket_goes_on_in_another_reactor_in_the_middle_of_a_frame() {
    let (stream, mut peer) = loopback().await;
    let mut ours = Ours::new(stream, Role::Server, b"");
    let words = frame(Role::Server, FIN | TEXT, b"in two halves");
    let (first, second) = words.split_at(words.len() / 2);
    peer.write_all(&[&frame(Role::Server, FIN | TEXT, b"before"), first].concat()).await.unwrap();
    assert_eq!(ours.next().await.unwrap(), [Said::Text("before".into())]);
    // The half frame is held by the socket, and moves with it.
    while !ours.here().await.unwrap().is_empty() {}
    let moved = elsewhere(ours.socket.detach().unwrap(), "after");
    peer.write_all(second).await.unwrap();
    let mut theirs = WebSocketStream::from_raw_socket(peer, TheirRole::Client, None).await;
    say(&mut theirs, "after").await;
    assert_eq!(answers(&mut theirs, 2).await, ["heard in two halves", "heard after"]);
    assert_eq!(moved.join().unwrap(), ["in two halves", "after"].map(|t| Said::Text(t.into())));
}

#[tokio::test]
async fn a_tls_socket_goes_on_in_another_reactor_with_what_tls_has_read() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/", listener.local_addr().unwrap().port());
    let (target, config) = (Target::parse(&url).unwrap(), pki.client());
    let accept = async {
        let tcp = listener.accept().await.unwrap().0;
        let stream: Stream = tls::accept(tcp, &pki.server()).await.unwrap();
        accept_async(stream).await.unwrap()
    };
    let (ours, mut theirs) = tokio::join!(dial::connect(&target, &config, LIMITS), accept);
    let ours: Socket = ours.unwrap();
    say(&mut theirs, "one").await;
    let mut ours = Ours::with(ours);
    assert_eq!(ours.next().await.unwrap(), [Said::Text("one".into())]);
    // On their way while the socket belongs to nobody.
    let detached = ours.socket.detach().unwrap();
    say(&mut theirs, "two").await;
    let moved = elsewhere(detached, "three");
    assert_eq!(answers(&mut theirs, 1).await, ["heard two"]);
    say(&mut theirs, "three").await;
    assert_eq!(answers(&mut theirs, 1).await, ["heard three"]);
    assert_eq!(moved.join().unwrap(), ["two", "three"].map(|t| Said::Text(t.into())));
}

#[tokio::test]
async fn what_was_said_to_a_socket_that_is_set_aside_leaves_before_its_goodbye() {
    for role in BOTH {
        let (stream, mut peer) = loopback().await;
        let mut ours = Ours::new(stream, role, b"");
        ours.say("last words");
        ours.socket.set_aside(&mut ours.out);
        ours.close(relay::ws::CloseCode::NORMAL, "");
        // Its leg's buffer is another's from here on.
        let (stream, mut other) = loopback().await;
        let mut next = Socket::new(Stream::Plain(stream), role, LIMITS, Vec::new());
        next.text(&mut ours.out, |text| text.push_str("first words"));
        let Ours { socket, read, out } = ours;
        let leaving = Ours { socket, read, out: relay::ws::WriteBuffer::new() };
        tokio::join!(leaving.finish(), async {
            let mut sent = Vec::new();
            peer.read_to_end(&mut sent).await.unwrap();
            let frames = crate::ws_peer::frames_of(role, &sent);
            assert_eq!(frames[0].payload, b"last words");
            assert_eq!(frames[1].payload, 1_000_u16.to_be_bytes());
            drop(peer);
        });
        let mut next = Ours { socket: next, read: relay::ws::ReadBuffer::new(), out };
        next.flush_all().await.unwrap();
        drop(next);
        let mut sent = Vec::new();
        other.read_to_end(&mut sent).await.unwrap();
        assert_eq!(crate::ws_peer::frames_of(role, &sent)[0].payload, b"first words");
    }
}

#[tokio::test]
async fn pongs_of_one_read_are_one_sign_of_life() {
    for role in BOTH {
        let (stream, mut peer) = loopback().await;
        let mut ours = Ours::new(stream, role, &[]);
        let flood: Vec<u8> = (0..1_000).flat_map(|_| frame(role, FIN | PONG, b"")).collect();
        let text = frame(role, FIN | TEXT, b"still here");
        peer.write_all(&[flood, text].concat()).await.unwrap();
        let mut said = Vec::new();
        while !said.contains(&Said::Text("still here".into())) {
            said.extend(ours.next().await.unwrap());
        }
        // One for each read; how many reads it took is the kernel's affair.
        assert!((2..=8).contains(&said.len()), "{said:?}");
        assert_eq!(said[0], Said::Pong);
    }
}

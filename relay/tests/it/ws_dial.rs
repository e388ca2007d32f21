//! Dialling an agent, in clear and over TLS, and what each way to fail is called.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use link::secret::Secret;
use relay::dial::{self, BadTarget, DialError, Step, Target};
use relay::stream::Stream;
use relay::tls::{self, TlsError};
use relay::ws::{CloseCode, Limits, Role, Socket};
use rustls::{ClientConfig, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::ws_peer::{FIN, LIMITS, Ours, Said, TEXT, frame};

/// Certificates of a private authority, as an operator would have them.
pub(crate) struct Pki {
    dir: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let authority_cert = authority.self_signed(&authority_key).unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let leaf =
            rcgen::CertificateParams::new(names).unwrap().signed_by(&leaf_key, &issuer).unwrap();
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", authority_cert.pem());
        write("cert.pem", leaf.pem());
        write("key.pem", leaf_key.serialize_pem());
        write("empty.pem", "nothing\n".into());
        Self { dir }
    }

    /// The file that a relay trusts the authority by.
    pub(crate) fn ca(&self) -> String {
        self.dir.path().join("ca.pem").to_str().unwrap().to_owned()
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        tls::server_config(&self.dir.path().join("cert.pem"), &self.dir.path().join("key.pem"))
            .unwrap()
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        tls::client_config(Some(&self.dir.path().join("ca.pem"))).unwrap()
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads a request's head.
async fn head(stream: &mut Stream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The head of a good answer to a request.
fn accepted(request: &str) -> String {
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .expect("the request carries a key");
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// Dials `url` while `serve` has the accepted connection.
async fn dial<T>(
    listener: TcpListener,
    target: &Target,
    config: &Arc<ClientConfig>,
    serve: impl AsyncFnOnce(TcpStream) -> T,
) -> (Result<Socket, DialError>, T) {
    let service = async { serve(listener.accept().await.unwrap().0).await };
    tokio::join!(dial::connect(target, config, LIMITS), service)
}

fn target(address: SocketAddr) -> Target {
    Target::parse(&format!("ws://{address}/v1/realtime?model=x#not-sent")).unwrap()
}

#[tokio::test]
async fn a_first_message_in_one_packet_with_the_answer_is_not_lost() {
    let pki = Pki::new();
    let config = pki.client();
    let first = frame(Role::Client, FIN | TEXT, b"session.created");
    let second = frame(Role::Client, FIN | TEXT, b"and another");
    let both = [first, second].concat();
    for cut in [0, 1, 2, 10, both.len()] {
        let (listener, address) = listen().await;
        let (socket, peer) = dial(listener, &target(address), &config, async |tcp| {
            let mut stream = Stream::Plain(tcp);
            let mut answer = accepted(&head(&mut stream).await).into_bytes();
            answer.extend_from_slice(&both[..cut]);
            stream.write_all(&answer).await.unwrap();
            stream
        })
        .await;
        let mut ours = Ours::with(socket.unwrap());
        let mut peer = peer;
        peer.write_all(&both[cut..]).await.unwrap();
        let mut said = Vec::new();
        while said.len() < 2 {
            said.extend(ours.next().await.unwrap());
        }
        let expected = [Said::Text("session.created".into()), Said::Text("and another".into())];
        assert_eq!(said, expected, "{cut} bytes came with the answer");
    }
}

#[tokio::test]
async fn the_service_sees_the_path_the_host_and_the_key() {
    let pki = Pki::new();
    let (listener, address) = listen().await;
    let target = target(address).with_bearer(&Secret::new("sk-test")).unwrap();
    assert!(!format!("{target:?}").contains("sk-test"));
    let (socket, request) = dial(listener, &target, &pki.client(), async |tcp| {
        let mut stream = Stream::Plain(tcp);
        let request = head(&mut stream).await;
        stream.write_all(accepted(&request).as_bytes()).await.unwrap();
        request
    })
    .await;
    socket.unwrap();
    assert!(request.starts_with("GET /v1/realtime?model=x HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("Host: {address}\r\n")), "{request}");
    assert!(request.contains("authorization: Bearer sk-test\r\n"), "{request}");
}

#[tokio::test]
async fn both_ends_talk_over_tls_through_our_sockets() {
    let pki = Pki::new();
    let (listener, address) = listen().await;
    let url = format!("wss://localhost:{}/v1/realtime", address.port());
    let target = Target::parse(&url).unwrap();
    let server = pki.server();
    let (socket, mut theirs) = dial(listener, &target, &pki.client(), async |tcp| {
        let mut stream = tls::accept(tcp, &server).await.unwrap();
        let request = head(&mut stream).await;
        stream.write_all(accepted(&request).as_bytes()).await.unwrap();
        Ours::over(stream, Role::Server, b"")
    })
    .await;
    let mut ours = Ours::with(socket.unwrap());
    for length in [0, 400, 16_000, 70_000] {
        let text = "é".repeat(length / 2);
        ours.say(&text);
        let (sent, got) = tokio::join!(ours.flush_all(), theirs.next());
        sent.unwrap();
        assert_eq!(got.unwrap(), [Said::Text(text.clone())]);
        theirs.say(&text);
        let (sent, got) = tokio::join!(theirs.flush_all(), ours.next());
        sent.unwrap();
        assert_eq!(got.unwrap(), [Said::Text(text)]);
    }
    ours.close(CloseCode::NORMAL, "done");
    ours.flush_all().await.unwrap();
    assert_eq!(theirs.next().await.unwrap(), [Said::Closed(1000, "done".into())]);
    tokio::join!(ours.finish(), theirs.finish());
}

#[tokio::test]
async fn a_backlog_over_tls_is_seen_and_drains() {
    let pki = Pki::new();
    let (listener, address) = listen().await;
    let target = Target::parse(&format!("wss://127.0.0.1:{}/", address.port())).unwrap();
    let server = pki.server();
    let (socket, mut theirs) = dial(listener, &target, &pki.client(), async |tcp| {
        let mut stream = tls::accept(tcp, &server).await.unwrap();
        let request = head(&mut stream).await;
        stream.write_all(accepted(&request).as_bytes()).await.unwrap();
        Ours::over(stream, Role::Server, b"")
    })
    .await;
    let mut ours = Ours::with(socket.unwrap());
    let line = |number: usize| format!("{number:0>1000}");
    let mut said = 0;
    loop {
        ours.say(&line(said));
        said += 1;
        if matches!(ours.flush_once().await.unwrap(), relay::ws::Backlog::Stalled(_)) {
            break;
        }
    }
    let listen = async {
        let mut heard = Vec::new();
        while heard.len() < said {
            heard.extend(theirs.next().await.unwrap());
        }
        heard
    };
    let (sent, heard) = tokio::join!(ours.flush_all(), listen);
    sent.unwrap();
    let expected: Vec<_> = (0..said).map(|number| Said::Text(line(number))).collect();
    assert!(heard == expected, "{} of {said} lines", heard.len());
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (listener, address) = listen().await;
    let target = Target::parse(&format!("wss://localhost:{}/", address.port())).unwrap();
    let server = pki.server();
    let (socket, accepted) = dial(listener, &target, &other.client(), async |tcp| {
        tls::accept(tcp, &server).await.map(drop)
    })
    .await;
    let error = socket.unwrap_err();
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
    assert!(!error.is_refusal());
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_refusal_is_told_from_a_broken_answer_and_from_silence() {
    let pki = Pki::new();
    let config = pki.client();
    let answer = async |text: &'static [u8]| {
        let (listener, address) = listen().await;
        let target = target(address).with_bearer(&Secret::new("sk-test")).unwrap();
        let (socket, ()) = dial(listener, &target, &config, async |tcp| {
            let mut stream = Stream::Plain(tcp);
            head(&mut stream).await;
            stream.write_all(text).await.unwrap();
        })
        .await;
        let error = socket.unwrap_err();
        assert!(!format!("{error:?} {error}").contains("sk-test"), "{error:?}");
        error
    };
    let unauthorized =
        answer(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 11\r\n\r\nkey sk-test").await;
    assert!(matches!(&unauthorized, DialError::Refused { status } if *status == 401));
    assert!(unauthorized.is_refusal());
    let elsewhere = answer(b"HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1/\r\n\r\n").await;
    assert!(matches!(&elsewhere, DialError::Refused { status } if *status == 302));
    let wrong_key = answer(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
          sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    )
    .await;
    assert!(matches!(wrong_key, DialError::BadAnswer(_)), "{wrong_key:?}");
    let no_http = answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert!(matches!(no_http, DialError::BadAnswer(_)), "{no_http:?}");
    let hung_up = answer(b"HTTP/1.1 101 Switching").await;
    assert!(matches!(hung_up, DialError::Broken(_)) && !hung_up.is_refusal(), "{hung_up:?}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let pki = Pki::new();
    let (listener, address) = listen().await;
    drop(listener);
    let error = dial::connect(&target(address), &pki.client(), Limits::AGENT).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(_)), "{error:?}");
    assert!(!error.is_refusal());
}

/// Dials a service that takes the connection and says nothing. The clock stands still from then
/// on, which means that it leaps to the next deadline once nothing else is left to do.
async fn too_slow(target: &Target, config: &Arc<ClientConfig>, listener: TcpListener) -> DialError {
    let (socket, ()) = dial(listener, target, config, async |mut tcp| {
        tokio::time::pause();
        while tcp.read(&mut [0; 1_024]).await.is_ok_and(|bytes| bytes > 0) {}
        tokio::time::resume();
    })
    .await;
    socket.unwrap_err()
}

#[tokio::test]
async fn a_service_that_takes_the_connection_and_says_nothing_is_given_up() {
    let pki = Pki::new();
    let config = pki.client();
    let (listener, address) = listen().await;
    let error = too_slow(&target(address), &config, listener).await;
    assert!(matches!(error, DialError::TimedOut(Step::Upgrade)), "{error:?}");
    let (listener, address) = listen().await;
    let secure = Target::parse(&format!("wss://{address}/")).unwrap();
    let error = too_slow(&secure, &config, listener).await;
    assert!(matches!(error, DialError::TimedOut(Step::Tls)), "{error:?}");
}

#[tokio::test]
async fn a_key_does_not_travel_in_clear_beyond_loopback() {
    let pki = Pki::new();
    let target = Target::parse("ws://192.0.2.1/v1/realtime").unwrap();
    let error = dial::connect(&target, &pki.client(), LIMITS).await.unwrap_err();
    assert!(matches!(error, DialError::NotLoopback), "{error:?}");
}

#[test]
fn addresses_that_are_none_are_mistakes() {
    for url in ["", "wss://", "/v1", "wss://user@host/", "wss://u:p@host/"] {
        assert_eq!(Target::parse(url).unwrap_err(), BadTarget::Url, "{url}");
    }
    for url in ["https://host/", "http://host/", "file:///etc/passwd"] {
        assert_eq!(Target::parse(url).unwrap_err(), BadTarget::Scheme, "{url}");
    }
    let target = Target::parse("wss://host/").unwrap();
    let injected = Secret::new("sk\r\nx-admin: yes");
    assert_eq!(target.with_bearer(&injected).unwrap_err(), BadTarget::Header);
}

#[test]
fn files_that_hold_no_certificate_are_named() {
    let pki = Pki::new();
    let path = |name: &str| pki.dir.path().join(name);
    let error = tls::server_config(&path("empty.pem"), &path("key.pem")).unwrap_err();
    assert!(matches!(&error, TlsError::NoCertificate { path } if path.ends_with("empty.pem")));
    let error = tls::server_config(&path("missing.pem"), &path("key.pem")).unwrap_err();
    assert!(error.to_string().contains("missing.pem"));
    let error = tls::server_config(&path("cert.pem"), &path("cert.pem")).unwrap_err();
    assert!(matches!(error, TlsError::Pem { .. }));
    let other = Pki::new();
    let error =
        tls::server_config(&path("cert.pem"), &other.dir.path().join("key.pem")).unwrap_err();
    assert!(matches!(error, TlsError::Unusable(_)));
    assert!(tls::client_config(Some(&path("empty.pem"))).is_err());
}

//! The way to control, over real sockets: what passes, what is refused, and what each failure says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay::forward::{BadBackend, Forward, Origin, Scheme, WAITING_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ORIGIN: Origin =
    Origin { address: std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), scheme: Scheme::Https };

/// Serves one client connection by the forwarder, as the public listener does.
async fn serve(listener: &TcpListener, forward: &Forward) {
    let (tcp, _) = listener.accept().await.unwrap();
    let service =
        service_fn(async |request| Ok::<_, Infallible>(forward.forward(request, ORIGIN).await));
    // A client that goes away early is an error here, and of no interest.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(tcp), service)
        .await
        .ok();
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn to(address: SocketAddr) -> Forward {
    Forward::new(&format!("http://{address}")).unwrap()
}

/// Reads until the bytes end with `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(error) => panic!("{error} behind {:?}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8(text).unwrap()
}

/// Runs a client against a forwarder, with a scripted control behind it.
async fn between<T, U>(
    client: impl AsyncFnOnce(TcpStream) -> T,
    control: impl AsyncFnOnce(TcpStream) -> U,
) -> (T, U) {
    let (behind, address) = listen().await;
    let (front, public) = listen().await;
    let forward = to(address);
    let (answer, (), seen) = tokio::join!(
        async { client(TcpStream::connect(public).await.unwrap()).await },
        serve(&front, &forward),
        async { control(behind.accept().await.unwrap().0).await },
    );
    (answer, seen)
}

/// Sends a request, reads everything that comes back.
async fn ask(mut stream: TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Reads a request's head and answers it.
async fn answer(mut stream: TcpStream, text: &str) -> String {
    let head = read_until(&mut stream, "\r\n\r\n").await;
    stream.write_all(text.as_bytes()).await.unwrap();
    head
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_webhook_reaches_control_unchanged_and_says_where_it_came_from() {
    let request = b"POST /v1/twilio/voice?a=%20b HTTP/1.1\r\nHost: voice.example.com\r\n\
        X-Twilio-Signature: abc=\r\nX-Forwarded-For: 198.51.100.7\r\nConnection: close\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nCallSid=1";
    let (answer, (head, body)) = between(
        async |stream| ask(stream, request).await,
        async |mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let body = read_until(&mut stream, "CallSid=1").await;
            stream
                .write_all(
                    b"HTTP/1.1 201 Created\r\nx-a: b\r\nKeep-Alive: timeout=5\r\n\
                content-type: text/xml\r\ncontent-length: 11\r\n\r\n<Response/>",
                )
                .await
                .unwrap();
            (head, body)
        },
    )
    .await;
    assert!(head.starts_with("POST /v1/twilio/voice?a=%20b HTTP/1.1\r\n"), "{head}");
    for line in [
        "host: voice.example.com",
        "x-twilio-signature: abc=",
        "x-forwarded-for: 198.51.100.7, 203.0.113.9",
        "x-forwarded-proto: https",
        "content-length: 9",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
    assert!(!head.contains("connection"), "{head}");
    assert_eq!(body, "CallSid=1");
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert!(answer.contains("x-a: b\r\n"), "{answer}");
    assert!(!answer.to_lowercase().contains("keep-alive"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n<Response/>"), "{answer}");
}

#[tokio::test]
async fn each_event_of_a_stream_passes_before_the_next_is_made() {
    let (events, ()) = between(
        async |mut stream| {
            stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut events = Vec::new();
            for number in 0..3 {
                let end = format!("data: {number}\n\n\r\n");
                events.push(read_until(&mut stream, &end).await);
                // Only now does control go on.
                stream.write_all(b"").await.unwrap();
            }
            events
        },
        async |mut stream| {
            read_until(&mut stream, "\r\n\r\n").await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            for number in 0..3 {
                let event = format!("data: {number}\n\n");
                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }
            // The client has gone with its three events: the connection to control ends too.
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        },
    )
    .await;
    assert!(events[0].contains("content-type: text/event-stream"), "{}", events[0]);
}

#[tokio::test]
async fn a_body_passes_while_it_is_still_being_sent() {
    let (answer, ()) = between(
        async |mut stream| {
            let head = b"POST /v1/calls HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
            stream.write_all(head).await.unwrap();
            // Control has answered this piece before the rest exists.
            let first = read_until(&mut stream, "first").await;
            ask(stream, b"3\r\ndef\r\n0\r\n\r\n").await;
            first
        },
        async |mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            read_until(&mut stream, "abc\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await.unwrap();
            read_until(&mut stream, "def\r\n0\r\n\r\n").await;
            stream.write_all(b" last").await.unwrap();
        },
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let (seen, _) = between(
        async |stream| ask(stream, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await,
        async |stream| {
            let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\
                content-length: 0\r\n\r\n";
            answer(stream, moved).await
        },
    )
    .await;
    assert!(seen.starts_with("HTTP/1.1 302 Found\r\n"), "{seen}");
    assert!(seen.contains("location: http://127.0.0.1:1/\r\n"), "{seen}");
}

#[tokio::test]
async fn a_head_request_is_answered_with_the_length_and_no_body() {
    let head = b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (seen, _) = between(
        async |stream| ask(stream, head).await,
        async |stream| answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await,
    )
    .await;
    assert!(seen.contains("content-length: 5\r\n") && seen.ends_with("\r\n\r\n"), "{seen}");
}

#[tokio::test]
async fn a_request_cannot_choose_another_host_or_drop_headers_that_matter() {
    let request = b"GET http://metadata.internal/v1/calls HTTP/1.1\r\nHost: voice.example.com\r\n\
        Connection: close, x-forwarded-for, host, x-secret\r\nX-Secret: 1\r\nUpgrade: h2c\r\n\
        TE: trailers\r\nProxy-Connection: keep-alive\r\nX-Forwarded-Proto: gopher\r\n\
        X-Forwarded-For: 127.0.0.1\r\n\r\n";
    let (_, head) =
        between(async |stream| ask(stream, request).await, async |stream| answer(stream, OK).await)
            .await;
    assert!(head.starts_with("GET /v1/calls HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: voice.example.com\r\n"), "{head}");
    // What the client wished to drop is dropped, and our own entry stands.
    assert!(head.contains("x-forwarded-for: 203.0.113.9\r\n"), "{head}");
    assert!(head.contains("x-forwarded-proto: gopher, https\r\n"), "{head}");
    for gone in ["x-secret", "upgrade", "te:", "proxy-connection", "metadata", "\r\nconnection"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
}

#[tokio::test]
async fn a_header_cannot_smuggle_a_second_request() {
    for request in [
        &b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"[..],
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rGET /admin HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ] {
        let (front, public) = listen().await;
        let (behind, address) = listen().await;
        let forward = to(address);
        let client = async { ask(TcpStream::connect(public).await.unwrap(), request).await };
        let shown = String::from_utf8_lossy(request);
        let (answer, ()) = tokio::join!(client, serve(&front, &forward));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shown}: {answer}");
        let reached = std::pin::pin!(behind.accept());
        assert!(futures_util::poll!(reached).is_pending(), "{shown} reached control");
    }
    // Both kinds of length: chunked wins, and control sees one length only.
    let both = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 40\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (_, head) = between(
        async |stream| ask(stream, both).await,
        async |mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            head
        },
    )
    .await;
    assert!(!head.contains("content-length: 40"), "{head}");
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_refused() {
    let head =
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048577\r\n\r\n";
    let (front, public) = listen().await;
    let forward = Forward::new("http://127.0.0.1:1").unwrap();
    let client = async { ask(TcpStream::connect(public).await.unwrap(), head).await };
    let (announced, ()) = tokio::join!(client, serve(&front, &forward));
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let (counted, _) = between(
        async |mut stream| {
            let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
            // The refusal may close the connection before all is sent.
            for _ in 0..17 {
                if stream.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            read_until(&mut stream, "1 MiB long.\n").await
        },
        async |mut stream| while stream.read(&mut [0; 0x10000]).await.is_ok_and(|n| n > 0) {},
    )
    .await;
    assert!(counted.starts_with("HTTP/1.1 413 "), "{counted}");
}

/// One request through `forward`, with nobody scripted behind it.
async fn once(forward: &Forward) -> String {
    let (front, public) = listen().await;
    let get = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let client = async { ask(TcpStream::connect(public).await.unwrap(), get).await };
    tokio::join!(client, serve(&front, forward)).0
}

#[tokio::test]
async fn a_control_that_is_away_is_a_502_that_shows_nothing_of_it() {
    let (behind, address) = listen().await;
    drop(behind);
    let answer = once(&to(address)).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nThe control plane cannot be reached.\n"), "{answer}");
    assert!(!answer.contains("127.0.0.1") && !answer.contains(&address.port().to_string()));
}

#[tokio::test]
async fn a_control_that_breaks_off_or_talks_nonsense_is_a_502() {
    for nonsense in ["", "HTTP/1.1 200 OK\r\n", "220 smtp ready\r\n\r\n", "HTTP/1.1 99 x\r\n\r\n"] {
        let (seen, _) = between(
            async |stream| {
                ask(stream, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await
            },
            async |stream| answer(stream, nonsense).await,
        )
        .await;
        assert!(seen.starts_with("HTTP/1.1 502 "), "{nonsense:?}: {seen}");
    }
}

#[tokio::test]
async fn a_control_that_does_not_answer_is_a_504() {
    let (behind, address) = listen().await;
    let forward = to(address);
    let hold = async {
        let held = behind.accept().await.unwrap();
        // From here on, the clock leaps to the deadline once nothing else is left to do.
        tokio::time::pause();
        held
    };
    let (seen, _held) = tokio::join!(once(&forward), hold);
    assert!(seen.starts_with("HTTP/1.1 504 "), "{seen}");
}

#[tokio::test]
async fn requests_that_wait_and_streams_that_stay_have_bounds_of_their_own() {
    let (behind, address) = listen().await;
    let (front, public) = listen().await;
    let forward = to(address);
    let mut clients = Vec::new();
    let mut controls = Vec::new();
    let local = tokio::task::LocalSet::new();
    let work = local.run_until(async {
        let open = async |clients: &mut Vec<TcpStream>| {
            let mut stream = TcpStream::connect(public).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            clients.push(stream);
        };
        let forward = std::rc::Rc::new(forward);
        let serve_next = async || {
            let (tcp, _) = front.accept().await.unwrap();
            let forward = std::rc::Rc::clone(&forward);
            let service = service_fn(move |request| {
                let forward = std::rc::Rc::clone(&forward);
                async move { Ok::<_, Infallible>(forward.forward(request, ORIGIN).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service);
            #[expect(
                clippy::disallowed_methods,
                reason = "many clients at once, ended with the set"
            )]
            tokio::task::spawn_local(async { connection.await.ok() });
        };
        for _ in 0..WAITING_MAX {
            open(&mut clients).await;
            serve_next().await;
            controls.push(behind.accept().await.unwrap().0);
        }
        open(&mut clients).await;
        serve_next().await;
        let mut refused = clients.pop().unwrap();
        let head = read_until(&mut refused, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains("retry-after: 1\r\n"), "{head}");
        // Once their answers have begun, they do not count as waiting any more.
        for (client, control) in clients.iter_mut().zip(&mut controls) {
            read_until(control, "\r\n\r\n").await;
            control.write_all(b"HTTP/1.1 200 OK\r\n\r\n:\n\n").await.unwrap();
            read_until(client, ":\n\n").await;
        }
        open(&mut clients).await;
        serve_next().await;
        let mut control = behind.accept().await.unwrap().0;
        read_until(&mut control, "\r\n\r\n").await;
        control.write_all(OK.as_bytes()).await.unwrap();
        let answer = read_until(clients.last_mut().unwrap(), "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
    work.await;
}

#[test]
fn a_backend_is_a_bare_http_origin() {
    for good in ["http://127.0.0.1:8081", "http://control.internal", "http://[::1]:80/"] {
        Forward::new(good).unwrap();
    }
    for bad in ["", "127.0.0.1:8081", "https://x", "http://x/path", "http://x/?q", "http://u@x"] {
        assert_eq!(Forward::new(bad).unwrap_err(), BadBackend, "{bad}");
    }
}

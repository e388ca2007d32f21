//! Tools over sockets: what a server sees of a request, and what a model is told of its answer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::Future;
use std::time::Duration;

use link::guard::Allowed;
use link::id::CallId;
use link::tool::HttpTool;
use relay::call::output::ToolRequest;
use relay::stream::Stream;
use relay::tls;
use relay::tools::{ANSWER_BYTES_MAX, ToolEnd, Tools};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::ws_dial::Pki;

fn tool(url: &str, timeout_ms: u32) -> HttpTool {
    serde_json::from_value(json!({
        "name": "find_slot", "description": "Finds a slot.", "url": url,
        "timeout_ms": timeout_ms, "signing_key": "whsec",
    }))
    .unwrap()
}

fn tools(allowed: &str) -> Tools {
    Tools::new(Allowed::parse(allowed).unwrap(), Pki::new().client())
}

fn run(tools: &Tools, tool: &HttpTool) -> impl Future<Output = ToolEnd> + use<> {
    let request = ToolRequest { name: "find_slot", call: "call_9", arguments: r#"{"day":"mon"}"# };
    tools.run(tool, &CallId::new("c_1").unwrap(), &request)
}

fn failed(end: ToolEnd) -> String {
    let ToolEnd::Failed(why) = end else { panic!("{end:?} is no failure") };
    why
}

/// Reads a request: head, then as much body as it says.
async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    loop {
        text.push(stream.read_u8().await.unwrap());
        if let Some(head) = text.strip_suffix(b"\r\n\r\n") {
            let head = String::from_utf8(head.to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            return format!("{head}\n\n{}", String::from_utf8(body).unwrap());
        }
    }
}

/// Asks a server that answers once, with these bytes; what it saw, and how the tool ended.
async fn ask(answer: &[u8]) -> (String, ToolEnd) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/slots?x=1", listener.local_addr().unwrap());
    let end = run(&tools("127.0.0.1"), &tool(&url, 5_000));
    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let seen = request(&mut tcp).await;
        tcp.write_all(answer).await.unwrap();
        seen
    };
    tokio::join!(serve, end)
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_request_carries_body_key_and_signature() {
    let (seen, end) = ask(&answer("200 OK", br#"{"slot":"10:00"}"#)).await;
    assert_eq!(end, ToolEnd::Done(r#"{"slot":"10:00"}"#.into()));
    assert!(seen.starts_with("POST /slots?x=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with(r#"{"call":"c_1","tool":"find_slot","arguments":{"day":"mon"}}"#));
    assert!(seen.contains("\r\nidempotency-key: c_1.call_9\r\n"), "{seen}");
    assert!(seen.contains("\r\nhost: 127.0.0.1:"), "{seen}");
    let signature = seen.lines().find_map(|line| line.strip_prefix("linecard-signature: t="));
    let (seconds, digest) = signature.unwrap().split_once(",v1=").unwrap();
    assert!(seconds.parse::<u64>().is_ok() && digest.len() == 64, "{seen}");
}

#[tokio::test]
async fn an_answer_in_pieces_is_put_together() {
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(ask(chunked).await.1, ToolEnd::Done("abcde".into()));
    let until_closed = b"HTTP/1.1 200 OK\r\n\r\nall of it";
    assert_eq!(ask(until_closed).await.1, ToolEnd::Done("all of it".into()));
    assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n").await.1, ToolEnd::Done(String::new()));
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let most = vec![b'x'; ANSWER_BYTES_MAX];
    let (_, end) = ask(&answer("200 OK", &most)).await;
    assert_eq!(end, ToolEnd::Done(String::from_utf8(most.clone()).unwrap()));
    let more = [most.as_slice(), b"x"].concat();
    assert!(failed(ask(&answer("200 OK", &more)).await.1).contains("longer than 16 KiB"));
    // A refusal's length does not hide its status.
    let why = failed(ask(&answer("500 Oh", &more[..8_000])).await.1);
    assert!(why.starts_with("The tool failed with status 500: xxx") && why.len() < 600, "{why}");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_text() {
    let text = "\u{e4}".repeat(600);
    let why = failed(ask(&answer("409 Conflict", text.as_bytes())).await.1);
    assert_eq!(why, format!("The tool failed with status 409: {}", "\u{e4}".repeat(256)));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let head = format!("HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\n\r\n");
        let why = failed(ask(head.as_bytes()).await.1);
        assert!(why.contains("sent the request elsewhere"), "{why}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure() {
    for nonsense in [&b""[..], b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"]
    {
        let why = failed(ask(nonsense).await.1);
        assert!(why.contains("It is not known whether anything was done"), "{why}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 40_000]].concat();
    assert!(failed(ask(&endless).await.1).contains("broke off"));
    assert!(failed(ask(&answer("200 OK", b"\xFF\xFE")).await.1).contains("not text"));
}

#[tokio::test]
async fn a_server_that_is_silent_or_slow_times_out() {
    for spoken in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let end = run(&tools("127.0.0.1"), &tool(&url, 100));
        let serve = async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            request(&mut tcp).await;
            tcp.write_all(spoken.as_bytes()).await.unwrap();
            // The relay goes away, and nothing is left open.
            assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0);
        };
        let ((), end) =
            tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(serve, end) })
                .await
                .unwrap();
        assert_eq!(end, ToolEnd::TimedOut, "{spoken:?}");
    }
}

#[tokio::test]
async fn an_address_behind_the_relay_is_not_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "[::]",
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/");
            let why = failed(run(&tools("10.0.0.0/8"), &tool(&url, 2_000)).await);
            assert!(why.contains("may not be reached"), "{url}: {why}");
        }
    }
    // Nobody knocked.
    let knock = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(knock.is_err());
}

#[tokio::test]
async fn a_listed_name_is_reached_whatever_it_resolves_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let end = run(&tools("localhost"), &tool(&url, 5_000));
    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let seen = request(&mut tcp).await;
        tcp.write_all(&answer("200 OK", b"yes")).await.unwrap();
        seen
    };
    let (seen, end) = tokio::join!(serve, end);
    assert!(seen.contains("\r\nhost: localhost:"), "{seen}");
    assert_eq!(end, ToolEnd::Done("yes".into()));
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_name_the_host() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    for (trusted, host, reached) in
        [(&ours, "localhost", true), (&ours, "127.0.0.1", true), (&theirs, "localhost", false)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{host}:{}/", listener.local_addr().unwrap().port());
        let tools = Tools::new(Allowed::parse("localhost,127.0.0.1").unwrap(), trusted.client());
        let end = run(&tools, &tool(&url, 5_000));
        let serve = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream): Result<Stream, _> = tls::accept(tcp, &ours.server()).await else {
                return;
            };
            request(&mut stream).await;
            stream.write_all(&answer("200 OK", b"yes")).await.unwrap();
            stream.flush().await.unwrap();
        };
        let ((), end) = tokio::join!(serve, end);
        match reached {
            true => assert_eq!(end, ToolEnd::Done("yes".into()), "{host}"),
            false => assert!(failed(end).contains("cannot be reached safely")),
        }
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let why = failed(run(&tools("127.0.0.1"), &tool(&url, 2_000)).await);
    assert_eq!(why, "The tool cannot be reached. Nothing was done.");
}

//! Says back whatever it hears, over the relay's own WebSockets: the peer that a protocol test
//! suite wants, in both roles. `scripts/autobahn.sh` runs it.
//!
//! `echo serve` listens on a port of its own and prints where; `echo ask URL` goes through the
//! cases of a fuzzing server.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]
#![expect(clippy::disallowed_methods, reason = "a peer for tests that owns its few tasks")]

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail};
use relay::dial::{self, Target};
use relay::stream::Stream;
use relay::tls;
use relay::ws::{Backlog, CloseCode, Limits, Message, ReadBuffer, Role, Socket, WriteBuffer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The suite's longest messages are 16 MiB, in frames and in fragments.
const LIMITS: Limits =
    Limits { message_bytes_max: 17 << 20, stall_bytes: 1 << 20, backlog_bytes_max: 64 << 20 };
/// How long a peer may take to close the connection once all is said.
const CLOSE_MAX: Duration = Duration::from_secs(2);
const HEAD_BYTES_MAX: usize = 8 << 10;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve"] => LocalSet::new().block_on(&runtime, serve()),
        ["ask", url] => runtime.block_on(ask(url)),
        _ => bail!("usage: echo serve | echo ask ws://127.0.0.1:PORT"),
    }
}

/// Serves until it is killed.
async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("echo listening ws://{}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        spawn_local(async move {
            if let Some(socket) = upgraded(tcp).await {
                echo(socket, |_| {}).await;
            }
        });
    }
}

/// Answers a handshake, with just as much HTTP as the suite needs: the relay's own is hyper's.
async fn upgraded(mut tcp: TcpStream) -> Option<Socket> {
    tcp.set_nodelay(true).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.ok()?);
        if head.len() > HEAD_BYTES_MAX {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    tcp.write_all(answer.as_bytes()).await.ok()?;
    Some(Socket::new(Stream::Plain(tcp), Role::Server, LIMITS, Vec::new()))
}

/// Goes through all cases of a fuzzing server and asks it to write its report.
async fn ask(url: &str) -> anyhow::Result<()> {
    let mut count = String::new();
    echo(dialled(&format!("{url}/getCaseCount")).await?, |text| text.clone_into(&mut count)).await;
    let cases: u32 = count.parse().context("the number of cases")?;
    for case in 1..=cases {
        echo(dialled(&format!("{url}/runCase?case={case}&agent=linecard")).await?, |_| {}).await;
    }
    echo(dialled(&format!("{url}/updateReports?agent=linecard")).await?, |_| {}).await;
    println!("echo went through {cases} cases");
    Ok(())
}

async fn dialled(url: &str) -> anyhow::Result<Socket> {
    Ok(dial::connect(&Target::parse(url)?, &tls::client_config(None)?, LIMITS).await?)
}

/// Says back what comes until there is nothing more to come.
async fn echo(mut socket: Socket, mut heard: impl FnMut(&str)) {
    let (mut read, mut out) = (ReadBuffer::new(), WriteBuffer::new());
    poll_fn(|cx| step(cx, &mut socket, &mut read, &mut out, &mut heard)).await;
    let closing = poll_fn(|cx| socket.poll_finish(cx, &mut out, &mut read));
    // A peer that does not close is left alone.
    let _ = timeout(CLOSE_MAX, closing).await;
}

/// One wake: everything that has come is answered; ready once the peer has said its last word.
fn step(
    cx: &mut Context<'_>,
    socket: &mut Socket,
    read: &mut ReadBuffer,
    out: &mut WriteBuffer,
    heard: &mut impl FnMut(&str),
) -> Poll<()> {
    loop {
        match socket.flush(cx, out) {
            Ok(Backlog::None | Backlog::Waiting(_)) => {}
            // The answers are as long as what they answer: the peer has to take them first.
            Ok(Backlog::Stalled(_)) => return Poll::Pending,
            Err(_) => return Poll::Ready(()),
        }
        let messages = match socket.poll_read(cx, read) {
            Poll::Ready(Ok(messages)) => messages,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => break,
        };
        // The suite wants a pong before the answer to what came behind the ping.
        if socket.flush(cx, out).is_err() {
            return Poll::Ready(());
        }
        for message in messages {
            // A pong is a sign of life and wants no answer.
            if let Message::Text(text) = message {
                heard(text);
                socket.text(out, |answer| answer.push_str(text));
            } else if let Message::Binary(bytes) = message {
                socket.binary(out, bytes);
            } else if let Message::Closed { .. } = message {
                socket.close(CloseCode::NORMAL, "");
            }
        }
    }
    // A read that gave nothing may have left a pong to send.
    match socket.flush(cx, out) {
        Ok(_) => Poll::Pending,
        Err(_) => Poll::Ready(()),
    }
}

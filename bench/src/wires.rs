//! The sockets of a call on loopback: from the caller's masked frame to the agent's, and back.
//!
//! The far ends are raw TCP streams of the bench, which write whole frames and read whatever
//! comes; everything between them is the relay's.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use relay::stream::{Leg, Stream, tune};
use relay::ws::{Backlog, Limits, Message, Messages, ReadBuffer, Role, Socket, WriteBuffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::line::{Line, Lines};

/// One call's two legs, and the shard's buffers.
pub struct Wires {
    /// The far end of the caller's leg.
    pub phone: TcpStream,
    /// The far end of the agent's leg.
    pub model: TcpStream,
    caller: Socket,
    agent: Socket,
    read: ReadBuffer,
    to_caller: WriteBuffer,
    to_agent: WriteBuffer,
    heard: Vec<u8>,
}

impl Wires {
    /// Connects both legs.
    ///
    /// # Errors
    /// When loopback does not work.
    pub async fn connect() -> io::Result<Self> {
        let (phone, caller) = pair(Leg::Caller).await?;
        let (model, agent) = pair(Leg::Agent).await?;
        let socket = |tcp, role, limits| Socket::new(Stream::Plain(tcp), role, limits, Vec::new());
        Ok(Self {
            phone,
            model,
            caller: socket(caller, Role::Server, Limits::CALLER),
            agent: socket(agent, Role::Client, Limits::AGENT),
            read: ReadBuffer::new(),
            to_caller: WriteBuffer::new(),
            to_agent: WriteBuffer::new(),
            heard: vec![0; 64 << 10],
        })
    }

    /// One frame of the caller, as far as the model's end.
    ///
    /// # Panics
    /// When a socket fails.
    pub async fn up(&mut self, line: &mut Line, frame: &[u8]) {
        self.phone.write_all(frame).await.expect("loopback takes a frame");
        let Self { caller, agent, read, to_caller, to_agent, .. } = self;
        poll_fn(|cx| {
            let messages = ready!(caller.poll_read(cx, read)).expect("the frame is whole");
            let mut lines = Frames { caller, agent, to_caller, to_agent };
            for text in texts(messages) {
                line.caller_says(text, &mut lines);
            }
            Poll::Ready(())
        })
        .await;
        flush(agent, to_agent).await;
        let arrived = self.model.read(&mut self.heard).await.expect("the frame arrives");
        assert!(arrived > 0, "the relay hung up");
    }

    /// One frame of the model, as far as the phone's end.
    ///
    /// # Panics
    /// When a socket fails.
    pub async fn down(&mut self, line: &mut Line, frame: &[u8]) {
        self.model.write_all(frame).await.expect("loopback takes a frame");
        let Self { caller, agent, read, to_caller, to_agent, .. } = self;
        poll_fn(|cx| {
            let messages = ready!(agent.poll_read(cx, read)).expect("the frame is whole");
            let mut lines = Frames { caller, agent, to_caller, to_agent };
            for text in texts(messages) {
                line.agent_says(text, &mut lines);
            }
            Poll::Ready(())
        })
        .await;
        flush(caller, to_caller).await;
        let arrived = self.phone.read(&mut self.heard).await.expect("the frame arrives");
        assert!(arrived > 0, "the relay hung up");
    }
}

/// The floor: the same bytes through two sockets in the same way, and nothing looked at.
pub struct Floor {
    far: [TcpStream; 2],
    near: [TcpStream; 2],
    heard: Vec<u8>,
}

impl Floor {
    /// Connects both legs.
    ///
    /// # Errors
    /// When loopback does not work.
    pub async fn connect() -> io::Result<Self> {
        let (phone, caller) = pair(Leg::Caller).await?;
        let (model, agent) = pair(Leg::Agent).await?;
        Ok(Self { far: [phone, model], near: [caller, agent], heard: vec![0; 64 << 10] })
    }

    /// Copies one frame from end to end.
    ///
    /// # Panics
    /// When a socket fails.
    pub async fn copy(&mut self, frame: &[u8]) {
        let [phone, model] = &mut self.far;
        let [caller, agent] = &mut self.near;
        phone.write_all(frame).await.expect("loopback takes a frame");
        let read = caller.read(&mut self.heard).await.expect("the frame arrives");
        agent.write_all(&self.heard[..read]).await.expect("loopback takes a frame");
        let arrived = model.read(&mut self.heard).await.expect("the frame arrives");
        assert!(arrived > 0, "the relay hung up");
    }
}

/// A text in one frame, as the caller's or the model's end sends it. The caller's mask is zero, so
/// that a bench can write into the frame; the relay takes it off like any other.
#[must_use]
pub fn framed(text: &str, role: Role) -> Vec<u8> {
    let mask_bit = if role == Role::Client { 0x80 } else { 0x00 };
    let length = u16::try_from(text.len()).expect("a bench's message is short");
    let mut frame = vec![0x81];
    match u8::try_from(length) {
        Ok(short @ ..=125) => frame.push(mask_bit | short),
        Ok(_) | Err(_) => {
            frame.push(mask_bit | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    if role == Role::Client {
        frame.extend_from_slice(&[0; 4]);
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}

async fn pair(leg: Leg) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let far = TcpStream::connect(listener.local_addr()?).await?;
    let (near, _) = listener.accept().await?;
    far.set_nodelay(true)?;
    tune(&near, leg)?;
    Ok((far, near))
}

fn texts(messages: Messages<'_>) -> impl Iterator<Item = &str> {
    messages.map(|message| match message {
        Message::Text(text) => text,
        Message::Binary(_) | Message::Pong | Message::Closed { .. } => {
            unreachable!("the far ends say text")
        }
    })
}

async fn flush(socket: &mut Socket, out: &mut WriteBuffer) {
    let flushed = poll_fn(|cx| Poll::Ready(socket.flush(cx, out))).await;
    assert_eq!(flushed.ok(), Some(Backlog::None), "loopback takes a frame");
}

/// What a call says, framed into the shard's buffers.
struct Frames<'a> {
    caller: &'a mut Socket,
    agent: &'a mut Socket,
    to_caller: &'a mut WriteBuffer,
    to_agent: &'a mut WriteBuffer,
}

impl Lines for Frames<'_> {
    fn caller(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.caller.text(self.to_caller, |text| write(text));
    }

    fn agent(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.agent.text(self.to_agent, |text| write(text));
    }
}

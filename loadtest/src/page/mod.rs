//! A strict fake of a web page on which somebody talks with an agent: a WebSocket, a microphone and
//! a loudspeaker, in real time, without a browser.
//!
//! It was written from what a page may rely on, not from the relay: audio is binary, 16-bit samples
//! at 24 kHz; text is JSON with a `type` and exactly the fields of that type. What the loudspeaker
//! has played is reported by the number of the frame, counted from 1. Anything else that the relay
//! says is a fault, and the page goes.

mod ear;
mod words;

use std::time::Duration;

use codec::rate::SampleRate;
use codec::resample::Resampler;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::{WebSocketStream, client_async};

use self::ear::Ear;
use self::words::FromRelay;
use crate::audio::FRAME_BYTES;
use crate::carrier::Step;
use crate::carrier::person::{self, Act, Caller};
use crate::clock::Stopwatch;

pub use self::words::Said;

/// What a page is given to talk.
#[derive(Debug, Clone)]
pub struct PageSettings {
    /// Where the stream is: a `ws` URL, since nothing here ends TLS.
    pub url: String,
    /// The token of the session.
    pub token: String,
    /// What the browser states as the page's origin; `None` for a program that is no page.
    pub origin: Option<String>,
    /// What the person does. At its end the page stays until the relay ends the session.
    pub script: Vec<Step>,
}

/// What is known of a page's session afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRecord {
    /// From the beginning to `ready`, in milliseconds; `None` when nobody answered.
    pub ready_after_ms: Option<u64>,
    /// What the microphone gave, as it was sent.
    #[serde(skip)]
    pub sent: Vec<u8>,
    /// What the relay sent to be played, in order.
    #[serde(skip)]
    pub received: Vec<u8>,
    /// How many frames that was.
    pub frames: u32,
    /// How much of it was played, in milliseconds.
    pub played_ms: u64,
    /// How much of it a clear threw away, in milliseconds.
    pub cleared_ms: u64,
    /// The most that waited to be played at once, in milliseconds.
    pub queued_ms_max: u64,
    /// How many times the relay cleared.
    pub clears: u32,
    /// The turns, as they were told.
    pub transcript: Vec<Said>,
    /// Why the session ended, in the relay's word; `None` when it did not say.
    pub ended: Option<String>,
    /// The code that the relay closed with; `None` when the page closed, or the socket broke.
    pub closed: Option<u16>,
    /// What the relay did that no page expects.
    pub faults: Vec<String>,
}

/// Why a page could not talk.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The address or the origin is none.
    #[error("the address or the origin cannot be used")]
    Address,
    /// The stream was refused, or nobody answered.
    #[error("the stream was not opened")]
    Open(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// Nobody answered in time.
    #[error("the handshake was not answered in time")]
    Slow,
    /// A sound of the script cannot be loaded.
    #[error("the script cannot be played")]
    Script(#[from] crate::audio::AudioError),
}

/// Talks until somebody ends it.
///
/// # Errors
/// When the stream is not opened; whatever happens later is in the record.
pub async fn talk(settings: PageSettings) -> Result<PageRecord, PageError> {
    let mut request =
        settings.url.as_str().into_client_request().map_err(|_| PageError::Address)?;
    if let Some(origin) = &settings.origin {
        let origin = origin.parse().map_err(|_| PageError::Address)?;
        request.headers_mut().insert("origin", origin);
    }
    let caller = Caller::new(settings.script)?;
    let socket = timeout(HANDSHAKE, open(request)).await.map_err(|_| PageError::Slow)??;
    let mut page = Page {
        socket,
        caller,
        ear: Ear::default(),
        wide: wide(),
        clock: Stopwatch::start(),
        frames: 0,
        record: PageRecord::default(),
    };
    page.say(&words::start(&settings.token)).await;
    while page.step().await {}
    page.play().await;
    page.record.played_ms = page.ear.played_ms();
    Ok(page.record)
}

async fn open(request: Request) -> Result<WebSocketStream<TcpStream>, PageError> {
    let uri = request.uri();
    let host = uri.host().filter(|_| uri.scheme_str() == Some("ws")).ok_or(PageError::Address)?;
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let opened = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        client_async(request, tcp).await
    };
    let (socket, _) = opened.await.map_err(|error| PageError::Open(Box::new(error)))?;
    Ok(socket)
}

/// A page that talks.
struct Page {
    socket: WebSocketStream<TcpStream>,
    caller: Caller,
    ear: Ear,
    /// From what the script holds to what a microphone gives.
    wide: Resampler,
    clock: Stopwatch,
    /// Frames of the microphone so far.
    frames: u64,
    record: PageRecord,
}

impl Page {
    /// Whatever comes first: a message, a frame that was played, or one of the microphone. Says
    /// whether the session goes on.
    async fn step(&mut self) -> bool {
        let frame_us = self.frames * FRAME_US;
        let due_us = self.ear.next_us().map_or(frame_us, |heard| heard.min(frame_us));
        tokio::select! {
            biased;
            message = self.socket.next() => self.hear(message).await,
            () = sleep_until(self.clock.at_micros(due_us)) => self.tick().await,
        }
    }

    async fn tick(&mut self) -> bool {
        self.play().await;
        if self.clock.micros() < self.frames * FRAME_US {
            return true;
        }
        self.frames += 1;
        let ear =
            person::Ear { utterance_ms: self.ear.utterance_ms(), quiet_ms: self.ear.quiet_ms() };
        for act in self.caller.frame(ear) {
            match act {
                Act::Silence => self.speak(&[codec::g711::ULAW_SILENCE; FRAME_BYTES]).await,
                Act::Sound(sound) => self.speak(&sound).await,
                Act::HangUp => {
                    self.say(words::END).await;
                    return true;
                }
                Act::LoseNetwork => return false,
                Act::Begin(_) | Act::Finish | Act::GiveUp | Act::Press(_) => {}
            }
        }
        true
    }

    /// Sends 20 ms of the microphone.
    async fn speak(&mut self, ulaw: &[u8]) {
        let (mut narrow, mut wide, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        codec::g711::ulaw_decode(ulaw, &mut narrow);
        self.wide.process(&narrow, &mut wide);
        codec::pcm::to_le_bytes(&wide, &mut bytes);
        self.record.sent.extend_from_slice(&bytes);
        let _ = self.socket.send(Message::binary(bytes)).await;
    }

    /// Plays up to now and reports what was heard.
    async fn play(&mut self) {
        if let Some(frame) = self.ear.advance(self.clock.micros()) {
            self.say(&words::heard(frame)).await;
        }
    }

    /// Takes a message of the relay. What was due before it is played first, so that a clear throws
    /// away exactly what the ear had not heard.
    async fn hear(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> bool {
        self.play().await;
        match message {
            Some(Ok(Message::Binary(bytes))) => self.media(&bytes),
            Some(Ok(Message::Text(text))) => match words::read(&text) {
                Ok(said) => self.take(said),
                Err(fault) => self.fault(fault),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => true,
            Some(Ok(Message::Close(frame))) => {
                self.record.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
                let _ = self.socket.flush().await;
                false
            }
            Some(Err(_)) | None => false,
        }
    }

    fn media(&mut self, bytes: &[u8]) -> bool {
        if self.record.ready_after_ms.is_none() {
            return self.fault("audio before `ready`".to_owned());
        }
        if bytes.is_empty() || bytes.len() % 2 == 1 {
            return self.fault(format!("{} bytes are no whole samples", bytes.len()));
        }
        self.record.frames += 1;
        self.record.received.extend_from_slice(bytes);
        self.ear.media(bytes.len());
        self.record.queued_ms_max = self.record.queued_ms_max.max(self.ear.queued_ms());
        true
    }

    fn take(&mut self, said: FromRelay) -> bool {
        if self.record.ended.is_some() {
            return self.fault("something after `end`".to_owned());
        }
        match said {
            // Another session of the agent's may take over.
            FromRelay::Ready => {
                self.record.ready_after_ms.get_or_insert(self.clock.millis());
            }
            FromRelay::Clear => {
                self.record.clears += 1;
                self.record.cleared_ms += self.ear.clear() / ear::BYTES_PER_MS;
            }
            FromRelay::Transcript(said) => self.record.transcript.push(said),
            FromRelay::End(reason) => self.record.ended = Some(reason),
        }
        true
    }

    fn fault(&mut self, fault: String) -> bool {
        self.record.faults.push(fault);
        false
    }

    /// Sends a text. A socket that is gone is noticed by the reader.
    async fn say(&mut self, text: &str) {
        let _ = self.socket.send(Message::text(text)).await;
    }
}

fn wide() -> Resampler {
    Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_24000)
        .expect("8 kHz to 24 kHz is a supported pair")
}

/// The page's cadence: 20 ms, from an absolute schedule that never drifts.
const FRAME_US: u64 = 20_000;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

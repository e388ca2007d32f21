//! One media stream: the socket to the relay, the caller's mouth and ear at its ends.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::call::{Call, Command, Source};
use super::caller::{Act, Caller, Ear};
use super::message::{self, FromRelay, StreamIds, ToRelay};
use super::playback::Playback;
use super::record::{Fault, StreamEnd, StreamRecord, What};
use super::twiml::Stream;
use super::{Exchange, handshake, sid};
use crate::clock::{Stopwatch, wall_us};

/// How a stream is over for the call.
pub(crate) enum Over {
    /// The document goes on.
    GoOn,
    /// The call is over.
    HungUp,
    /// Another document takes over.
    Replaced(Source),
    /// The relay broke the protocol; this fake ends the call.
    Failed,
}

/// A stream that runs.
pub(crate) struct MediaStream<'a> {
    exchange: &'a Exchange,
    call: &'a Call,
    caller: &'a mut Caller,
    socket: WebSocketStream<TcpStream>,
    ids: StreamIds,
    to_relay: ToRelay,
    ear: Playback,
    clock: Stopwatch,
    /// When the caller's first frame is due, in microseconds of the stream.
    first_us: u64,
    frames: u64,
    agent_speaks: bool,
    record: StreamRecord,
}

/// What happens after a step.
enum Next {
    Stay,
    End(StreamEnd, Over),
}

/// Opens a stream.
///
/// # Errors
/// The fault, and the record of a stream that never was.
pub(crate) async fn open<'a>(
    exchange: &'a Exchange,
    call: &'a Call,
    caller: &'a mut Caller,
    stream: &Stream,
) -> Result<MediaStream<'a>, Fault> {
    let ids = StreamIds {
        stream: sid("MZ"),
        call: call.read(|record| record.sid.clone()),
        account: exchange.account.clone(),
    };
    let mut record = StreamRecord {
        sid: ids.stream.clone(),
        url: stream.url.clone(),
        parameters: stream.parameters.clone(),
        ..StreamRecord::default()
    };
    let shake = handshake::shake_hands(exchange, call, &stream.url);
    let socket = match tokio::time::timeout(HANDSHAKE, shake).await {
        Ok(Ok(socket)) => socket,
        Ok(Err((status, fault))) => return Err(refused(call, record, status, fault)),
        Err(_) => {
            let fault = Fault::new(31901, "the handshake was not answered in time");
            return Err(refused(call, record, 0, fault));
        }
    };
    record.opened_at_us = wall_us();
    call.note(What::StreamOpened { stream: ids.stream.clone() });
    let mut opened = MediaStream {
        exchange,
        call,
        caller,
        socket,
        to_relay: ToRelay::new(ids.clone()),
        ids,
        ear: Playback::keeping(exchange.track_bytes_max),
        first_us: exchange.audio_delay.as_micros().try_into().unwrap_or(u64::MAX),
        clock: Stopwatch::start(),
        frames: 0,
        agent_speaks: false,
        record,
    };
    let start = opened.to_relay.start(&stream.parameters);
    opened.send(ToRelay::connected()).await;
    opened.send(start).await;
    opened.clock = Stopwatch::start();
    Ok(opened)
}

/// Keeps the record of a stream that never was.
fn refused(call: &Call, mut record: StreamRecord, status: u16, fault: Fault) -> Fault {
    record.end = Some(StreamEnd::Refused { status });
    call.note(What::StreamEnded { how: StreamEnd::Refused { status } });
    call.change(|call| call.streams.push(record));
    fault
}

impl MediaStream<'_> {
    /// The stream's id.
    pub(crate) fn sid(&self) -> &str {
        &self.ids.stream
    }

    /// Runs until something ends it; everything about it is in the call's record then.
    pub(crate) async fn run(mut self, commands: &mut mpsc::Receiver<Command>) -> Over {
        let (end, over) = loop {
            let next = self.step(commands).await;
            if let Next::End(end, over) = next {
                break (end, over);
            }
        };
        self.ear.advance(self.clock.micros());
        if self.agent_speaks {
            let quiet_us = self.ear.quiet_ms() * 1_000;
            self.call.note_at(wall_us().saturating_sub(quiet_us), What::AgentQuiet);
        }
        self.record.played_ms = self.ear.played_ms();
        self.record.agent_audio = self.ear.heard().to_vec();
        self.record.end = Some(end.clone());
        self.call.change(|call| {
            call.debugger.extend(end.debugger_line());
            call.streams.push(self.record);
        });
        self.call.note(What::StreamEnded { how: end });
        over
    }

    /// Whatever comes first: a command, a message, a mark or a frame that is due.
    async fn step(&mut self, commands: &mut mpsc::Receiver<Command>) -> Next {
        let frame_us = self.first_us + self.frames * FRAME_US;
        let due_us = self.ear.next_mark_us().map_or(frame_us, |mark| mark.min(frame_us));
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Replace(source)) => {
                    self.say_goodbye().await;
                    Next::End(StreamEnd::Replaced, Over::Replaced(source))
                }
                Some(Command::HangUp) | None => {
                    self.say_goodbye().await;
                    Next::End(StreamEnd::HungUp, Over::HungUp)
                }
            },
            message = self.socket.next() => self.hear_relay(message).await,
            () = tokio::time::sleep_until(self.clock.at_micros(due_us)) => self.tick().await,
        }
    }

    /// Plays on, and speaks when a frame is due.
    async fn tick(&mut self) -> Next {
        let now_us = self.clock.micros();
        self.play(now_us).await;
        let spoken_us = self.frames * FRAME_US;
        let due_us = self.first_us + spoken_us;
        if now_us < due_us {
            return Next::Stay;
        }
        let late_ms = (now_us - due_us) / 1_000;
        self.record.late_ms_max = self.record.late_ms_max.max(late_ms);
        self.frames += 1;
        let ear = Ear { utterance_ms: self.ear.utterance_ms(), quiet_ms: self.ear.quiet_ms() };
        self.note_quiet();
        for act in self.caller.frame(ear) {
            if let Next::End(end, over) = self.act(act, spoken_us / 1_000).await {
                return Next::End(end, over);
            }
        }
        Next::Stay
    }

    /// Does what the caller does in these 20 ms.
    async fn act(&mut self, act: Act, at_ms: u64) -> Next {
        match act {
            Act::Silence => self.speak(at_ms, SILENCE.to_vec()).await,
            Act::Sound(sound) => self.speak(at_ms, sound).await,
            Act::Begin(text) => self.call.note(What::CallerSpeaks { text }),
            Act::Finish => self.call.note(What::CallerFinished),
            Act::GiveUp => self.call.note(What::GaveUp),
            Act::Press(digit) => {
                let message = self.to_relay.key(digit);
                self.send(message).await;
            }
            Act::HangUp => {
                self.say_goodbye().await;
                return Next::End(StreamEnd::HungUp, Over::HungUp);
            }
            Act::LoseNetwork => {
                // A reset, not a close: nothing is said and nothing more arrives.
                let _ = self.socket.get_ref().set_zero_linger();
                return Next::End(StreamEnd::Lost, Over::GoOn);
            }
        }
        Next::Stay
    }

    /// Sends 20 ms of the caller.
    async fn speak(&mut self, at_ms: u64, sound: Vec<u8>) {
        let message = self.to_relay.media(at_ms, &sound);
        self.record.frames_sent += 1;
        keep(&mut self.record.caller_audio, self.exchange.track_bytes_max, &sound);
        self.send(message).await;
    }

    /// `stop`, then the close that Twilio sends behind it.
    async fn say_goodbye(&mut self) {
        let message = self.to_relay.stop();
        self.send(message).await;
        let _ = self.socket.close(None).await;
        let drain = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    }

    /// Takes one message, or the end of the connection. What Twilio would only log ends the
    /// call here.
    async fn hear_relay(&mut self, message: Option<Result<Message, WsError>>) -> Next {
        let fault = match message {
            Some(Ok(Message::Text(text))) => match self.take(text.as_str()).await {
                Ok(()) => return Next::Stay,
                Err(fault) => fault,
            },
            Some(Ok(Message::Binary(_))) => Fault::new(31950, "a binary frame"),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Next::Stay,
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                // Twilio answers the close before it goes on.
                let _ = self.socket.flush().await;
                return Next::End(StreamEnd::Closed { code }, Over::GoOn);
            }
            Some(Err(WsError::Protocol(error))) if !is_loss(&error) => {
                Fault::new(31924, error.to_string())
            }
            Some(Err(WsError::Utf8(error))) => Fault::new(31950, error),
            Some(Err(_)) | None => return Next::End(StreamEnd::Lost, Over::GoOn),
        };
        self.call.fault(fault);
        Next::End(StreamEnd::Fault, Over::Failed)
    }

    /// Takes a text. What was due before it is played first, so that a `clear` throws away
    /// exactly what the ear had not heard.
    async fn take(&mut self, text: &str) -> Result<(), Fault> {
        let now_us = self.clock.micros();
        self.play(now_us).await;
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            self.capture("relay", &value);
        }
        match message::read(text, &self.ids.stream)? {
            FromRelay::Media(audio) => self.media(audio),
            FromRelay::Mark(name) => {
                self.ear.mark(name);
                self.play(now_us).await;
            }
            FromRelay::Clear => {
                let cleared = self.ear.clear();
                self.call.note(What::Cleared {
                    played_ms: self.ear.played_ms(),
                    dropped_ms: (cleared.dropped_bytes / crate::audio::BYTES_PER_MS) as u64,
                });
                self.echo(cleared.marks).await;
            }
        }
        Ok(())
    }

    /// Queues audio to be played.
    fn media(&mut self, audio: Vec<u8>) {
        if !self.agent_speaks {
            self.agent_speaks = true;
            self.call.note(What::AgentHeard);
        }
        self.record.media_received += 1;
        let ms = (audio.len() / crate::audio::BYTES_PER_MS) as u64;
        self.record.received_ms += ms;
        keep(&mut self.record.received_audio, self.exchange.track_bytes_max, &audio);
        if self.ear.media(audio) > 0 {
            self.call.fault(Fault::new(31931, "more than ten minutes of audio wait to be played"));
        }
        let queued_ms = self.ear.queued_ms();
        self.record.queued_ms_max = self.record.queued_ms_max.max(queued_ms);
    }

    /// Plays up to now and echoes what was reached.
    async fn play(&mut self, now_us: u64) {
        let reached = self.ear.advance(now_us);
        self.echo(reached).await;
    }

    /// Sends marks back.
    async fn echo(&mut self, marks: Vec<String>) {
        for name in marks {
            self.record.marks_echoed += 1;
            let message = self.to_relay.mark(&name);
            self.send(message).await;
        }
    }

    /// Notes that the agent has stopped, at the moment of its last sound.
    fn note_quiet(&mut self) {
        let quiet_ms = self.ear.quiet_ms();
        if self.agent_speaks && quiet_ms >= PAUSE_MS {
            self.agent_speaks = false;
            self.call.note_at(wall_us() - quiet_ms * 1_000, What::AgentQuiet);
        }
    }

    /// Sends a message. A socket that is gone is noticed by the reader.
    async fn send(&mut self, message: Value) {
        self.capture("carrier", &message);
        let _ = self.socket.send(Message::text(message.to_string())).await;
    }

    /// Writes a message down, as the conformance check reads it.
    fn capture(&self, from: &str, message: &Value) {
        self.exchange.messages.line(&json!({"from": from, "message": message}));
    }
}

/// Keeps audio for the record, as much as there is room for.
fn keep(track: &mut Vec<u8>, bytes_max: usize, audio: &[u8]) {
    let room = bytes_max.saturating_sub(track.len());
    track.extend_from_slice(&audio[..audio.len().min(room)]);
}

/// Whether the connection was cut rather than the protocol broken.
fn is_loss(error: &tokio_tungstenite::tungstenite::error::ProtocolError) -> bool {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    *error == ProtocolError::ResetWithoutClosingHandshake
}

/// The carrier's cadence: 20 ms, from an absolute schedule that never drifts.
const FRAME_US: u64 = 20_000;

/// A hole shorter than 300 ms does not end what is being said.
const PAUSE_MS: u64 = 300;

/// Most silence is sent too, frame by frame.
const SILENCE: [u8; crate::audio::FRAME_BYTES] =
    [codec::g711::ULAW_SILENCE; crate::audio::FRAME_BYTES];

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

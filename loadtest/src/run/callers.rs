//! A thread of callers: one ticker for all of them, a reader for each.
//!
//! Callers are spread over the 20 ms of a frame, so that the relay sees a stream and not bursts:
//! every millisecond the ticker writes the frames of one twentieth of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::args::Door;
use super::board::{Board, Phase};
use super::caller::{Answers, Caller};
use super::measured::{Figures, note};
use super::streams::between;
use super::tickets::Tickets;
use crate::serve::socket_config;

/// Threads of callers.
pub(crate) struct Callers {
    threads: Vec<std::thread::JoinHandle<anyhow::Result<Figures>>>,
}

/// What every caller needs.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where they call.
    pub(crate) door: Door,
    /// What opens its door.
    pub(crate) tickets: Arc<Tickets>,
    /// Whose answers they hear.
    pub(crate) answers: Answers,
    /// How many calls in all.
    pub(crate) calls: u32,
    /// From the first call to the last.
    pub(crate) ramp: Duration,
    /// Whether the agent speaks first.
    pub(crate) greeted: bool,
}

impl Callers {
    /// Starts them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(board: &Arc<Board>, plan: &Plan, threads: u32) -> anyhow::Result<Self> {
        let start = |number: u32| {
            let (board, plan) = (Arc::clone(board), plan.clone());
            let calls: Vec<u32> = (0..plan.calls).filter(|call| call % threads == number).collect();
            let run = move || Shard::run(board, plan, &calls);
            Ok(std::thread::Builder::new().name(format!("callers-{number}")).spawn(run)?)
        };
        let threads = (0..threads).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { threads })
    }

    /// Waits for the end of the test and adds up the figures.
    ///
    /// # Errors
    /// When a thread failed.
    pub(crate) fn finish(self, figures: &mut Figures) -> anyhow::Result<()> {
        for thread in self.threads {
            let theirs = thread.join().map_err(|_| anyhow::anyhow!("the callers panicked"))??;
            figures.add(&theirs);
        }
        Ok(())
    }
}

/// A caller's socket, the client's end.
type Socket = WebSocketStream<TcpStream>;

/// One call that is up.
struct Line {
    caller: Caller,
    call: u32,
    stream_sid: String,
    sequence: u64,
    sink: SplitSink<Socket, Message>,
    /// The first frame after the measured time; those before it must arrive.
    counted: Option<u32>,
    /// When the stream began; `None` once the agent was heard, or where it does not speak first.
    started_us: Option<u64>,
    /// Messages that the socket did not take.
    refused: u64,
}

/// One thread's callers, by the millisecond of the frame in which they speak.
struct Shard {
    board: Arc<Board>,
    plan: Plan,
    slots: RefCell<Vec<Vec<Rc<RefCell<Line>>>>>,
    figures: RefCell<Figures>,
}

impl Shard {
    /// The thread's life: calls come up in their time, the ticker speaks for all.
    fn run(board: Arc<Board>, plan: Plan, calls: &[u32]) -> anyhow::Result<Figures> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let figures = Figures::of_thread(&board.series);
        let shard = Rc::new(Self {
            board,
            plan,
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
            figures: RefCell::new(figures),
        });
        let house = LocalSet::new();
        for &call in calls {
            let shard = Rc::clone(&shard);
            house.spawn_local(async move {
                if let Err(error) = shard.call(call).await {
                    shard.fail(call, &error);
                }
            });
        }
        house.block_on(&runtime, shard.tick());
        drop(house);
        let figures = shard.figures.replace(Figures::new());
        Ok(figures)
    }

    /// Counts a call that failed, and tells of the first.
    #[expect(clippy::print_stdout, reason = "the first failure says more than a count")]
    fn fail(&self, call: u32, error: &anyhow::Error) {
        let mut figures = self.figures.borrow_mut();
        figures.counts.calls_failed += 1;
        if figures.counts.calls_failed == 1 {
            println!("call {call}: {error:#}");
        }
    }

    /// One call from its beginning to the end of the test.
    async fn call(&self, call: u32) -> anyhow::Result<()> {
        let share = self.plan.ramp * call / self.plan.calls.max(1);
        let share_us = u64::try_from(share.as_micros()).unwrap_or(u64::MAX);
        tokio::time::sleep_until(self.board.clock.at_micros(share_us)).await;
        let socket = self.connect().await?;
        let (mut sink, stream) = socket.split();
        let call_sid = format!("CA{call:032x}");
        let stream_sid = format!("MZ{call:032x}");
        let ticket = self.plan.tickets.issue(&call_sid)?;
        sink.send(Message::text(CONNECTED)).await?;
        sink.send(Message::text(start(&stream_sid, &call_sid, &ticket))).await?;
        let line = Rc::new(RefCell::new(Line {
            caller: Caller::new(call, self.plan.answers),
            call,
            stream_sid,
            sequence: 1,
            sink,
            counted: None,
            started_us: self.plan.greeted.then(|| self.board.clock.micros()),
            refused: 0,
        }));
        self.slots.borrow_mut()[call as usize % SLOTS].push(Rc::clone(&line));
        self.figures.borrow_mut().counts.calls_up += 1;
        self.board.series.call_began();
        self.hear(&line, stream).await;
        self.board.series.call_ended();
        if self.board.phase() < Phase::Stop {
            anyhow::bail!("the relay ended the call");
        }
        Ok(())
    }

    /// Opens a call's socket.
    async fn connect(&self) -> anyhow::Result<Socket> {
        let stream = TcpStream::connect(self.plan.door.address).await.context("dialling")?;
        let _ = stream.set_nodelay(true);
        let url = format!("ws://{}{}", self.plan.door.host, self.plan.door.path);
        let config = Some(socket_config());
        let shaken = tokio_tungstenite::client_async_with_config(url, stream, config);
        let shaken = tokio::time::timeout(Duration::from_secs(10), shaken).await;
        Ok(shaken.context("no handshake in time")??.0)
    }

    /// Reads what the relay says to one caller. Fields are found by their names alone: the
    /// strict fake checks the rest.
    async fn hear(&self, line: &RefCell<Line>, mut stream: SplitStream<Socket>) {
        while let Some(Ok(message)) = stream.next().await {
            let Message::Text(text) = message else { continue };
            let now_us = self.board.clock.micros();
            let mut line = line.borrow_mut();
            let text = text.as_str();
            if let Some(payload) = between(text, "\"payload\":\"") {
                let mut figures = self.figures.borrow_mut();
                let mut audio = Vec::with_capacity(payload.len());
                match codec::base64::decode(payload.as_bytes(), &mut audio) {
                    Ok(()) => {
                        if let Some(started_us) = line.started_us.take() {
                            note(&mut figures.first_us, now_us.saturating_sub(started_us));
                        }
                        figures.note_heard(now_us, audio.len());
                        line.caller.hear(&audio, now_us, &self.board, &mut figures);
                    }
                    Err(_) => figures.counts.frames_altered_down += 1,
                }
            } else if let Some(name) = between(text, "\"name\":\"") {
                line.caller.mark(name.to_owned(), now_us);
            } else if text.contains("\"clear\"") {
                line.caller.clear(now_us, &self.board, &mut self.figures.borrow_mut());
            }
            line.echo(now_us);
        }
    }

    /// Writes the frames of everybody, on time.
    async fn tick(&self) {
        let mut tick = self.board.clock.micros() / TICK_US;
        loop {
            tick += 1;
            let due_us = tick * TICK_US;
            tokio::time::sleep_until(self.board.clock.at_micros(due_us)).await;
            // Whoever is late catches up, but not at the cost of those who listen.
            tokio::task::yield_now().await;
            let phase = self.board.phase();
            if phase >= Phase::Stop {
                break;
            }
            let now_us = self.board.clock.micros();
            let mut figures = self.figures.borrow_mut();
            if self.board.is_measured(now_us) {
                figures.note_callers_late(now_us, now_us.saturating_sub(due_us));
            }
            let slot = usize::try_from(tick).unwrap_or_default() % SLOTS;
            let lines = self.slots.borrow();
            for line in &lines[slot] {
                line.borrow_mut().frame(&self.board, phase, &mut figures);
            }
            // A carrier sends a mark back when it is reached, not with the next frame.
            for line in lines.iter().flatten() {
                line.borrow_mut().echo(now_us);
            }
        }
        self.hang_up().await;
    }

    /// Ends every call as a carrier does, and counts what never arrived.
    async fn hang_up(&self) {
        let lines: Vec<_> = self.slots.borrow().iter().flatten().cloned().collect();
        for line in &lines {
            line.borrow_mut().stop();
        }
        // The relay closes; whoever is late is counted by nobody.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut figures = self.figures.borrow_mut();
        for line in &lines {
            let line = line.borrow();
            let due = line.counted.unwrap_or_else(|| line.caller.next_frame());
            let missing = due.saturating_sub(self.board.arrived(line.call));
            figures.counts.frames_lost_at_end += u64::from(missing);
            figures.counts.messages_refused += line.refused;
        }
    }
}

impl Line {
    /// Speaks for 20 ms, and gives back the marks that were played.
    fn frame(&mut self, board: &Board, phase: Phase, figures: &mut Figures) {
        let number = self.caller.next_frame();
        if phase == Phase::Tail && self.counted.is_none() {
            self.counted = Some(number);
        }
        let now_us = board.clock.micros();
        let block = self.caller.frame(now_us, figures);
        let text = self.media(number, &block);
        figures.counts.frames_sent += 1;
        board.frame_written(self.call, number, board.clock.micros());
        self.send(text);
        self.echo(now_us);
    }

    /// A media message.
    fn media(&mut self, number: u32, block: &[u8]) -> String {
        self.sequence += 1;
        let mut payload = Vec::with_capacity(220);
        codec::base64::encode(block, &mut payload);
        let payload = String::from_utf8(payload).expect("base64 is ASCII");
        format!(
            "{{\"event\":\"media\",\"sequenceNumber\":\"{}\",\"streamSid\":\"{}\",\"media\":\
             {{\"track\":\"inbound\",\"chunk\":\"{}\",\"timestamp\":\"{}\",\"payload\":\
             \"{payload}\"}}}}",
            self.sequence,
            self.stream_sid,
            number + 1,
            u64::from(number) * 20
        )
    }

    /// Sends back the marks that were played by now.
    fn echo(&mut self, now_us: u64) {
        while let Some(name) = self.caller.due_mark(now_us) {
            self.sequence += 1;
            let text = format!(
                "{{\"event\":\"mark\",\"sequenceNumber\":\"{}\",\"streamSid\":\"{}\",\"mark\":\
                 {{\"name\":\"{name}\"}}}}",
                self.sequence, self.stream_sid
            );
            self.send(text);
        }
    }

    /// Says that the caller has hung up.
    fn stop(&mut self) {
        self.sequence += 1;
        let text = format!(
            "{{\"event\":\"stop\",\"sequenceNumber\":\"{}\",\"streamSid\":\"{}\",\"stop\":\
             {{\"accountSid\":\"{ACCOUNT}\",\"callSid\":\"CA{:032x}\"}}}}",
            self.sequence, self.stream_sid, self.call
        );
        self.send(text);
    }

    /// Writes at once. What a full socket does not take is dropped: a relay must never stop
    /// reading, so it is counted.
    fn send(&mut self, text: String) {
        // The ticker writes more in one go than tokio's budget of a task allows; a socket is not
        // full because of that.
        let sending = self.sink.send(Message::Text(Utf8Bytes::from(text)));
        let sent = tokio::task::unconstrained(sending).now_or_never();
        self.refused += u64::from(!matches!(sent, Some(Ok(()))));
    }
}

/// The second message of a stream, which carries the ticket.
fn start(stream_sid: &str, call_sid: &str, ticket: &str) -> String {
    serde_json::json!({
        "event": "start", "sequenceNumber": "1", "streamSid": stream_sid,
        "start": {
            "streamSid": stream_sid, "accountSid": ACCOUNT, "callSid": call_sid,
            "tracks": ["inbound"], "customParameters": {"ticket": ticket},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    })
    .to_string()
}

/// The first message of a stream.
const CONNECTED: &str = r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#;

/// Any account will do.
const ACCOUNT: &str = "AC00000000000000000000000000000001";

/// Twenty groups of callers, one a millisecond.
const SLOTS: usize = 20;

/// A millisecond: what tokio's timers can do.
const TICK_US: u64 = 1_000;

//! A thread of callers: one ticker for all of them, a reader for each.
//!
//! Callers are spread over the 20 ms of a frame, so that the relay sees a stream and not bursts:
//! every millisecond the ticker writes the frames of one twentieth of them. Moments are counted
//! from the beginning of the test, so whoever is late does not make the next one late.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::args::Door;
use super::board::{Board, Phase};
use super::caller::{Answers, Caller};
use super::lean::Lean;
use super::line::{Beginning, Line};
use super::measured::Figures;
use super::pipe::Pipe;
use super::scenario::{Arrival, Scenario};
use super::tickets::Tickets;
use super::tls::Tls;
use crate::noise::Noise;

/// Threads of callers.
pub(crate) struct Callers {
    threads: Vec<std::thread::JoinHandle<anyhow::Result<Figures>>>,
}

/// What every caller needs.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Where they call.
    pub(crate) door: Door,
    /// What opens a relay's door.
    pub(crate) tickets: Arc<Tickets>,
    /// The agent that they ask for.
    pub(crate) agent: String,
    /// Which of several processes this is: calls of all have names of their own.
    pub(crate) worker: u16,
    /// Whose answers they hear.
    pub(crate) answers: Answers,
    /// TLS, where not in plain.
    pub(crate) tls: Option<Tls>,
    /// What is played.
    pub(crate) scenario: Arc<Scenario>,
}

impl Callers {
    /// Starts them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(board: &Arc<Board>, plan: &Plan, threads: u32) -> anyhow::Result<Self> {
        let start = |number: u32| {
            let (board, plan) = (Arc::clone(board), plan.clone());
            let run = move || Shard::run(board, plan, (number, threads));
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

/// How a call went.
enum Went {
    /// Until its end.
    Well,
    /// It was not let in, as others are there.
    Refused,
}

/// One thread's callers, by the millisecond of the frame in which they speak.
struct Shard {
    board: Arc<Board>,
    plan: Plan,
    slots: RefCell<Vec<BTreeMap<u32, Rc<RefCell<Line>>>>>,
    /// When the next marks are due, and whose they are.
    marks: RefCell<BinaryHeap<Reverse<(u64, u32)>>>,
    figures: RefCell<Figures>,
    /// Where everybody reads.
    room: RefCell<Vec<u8>>,
}

impl Shard {
    /// The thread's life: calls come up in their time, the ticker speaks for all. The thread is
    /// one of several, and has every so-manieth call.
    fn run(board: Arc<Board>, plan: Plan, share: (u32, u32)) -> anyhow::Result<Figures> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let figures = RefCell::new(Figures::of_thread(&board.series));
        let shard = Rc::new(Self {
            board,
            plan,
            slots: RefCell::new((0..SLOTS).map(|_| BTreeMap::new()).collect()),
            marks: RefCell::default(),
            figures,
            room: RefCell::new(vec![0; ROOM_BYTES]),
        });
        let (number, threads) = share;
        let calls = shard.plan.scenario.calls();
        let places: Vec<u32> = (0..calls).filter(|place| place % threads == number).collect();
        let house = LocalSet::new();
        match shard.plan.scenario.arrival {
            Arrival::Fixed { .. } => {
                for place in places {
                    house.spawn_local(Rc::clone(&shard).hold(place));
                }
            }
            Arrival::Rate { .. } => {
                house.spawn_local(Rc::clone(&shard).arrive(places, share));
            }
        }
        // The ticker writes more in one go than tokio's budget of a task allows; a socket is not
        // full because of that.
        house.block_on(&runtime, tokio::task::unconstrained(shard.tick()));
        drop(house);
        let figures = shard.figures.replace(Figures::new());
        Ok(figures)
    }

    /// Keeps a place taken: one call after the other, as long as calls end.
    async fn hold(self: Rc<Self>, place: u32) {
        let scenario = &self.plan.scenario;
        let calls = scenario.calls();
        let share = scenario.ramp() * place / calls.max(1);
        tokio::time::sleep_until(self.board.clock.at_micros(micros(share))).await;
        let mut call = place;
        loop {
            let refused = self.live(call).await;
            if !scenario.turns_over() || self.board.phase() >= Phase::Tail {
                return;
            }
            if refused {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            call += calls;
        }
    }

    /// Lets calls come at their rate, whoever is there already.
    async fn arrive(self: Rc<Self>, mut free: Vec<u32>, (number, threads): (u32, u32)) {
        let Arrival::Rate { per_second, total, calls_max } = self.plan.scenario.arrival else {
            return;
        };
        let (done, mut freed) = tokio::sync::mpsc::channel(free.len().max(1));
        let mut next = free.iter().map(|place| (*place, *place)).collect::<BTreeMap<_, _>>();
        for arrival in (number..total.unwrap_or(u32::MAX)).step_by(threads as usize) {
            let at = Duration::from_secs_f64(f64::from(arrival) / per_second);
            tokio::time::sleep_until(self.board.clock.at_micros(micros(at))).await;
            if self.board.phase() >= Phase::Tail {
                return;
            }
            while let Ok(place) = freed.try_recv() {
                free.insert(0, place);
            }
            let Some(place) = free.pop() else {
                self.figures.borrow_mut().counts.calls_turned_away += 1;
                continue;
            };
            let Some(call) = next.get_mut(&place) else { continue };
            let (shard, done, number) = (Rc::clone(&self), done.clone(), *call);
            *call += calls_max;
            tokio::task::spawn_local(async move {
                shard.live(number).await;
                // There is room for every place.
                let _ = done.try_send(place);
            });
        }
    }

    /// One call; gives whether it was refused. Tells of the first that fails.
    #[expect(clippy::print_stdout, reason = "the first failure says more than a count")]
    async fn live(&self, call: u32) -> bool {
        let went = self.call(call).await;
        let refusals_expected = self.plan.scenario.refusals_expected;
        let counts = &mut self.figures.borrow_mut().counts;
        let failed = match &went {
            Ok(Went::Well) => return false,
            Ok(Went::Refused) => {
                counts.calls_refused += 1;
                if refusals_expected {
                    return true;
                }
                "refused with 503".to_owned()
            }
            Err(error) => format!("{error:#}"),
        };
        counts.calls_failed += 1;
        if counts.calls_failed == 1 {
            println!("call {call}: {failed}");
        }
        true
    }

    /// One call, from its handshake to its end.
    async fn call(&self, call: u32) -> anyhow::Result<Went> {
        let scenario = &self.plan.scenario;
        let lean = tokio::time::timeout(Duration::from_secs(10), self.connect()).await;
        let lean = match lean.context("no handshake in time")?? {
            Ok(lean) => lean,
            Err(503) => return Ok(Went::Refused),
            Err(status) => anyhow::bail!("refused with {status}"),
        };
        self.board.begin(call);
        let call_sid = format!("CA{:04x}{call:028x}", self.plan.worker);
        let ticket = self.plan.tickets.issue_for(&call_sid, &self.plan.agent)?;
        let mut chance = Noise::seeded(scenario.seed, u64::from(call));
        let now_us = self.board.clock.micros();
        let length = scenario.call.map(|span| u64::from(span.at(&mut chance)) * 1_000);
        let abrupt = f64::from(chance.below(10_000)) < scenario.hang_up_abrupt * 10_000.0;
        let line = Line::begin(Beginning {
            call,
            caller: Caller::new(call, self.plan.answers, scenario.talk, scenario.seed),
            lean,
            call_sid,
            ticket: &ticket,
            started_us: scenario.greeting.then_some(now_us),
            ends_us: length.map(|length| now_us + length),
            dtmf_frames: dtmf_frames(scenario.dtmf_per_minute),
        });
        let line = Rc::new(RefCell::new(line));
        let slot = call as usize % SLOTS;
        self.slots.borrow_mut()[slot].insert(call, Rc::clone(&line));
        self.figures.borrow_mut().counts.calls_up += 1;
        self.board.series.call_began();
        let ends = line.borrow().ends_us;
        let hung_up = async {
            match ends {
                Some(us) => tokio::time::sleep_until(self.board.clock.at_micros(us)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.hear(&line) => {}
            () = hung_up => self.hang_up(&line, abrupt).await,
        }
        self.board.series.call_ended();
        let over = line.borrow().is_over || self.board.phase() >= Phase::Stop;
        if ends.is_some() || !over {
            self.slots.borrow_mut()[slot].remove(&call);
        }
        if !over {
            anyhow::bail!("the call was ended by the other side");
        }
        Ok(Went::Well)
    }

    /// Opens a call's socket; gives the status of a refusal.
    async fn connect(&self) -> anyhow::Result<Result<Lean, u16>> {
        let door = &self.plan.door;
        let stream = TcpStream::connect(door.address).await.context("dialling")?;
        let _ = stream.set_nodelay(true);
        let pipe = match &self.plan.tls {
            Some(tls) => tls.connect(stream).await?,
            None => Pipe::Plain(stream),
        };
        Lean::open(pipe, &door.host, &door.path).await
    }

    /// Reads what is said to one caller, until nothing more comes.
    async fn hear(&self, line: &RefCell<Line>) {
        loop {
            let read = poll_fn(|cx| {
                let room = &mut self.room.borrow_mut();
                line.borrow_mut().socket().poll_fill(cx, room)
            });
            if read.await.unwrap_or(0) == 0 {
                return;
            }
            let now_us = self.board.clock.micros();
            let mut line = line.borrow_mut();
            let (open, due_us) = line.hear(now_us, &self.board, &mut self.figures.borrow_mut());
            if let Some(due_us) = due_us {
                self.marks.borrow_mut().push(Reverse((due_us, line.call)));
            }
            if !open {
                return;
            }
        }
    }

    /// Ends one call before the test does: with a `stop`, or as when a network goes.
    async fn hang_up(&self, line: &Rc<RefCell<Line>>, abrupt: bool) {
        let sent = {
            let mut line = line.borrow_mut();
            line.is_over = true;
            let sent = line.caller.next_frame();
            if !abrupt {
                line.stop();
            }
            sent
        };
        if !abrupt {
            // The relay closes; what it does not read then is not waited for.
            let _ = tokio::time::timeout(CLOSING, self.hear(line)).await;
        }
        let counts = &mut self.figures.borrow_mut().counts;
        counts.calls_ended += 1;
        counts.messages_refused += line.borrow().refused;
        if !abrupt {
            // What was said just before may be cut off with the call.
            let due = sent.saturating_sub(LAST_FRAMES);
            let missing = due.saturating_sub(self.board.arrived(line.borrow().call));
            counts.frames_lost_at_end += u64::from(missing);
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
            for line in self.slots.borrow()[slot].values() {
                let mut line = line.borrow_mut();
                if !line.is_over {
                    line.frame(&self.board, phase, &mut figures);
                }
            }
            self.echo(now_us);
        }
        self.end().await;
    }

    /// Sends back marks: a carrier does when they are reached, not with the next frame.
    fn echo(&self, now_us: u64) {
        let mut marks = self.marks.borrow_mut();
        while marks.peek().is_some_and(|Reverse((due_us, _))| *due_us <= now_us) {
            let Some(Reverse((_, call))) = marks.pop() else { return };
            if let Some(line) = self.slots.borrow()[call as usize % SLOTS].get(&call) {
                line.borrow_mut().echo(now_us);
            }
        }
    }

    /// Ends every call as a carrier does, and counts what never arrived.
    async fn end(&self) {
        let lines = self.lines();
        for line in &lines {
            line.borrow_mut().stop();
        }
        // The relay closes; whoever is late is counted by nobody.
        tokio::time::sleep(CLOSING).await;
        let mut figures = self.figures.borrow_mut();
        for line in &lines {
            let line = line.borrow();
            figures.counts.frames_lost_at_end += u64::from(line.missing(&self.board));
            figures.counts.messages_refused += line.refused;
        }
    }
}

impl Shard {
    /// Everybody who has not hung up.
    fn lines(&self) -> Vec<Rc<RefCell<Line>>> {
        let all = self.slots.borrow();
        let talking = |line: &&Rc<RefCell<Line>>| !line.borrow().is_over;
        all.iter().flat_map(BTreeMap::values).filter(talking).cloned().collect()
    }
}

/// Frames from one key to the next; `None` where none is pressed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "5 to 3e6, or none")]
fn dtmf_frames(per_minute: f64) -> Option<u32> {
    (per_minute > 0.001).then(|| (3_000.0 / per_minute) as u32)
}

/// A duration in microseconds.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Twenty groups of callers, one a millisecond.
const SLOTS: usize = 20;

/// A millisecond: what tokio's timers can do.
const TICK_US: u64 = 1_000;

/// More than a socket holds at once.
const ROOM_BYTES: usize = 64 * 1_024;

/// How long a relay may take to close after a `stop`.
const CLOSING: Duration = Duration::from_millis(500);

/// What is said in the last 100 ms before hanging up.
const LAST_FRAMES: u32 = 5;

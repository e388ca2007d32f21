//! A thread of far ends: takes connections and drives a session on each, of a fake model or of a
//! Media Streams server. One ticker for all of them; a task for each only reads.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::board::{Board, Phase};
use super::lean::{Lean, Next};
use super::measured::Figures;
use super::model::Session;
use super::pipe::Pipe;
use super::scenario::Pace;
use super::streams::Streams;
use super::tls::Tls;
use crate::demo::Audio;

/// What answers at the far end.
#[derive(Clone)]
pub(crate) struct FarEnds {
    /// What it speaks.
    pub(crate) speaks: Speaks,
    /// How it answers.
    pub(crate) pace: Pace,
    /// How it is reached, where not in plain.
    pub(crate) tls: Option<Tls>,
}

/// The protocol of a far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// The model's, with this audio.
    Realtime(Audio),
    /// The carrier's: there is no model.
    Streams,
}

/// One session of either kind.
enum Peer {
    Realtime(Box<Session>),
    Streams(Streams),
}

impl Peer {
    fn next_us(&self) -> Option<u64> {
        match self {
            Self::Realtime(session) => session.next_us(),
            Self::Streams(streams) => streams.next_us(),
        }
    }

    fn receive(&mut self, text: &str, now_us: u64, house: &House) {
        let (figures, out) = (&mut house.figures.borrow_mut(), &mut house.out.borrow_mut());
        match self {
            Self::Realtime(session) => session.receive(text, now_us, &house.board, figures, out),
            Self::Streams(streams) => streams.receive(text, now_us, &house.board, figures, out),
        }
    }

    fn tick(&mut self, now_us: u64, house: &House) {
        let out = &mut house.out.borrow_mut();
        match self {
            Self::Realtime(session) => session.tick(now_us, &house.board, out),
            Self::Streams(streams) => streams.tick(now_us, &house.board, out),
        }
    }
}

/// Threads of far ends.
pub(crate) struct Models {
    /// Where they are found.
    pub(crate) address: SocketAddr,
    threads: Vec<std::thread::JoinHandle<anyhow::Result<Figures>>>,
}

impl Models {
    /// Starts them; all listen on one address.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub(crate) fn start(
        board: &Arc<Board>,
        far_ends: &FarEnds,
        listen: SocketAddr,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(listen).context("the far end's address")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let start = |number: usize| {
            let (board, listener) = (Arc::clone(board), listener.try_clone()?);
            let far_ends = far_ends.clone();
            let run = move || House::run(board, far_ends, listener);
            Ok(std::thread::Builder::new().name(format!("model-{number}")).spawn(run)?)
        };
        let threads = (0..threads).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { address, threads })
    }

    /// Waits for the end of the test and adds up the figures.
    ///
    /// # Errors
    /// When a thread failed.
    pub(crate) fn finish(self, figures: &mut Figures) -> anyhow::Result<()> {
        for thread in self.threads {
            let theirs = thread.join().map_err(|_| anyhow::anyhow!("a fake model panicked"))??;
            figures.add(&theirs);
        }
        Ok(())
    }
}

/// One connection.
struct Visit {
    lean: Lean,
    peer: Peer,
    /// What the agenda holds for it.
    planned_us: Option<u64>,
}

/// Something that is due.
struct Due {
    at_us: u64,
    visit: Rc<RefCell<Visit>>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at_us == other.at_us
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest, as a heap gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_us.cmp(&self.at_us)
    }
}

/// One thread's connections.
struct House {
    board: Arc<Board>,
    far_ends: FarEnds,
    figures: RefCell<Figures>,
    agenda: RefCell<BinaryHeap<Due>>,
    /// Those whose socket has not taken everything.
    stuck: RefCell<Vec<Rc<RefCell<Visit>>>>,
    /// What is being said; empty between two turns of the thread.
    out: RefCell<Vec<String>>,
    /// Where everybody reads.
    room: RefCell<Vec<u8>>,
}

impl House {
    /// The thread's life: takes connections until the test is over.
    fn run(
        board: Arc<Board>,
        far_ends: FarEnds,
        listener: std::net::TcpListener,
    ) -> anyhow::Result<Figures> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let figures = RefCell::new(Figures::of_thread(&board.series));
        let house = Rc::new(Self {
            board,
            far_ends,
            figures,
            agenda: RefCell::default(),
            stuck: RefCell::default(),
            out: RefCell::default(),
            room: RefCell::new(vec![0; ROOM_BYTES]),
        });
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async {
            let listener = TcpListener::from_std(listener)?;
            let doorman = Rc::clone(&house);
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let house = Rc::clone(&doorman);
                    tokio::task::spawn_local(async move {
                        // One that goes away mid-call shows in the counts.
                        let _ = house.visit(stream).await;
                    });
                }
            });
            // Writing to many sockets in one go is this task's work.
            tokio::task::unconstrained(house.tick()).await;
            anyhow::Ok(())
        })?;
        drop(tasks);
        let figures = house.figures.replace(Figures::new());
        Ok(figures)
    }

    /// One connection, from its handshake to its end.
    async fn visit(&self, stream: TcpStream) -> anyhow::Result<()> {
        let _ = stream.set_nodelay(true);
        let pipe = match &self.far_ends.tls {
            Some(tls) => tls.accept(stream).await?,
            None => Pipe::Plain(stream),
        };
        let lean = Lean::accept(pipe).await?;
        let peer = match self.far_ends.speaks {
            Speaks::Realtime(audio) => {
                let out = &mut self.out.borrow_mut();
                Peer::Realtime(Box::new(Session::new(audio, self.far_ends.pace, out)))
            }
            Speaks::Streams => Peer::Streams(Streams::new(self.far_ends.pace)),
        };
        let visit = Rc::new(RefCell::new(Visit { lean, peer, planned_us: None }));
        self.say(&visit, &mut visit.borrow_mut());
        while self.read(&visit) {
            let read = poll_fn(|cx| {
                let room = &mut self.room.borrow_mut();
                visit.borrow_mut().lean.poll_fill(cx, room)
            });
            if read.await? == 0 {
                return Ok(());
            }
        }
        visit.borrow_mut().lean.close();
        Ok(())
    }

    /// Lives through everything that was read; gives whether more may come.
    fn read(&self, visit: &Rc<RefCell<Visit>>) -> bool {
        let now_us = self.board.clock.micros();
        let mut open = visit.borrow_mut();
        let Visit { lean, peer, .. } = &mut *open;
        loop {
            match lean.next() {
                Next::Text(text) => peer.receive(text, now_us, self),
                Next::Nothing => break,
                Next::Gone => return false,
            }
        }
        self.say(visit, &mut open);
        true
    }

    /// Writes what is to be said, in one go, and plans what comes next.
    fn say(&self, visit: &Rc<RefCell<Visit>>, open: &mut Visit) {
        let was_stuck = open.lean.unsent_bytes() > 0;
        for text in self.out.borrow_mut().drain(..) {
            open.lean.say(text.as_bytes());
        }
        if !open.lean.flush() && !was_stuck {
            self.stuck.borrow_mut().push(Rc::clone(visit));
        }
        let next_us = open.peer.next_us();
        if next_us != open.planned_us {
            open.planned_us = next_us;
            let due = next_us.map(|at_us| Due { at_us, visit: Rc::clone(visit) });
            self.agenda.borrow_mut().extend(due);
        }
    }

    /// Does what is due, every millisecond, until the test is over.
    async fn tick(&self) {
        let mut tick = self.board.clock.micros() / TICK_US;
        while self.board.phase() < Phase::Gone {
            tick += 1;
            tokio::time::sleep_until(self.board.clock.at_micros(tick * TICK_US)).await;
            let now_us = self.board.clock.micros();
            tick = tick.max(now_us / TICK_US);
            while let Some(due) = self.next_due(now_us) {
                let mut open = due.visit.borrow_mut();
                // What was planned before something else came up is planned no more.
                if open.planned_us != Some(due.at_us) {
                    continue;
                }
                if self.board.is_measured(now_us) {
                    let late_us = now_us.saturating_sub(due.at_us);
                    self.figures.borrow_mut().note_model_late(now_us, late_us);
                }
                open.peer.tick(now_us, self);
                self.say(&due.visit, &mut open);
            }
            self.stuck.borrow_mut().retain(|visit| {
                let lean = &mut visit.borrow_mut().lean;
                !lean.flush() && lean.unsent_bytes() < UNSENT_BYTES_MAX
            });
        }
    }

    /// Takes the next thing that is due off the agenda.
    fn next_due(&self, now_us: u64) -> Option<Due> {
        let mut agenda = self.agenda.borrow_mut();
        agenda.peek().is_some_and(|due| due.at_us <= now_us).then(|| agenda.pop())?
    }
}

/// A millisecond: what tokio's timers can do.
const TICK_US: u64 = 1_000;

/// More than a socket holds at once.
const ROOM_BYTES: usize = 64 * 1_024;

/// Whoever takes nothing of so much is not waited for.
const UNSENT_BYTES_MAX: usize = 4 << 20;

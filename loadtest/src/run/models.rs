//! A thread of far ends: takes connections and drives a session on each, of a fake model or of a
//! Media Streams server.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::board::{Board, Phase};
use super::measured::Figures;
use super::model::Session;
use super::streams::Streams;
use crate::demo::Audio;
use crate::serve::socket_config;

/// What answers at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// The model's protocol, with this audio.
    Realtime(Audio),
    /// The carrier's protocol: there is no model.
    Streams,
}

/// One session of either kind.
enum Peer {
    Realtime(Session),
    Streams(Streams),
}

impl Peer {
    fn new(speaks: Speaks, out: &mut Vec<String>) -> Self {
        match speaks {
            Speaks::Realtime(audio) => Self::Realtime(Session::new(audio, out)),
            Speaks::Streams => Self::Streams(Streams::new()),
        }
    }

    fn next_us(&self) -> Option<u64> {
        match self {
            Self::Realtime(session) => session.next_us(),
            Self::Streams(streams) => streams.next_us(),
        }
    }

    fn receive(
        &mut self,
        text: &str,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
        out: &mut Vec<String>,
    ) {
        match self {
            Self::Realtime(session) => session.receive(text, now_us, board, figures, out),
            Self::Streams(streams) => streams.receive(text, now_us, board, figures, out),
        }
    }

    fn tick(&mut self, now_us: u64, board: &Board, out: &mut Vec<String>) {
        match self {
            Self::Realtime(session) => session.tick(now_us, board, out),
            Self::Streams(streams) => streams.tick(now_us, board, out),
        }
    }
}

/// Threads of far ends.
pub(crate) struct Models {
    /// Where the relay finds them.
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
        speaks: Speaks,
        listen: SocketAddr,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(listen).context("the fake model's address")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let start = |number: usize| {
            let (board, listener) = (Arc::clone(board), listener.try_clone()?);
            let name = format!("model-{number}");
            let run = move || serve(board, speaks, listener);
            Ok(std::thread::Builder::new().name(name).spawn(run)?)
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

/// The thread's life: takes connections until the test is over.
fn serve(
    board: Arc<Board>,
    speaks: Speaks,
    listener: std::net::TcpListener,
) -> anyhow::Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = Rc::new(RefCell::new(Figures::of_thread(&board.series)));
    let house = LocalSet::new();
    house.block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let visit = visit(stream, speaks, Arc::clone(&board), Rc::clone(&figures));
                    tokio::task::spawn_local(visit);
                }
                () = gone(&board) => return anyhow::Ok(()),
            }
        }
    })?;
    drop(house);
    let figures = figures.replace(Figures::new());
    Ok(figures)
}

/// Waits for the end of the test.
async fn gone(board: &Board) {
    while board.phase() < Phase::Gone {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// One connection of the relay.
async fn visit(
    stream: TcpStream,
    speaks: Speaks,
    board: Arc<Board>,
    figures: Rc<RefCell<Figures>>,
) {
    let _ = stream.set_nodelay(true);
    let accepted = tokio_tungstenite::accept_async_with_config(stream, Some(socket_config())).await;
    if let Ok(socket) = accepted {
        // A relay that goes away mid-call shows in the counts.
        let _ = converse(socket, speaks, &board, &figures).await;
    }
}

/// Drives a session: one flush for everything that is said at once, then whichever comes first,
/// a message or a moment.
async fn converse(
    mut socket: WebSocketStream<TcpStream>,
    speaks: Speaks,
    board: &Board,
    figures: &RefCell<Figures>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let mut out = Vec::new();
    let mut session = Peer::new(speaks, &mut out);
    loop {
        for text in out.drain(..) {
            socket.feed(Message::text(text)).await?;
        }
        socket.flush().await?;
        let due_us = session.next_us();
        let alarm = async {
            match due_us {
                Some(due_us) => tokio::time::sleep_until(board.clock.at_micros(due_us)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let now_us = board.clock.micros();
                    let mut figures = figures.borrow_mut();
                    session.receive(text.as_str(), now_us, board, &mut figures, &mut out);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            },
            () = alarm => {
                let now_us = board.clock.micros();
                let late_us = now_us.saturating_sub(due_us.unwrap_or(now_us));
                if board.is_measured(now_us) {
                    figures.borrow_mut().note_model_late(now_us, late_us);
                }
                session.tick(now_us, board, &mut out);
            }
        }
    }
}

//! A process that makes a share of the load. It is this program again (`loadtest worker`), told
//! what to do in lines of JSON: first its far ends, then its callers, then the phases. It answers
//! with the address of its far ends, and with its figures at the end.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::args::Door;
use super::board::{Board, Phase};
use super::caller::Answers;
use super::callers::{Callers, Plan};
use super::measured::{Figures, Packed};
use super::models::{FarEnds, Models, Speaks};
use super::scenario::Scenario;
use super::tickets::Tickets;
use super::tls::Tls;

/// What a worker is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ModelsJob {
    scenario: Scenario,
    /// Whether the far ends are Media Streams servers.
    streams: bool,
    threads: usize,
    /// Certificate and key, both PEM.
    tls: Option<(String, String)>,
}

/// What a worker is told next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CallersJob {
    address: SocketAddr,
    host: String,
    path: String,
    node: String,
    /// The key of the tickets, as its file holds it.
    key: serde_json::Value,
    agent: String,
    number: u16,
}

impl ModelsJob {
    /// The job of far ends of this kind.
    pub(crate) fn of(far_ends: &FarEnds, scenario: Scenario, threads: usize) -> Self {
        let streams = far_ends.speaks == Speaks::Streams;
        Self { scenario, streams, threads, tls: far_ends.tls.as_ref().map(Tls::pem) }
    }
}

impl CallersJob {
    /// The job of callers with this plan.
    ///
    /// # Errors
    /// When there are too many workers.
    pub(crate) fn of(plan: &Plan, number: usize) -> anyhow::Result<Self> {
        let Door { address, host, path } = plan.door.clone();
        Ok(Self {
            address,
            host,
            path,
            node: plan.tickets.node().to_owned(),
            key: plan.tickets.key_file()?,
            agent: plan.agent.clone(),
            number: u16::try_from(number)?,
        })
    }
}

/// A worker, as its master sees it.
pub(crate) struct Worker {
    /// Where its far ends are.
    pub(crate) address: SocketAddr,
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one, with its far ends.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(job: &ModelsJob) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a worker")?;
        let orders = child.stdin.take().context("its input is piped")?;
        let answers = BufReader::new(child.stdout.take().context("its output is piped")?);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut worker = Self { address: nowhere, child, orders: Some(orders), answers };
        worker.say(job)?;
        worker.address = heard(&mut worker.answers)?;
        Ok(worker)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn say(&mut self, order: &impl Serialize) -> anyhow::Result<()> {
        let orders = self.orders.as_mut().context("the worker has finished")?;
        said(orders, order).context("a worker is gone")
    }

    /// Waits for its figures.
    ///
    /// # Errors
    /// When it is gone without them.
    #[expect(clippy::print_stdout, reason = "what a worker tells is passed on")]
    pub(crate) fn finish(mut self) -> anyhow::Result<Figures> {
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                anyhow::bail!("a worker is gone without its figures");
            }
            match serde_json::from_str::<Packed>(&line) {
                Ok(packed) => return Ok(packed.unpack()),
                // The first call that failed is told in words.
                Err(_) => print!("{line}"),
            }
        }
    }
}

impl Drop for Worker {
    /// Without orders it ends by itself; one that hangs is ended.
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker's life.
///
/// # Errors
/// When its orders cannot be carried out.
pub fn work() -> anyhow::Result<()> {
    let mut orders = std::io::stdin().lock();
    let mut answers = std::io::stdout();
    let job: ModelsJob = heard(&mut orders)?;
    let scenario = Arc::new(job.scenario);
    crate::system::raise_files_limit();
    let board = Arc::new(Board::new(scenario.calls()));
    let speaks = if job.streams { Speaks::Streams } else { Speaks::Realtime(scenario.audio) };
    let tls = job.tls.map(|(certificate, key)| Tls::read(certificate, key)).transpose()?;
    let far_ends = FarEnds { speaks, pace: scenario.agent, tls: tls.clone() };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let models = Models::start(&board, &far_ends, listen, job.threads)?;
    said(&mut answers, &models.address)?;
    let next: CallersJob = heard(&mut orders)?;
    let CallersJob { address, host, path, node, key, agent, number } = next;
    let plan = Plan {
        door: Door { address, host, path },
        tickets: Arc::new(Tickets::of_key_file(key, link::id::NodeId::new(node.as_str())?)?),
        agent,
        worker: number,
        answers: Answers::Ours(scenario.audio),
        tls,
        scenario,
    };
    let callers = Callers::start(&board, &plan, u32::try_from(job.threads)?)?;
    while board.phase() < Phase::Stop {
        // A master that is gone wants nothing more.
        board.set_phase(heard(&mut orders).map_or(Phase::Stop, phase));
    }
    let mut figures = Figures::new();
    callers.finish(&mut figures)?;
    board.set_phase(Phase::Gone);
    models.finish(&mut figures)?;
    said(&mut answers, &Packed::of(&figures))
}

/// A phase by its number.
fn phase(number: u8) -> Phase {
    match number {
        0 => Phase::Ramp,
        1 => Phase::Measure,
        2 => Phase::Tail,
        _ => Phase::Stop,
    }
}

/// Writes a line.
fn said(to: &mut impl std::io::Write, what: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)?;
    Ok(to.flush()?)
}

/// Reads a line.
fn heard<T: DeserializeOwned>(from: &mut impl BufRead) -> anyhow::Result<T> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        anyhow::bail!("the other process is gone");
    }
    serde_json::from_str(&line).context("what the other process says")
}

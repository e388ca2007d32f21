//! What is put under load: a relay of our own, one that runs already, a byte copy, or any other
//! Media Streams server. Says where callers call, what the far end speaks, and whose process it is.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use link::id::NodeId;

use super::args::{Door, FarEnd, RunArgs};
use super::caller::Answers;
use super::models::Speaks;
use super::process::{Usage, usage};
use super::relay::{Extra, Greets, Relay, agent_file};
use super::scenario::Scenario;
use super::tickets::Tickets;
use super::tls::Tls;

/// The process under test, and how it is reached.
pub(crate) struct Subject {
    /// What opens a relay's door; other servers do not look at it.
    pub(crate) tickets: Arc<Tickets>,
    /// What the far end speaks.
    pub(crate) speaks: Speaks,
    /// Whose answers callers hear.
    pub(crate) answers: Answers,
    /// What it is, for the report.
    pub(crate) name: String,
    /// Where the far end listens.
    pub(crate) listen: SocketAddr,
    /// TLS on both legs, where it is spoken.
    pub(crate) tls: Option<Tls>,
    running: Option<(Door, Relay)>,
}

impl Subject {
    /// Decides everything that has to be known before the far end listens.
    ///
    /// # Errors
    /// When a key or a name cannot be used.
    pub(crate) fn prepare(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<Self> {
        let asked = &args.subject;
        let node = NodeId::new(asked.node.as_str())?;
        let tickets = match &asked.signing_key {
            Some(path) => Tickets::read(path, node)?,
            None => Tickets::generate(node)?,
        };
        let streams = asked.floor_bin.is_some() || asked.far_end == FarEnd::Streams;
        let foreign = asked.target.is_some() && asked.far_end == FarEnd::Itself;
        let name = match (&asked.floor_bin, &asked.target) {
            (Some(_), _) => "byte copy".to_owned(),
            (_, Some(url)) => url.clone(),
            (None, None) => "relay".to_owned(),
        };
        Ok(Self {
            name,
            tickets: Arc::new(tickets),
            speaks: if streams { Speaks::Streams } else { Speaks::Realtime(scenario.audio) },
            answers: if foreign { Answers::Foreign } else { Answers::Ours(scenario.audio) },
            listen: asked.model_listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
            tls: scenario.tls.then(Tls::generate).transpose()?,
            running: None,
        })
    }

    /// Starts it, or takes what runs already.
    ///
    /// # Errors
    /// When it does not come up, or is not where it is said to be.
    pub(crate) fn start(
        &mut self,
        args: &RunArgs,
        scenario: &Scenario,
        far_ends: &[SocketAddr],
    ) -> anyhow::Result<()> {
        let far_end = *far_ends.first().context("there is a far end")?;
        let asked = &args.subject;
        let cores = args.relay_cores.as_ref();
        let node = self.tickets.node();
        let running = if let Some(url) = &asked.target {
            let door = Door::read(url, asked.allow_remote)?;
            let process = Relay::running(door.address, asked.pid);
            (door, process)
        } else if let Some(url) = &asked.relay {
            let door = Door::read(url, asked.allow_remote)?;
            let process = Relay::running(door.address, asked.pid);
            (Door::of_node(door.address, node), process)
        } else if let Some(program) = &asked.floor_bin {
            let process = Relay::floor(program, far_end, cores)?;
            (Door::of_node(process.address, node), process)
        } else {
            let program = match &asked.relay_bin {
                Some(path) => path.clone(),
                None => std::env::current_exe()?.with_file_name("relay"),
            };
            let greets = if scenario.greeting { Greets::First } else { Greets::Never };
            let scheme = if scenario.tls { "wss" } else { "ws" };
            let models: Vec<_> = far_ends.iter().map(|at| format!("{scheme}://{at}")).collect();
            let agents = agent_file(&models, scenario.audio, greets);
            let tls = self.tls.as_ref();
            let calls = Some(scenario.calls());
            let extra = Extra { calls, settings: &scenario.relay_env, cores, tls };
            let process = Relay::start(&program, &self.tickets, &agents, "warn", &extra)?;
            (Door::of_node(process.address, node), process)
        };
        if let (Some(cores), Some(pid)) = (cores, asked.pid) {
            cores.pin_process(pid)?;
        }
        self.running = Some(running);
        Ok(())
    }

    /// Whether its process is known.
    pub(crate) fn has_process(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, process)| process.pid.is_some())
    }

    /// Where callers call.
    ///
    /// # Errors
    /// Before it was started.
    pub(crate) fn door(&self) -> anyhow::Result<Door> {
        let (door, _) = self.running.as_ref().context("nothing runs yet")?;
        Ok(door.clone())
    }

    /// What its process used so far; nothing where the process is not known.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let pid = self.running.as_ref().and_then(|(_, process)| process.pid);
        pid.map_or(Ok(Usage::default()), |pid| usage(pid).context("the process is gone"))
    }

    /// What it logged; nothing of one that ran already.
    pub(crate) fn log(&mut self) -> String {
        self.running.as_mut().map(|(_, process)| process.log()).unwrap_or_default()
    }
}

//! The relay under test: a process of our own, or one that runs already.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::tickets::{AGENT, Tickets};
use super::tls::Tls;
use crate::demo::Audio;
use crate::system::{self, Cores};

/// A relay.
pub(crate) struct Relay {
    /// Its public port.
    pub(crate) address: SocketAddr,
    /// Its admin port; `None` of one that ran already.
    pub(crate) admin: Option<SocketAddr>,
    /// Its process; `None` where nobody said which one it is.
    pub(crate) pid: Option<u32>,
    ours: Option<Ours>,
}

/// A process of our own, ended when it is dropped.
struct Ours {
    child: Child,
    folder: PathBuf,
}

/// What a relay of ours is told beside its keys and agents.
#[derive(Default)]
pub(crate) struct Extra<'a> {
    /// How many calls it must take, whatever its own default is; an operator's own setting wins.
    pub(crate) calls: Option<u32>,
    /// More settings.
    pub(crate) settings: &'a [(String, String)],
    /// The cores that it may use; all when not given.
    pub(crate) cores: Option<&'a Cores>,
    /// TLS on both of its legs.
    pub(crate) tls: Option<&'a Tls>,
}

impl Relay {
    /// Takes one that runs already.
    pub(crate) fn running(address: SocketAddr, pid: Option<u32>) -> Self {
        Self { address, admin: None, pid, ours: None }
    }

    /// Starts one that runs alone.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(
        program: &Path,
        tickets: &Tickets,
        agent_file: &str,
        log_filter: &str,
        extra: &Extra<'_>,
    ) -> anyhow::Result<Self> {
        let folder = folder()?;
        let (keys, agents) = (folder.join("keys.json"), folder.join("agents.toml"));
        std::fs::write(&keys, tickets.verifying().to_string())?;
        std::fs::write(&agents, agent_file)?;
        let mut command = Command::new(program);
        command
            .env("RELAY_LISTEN", "127.0.0.1:0")
            .env("RELAY_ADMIN_LISTEN", "127.0.0.1:0")
            .env("RELAY_NODE", tickets.node())
            .env("RELAY_TICKET_KEY_FILE", &keys)
            .env("RELAY_AGENT_FILE", &agents)
            .env("RELAY_DRAIN_SECONDS", "2")
            .env("RELAY_LOG", log_filter)
            .env("OPENAI_API_KEY", "sk-load-test");
        if let Some(calls) = extra.calls.filter(|_| std::env::var_os(CALLS_MAX).is_none()) {
            command.env(CALLS_MAX, calls.to_string());
        }
        if let Some(cores) = extra.cores {
            command.env("RELAY_SHARDS", cores.count().to_string());
        }
        if let Some(tls) = extra.tls {
            command.envs(tls.settings(&folder)?);
        }
        command.envs(extra.settings.iter().map(|(name, value)| (name, value)));
        let (mut ours, line) = Ours::start(command, folder, extra.cores)?;
        let (Some(public), Some(admin)) = (said(&line, "public="), said(&line, "admin=")) else {
            bail!("the relay did not come up:\n{}", ours.log())
        };
        let (address, admin) = (public.parse()?, Some(admin.parse()?));
        Ok(Self { address, admin, pid: Some(ours.child.id()), ours: Some(ours) })
    }

    /// Starts what copies bytes to the far end.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn floor(
        program: &Path,
        target: SocketAddr,
        cores: Option<&Cores>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--target", &target.to_string()]);
        let (mut ours, line) = Ours::start(command, folder()?, cores)?;
        let Some(address) = said(&line, "address=") else {
            bail!("{} did not say `address=IP:PORT`:\n{}", program.display(), ours.log())
        };
        let address = address.parse()?;
        Ok(Self { address, admin: None, pid: Some(ours.child.id()), ours: Some(ours) })
    }

    /// What it logged; nothing of one that ran already.
    pub(crate) fn log(&mut self) -> String {
        self.ours.as_mut().map(Ours::log).unwrap_or_default()
    }
}

/// The relay's setting for how many calls it takes.
const CALLS_MAX: &str = "RELAY_CALLS_MAX";

/// A folder for what a process of ours reads and logs. Counted, as several may follow each other.
fn folder() -> anyhow::Result<PathBuf> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let name = format!("linecard-load-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// What a line says behind a name.
fn said<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))
}

impl Ours {
    /// Starts a process, and waits for the line that it says once it listens. It inherits the
    /// cores of the thread that starts it, so those are changed for a moment.
    fn start(
        mut command: Command,
        folder: PathBuf,
        cores: Option<&Cores>,
    ) -> anyhow::Result<(Self, String)> {
        let log = File::create(folder.join("relay.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let own = system::allowed_cores()?;
        cores.map_or(Ok(()), Cores::pin)?;
        let started = command.spawn();
        own.pin()?;
        let program = Path::new(command.get_program());
        let mut child = started.with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take().context("the child's output is piped")?;
        let ours = Self { child, folder };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok((ours, line))
    }

    /// Everything that it logged.
    fn log(&mut self) -> String {
        std::fs::read_to_string(self.folder.join("relay.log")).unwrap_or_default()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        system::ask_to_end(self.child.id());
        for _ in 0..50 {
            if let Ok(Some(_)) = self.child.try_wait() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Who speaks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greets {
    /// The agent greets.
    First,
    /// The agent waits for the caller.
    Never,
}

/// The relay's agent file: an agent for each fake model, by its URL's origin.
pub(crate) fn agent_file(models: &[String], audio: Audio, greets: Greets) -> String {
    let greeting = match greets {
        Greets::First => "greeting = \"Say hello.\"\n",
        Greets::Never => "",
    };
    let audio = audio.as_str();
    let mut text = format!("default = \"{}\"\n", agent_name(0));
    for (number, model) in models.iter().enumerate() {
        text += &format!(
            "\n[[agent]]\nname = \"{}\"\ninstructions = \"Be brief.\"\naudio = \"{audio}\"\n\
             {greeting}\n[agent.provider]\nkind = \"openai_realtime\"\n\
             url = \"{model}/v1/realtime\"\n",
            agent_name(number)
        );
    }
    text
}

/// The name of the agent of one of several fake models.
pub(crate) fn agent_name(number: usize) -> String {
    if number == 0 { AGENT.to_owned() } else { format!("{AGENT}-{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_file_is_a_spec_without_problems() {
        #[derive(serde::Deserialize)]
        struct AgentFile {
            agent: Vec<link::agent::AgentSpec>,
        }
        let text = agent_file(
            &["ws://127.0.0.1:9".into(), "wss://127.0.0.1:10".into()],
            Audio::Pcm24k,
            Greets::First,
        );
        let file: AgentFile = toml::from_str(&text).unwrap();
        assert_eq!(file.agent.len(), 2);
        assert!(file.agent.iter().all(|agent| agent.problems().is_empty()));
    }
}

//! A relay of the fleet: a place at fixed addresses that a process may have, killed and started
//! again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::cut::Way;
use crate::demo::web;
use crate::events::control::free_tcp;
use crate::system;

/// What a node is made of.
pub(super) struct Making<'a> {
    /// Its name.
    pub(super) name: String,
    /// The relay's binary.
    pub(super) program: &'a Path,
    /// Where its log and its token are.
    pub(super) folder: &'a Path,
    /// The line that lets it join, over its own ways.
    pub(super) join_token: String,
    /// Its ways to the controls.
    pub(super) ways: Vec<Way>,
    /// More of its environment; `{node}` stands for its name.
    pub(super) more: &'a [(String, String)],
}

/// A node.
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// Where streams come in.
    pub(super) public: SocketAddr,
    /// Its ways to the controls.
    pub(super) ways: Vec<Way>,
    admin: SocketAddr,
    program: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Node {
    /// A place; nothing runs yet.
    ///
    /// # Errors
    /// When there is no port or no file for it.
    pub(super) fn new(making: Making<'_>) -> anyhow::Result<Self> {
        let Making { name, program, folder, join_token, ways, more } = making;
        let (public, admin) = (free_tcp()?, free_tcp()?);
        let token = folder.join(format!("{name}.token"));
        std::fs::write(&token, join_token)?;
        let own = [
            ("RELAY_LISTEN", public.to_string()),
            ("RELAY_ADMIN_LISTEN", admin.to_string()),
            ("RELAY_NODE", name.clone()),
            ("RELAY_PUBLIC_URL", format!("wss://{}", host(&name))),
            ("RELAY_JOIN_TOKEN_FILE", token.display().to_string()),
            ("RELAY_SPOOL_DIR", folder.join(format!("{name}.spool")).display().to_string()),
            ("RELAY_SHARDS", "1".to_owned()),
            ("RELAY_CALLS_MAX", "2000".to_owned()),
            // Everything is on one small machine: it is late because of its neighbours.
            ("RELAY_LATENESS_MAX_MS", "1000".to_owned()),
            ("RELAY_DRAIN_SECONDS", DRAIN_SECONDS.to_string()),
            ("RELAY_TOOLS_ALLOW", "127.0.0.1".to_owned()),
            ("RELAY_LOG", "warn".to_owned()),
        ];
        let mut environment: Vec<(String, String)> =
            own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for (key, value) in more {
            environment.retain(|(known, _)| known != key);
            environment.push((key.clone(), value.replace("{node}", &name)));
        }
        let log = folder.join(format!("{name}.log"));
        let program = program.to_owned();
        Ok(Self { name, public, ways, admin, program, log, environment, child: None })
    }

    /// Starts a process there, and waits until it takes calls.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        // Settings of the shell must not leak into the fleet.
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("RELAY_") {
                command.env_remove(&key);
            }
        }
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // Ctrl-C is for this process, which ends the others.
        command.process_group(0).kill_on_drop(true);
        let mut child =
            command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let stdout = child.stdout.take().context("its output is piped")?;
        self.child = Some(child);
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(START, lines.next_line()).await;
        if !matches!(first, Ok(Ok(Some(_)))) {
            bail!("{} does not come up:\n{}", self.name, self.tail());
        }
        // Whatever else is printed is read, so that nobody waits for a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let ready = async {
            while web::get(self.admin, "/readyz", &[]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ready = tokio::time::timeout(START, ready).await;
        ready.with_context(|| format!("{} does not become ready:\n{}", self.name, self.tail()))
    }

    /// Kills the process, as a machine that is switched off: the system closes its sockets.
    ///
    /// # Errors
    /// When none runs.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("it runs")?;
        child.kill().await?;
        Ok(())
    }

    /// Lets the process stand still with its sockets open, as a machine that is cut off: nobody is
    /// told anything.
    ///
    /// # Errors
    /// When none runs.
    pub(super) fn freeze(&self) -> anyhow::Result<()> {
        system::freeze(self.child.as_ref().and_then(Child::id).context("it runs")?);
        Ok(())
    }

    /// Asks the process to end, and waits until it has; how it ended. One that does not end is
    /// killed.
    ///
    /// # Errors
    /// When none runs, or it takes longer than its deadline and a little.
    pub(super) async fn drain(&mut self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("it runs")?;
        system::ask_to_end(child.id().context("it runs")?);
        let within = Duration::from_secs(DRAIN_SECONDS + DRAIN_MORE_SECONDS);
        match tokio::time::timeout(within, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                child.kill().await?;
                bail!("{} was not empty after {} s", self.name, within.as_secs())
            }
        }
    }

    /// Whether a process was started there and not ended by us.
    pub(super) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// A process that has ended although nobody ended it, in words.
    pub(super) fn fallen(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("{} has ended by itself: {status}\n{}", self.name, self.tail()))
    }

    /// The last lines of its log.
    pub(super) fn tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// The public name of a node.
pub(super) fn host(node: &str) -> String {
    format!("{node}.linecard.test")
}

/// How long a drain may take: the figure for drains under load.
pub(super) const DRAIN_SECONDS: u64 = 20;

/// What the end of a process may take beyond that.
const DRAIN_MORE_SECONDS: u64 = 15;

/// How long a process may take until it takes calls.
const START: Duration = Duration::from_secs(30);

/// As many lines as a person looks at.
const TAIL_LINES: usize = 20;

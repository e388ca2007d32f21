//! Control's own processes: started, killed and started again at the same addresses.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use link::join::JoinToken;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::run::process::{Usage, usage};

/// The key of the API that readers use.
pub(crate) const API_KEY: &str = "events-0123456789abcdef01234567";

/// The account that hooks are asked for.
pub(crate) const ACCOUNT: &str = "AC00000000000000000000000000000001";

/// What the carrier signs with.
pub(crate) const AUTH_TOKEN: &str = "events";

/// What the carrier believes to ask.
pub(crate) const PUBLIC_URL: &str = "https://linecard.test";

/// One control: a place that a process may have.
pub(crate) struct Control {
    program: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    /// Where streams are read.
    pub(crate) http: SocketAddr,
    child: Option<Child>,
}

/// Places for so many controls on one database; none runs yet.
///
/// # Errors
/// When there is no folder or no port for them.
pub(crate) fn places(
    program: &Path,
    folder: &Path,
    database: &str,
    count: usize,
) -> anyhow::Result<Vec<Control>> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    std::fs::write(folder.join("agents.toml"), AGENTS)?;
    let links: Vec<SocketAddr> = (0..count).map(|_| free_udp()).collect::<Result<_, _>>()?;
    let addresses: Vec<String> = links.iter().map(ToString::to_string).collect();
    let mut controls = Vec::new();
    for (index, link) in links.iter().enumerate() {
        let http = free_tcp()?;
        let own = folder.join(format!("control-{index}"));
        let environment = [
            ("CONTROL_DATABASE_URL", database.to_owned()),
            ("CONTROL_DATA_DIR", own.display().to_string()),
            // All controls of a database share what seals its secrets.
            ("CONTROL_SECRET_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            ("CONTROL_LISTEN", http.to_string()),
            ("CONTROL_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("CONTROL_LINK_LISTEN", link.to_string()),
            ("CONTROL_LINK_ADDRESS", addresses.join(",")),
            ("CONTROL_JOIN_TOKEN_FILE", own.with_extension("token").display().to_string()),
            ("CONTROL_PUBLIC_URL", PUBLIC_URL.to_owned()),
            ("CONTROL_API_KEYS", API_KEY.to_owned()),
            ("CONTROL_AGENT_FILE", folder.join("agents.toml").display().to_string()),
            ("CONTROL_LOG", "warn".to_owned()),
            ("TWILIO_ACCOUNT_SID", ACCOUNT.to_owned()),
            ("TWILIO_AUTH_TOKEN", AUTH_TOKEN.to_owned()),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let program = program.to_owned();
        controls.push(Control { program, folder: own, environment, http, child: None });
    }
    Ok(controls)
}

impl Control {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.with_extension("log"))?;
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command.process_group(0).kill_on_drop(true);
        let mut child =
            command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await;
        self.child = Some(child);
        match line {
            Ok(Ok(Some(_))) => Ok(()),
            _ => bail!("control does not come up:\n{}", self.log()),
        }
    }

    /// Kills it, as a machine that is cut off.
    ///
    /// # Errors
    /// When it runs no more.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("it runs")?;
        child.kill().await?;
        Ok(())
    }

    /// The line that lets relays join, once it listens.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn join_token(&self) -> anyhow::Result<JoinToken> {
        let line = std::fs::read_to_string(self.folder.with_extension("token"))?;
        Ok(JoinToken::from_line(&line)?)
    }

    /// Sets something else in its environment; it holds from its next start on.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Whether its process was started and not killed.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// What the process uses.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.child.as_ref().and_then(Child::id).context("it does not run")?)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default()
    }
}

/// A TCP port of loopback that is free now.
pub(crate) fn free_tcp() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn free_udp() -> std::io::Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

const START: Duration = Duration::from_secs(20);

/// Nobody answers in these scenes; control wants an agent all the same.
const AGENTS: &str = r#"
default = "front-desk"
[[agent]]
name = "front-desk"
instructions = "Nobody asks."
provider = { kind = "openai_realtime", url = "ws://127.0.0.1:9/v1/realtime" }
"#;

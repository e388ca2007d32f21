//! The demo's processes: started in order, each waited for, all ended by id whatever happens.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::follow::Seen;
use super::scene::{Play, Twist};
use super::screen::Screen;
use super::tools::ToolServer;
use super::{DemoArgs, call, web};
use crate::system;

/// Everything that runs behind the demo.
pub(crate) struct Stage {
    args: DemoArgs,
    play: Play,
    tools: Option<ToolServer>,
    provider_key: String,
    api_key: String,
    auth_token: String,
    folder: PathBuf,
    /// What is still to happen to the relay.
    twist: Option<Twist>,
    /// In the order in which they were started.
    players: Vec<Player>,
}

/// One process.
struct Player {
    name: &'static str,
    child: Child,
    /// What it printed when it was ready.
    line: String,
    log: PathBuf,
    /// Whether it may end before the others.
    is_struck: bool,
}

/// How a process is started.
struct Casting<'a> {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(&'a str, String)>,
}

impl Stage {
    /// An empty stage with a folder of its own.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub(crate) fn new(args: &DemoArgs, play: Play, provider_key: String) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("linecard-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for wanted in [&args.capture, &args.save].into_iter().flatten() {
            std::fs::create_dir_all(wanted)
                .with_context(|| format!("making {}", wanted.display()))?;
        }
        let twist = play.twist;
        Ok(Self {
            args: args.clone(),
            twist,
            play,
            tools: None,
            provider_key,
            api_key: format!("demo-{}", uuid::Uuid::new_v4().simple()),
            auth_token: uuid::Uuid::new_v4().simple().to_string(),
            folder,
            players: Vec::new(),
        })
    }

    /// Starts everything, in the order in which one needs the other.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub(crate) async fn set(&mut self, screen: &Screen) -> anyhow::Result<()> {
        screen.progress("starting the fakes");
        let model = self.start_model().await?;
        self.start_twilio().await?;
        let tools = ToolServer::start().await?;
        let tools_address = tools.address().to_string();
        self.tools = Some(tools);
        let agents = self.folder.join("agents.toml");
        let audio = self.args.audio;
        let file = call::agent_file(model.as_deref(), audio, &self.play, &tools_address);
        std::fs::write(&agents, file)?;
        screen.progress("starting control");
        self.start_control(&agents).await?;
        screen.progress("starting the relay");
        self.start_relay(RELAYS[0]).await?;
        let map = serde_json::json!({call::ORIGIN: self.front()?.to_string()});
        web::post(self.twilio()?, "/_fake/resolve", &map).await?;
        screen.started(&self.overview());
        Ok(())
    }

    /// Starts the fake model with the demo's script; gives its URL, or nothing when the
    /// real one answers.
    async fn start_model(&mut self) -> anyhow::Result<Option<String>> {
        if self.args.real_model {
            return Ok(None);
        }
        let script = self.folder.join("script.json");
        std::fs::write(&script, serde_json::to_vec(&self.play.script)?)?;
        let mut args = words("fake-model --listen 127.0.0.1:0 --script");
        args.push(script.display().to_string());
        if let Some(seconds) = self.play.session_limit {
            args.extend(["--session-limit".into(), seconds.to_string()]);
        }
        if let Some(folder) = &self.args.capture {
            args.extend(["--capture".into(), folder.join("openai.jsonl").display().to_string()]);
        }
        let program = std::env::current_exe()?;
        let casting = Casting { name: "fake-model", program, args, env: Vec::new() };
        let line = self.start(casting).await?;
        Ok(Some(field(&line, "url")?.to_owned()))
    }

    /// Starts the fake Twilio. It learns where the public name is once the relay is up.
    async fn start_twilio(&mut self) -> anyhow::Result<()> {
        let mut args = words("fake-twilio --listen 127.0.0.1:0 --account");
        let delay = self.args.stream_delay_ms.to_string();
        args.extend([ACCOUNT.into(), "--token".into(), self.auth_token.clone()]);
        args.extend(["--stream-delay-ms".into(), delay]);
        if let Some(folder) = &self.args.capture {
            args.extend(["--capture".into(), folder.display().to_string()]);
        }
        let program = std::env::current_exe()?;
        self.start(Casting { name: "fake-twilio", program, args, env: Vec::new() }).await.map(drop)
    }

    /// Starts control with an empty database of its own. Every port is 0: the line that it
    /// prints says which one it got.
    async fn start_control(&mut self, agents: &Path) -> anyhow::Result<()> {
        let data = self.folder.join("control");
        let env = vec![
            ("CONTROL_LISTEN", "127.0.0.1:0".into()),
            ("CONTROL_ADMIN_LISTEN", "127.0.0.1:0".into()),
            ("CONTROL_LINK_LISTEN", "127.0.0.1:0".into()),
            ("CONTROL_PUBLIC_URL", call::ORIGIN.into()),
            ("CONTROL_DATA_DIR", data.display().to_string()),
            ("CONTROL_JOIN_TOKEN_FILE", self.join_token().display().to_string()),
            ("CONTROL_API_KEYS", self.api_key.clone()),
            ("CONTROL_AGENT_FILE", agents.display().to_string()),
            ("TWILIO_ACCOUNT_SID", ACCOUNT.into()),
            ("TWILIO_AUTH_TOKEN", self.auth_token.clone()),
            ("TWILIO_API_URL", format!("http://{}", self.twilio()?)),
            ("OPENAI_API_KEY", self.provider_key.clone()),
        ];
        let program = self.binary("control")?;
        self.start(Casting { name: "control", program, args: Vec::new(), env }).await?;
        Ok(())
    }

    /// Starts a relay in one-port mode: what is not a stream it forwards to control, as behind one
    /// tunnel. Where there are two of them, each has a name of its own, and control one, too.
    async fn start_relay(&mut self, (name, node): (&'static str, &str)) -> anyhow::Result<()> {
        let origin = match self.play.twist {
            Some(_) => format!("https://{node}.linecard.test"),
            None => call::ORIGIN.to_owned(),
        };
        let drain = if self.play.twist.is_some() { DRAIN_SECONDS } else { "2" };
        let env = vec![
            ("RELAY_LISTEN", "127.0.0.1:0".into()),
            ("RELAY_ADMIN_LISTEN", "127.0.0.1:0".into()),
            ("RELAY_NODE", node.into()),
            ("RELAY_PUBLIC_URL", origin.replace("https", "wss")),
            ("RELAY_JOIN_TOKEN_FILE", self.join_token().display().to_string()),
            ("RELAY_CONTROL_HTTP_URL", format!("http://{}", self.address("control", "http")?)),
            ("RELAY_DRAIN_SECONDS", drain.into()),
            // The demo's tool server is on this machine, where no tool may be otherwise.
            ("RELAY_TOOLS_ALLOW", "127.0.0.1".into()),
        ];
        let program = self.binary("relay")?;
        self.start(Casting { name, program, args: Vec::new(), env }).await?;
        let map = serde_json::json!({origin: self.address(name, "public")?.to_string()});
        web::post(self.twilio()?, "/_fake/resolve", &map).await?;
        self.wait_until_ready(name).await
    }

    /// Does to the relay what the scene wants, once: another one starts before.
    ///
    /// # Errors
    /// When the other one does not come up.
    pub(crate) async fn twist(&mut self, screen: &Screen) -> anyhow::Result<()> {
        let Some(twist) = self.twist.take() else { return Ok(()) };
        screen.twist("starts a second relay");
        self.start_relay(RELAYS[1]).await?;
        let first = self.players.iter_mut().find(|player| player.name == RELAYS[0].0);
        let first = first.context("the first relay runs")?;
        first.is_struck = true;
        match twist {
            Twist::Killed => {
                screen.twist("kills the first relay (kill -9)");
                first.child.start_kill()?;
            }
            Twist::AskedToEnd => {
                screen.twist("asks the first relay to end (SIGTERM)");
                system::ask_to_end(first.child.id().context("the first relay runs")?);
            }
        }
        Ok(())
    }

    /// Waits until the relay has heard from control everything that it needs for a call.
    async fn wait_until_ready(&self, relay: &str) -> anyhow::Result<()> {
        let admin = self.address(relay, "admin")?;
        let ready = async {
            while web::get(admin, "/readyz", &[]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(START, ready).await;
        waited.context("the relay did not become ready: it waits for control")
    }

    /// Starts one process and waits for the line that it prints when it listens.
    async fn start(&mut self, casting: Casting<'_>) -> anyhow::Result<String> {
        let Casting { name, program, args, env } = casting;
        let log = self.folder.join(format!("{name}.log"));
        let errors = File::create(&log)?;
        let mut command = Command::new(&program);
        // Settings of the shell must not leak into the demo.
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy();
            if ["RELAY_", "CONTROL_", "TWILIO_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&key);
            }
        }
        command.args(args).envs(env).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        // Ctrl-C is for the demo, which ends the others in order.
        command.process_group(0).kill_on_drop(true);
        let mut child =
            command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take().context("the child's output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(START, lines.next_line()).await;
        let line = match first {
            Ok(Ok(Some(line))) => line,
            _ => {
                let line = String::new();
                self.players.push(Player { name, child, line, log, is_struck: false });
                bail!("{name} did not come up");
            }
        };
        // Whatever else is printed is read, so that nobody waits for a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.players.push(Player { name, child, line: line.clone(), log, is_struck: false });
        Ok(line)
    }

    /// Finds one of our binaries: all are built into one folder.
    fn binary(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = match &self.args.bin_dir {
            Some(folder) => folder.clone(),
            None => std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default(),
        };
        let path = folder.join(name);
        if !path.exists() {
            bail!("{} is missing; build it, or say where it is with --bin-dir", path.display());
        }
        Ok(path)
    }

    /// Where control leaves the join token for the relay.
    fn join_token(&self) -> PathBuf {
        self.folder.join("join-token")
    }

    /// An address out of the line that a process printed.
    fn address(&self, player: &str, which: &str) -> anyhow::Result<SocketAddr> {
        let player = self.players.iter().find(|known| known.name == player);
        let line = &player.context("not started yet")?.line;
        Ok(field(line, which)?.trim_start_matches("http://").parse()?)
    }

    /// Where the fake Twilio is.
    ///
    /// # Errors
    /// When it is not started.
    pub(crate) fn twilio(&self) -> anyhow::Result<SocketAddr> {
        self.address("fake-twilio", "url")
    }

    /// Where the relay's public port is: webhooks, streams, API, all of it.
    ///
    /// # Errors
    /// When it is not started.
    pub(crate) fn relay(&self) -> anyhow::Result<SocketAddr> {
        self.address("relay", "public")
    }

    /// Where webhooks and the API are asked: at the one port, or at control itself where a relay is
    /// not there for good.
    ///
    /// # Errors
    /// When it is not started.
    pub(crate) fn front(&self) -> anyhow::Result<SocketAddr> {
        match self.play.twist {
            Some(_) => self.address("control", "http"),
            None => self.relay(),
        }
    }

    /// The key of control's API.
    pub(crate) fn api_key(&self) -> &str {
        &self.api_key
    }

    /// The fake account's auth token.
    pub(crate) fn auth_token(&self) -> &str {
        &self.auth_token
    }

    /// Fetches what the fake model and the tool server saw. Sessions are over a moment after the
    /// call; one that stays open is shown as it is.
    ///
    /// # Errors
    /// When the fake model does not answer.
    pub(crate) async fn witnesses(&mut self, seen: &mut Seen) -> anyhow::Result<()> {
        let struck = self.players.iter_mut().find(|player| player.is_struck);
        seen.relay_ended = match struck {
            // The carrier's last questions are asked while it still forwards.
            Some(player) => match tokio::time::timeout(POLITE, player.child.wait()).await {
                Ok(status) => Some(status?.to_string()),
                Err(_) => None,
            },
            None => None,
        };
        seen.tool_requests = self.tools.as_ref().map(ToolServer::requests).unwrap_or_default();
        if self.args.real_model {
            return Ok(());
        }
        let url = field(&self.players[0].line, "url")?;
        let address = url.trim_start_matches("ws://").trim_end_matches("/v1/realtime").parse()?;
        for _ in 0..CLOSE_TRIES {
            let sessions = web::get(address, "/_fake/sessions", &[]).await?;
            seen.sessions = serde_json::from_slice(&sessions)?;
            if seen.sessions.iter().all(|session| session.closed_at_us.is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let summary = web::get(address, "/_fake/summary", &[]).await?;
        seen.summary = Some(serde_json::from_slice(&summary)?);
        Ok(())
    }

    /// Every process with what it said when it was ready.
    pub(crate) fn overview(&self) -> Vec<(&'static str, String)> {
        let ports = |player: &Player| {
            let words = player.line.split_whitespace().filter(|word| word.contains('='));
            words.collect::<Vec<_>>().join("  ")
        };
        self.players.iter().map(|player| (player.name, ports(player))).collect()
    }

    /// The last lines of every log, for when something went wrong.
    pub(crate) fn tails(&self) -> Vec<(&'static str, String)> {
        self.players.iter().map(|player| (player.name, tail(&player.log))).collect()
    }

    /// Where the logs and the database are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Which process has ended although nobody asked it to.
    pub(crate) fn fallen(&mut self) -> Option<String> {
        self.players.iter_mut().filter(|player| !player.is_struck).find_map(|player| {
            let status = player.child.try_wait().ok()??;
            Some(format!("{} has ended: {status}", player.name))
        })
    }

    /// Ends every process, the last one first: asks, waits a little, then insists.
    pub(crate) async fn strike(&mut self) {
        for player in self.players.iter_mut().rev() {
            let Some(id) = player.child.id() else { continue };
            system::ask_to_end(id);
            let gone = tokio::time::timeout(POLITE, player.child.wait()).await;
            if gone.is_err() {
                let _ = player.child.kill().await;
            }
        }
        self.players.clear();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A command line as words.
fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Finds `name=value` in the line that a process prints when it listens.
fn field<'a>(line: &'a str, name: &str) -> anyhow::Result<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .with_context(|| format!("no {name}= in `{line}`"))
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Any account will do; this one is nobody's.
const ACCOUNT: &str = "AC00000000000000000000000000000001";

/// The relays, by the names of their processes and their nodes: the second one starts in the middle
/// of a call, where the scene wants one.
const RELAYS: [(&str, &str); 2] = [("relay", "demo-1"), ("relay-2", "demo-2")];

/// How long the first relay may take to give its call away, in seconds.
const DRAIN_SECONDS: &str = "20";

/// How long a process may take until it listens.
const START: Duration = Duration::from_secs(15);

/// How long a process may take to end when it is asked.
const POLITE: Duration = Duration::from_secs(4);

/// A session has two seconds to end after its call.
const CLOSE_TRIES: u32 = 20;

/// As many lines as a person looks at.
const TAIL_LINES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_line_of_a_process() {
        let line = "control listening http=127.0.0.1:1 admin=127.0.0.1:2 link=127.0.0.1:3";
        assert_eq!(field(line, "admin").unwrap(), "127.0.0.1:2");
        assert!(field(line, "public").is_err());
    }

    #[test]
    fn a_tail_is_the_end_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        assert!(tail(&log).starts_with("70\n"));
        assert_eq!(tail(&folder.path().join("none")), "");
    }
}

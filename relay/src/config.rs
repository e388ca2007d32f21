//! The environment, parsed once into domain types. All mistakes are listed together, each with
//! its name, what is wrong and what to do; a secret is never repeated.
//!
//! The only reader of the environment and of the files that it names. The table is in
//! [`settings`]; what stands in for a setting that is not set is in `config/sources.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use link::agent::AgentSpec;
use link::guard::Allowed;
use link::id::NodeId;
use link::join::JoinToken;
use link::secret::Secret;
use link::ticket::{KeySet, VerifyingKey};
use tracing_subscriber::EnvFilter;
use url::Url;

use self::reader::Reader;
use crate::call::input::Batch;
use crate::forward::Forward;
use crate::front::Front;
use crate::known::Signatures;
use crate::node::spool::SpoolSettings;
use crate::shard::UplinkPace;
use crate::tls::Own;
use crate::tools::Tools;
use crate::{node, tls};

pub mod settings;

pub mod agents;

mod reader;
mod sources;

/// Everything that is settled at start.
#[derive(Debug)]
pub struct Config {
    /// The node's name.
    pub node: NodeId,
    /// Where the public port listens.
    pub listen: SocketAddr,
    /// Where probes and metrics are served.
    pub admin_listen: SocketAddr,
    /// Whether the node belongs to a fleet.
    pub mode: Mode,
    /// The relay's own certificate; `None` when a proxy in front ends TLS.
    pub tls: Option<Arc<Own>>,
    /// What stands in front of the public port.
    pub front: Front,
    /// Whom this process trusts when it dials agents.
    pub agent_tls: Arc<rustls::ClientConfig>,
    /// Runs what a model asks for.
    pub tools: Tools,
    /// The way to control for whatever is not a stream.
    pub forward: Option<Forward>,
    /// Threads that carry calls.
    pub shards: usize,
    /// The most calls.
    pub calls_max: u32,
    /// Memory above which no call is taken, in bytes; `None` when the system's bound counts.
    pub memory_max: Option<u64>,
    /// How late a shard may be and still take calls.
    pub lateness_max: Duration,
    /// How long a stop waits for calls to end.
    pub drain_max: Duration,
    /// How far playout may be ahead of the caller's ear.
    pub playout_lead: Duration,
    /// How callers' audio is sent on.
    pub uplink: UplinkPace,
    /// Sessions for each agent that are kept open for streams that nobody announces.
    pub spare_agents: u32,
}

/// How the node knows whom to let in and who answers.
#[derive(Debug)]
pub enum Mode {
    /// Control tells it.
    Joined(Joined),
    /// Its own files tell it.
    Alone(Alone),
}

/// A node of a fleet.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Where control is and what opens its door.
    pub token: JoinToken,
    /// Trusts control's own CA and nobody else.
    pub tls: Arc<rustls::ClientConfig>,
    /// The origin at which the carrier reaches this node, `wss://host[:port]`.
    pub public_url: String,
    /// Where it stands, for people.
    pub region: Option<String>,
    /// Where events wait for control that are to outlive the process; `None` in memory only.
    pub spool: Option<SpoolSettings>,
}

/// A node by itself.
#[derive(Debug)]
pub struct Alone {
    /// The keys that tickets are signed with.
    pub keys: KeySet,
    /// Who answers.
    pub agents: Vec<AgentSpec>,
    /// What the signature of an upgrade may be.
    pub signatures: Signatures,
}

/// How the process logs. Read before everything else, so that the rest can be logged.
#[derive(Debug)]
pub struct Logging {
    /// What is logged.
    pub filter: EnvFilter,
    /// How it is written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// One thing that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub name: &'static str,
    /// What is wrong and what would be right; never a secret.
    pub problem: String,
}

/// Everything that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "relay cannot start; `relay config` explains every setting")?;
        for Mistake { name, problem } in &self.0 {
            writeln!(f, "  {name}: {}", problem.replace('\n', "\n      "))?;
        }
        Ok(())
    }
}

/// What the environment says, by name.
pub type Environment = BTreeMap<String, String>;

/// The exit code of a process whose settings are wrong (EX_USAGE of sysexits).
pub const EXIT_USAGE: u8 = 64;

/// Reads the process's environment. A value that is not UTF-8 is kept with its odd bytes replaced,
/// and so fails the check of its setting.
#[must_use]
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.to_string_lossy().into_owned()))
        })
        .collect()
}

/// Parses everything.
///
/// # Errors
/// All [`Mistakes`] at once.
pub fn read(environment: &Environment) -> Result<(Config, Logging), Mistakes> {
    let (environment, mistakes) = sources::filled_in(environment);
    let mut reader = Reader { environment: &environment, mistakes };
    let config = reader.config();
    let logging = reader.logging();
    match (config, logging) {
        (Some(config), Some(logging)) if reader.mistakes.is_empty() => Ok((config, logging)),
        _ => {
            debug_assert!(!reader.mistakes.is_empty(), "what is missing was said");
            Err(Mistakes(reader.mistakes))
        }
    }
}

/// The origin at which a carrier reaches this node, when it is said and well-formed.
pub(crate) fn public_url(environment: &Environment) -> Option<String> {
    environment.get("RELAY_PUBLIC_URL").and_then(|text| origin(text.trim()))
}

/// The names in the environment that look like settings of the relay and are none.
pub fn unknown(environment: &Environment) -> impl Iterator<Item = &str> {
    let names = environment.keys().map(String::as_str);
    names.filter(|name| {
        name.starts_with("RELAY_") && !settings::SETTINGS.iter().any(|known| known.name == *name)
    })
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        let node = self.parsed("RELAY_NODE", |text| NodeId::new(text).ok());
        let listen = self.parsed("RELAY_LISTEN", |text| text.parse().ok());
        let admin_listen = self.parsed("RELAY_ADMIN_LISTEN", |text| text.parse().ok());
        let mode = self.mode();
        let tls = self.tls();
        let agent_tls = self.agent_tls();
        let tools_allow = self.tools_allow();
        let forward = self.parsed("RELAY_CONTROL_HTTP_URL", |text| Forward::new(text).ok());
        let shards = self.number("RELAY_SHARDS", cores);
        let calls_max = self.number("RELAY_CALLS_MAX", || CALLS_PER_SHARD * shards.unwrap_or(1));
        let memory = self.number("RELAY_MEMORY_MAX_MIB", || 0);
        let lateness = self.number("RELAY_LATENESS_MAX_MS", || 0);
        let drain = self.number("RELAY_DRAIN_SECONDS", || 0);
        let lead = self.number("RELAY_PLAYOUT_LEAD_MS", || 0);
        let uplink = self.uplink();
        let spares = self.number("RELAY_SPARE_AGENTS", || 0);
        Some(Config {
            node: node?,
            listen: listen?,
            admin_listen: admin_listen?,
            mode: mode?,
            tls,
            front: sources::front(self.environment),
            tools: Tools::new(tools_allow?, agent_tls.clone()?),
            agent_tls: agent_tls?,
            forward,
            shards: usize::try_from(shards?).ok()?,
            calls_max: u32::try_from(calls_max?).ok()?,
            memory_max: Some(memory? << 20).filter(|bytes| *bytes > 0),
            lateness_max: Duration::from_millis(lateness?),
            drain_max: Duration::from_secs(drain?),
            playout_lead: Duration::from_millis(lead?),
            uplink: uplink?,
            spare_agents: u32::try_from(spares?).ok()?,
        })
    }

    fn uplink(&mut self) -> Option<UplinkPace> {
        let joined = self.parsed("RELAY_UPLINK_BATCH", |text| match text {
            "reads" => Some(Batch::Reads as fn(Duration) -> Batch),
            "writes" => Some(Batch::Writes),
            _ => None,
        });
        let when = self.parsed("RELAY_UPLINK_BATCH_MS", |text| match text {
            "auto" => Some(None),
            "20" | "40" | "60" => text.parse().ok().map(Some),
            _ => None,
        });
        let joined = joined?;
        Some(match when? {
            None => UplinkPace::WhenLate(joined(BATCH_WHEN_LATE)),
            // A frame of the carrier is that long already.
            Some(20) => UplinkPace::Always(Batch::Off),
            Some(ms) => UplinkPace::Always(joined(Duration::from_millis(ms))),
        })
    }

    fn logging(&mut self) -> Option<Logging> {
        let filter = self.parsed("RELAY_LOG", |text| EnvFilter::try_new(text).ok());
        let format = self.parsed("RELAY_LOG_FORMAT", |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        Some(Logging { filter: filter?, format: format? })
    }

    /// A join token or the files of a relay that runs alone; not both, not neither.
    fn mode(&mut self) -> Option<Mode> {
        let joins = ["RELAY_JOIN_TOKEN", "RELAY_JOIN_TOKEN_FILE"];
        let alone = ["RELAY_TICKET_KEY_FILE", "RELAY_AGENT_FILE", "RELAY_SIGNATURES_FILE"];
        let given = |names: &[&'static str]| names.iter().copied().find(|name| self.is_given(name));
        match (given(&joins), given(&alone)) {
            (Some(_), None) => self.joined().map(Mode::Joined),
            (None, Some(_)) => self.alone().map(Mode::Alone),
            (Some(join), Some(file)) => {
                let problem = format!("it is for a relay that runs alone; unset it or {join}");
                self.mistake(file, problem)
            }
            (None, None) => {
                let problem = "missing; give the line that `control join-token` prints, or \
                    RELAY_TICKET_KEY_FILE and RELAY_AGENT_FILE to run alone";
                self.mistake("RELAY_JOIN_TOKEN", problem)
            }
        }
    }

    fn joined(&mut self) -> Option<Joined> {
        let line = match (self.text("RELAY_JOIN_TOKEN"), self.file("RELAY_JOIN_TOKEN_FILE")) {
            (Some(_), Some(_)) => {
                return self
                    .mistake("RELAY_JOIN_TOKEN", "given beside RELAY_JOIN_TOKEN_FILE; unset one");
            }
            (Some(line), None) => Some(("RELAY_JOIN_TOKEN", line)),
            (None, Some(line)) => Some(("RELAY_JOIN_TOKEN_FILE", line)),
            (None, None) => None,
        };
        let token = line.and_then(|(name, line)| {
            let token = JoinToken::from_line(&line);
            match token.and_then(|token| token.ca_der().map(|der| (token, der))) {
                Ok((token, ca_der)) => match node::trust(&ca_der) {
                    Ok(tls) => Some((token, tls)),
                    Err(error) => {
                        self.mistake(name, format!("its certificate is of no use: {error}"))
                    }
                },
                Err(error) => self.mistake(name, error.to_string()),
            }
        });
        if !self.is_given("RELAY_PUBLIC_URL") {
            let problem = "missing; a node that joins must say where the carrier reaches it: \
                wss://host[:port]";
            return self.mistake("RELAY_PUBLIC_URL", problem);
        }
        let public_url = self.parsed("RELAY_PUBLIC_URL", origin);
        // It is shown beside the node's name, and may hold the same characters.
        let region = self.parsed("RELAY_REGION", |text| NodeId::new(text).ok().map(String::from));
        let spool = self.spool();
        let (token, tls) = token?;
        Some(Joined { token, tls, public_url: public_url?, region, spool })
    }

    fn spool(&mut self) -> Option<SpoolSettings> {
        let mebibytes = self.number("RELAY_SPOOL_MAX_MIB", || 0);
        let folder = self.text("RELAY_SPOOL_DIR").map(PathBuf::from);
        Some(SpoolSettings { folder: folder?, bytes_max: mebibytes? << 20 })
    }

    fn alone(&mut self) -> Option<Alone> {
        for name in ["RELAY_TICKET_KEY_FILE", "RELAY_AGENT_FILE"] {
            if !self.is_given(name) {
                self.mistake::<()>(name, "missing; a relay that runs alone needs it");
            }
        }
        let keys = self.json::<Vec<VerifyingKey>>("RELAY_TICKET_KEY_FILE");
        let keys = keys.and_then(|keys| match KeySet::new(&keys) {
            Ok(set) if !set.is_empty() => Some(set),
            Ok(_) => self.mistake("RELAY_TICKET_KEY_FILE", "the file holds no key"),
            Err(error) => self.mistake("RELAY_TICKET_KEY_FILE", format!("a key in it is {error}")),
        });
        let agents = self.file("RELAY_AGENT_FILE").and_then(|text| {
            let key_of = |name: &str| self.given(name).map(Secret::new);
            match agents::read(&text, key_of) {
                Ok(agents) => Some(agents),
                Err(problems) => self.mistake("RELAY_AGENT_FILE", problems.join("\n")),
            }
        });
        let signatures = if self.is_given("RELAY_SIGNATURES_FILE") {
            self.json("RELAY_SIGNATURES_FILE").map(Signatures::OneOf)
        } else {
            Some(Signatures::NotAsked)
        };
        Some(Alone { keys: keys?, agents: agents?, signatures: signatures? })
    }

    fn tls(&mut self) -> Option<Arc<Own>> {
        let (cert, key) = ("RELAY_TLS_CERT_FILE", "RELAY_TLS_KEY_FILE");
        match (self.text(cert), self.text(key)) {
            (None, None) => None,
            (Some(chain), Some(secret)) => match Own::read(Path::new(&chain), Path::new(&secret)) {
                Ok(own) => Some(Arc::new(own)),
                Err(error) => self.mistake(cert, error.to_string()),
            },
            (Some(_), None) => self.mistake(key, "missing beside RELAY_TLS_CERT_FILE"),
            (None, Some(_)) => self.mistake(cert, "missing beside RELAY_TLS_KEY_FILE"),
        }
    }

    fn tools_allow(&mut self) -> Option<Allowed> {
        if !self.is_given("RELAY_TOOLS_ALLOW") {
            return Some(Allowed::default());
        }
        self.parsed("RELAY_TOOLS_ALLOW", Allowed::parse)
    }

    fn agent_tls(&mut self) -> Option<Arc<rustls::ClientConfig>> {
        let extra = self.text("RELAY_AGENT_CA_FILE").map(PathBuf::from);
        match tls::client_config(extra.as_deref()) {
            Ok(config) => Some(config),
            Err(error) => self.mistake("RELAY_AGENT_CA_FILE", error.to_string()),
        }
    }
}

/// What a shard that is late sends at once: three frames of the carrier, a third of the reads and
/// writes of its callers' audio.
const BATCH_WHEN_LATE: Duration = Duration::from_millis(60);

/// Calls that one shard takes unless told otherwise: a core carried 700 when it was measured
/// (2026-11-20, one core, mu-law both ways), and needs air for the calls of a neighbour that dies.
const CALLS_PER_SHARD: u64 = 500;

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// `wss://host[:port]` as it was written: the carrier signs exactly that.
fn origin(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let url = Url::parse(text).ok()?;
    let is_bare =
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let is_wss = url.scheme() == "wss" && url.host_str().is_some();
    let has_user = !url.username().is_empty() || url.password().is_some();
    (is_wss && is_bare && !has_user && !text.ends_with('/')).then(|| text.to_owned())
}

//! The environment, parsed once into domain types. All mistakes are listed together, each with its
//! name, what is wrong and what to do; a secret is never repeated.
//!
//! The only reader of the environment and of the files that it names. The table is in
//! [`settings`], the agent file in [`agents`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use link::secret::Secret;
use tracing_subscriber::EnvFilter;
use url::Url;

use self::agents::Agents;
use self::settings::{Default, Form, setting};
use crate::api::auth::ApiKeys;
use crate::dialer::is_e164;
use crate::keys::SealingKey;
use crate::store::call::Number;
use crate::twilio::signature::PublicOrigin;

pub mod agents;
pub mod settings;

/// Everything that is settled at start.
#[derive(Debug)]
pub struct Config {
    /// Where the carrier reaches this process.
    pub public: PublicOrigin,
    /// Where webhooks and the API are served.
    pub listen: SocketAddr,
    /// Where probes and metrics are served.
    pub admin_listen: SocketAddr,
    /// Who may use the API.
    pub api_keys: ApiKeys,
    /// Who answers.
    pub agents: Agents,
    /// The carrier's account.
    pub carrier: Account,
    /// Who calls when an outbound call does not say.
    pub from: Option<Number>,
    /// What is durable and where relays dial in.
    pub door: Door,
    /// Where the join token is written; `None` when nobody reads it from a file.
    pub join_token_file: Option<PathBuf>,
}

/// The account at the carrier.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name, `AC...`.
    pub sid: String,
    /// Its secret: signs webhooks and opens the REST API.
    pub auth_token: Secret,
    /// The origin of the REST API, without a slash at the end.
    pub api_url: String,
}

/// What is durable and where relays dial in: all that `control join-token` needs.
#[derive(Debug)]
pub struct Door {
    /// The folder of the SQLite file and the sealing key.
    pub data_dir: PathBuf,
    /// The database; its address may hold a password.
    pub database_url: Secret,
    /// What seals secrets; `None` means the key file in the folder.
    pub sealing_key: Option<SealingKey>,
    /// Where the link listens.
    pub link_listen: SocketAddr,
    /// Where relays find it; `None` means where it listens.
    pub link_address: Option<String>,
}

impl Door {
    /// Where relays find a link that listens on `local`. An address that means "any" is not one
    /// that can be dialled: relays on this machine use loopback.
    #[must_use]
    pub fn address(&self, local: SocketAddr) -> String {
        let Some(address) = &self.link_address else {
            let mut local = local;
            if local.ip().is_unspecified() {
                local.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            return local.to_string();
        };
        address.clone()
    }
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
        writeln!(f, "control cannot start; `control config` explains every setting")?;
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
    // Both are read before either fails: an operator corrects everything in one round.
    let mut reader = Reader { environment, mistakes: Vec::new() };
    let config = reader.config();
    let logging = reader.logging();
    reader.finish(config.zip(logging))
}

/// Parses only what the join token needs, so that it can be printed without the carrier's secrets.
///
/// # Errors
/// All [`Mistakes`] at once.
pub fn read_door(environment: &Environment) -> Result<Door, Mistakes> {
    let mut reader = Reader { environment, mistakes: Vec::new() };
    let door = reader.door();
    if let Some(door) = &door
        && door.link_listen.port() == 0
        && door.link_address.is_none()
    {
        let problem = "missing; the port of CONTROL_LINK_LISTEN is chosen at each start";
        reader.mistake::<()>("CONTROL_LINK_ADDRESS", problem);
    }
    reader.finish(door)
}

/// The names in the environment that look like settings of control and are none.
pub fn unknown(environment: &Environment) -> impl Iterator<Item = &str> {
    let names = environment.keys().map(String::as_str);
    names.filter(|name| {
        name.starts_with("CONTROL_") && !settings::SETTINGS.iter().any(|known| known.name == *name)
    })
}

/// Reads settings and gathers mistakes. Each method gives `None` when the setting is absent or
/// wrong, and has said so when it is wrong.
struct Reader<'a> {
    environment: &'a Environment,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// What was read, unless anything was wrong.
    fn finish<T>(self, read: Option<T>) -> Result<T, Mistakes> {
        match read {
            Some(read) if self.mistakes.is_empty() => Ok(read),
            _ => {
                debug_assert!(!self.mistakes.is_empty(), "what is missing was said");
                Err(Mistakes(self.mistakes))
            }
        }
    }

    fn config(&mut self) -> Option<Config> {
        // Every setting is read before the first `?`, so that all mistakes are in the list.
        let public = self.parsed("CONTROL_PUBLIC_URL", PublicOrigin::parse);
        let listen = self.parsed("CONTROL_LISTEN", |text| text.parse().ok());
        let admin_listen = self.parsed("CONTROL_ADMIN_LISTEN", |text| text.parse().ok());
        let api_keys = self.parsed("CONTROL_API_KEYS", ApiKeys::parse);
        let agents = self.agents();
        let carrier = self.carrier();
        let from = self
            .parsed("CONTROL_FROM_NUMBER", |text| is_e164(text).then(|| Number(text.to_owned())));
        let door = self.door();
        let join_token_file = self.text("CONTROL_JOIN_TOKEN_FILE").map(PathBuf::from);
        Some(Config {
            public: public?,
            listen: listen?,
            admin_listen: admin_listen?,
            api_keys: api_keys?,
            agents: agents?,
            carrier: carrier?,
            from,
            door: door?,
            join_token_file,
        })
    }

    fn logging(&mut self) -> Option<Logging> {
        let filter = self.parsed("CONTROL_LOG", |text| EnvFilter::try_new(text).ok());
        let format = self.parsed("CONTROL_LOG_FORMAT", |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        Some(Logging { filter: filter?, format: format? })
    }

    /// The agent file, with the provider's keys from the environment.
    fn agents(&mut self) -> Option<Agents> {
        let path = self.parsed("CONTROL_AGENT_FILE", |text| Some(PathBuf::from(text)))?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                // The path helps and is no secret; what stands in the file is not shown.
                let problem = format!("{} cannot be read: {error}", path.display());
                return self.mistake("CONTROL_AGENT_FILE", problem);
            }
        };
        // Only names of the table are asked for, so that a typing mistake there is a test failure.
        let key_of = |name: &str| self.given(name).map(Secret::new);
        match agents::read(&text, key_of) {
            Ok(agents) => Some(agents),
            Err(problems) => self.mistake("CONTROL_AGENT_FILE", problems.join("\n")),
        }
    }

    fn carrier(&mut self) -> Option<Account> {
        let sid = self.parsed("TWILIO_ACCOUNT_SID", account_sid);
        let auth_token = self.parsed("TWILIO_AUTH_TOKEN", |text| Some(Secret::new(text)));
        let api_url = self.parsed("TWILIO_API_URL", api_url);
        Some(Account { sid: sid?, auth_token: auth_token?, api_url: api_url? })
    }

    fn door(&mut self) -> Option<Door> {
        let data_dir = self.parsed("CONTROL_DATA_DIR", |text| Some(PathBuf::from(text)))?;
        let database_url = match self.given("CONTROL_DATABASE_URL") {
            // Without a database to run, a first start needs nothing but a folder.
            None => Some(format!("sqlite://{}", data_dir.join("linecard.db").display())),
            Some(_) => self.parsed("CONTROL_DATABASE_URL", database_url),
        };
        let sealing_key =
            self.parsed("CONTROL_SECRET_KEY", |text| SealingKey::from_base64(text).ok());
        let link_listen = self.parsed("CONTROL_LINK_LISTEN", |text| text.parse().ok());
        let link_address = self.parsed("CONTROL_LINK_ADDRESS", host_and_port);
        Some(Door {
            data_dir,
            database_url: Secret::new(database_url?),
            sealing_key,
            link_listen: link_listen?,
            link_address,
        })
    }

    /// What the environment says; an empty value is none.
    fn given(&self, name: &str) -> Option<&str> {
        let name = setting(name).name;
        self.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// What the environment says, or the table's default.
    fn text(&self, name: &'static str) -> Option<String> {
        let default = match setting(name).default {
            Default::Text(text) => Some(text),
            Default::Computed(_) | Default::Absent | Default::Required => None,
        };
        self.given(name).or(default).map(str::to_owned)
    }

    /// A setting in its own type; says so when it is needed and missing, or wrong.
    fn parsed<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let form = setting(name).form;
        // `None` here means that there is no default either.
        let Some(text) = self.text(name) else {
            if setting(name).default == Default::Required {
                self.mistake::<T>(name, format!("missing; give {}", form.words()));
            }
            return None;
        };
        let value = parse(&text);
        if value.is_none() {
            let problem = match form {
                // What was written is repeated only where it cannot be a secret.
                Form::Open(words) => format!("`{text}` is not {words}"),
                Form::Secret(words) => format!("it is not {words}"),
            };
            self.mistake::<T>(name, problem);
        }
        value
    }

    fn mistake<T>(&mut self, name: &'static str, problem: impl Into<String>) -> Option<T> {
        self.mistakes.push(Mistake { name, problem: problem.into() });
        None
    }
}

/// `AC` and 32 hexadecimal digits; the example's placeholder is none.
fn account_sid(text: &str) -> Option<String> {
    let digits = text.strip_prefix("AC")?;
    // A placeholder copied from an example would otherwise fail at the first call, far from here.
    let is_sid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sid.then(|| text.to_owned())
}

/// `https://host[:port]`, or `http` to loopback: the account's secret travels over it.
fn api_url(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let url = Url::parse(text).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
    let has_user = !url.username().is_empty() || url.password().is_some();
    let is_loopback = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(ip) => ip.is_loopback(),
        url::Host::Ipv6(ip) => ip.is_loopback(),
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    (is_safe && is_bare && !has_user).then(|| text.to_owned())
}

fn database_url(text: &str) -> Option<String> {
    let known = ["sqlite:", "postgres://", "postgresql://"];
    known.iter().any(|scheme| text.starts_with(scheme)).then(|| text.to_owned())
}

fn host_and_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port > 0 && !host.contains(['/', '@', ' '])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;

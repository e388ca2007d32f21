//! The environment, parsed once into domain types. All mistakes are listed together, each with its
//! name, what is wrong and what to do; a secret is never repeated.
//!
//! The only reader of the environment and of the files that it names. The table is in
//! [`settings`], the agent file in [`agents`], the account at the carrier in [`carrier`], the rules for outbound calls in
//! [`dialling`], the web pages that may ask in [`pages`], names of other hosts in [`aliases`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use link::agent::Provider;
use link::credential;
use link::guard::Allowed;
use link::secret::Secret;
use tracing_subscriber::EnvFilter;

use self::agents::{Agents, ProviderKeys};
pub use self::carrier::Account;
pub(crate) use self::carrier::{account_sid, api_url};
pub use self::pages::PlacesAccount;
use self::settings::{Default, Form, SETTINGS, setting};
use crate::access::address::Proxies;
use crate::access::origin::Origin;
use crate::api::auth::OperatorKeys;
use crate::dialer::is_e164;
use crate::dialer::rules::Rules;
use crate::fleet::moves::Pace;
use crate::fleet::openings::Survival;
use crate::fleet::regions::Regions;
use crate::keys::SealingKey;
use crate::store::call::Number;
use crate::twilio::signature::PublicOrigin;

pub mod agents;
pub mod aliases;
pub mod carrier;
pub mod dialling;
pub mod pages;
pub mod settings;
pub mod survival;

/// Everything that is settled at start.
#[derive(Debug)]
pub struct Config {
    /// Where the carrier reaches this process.
    pub public: PublicOrigin,
    /// Where webhooks and the API are served.
    pub listen: SocketAddr,
    /// Where probes and metrics are served.
    pub admin_listen: SocketAddr,
    /// The operator's keys of the API; none when only the tenants' open it.
    pub operators: OperatorKeys,
    /// The web pages that may ask for the tenant `default`, beside those that it lists itself.
    pub pages: Vec<Origin>,
    /// The web pages that may use the compatible routes; none keeps those routes off.
    pub compat_origins: Vec<Origin>,
    /// Who looks businesses up for them; `None` without a key.
    pub places: Option<PlacesAccount>,
    /// The proxies in front, whose word about their clients is taken.
    pub proxies: Proxies,
    /// Who answers from the start.
    pub agents: Agents,
    /// The keys of the services that speak.
    pub provider_keys: ProviderKeys,
    /// The carrier's account.
    pub carrier: Account,
    /// Who calls when an outbound call does not say.
    pub from: Option<Number>,
    /// What must hold before anybody is dialled.
    pub rules: Rules,
    /// Which regions of relays are near to which ends of calls.
    pub regions: Regions,
    /// What calls survive.
    pub survival: Survival,
    /// How calls leave nodes that drain.
    pub moving: Pace,
    /// What is durable and where relays dial in.
    pub door: Door,
    /// Where webhooks may be told beyond the public internet.
    pub webhooks_allow: Allowed,
    /// How long events are kept, in days.
    pub keep_days: u32,
    /// Where the join token is written; `None` when nobody reads it from a file.
    pub join_token_file: Option<PathBuf>,
    /// The voice in which the carrier reads our own sentences; `None` takes the carrier's own.
    pub carrier_voice: Option<String>,
    /// What an operator should know that is no mistake: logged at start.
    pub warnings: Vec<String>,
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
    /// Where relays find it and those of other controls; `None` means where it listens.
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
    let sources = Sources::of(environment);
    let mut reader = Reader::new(&sources);
    let config = reader.config();
    let logging = reader.logging();
    reader.finish(config.zip(logging))
}

/// Parses only what the store needs, so that a command works without the carrier's secrets.
///
/// # Errors
/// All [`Mistakes`] at once.
pub fn read_store(environment: &Environment) -> Result<Door, Mistakes> {
    let sources = Sources::of(environment);
    let mut reader = Reader::new(&sources);
    let door = reader.door();
    reader.finish(door)
}

/// The same for the join token, which also needs to know where relays dial.
///
/// # Errors
/// All [`Mistakes`] at once.
pub fn read_door(environment: &Environment) -> Result<Door, Mistakes> {
    let sources = Sources::of(environment);
    let mut reader = Reader::new(&sources);
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
        name.starts_with("CONTROL_") && !SETTINGS.iter().any(|known| known.name == *name)
    })
}

/// Reads settings and gathers mistakes. Each method gives `None` when the setting is absent or
/// wrong, and has said so when it is wrong.
struct Reader<'a> {
    environment: &'a Environment,
    /// Settings whose values were found under another name, and that name.
    taken: BTreeMap<&'static str, &'static str>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

/// What settings are read from: the environment, with what stands in for those that are not set.
struct Sources {
    environment: Environment,
    /// Settings whose values were found under another name, and that name.
    taken: BTreeMap<&'static str, &'static str>,
    /// What is wrong with what stands in.
    mistakes: Vec<Mistake>,
}

impl Sources {
    /// Credentials first: of a secret's own name and another host's, its own counts.
    fn of(environment: &Environment) -> Self {
        let mut environment = environment.clone();
        let secrets = SETTINGS.iter().filter(|setting| matches!(setting.form, Form::Secret(_)));
        let names = secrets.map(|setting| setting.name);
        let unreadable = credential::fill_in(&mut environment, names, std::fs::read_to_string);
        let mistake = |it: credential::Unreadable| Mistake { name: it.name, problem: it.problem };
        let (environment, taken) = aliases::filled_in(&environment);
        Self { environment, taken, mistakes: unreadable.into_iter().map(mistake).collect() }
    }
}

impl<'a> Reader<'a> {
    fn new(sources: &'a Sources) -> Self {
        let Sources { environment, taken, mistakes } = sources;
        let (taken, mistakes) = (taken.clone(), mistakes.clone());
        Self { environment, taken, mistakes, warnings: Vec::new() }
    }

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
        let operators = self.operators();
        let (pages, compat_origins, places) = (self.pages(), self.compat_origins(), self.places());
        let proxies = self.parsed("CONTROL_PROXIES", Proxies::parse);
        let agents = self.agents();
        let carrier = self.carrier();
        let from = self
            .parsed("CONTROL_FROM_NUMBER", |text| is_e164(text).then(|| Number(text.to_owned())));
        let (rules, moving) = (self.rules(), self.moving());
        let regions = self.regions();
        let door = self.door();
        let survival = self.survival();
        let webhooks_allow = self.parsed("CONTROL_WEBHOOKS_ALLOW", Allowed::parse);
        let keep_days = self.parsed("CONTROL_EVENTS_KEEP_DAYS", keep_days);
        let join_token_file = self.text("CONTROL_JOIN_TOKEN_FILE").map(PathBuf::from);
        let carrier_voice = self.parsed("TWILIO_VOICE_NAME", carrier_voice);
        Some(Config {
            public: public?,
            listen: listen?,
            admin_listen: admin_listen?,
            operators: operators?,
            pages,
            compat_origins: compat_origins?,
            places,
            proxies: proxies?,
            agents: agents?,
            provider_keys: self.provider_keys(),
            carrier: carrier?,
            from,
            rules: rules?,
            regions,
            survival: survival?,
            moving: moving?,
            door: door?,
            webhooks_allow: webhooks_allow.unwrap_or_default(),
            keep_days: keep_days?,
            join_token_file,
            carrier_voice,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    /// The operator's keys. Without any the installation works, and a key of a tenant's opens its
    /// API: whoever starts it should know how to make one.
    fn operators(&mut self) -> Option<OperatorKeys> {
        if self.given("CONTROL_API_KEYS").is_some() {
            return self.parsed("CONTROL_API_KEYS", OperatorKeys::parse);
        }
        let words = "CONTROL_API_KEYS is not set: `control key create --name first` makes a key \
            that opens the API of the tenant default";
        self.warnings.push(words.to_owned());
        Some(OperatorKeys::default())
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
        let Some(path) = self.text("CONTROL_AGENT_FILE").map(PathBuf::from) else {
            return self.standard_agent();
        };
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

    fn provider_keys(&self) -> ProviderKeys {
        let key = |name: &str| Some((name.to_owned(), Secret::new(self.given(name)?)));
        Provider::KEY_SETTINGS.into_iter().filter_map(key).collect()
    }

    /// Who answers when there is no agent file: one standard agent, if there is a key for it.
    fn standard_agent(&mut self) -> Option<Agents> {
        let model = self.given("VOICE_AGENT_MODEL").map(str::to_owned);
        let model = model.filter(|model| {
            let is_realtime = model.contains("realtime");
            if !is_realtime {
                self.warnings.push(format!(
                    "VOICE_AGENT_MODEL={model} is not a realtime model; {} is used",
                    agents::STANDARD_MODEL,
                ));
            }
            is_realtime
        });
        // Without a key, whoever answers is made with the API.
        let key_of = |name: &str| self.given(name).map(Secret::new);
        Some(agents::standard(model.as_deref(), key_of).unwrap_or_default())
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
        let link_address = self.parsed("CONTROL_LINK_ADDRESS", hosts_and_ports);
        Some(Door {
            data_dir,
            database_url: Secret::new(database_url?),
            sealing_key,
            link_listen: link_listen?,
            link_address,
        })
    }

    /// How calls leave nodes that drain.
    fn moving(&mut self) -> Option<Pace> {
        let seconds = self.parsed("CONTROL_DRAIN_SECONDS", |text| {
            text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds))
        });
        let per_second = self.parsed("CONTROL_DRAIN_CALLS_PER_SECOND", |text| {
            text.parse().ok().filter(|calls| (1..=1_000).contains(calls))
        });
        Some(Pace { per_second: per_second?, deadline: Duration::from_secs(seconds?) })
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
        let mut problem = problem.into();
        if let Some(alias) = self.taken.get(name) {
            problem.push_str(&format!(" (it is taken from {alias})"));
        }
        self.mistakes.push(Mistake { name, problem });
        None
    }
}

/// `alice`, `Polly.Joanna-Neural`, `Google.en-US-Chirp3-HD-Aoede`: what the carrier's `<Say>` takes.
/// Source: Twilio, "TwiML Voice: Say", read 2026-11-20.
fn carrier_voice(text: &str) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (text.len() <= 64 && text.bytes().all(is_name)).then(|| text.to_owned())
}

fn database_url(text: &str) -> Option<String> {
    let known = ["sqlite:", "postgres://", "postgresql://"];
    known.iter().any(|scheme| text.starts_with(scheme)).then(|| text.to_owned())
}

/// A day at least: what happened today must be there for clients that come back.
fn keep_days(text: &str) -> Option<u32> {
    text.parse().ok().filter(|days| (1..=3_650).contains(days))
}

/// One `host:port`, or several separated by commas.
fn hosts_and_ports(text: &str) -> Option<String> {
    let is_one = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        (!host.is_empty() && port > 0 && !host.contains(['/', '@', ' '])).then_some(())
    };
    text.split(',').all(|text| is_one(text.trim()).is_some()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;

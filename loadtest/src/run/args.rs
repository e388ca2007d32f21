//! The command line of `loadtest run`, and what of it does not go together.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use url::Url;

use super::scenario::{self, Arrival, Scenario};
use crate::demo::Audio;
use crate::report::OutputArgs;
use crate::system::Cores;

/// How the load test is run.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// What is played (TOML, see loadtest/scenarios); what is given beside it goes before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// How many calls at once; 100 when nothing says otherwise.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) calls: Option<u32>,
    /// For how long they are measured, in seconds; coming up takes a second for 100 calls more.
    /// 30 when nothing says otherwise.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) duration: Option<u64>,
    /// The audio format between relay and model; mu-law when nothing says otherwise.
    #[arg(long, value_enum)]
    pub(crate) audio: Option<Audio>,
    /// Lets the agent speak first, and measures how long that takes (mu-law only).
    #[arg(long)]
    pub(crate) greeting: bool,
    /// TLS on both legs, with a certificate made for the occasion.
    #[arg(long)]
    pub(crate) tls: bool,
    /// What chance is drawn from.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    /// The cores of the process under test, as 0 or 0,2 or 4-7; a relay gets a shard for each.
    #[arg(long, value_name = "CORES")]
    pub(crate) relay_cores: Option<Cores>,
    /// Processes that make the load, each with its share of the calls and a fake model of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) processes: u32,
    /// The cores of callers and fake models.
    #[arg(long, value_name = "CORES")]
    pub(crate) own_cores: Option<Cores>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What is put under load.
#[derive(Debug, Clone, Args)]
pub struct SubjectArgs {
    /// The relay binary; the one beside this one when not given.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["relay", "floor_bin", "target"])]
    pub(crate) relay_bin: Option<PathBuf>,
    /// Another setting of the relay, beside those that the load test gives it; repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = read_setting,
          conflicts_with_all = ["relay", "floor_bin", "target"])]
    pub(crate) relay_env: Vec<(String, String)>,
    /// A relay that runs already (ws://ADDRESS); needs --signing-key, --pid and --model-listen.
    #[arg(long, value_name = "URL", requires_all = ["signing_key", "pid", "model_listen"],
          conflicts_with_all = ["floor_bin", "target"])]
    pub(crate) relay: Option<String>,
    /// A program that copies bytes from one address to another, run as `PATH --listen
    /// 127.0.0.1:0 --target ADDRESS`: callers and far end are the same as of a relay, so that
    /// its figures are the floor under a relay's.
    #[arg(long, value_name = "PATH", conflicts_with = "target")]
    pub(crate) floor_bin: Option<PathBuf>,
    /// Any Media Streams server that runs already, with its path (ws://HOST:PORT/PATH).
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<String>,
    /// What stands behind the target.
    #[arg(long, value_enum, default_value_t = FarEnd::Itself, requires = "target")]
    pub(crate) far_end: FarEnd,
    /// Allows a target that is not on this machine. Load on what is not yours is an attack.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// The key that the running relay's tickets are signed with.
    #[arg(long, value_name = "FILE")]
    pub(crate) signing_key: Option<PathBuf>,
    /// The process that runs already: its CPU and memory are measured.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Where the far end listens, as whatever runs already was told.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) model_listen: Option<SocketAddr>,
    /// The relay's node name.
    #[arg(long, default_value = "load-1")]
    pub(crate) node: String,
}

/// What stands behind a target that is no relay of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FarEnd {
    /// Our fake model: the target bridges to it by the OpenAI URL at --model-listen. Everything is
    /// measured.
    Model,
    /// Our Media Streams server: the target passes streams on to --model-listen. Everything is
    /// measured.
    Streams,
    /// Whatever the target has: it answers by itself. Its audio is not ours, so only the time to
    /// its first audio after a turn is measured, and what it costs where --pid is given.
    Itself,
}

/// Where calls go: an address, and what the handshake asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    /// Where TCP connects to.
    pub(crate) address: SocketAddr,
    /// The name and port, as they stand in the handshake.
    pub(crate) host: String,
    /// Path and query, as they stand in the handshake.
    pub(crate) path: String,
}

impl Door {
    /// The door of a node of ours.
    pub(crate) fn of_node(address: SocketAddr, node: &str) -> Self {
        Self { address, host: address.to_string(), path: format!("/v1/m/{node}") }
    }

    /// Reads a `ws://` URL. What is not on this machine needs to be allowed.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub(crate) fn read(text: &str, allow_remote: bool) -> anyhow::Result<Self> {
        let url = Url::parse(text).with_context(|| format!("`{text}`"))?;
        if url.scheme() != "ws" {
            bail!("`{text}`: a target begins with ws://");
        }
        let host = url.host_str().with_context(|| format!("`{text}` names no host"))?;
        let port = url.port_or_known_default().context("ws has a port")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (bare, port).to_socket_addrs().with_context(|| format!("`{text}`"))?;
        let address = addresses.next().with_context(|| format!("`{host}` has no address"))?;
        if !address.ip().is_loopback() && !allow_remote {
            bail!("{host} is not on this machine: --allow-remote puts load on it all the same");
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self { address, host: format!("{host}:{port}"), path: url.path().to_owned() + &query })
    }
}

impl RunArgs {
    /// What is played: the file's scenario, and what the command line says before it.
    ///
    /// # Errors
    /// With a sentence on the first thing that does not go together.
    pub(crate) fn scenario(&self) -> anyhow::Result<Scenario> {
        let mut scenario = match &self.scenario {
            Some(path) => scenario::read(path)?,
            None => Scenario::default(),
        };
        if let Some(calls) = self.calls {
            scenario.arrival = match scenario.arrival {
                Arrival::Fixed { .. } => Arrival::Fixed { calls },
                Arrival::Rate { per_second, total, .. } => {
                    Arrival::Rate { per_second, total, calls_max: calls }
                }
            };
        }
        scenario.duration_s = self.duration.unwrap_or(scenario.duration_s);
        scenario.audio = self.audio.unwrap_or(scenario.audio);
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.greeting |= self.greeting;
        scenario.tls |= self.tls;
        scenario.relay_env.extend(self.subject.relay_env.iter().cloned());
        self.check(&scenario)?;
        Ok(scenario)
    }

    /// Refuses what does not go together.
    fn check(&self, scenario: &Scenario) -> anyhow::Result<()> {
        let mut mistakes = Vec::new();
        scenario::check(scenario, &mut mistakes);
        let subject = &self.subject;
        let running = subject.relay.is_some() || subject.target.is_some();
        let own = !running && subject.floor_bin.is_none();
        let mut refuse = |wrong: bool, why: &str| {
            if wrong {
                mistakes.push(why.to_owned());
            }
        };
        refuse(scenario.greeting && !own, "a greeting needs a relay of the load test's own");
        refuse(scenario.tls && running, "TLS needs a process of the load test's own");
        refuse(self.processes > 1 && !own, "--processes needs a relay of the load test's own");
        refuse(
            self.processes > 1 && !scenario.faults.is_empty(),
            "faults stand before one fake model: no --processes",
        );
        refuse(!scenario.faults.is_empty() && !own, "faults need a relay of the load test's own");
        refuse(
            subject.floor_bin.is_some() && scenario.audio != Audio::Mulaw,
            "what copies bytes has no model: mu-law is all there is",
        );
        refuse(
            subject.far_end != FarEnd::Itself && subject.model_listen.is_none(),
            "--far-end needs --model-listen: where the target passes calls on to",
        );
        refuse(
            subject.target.is_some() && subject.pid.is_none() && self.relay_cores.is_some(),
            "--relay-cores needs --pid: what runs already is not known otherwise",
        );
        if mistakes.is_empty() { Ok(()) } else { bail!("{}", mistakes.join("\n")) }
    }
}

/// Reads `NAME=VALUE`.
fn read_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn checked(words: &str) -> Result<(), String> {
        let line = Line::try_parse_from(std::iter::once("run").chain(words.split_whitespace()));
        line.map_err(|error| error.to_string())?
            .args
            .scenario()
            .map(drop)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for good in [
            "--calls 5",
            "--floor-bin f --relay-cores 0 --own-cores 1",
            "--target ws://127.0.0.1:1/x",
            "--target ws://127.0.0.1:1/x --far-end streams --model-listen 127.0.0.1:2",
            "--relay-env A=1 --relay-env B=2",
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for bad in [
            "--far-end streams",
            "--target ws://127.0.0.1:1/x --far-end streams",
            "--target ws://127.0.0.1:1/x --relay-cores 0",
            "--floor-bin f --audio pcm24k",
            "--floor-bin f --relay-bin g",
            "--floor-bin f --greeting",
            "--target ws://127.0.0.1:1/x --tls",
            "--relay-env A",
            "--floor-bin f --processes 2",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/tls.toml");
        let words = ["run", "--scenario", file, "--calls", "7", "--seed", "9"];
        let scenario = Line::try_parse_from(words).unwrap().args.scenario().unwrap();
        assert_eq!((scenario.calls(), scenario.seed, scenario.duration_s), (7, 9, 60));
        assert!(scenario.tls);
    }

    #[test]
    fn a_target_elsewhere_must_be_allowed() {
        let door = Door::read("ws://127.0.0.1:8080/media?x=1", false).unwrap();
        assert_eq!((door.host.as_str(), door.path.as_str()), ("127.0.0.1:8080", "/media?x=1"));
        assert!(Door::read("ws://192.0.2.1:80/", false).is_err());
        assert!(Door::read("ws://192.0.2.1:80/", true).is_ok());
        assert!(Door::read("http://127.0.0.1/", false).is_err());
    }
}

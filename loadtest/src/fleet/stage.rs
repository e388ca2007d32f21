//! What a fleet is in a scene: PostgreSQL, two controls, relays, all in processes of their own; the
//! fakes around them in this one, so that one clock times everything.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use link::join::JoinToken;

use super::FleetArgs;
use super::cut::Way;
use super::node::{Making, Node, host};
use super::talk;
use super::tools::Bookings;
use super::watch::Watch;
use crate::carrier::{
    CarrierSettings, FIELD_AUDIO_DELAY, FIELD_STREAM_DELAY, FakeTwilio, Resolve, What,
};
use crate::events::cluster::Cluster;
use crate::events::control::{ACCOUNT, AUTH_TOKEN, Control, PUBLIC_URL, places};
use crate::model::{FakeModel, ModelSettings};

/// Everything. Dropped, everything ends.
pub(super) struct Stage {
    /// The controls, both on the one database.
    pub(super) controls: Vec<Control>,
    /// The relays.
    pub(super) nodes: Vec<Node>,
    /// The database.
    pub(super) cluster: Cluster,
    /// Where the callers are.
    pub(super) twilio: FakeTwilio,
    /// What answers.
    pub(super) model: FakeModel,
    /// The agents' owner.
    pub(super) bookings: Bookings,
    /// Who reads the events.
    pub(super) watch: Watch,
    folder: PathBuf,
}

/// How large a fleet is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Relays.
    pub(super) nodes: usize,
    /// Those of them that run from the beginning.
    pub(super) nodes_first: usize,
    /// Calls, for whose sentences the model is prepared.
    pub(super) calls: u32,
}

impl Stage {
    /// Starts everything, in the order in which one needs the other.
    ///
    /// # Errors
    /// When a part of it does not come up.
    pub(super) async fn start(args: &FleetArgs, size: Size) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("linecard-fleet-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let cluster = Cluster::start().await?;
        let model = FakeModel::start(ModelSettings {
            script: talk::script(size.calls),
            set_up: Duration::from_millis(args.set_up_ms),
            round_trip: Duration::from_millis(args.round_trip_ms),
            ..ModelSettings::default()
        })
        .await?;
        let bookings = Bookings::start().await?;
        let resolve = Resolve::default();
        let twilio = FakeTwilio::start(CarrierSettings {
            account: ACCOUNT.into(),
            token: AUTH_TOKEN.into(),
            resolve: resolve.clone(),
            stream_delay: FIELD_STREAM_DELAY,
            audio_delay: FIELD_AUDIO_DELAY,
            recorded: RECORDED,
            fallback_url: Some(bookings.fallback_url()),
            ..CarrierSettings::default()
        })
        .await?;
        let mut controls = places(&args.binary("control")?, &folder, &cluster.url(), CONTROLS)?;
        let agents = talk::agent_file(model.address(), bookings.address());
        std::fs::write(folder.join("agents.toml"), agents)?;
        for control in &mut controls {
            control.set("TWILIO_API_URL", twilio.url());
            control.set("OPENAI_API_KEY", "sk-fleet-key-of-the-fake-model");
            control.start().await?;
        }
        let http: Vec<SocketAddr> = controls.iter().map(|control| control.http).collect();
        resolve.map_all(PUBLIC_URL, http.clone());
        let token = controls.first().context("there are controls")?.join_token()?;
        let mut nodes = Vec::new();
        for number in 1..=size.nodes {
            let mut node = place(args, &folder, &token, number).await?;
            resolve.map(&format!("https://{}", host(&node.name)), node.public);
            if number <= size.nodes_first {
                node.start().await?;
            }
            nodes.push(node);
        }
        let watch = Watch::begin(http);
        Ok(Self { controls, nodes, cluster, twilio, model, bookings, watch, folder })
    }

    /// Starts the relays that do not run yet.
    ///
    /// # Errors
    /// When one does not come up.
    pub(super) async fn complete(&mut self) -> anyhow::Result<()> {
        for node in self.nodes.iter_mut().filter(|node| !node.is_up()) {
            node.start().await?;
        }
        Ok(())
    }

    /// Lets somebody call.
    ///
    /// # Errors
    /// When the call cannot even be placed.
    pub(super) fn call(&self, number: u32, sentences: u32) -> anyhow::Result<String> {
        self.twilio.call(talk::order(number, sentences))
    }

    /// Waits until each of these callers has heard the agent and has said something to it.
    ///
    /// # Errors
    /// When one of them does not within a minute.
    pub(super) async fn until_talking(&mut self, calls: &[String]) -> anyhow::Result<()> {
        for tries in 0.. {
            let talks = |sid: &&String| {
                let finished = |what: &What| *what == What::CallerFinished;
                let count = |record: &crate::carrier::CallRecord| {
                    record.what().filter(|what| finished(what)).count()
                };
                self.twilio.read(sid, count).unwrap_or_default() >= SAID_MIN
            };
            let silent = calls.iter().filter(|sid| !talks(sid)).count();
            if silent == 0 {
                break;
            }
            if tries >= TALKING_TRIES {
                bail!("{silent} of {} calls do not talk; {}", calls.len(), self.logs());
            }
            self.stands()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether every process that should run does.
    ///
    /// # Errors
    /// When one has ended by itself.
    pub(super) fn stands(&mut self) -> anyhow::Result<()> {
        match self.nodes.iter_mut().find_map(Node::fallen) {
            Some(fallen) => bail!(fallen),
            None => Ok(()),
        }
    }

    /// The ends of all logs.
    pub(super) fn logs(&self) -> String {
        let of_node = |node: &Node| format!("{}:\n{}", node.name, node.tail());
        let of_control = |(number, control): (usize, &Control)| {
            let log = control.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES);
            let end = lines.get(from..).unwrap_or_default().join("\n");
            format!("control {}:\n{end}", number + 1)
        };
        let nodes = self.nodes.iter().map(of_node);
        let all: Vec<String> =
            self.controls.iter().enumerate().map(of_control).chain(nodes).collect();
        all.join("\n")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Before the database, which its own drop ends: each process is killed with its handle.
        self.nodes.clear();
        self.controls.clear();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A node's place, with a way of its own to each control.
async fn place(
    args: &FleetArgs,
    folder: &std::path::Path,
    token: &JoinToken,
    number: usize,
) -> anyhow::Result<Node> {
    let mut ways = Vec::new();
    for address in token.addresses() {
        let target =
            address.parse::<SocketAddr>().with_context(|| format!("`{address}` is no address"))?;
        ways.push(Way::to(target).await?);
    }
    let addresses: Vec<String> = ways.iter().map(|way| way.address.to_string()).collect();
    let own = JoinToken::new(addresses.join(","), &token.ca_der()?, token.secret.clone());
    Node::new(Making {
        name: format!("node-{number}"),
        program: &args.binary("relay")?,
        folder,
        join_token: own.to_line().reveal().to_owned(),
        ways,
        more: &args.relay_env,
    })
}

/// As many as the installation has.
const CONTROLS: usize = 2;

/// What is needed of each stream: the first things that are heard in it.
const RECORDED: Duration = Duration::from_secs(12);

/// Whoever has said so much is in the middle of a conversation.
const SAID_MIN: usize = 2;

/// How long calls may take until they talk: 90 s.
const TALKING_TRIES: u32 = 450;
const LOOK_EVERY: Duration = Duration::from_millis(200);

const LOG_LINES: usize = 20;

//! What runs in a chaos: a relay of its own process, and the fakes around it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use link::id::NodeId;

use super::call::{ANSWER, GREETING};
use crate::carrier::{CarrierSettings, FakeTwilio, Resolve};
use crate::model::{Answer, FakeModel, ModelSettings, Script};
use crate::proxy::{FaultProxy, ProxySettings};
use crate::run::relay::{Extra, Relay};
use crate::run::tickets::Tickets;
use crate::serve::{self, Asked, Server};

/// Everything.
pub(super) struct Stage {
    relay: Relay,
    fakes: Option<Fakes>,
}

/// The fakes, and the server that says where calls go.
pub(super) struct Fakes {
    /// What answers.
    pub(super) model: FakeModel,
    /// What stands before it.
    pub(super) proxy: FaultProxy,
    /// Where the callers are.
    pub(super) twilio: FakeTwilio,
    voice: Server,
}

impl Fakes {
    /// The voice webhook of a caller's slot.
    pub(super) fn voice_url(&self, slot: u32) -> String {
        format!("http://{}/voice/{slot}", self.voice.address)
    }

    /// Sessions of the model so far.
    pub(super) fn sessions(&self) -> u64 {
        self.model.summary().sessions
    }
}

/// What was still open when everything should have been closed; nothing when it is empty.
pub(super) type Open = Vec<String>;

impl Stage {
    /// Starts everything.
    ///
    /// # Errors
    /// When a part of it does not come up.
    pub(super) async fn start(relay_bin: Option<&Path>, slots: u32) -> anyhow::Result<Self> {
        let script = Script {
            greeting: Answer::words(GREETING),
            turns: Vec::new(),
            more: Answer::words(ANSWER),
        };
        let model = FakeModel::start(ModelSettings { script, ..ModelSettings::default() }).await?;
        let proxy = FaultProxy::start(ProxySettings::to(model.address())).await?;
        let tickets = Arc::new(Tickets::generate(NodeId::new("chaos-1")?)?);
        let program = match relay_bin {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?.with_file_name("relay"),
        };
        let agents = agent_file(proxy.address(), slots);
        let relay = Relay::start(&program, &tickets, &agents, LOG, &Extra::default())?;
        let resolve = Resolve::default().with(ORIGIN, relay.address);
        let settings = CarrierSettings { resolve, ..CarrierSettings::default() };
        let twilio = FakeTwilio::start(settings).await?;
        let voice =
            Server::start((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(Voice(tickets))).await?;
        Ok(Self { relay, fakes: Some(Fakes { model, proxy, twilio, voice }) })
    }

    /// Takes the fakes, which callers share.
    ///
    /// # Errors
    /// When they are taken already.
    pub(super) fn fakes(&mut self) -> anyhow::Result<Fakes> {
        self.fakes.take().context("the fakes are taken once")
    }

    /// How many sockets the relay's process has.
    ///
    /// # Errors
    /// When the process is gone.
    pub(super) fn relay_sockets(&self) -> anyhow::Result<usize> {
        let pid = self.relay.pid.context("the relay is ours")?;
        let folder = format!("/proc/{pid}/fd");
        let files = std::fs::read_dir(&folder).with_context(|| format!("reading {folder}"))?;
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        Ok(targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    }

    /// Waits until nothing is open any more, ten seconds at most.
    pub(super) async fn all_closed(&self, fakes: &Fakes, sockets_before: usize) -> Open {
        let mut open = Open::new();
        for _ in 0..100 {
            open = self.open(fakes, sockets_before).await;
            if open.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        open
    }

    /// What is open on any side.
    async fn open(&self, fakes: &Fakes, sockets_before: usize) -> Open {
        let mut open = Open::new();
        let mut note = |what: &str, count: usize| {
            if count > 0 {
                open.push(format!("{count} {what}"));
            }
        };
        note("sessions of the fake model", fakes.model.summary().open.try_into().unwrap_or(0));
        note("connections of the proxy", fakes.proxy.open());
        let sockets = self.relay_sockets().map_or(0, |count| count.saturating_sub(sockets_before));
        note("sockets of the relay's process", sockets);
        note("sockets or calls by the relay's own metrics", self.gauges().await);
        open
    }

    /// The sum of the relay's own gauges of what is open. A relay that does not answer has
    /// something open.
    async fn gauges(&self) -> usize {
        let Some(admin) = self.relay.admin else { return 1 };
        let Ok(text) = crate::demo::web::get(admin, "/metrics", &[]).await else { return 1 };
        sum_of_gauges(&String::from_utf8_lossy(&text))
    }

    /// Why the relay ended calls by itself, by its log. No call of a chaos is to end so.
    pub(super) fn relay_log(&mut self) -> String {
        let log = self.relay.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("call ending")).collect();
        lines.join("\n")
    }
}

/// Adds up `relay_sockets_open{..}` and `relay_calls{..}`.
fn sum_of_gauges(text: &str) -> usize {
    let of_open = |line: &&str| {
        let name = line.split(['{', ' ']).next();
        name == Some("relay_sockets_open") || name == Some("relay_calls")
    };
    let values = text.lines().filter(of_open).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<usize>().ok()).sum()
}

/// Says where a call goes: to the relay, with a ticket for the slot's agent.
struct Voice(Arc<Tickets>);

impl serve::Service for Voice {
    async fn answer(self: Arc<Self>, asked: Asked) -> serve::Answer {
        let slot = asked.path().trim_start_matches("/voice/").to_owned();
        let mut form = form_urlencoded::parse(&asked.body);
        let call_sid =
            form.find(|(name, _)| name == "CallSid").map(|(_, value)| value.into_owned());
        let ticket = self.0.issue_for(&call_sid.unwrap_or_default(), &format!("agent-{slot}"));
        let Ok(ticket) = ticket else {
            return serve::text(StatusCode::BAD_REQUEST, "there is no such slot");
        };
        let url = format!("{}/v1/m/{}", ORIGIN.replace("https", "wss"), self.0.node());
        let twiml = format!(
            "<Response><Connect><Stream url=\"{url}\"><Parameter name=\"ticket\" \
             value=\"{ticket}\"/></Stream></Connect></Response>"
        );
        serve::answer(StatusCode::OK, "text/xml", twiml.into())
    }
}

/// One agent for each slot: its instructions tell a session of the model whose it is.
fn agent_file(model: SocketAddr, slots: u32) -> String {
    let mut file = "default = \"agent-0\"\n".to_owned();
    for slot in 0..slots {
        file.push_str(&format!(
            "\n[[agent]]\nname = \"agent-{slot}\"\ninstructions = \"{}\"\n\
             greeting = \"Say exactly: {GREETING}\"\n\n[agent.turn_detection]\n\
             silence_duration_ms = 300\n\n[agent.session]\nsummary_turns = 6\n\n\
             [agent.provider]\nkind = \"openai_realtime\"\nurl = \"ws://{model}/v1/realtime\"\n",
            instructions(slot)
        ));
    }
    file
}

/// What the agent of a slot is told.
pub(super) fn instructions(slot: u32) -> String {
    format!("You are agent {slot}.")
}

/// Every event of a call, besides what somebody should look at.
const LOG: &str = "warn,relay::telemetry=info";

/// The public name of the relay; the fake carrier knows where it really is.
const ORIGIN: &str = "https://linecard.test";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_file_has_an_agent_for_each_slot() {
        #[derive(serde::Deserialize)]
        struct File {
            agent: Vec<link::agent::AgentSpec>,
        }
        let file: File = toml::from_str(&agent_file("127.0.0.1:9".parse().unwrap(), 3)).unwrap();
        assert_eq!(file.agent.len(), 3);
        assert!(file.agent.iter().all(|agent| agent.problems().is_empty()));
        assert_eq!(file.agent[2].instructions, instructions(2));
    }

    #[test]
    fn open_sockets_are_found_in_the_metrics() {
        let text = "# HELP relay_calls x\nrelay_calls 2\nrelay_calls_max 500\n\
                    relay_sockets_open{side=\"agent\"} 1\nrelay_sockets_open{side=\"caller\"} 0\n";
        assert_eq!(sum_of_gauges(text), 3);
    }
}

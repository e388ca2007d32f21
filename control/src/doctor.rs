//! `control doctor`: looks for what would keep calls from coming up, with the settings that control
//! would serve with, says what to do about each thing that it finds, and prints the addresses that
//! belong into the carrier's console.
//!
//! It changes nothing, so it runs beside a control that serves. In reading order: settings, the
//! database, the carrier's account and number (`twilio::visit`), the model's key, the public
//! address, the control on this machine.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::StatusCode;
use link::agent::AgentSpec;
use link::finding::{Finding, Report};
use reqwest::Client;
use serde_json::Value;
use url::Url;

use crate::config::{self, Config, Environment, Mistakes};
use crate::store::{self, Look};
use crate::twilio::visit;

/// Looks at everything that these settings lead to.
pub async fn examine(environment: &Environment) -> Report {
    let mut findings = Vec::new();
    for name in config::unknown(environment) {
        findings.push(Finding::warning("settings", format!("there is no {name}"), EXPLAINED));
    }
    let config = match config::read(environment) {
        Ok((config, _)) => config,
        Err(Mistakes(mistakes)) => {
            let failed = mistakes.into_iter();
            findings.extend(failed.map(|it| Finding::failed(it.name, it.problem, EXPLAINED)));
            return Report { findings };
        }
    };
    findings.push(Finding::ok("settings", "complete"));
    let warnings = config.warnings.iter();
    findings.extend(warnings.map(|words| Finding::warning("settings", words, EXPLAINED)));
    let (database, carrier, models, public, own) = tokio::join!(
        database(&config),
        visit::look(&config.carrier, &config.public, config.from.as_ref()),
        models(&config),
        public(&config),
        own(&config),
    );
    findings.push(database);
    findings.extend(carrier);
    findings.extend(models);
    findings.push(public);
    findings.push(own);
    Report { findings }
}

/// A client that gives up soon. What is on loopback needs neither certificates nor a proxy.
///
/// # Errors
/// When the machine's certificates cannot be read.
pub(crate) fn client(url: &str) -> Result<Client, reqwest::Error> {
    let client =
        Client::builder().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none());
    if url.starts_with("https://") {
        client.https_only(true).build()
    } else {
        client.tls_certs_only(std::iter::empty()).no_proxy().build()
    }
}

async fn database(config: &Config) -> Finding {
    let what = "database";
    match store::look(config.door.database_url.reveal()).await {
        Ok(Look::Fresh) => Finding::ok(what, "not there yet: the first start makes it"),
        Ok(Look::Older { applied, newest }) => {
            Finding::ok(what, format!("at version {applied}; the next start brings it to {newest}"))
        }
        Ok(Look::Current) => Finding::ok(what, "there, with the tables of this version"),
        Ok(Look::Newer { applied, newest }) => Finding::warning(
            what,
            format!("at version {applied}, which is newer than this program's {newest}"),
            "start the newer program, unless this is a roll-back",
        ),
        Ok(Look::Bypasses) => Finding::warning(
            what,
            "its user is a superuser or bypasses row-level security",
            "works, as control becomes weaker roles; a user without those rights is safer",
        ),
        Err(error) => Finding::failed(what, error.explain(), "look at CONTROL_DATABASE_URL"),
    }
}

/// Each key, with each model that it is used for.
async fn models(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for agent in config.agents.all() {
        let Some(url) = agent.provider.key_check() else { continue };
        if seen.insert((url.clone(), agent.provider.api_key().reveal().to_owned())) {
            findings.push(model(agent, &url).await);
        }
    }
    findings
}

async fn model(agent: &AgentSpec, url: &str) -> Finding {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let what = format!("model of agent `{}` at {}", agent.name, host.unwrap_or_default());
    let setting = agent.provider.key_setting();
    let key = agent.provider.api_key().reveal();
    let answer = match client(url) {
        Ok(client) => client.get(url).bearer_auth(key).send().await,
        Err(error) => Err(error),
    };
    match answer.map(|answer| answer.status()) {
        Ok(StatusCode::OK) => Finding::ok(what, "the key is good and has this model"),
        Ok(StatusCode::UNAUTHORIZED) => {
            Finding::failed(what, "the key is refused", format!("a good key in {setting}"))
        }
        Ok(StatusCode::NOT_FOUND) => Finding::failed(
            what,
            "the key does not have this model",
            "another `model` in the agent file (or VOICE_AGENT_MODEL), or another key",
        ),
        Ok(status) => Finding::warning(what, format!("answers with {status}"), "try again"),
        Err(error) => Finding::failed(
            what,
            format!("cannot be reached: {}", crate::error::chain(&error.without_url())),
            "look at DNS, the network and its firewall",
        ),
    }
}

/// Whether this control is what the carrier finds at the public address.
async fn public(config: &Config) -> Finding {
    let what = format!("public address {}", config.public.as_str());
    let url = config.public.url("/openapi.json");
    let answer = match client(&url) {
        Ok(client) => client.get(&url).send().await,
        Err(error) => Err(error),
    };
    let mend = "control must run, and a proxy with a certificate must lead to CONTROL_LISTEN";
    match answer {
        Ok(answer) if answer.status() == StatusCode::OK => {
            let page: Value = answer.json().await.unwrap_or_default();
            if page["info"]["title"] == "Linecard" {
                Finding::ok(what, "leads to a control")
            } else {
                Finding::failed(what, "leads to something else", mend)
            }
        }
        Ok(answer) => Finding::failed(what, format!("answers with {}", answer.status()), mend),
        Err(error) => {
            let error = crate::error::chain(&error.without_url());
            Finding::failed(what, format!("cannot be reached from here: {error}"), mend)
        }
    }
}

/// The control on this machine, and its relays.
async fn own(config: &Config) -> Finding {
    let what = "this control";
    let admin = here(config.admin_listen);
    let url = format!("http://{admin}/health");
    let answer = match client(&url) {
        Ok(client) => client.get(&url).send().await,
        Err(error) => Err(error),
    };
    let Ok(answer) = answer else {
        return Finding::warning(what, format!("does not serve: {admin} is silent"), "start it");
    };
    let page: Value = answer.json().await.unwrap_or_default();
    let Some(nodes) = page["nodes"].as_array() else {
        let words = format!("something else answers at {admin}");
        return Finding::warning(what, words, "another CONTROL_ADMIN_LISTEN");
    };
    let ready = nodes.iter().filter(|node| node["ready"] == true).count();
    if ready == 0 {
        let words = format!("serves, with {} relays and none that is ready", nodes.len());
        let mend = "start a relay with the join token (`control join-token`), then `relay doctor`";
        return Finding::failed(what, words, mend);
    }
    Finding::ok(what, format!("serves, with {ready} relays that are ready"))
}

/// Where to reach what listens on an address of this machine.
fn here(listen: SocketAddr) -> SocketAddr {
    let mut here = listen;
    match listen {
        SocketAddr::V4(at) if at.ip().is_unspecified() => here.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(at) if at.ip().is_unspecified() => here.set_ip(Ipv6Addr::LOCALHOST.into()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    here
}

const EXPLAINED: &str = "`control config` explains every setting";

/// An operator waits for all of them at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

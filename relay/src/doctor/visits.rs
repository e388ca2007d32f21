//! Who can be reached: the relay on this machine, the agents' services, control.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use link::agent::AgentSpec;
use link::ticket::SKEW_SECONDS;
use url::Url;

use super::web::{self, Answer, Stuck};
use crate::config::{Config, Environment, Joined, Mode};
use crate::dial::{self, DialError, Target};
use crate::wire::{self, knock};
use crate::ws::Limits;
use crate::{clock, node};
use link::finding::Finding;

/// Whether a relay serves here, and takes calls.
pub(super) async fn own(config: &Config) -> Vec<Finding> {
    let what = "this relay";
    let admin = here(config.admin_listen);
    let answer = match url(&format!("http://{admin}/health")) {
        Some(url) => get(&url).await,
        None => return Vec::new(),
    };
    vec![match answer {
        Ok(Answer { status: StatusCode::OK, body, .. }) => health(what, &body),
        Ok(Answer { status, .. }) => Finding::warning(
            what,
            format!("something else answers at {admin}: status {status}"),
            "another RELAY_ADMIN_LISTEN",
        ),
        Err(_) => Finding::warning(what, format!("does not serve: {admin} is silent"), "start it"),
    }]
}

fn health(what: &str, page: &str) -> Finding {
    let page: serde_json::Value = serde_json::from_str(page).unwrap_or_default();
    let (calls, calls_max) = (&page["calls"], &page["calls_max"]);
    let words = format!("serves {calls} of {calls_max} calls");
    match (page["strain"].as_str(), page["ready"].as_bool()) {
        (Some(strain), _) => {
            Finding::warning(what, format!("{words} and takes no more: {strain}"), "add nodes")
        }
        (None, Some(true)) => Finding::ok(what, words),
        (None, _) => Finding::failed(
            what,
            "takes no calls: it drains, or control has not told it what it needs",
            "look at its link to control",
        ),
    }
}

/// Where to reach what listens on an address of this machine.
pub(super) fn here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    (ip, listen.port()).into()
}

/// Each service at which an agent is, by its own handshake.
pub(super) async fn agents(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &config.mode {
        Mode::Alone(alone) => {
            let mut doors = BTreeSet::new();
            for agent in &alone.agents {
                let door = wire::door(agent);
                if doors.insert((door.url, door.bearer.reveal().to_owned())) {
                    findings.push(agent_door(agent, config, Key::Ours).await);
                }
            }
        }
        Mode::Joined(_) => {
            findings.push(agent_door(&knock::usual_agent(), config, Key::Controls).await);
        }
    }
    findings
}

/// Who has the key that is shown at an agent's door.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// This node.
    Ours,
    /// Control, which pushes it to the node that serves.
    Controls,
}

async fn agent_door(agent: &AgentSpec, config: &Config, key: Key) -> Finding {
    let door = wire::door(agent);
    let host = Url::parse(&door.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let what = format!("model at {}", host.unwrap_or_default());
    let target = Target::parse(&door.url).and_then(|target| target.with_bearer(door.bearer));
    let target = match target {
        Ok(target) => target,
        Err(bad) => return Finding::failed(what, bad.to_string(), "look at the agent file"),
    };
    match dial::connect(&target, &config.agent_tls, Limits::AGENT).await {
        // Dropped at once: a session in which nothing is said costs nothing.
        Ok(_) => Finding::ok(what, "DNS, TCP, TLS and its handshake pass"),
        Err(error) => dialled(what, &error, key),
    }
}

fn dialled(what: String, error: &DialError, key: Key) -> Finding {
    let words = web::chain(error);
    let mend = match error {
        DialError::Refused { status } => match (status.as_u16(), key) {
            (401 | 403, Key::Controls) => {
                let words = "DNS, TCP and TLS pass; keys are control's, and none was shown";
                return Finding::ok(what, words);
            }
            (401 | 403, Key::Ours) => {
                "the key is not taken: look at the provider's key in the settings"
            }
            (429, _) => "too many sessions, or no credit: look at the account's limits",
            (404, _) => "there is no such model or path: look at the agent's url and model",
            _ => "look at the service's status page",
        },
        DialError::NoAddress(_) => "look at this machine's DNS (/etc/resolv.conf) and the name",
        DialError::Connect(_) | DialError::TimedOut(_) => {
            "let this machine out to that port: firewall, proxy, IPv6 without a route"
        }
        DialError::Tls(_) => {
            "its certificate is not trusted here: install ca-certificates, or RELAY_AGENT_CA_FILE; \
             look at the clock"
        }
        DialError::NotLoopback => "use wss://",
        DialError::Broken(_) | DialError::BadAnswer(_) => {
            "something between here and the service speaks no WebSocket: a proxy?"
        }
    };
    Finding::failed(what, words, mend)
}

/// Control: its HTTP, its clock, its link.
pub(super) async fn control(environment: &Environment, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(backend) = environment.get("RELAY_CONTROL_HTTP_URL").and_then(|text| url(text)) {
        findings.extend(control_http(&backend).await);
    }
    if let Mode::Joined(joined) = &config.mode {
        findings.push(control_link(joined).await);
    }
    findings
}

async fn control_http(backend: &Url) -> Vec<Finding> {
    let what = "control's HTTP";
    match get(backend).await {
        Ok(answer) => {
            let said = Finding::ok(what, format!("answers at {backend}"));
            std::iter::once(said).chain(compare_clocks(&answer)).collect()
        }
        Err(stuck) => vec![Finding::failed(
            what,
            format!("{backend}: {}", stuck.words()),
            "RELAY_CONTROL_HTTP_URL must be control's CONTROL_LISTEN as this machine reaches it",
        )],
    }
}

/// Compares this machine's clock with the answer's date, which has whole seconds.
fn compare_clocks(answer: &Answer) -> Option<Finding> {
    let date = answer.headers.get(http::header::DATE)?.to_str().ok()?;
    let theirs =
        httpdate::parse_http_date(date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let ahead = clock::wall().seconds() - i64::try_from(theirs.as_secs()).ok()?;
    Some(clocks(ahead))
}

fn clocks(ahead_seconds: i64) -> Finding {
    let what = "clock";
    let side = if ahead_seconds < 0 { "behind" } else { "ahead of" };
    let words = format!("{} s {side} control's", ahead_seconds.abs());
    let mend = "timedatectl set-ntp true, here and where control runs";
    match ahead_seconds.abs() {
        0..=2 => Finding::ok(what, "that of control"),
        apart if apart < SKEW_SECONDS => Finding::warning(what, words, mend),
        _ => Finding::failed(what, format!("{words}: tickets are refused"), mend),
    }
}

async fn control_link(joined: &Joined) -> Finding {
    let (what, address) = ("control's link", &joined.token.address);
    match node::knock(joined).await {
        Ok(()) => Finding::ok(what, format!("{address} answers, and is the one of the join token")),
        Err(why) => Finding::failed(
            what,
            format!("{address}: {why}"),
            "open that UDP port to this machine (CONTROL_LINK_LISTEN, CONTROL_LINK_ADDRESS); after \
             control lost its data, a new line of `control join-token`",
        ),
    }
}

fn url(text: &str) -> Option<Url> {
    Url::parse(text).ok()
}

async fn get(url: &Url) -> Result<Answer, Stuck> {
    let addresses = web::addresses(url).await?;
    let request = Request::get(url.path())
        .header(http::header::HOST, url.authority())
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Stuck::Http(error.to_string()))?;
    web::ask(url, &addresses, None, request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use link::finding::State;

    #[test]
    fn clocks_may_be_as_far_apart_as_tickets_allow() {
        let edge = SKEW_SECONDS;
        let states = [0, -2, 3, 1 - edge, edge, -3_600].map(|ahead| clocks(ahead).state);
        let [ok, warning, failed] = [State::Ok, State::Warning, State::Failed];
        assert_eq!(states, [ok, ok, warning, warning, failed, failed]);
        assert_eq!(clocks(-3).words, "3 s behind control's");
    }

    #[test]
    fn a_key_that_control_has_is_not_missed() {
        let refused = DialError::Refused { status: StatusCode::UNAUTHORIZED };
        assert_eq!(dialled(String::new(), &refused, Key::Controls).state, State::Ok);
        assert_eq!(dialled(String::new(), &refused, Key::Ours).state, State::Failed);
    }
}

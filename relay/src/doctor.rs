//! `relay doctor`: looks for what would keep this node from serving, with the settings that it
//! would serve with, and says what to do about each thing that it finds.
//!
//! It binds nothing and takes nobody's place, so it runs beside a relay that serves. It spends
//! nothing: at the model's door it opens a session in which nothing is said. Files: `machine` (what
//! the system allows), `papers` (certificates), `visits` (who can be reached), `knock` (a carrier's
//! handshake), `web` (the HTTP under both).

use link::finding::{Finding, Report};

use crate::config::{self, Config, Environment, Mode};
use crate::kernel::Needs;

mod knock;
mod machine;
mod papers;
mod visits;
mod web;

/// Looks at everything that these settings lead to.
pub async fn examine(environment: &Environment) -> Report {
    let mut findings = Vec::new();
    let config = settings(environment, &mut findings);
    let needs = match &config {
        Some(Config { calls_max, mode, .. }) => {
            Needs { calls_max: *calls_max, has_link: matches!(mode, Mode::Joined(_)) }
        }
        None => Needs { calls_max: 1, has_link: false },
    };
    findings.extend(machine::look(needs, config.as_ref()));
    if let Some(config) = &config {
        let url = config::public_url(environment);
        let papers = papers::look(environment, url.as_deref());
        let (own, agents, control, knock) = tokio::join!(
            visits::own(config),
            visits::agents(config),
            visits::control(environment, config),
            knock::look(config, url),
        );
        for list in [own, papers, agents, control, knock] {
            findings.extend(list);
        }
    }
    Report { findings }
}

fn settings(environment: &Environment, findings: &mut Vec<Finding>) -> Option<Config> {
    let what = "settings";
    for name in config::unknown(environment) {
        findings.push(Finding::warning(what, format!("there is no {name}"), EXPLAINED));
    }
    match config::read(environment) {
        Ok((config, _)) => {
            let Config { node, shards, calls_max, .. } = &config;
            let words = format!("node {node}, {shards} shards, {calls_max} calls");
            findings.push(Finding::ok(what, words));
            Some(config)
        }
        Err(config::Mistakes(mistakes)) => {
            let failed = |mistake: config::Mistake| {
                Finding::failed(mistake.name, mistake.problem, EXPLAINED)
            };
            findings.extend(mistakes.into_iter().map(failed));
            None
        }
    }
}

const EXPLAINED: &str = "`relay config` explains every setting";

//! The table of settings: what the environment may say. [`config`](crate::config) reads defaults
//! and bounds from here and `relay config` prints it, so that neither can drift.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// What it is when nothing is said.
    pub default: Default,
    /// What it may be.
    pub form: Form,
    /// Why one would set it, and what a larger number costs.
    pub why: &'static str,
}

/// What a setting is when nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This text.
    Text(&'static str),
    /// Worked out at start; the words say how.
    Computed(&'static str),
    /// Absent, and that means something.
    Absent,
    /// It must be given.
    Required,
}

/// What a setting may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// Something else, in words.
    Words(&'static str),
    /// A secret: never printed, not even when it is wrong.
    Secret(&'static str),
}

const fn says(name: &'static str, default: Default, form: Form, why: &'static str) -> Setting {
    Setting { name, default, form, why }
}

/// Every setting, grouped as they are used together.
pub const SETTINGS: &[Setting] = &[
    says(
        "RELAY_NODE",
        Default::Required,
        Form::Words("1 to 64 of A-Z a-z 0-9 - _ ."),
        "The node's name, unique in the fleet and stable over restarts; it is part of the stream URL. On Fly it is the machine's id (FLY_MACHINE_ID) unless it is set, and must be when there are several machines: streams reach any of them, and are replayed by that id.",
    ),
    says(
        "RELAY_LISTEN",
        Default::Text("0.0.0.0:8080"),
        Form::Words("address:port"),
        "The public port: streams, and whatever is forwarded to control. A socket that a service manager passes on (socket activation) counts instead.",
    ),
    says(
        "RELAY_ADMIN_LISTEN",
        Default::Text("127.0.0.1:9090"),
        Form::Words("address:port"),
        "Probes and metrics. Not for the public: nothing asks who is there.",
    ),
    says(
        "RELAY_TLS_CERT_FILE",
        Default::Absent,
        Form::Words("a PEM file, leaf first; with RELAY_TLS_KEY_FILE"),
        "The relay ends TLS itself. Without it a proxy in front must. Both files are read again when they change, within seconds; new ones that cannot be used are told and change nothing.",
    ),
    says(
        "RELAY_TLS_KEY_FILE",
        Default::Absent,
        Form::Words("a PEM file; with RELAY_TLS_CERT_FILE"),
        "The certificate's key.",
    ),
    says(
        "RELAY_JOIN_TOKEN",
        Default::Absent,
        Form::Secret("the line that `control join-token` prints"),
        "Joins the fleet of one control. Prefer the file: an environment is easily shown.",
    ),
    says(
        "RELAY_JOIN_TOKEN_FILE",
        Default::Absent,
        Form::Words("a file that holds that line"),
        "The same from a file, for instance a systemd credential.",
    ),
    says(
        "RELAY_PUBLIC_URL",
        Default::Absent,
        Form::Words("wss://host[:port], no path; needed to join"),
        "Where the carrier reaches this node. It signs exactly this URL and the node's path.",
    ),
    says(
        "RELAY_REGION",
        Default::Absent,
        Form::Words("1 to 64 of A-Z a-z 0-9 - _ ."),
        "Where the node stands, for people: `GET /v1/nodes` of control shows it. On Fly it is FLY_REGION unless it is set.",
    ),
    says(
        "RELAY_SPOOL_DIR",
        Default::Absent,
        Form::Words("a folder that this process may write; it is made if need be"),
        "Events that control has not taken are also on file, outlive the process and are told after its next start. Each is written as it is told and synced within 150 ms, so that a finished turn outlives the machine 250 ms later. Not set: they are in memory only. Callers' words stand in these files: keep them on a disk that you would keep the database on.",
    ),
    says(
        "RELAY_SPOOL_MAX_MIB",
        Default::Text("512"),
        Form::Number(1..=1_048_576),
        "The most that this node's files in RELAY_SPOOL_DIR take. The default holds twenty minutes of 2,000 calls without control, by a typical mix of their events. Above it, events are in memory only.",
    ),
    says(
        "RELAY_CONTROL_HTTP_URL",
        Default::Absent,
        Form::Words("http://host[:port], no path"),
        "Forwards everything that is not a stream to control, for hosts with one port or one tunnel.",
    ),
    says(
        "RELAY_TICKET_KEY_FILE",
        Default::Absent,
        Form::Words("JSON: [{\"kid\": .., \"public\": ..}]"),
        "The relay runs alone and takes tickets signed with these keys; instead of a join token.",
    ),
    says(
        "RELAY_AGENT_FILE",
        Default::Absent,
        Form::Words("TOML, as in examples/agents.toml"),
        "The agents of a relay that runs alone.",
    ),
    says(
        "RELAY_SIGNATURES_FILE",
        Default::Absent,
        Form::Words("JSON: [\"signature\", ..]"),
        "What the upgrade's signature may be, of a relay that runs alone; without it none is asked for.",
    ),
    says(
        "OPENAI_API_KEY",
        Default::Absent,
        Form::Secret("a provider key"),
        "The key of the agents in RELAY_AGENT_FILE. A joined relay gets keys over the link.",
    ),
    says(
        "RELAY_SHARDS",
        Default::Computed("one for each core"),
        Form::Number(1..=256),
        "Threads that carry calls. More than cores only adds switches between them.",
    ),
    says(
        "RELAY_CALLS_MAX",
        Default::Computed("500 for each shard"),
        Form::Number(1..=100_000),
        "New streams above it get 503 and are sent elsewhere. A core carried 700 calls when measured; doubled, every call of the node is late together.",
    ),
    says(
        "RELAY_MEMORY_MAX_MIB",
        Default::Text("0"),
        Form::Number(0..=1_048_576),
        "New streams get 503 when the process would have more memory with them; 0 is 85 % of what the cgroup or the machine has. A call takes some 40 KiB, with TLS on both legs 64, and 8 KiB for each second of an answer that waits to be heard; above the machine's memory, the kernel kills all calls at once.",
    ),
    says(
        "RELAY_LATENESS_MAX_MS",
        Default::Text("50"),
        Form::Number(5..=1_000),
        "New streams get 503 while a shard's own timer is late by more in one of ten beats, and again once it is below half of it. Frames come every 20 ms; at 100 callers notice, and below 10 a neighbour's burst closes the door.",
    ),
    says(
        "RELAY_DRAIN_SECONDS",
        Default::Text("200"),
        Form::Number(0..=86_400),
        "How long a stop waits for calls to end. Keep it below what the platform waits before it kills (300 s on Fly).",
    ),
    says(
        "RELAY_PLAYOUT_LEAD_MS",
        Default::Text("400"),
        Form::Number(200..=1_000),
        "Audio sent ahead of the caller's ear. Doubled, it covers longer stalls of the network and throws away more at each interruption.",
    ),
    says(
        "RELAY_UPLINK_BATCH_MS",
        Default::Text("auto"),
        Form::Words("auto, 20, 40 or 60"),
        "How much of a caller's audio goes to the agent at once. Longer pieces cost less CPU and arrive later, by their length less 20 ms at most. auto sends 20 ms, and 60 ms while a shard is late.",
    ),
    says(
        "RELAY_UPLINK_BATCH",
        Default::Text("reads"),
        Form::Words("reads or writes"),
        "What longer pieces save: reads takes them from the caller's socket in one read as well; writes only joins what is sent, and marks come back a little sooner.",
    ),
    says(
        "RELAY_SPARE_AGENTS",
        Default::Text("0"),
        Form::Number(0..=100),
        "Sessions for each agent that are kept open, for streams that control did not announce: their callers wait some 300 ms less. Each counts against the provider's limit of sessions; all agents together keep a quarter of RELAY_CALLS_MAX at most.",
    ),
    says(
        "RELAY_AGENT_CA_FILE",
        Default::Absent,
        Form::Words("a PEM file"),
        "One more root to trust when agents are dialled and tools are asked, for a private service.",
    ),
    says(
        "RELAY_TOOLS_ALLOW",
        Default::Absent,
        Form::Words("addresses, ranges (10.1.0.0/16) and host names, separated by commas"),
        "What tools may reach beyond public addresses, also by http://. A tool's URL is a customer's text: list no more than the tools' own hosts.",
    ),
    says(
        "RELAY_LOG",
        Default::Text("info"),
        Form::Words("an env-filter, for instance info,relay=debug"),
        "What is logged, on standard error. `debug` writes several lines a turn.",
    ),
    says(
        "RELAY_LOG_FORMAT",
        Default::Text("text"),
        Form::Words("text or json"),
        "How it is logged.",
    ),
];

/// The setting of a name.
///
/// # Panics
/// When there is none, which every start would show.
#[must_use]
pub fn setting(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.name == name).expect("read settings are in the table")
}

impl Form {
    /// The form in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Number(range) => format!("{} to {}", range.start(), range.end()),
            Self::Words(words) | Self::Secret(words) => (*words).to_owned(),
        }
    }
}

/// The table as text, as `relay config` prints it.
#[must_use]
pub fn page() -> String {
    let mut page = String::new();
    for Setting { name, default, form, why } in SETTINGS {
        let default = match default {
            Default::Text(text) => format!("default {text}"),
            Default::Computed(words) => format!("default: {words}"),
            Default::Absent => "default: not set".to_owned(),
            Default::Required => "required".to_owned(),
        };
        let _ = write!(page, "{name}\n    {}; {default}\n    {why}\n", form.words());
    }
    page.push_str(CREDENTIALS);
    page
}

const CREDENTIALS: &str = "
A secret that is not set is read from the file of its name in CREDENTIALS_DIRECTORY
(systemd: LoadCredential, LoadCredentialEncrypted).
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_of_a_number_is_within_its_bounds() {
        for setting in SETTINGS {
            if let (Form::Number(range), Default::Text(text)) = (&setting.form, setting.default) {
                assert!(range.contains(&text.parse().unwrap()), "{}", setting.name);
            }
        }
    }

    #[test]
    fn every_setting_is_printed_once_with_its_reason() {
        let page = page();
        for setting in SETTINGS {
            let lines = page.lines().filter(|line| *line == setting.name).count();
            assert_eq!(lines, 1, "{}", setting.name);
            assert!(page.contains(setting.why));
        }
    }
}

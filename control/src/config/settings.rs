//! The table of settings: what the environment may say. [`config`](crate::config) reads defaults
//! from here and `control config` prints it, so that neither can drift.

use std::fmt::Write as _;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// What it is when nothing is said.
    pub default: Default,
    /// What it may be.
    pub form: Form,
    /// Why one would set it.
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

/// What a setting may be, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Anybody may see it.
    Open(&'static str),
    /// Never printed, not even when it is wrong.
    Secret(&'static str),
}

const fn says(name: &'static str, default: Default, form: Form, why: &'static str) -> Setting {
    Setting { name, default, form, why }
}

/// Every setting, grouped as they are used together.
pub const SETTINGS: &[Setting] = &[
    says(
        "CONTROL_PUBLIC_URL",
        Default::Required,
        Form::Open("https://host[:port], no path"),
        "Where the carrier reaches this process. It signs exactly this origin; headers are not asked.",
    ),
    says(
        "CONTROL_LISTEN",
        Default::Text("0.0.0.0:8081"),
        Form::Open("address:port"),
        "Webhooks and the API, in clear: a proxy or a relay in front ends TLS.",
    ),
    says(
        "CONTROL_ADMIN_LISTEN",
        Default::Text("127.0.0.1:9091"),
        Form::Open("address:port"),
        "Probes and metrics. Not for the public: nothing asks who is there.",
    ),
    says(
        "CONTROL_API_KEYS",
        Default::Required,
        Form::Secret("keys of at least 24 characters, separated by commas"),
        "What `Authorization: Bearer` may say. Two at a time let one be replaced without a gap.",
    ),
    says(
        "CONTROL_AGENT_FILE",
        Default::Required,
        Form::Open("TOML, as in examples/agents.toml"),
        "Who answers; relays get it over the link.",
    ),
    says(
        "OPENAI_API_KEY",
        Default::Absent,
        Form::Secret("a provider key"),
        "The key of the file's OpenAI agents; needed unless their service is on loopback.",
    ),
    says(
        "TWILIO_ACCOUNT_SID",
        Default::Required,
        Form::Open("AC and 32 hexadecimal digits"),
        "The account that pays for calls.",
    ),
    says(
        "TWILIO_AUTH_TOKEN",
        Default::Required,
        Form::Secret("the account's primary auth token"),
        "Checks the carrier's signatures and places calls.",
    ),
    says(
        "TWILIO_API_URL",
        Default::Text("https://api.twilio.com"),
        Form::Open("https://host[:port], or http:// to a loopback address; no path"),
        "Another region's API, or a fake one.",
    ),
    says(
        "CONTROL_FROM_NUMBER",
        Default::Absent,
        Form::Open("+ and 7 to 15 digits"),
        "Who calls when an outbound call does not say; without it each must.",
    ),
    says(
        "CONTROL_DATA_DIR",
        Default::Text("./linecard-data"),
        Form::Open("a folder; made when missing, for its owner only"),
        "Holds the SQLite file and the sealing key.",
    ),
    says(
        "CONTROL_DATABASE_URL",
        Default::Computed("sqlite:// and linecard.db in CONTROL_DATA_DIR"),
        Form::Secret("sqlite://path or postgres://..."),
        "PostgreSQL lets several controls work side by side.",
    ),
    says(
        "CONTROL_SECRET_KEY",
        Default::Computed("the file secret.key in CONTROL_DATA_DIR, made on first start"),
        Form::Secret("32 bytes in base64"),
        "Seals secrets in the database. All controls of one database need the same.",
    ),
    says(
        "CONTROL_LINK_LISTEN",
        Default::Text("0.0.0.0:7443"),
        Form::Open("address:port (UDP)"),
        "Where relays dial in.",
    ),
    says(
        "CONTROL_LINK_ADDRESS",
        Default::Computed("the address of CONTROL_LINK_LISTEN, loopback when that is any"),
        Form::Open("host:port"),
        "Where relays find the link; it is part of the join token.",
    ),
    says(
        "CONTROL_JOIN_TOKEN_FILE",
        Default::Absent,
        Form::Open("a path; written for its owner only, once the link listens"),
        "Hands the join token to a relay on the same machine.",
    ),
    says(
        "CONTROL_LOG",
        Default::Text("info"),
        Form::Open("an env-filter, for instance info,control=debug"),
        "What is logged, on standard error.",
    ),
    says(
        "CONTROL_LOG_FORMAT",
        Default::Text("text"),
        Form::Open("text or json"),
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
    pub fn words(self) -> &'static str {
        match self {
            Self::Open(words) | Self::Secret(words) => words,
        }
    }
}

/// The table as text, as `control config` prints it.
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
    page
}

#[cfg(test)]
mod tests {
    use super::*;

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

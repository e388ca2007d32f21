//! The table of settings: what the environment may say. [`config`](crate::config) reads defaults
//! from here and `control config` prints it, so that neither can drift.

use std::fmt::Write as _;

use super::aliases::{ALIASES, Alias};

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
        "Webhooks and the API, in clear: a proxy or a relay in front ends TLS. A socket that a service manager passes on (socket activation) counts instead.",
    ),
    says(
        "CONTROL_ADMIN_LISTEN",
        Default::Text("127.0.0.1:9091"),
        Form::Open("address:port"),
        "Probes and metrics. Not for the public: nothing asks who is there.",
    ),
    says(
        "CONTROL_API_KEYS",
        Default::Absent,
        Form::Secret("keys of at least 24 characters, separated by commas"),
        "The operator's keys: everything of the tenant default, and the whole installation. Two at a \
         time let one be replaced without a gap; applications get theirs from POST /v1/keys, or, \
         where no such key is set, from `control key create`.",
    ),
    says(
        "CONTROL_PROXIES",
        Default::Text("127.0.0.0/8,::1"),
        Form::Open("addresses and networks like 10.0.0.0/8, separated by commas"),
        "Proxies and relays in front, whose X-Forwarded-For says who asks: requests are counted by \
         address.",
    ),
    says(
        "ALLOWED_ORIGINS",
        Default::Absent,
        Form::Open("origins of web pages, separated by commas"),
        "Pages that may ask for the tenant `default` with a key, beside those of PATCH /v1/tenant. \
         What is no origin (a wildcard) is passed over with a warning.",
    ),
    says(
        "FRONTEND_URL",
        Default::Absent,
        Form::Open("the address of a web page"),
        "Its origin is one more of those. It opens no compatible route: that is \
         CONTROL_COMPAT_ORIGIN's alone.",
    ),
    says(
        "CONTROL_COMPAT_ORIGIN",
        Default::Absent,
        Form::Open(
            "https://host[:port] of web pages, http:// on loopback only, separated by commas",
        ),
        "Opens the compatible routes (/api/...) to these pages, without a key. An Origin is not \
         authentication: programs write what they like, so bound what calls may cost.",
    ),
    says(
        "GOOGLE_PLACES_API_KEY",
        Default::Absent,
        Form::Secret("a Google Maps Platform key with the Places API (New)"),
        "GET /api/search looks businesses up with it; without it, that route says so.",
    ),
    says(
        "CONTROL_PLACES_URL",
        Default::Text("https://places.googleapis.com"),
        Form::Open("https://host[:port], or http:// to a loopback address; no path"),
        "Another Places API, or a fake one.",
    ),
    says(
        "CONTROL_AGENT_FILE",
        Default::Computed("one agent, `assistant`, with OPENAI_API_KEY"),
        Form::Open("TOML, as in examples/agents.toml"),
        "Who answers from the start; others are made with the API. Relays get all over the link.",
    ),
    says(
        "OPENAI_API_KEY",
        Default::Absent,
        Form::Secret("a provider key"),
        "The key of OpenAI agents of the tenant `default`; needed unless their service is on loopback.",
    ),
    says(
        "VOICE_AGENT_MODEL",
        Default::Computed("gpt-realtime-2.1"),
        Form::Open("a realtime model"),
        "The model of the agent that answers when there is no agent file.",
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
        "TWILIO_AUTH_TOKEN_NEXT",
        Default::Absent,
        Form::Secret("the account's secondary auth token"),
        "Its signatures are good, too, so that the token can be promoted without a gap.",
    ),
    says(
        "TWILIO_API_URL",
        Default::Text("https://api.twilio.com"),
        Form::Open(
            "https://host[:port], or http:// to a loopback address; no path; a region's host names \
             its edge, as api.dublin.ie1.twilio.com does",
        ),
        "Another API than that of us1, or a fake one.",
    ),
    says(
        "TWILIO_REGION",
        Default::Absent,
        Form::Open("a region, for instance ie1"),
        "Where calls live. The account's tokens are others in each region.",
    ),
    says(
        "TWILIO_EDGE",
        Default::Computed("the edge beside TWILIO_REGION"),
        Form::Open("an edge, for instance dublin"),
        "Where requests enter the carrier's network.",
    ),
    says(
        "TWILIO_VOICE_NAME",
        Default::Absent,
        Form::Open("a voice of the carrier's <Say>, for instance Polly.Joanna-Neural"),
        "Who reads our own sentences when no agent can; the carrier's standard voice if not set.",
    ),
    says(
        "CONTROL_FROM_NUMBER",
        Default::Absent,
        Form::Open("+ and 7 to 15 digits"),
        "Who calls when an outbound call does not say; without it each must.",
    ),
    says(
        "CONTROL_DIAL_CPS",
        Default::Text("1"),
        Form::Open("0.01 to 1000"),
        "Outbound calls a second of the account; the carrier queues what is above its own rate, out of sight.",
    ),
    says(
        "CONTROL_DIAL_NUMBER_CPS",
        Default::Text("1"),
        Form::Open("0.01 to 1000"),
        "Outbound calls a second of one number that calls.",
    ),
    says(
        "CONTROL_DIAL_SLOTS",
        Default::Text("100"),
        Form::Open("1 to 100000"),
        "Outbound calls at once, from being dialled to their end; the rest waits in the queue.",
    ),
    says(
        "CONTROL_DIAL_COUNTRIES",
        Default::Computed("the country of the number that calls"),
        Form::Open("countries of two letters and beginnings of numbers, as US,CA,+4420"),
        "Where outbound calls may go. A stolen key calls what is expensive.",
    ),
    says(
        "CONTROL_DIAL_HOURS",
        Default::Absent,
        Form::Open("HH:MM-HH:MM"),
        "When anybody may be called, by all clocks of the callee's country; other calls wait.",
    ),
    says(
        "CONTROL_SPEND_DAY_CENTS",
        Default::Absent,
        Form::Open("a number above 0"),
        "What a tenant's outbound calls may cost in a day (UTC), in hundredths of the account's currency.",
    ),
    says(
        "CONTROL_DIAL_MINUTE_CENTS",
        Default::Text("5"),
        Form::Open("a number above 0"),
        "What a minute of an outbound call counts for that, agent and carrier together.",
    ),
    says(
        "CONTROL_RESUMES_MAX",
        Default::Text("3"),
        Form::Open("1 to 20"),
        "How often a call goes on after a lost stream within CONTROL_RESUMES_SECONDS; then it ends with an apology, before it brings down one node after another.",
    ),
    says(
        "CONTROL_RESUMES_SECONDS",
        Default::Text("60"),
        Form::Open("seconds, 10 to 3600"),
        "The window of CONTROL_RESUMES_MAX. A drain of several nodes one after the other counts, too.",
    ),
    says(
        "CONTROL_RESUMES_CPS",
        Default::Text("150"),
        Form::Open("a number above 0"),
        "How many calls go on in a second, at each service of a tenant and at each node; the others wait a few seconds. Below what the service takes at once.",
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
        "CONTROL_WEBHOOKS_ALLOW",
        Default::Absent,
        Form::Open("addresses, ranges (10.1.0.0/16) and names, separated by commas"),
        "Webhooks may lead there, also in clear. Everything else that only this network can reach is refused.",
    ),
    says(
        "CONTROL_EVENTS_KEEP_DAYS",
        Default::Text("30"),
        Form::Open("days, 1 to 3650"),
        "How long events, and with them transcripts, are kept after the day on which they were stored.",
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
        Form::Open("host:port, or several separated by commas"),
        "Where relays find the links of all controls of one database: a name with an address for each, or a list. Part of the join token.",
    ),
    says(
        "CONTROL_REGIONS",
        Default::Absent,
        Form::Open(
            "END=REGION,REGION;... as us1=iad,ord;ie1=fra,ams: an END is a region of the carrier or \
             the host of an agent's service, a REGION is a relay's RELAY_REGION, nearest first",
        ),
        "Where calls go first, and where they flow over to. Regions that no list names come last, and \
         a call is refused only when no relay takes it.",
    ),
    says(
        "CONTROL_DRAIN_SECONDS",
        Default::Text("180"),
        Form::Open("seconds, 1 to 86400"),
        "How long calls that leave a draining relay wait for a pause; then they leave in mid-sentence. Keep it below RELAY_DRAIN_SECONDS, when a relay that stops closes what is left.",
    ),
    says(
        "CONTROL_DRAIN_CALLS_PER_SECOND",
        Default::Text("20"),
        Form::Open("calls, 1 to 1000"),
        "How many calls begin to leave one draining relay in a second. Each opens a session at the provider: stay below its limit. Doubled, a relay is empty in half of the time.",
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
    page.push_str(CREDENTIALS);
    page.push_str("\nNames of other hosts stand in for settings that are not set:\n");
    for Alias { name, of, .. } in ALIASES {
        let _ = writeln!(page, "    {name} for {of}");
    }
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
    fn every_setting_is_printed_once_with_its_reason() {
        let page = page();
        for setting in SETTINGS {
            let lines = page.lines().filter(|line| *line == setting.name).count();
            assert_eq!(lines, 1, "{}", setting.name);
            assert!(page.contains(setting.why));
        }
    }
}

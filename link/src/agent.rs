//! Agent specs: what answers a call. Versioned; a running call keeps the version it began with.
//!
//! Control holds them, a relay receives them over the link (with the provider's key, in memory
//! only) or reads them from a file when it runs alone. Over the link unknown fields are skipped; in
//! a file they are mistakes, which the reader of the file reports ([`crate::strict`]).

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, TenantId};
use crate::secret::Secret;

pub use crate::tool::Tool;

/// Everything a relay must know to let a model answer a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Whose agent it is.
    #[serde(default)]
    pub tenant: TenantId,
    /// The agent's name, unique in its tenant.
    pub name: AgentName,
    /// Grows with every change; a ticket names the version it wants.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The service that speaks.
    pub provider: Provider,
    /// The model's standing instructions. Never empty: a provider's default persona on the phone
    /// is a mistake that only callers would notice.
    pub instructions: String,
    /// What the agent says first, as an instruction to the model; `None` waits for the caller.
    #[serde(default)]
    pub greeting: Option<String>,
    /// The provider's voice name; `None` takes the provider's default.
    #[serde(default)]
    pub voice: Option<String>,
    /// The audio format on the agent's socket.
    #[serde(default)]
    pub audio: AgentAudio,
    /// How the provider finds the ends of the caller's turns.
    #[serde(default)]
    pub turn_detection: TurnDetection,
    /// What the agent may do besides speaking.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// Where a call is stopped.
    #[serde(default)]
    pub limits: Limits,
    /// How sessions with the provider are opened and replaced.
    #[serde(default)]
    pub session: Sessions,
    /// What is done when a machine picks up a call that we placed; `None` when nobody listens for
    /// one. Control does it; a relay does not know who has picked up.
    #[serde(default)]
    pub machine: Option<OnMachine>,
}

fn first_version() -> u32 {
    1
}

/// The service that speaks, and how to reach it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Provider {
    /// OpenAI Realtime, the GA WebSocket interface.
    OpenaiRealtime {
        /// The base URL, `wss` (or `ws` to loopback), without the query.
        #[serde(default = "openai_realtime_url")]
        url: String,
        /// The model's name, free text to the provider.
        #[serde(default = "openai_realtime_model")]
        model: String,
        /// The provider key. Control fills it in; it is never stored in a spec file.
        #[serde(default = "no_key")]
        api_key: Secret,
    },
}

impl Provider {
    /// The kinds that are built in, as a spec writes them.
    pub const KINDS: [&str; 1] = ["openai_realtime"];

    /// The environment variables that providers' keys are in.
    pub const KEY_SETTINGS: [&str; 1] = ["OPENAI_API_KEY"];

    /// The names under which tenants keep their own provider keys.
    pub const KEY_NAMES: [&'static str; 1] = ["openai"];

    /// The name of this provider's key, one of [`Self::KEY_NAMES`].
    #[must_use]
    pub fn key_name(&self) -> &'static str {
        match self {
            Self::OpenaiRealtime { .. } => "openai",
        }
    }

    /// The environment variable that holds this provider's key, in both processes.
    #[must_use]
    pub fn key_setting(&self) -> &'static str {
        match self {
            Self::OpenaiRealtime { .. } => "OPENAI_API_KEY",
        }
    }

    /// The host of the service; `None` when its address is none.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::OpenaiRealtime { url, .. } => {
                let (_, rest) = url.split_once("://")?;
                let authority = rest.split(['/', '?', '#']).next()?;
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                // An IPv6 address is cut at its first colon: nobody looks one up by this.
                let name = host.split_once(':').map_or(host, |(name, _)| name);
                Some(name).filter(|name| !name.is_empty())
            }
        }
    }

    /// The provider key; empty when none was given.
    #[must_use]
    pub fn api_key(&self) -> &Secret {
        match self {
            Self::OpenaiRealtime { api_key, .. } => api_key,
        }
    }

    /// Puts the provider key in.
    pub fn set_api_key(&mut self, key: Secret) {
        match self {
            Self::OpenaiRealtime { api_key, .. } => *api_key = key,
        }
    }

    /// Where a GET with the key says whether the key is good and has this model; it spends nothing.
    /// 200: yes; 401: no such key; 404: not this model.
    /// Source: OpenAI, "Retrieve model", read 2026-11-20.
    #[must_use]
    pub fn key_check(&self) -> Option<String> {
        match self {
            Self::OpenaiRealtime { url, model, .. } => {
                let base = url.strip_suffix("/realtime")?;
                let rest = base.strip_prefix("ws")?;
                Some(format!("http{rest}/models/{model}"))
            }
        }
    }

    /// Whether no call can succeed without a key: a service on loopback may go without.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        match self {
            Self::OpenaiRealtime { url, .. } => url.starts_with("wss://"),
        }
    }
}

fn openai_realtime_url() -> String {
    "wss://api.openai.com/v1/realtime".into()
}

fn openai_realtime_model() -> String {
    "gpt-realtime-2.1".into()
}

fn no_key() -> Secret {
    Secret::new("")
}

/// The audio format on the agent's socket, both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentAudio {
    /// G.711 mu-law at 8 kHz: the caller's bytes pass through untouched.
    #[default]
    Mulaw,
    /// 16-bit PCM at 24 kHz: transcoded both ways.
    Pcm24k,
}

/// Server-side voice activity detection. Defaults are the ones that hold on 8 kHz phone audio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TurnDetection {
    /// Speech probability above which a frame counts as speech, 0 to 1.
    pub threshold: f32,
    /// Audio kept from before the detected start, in milliseconds.
    pub prefix_padding_ms: u32,
    /// Silence that ends a turn, in milliseconds.
    pub silence_duration_ms: u32,
}

impl Default for TurnDetection {
    fn default() -> Self {
        Self { threshold: 0.5, prefix_padding_ms: 300, silence_duration_ms: 500 }
    }
}

/// Where a call is stopped, whatever is being said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The longest call, in seconds. Doubling it doubles what a stuck call can cost.
    pub call_seconds_max: u32,
    /// The longest answer, in provider tokens; bounds what one answer reserves of a rate limit.
    pub output_tokens_max: u32,
    /// How long neither side may say anything before the agent asks whether the caller is still
    /// there, in seconds; after as long again it says goodbye. 0 waits for ever.
    pub silence_seconds_max: u32,
    /// The provider tokens that a call may use, in and out, before it is ended politely. 0 sets no
    /// budget.
    pub call_tokens_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_seconds_max: 3_600,
            output_tokens_max: 2_048,
            silence_seconds_max: 60,
            call_tokens_max: 0,
        }
    }
}

/// How sessions with the provider are opened and replaced. A call may outlive many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// When a session is replaced by a new one, in seconds after it was opened. OpenAI ends one
    /// after 60 minutes (read 2026-11-20).
    pub roll_over_seconds: u32,
    /// Milliseconds after which a second session is dialled beside one that is slow to open; the
    /// first that is ready speaks. 0 dials one only.
    pub hedge_ms: u32,
    /// Turns after which the conversation is summed up, for sessions to come. 0 never does.
    pub summary_turns: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { roll_over_seconds: 3_000, hedge_ms: 0, summary_turns: 20 }
    }
}

/// What is done when a machine picks up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum OnMachine {
    /// An event tells, and the agent goes on.
    Continue {},
    /// The call is ended.
    HangUp {},
    /// After the beep these words are spoken, and the call is ended.
    LeaveMessage {
        /// The words.
        text: String,
    },
}

impl OnMachine {
    /// The longest message, in bytes. Twilio takes documents of 4,000 characters, escapes included.
    pub const TEXT_BYTES_MAX: usize = 2_000;

    /// What is wrong with it; `None` when nothing is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Self::LeaveMessage { text }
                if text.trim().is_empty() || text.len() > Self::TEXT_BYTES_MAX =>
            {
                Some("the message is not 1 to 2000 bytes")
            }
            Self::LeaveMessage { .. } | Self::Continue {} | Self::HangUp {} => None,
        }
    }
}

/// What is wrong with a spec, with the field it is wrong in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agent `{agent}`: {field}: {problem}")]
pub struct SpecProblem {
    /// The agent's name.
    pub agent: AgentName,
    /// The field, as it is written in a spec file.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: &'static str,
}

impl AgentSpec {
    /// The longest instructions, in bytes: a spec stays inside one link frame.
    pub const INSTRUCTIONS_BYTES_MAX: usize = 32 * 1024;

    /// The most tools of one agent.
    pub const TOOLS_MAX: usize = 32;

    /// Lists everything that is wrong with the spec. A relay refuses a spec with problems, so
    /// that a call never begins with one.
    #[must_use]
    pub fn problems(&self) -> Vec<SpecProblem> {
        let mut found = Vec::new();
        let mut say = |field, problem| {
            found.push(SpecProblem { agent: self.name.clone(), field, problem });
        };
        if self.instructions.trim().is_empty() {
            say("instructions", "empty; say who answers and how");
        }
        if self.instructions.len() > Self::INSTRUCTIONS_BYTES_MAX {
            say("instructions", "longer than 32 KiB");
        }
        if self.greeting.as_ref().is_some_and(|text| text.len() > 4_096) {
            say("greeting", "longer than 4 KiB");
        }
        let Provider::OpenaiRealtime { url, model, .. } = &self.provider;
        if !is_secure_or_loopback(url) {
            say("provider.url", "must be wss://, or ws:// to a loopback address");
        }
        if model.is_empty() {
            say("provider.model", "empty");
        }
        if !(0.0..=1.0).contains(&self.turn_detection.threshold) {
            say("turn_detection.threshold", "outside 0 to 1");
        }
        if self.turn_detection.silence_duration_ms > 10_000 {
            say("turn_detection.silence_duration_ms", "above 10000");
        }
        if !(10..=86_400).contains(&self.limits.call_seconds_max) {
            say("limits.call_seconds_max", "outside 10 to 86400");
        }
        if !(1..=4_096).contains(&self.limits.output_tokens_max) {
            say("limits.output_tokens_max", "outside 1 to 4096");
        }
        if self.limits.silence_seconds_max != 0
            && !(5..=3_600).contains(&self.limits.silence_seconds_max)
        {
            say("limits.silence_seconds_max", "must be 0 (never) or 5 to 3600");
        }
        if !(5..=3_500).contains(&self.session.roll_over_seconds) {
            say("session.roll_over_seconds", "outside 5 to 3500");
        }
        if self.session.hedge_ms != 0 && !(100..=5_000).contains(&self.session.hedge_ms) {
            say("session.hedge_ms", "must be 0 (never) or 100 to 5000");
        }
        if let Some(problem) = self.machine.as_ref().and_then(OnMachine::problem) {
            say("machine", problem);
        }
        self.tool_problems(&mut say);
        found
    }

    fn tool_problems(&self, say: &mut impl FnMut(&'static str, &'static str)) {
        for (n, tool) in self.tools.iter().enumerate() {
            if let Some(problem) = tool.problem() {
                say("tools", problem);
            }
            if self.tools[..n].iter().any(|other| other.name() == tool.name()) {
                say("tools", "two tools of one name");
            }
        }
        if self.tools.len() > Self::TOOLS_MAX {
            say("tools", "more than 32 tools");
        }
    }
}

/// Whether a provider key may travel over this URL: `wss`, or `ws` to loopback.
#[must_use]
pub fn is_secure_or_loopback(url: &str) -> bool {
    if url.starts_with("wss://") {
        return true;
    }
    let Some(rest) = url.strip_prefix("ws://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> AgentSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_small_spec_has_phone_defaults() {
        let spec = spec(serde_json::json!({
            "name": "front-desk", "instructions": "You answer the phone.",
            "provider": {"kind": "openai_realtime"},
        }));
        assert_eq!(spec.audio, AgentAudio::Mulaw);
        assert_eq!(spec.turn_detection.silence_duration_ms, 500);
        assert_eq!(spec.version, 1);
        assert_eq!(spec.problems(), []);
    }

    #[test]
    fn every_problem_is_listed_at_once() {
        let spec = spec(serde_json::json!({
            "name": "x", "instructions": " ",
            "provider": {"kind": "openai_realtime", "url": "ws://api.example.com"},
            "turn_detection": {"threshold": 3.0},
            "machine": {"do": "leave_message", "text": " "},
        }));
        let fields: Vec<_> = spec.problems().iter().map(|p| p.field).collect();
        assert_eq!(fields, ["instructions", "provider.url", "turn_detection.threshold", "machine"]);
    }

    #[test]
    fn the_host_of_a_service_is_known_without_its_port_and_path() {
        for (url, host) in [
            ("wss://api.example.com/v1/realtime", Some("api.example.com")),
            ("wss://eu.api.example.com:8443?x=/y", Some("eu.api.example.com")),
            ("ws://user@127.0.0.1:9/v1", Some("127.0.0.1")),
            ("wss:///v1", None),
            ("nowhere", None),
        ] {
            let spec = spec(serde_json::json!({
                "name": "x", "instructions": "y",
                "provider": {"kind": Provider::KINDS[0], "url": url},
            }));
            assert_eq!(spec.provider.host(), host, "{url}");
        }
    }

    #[test]
    fn every_kind_that_is_built_in_is_read_and_has_a_known_key() {
        for kind in Provider::KINDS {
            let spec = spec(serde_json::json!({
                "name": "x", "instructions": "y", "provider": {"kind": kind},
            }));
            assert!(Provider::KEY_SETTINGS.contains(&spec.provider.key_setting()), "{kind}");
        }
    }

    #[test]
    fn a_field_of_a_newer_control_is_skipped() {
        let spec = spec(serde_json::json!({
            "name": "x", "instructions": "y", "provider": {"kind": "openai_realtime"},
            "mood": "sunny",
        }));
        assert_eq!(spec.problems(), []);
    }

    #[test]
    fn keys_travel_in_clear_to_loopback_only() {
        for good in
            ["wss://api.openai.com", "ws://127.0.0.1:9/v1", "ws://[::1]:9", "ws://localhost"]
        {
            assert!(is_secure_or_loopback(good), "{good}");
        }
        for bad in [
            "ws://10.0.0.1",
            "http://127.0.0.1",
            "ws://localhost@evil.example",
            "ws://127.evil.example",
        ] {
            assert!(!is_secure_or_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn a_provider_key_is_not_shown_by_debug() {
        let spec = spec(serde_json::json!({
            "name": "x", "instructions": "y",
            "provider": {"kind": "openai_realtime", "api_key": "sk-secret"},
        }));
        assert!(!format!("{spec:?}").contains("sk-secret"));
    }
}

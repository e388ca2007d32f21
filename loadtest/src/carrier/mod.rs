//! A strict fake of Twilio's voice side, for tests and the demo: REST, signed webhooks, TwiML, a
//! phone in real time.
//!
//! ```no_run
//! # async fn doc() -> anyhow::Result<()> {
//! use loadtest::audio::Clip;
//! use loadtest::carrier::{CallOrder, CarrierSettings, FakeTwilio, Resolve, Step};
//!
//! let relay = "127.0.0.1:8080".parse()?;
//! let settings = CarrierSettings {
//!     resolve: Resolve::default().with("https://linecard.test", relay),
//!     ..CarrierSettings::default()
//! };
//! let twilio = FakeTwilio::start(settings).await?;
//! let sid = twilio.call(CallOrder {
//!     from: "+15551230001".into(),
//!     to: "+15551230002".into(),
//!     voice_url: "https://linecard.test/v1/twilio/voice".into(),
//!     status_url: None,
//!     caller: vec![
//!         Step::WaitForAgent { quiet_ms: 500 },
//!         Step::Say { clip: Clip::ToneMs(800), text: "Hello?".into() },
//!         Step::HangUp,
//!     ],
//! })?;
//! let record = twilio.over(&sid).await.expect("the call exists");
//! assert_eq!(record.faults, []);
//! # Ok(())
//! # }
//! ```
//!
//! Over HTTP, for other processes: `POST /_fake/calls` takes a [`CallOrder`],
//! `GET /_fake/calls/{sid}?after=N` gives the [`CallRecord`] once it has more than N notes,
//! `GET /_fake/calls/{sid}/audio` a stereo WAV; `POST /_fake/resolve` maps origins; `POST /_fake/whims`
//! takes a list of what the next calls that are dialled by REST meet ([`Whim`]).

mod board;
mod call;
mod caller;
mod handshake;
mod hook;
mod line;
mod message;
mod playback;
mod record;
mod report;
mod rest;
pub(crate) mod sign;
mod stream;
pub(crate) mod twiml;
mod whim;
mod xml;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::board::FakeTwilio;
pub use self::caller::Step;
pub use self::hook::Resolve;
pub use self::record::{CallRecord, Fault, Hook, Note, StreamEnd, StreamRecord, What};
pub use self::whim::Whim;

/// A person who follows a script, for whoever else has a mouth and an ear for one.
pub(crate) mod person {
    pub(crate) use super::caller::{Act, Caller, Ear};
}

use self::hook::Asker;
use crate::capture::Capture;

/// How a fake Twilio behaves.
#[derive(Debug, Clone)]
pub struct CarrierSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The account's id.
    pub account: String,
    /// The account's auth token: what signs, and what REST wants to see.
    pub token: String,
    /// Where public names really are.
    pub resolve: Resolve,
    /// From `<Connect>` to the handshake of its stream: a few hundred milliseconds at the real
    /// service, none here unless a test wants it.
    pub stream_delay: Duration,
    /// From `connected` to the caller's first audio: 200 ms at the real service, none here unless a
    /// test wants it.
    pub audio_delay: Duration,
    /// How much is recorded of each direction of each stream, from its beginning: a load of many
    /// calls is heard as well with less.
    pub recorded: Duration,
    /// Where a number's document comes from when its own cannot be had (VoiceFallbackUrl); the call is
    /// over then when `None`.
    pub fallback_url: Option<String>,
    /// What whoever is dialled by REST does.
    pub callee: Vec<Step>,
    /// Who picks up a call that somebody listens to, in Twilio's word (`human`,
    /// `machine_end_beep`, ...).
    pub answered_by: String,
    /// How long REST takes to answer.
    pub rest_delay: Duration,
    /// REST requests at once that are not refused with 429.
    pub requests_max: usize,
    /// A folder for `twilio.jsonl` (messages) and `http.jsonl` (requests).
    pub capture: Option<PathBuf>,
}

impl Default for CarrierSettings {
    /// A free loopback port, an account of zeros, a callee who listens.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            account: format!("AC{}1", "0".repeat(31)),
            token: "fake-twilio-auth-token".into(),
            resolve: Resolve::default(),
            stream_delay: Duration::ZERO,
            audio_delay: Duration::ZERO,
            recorded: RECORDED,
            fallback_url: None,
            callee: Vec::new(),
            answered_by: "human".into(),
            rest_delay: Duration::ZERO,
            requests_max: 1_000,
            capture: None,
        }
    }
}

/// Somebody calls a number of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallOrder {
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// The number's voice webhook.
    pub voice_url: String,
    /// The number's status callback.
    #[serde(default)]
    pub status_url: Option<String>,
    /// What the caller does; past the end, the caller listens.
    #[serde(default)]
    pub caller: Vec<Step>,
}

/// What every call of a fake Twilio needs.
pub(crate) struct Exchange {
    pub(crate) account: String,
    pub(crate) asker: Asker,
    pub(crate) stream_delay: Duration,
    pub(crate) audio_delay: Duration,
    pub(crate) fallback_url: Option<String>,
    /// As much is kept of each direction of a stream, in bytes.
    pub(crate) track_bytes_max: usize,
    pub(crate) messages: Capture,
    hooks: Capture,
}

impl Exchange {
    fn new(settings: &CarrierSettings) -> std::io::Result<Self> {
        let file = |name: &str| {
            let path = settings.capture.as_ref().map(|folder| folder.join(name));
            Capture::create(path.as_deref())
        };
        Ok(Self {
            account: settings.account.clone(),
            asker: Asker { token: settings.token.clone(), resolve: settings.resolve.clone() },
            stream_delay: settings.stream_delay,
            audio_delay: settings.audio_delay,
            fallback_url: settings.fallback_url.clone(),
            track_bytes_max: usize::try_from(settings.recorded.as_millis())
                .unwrap_or(usize::MAX)
                .saturating_mul(crate::audio::BYTES_PER_MS),
            messages: file("twilio.jsonl")?,
            hooks: file("http.jsonl")?,
        })
    }

    /// Writes a request down for the conformance check.
    pub(crate) fn capture_hook(&self, hook: &Hook) {
        self.hooks.line(&json!({
            "url": hook.url, "method": hook.method, "params": hook.params,
            "signature": hook.signature, "status": hook.status, "twiml": hook.twiml,
        }));
    }
}

/// A fresh id of Twilio's: two letters and 32 hexadecimal digits.
pub(crate) fn sid(kind: &str) -> String {
    format!("{kind}{}", uuid::Uuid::new_v4().simple())
}

/// From the answer with `<Connect>` to `connected`, as it was seen once in the field.
/// Source: qisoft issue 18 (a tunnel, one reporter), read 2026-11-20; not measured here.
pub const FIELD_STREAM_DELAY: Duration = Duration::from_millis(365);

/// From `connected` to the caller's first audio, from the same reporter: 565 ms in all.
pub const FIELD_AUDIO_DELAY: Duration = Duration::from_millis(200);

/// What every report says that times a call at this fake.
pub const NOT_FROM_TWILIO: &str = "No figure is from the real Twilio: the carrier is a fake with \
     timings that others saw in the field (365 ms from TwiML to `connected`, 565 ms to first audio).";

/// As much of each direction as a WAV of ten minutes holds.
const RECORDED: Duration = Duration::from_mins(10);

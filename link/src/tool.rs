//! Tools: what an agent may do besides speaking.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secret::Secret;

/// Something the agent may do besides speaking.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Tool {
    /// The agent says goodbye and the call ends once the caller has heard it.
    #[serde(alias = "end_call")]
    HangUp,
    /// The caller is connected to somebody else once it has heard what is being said.
    Transfer {
        /// Where to. The model chooses a name; an address never comes from a model.
        destinations: Vec<Destination>,
    },
    /// Key tones are played to the caller's line, to get through a voice menu.
    SendDtmf,
    /// A request to a server of the agent's owner.
    Http(HttpTool),
}

/// Where a call may be transferred to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// What the model calls it: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// When to choose it, for the model.
    #[serde(default)]
    pub description: String,
    /// The address.
    pub to: Address,
}

/// An address that a call can be transferred to: a number in E.164 (`+` and 2 to 15 digits), or a
/// SIP address (`sip:` or `sips:`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Box<str>);

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an address is +E164 (a plus and 2 to 15 digits) or sip:user@host, at most 255 characters")]
pub struct BadAddress;

impl Address {
    /// Takes a text as an address.
    ///
    /// # Errors
    /// When it is neither a number in E.164 nor a SIP address.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, BadAddress> {
        let text = text.into();
        if is_e164(&text) || is_sip(&text) { Ok(Self(text)) } else { Err(BadAddress) }
    }

    /// The address as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a SIP address rather than a number.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        is_sip(&self.0)
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;
    fn try_from(text: String) -> Result<Self, BadAddress> {
        Self::new(text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.into()
    }
}

fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (2..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0')
}

fn is_sip(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("sips:").or_else(|| text.strip_prefix("sip:")) else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"' | b'&' | b'\'');
    let Some((user, host)) = rest.split_once('@') else { return false };
    text.len() <= 255 && !user.is_empty() && !host.is_empty() && rest.bytes().all(plain)
}

/// A tool that is an HTTP request: POST, JSON both ways, signed.
///
/// The body is `{"call":"<call id>","tool":"<name>","arguments":{..}}`, the key of the effect is the
/// `Idempotency-Key` header: the same for the same request of the model, whatever node makes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HttpTool {
    /// What the model calls it: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// When and how to use it, for the model.
    pub description: String,
    /// Its arguments, a JSON Schema object.
    #[serde(default = "no_parameters")]
    pub parameters: Value,
    /// Where the request goes: `https`, or `http` to an address that `RELAY_TOOLS_ALLOW` lists.
    pub url: String,
    /// The longest it may take, in milliseconds.
    #[serde(default = "tool_timeout")]
    pub timeout_ms: u32,
    /// What requests are signed with (HMAC-SHA256); empty signs nothing.
    #[serde(default = "no_secret")]
    pub signing_key: Secret,
    /// Whether a request changes nothing where it goes, so that it may be made again at will. One
    /// that may have an effect is recorded before it is made.
    #[serde(default)]
    pub read_only: bool,
}

impl HttpTool {
    /// The longest that a tool may take.
    pub const TIMEOUT_MS_MAX: u32 = 30_000;

    /// The longest it may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }
}

fn no_parameters() -> Value {
    serde_json::json!({"type": "object", "properties": {}, "additionalProperties": false})
}

fn tool_timeout() -> u32 {
    5_000
}

fn no_secret() -> Secret {
    Secret::new("")
}

impl Tool {
    /// The name by which the model hangs up.
    pub const HANG_UP: &'static str = "hang_up";
    /// The name by which the model transfers the call.
    pub const TRANSFER: &'static str = "transfer";
    /// The name by which the model plays key tones.
    pub const SEND_DTMF: &'static str = "send_dtmf";
    /// The argument of a transfer: the name of a destination.
    pub const DESTINATION: &'static str = "destination";
    /// The argument of key tones: the keys, in order.
    pub const DIGITS: &'static str = "digits";

    /// What the model calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::HangUp => Self::HANG_UP,
            Self::Transfer { .. } => Self::TRANSFER,
            Self::SendDtmf => Self::SEND_DTMF,
            Self::Http(tool) => &tool.name,
        }
    }

    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Self::HangUp | Self::SendDtmf => None,
            Self::Transfer { destinations } if destinations.is_empty() => {
                Some("a transfer without destinations; list at least one {name, to}")
            }
            Self::Transfer { destinations } => destinations
                .iter()
                .any(|to| !is_name(&to.name))
                .then_some("a destination's name is 1 to 64 of A-Z a-z 0-9 _ -"),
            Self::Http(tool) => tool.problem(),
        }
    }
}

impl HttpTool {
    fn problem(&self) -> Option<&'static str> {
        let built_in = [Tool::HANG_UP, Tool::TRANSFER, Tool::SEND_DTMF];
        if !is_name(&self.name) {
            return Some("a tool's name is 1 to 64 of A-Z a-z 0-9 _ -");
        }
        if built_in.contains(&self.name.as_str()) {
            return Some("a tool has the name of a built-in one (hang_up, transfer, send_dtmf)");
        }
        if !self.url.starts_with("https://") && !self.url.starts_with("http://") {
            return Some("a tool's url must be https://, or http:// to an allowed address");
        }
        if !(100..=Self::TIMEOUT_MS_MAX).contains(&self.timeout_ms) {
            return Some("a tool's timeout_ms is outside 100 to 30000");
        }
        if !self.parameters.is_object() {
            return Some("a tool's parameters must be a JSON Schema object");
        }
        None
    }
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sip_addresses_are_addresses() {
        for good in ["+4930123456", "+15005550006", "sip:desk@example.com", "sips:a@[2001:db8::1]"]
        {
            assert!(Address::new(good).is_ok(), "{good}");
        }
        for bad in ["", "030123456", "+0301", "+1", "sip:", "sip:@x", "sip:a@b\"><Dial>", "tel:+1"]
        {
            assert_eq!(Address::new(bad), Err(BadAddress), "{bad}");
        }
    }

    #[test]
    fn a_tool_is_named_and_checked() {
        let tool: Tool = serde_json::from_value(serde_json::json!({
            "kind": "http", "name": "find_slot", "description": "Finds a free slot.",
            "url": "https://tools.example.com/slots",
        }))
        .unwrap();
        assert_eq!((tool.name(), tool.problem()), ("find_slot", None));
        let Tool::Http(mut tool) = tool else { panic!("an HTTP tool was written") };
        assert_eq!(tool.timeout(), Duration::from_secs(5));
        tool.name = "hang_up".into();
        assert!(Tool::Http(tool).problem().is_some_and(|why| why.contains("built-in")));
        let empty = Tool::Transfer { destinations: Vec::new() };
        assert!(empty.problem().is_some());
    }
}

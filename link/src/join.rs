//! The join token: everything a relay needs to find control and to be let in, in one line.
//!
//! It carries control's own CA certificate (made on control's first start), not a leaf, so that a
//! renewed leaf does not lock relays out.

use serde::Deserialize;

use crate::secret::Secret;

const PREFIX: &str = "lcjoin1_";

/// What a join token says.
#[derive(Debug, Clone, Deserialize)]
pub struct JoinToken {
    /// Where the links of all controls listen, `host:port` (UDP): a name may have an address for each,
    /// and several names are separated by commas.
    #[serde(rename = "a")]
    pub address: String,
    /// Control's CA certificate, DER, base64url without padding.
    #[serde(rename = "c")]
    pub ca: String,
    /// What proves that the relay may join.
    #[serde(rename = "s")]
    pub secret: Secret,
}

/// A text that is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token; `control join-token` prints one, it begins with `lcjoin1_`")]
pub struct BadJoinToken;

impl JoinToken {
    /// Puts a token together from its parts.
    #[must_use]
    pub fn new(address: impl Into<String>, ca_der: &[u8], secret: Secret) -> Self {
        let ca = base64_simd::URL_SAFE_NO_PAD.encode_to_string(ca_der);
        Self { address: address.into(), ca, secret }
    }

    /// Each `host:port` of the address.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.address.split(',').map(str::trim).filter(|address| !address.is_empty())
    }

    /// Writes the token as one line.
    #[must_use]
    pub fn to_line(&self) -> Secret {
        let Self { address, ca, secret } = self;
        let body = serde_json::json!({"a": address, "c": ca, "s": secret.reveal()}).to_string();
        let body = base64_simd::URL_SAFE_NO_PAD.encode_to_string(body);
        Secret::new(format!("{PREFIX}{body}"))
    }

    /// Reads the line that [`Self::to_line`] wrote.
    ///
    /// # Errors
    /// When it is anything else; the text is not repeated in the error.
    pub fn from_line(line: &str) -> Result<Self, BadJoinToken> {
        let body = line.trim().strip_prefix(PREFIX).ok_or(BadJoinToken)?;
        let body = base64_simd::URL_SAFE_NO_PAD
            .decode_to_vec(body.as_bytes())
            .map_err(|_| BadJoinToken)?;
        serde_json::from_slice(&body).map_err(|_| BadJoinToken)
    }

    /// The CA certificate, DER.
    ///
    /// # Errors
    /// When the token's field is not base64url.
    pub fn ca_der(&self) -> Result<Vec<u8>, BadJoinToken> {
        base64_simd::URL_SAFE_NO_PAD.decode_to_vec(self.ca.as_bytes()).map_err(|_| BadJoinToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_and_is_read_back() {
        let token = JoinToken::new("control.internal:7443", b"der", Secret::new("s3"));
        let line = token.to_line();
        assert!(!line.reveal().contains(char::is_whitespace));
        let back = JoinToken::from_line(line.reveal()).unwrap();
        assert_eq!(back.address, "control.internal:7443");
        assert_eq!(back.ca_der().unwrap(), b"der");
        assert_eq!(back.secret.reveal(), "s3");
        assert_eq!(back.addresses().collect::<Vec<_>>(), ["control.internal:7443"]);
        let two = JoinToken::new("a:1, b:2", b"der", Secret::new("s3"));
        assert_eq!(two.addresses().collect::<Vec<_>>(), ["a:1", "b:2"]);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "lcjoin1_", "lcjoin1_@@", "lcjoin1_e30", "sk-123"] {
            assert!(JoinToken::from_line(bad).is_err(), "{bad:?}");
        }
    }
}

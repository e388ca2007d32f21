//! The ticket: the signed right of one stream to one call on one node.
//!
//! A carrier brings it in TwiML, a web page as the token of its session: the [`Bearer`] says which,
//! and what else must be true of it.
//!
//! PASETO v4.public, so there is no algorithm field to get wrong. It lives 60 s, and it is
//! one-time without a question to control: only the named node takes it, that node remembers its
//! `jti` until it expires, and it refuses tickets issued before its own start (Twilio then asks
//! `resume`, which issues another).
//!
//! A ticket travels in one TwiML `<Parameter>`, whose names and values together stay under 500
//! characters (Twilio `<Stream>` page, read 2026-11-20), so claims have one-letter names.

use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use pasetors::{Public, keys::AsymmetricKeyPair, keys::Generate};
use serde::{Deserialize, Serialize};

use crate::id::{AgentName, CallId, Gen, NodeId, TenantId, WallTime};

/// The name of the TwiML parameter that carries the ticket.
pub const PARAMETER: &str = "ticket";

/// How long a ticket is good for, in seconds. TwiML to `start` takes well under a second; a
/// minute covers a slow carrier and makes the node's memory of used tickets small.
pub const LIFETIME_SECONDS: i64 = 60;

/// How far the clocks of control and relay may disagree, in seconds.
pub const SKEW_SECONDS: i64 = 5;

/// How long the token of a session is good for, in seconds. A page asks for the microphone in
/// between, and a person thinks about that.
pub const SESSION_SECONDS: i64 = 120;

/// The longest ticket, in characters. With the parameter's name it stays under Twilio's 500.
pub const TICKET_CHARS_MAX: usize = 490;

/// The longest token of a session, in characters: a ticket, an origin with the longest host name,
/// and ids of any length.
pub const SESSION_CHARS_MAX: usize = 1_536;

const IMPLICIT: &[u8] = b"linecard media ticket v1";

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who may bring it. A ticket for somebody else is refused.
    #[serde(flatten)]
    pub bearer: Bearer,
    /// The call that the stream belongs to.
    #[serde(rename = "c")]
    pub call: CallId,
    /// Whose call it is.
    #[serde(rename = "t")]
    pub tenant: TenantId,
    /// The only node that takes the ticket.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// The generation of the stream.
    #[serde(rename = "g")]
    pub generation: Gen,
    /// The agent that answers.
    #[serde(rename = "a")]
    pub agent: AgentName,
    /// The version of the agent's spec; a running call never changes it.
    #[serde(rename = "v")]
    pub agent_version: u32,
    /// 128 random bits in hexadecimal: what makes the ticket one-time.
    #[serde(rename = "j")]
    pub jti: String,
    /// When it was issued, in seconds since 1970.
    #[serde(rename = "i")]
    pub issued_at: i64,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "e")]
    pub expires_at: i64,
}

/// Who may bring a ticket, and what must be true of whoever does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "p")]
pub enum Bearer {
    /// A carrier, with the media stream of a phone call.
    #[serde(rename = "media")]
    Carrier {
        /// Twilio's id of the call; `start` must say the same.
        #[serde(rename = "s")]
        call_sid: String,
    },
    /// A web page, with a session of its own.
    #[serde(rename = "session")]
    Page {
        /// The origin of the page, as browsers state it; `None` for a program that is no page, and
        /// states none.
        #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
        origin: Option<String>,
    },
}

/// The footer: which key signed.
#[derive(Serialize, Deserialize)]
struct Footer {
    kid: String,
}

/// Why a ticket was not taken. The words are for the operator; the caller's side only sees a
/// close with code 1008.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a PASETO v4.public token with our footer and claims.
    #[error("the ticket is malformed")]
    Malformed,
    /// Signed with a key this node does not hold.
    #[error("the ticket names an unknown key")]
    UnknownKey,
    /// The signature does not match.
    #[error("the ticket's signature is wrong")]
    BadSignature,
    /// Past its end.
    #[error("the ticket has expired")]
    Expired,
    /// Issued in the future, beyond the allowed skew.
    #[error("the ticket is not valid yet")]
    NotYetValid,
}

/// A key that signs tickets. It lives in control only.
pub struct SigningKey {
    kid: String,
    secret: AsymmetricSecretKey<V4>,
    public: AsymmetricPublicKey<V4>,
}

impl SigningKey {
    /// Makes a key from the system's randomness, under a name that says nothing.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(kid: impl Into<String>) -> Result<Self, KeyError> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| KeyError::NoRandomness)?;
        Ok(Self { kid: kid.into(), secret: pair.secret, public: pair.public })
    }

    /// Takes a key back from the 64 bytes that [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// When the bytes are not an Ed25519 key with its public half.
    pub fn from_bytes(kid: impl Into<String>, bytes: &[u8]) -> Result<Self, KeyError> {
        let secret = AsymmetricSecretKey::<V4>::from(bytes).map_err(|_| KeyError::Malformed)?;
        let public = AsymmetricPublicKey::<V4>::from(bytes.get(32..).unwrap_or_default())
            .map_err(|_| KeyError::Malformed)?;
        Ok(Self { kid: kid.into(), secret, public })
    }

    /// The secret and public halves, 64 bytes, to be stored sealed.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// The half that relays hold.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey {
            kid: self.kid.clone(),
            public: base64_simd::URL_SAFE_NO_PAD.encode_to_string(self.public.as_bytes()),
        }
    }

    /// Signs the claims.
    ///
    /// # Errors
    /// [`KeyError::TooLong`] when the ticket would not fit where it goes: a TwiML parameter.
    pub fn issue(&self, claims: &Claims) -> Result<String, KeyError> {
        let body = serde_json::to_vec(claims).map_err(|_| KeyError::Malformed)?;
        let footer = serde_json::to_vec(&Footer { kid: self.kid.clone() })
            .map_err(|_| KeyError::Malformed)?;
        let token = PublicToken::sign(&self.secret, &body, Some(&footer), Some(IMPLICIT))
            .map_err(|_| KeyError::Malformed)?;
        let most = match &claims.bearer {
            Bearer::Carrier { .. } => TICKET_CHARS_MAX,
            Bearer::Page { .. } => SESSION_CHARS_MAX,
        };
        if token.len() > most {
            return Err(KeyError::TooLong { chars: token.len() });
        }
        Ok(token)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Why a key or a ticket could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    NoRandomness,
    /// The bytes are not a key.
    #[error("not an Ed25519 key")]
    Malformed,
    /// The ticket does not fit where it goes.
    #[error("a ticket of {chars} characters does not fit where it goes; shorten the ids")]
    TooLong {
        /// The length that was reached.
        chars: usize,
    },
}

/// The public half of a key, as control pushes it and as a key file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyingKey {
    /// The name that the ticket's footer gives.
    pub kid: String,
    /// 32 bytes of Ed25519 public key, base64url without padding.
    pub public: String,
}

/// The keys that a node takes tickets from.
#[derive(Debug, Default, Clone)]
pub struct KeySet {
    keys: Vec<(String, AsymmetricPublicKey<V4>)>,
}

impl KeySet {
    /// Reads a pushed or stored set of keys.
    ///
    /// # Errors
    /// When one of them is not a key.
    pub fn new(keys: &[VerifyingKey]) -> Result<Self, KeyError> {
        let read = |key: &VerifyingKey| {
            let bytes = base64_simd::URL_SAFE_NO_PAD
                .decode_to_vec(key.public.as_bytes())
                .map_err(|_| KeyError::Malformed)?;
            let public =
                AsymmetricPublicKey::<V4>::from(&bytes).map_err(|_| KeyError::Malformed)?;
            Ok((key.kid.clone(), public))
        };
        Ok(Self { keys: keys.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Whether no key has arrived yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks the signature and the life of a ticket. Whether it names this node and this call,
    /// and whether it was used before, is the node's to say.
    ///
    /// # Errors
    /// The [`Refusal`] that applies first: form, key, signature, time.
    pub fn verify(&self, ticket: &str, now: WallTime) -> Result<Claims, Refusal> {
        let token =
            UntrustedToken::<Public, V4>::try_from(ticket).map_err(|_| Refusal::Malformed)?;
        let footer: Footer =
            serde_json::from_slice(token.untrusted_footer()).map_err(|_| Refusal::Malformed)?;
        let (_, key) =
            self.keys.iter().find(|(kid, _)| *kid == footer.kid).ok_or(Refusal::UnknownKey)?;
        let trusted =
            PublicToken::verify(key, &token, Some(token.untrusted_footer()), Some(IMPLICIT))
                .map_err(|_| Refusal::BadSignature)?;
        let claims: Claims =
            serde_json::from_str(trusted.payload()).map_err(|_| Refusal::Malformed)?;
        if claims.issued_at > now.seconds() + SKEW_SECONDS {
            return Err(Refusal::NotYetValid);
        }
        if claims.expires_at + SKEW_SECONDS <= now.seconds() {
            return Err(Refusal::Expired);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: WallTime = WallTime(1_800_000_000_000_000);

    fn claims() -> Claims {
        Claims {
            bearer: Bearer::Carrier { call_sid: format!("CA{}", "0".repeat(32)) },
            call: CallId::new("c_0198f2f0a1b27c3d8e4f5a6b7c8d9e0f").unwrap(),
            tenant: TenantId::new("default").unwrap(),
            node: NodeId::new("fra-1").unwrap(),
            generation: Gen(0),
            agent: AgentName::new("front-desk").unwrap(),
            agent_version: 1,
            jti: "0123456789abcdef0123456789abcdef".into(),
            issued_at: NOW.seconds(),
            expires_at: NOW.seconds() + LIFETIME_SECONDS,
        }
    }

    fn key_and_set() -> (SigningKey, KeySet) {
        let key = SigningKey::generate("k1").unwrap();
        let set = KeySet::new(&[key.verifying()]).unwrap();
        (key, set)
    }

    #[test]
    fn a_ticket_is_read_back_and_fits_a_twiml_parameter() {
        let (key, set) = key_and_set();
        let ticket = key.issue(&claims()).unwrap();
        assert!(ticket.len() + PARAMETER.len() < 500, "{} characters", ticket.len());
        assert_eq!(set.verify(&ticket, NOW), Ok(claims()));
    }

    #[test]
    fn a_carriers_ticket_is_written_as_ever() {
        let json = serde_json::to_value(claims()).unwrap();
        assert_eq!(
            (&json["p"], &json["s"]),
            (&"media".into(), &format!("CA{}", "0".repeat(32)).into())
        );
        assert_eq!(json["e"], NOW.seconds() + LIFETIME_SECONDS);
    }

    #[test]
    fn a_sessions_token_names_its_origin_and_is_no_carriers() {
        let (key, set) = key_and_set();
        for origin in [Some("https://app.example".to_owned()), None] {
            let session = Claims { bearer: Bearer::Page { origin }, ..claims() };
            let token = key.issue(&session).unwrap();
            assert_eq!(set.verify(&token, NOW), Ok(session));
        }
        let origin = Some(format!("https://{}:65535", "o".repeat(253)));
        let mut long = Claims { bearer: Bearer::Page { origin }, ..claims() };
        long.tenant = TenantId::new("t".repeat(64)).unwrap();
        long.node = NodeId::new("n".repeat(64)).unwrap();
        long.agent = AgentName::new("a".repeat(64)).unwrap();
        let token = key.issue(&long).unwrap();
        assert_eq!(set.verify(&token, NOW), Ok(long));
    }

    #[test]
    fn a_stored_key_signs_what_the_first_one_verifies() {
        let (key, set) = key_and_set();
        let again = SigningKey::from_bytes("k1", key.to_bytes()).unwrap();
        assert_eq!(set.verify(&again.issue(&claims()).unwrap(), NOW), Ok(claims()));
    }

    #[test]
    fn a_ticket_of_another_key_is_refused() {
        let (_, set) = key_and_set();
        let (other, _) = key_and_set();
        let ticket = other.issue(&claims()).unwrap();
        assert_eq!(set.verify(&ticket, NOW), Err(Refusal::BadSignature));
        let stranger = SigningKey::generate("k2").unwrap();
        assert_eq!(set.verify(&stranger.issue(&claims()).unwrap(), NOW), Err(Refusal::UnknownKey));
    }

    #[test]
    fn a_ticket_ends_and_does_not_begin_early() {
        let (key, set) = key_and_set();
        let ticket = key.issue(&claims()).unwrap();
        let at = |seconds: i64| NOW.plus_us(seconds * 1_000_000);
        assert!(set.verify(&ticket, at(LIFETIME_SECONDS + SKEW_SECONDS - 1)).is_ok());
        let late = at(LIFETIME_SECONDS + SKEW_SECONDS);
        assert_eq!(set.verify(&ticket, late), Err(Refusal::Expired));
        assert!(set.verify(&ticket, at(-SKEW_SECONDS)).is_ok());
        assert_eq!(set.verify(&ticket, at(-SKEW_SECONDS - 1)), Err(Refusal::NotYetValid));
    }

    #[test]
    fn a_ticket_too_long_for_twiml_is_not_issued() {
        let (key, _) = key_and_set();
        let mut long = claims();
        long.tenant = TenantId::new("t".repeat(64)).unwrap();
        long.node = NodeId::new("n".repeat(64)).unwrap();
        long.agent = AgentName::new("a".repeat(64)).unwrap();
        assert!(matches!(key.issue(&long), Err(KeyError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_altered_ticket_is_taken(at in 0_usize..600, to in any::<char>()) {
            let (key, set) = key_and_set();
            let ticket = key.issue(&claims()).unwrap();
            let mut altered: Vec<char> = ticket.chars().collect();
            let at = at % altered.len();
            prop_assume!(altered[at] != to);
            altered[at] = to;
            let altered: String = altered.into_iter().collect();
            prop_assert!(set.verify(&altered, NOW).is_err());
        }
    }
}

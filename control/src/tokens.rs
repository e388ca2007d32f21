//! What control signs: tickets, which open one stream on one node, and passes, which let the
//! carrier ask `resume` about one call for as long as calls last.
//!
//! Two keys, both made once and kept sealed in the store: relays hold the public half of the
//! ticket's, nobody else needs the pass's.

use link::id::{CallId, NodeId, TenantId, WallTime};
use link::ticket::{Claims, KeyError, LIFETIME_SECONDS, Purpose, SigningKey, VerifyingKey};
use pasetors::Public;
use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::store::call::Call;
use crate::store::{Store, StoreError};

/// Why a token could not be made or a key not be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The store did not give the key.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key is none, or the token does not fit where it goes.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The carrier has not named the call yet, so nothing can be bound to it.
    #[error("the carrier has not named the call")]
    Unnamed,
}

/// What a pass says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// What it is for; a token for another purpose is refused.
    #[serde(rename = "p")]
    pub purpose: PassPurpose,
    /// The call.
    #[serde(rename = "c")]
    pub call: CallId,
    /// The carrier's id of the call; its question must say the same.
    #[serde(rename = "s")]
    pub call_sid: String,
    /// Whose call it is.
    #[serde(rename = "t")]
    pub tenant: TenantId,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "e")]
    pub expires_at: i64,
}

/// What a pass opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassPurpose {
    /// The question what follows a stream.
    #[serde(rename = "resume")]
    Resume,
}

/// A text that is no pass of ours, or one that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a pass of this control")]
pub struct BadPass;

/// The keys that tokens are signed with.
pub struct Tokens {
    tickets: SigningKey,
    pass_secret: AsymmetricSecretKey<V4>,
    pass_public: AsymmetricPublicKey<V4>,
}

impl Tokens {
    /// Takes the keys from the store, and makes them on first start.
    ///
    /// # Errors
    /// When the store fails or what it holds are no keys.
    pub async fn load(store: &Store) -> Result<Self, TokenError> {
        let tickets = store.secret_or_make::<TokenError>("ticket-key", make_key).await?;
        let passes = store.secret_or_make::<TokenError>("pass-key", make_key).await?;
        Self::from_bytes(&tickets, &passes)
    }

    fn from_bytes(tickets: &[u8], passes: &[u8]) -> Result<Self, TokenError> {
        // A key is stored as seed and public half together, 64 bytes; a shorter one is refused
        // below.
        let public = passes.get(32..).unwrap_or_default();
        Ok(Self {
            tickets: SigningKey::from_bytes(kid(tickets), tickets)?,
            pass_secret: AsymmetricSecretKey::from(passes).map_err(|_| KeyError::Malformed)?,
            pass_public: AsymmetricPublicKey::from(public).map_err(|_| KeyError::Malformed)?,
        })
    }

    /// The keys that relays check tickets with.
    #[must_use]
    pub fn verifying(&self) -> Vec<VerifyingKey> {
        // A set, although there is one: a second key can be pushed before it signs anything.
        vec![self.tickets.verifying()]
    }

    /// Signs the right of the call's present generation to open a stream on `node`.
    ///
    /// # Errors
    /// When the carrier has not named the call, or its ids are too long for TwiML.
    pub fn ticket(&self, call: &Call, node: &NodeId, now: WallTime) -> Result<String, TokenError> {
        // The ticket names the call in the carrier's words, too: a stolen one opens no other call.
        let carrier = call.carrier.as_ref().ok_or(TokenError::Unnamed)?;
        let claims = Claims {
            purpose: Purpose::Media,
            call: call.id.clone(),
            call_sid: carrier.call_sid.clone(),
            tenant: call.tenant.clone(),
            node: node.clone(),
            generation: call.generation,
            agent: call.agent.clone(),
            agent_version: call.agent_version,
            jti: random_hex()?,
            issued_at: now.seconds(),
            // The carrier connects within a second; what is left is for a slow handshake.
            expires_at: now.seconds() + LIFETIME_SECONDS,
        };
        Ok(self.tickets.issue(&claims)?)
    }

    /// Signs the right to ask about the call.
    ///
    /// # Errors
    /// When the carrier has not named the call.
    pub fn pass(&self, call: &Call, now: WallTime) -> Result<String, TokenError> {
        let carrier = call.carrier.as_ref().ok_or(TokenError::Unnamed)?;
        let pass = Pass {
            purpose: PassPurpose::Resume,
            call: call.id.clone(),
            call_sid: carrier.call_sid.clone(),
            tenant: call.tenant.clone(),
            expires_at: now.seconds() + PASS_SECONDS,
        };
        let body = serde_json::to_vec(&pass).map_err(|_| KeyError::Malformed)?;
        // Signed, not sealed: the carrier's debugger may show it, and it holds nothing that is
        // hidden.
        let token = PublicToken::sign(&self.pass_secret, &body, None, Some(IMPLICIT));
        Ok(token.map_err(|_| KeyError::Malformed)?)
    }

    /// Reads a pass that the carrier brings back.
    ///
    /// # Errors
    /// When it is not one of ours, or has expired.
    pub fn read_pass(&self, text: &str, now: WallTime) -> Result<Pass, BadPass> {
        // Every refusal is the same one: whoever tries learns nothing from it.
        let token = UntrustedToken::<Public, V4>::try_from(text).map_err(|_| BadPass)?;
        let trusted = PublicToken::verify(&self.pass_public, &token, None, Some(IMPLICIT))
            .map_err(|_| BadPass)?;
        let pass: Pass = serde_json::from_str(trusted.payload()).map_err(|_| BadPass)?;
        if pass.expires_at <= now.seconds() { Err(BadPass) } else { Ok(pass) }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

fn make_key() -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let key = SigningKey::generate("new")?;
    Ok(Zeroizing::new(key.to_bytes().to_vec()))
}

/// The ticket key's name: of its public half, so that several controls give it the same.
fn kid(key: &[u8]) -> String {
    let digest = Sha256::digest(key.get(32..).unwrap_or_default());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn random_hex() -> Result<String, KeyError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What keeps a pass from being taken for any other token.
const IMPLICIT: &[u8] = b"linecard resume pass v1";

/// The longest call of an agent spec, and an hour for what comes around it.
const PASS_SECONDS: i64 = 86_400 + 3_600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::call::{CallState, NewCall};
    use crate::store::call::{CarrierIds, Direction, Number};
    use link::id::{AgentName, Gen};
    use link::ticket::KeySet;

    const NOW: WallTime = WallTime(1_795_514_400_000_000);

    fn tokens() -> Tokens {
        Tokens::from_bytes(&make_key().unwrap(), &make_key().unwrap()).unwrap()
    }

    fn call() -> Call {
        let new = NewCall {
            id: CallId::new("c_0198f2f0a1b27c3d8e4f5a6b7c8d9e0f").unwrap(),
            tenant: TenantId::new("default").unwrap(),
            carrier: Some(CarrierIds {
                account_sid: "AC1".into(),
                call_sid: format!("CA{}", "0".repeat(32)),
            }),
            direction: Direction::Inbound,
            from: Number("+15550100".into()),
            to: Number("+15550101".into()),
            agent: AgentName::new("front-desk").unwrap(),
            agent_version: 3,
        };
        Call {
            id: new.id,
            tenant: new.tenant,
            carrier: new.carrier,
            direction: new.direction,
            from: new.from,
            to: new.to,
            agent: new.agent,
            agent_version: new.agent_version,
            generation: Gen(2),
            node: None,
            state: CallState::Starting,
            end_reason: None,
            end_detail: None,
            transfer_to: None,
            detach_reason: None,
            carrier_status: None,
            carrier_seq: None,
            resumes: Vec::new(),
            created_at: NOW,
            answered_at: None,
            detached_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn a_ticket_names_the_call_its_generation_and_one_node() {
        let tokens = tokens();
        let node = NodeId::new("fra-1").unwrap();
        let ticket = tokens.ticket(&call(), &node, NOW).unwrap();
        let set = KeySet::new(&tokens.verifying()).unwrap();
        let claims = set.verify(&ticket, NOW).unwrap();
        assert_eq!((claims.node, claims.generation), (node, Gen(2)));
        assert_eq!((claims.call, claims.agent_version), (call().id, 3));
        let again = tokens.ticket(&call(), &claims_node(), NOW).unwrap();
        assert_ne!(ticket, again, "each ticket has its own jti");
    }

    fn claims_node() -> NodeId {
        NodeId::new("fra-1").unwrap()
    }

    #[test]
    fn a_pass_is_read_back_until_it_expires() {
        let tokens = tokens();
        let text = tokens.pass(&call(), NOW).unwrap();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        assert_eq!(tokens.read_pass(&text, NOW).unwrap().call, call().id);
        let last = NOW.plus_us(PASS_SECONDS * 1_000_000);
        assert_eq!(tokens.read_pass(&text, last), Err(BadPass));
    }

    #[test]
    fn a_ticket_is_no_pass_and_a_pass_of_another_key_is_none() {
        let tokens = tokens();
        let ticket = tokens.ticket(&call(), &claims_node(), NOW).unwrap();
        assert_eq!(tokens.read_pass(&ticket, NOW), Err(BadPass));
        let other = Tokens::from_bytes(&make_key().unwrap(), &make_key().unwrap()).unwrap();
        assert_eq!(tokens.read_pass(&other.pass(&call(), NOW).unwrap(), NOW), Err(BadPass));
        assert_eq!(tokens.read_pass("", NOW), Err(BadPass));
    }
}

//! What control signs: tickets, which open one stream on one node, passes, which let the carrier
//! ask `resume` about one call for as long as calls last, and tickets of event streams ([`watch`]).
//!
//! Two rings of keys, kept sealed in the store, which turn every 24 h (`ring`) or at once after a
//! leak ([`rotation`]): relays hold the public halves of the tickets' ring, nobody else needs the
//! passes'.

use std::sync::Arc;

use link::id::{AgentName, CallId, Gen, NodeId, TenantId, WallTime};
use link::ticket::{
    Bearer, Claims, KeyError, LIFETIME_SECONDS, SESSION_SECONDS, SigningKey, VerifyingKey,
};
use pasetors::Public;
use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use self::ring::{Ring, Turn};
use self::watch::WatchTicket;
use crate::store::call::Call;
use crate::store::{RingName, RingPlace, SealedKey, Store, StoreError};

mod ring;
pub mod rotation;
pub mod watch;

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
    /// Others add keys at the same time, again and again.
    #[error("other instances add keys at the same time; try again")]
    Contended,
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
    /// The stream that it was given out with; `None` in the pass of an older release. With it the
    /// call goes on although nobody can be asked about it.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastStream>,
}

impl Pass {
    /// The generation that was given out with it; `None` in the pass of an older release.
    #[must_use]
    pub fn generation(&self) -> Option<Gen> {
        self.last.as_ref().map(|last| last.generation)
    }

    /// The node whose stream it was given out with.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.last.as_ref().and_then(|last| last.node.as_ref())
    }
}

/// The stream that a pass was given out with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStream {
    /// Its generation.
    #[serde(rename = "g")]
    pub generation: Gen,
    /// The agent that answers the call.
    #[serde(rename = "a")]
    pub agent: AgentName,
    /// The version of its spec.
    #[serde(rename = "v")]
    pub version: u32,
    /// The node that it was opened at: where the call comes from when it asks, and is not sent to
    /// again while there is another.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// What a pass opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassPurpose {
    /// The question what follows a stream.
    #[serde(rename = "resume")]
    Resume,
}

/// A text that is no token of ours, or one that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this control")]
pub struct BadPass;

/// The keys that tokens are signed with.
#[derive(Debug)]
pub struct Tokens {
    rings: tokio::sync::watch::Sender<Arc<Rings>>,
}

/// Both rings at one moment.
#[derive(Debug)]
pub(crate) struct Rings {
    tickets: Ring<SigningKey>,
    passes: Ring<PassKey>,
}

/// Wakes whoever must tell others of new keys.
pub(crate) type KeyChanges = tokio::sync::watch::Receiver<Arc<Rings>>;

impl Tokens {
    /// Takes the keys from the store, and makes them on first start.
    ///
    /// # Errors
    /// When the store fails or what it holds are no keys.
    pub async fn load(store: &Store, now: WallTime) -> Result<Self, TokenError> {
        let stored = turned(store, now).await?;
        let rings = Arc::new(Rings::open(store, &stored)?);
        Ok(Self { rings: tokio::sync::watch::Sender::new(rings) })
    }

    /// Lets the rings turn, and takes what another instance has turned.
    ///
    /// # Errors
    /// When the store fails or what it holds are no keys; the keys then stay as they were.
    pub async fn refresh(&self, store: &Store, now: WallTime) -> Result<(), TokenError> {
        let stored = turned(store, now).await?;
        let is_news = {
            let rings = self.rings.borrow();
            let known = rings.tickets.places().chain(rings.passes.places());
            !known.eq(stored.iter().map(|key| key.place))
        };
        if is_news {
            self.rings.send_replace(Arc::new(Rings::open(store, &stored)?));
        }
        Ok(())
    }

    /// The keys that relays check tickets with: those that sign later, too.
    #[must_use]
    pub fn verifying(&self) -> Vec<VerifyingKey> {
        self.rings.borrow().tickets.all().map(SigningKey::verifying).collect()
    }

    /// Changes whenever [`Self::verifying`] may have.
    pub(crate) fn changes(&self) -> KeyChanges {
        self.rings.subscribe()
    }

    /// Signs the right of the call's present generation to open a stream on `node`.
    ///
    /// # Errors
    /// When the carrier has not named the call, or its ids are too long for TwiML.
    pub fn ticket(&self, call: &Call, node: &NodeId, now: WallTime) -> Result<String, TokenError> {
        // The ticket names the call in the carrier's words, too: a stolen one opens no other call.
        let carrier = call.carrier.as_ref().ok_or(TokenError::Unnamed)?;
        let bearer = Bearer::Carrier { call_sid: carrier.call_sid.clone() };
        // The carrier connects within a second; what is left is for a slow handshake.
        let expires_at = now.seconds() + LIFETIME_SECONDS;
        self.issue(bearer, call, node, (now, expires_at))
    }

    /// Signs the right of a page of this origin to open the call's stream on `node`; `None` is a
    /// program that is no page.
    ///
    /// # Errors
    /// When the ids are too long.
    pub fn session(
        &self,
        call: &Call,
        node: &NodeId,
        origin: Option<String>,
        now: WallTime,
    ) -> Result<String, TokenError> {
        let expires_at = now.seconds() + SESSION_SECONDS;
        self.issue(Bearer::Page { origin }, call, node, (now, expires_at))
    }

    fn issue(
        &self,
        bearer: Bearer,
        call: &Call,
        node: &NodeId,
        (now, expires_at): (WallTime, i64),
    ) -> Result<String, TokenError> {
        let claims = Claims {
            bearer,
            call: call.id.clone(),
            tenant: call.tenant.clone(),
            node: node.clone(),
            generation: call.generation,
            agent: call.agent.clone(),
            agent_version: call.agent_version,
            jti: random_hex()?,
            issued_at: now.seconds(),
            expires_at,
        };
        Ok(self.rings.borrow().tickets.signing(now).issue(&claims)?)
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
            last: Some(LastStream {
                generation: call.generation,
                agent: call.agent.clone(),
                version: call.agent_version,
                node: call.node.clone(),
            }),
        };
        self.sign(&pass, IMPLICIT, now)
    }

    /// Reads a pass that the carrier brings back.
    ///
    /// # Errors
    /// When it is not one of ours, or has expired.
    pub fn read_pass(&self, text: &str, now: WallTime) -> Result<Pass, BadPass> {
        let pass: Pass = self.read(text, IMPLICIT)?;
        if pass.expires_at <= now.seconds() { Err(BadPass) } else { Ok(pass) }
    }

    /// Signs the right to watch an event stream.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn watch_ticket(&self, ticket: &WatchTicket, now: WallTime) -> Result<String, TokenError> {
        self.sign(ticket, watch::IMPLICIT, now)
    }

    /// Reads a ticket of an event stream, an expired one, too: its bearer should hear that.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn read_watch_ticket(&self, text: &str) -> Result<WatchTicket, BadPass> {
        self.read(text, watch::IMPLICIT)
    }

    /// Signs what only control reads. Signed, not sealed: it may be seen, and holds nothing that
    /// is hidden.
    fn sign(
        &self,
        claims: &impl Serialize,
        implicit: &[u8],
        now: WallTime,
    ) -> Result<String, TokenError> {
        let body = serde_json::to_vec(claims).map_err(|_| KeyError::Malformed)?;
        let rings = self.rings.borrow();
        let key = rings.passes.signing(now);
        let token = PublicToken::sign(&key.secret, &body, None, Some(implicit));
        Ok(token.map_err(|_| KeyError::Malformed)?)
    }

    fn read<T: DeserializeOwned>(&self, text: &str, implicit: &[u8]) -> Result<T, BadPass> {
        // Every refusal is the same one: whoever tries learns nothing from it.
        let token = UntrustedToken::<Public, V4>::try_from(text).map_err(|_| BadPass)?;
        let rings = self.rings.borrow();
        // No name of the key travels with it: there are four at most, and most often the first
        // fits.
        let trusted = rings
            .passes
            .all()
            .find_map(|key| PublicToken::verify(&key.public, &token, None, Some(implicit)).ok())
            .ok_or(BadPass)?;
        serde_json::from_str(trusted.payload()).map_err(|_| BadPass)
    }
}

impl Rings {
    fn open(store: &Store, stored: &[SealedKey]) -> Result<Self, TokenError> {
        let mut tickets = Vec::new();
        let mut passes = Vec::new();
        for sealed in stored {
            let bytes = store.open_signing_key(sealed)?;
            let place = sealed.place;
            match place.ring {
                RingName::Ticket => {
                    tickets.push((place, SigningKey::from_bytes(kid(&bytes), &bytes)?));
                }
                RingName::Pass => passes.push((place, PassKey::from_bytes(&bytes)?)),
            }
        }
        let tickets = Ring::new(tickets).ok_or(KeyError::Malformed)?;
        let passes = Ring::new(passes).ok_or(KeyError::Malformed)?;
        Ok(Self { tickets, passes })
    }
}

/// A key of the passes' ring.
struct PassKey {
    secret: AsymmetricSecretKey<V4>,
    public: AsymmetricPublicKey<V4>,
}

impl PassKey {
    fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        // A key is stored as seed and public half together, 64 bytes; a shorter one is refused.
        let public = bytes.get(32..).unwrap_or_default();
        Ok(Self {
            secret: AsymmetricSecretKey::from(bytes).map_err(|_| KeyError::Malformed)?,
            public: AsymmetricPublicKey::from(public).map_err(|_| KeyError::Malformed)?,
        })
    }
}

impl std::fmt::Debug for PassKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassKey(***)")
    }
}

/// The stored keys, after both rings have turned as far as they should.
async fn turned(store: &Store, now: WallTime) -> Result<Vec<SealedKey>, TokenError> {
    let mut stored = store.signing_keys().await?;
    let mut has_turned = false;
    for name in [RingName::Ticket, RingName::Pass] {
        let places: Vec<_> =
            stored.iter().map(|key| key.place).filter(|place| place.ring == name).collect();
        match ring::turn(name, &places, now) {
            Turn::Rest => continue,
            Turn::Make(place) => {
                store.add_signing_key(place, &key_for(store, place).await?).await?
            }
            Turn::Drop(through) => store.drop_signing_keys(name, through).await?,
        }
        has_turned = true;
    }
    if has_turned {
        // Of several instances one has made the next key; what counts is what the table keeps.
        stored = store.signing_keys().await?;
    }
    Ok(stored)
}

/// The bytes of a new key. The first one of each ring is the one that earlier releases sign with,
/// so that both read each other's tokens while one replaces the other.
async fn key_for(store: &Store, place: RingPlace) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    if place.number > 1 {
        return make_key();
    }
    let name = match place.ring {
        RingName::Ticket => "ticket-key",
        RingName::Pass => "pass-key",
    };
    store.secret_or_make::<TokenError>(name, make_key).await
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

    /// A ring of each, whose second keys sign an hour later.
    fn tokens() -> Tokens {
        let place = |ring, number| RingPlace {
            ring,
            number,
            signs_at: NOW.plus_us((number - 1) * 3_600_000_000),
        };
        let key = |number| {
            let bytes = make_key().unwrap();
            let key = SigningKey::from_bytes(kid(&bytes), &bytes).unwrap();
            (place(RingName::Ticket, number), key)
        };
        let pass = |number| {
            let key = PassKey::from_bytes(&make_key().unwrap()).unwrap();
            (place(RingName::Pass, number), key)
        };
        let tickets = Ring::new(vec![key(1), key(2)]).unwrap();
        let passes = Ring::new(vec![pass(1), pass(2)]).unwrap();
        let rings = Arc::new(Rings { tickets, passes });
        Tokens { rings: tokio::sync::watch::Sender::new(rings) }
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
            run: None,
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
            run: new.run,
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
            resume_token: None,
            answered_by: None,
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
        let other = self::tokens();
        assert_eq!(tokens.read_pass(&other.pass(&call(), NOW).unwrap(), NOW), Err(BadPass));
        assert_eq!(tokens.read_pass("", NOW), Err(BadPass));
    }

    #[test]
    fn what_the_key_before_has_signed_is_read_on() {
        let tokens = tokens();
        let (ticket, pass) =
            (tokens.ticket(&call(), &claims_node(), NOW), tokens.pass(&call(), NOW).unwrap());
        let later = NOW.plus_us(3_600_000_000);
        let next = tokens.ticket(&call(), &claims_node(), later).unwrap();
        let keys = tokens.verifying();
        assert_eq!(keys.len(), 2, "the one that signs later is known before");
        let only = |key: &VerifyingKey| KeySet::new(std::slice::from_ref(key)).unwrap();
        assert!(only(&keys[1]).verify(&ticket.unwrap(), NOW).is_ok());
        assert!(only(&keys[0]).verify(&next, later).is_ok());
        assert_eq!(tokens.read_pass(&pass, later).unwrap().call, call().id);
        assert_ne!(tokens.pass(&call(), later).unwrap(), pass);
    }

    #[test]
    fn a_ticket_of_an_event_stream_is_read_back_and_no_pass_is_one() {
        let tokens = tokens();
        let ticket = WatchTicket {
            tenant: TenantId::default(),
            what: watch::Watched::Call(call().id),
            origin: "https://app.example".into(),
            key: "operator-1".into(),
            expires_at: NOW.seconds() + 60,
        };
        let text = tokens.watch_ticket(&ticket, NOW).unwrap();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        assert_eq!(tokens.read_watch_ticket(&text), Ok(ticket));
        assert_eq!(tokens.read_pass(&text, NOW), Err(BadPass));
        let pass = tokens.pass(&call(), NOW).unwrap();
        assert_eq!(tokens.read_watch_ticket(&pass), Err(BadPass));
    }
}

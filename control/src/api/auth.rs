//! Who asks: `Authorization: Bearer KEY`.
//!
//! A key is one of its tenant's, from the database ([`crate::access`]), or one of the operator's,
//! from the environment, which opens everything of the tenant `default` and what concerns the whole
//! installation. What a key may do is checked here, for every route alike.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::future::Either;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use link::id::TenantId;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use warp::path::FullPath;
use warp::{Filter, Rejection};

use crate::access::address::Place;
use crate::access::key::KeyId;
use crate::access::known::Closed;
use crate::access::rates::{PLACE_PER_SECOND, REFUSED_COSTS, TENANT_PER_SECOND, Who, key_share};
use crate::access::scope::{Scope, Scopes};
use crate::clock;
use crate::error::Problem;
use crate::http::{cors, with};
use crate::plane::{Plane, tenant};
use crate::store::StoredKey;

/// The operator's keys, as digests. Without any, nobody is the operator over HTTP.
#[derive(Debug, Clone, Default)]
pub struct OperatorKeys(Vec<[u8; 32]>);

impl OperatorKeys {
    /// Reads keys that are separated by commas; `None` when there is none, or one is shorter than
    /// 24 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let keys: Vec<_> = text.split(',').map(str::trim).filter(|key| !key.is_empty()).collect();
        // Anything else would not survive a header.
        let is_good =
            |key: &&str| key.len() >= KEY_CHARS_MIN && key.bytes().all(|b| b.is_ascii_graphic());
        let all_good = !keys.is_empty() && keys.iter().all(is_good);
        all_good.then(|| Self(keys.into_iter().map(digest).collect()))
    }

    /// The name of this key, if it is one of them. Takes the same time whichever it is.
    #[must_use]
    pub fn open(&self, key: &str) -> Option<KeyId> {
        // Digests have one length, so that the comparison tells nothing of the key's.
        let given = digest(key);
        let (mut found, mut place) = (Choice::from(0), 0_u32);
        for (n, known) in (0..).zip(&self.0) {
            let is_it = known.ct_eq(&given);
            place.conditional_assign(&n, is_it);
            found |= is_it;
        }
        if !bool::from(found) {
            return None;
        }
        Some(operator(place))
    }

    /// Whether one of the keys has this name.
    #[must_use]
    pub fn has(&self, name: &KeyId) -> bool {
        (0..).zip(&self.0).any(|(place, _)| operator(place) == *name)
    }
}

/// The name of the operator's key at a place. Not of its content: a name in a log must not help to
/// guess the key.
fn operator(place: u32) -> KeyId {
    KeyId::new(&format!("operator-{}", place + 1)).expect("letters and digits are a name")
}

/// A request whose key was good: who asks, and the plane that answers.
#[derive(Debug, Clone)]
pub struct Client {
    /// What answers.
    pub plane: Arc<Plane>,
    /// Whose key it is: all that the request may see.
    pub tenant: TenantId,
    /// The key's name, for the audit log.
    pub key: KeyId,
    /// What the key may do. The route's own right was checked.
    pub scopes: Scopes,
    /// Where the key comes from.
    pub holder: Holder,
}

/// Who holds a key.
#[derive(Debug, Clone)]
pub enum Holder {
    /// Whoever runs this installation.
    Operator,
    /// A tenant, by this key.
    Tenant(Arc<StoredKey>),
    /// Nobody: a page of the compatible routes, which ask for no key.
    Page,
}

impl Client {
    /// Lets only the operator pass: what is behind it concerns every tenant.
    ///
    /// # Errors
    /// A problem for everybody else.
    pub fn must_be_operator(&self) -> Result<(), Problem> {
        match self.holder {
            Holder::Operator => Ok(()),
            Holder::Tenant(_) | Holder::Page => {
                let detail = "This concerns the whole installation. It takes one of \
                    CONTROL_API_KEYS.";
                Err(Problem::new(StatusCode::FORBIDDEN, "operator_only", detail))
            }
        }
    }

    /// Lets the operator's tenant pass, whose keys have scopes: what is behind it is the operator's, and
    /// nobody else's.
    ///
    /// # Errors
    /// A problem for every other tenant.
    pub fn must_be_of_operator(&self) -> Result<(), Problem> {
        if self.tenant == tenant() {
            return Ok(());
        }
        let detail = "This is the operator's. It takes one of CONTROL_API_KEYS, or a key of the \
            tenant `default`.";
        Err(Problem::new(StatusCode::FORBIDDEN, "operator_only", detail))
    }

    /// Resolves when the key is good no more, within five seconds of its end: what goes on longer
    /// than a request ends then.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        match &self.holder {
            // It stays as long as the process.
            Holder::Operator | Holder::Page => Either::Left(std::future::pending()),
            Holder::Tenant(key) => Either::Right(self.plane.keys.gone(key)),
        }
    }

    /// Counts the request by its key and its tenant. The operator's are not counted: by them one
    /// gets in when others ask too much.
    fn count(&self) -> Result<(), Problem> {
        let Holder::Tenant(key) = &self.holder else { return Ok(()) };
        let tenant = self.plane.tenants.get(&self.tenant);
        let limit = tenant.and_then(|tenant| tenant.limits.requests_second_max);
        let limit = limit.and_then(NonZeroU32::new).unwrap_or(TENANT_PER_SECOND);
        let rates = &self.plane.rates;
        rates.take(Who::Key(key.id.clone()), key_share(limit))?;
        rates.take(Who::Tenant(self.tenant.clone()), limit)
    }

    /// Whether the page that asks may. What is no browser says no origin.
    fn check_origin(&self, origin: Option<&HeaderValue>) -> Result<(), Problem> {
        let Some(origin) = origin else { return Ok(()) };
        let origin = origin.to_str().map_err(|_| cors::refused())?;
        let is_ours = origin == self.plane.public.as_str();
        if is_ours || self.plane.tenants.may_ask(&self.tenant, origin) {
            return Ok(());
        }
        Err(cors::refused())
    }

    /// Whether the key may do what the request asks for.
    fn check(&self, method: &Method, path: &str) -> Result<(), Problem> {
        let needed = Scope::of(method, path);
        let may = match needed {
            Some(needed) => self.scopes.may(needed),
            None => self.scopes == Scopes::All,
        };
        if may {
            return Ok(());
        }
        let needed = needed.map_or_else(|| "*".to_owned(), |needed| needed.to_string());
        let detail =
            format!("This key lacks the scope `{needed}`. POST /v1/keys makes one that has it.");
        Err(Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail))
    }
}

/// What of a request says whether it may be answered.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    method: Method,
    path: String,
    pub(super) headers: HeaderMap,
    peer: Option<SocketAddr>,
}

/// Reads it.
pub(super) fn asked() -> impl Filter<Extract = (Asked,), Error = Infallible> + Clone {
    warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<SocketAddr>())
        .map(|method, path: FullPath, headers, peer| Asked {
            method,
            path: path.as_str().to_owned(),
            headers,
            peer,
        })
}

/// Lets requests with a key pass that may do what they ask for.
pub fn keyed(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Client,), Error = Rejection> + Clone + use<> {
    asked().and(with(plane)).and_then(|asked: Asked, plane: Arc<Plane>| async move {
        Ok::<_, Rejection>(enter(plane, &asked).await?)
    })
}

/// Who asks, if they may ask this.
///
/// # Errors
/// Why not.
pub(super) async fn enter(plane: Arc<Plane>, asked: &Asked) -> Result<Client, Problem> {
    let place = arrive(&plane, asked)?;
    let client = match client(Arc::clone(&plane), &asked.headers).await {
        Ok(client) => client,
        Err(problem) => {
            // Only a refused key: a database that is away is not its client's doing.
            if let (Some(place), StatusCode::UNAUTHORIZED) = (place, problem.status) {
                plane.rates.take_many(Who::Place(place), PLACE_PER_SECOND, REFUSED_COSTS)?;
            }
            return Err(problem);
        }
    };
    client.count()?;
    client.check_origin(asked.headers.get(header::ORIGIN))?;
    client.check(&asked.method, &asked.path)?;
    Ok(client)
}

/// Counts a request by where it comes from; that is `None` for what runs beside control.
///
/// # Errors
/// When there were too many.
pub(super) fn arrive(plane: &Plane, asked: &Asked) -> Result<Option<Place>, Problem> {
    // Without a peer there was no connection: nothing came from outside.
    let peer = asked.peer.map(|peer| peer.ip());
    let place = peer.and_then(|peer| plane.proxies.client(peer, &asked.headers));
    if let Some(place) = place {
        plane.rates.take(Who::Place(place), PLACE_PER_SECOND)?;
    }
    Ok(place)
}

/// Who shows these headers.
async fn client(plane: Arc<Plane>, headers: &HeaderMap) -> Result<Client, Problem> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let text = header.and_then(bearer).ok_or(Closed::Unknown)?;
    if let Some(key) = plane.operators.open(text) {
        let (tenant, scopes, holder) = (tenant(), Scopes::All, Holder::Operator);
        return Ok(Client { plane, tenant, key, scopes, holder });
    }
    let known = plane.keys.open(text, clock::wall()).await?;
    Ok(Client {
        tenant: known.tenant.clone(),
        key: known.id.clone(),
        scopes: known.scopes.clone(),
        holder: Holder::Tenant(known),
        plane,
    })
}

impl From<Closed> for Problem {
    fn from(closed: Closed) -> Self {
        let (code, detail) = match closed {
            Closed::Unknown => (
                "api_key_refused",
                "Send `Authorization: Bearer KEY` with a key of POST /v1/keys, or one of \
                 CONTROL_API_KEYS.",
            ),
            Closed::Expired => ("api_key_expired", "This key has expired; POST /v1/keys."),
            Closed::Revoked => ("api_key_revoked", "This key was revoked; POST /v1/keys."),
            Closed::Store(error) => return Self::store(&error),
        };
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// 24 characters of a generator are beyond guessing.
const KEY_CHARS_MIN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_keys_opens_by_its_own_name_and_nothing_else_does() {
        let (a, b) = ("a".repeat(24), "b".repeat(30));
        let keys = OperatorKeys::parse(&format!("{a}, {b},")).unwrap();
        let name = |key: &str| keys.open(key).map(|id| id.to_string());
        assert_eq!(name(&a).as_deref(), Some("operator-1"));
        assert_eq!(name(&b).as_deref(), Some("operator-2"));
        for wrong in ["", "a", &"a".repeat(25), &format!("{a},{b}")] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert!(!format!("{keys:?}").contains(&a));
    }

    #[test]
    fn short_and_missing_keys_are_refused() {
        for bad in ["", ",", "short", &format!("{},short", "a".repeat(24))] {
            assert!(OperatorKeys::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_no_other_is() {
        assert_eq!(bearer("bearer  k"), Some("k"));
        assert_eq!(bearer("Basic k"), None);
        assert_eq!(bearer("k"), None);
    }
}

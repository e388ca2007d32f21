//! API keys: `Authorization: Bearer KEY`. Only digests of keys are kept.

use std::sync::Arc;

use http::StatusCode;
use link::id::TenantId;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use warp::{Filter, Rejection};

use crate::error::Problem;
use crate::http::with;
use crate::plane::{Plane, tenant};

/// The keys that open the API, as digests.
#[derive(Debug, Clone)]
pub struct ApiKeys(Vec<[u8; 32]>);

impl ApiKeys {
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

    /// Whether this is one of the keys. Takes the same time whichever it is.
    #[must_use]
    pub fn open(&self, key: &str) -> bool {
        // Digests have one length, so that the comparison tells nothing of the key's.
        let given = digest(key);
        let found =
            self.0.iter().map(|known| known.ct_eq(&given)).fold(Choice::from(0), |a, b| a | b);
        bool::from(found)
    }
}

/// A request whose key was good: who asks, and the plane that answers.
#[derive(Debug, Clone)]
pub struct Client {
    /// What answers.
    pub plane: Arc<Plane>,
    /// Whose key it is: all that the request may see.
    pub tenant: TenantId,
}

/// Lets requests with a key pass.
pub fn keyed(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Client,), Error = Rejection> + Clone + use<> {
    warp::header::optional::<String>("authorization").and(with(plane)).and_then(
        |header: Option<String>, plane: Arc<Plane>| async move {
            let key = header.as_deref().and_then(bearer);
            if key.is_some_and(|key| plane.api_keys.open(key)) {
                return Ok(Client { plane, tenant: tenant() });
            }
            let detail = "Send `Authorization: Bearer KEY` with one of CONTROL_API_KEYS.";
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "api_key_refused", detail);
            Err(Rejection::from(problem))
        },
    )
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
    fn each_of_several_keys_opens_and_nothing_else_does() {
        let (a, b) = ("a".repeat(24), "b".repeat(30));
        let keys = ApiKeys::parse(&format!("{a}, {b},")).unwrap();
        assert!(keys.open(&a) && keys.open(&b));
        for wrong in ["", "a", &"a".repeat(25), &format!("{a},{b}")] {
            assert!(!keys.open(wrong), "{wrong}");
        }
        assert!(!format!("{keys:?}").contains(&a));
    }

    #[test]
    fn short_and_missing_keys_are_refused() {
        for bad in ["", ",", "short", &format!("{},short", "a".repeat(24))] {
            assert!(ApiKeys::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_no_other_is() {
        assert_eq!(bearer("bearer  k"), Some("k"));
        assert_eq!(bearer("Basic k"), None);
        assert_eq!(bearer("k"), None);
    }
}

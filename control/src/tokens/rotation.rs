//! Keys that must go at once: somebody else may have them.
//!
//! A ring turns by itself (`ring.rs`) and keeps what a key has signed good. Here it does not: the
//! next key signs from now on, and nothing that was signed before is read any more, on any instance
//! or relay, within five seconds ([`crate::access::keep_fresh`]).

use link::id::WallTime;

use super::{TokenError, make_key};
use crate::access::key::KeyId;
use crate::store::{RingName, RingPlace, Store};

/// Lets the next key of a ring sign from now on, and drops all keys before it; says which one it
/// is.
///
/// # Errors
/// When the store fails, or instances make keys faster than this does.
pub async fn rotate(
    store: &Store,
    ring: RingName,
    actor: &KeyId,
    now: WallTime,
) -> Result<RingPlace, TokenError> {
    for _ in 0..ATTEMPTS {
        let stored = store.signing_keys().await?;
        let numbers = stored.iter().map(|key| key.place).filter(|place| place.ring == ring);
        // Never the first one: that is the key of the release before rings.
        let last = numbers.map(|place| place.number).max().unwrap_or(1);
        let place = RingPlace { ring, number: last + 1, signs_at: now };
        // An instance may have let the ring turn in between.
        if store.replace_signing_keys(place, &make_key()?, actor).await? {
            return Ok(place);
        }
    }
    Err(TokenError::Contended)
}

/// A ring turns once a day, so that the second attempt is the last.
const ATTEMPTS: u32 = 5;

//! What an API key looks like: `lc_live_ID_SECRET_SUM`.
//!
//! The id names the key in lists and logs and is no secret. The secret is 256 random bits; what is
//! stored of it is a keyed hash. The sum lets a scanner of leaked secrets tell a key from noise,
//! and lets control refuse noise without asking the database.

use hmac::{Hmac, KeyInit as _, Mac as _};
use link::secret::Secret;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::store::{Store, StoreError};

/// The name of a key: shown in lists, in the audit log, in logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// Takes a text as a key's name; `None` when it is not 1 to 40 letters, digits and `-`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_name = (1..=40).contains(&text.len()) && text.bytes().all(is_plain);
        is_name.then(|| Self(text.into()))
    }

    /// The name as it is written everywhere.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key with its secret: made once, shown once, and read from the requests that carry it.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its name.
    pub id: KeyId,
    secret: Secret,
}

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct NoRandomness;

impl ApiKey {
    /// Makes a key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        let id = KeyId(random_text(ID_CHARS)?.as_str().into());
        Ok(Self { id, secret: Secret::new(random_text(SECRET_CHARS)?.as_str()) })
    }

    /// Reads a key's text; `None` when it is not one, which says nothing of whether there is such
    /// a key.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (before, sum) = text.rsplit_once('_')?;
        let (id, secret) = before.strip_prefix(PREFIX)?.split_once('_')?;
        let is_key = id.len() == ID_CHARS
            && secret.len() == SECRET_CHARS
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && sum == checksum(before);
        if !is_key {
            return None;
        }
        Some(Self { id: KeyId::new(id)?, secret: Secret::new(secret) })
    }

    /// The key's text, for the one moment at which it is shown.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        let before = Zeroizing::new(format!("{PREFIX}{}_{}", self.id, self.secret.reveal()));
        let sum = checksum(&before);
        Secret::new(format!("{}_{sum}", before.as_str()))
    }
}

/// What is stored of a key's secret.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Takes a hash from its column; `None` when it is not 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The hash as its column holds it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are hashes of one secret. Takes the same time for every other one.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(***)")
    }
}

/// What keys are hashed with, so that a copy of the table is worth nothing without the sealing
/// key. Made once and kept sealed in the store.
pub struct Pepper(Zeroizing<Vec<u8>>);

impl Pepper {
    /// Takes it from the store, and makes it on first start.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        let make = || {
            let mut bytes = Zeroizing::new(vec![0; 32]);
            getrandom::fill(bytes.as_mut_slice()).map_err(|_| crate::keys::KeyError::Random)?;
            Ok::<_, StoreError>(bytes)
        };
        Ok(Self(store.secret_or_make("api-key-pepper", make).await?))
    }

    /// The hash of a key's secret. The id is part of it: a hash that was copied to another row
    /// opens nothing.
    #[must_use]
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(key.id.as_str().as_bytes());
        mac.update(b"_");
        mac.update(key.secret.reveal().as_bytes());
        KeyHash(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper(***)")
    }
}

/// So many random letters and digits.
fn random_text(chars: usize) -> Result<Zeroizing<String>, NoRandomness> {
    let mut text = Zeroizing::new(String::with_capacity(chars));
    let mut bytes = Zeroizing::new([0; 64]);
    while text.len() < chars {
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
        // Bytes from 248 on would make the first letters likelier than the rest.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let letters = fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        let missing = chars - text.len();
        text.extend(letters.take(missing));
    }
    Ok(text)
}

/// CRC-32 (IEEE 802.3) as eight hexadecimal digits.
fn checksum(text: &str) -> String {
    let crc = text.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    });
    format!("{:08x}", !crc)
}

/// What scanners of leaked secrets look for.
const PREFIX: &str = "lc_live_";

/// 71 bits: no two keys share one.
const ID_CHARS: usize = 12;

/// 256 bits.
const SECRET_CHARS: usize = 43;

const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    fn pepper(byte: u8) -> Pepper {
        Pepper(Zeroizing::new(vec![byte; 32]))
    }

    #[test]
    fn the_sum_is_crc_32() {
        assert_eq!(checksum("123456789"), "cbf43926");
    }

    #[test]
    fn a_key_is_read_back_and_no_altered_one_is() {
        let key = ApiKey::generate().unwrap();
        let text = key.to_text();
        let text = text.reveal();
        assert!(text.starts_with("lc_live_") && text.len() == 73, "{} characters", text.len());
        let read = ApiKey::read(text).unwrap();
        assert_eq!((read.id, read.secret.reveal()), (key.id, key.secret.reveal()));
        for at in 0..text.len() {
            let mut altered = text.as_bytes().to_vec();
            altered[at] = if altered[at] == b'x' { b'y' } else { b'x' };
            assert!(ApiKey::read(std::str::from_utf8(&altered).unwrap()).is_none(), "at {at}");
        }
        for bad in ["", "_", "lc_live_", "lc_live__", "lc_live_a_b_c", &text[1..]] {
            assert!(ApiKey::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_hash_belongs_to_one_key_and_one_pepper() {
        let (one, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        let hash = pepper(1).hash(&one);
        assert!(hash.matches(&pepper(1).hash(&one)));
        assert!(!hash.matches(&pepper(1).hash(&other)));
        assert!(!hash.matches(&pepper(2).hash(&one)));
        let renamed = ApiKey { id: other.id, secret: one.secret };
        assert!(!hash.matches(&pepper(1).hash(&renamed)), "a hash copied to another row");
    }

    #[test]
    fn nothing_shows_a_secret() {
        let key = ApiKey::generate().unwrap();
        let shown = format!("{key:?} {:?} {:?}", pepper(1), pepper(1).hash(&key));
        assert!(!shown.contains(key.secret.reveal()));
    }

    #[test]
    fn a_name_that_would_need_quotes_is_none() {
        assert!(KeyId::new("operator-0a1b").is_some());
        for bad in ["", "a b", "a'b", "a,b", "a_b", &"x".repeat(41)] {
            assert!(KeyId::new(bad).is_none(), "{bad}");
        }
    }
}

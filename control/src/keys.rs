//! The key that seals secrets at rest, and nothing else.
//!
//! A sealed secret is `nonce (24 bytes) ‖ ciphertext`, XChaCha20-Poly1305, with the secret's name
//! as associated data: a row that was copied under another name does not open. Who stores them:
//! `store/secrets.rs`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64_simd::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// Why a secret could not be sealed or opened, or the key not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key's text is not 32 bytes of base64.
    #[error("a sealing key is 32 bytes in base64")]
    Malformed,
    /// The key's file could not be read or made.
    #[error("the sealing key's file cannot be read or written")]
    File(#[from] std::io::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
    /// The secret was sealed with another key, under another name, or was altered.
    #[error("secret `{name}` does not open with this key; is CONTROL_SECRET_KEY another one?")]
    Sealed {
        /// The secret's name.
        name: String,
    },
}

/// The key that seals secrets in the database. Its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; KEY_BYTES]>);

impl SealingKey {
    /// Reads a key from its base64 text, as in `CONTROL_SECRET_KEY`.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when it is not 32 bytes of standard base64.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode_to_vec(text.trim()).map_err(|_| KeyError::Malformed)?;
        // The decoded copy is a key as well.
        Self::from_bytes(&Zeroizing::new(bytes))
    }

    /// Takes a key from its bytes, as one that is sealed by another was kept.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when there are not 32 of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| KeyError::Malformed)?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// The key's bytes, to be sealed by another key.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the operating system has no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(|_| KeyError::Random)?;
        Ok(Self(key))
    }

    /// Reads the key of a file that only its owner may read, and makes both on first start.
    ///
    /// # Errors
    /// When the file cannot be read or made, or holds no key.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let mut options = OpenOptions::new();
        // `create_new` decides between processes that start at once: one makes the file, the rest
        // read it.
        match options.write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let key = Self::generate()?;
                let text = Zeroizing::new(STANDARD.encode_to_string(key.0.as_slice()));
                file.write_all(text.as_bytes())?;
                // A key that a power cut takes away takes every sealed secret with it.
                file.sync_all()?;
                Ok(key)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let mut text = Zeroizing::new(String::new());
                std::fs::File::open(path)?.read_to_string(&mut text)?;
                Self::from_base64(&text)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Seals a secret under its name.
    ///
    /// # Errors
    /// [`KeyError::Random`] when there is no nonce to be had.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_BYTES];
        // 192 random bits: no counter has to be kept to make them unique.
        getrandom::fill(&mut nonce).map_err(|_| KeyError::Random)?;
        // The name is authenticated, so that a row cannot be passed off as another one.
        let payload = Payload { msg: secret, aad: name.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| KeyError::Sealed { name: name.to_owned() })?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed under this name.
    ///
    /// # Errors
    /// [`KeyError::Sealed`] when the key, the name or the bytes are not those of the sealing.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let refused = || KeyError::Sealed { name: name.to_owned() };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(refused)?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| refused())
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(***)")
    }
}

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_under_its_own_name_and_key_only() {
        let key = SealingKey::generate().unwrap();
        let sealed = key.seal("ticket-key", b"hush").unwrap();
        assert_eq!(key.open("ticket-key", &sealed).unwrap().as_slice(), b"hush");
        assert!(key.open("link-ca", &sealed).is_err());
        assert!(SealingKey::generate().unwrap().open("ticket-key", &sealed).is_err());
    }

    #[test]
    fn an_altered_or_short_secret_does_not_open() {
        let key = SealingKey::generate().unwrap();
        let mut sealed = key.seal("a", b"hush").unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        assert!(key.open("a", &sealed).is_err());
        assert!(key.open("a", &sealed[..20]).is_err());
        assert!(key.open("a", b"").is_err());
    }

    #[test]
    fn the_key_file_is_made_once_and_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let first = SealingKey::load_or_create(&path).unwrap();
        let second = SealingKey::load_or_create(&path).unwrap();
        assert_eq!(first.0, second.0);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_text_of_another_length_is_no_key() {
        assert!(SealingKey::from_base64("aGVsbG8=").is_err());
        assert!(SealingKey::from_base64("not base64").is_err());
    }
}

//! Ids that cannot be guessed: an id of v1, a dot, and 128 bits that only we can put behind it.
//!
//! An id of v1 tells when it was made, which leaves 74 random bits, and it stands in logs and in
//! answers to keys. What the compatible routes hand out is the right itself, so it must be more.

use hmac::{Hmac, KeyInit as _, Mac as _};
use link::id::{CallId, RunId};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::keys::KeyError;
use crate::store::{Store, StoreError};

/// What makes such ids, and knows them again. Its key is kept sealed in the store, so that all
/// instances have the same, also after a restart.
pub(super) struct Names(Zeroizing<Vec<u8>>);

impl Names {
    /// Takes the key from the store, and makes it on first start.
    pub(super) async fn load(store: &Store) -> Result<Self, StoreError> {
        let make = || {
            let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
            getrandom::fill(bytes.as_mut_slice()).map_err(|_| KeyError::Random)?;
            Ok::<_, StoreError>(bytes)
        };
        Ok(Self(store.secret_or_make("compat-id-key", make).await?))
    }

    /// The id of a call that is handed out.
    pub(super) fn of_call(&self, id: &CallId) -> String {
        self.written(Kind::Call, id.as_str())
    }

    /// The id of a run that is handed out.
    pub(super) fn of_run(&self, id: &RunId) -> String {
        self.written(Kind::Run, id.as_str())
    }

    /// The call of an id that was handed out; `None` for every other text.
    pub(super) fn call(&self, text: &str) -> Option<CallId> {
        CallId::new(self.read(Kind::Call, text)?).ok()
    }

    /// The run of an id that was handed out; `None` for every other text.
    pub(super) fn run(&self, text: &str) -> Option<RunId> {
        RunId::new(self.read(Kind::Run, text)?).ok()
    }

    fn written(&self, kind: Kind, id: &str) -> String {
        format!("{id}.{}", self.sum(kind, id))
    }

    fn read<'t>(&self, kind: Kind, text: &'t str) -> Option<&'t str> {
        let (id, sum) = text.rsplit_once('.')?;
        // As texts, so that one id has one way to be written; in the same time for every wrong one.
        let is_ours = self.sum(kind, id).as_bytes().ct_eq(sum.as_bytes());
        bool::from(is_ours).then_some(id)
    }

    /// What belongs behind an id. The kind is part of it: a call's is of no use for a run.
    fn sum(&self, kind: Kind, id: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(kind.word());
        mac.update(id.as_bytes());
        let sum: [u8; 32] = mac.finalize().into_bytes().into();
        let (sum, _) = sum.split_at(SUM_BYTES);
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(sum)
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names(***)")
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Call,
    Run,
}

impl Kind {
    /// Ends with a byte that no id has.
    fn word(self) -> &'static [u8] {
        match self {
            Self::Call => b"call\0",
            Self::Run => b"run\0",
        }
    }
}

const KEY_BYTES: usize = 32;

/// 128 bits are beyond guessing.
const SUM_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(byte: u8) -> Names {
        Names(Zeroizing::new(vec![byte; KEY_BYTES]))
    }

    #[test]
    fn an_id_that_was_handed_out_is_known_again_and_no_other_is() {
        let (ours, theirs) = (names(1), names(2));
        let (call, run) = (CallId::new("c_1.x").unwrap(), RunId::new("c_1.x").unwrap());
        let given = ours.of_call(&call);
        assert_eq!(ours.call(&given), Some(call.clone()));
        assert_eq!(ours.run(&ours.of_run(&run)), Some(run));
        // Bare, of another kind, of another key, cut, longer, of another call.
        let other = ours.of_call(&CallId::new("c_2").unwrap());
        let swapped = format!("c_1.x.{}", other.rsplit_once('.').unwrap().1);
        for text in ["c_1.x", "", ".", &given[..given.len() - 1], &format!("{given}A"), &swapped] {
            assert_eq!(ours.call(text), None, "{text}");
        }
        assert_eq!(ours.run(&given), None);
        assert_eq!(theirs.call(&given), None);
        assert!(!format!("{ours:?}").contains('1'));
    }

    #[test]
    fn what_stands_behind_an_id_is_128_bits_and_fits_an_id() {
        let id = CallId::new(format!("c_{}", "0".repeat(32))).unwrap();
        let given = names(1).of_call(&id);
        let sum = given.rsplit_once('.').unwrap().1;
        assert_eq!(base64_simd::URL_SAFE_NO_PAD.decode_to_vec(sum).unwrap().len() * 8, 128);
        assert!(CallId::new(given).is_ok());
    }
}

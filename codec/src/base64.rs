//! Base64 as carriers and models write it: standard alphabet, padded, one line. Strict: a payload
//! that another decoder would read differently is refused.

use base64_simd::STANDARD;

/// A text that is not standard base64 with padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not standard base64 with padding")]
pub struct BadBase64;

/// Appends the bytes as base64 text.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    STANDARD.encode_append(bytes, out);
}

/// Appends the bytes that the text stands for.
///
/// # Errors
/// [`BadBase64`]; `out` is then as long as it was.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadBase64> {
    let before = out.len();
    STANDARD.decode_append(text, out).map_err(|_| {
        out.truncate(before);
        BadBase64
    })
}

/// Checks alphabet and padding, and says how many bytes the text stands for.
///
/// # Errors
/// [`BadBase64`].
pub fn check(text: &[u8]) -> Result<usize, BadBase64> {
    STANDARD.check(text).map_err(|_| BadBase64)?;
    STANDARD.decoded_length(text).map_err(|_| BadBase64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let (mut text, mut back) = (b"x".to_vec(), Vec::new());
            encode(&bytes, &mut text);
            prop_assert_eq!(check(&text[1..]), Ok(bytes.len()));
            decode(&text[1..], &mut back).unwrap();
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn what_the_check_passes_decodes_to_as_many_bytes(text in "[A-Za-z0-9+/=]{0,40}") {
            let mut out = Vec::new();
            let decoded = decode(text.as_bytes(), &mut out).map(|()| out.len());
            prop_assert_eq!(check(text.as_bytes()), decoded);
        }
    }

    #[test]
    fn loose_base64_is_refused() {
        for bad in ["A", "AAA", "AA=", "A===", "AA=A", "AAAA=", "AA-_", "AAAA\n", " AAAA", "AB=="] {
            let mut out = b"kept".to_vec();
            assert_eq!(decode(bad.as_bytes(), &mut out), Err(BadBase64), "{bad:?}");
            assert_eq!(out, b"kept");
            assert_eq!(check(bad.as_bytes()), Err(BadBase64), "{bad:?}");
        }
    }
}

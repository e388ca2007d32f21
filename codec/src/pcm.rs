//! 16-bit PCM as bytes, little-endian, mono.

/// Bytes that are not whole samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("16-bit audio of an odd number of bytes")]
pub struct OddBytes;

/// Appends the samples as bytes.
pub fn to_le_bytes(samples: &[i16], out: &mut Vec<u8>) {
    out.reserve(samples.len() * 2);
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
}

/// Appends the bytes as samples.
///
/// # Errors
/// [`OddBytes`] when a byte is left over; `out` is then unchanged.
pub fn from_le_bytes(bytes: &[u8], out: &mut Vec<i16>) -> Result<(), OddBytes> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(OddBytes) };
    out.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn samples_come_back(samples in prop::collection::vec(any::<i16>(), 0..500)) {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            to_le_bytes(&samples, &mut bytes);
            from_le_bytes(&bytes, &mut back).unwrap();
            prop_assert_eq!(back, samples);
        }
    }

    #[test]
    fn half_a_sample_is_an_error_and_leaves_nothing() {
        let mut out = vec![7];
        assert_eq!(from_le_bytes(&[1, 2, 3], &mut out), Err(OddBytes));
        assert_eq!(out, [7]);
    }
}

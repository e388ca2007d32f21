//! Chance that can be repeated: the same seed gives the same sequence.

/// SplitMix64: small, fast, and every seed gives another sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// The sequence of one of many things that share a seed.
    pub(crate) fn seeded(seed: u64, number: u64) -> Self {
        Self(seed).mixed_with(number.wrapping_add(1))
    }

    /// Another sequence for another seed.
    pub(crate) fn mixed_with(self, seed: u64) -> Self {
        Self(self.0 ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `bound`, near enough to evenly spread.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() >> 33).unwrap_or_default() % bound.max(1)
    }
}

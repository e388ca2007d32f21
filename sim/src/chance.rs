//! Chance that can be repeated: everything random in a simulated call comes from its seed.
//!
//! Written out rather than taken from a library, so that a seed means the same call after every
//! update of the dependencies. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number
//! generators" (`SplitMix64`), 2014.

/// A stream of random numbers.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        assert!(least <= most, "a range has a least and a most");
        least + self.next() % (most - least + 1)
    }

    /// The same; most numbers are near `least`, and some are near `most`.
    pub(crate) fn skewed(&mut self, least: u64, most: u64) -> u64 {
        let reach = self.between(0, most - least);
        let reach = self.between(0, reach);
        least + self.between(0, reach)
    }

    /// Whether something happens that happens in so many of a thousand cases.
    pub(crate) fn happens(&mut self, per_mille: u64) -> bool {
        // No number is drawn for what never happens, so that calm calls are cheap.
        per_mille > 0 && self.next() % 1_000 < per_mille
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let last = from.len() as u64 - 1;
        from[usize::try_from(self.between(0, last)).unwrap_or(0)]
    }
}

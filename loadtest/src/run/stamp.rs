//! What the load test's audio is made of, so that every 20 ms of it can be recognised and checked
//! byte by byte at the other end.
//!
//! Over mu-law each block names itself and is filled with noise that only that block has. PCM is
//! transcoded on the way, so there a block is loud or quiet and its place in the stream names it;
//! the first blocks of a call spell the call's number.

use crate::noise::Noise;

/// Bytes of one block: 20 ms of mu-law.
pub(crate) const BLOCK: usize = 160;

/// Which 20 ms these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The call, below 2^24.
    pub(crate) call: u32,
    /// The answer, from 1; 0 is the caller's own audio.
    pub(crate) reply: u16,
    /// The block within the answer or the call, below 2^24.
    pub(crate) block: u32,
    /// Whether the caller speaks.
    pub(crate) loud: bool,
}

impl Stamp {
    /// Writes the block.
    pub(crate) fn write(self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&(self.call << 8 | u32::from(self.loud)).to_be_bytes());
        bytes[8..10].copy_from_slice(&self.reply.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.block.to_be_bytes());
        let mut noise = Noise(u64::from(self.call) << 40 ^ u64::from(self.reply) << 24)
            .mixed_with(u64::from(self.block));
        bytes[14..16].copy_from_slice(&noise.next().to_be_bytes()[..2]);
        for chunk in bytes[16..].chunks_exact_mut(8) {
            chunk.copy_from_slice(&noise.next().to_be_bytes());
        }
        bytes
    }

    /// Reads a block; `None` when it is altered in any byte, or no block at all.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BLOCK] = bytes.try_into().ok()?;
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let stamp = Self {
            call: word(4) >> 8,
            loud: bytes[7] & 1 == 1,
            reply: u16::from_be_bytes([bytes[8], bytes[9]]),
            block: word(10),
        };
        (stamp.write() == *bytes).then_some(stamp)
    }
}

/// Mu-law codes of both zeros and both extremes: what a transcoder would alter first.
const MAGIC: [u8; 4] = [0x7F, 0xFF, 0x00, 0x80];

/// Whether a block of the caller's spelling of its number is loud: first one loud block, then the
/// bits of the number, lowest first; `None` past the end.
pub(crate) fn spelling(call: u32, block: u32) -> Option<bool> {
    match block {
        0 => Some(true),
        1..=SPELLED_BITS => Some(call >> (block - 1) & 1 == 1),
        _ => None,
    }
}

/// Enough for 2^20 calls.
pub(crate) const SPELLED_BITS: u32 = 20;

/// A block of a tone of 500 Hz, or of silence, as mu-law.
pub(crate) fn plain(loud: bool) -> [u8; BLOCK] {
    let mut bytes = [codec::g711::ULAW_SILENCE; BLOCK];
    if loud {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = if at / 8 % 2 == 0 { 0x90 } else { 0x10 };
        }
    }
    bytes
}

/// Whether 20 ms of 24 kHz PCM are loud: judged by the middle, which no filter smears.
pub(crate) fn is_loud_pcm24k(bytes: &[u8]) -> bool {
    let middle = &bytes[bytes.len() / 4 / 2 * 2..bytes.len() * 3 / 4 / 2 * 2];
    let mut sum = 0_u64;
    for pair in middle.chunks_exact(2) {
        sum += u64::from(i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs());
    }
    sum * 2 / middle.len().max(1) as u64 > 1_500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_itself_and_no_altered_one_does() {
        let stamp = Stamp { call: 19_999, reply: 7, block: 1_234, loud: true };
        let bytes = stamp.write();
        assert_eq!(Stamp::read(&bytes), Some(stamp));
        for at in 0..BLOCK {
            let mut altered = bytes;
            altered[at] ^= 0x40;
            assert_eq!(Stamp::read(&altered), None, "byte {at}");
        }
        assert_eq!(Stamp::read(&bytes[1..]), None);
    }

    #[test]
    fn no_two_blocks_share_their_noise() {
        let at =
            |call, reply, block| Stamp { call, reply, block, loud: false }.write()[16..].to_vec();
        let blocks = [at(1, 0, 0), at(2, 0, 0), at(1, 1, 0), at(1, 0, 1)];
        for (n, block) in blocks.iter().enumerate() {
            assert!(!blocks[..n].contains(block));
        }
    }

    #[test]
    fn a_number_is_spelled_in_loud_and_quiet() {
        let spelled: u32 = (1..=SPELLED_BITS)
            .map(|block| u32::from(spelling(0xABCDE, block).unwrap()) << (block - 1))
            .sum();
        assert_eq!(spelled, 0xABCDE);
        assert_eq!((spelling(5, 0), spelling(5, 21)), (Some(true), None));
    }

    #[test]
    fn loud_and_quiet_survive_transcoding() {
        for loud in [true, false] {
            let speech = crate::audio::Speech::from_ulaw(&plain(loud).repeat(3));
            let mut bytes = Vec::new();
            codec::pcm::to_le_bytes(&speech.pcm24k()[480..960], &mut bytes);
            assert_eq!(is_loud_pcm24k(&bytes), loud);
        }
    }
}

//! Made-up speech that says its own words: a text hidden in the low bits of every 20 ms.
//!
//! Over mu-law the relay passes bytes through untouched, so whoever hears one block knows what is
//! being said and how far it is: a fake model "understands" its caller, and a test knows to the
//! block what a caller has heard of which answer. The low four bits of a mu-law code are its step
//! within a segment: in silence they are a whisper of -54 dBFS, in speech nobody hears them.

use super::{BYTES_PER_MS, FRAME_BYTES, Speech};

/// A block that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins, in bytes.
    pub(crate) at: usize,
    /// Its number within the speech, from 0.
    pub(crate) number: u16,
    /// The words.
    pub(crate) text: String,
}

impl Block {
    /// Where the speech is after this block, in milliseconds.
    pub(crate) fn end_ms(&self) -> u64 {
        (u64::from(self.number) + 1) * (FRAME_BYTES / BYTES_PER_MS) as u64
    }
}

impl Speech {
    /// Makes up speech that says these words, about 60 ms a character and whole blocks. Of a
    /// longer text the first 70 bytes are hidden in it.
    #[must_use]
    pub fn saying(text: &str) -> Self {
        let letters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Self::saying_for(text, letters.saturating_mul(60))
    }

    /// The same, lasting so many milliseconds, rounded up to whole blocks.
    #[must_use]
    pub fn saying_for(text: &str, ms: u32) -> Self {
        let mut ulaw = Self::tone(ms.div_ceil(20).max(1) * 20).ulaw().to_vec();
        let text = head(text);
        for (number, block) in (0_u16..).zip(ulaw.chunks_exact_mut(FRAME_BYTES)) {
            hide(block, number, text);
        }
        Self::from_ulaw(&ulaw)
    }
}

/// What of a text is hidden: whole characters, as many as fit.
pub(crate) fn head(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Finds every block in audio of any length and alignment.
pub(crate) fn find(ulaw: &[u8]) -> Vec<Block> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + FRAME_BYTES <= ulaw.len() {
        match read(&ulaw[at..at + FRAME_BYTES]) {
            Some((number, text)) => {
                found.push(Block { at, number, text });
                at += FRAME_BYTES;
            }
            None => at += 1,
        }
    }
    found
}

/// Writes a block's number and text into its low bits.
fn hide(block: &mut [u8], number: u16, text: &str) {
    let mut bytes = vec![text.len() as u8];
    bytes.extend(number.to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(check(&bytes));
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    for (code, half) in block.iter_mut().zip(MAGIC.into_iter().chain(halves)) {
        *code = *code & 0xF0 | half;
    }
}

/// Reads a block; `None` when it is none, or altered.
fn read(block: &[u8]) -> Option<(u16, String)> {
    let magic = block.iter().zip(MAGIC).all(|(code, half)| code & 0xF == half);
    let halves = block.get(MAGIC.len()..).filter(|_| magic)?;
    let bytes: Vec<u8> = halves.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1] & 0xF).collect();
    let end = 3 + usize::from(*bytes.first()?);
    let (body, sum) = (bytes.get(..end)?, bytes.get(end)?);
    if check(body) != *sum {
        return None;
    }
    let number = u16::from_be_bytes([body[1], body[2]]);
    Some((number, String::from_utf8(body[3..].to_vec()).ok()?))
}

/// A sum that a shifted or altered block does not have.
fn check(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0x5A, |sum, byte| sum.rotate_left(1) ^ byte)
}

/// How a block begins.
const MAGIC: [u8; 8] = [0xA, 0x5, 0xC, 0x3, 0x9, 0x6, 0xF, 0x0];

/// 160 halves, less the magic, the length, the number and the sum.
const TEXT_BYTES_MAX: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_at_any_alignment_and_say_how_far_they_are() {
        let speech = Speech::saying("Grüße, caller 7.");
        assert_eq!(speech.ms(), 960);
        let shifted = [&[0xFF; 37], speech.ulaw(), &[0xFF; 200]].concat();
        let found = find(&shifted);
        assert_eq!(found.len(), 48);
        assert!(found.iter().all(|block| block.text == "Grüße, caller 7."));
        assert_eq!((found[0].at, found[47].number, found[47].end_ms()), (37, 47, 960));
    }

    #[test]
    fn an_altered_block_and_other_speech_say_nothing() {
        let mut ulaw = Speech::saying("x").ulaw().to_vec();
        ulaw.truncate(FRAME_BYTES);
        ulaw[10] ^= 1;
        assert_eq!(find(&ulaw), []);
        assert_eq!(find(Speech::tone(500).ulaw()), []);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ü".repeat(50);
        assert_eq!(head(&text).len(), 70);
        assert_eq!(find(Speech::saying_for(&text, 20).ulaw())[0].text, head(&text));
    }
}

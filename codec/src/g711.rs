//! G.711, both laws, by table. Bit exact with ITU-T G.711.
//!
//! Mu-law has two zeros, 0xFF and 0x7F; silence is 0xFF. Audio that only passes through is never
//! decoded, so those stay as they were.

/// The mu-law byte of silence.
pub const ULAW_SILENCE: u8 = 0xFF;

/// The A-law byte of silence.
pub const ALAW_SILENCE: u8 = 0xD5;

/// Appends the samples as mu-law.
pub fn ulaw_encode(pcm: &[i16], out: &mut Vec<u8>) {
    let code = |&sample: &i16| {
        // The finest step is eight, so the last two bits of the magnitude never decide.
        let code = ULAW_OF[usize::from(sample.unsigned_abs() >> 2)];
        if sample < 0 { code & 0x7F } else { code }
    };
    out.extend(pcm.iter().map(code));
}

/// Appends the mu-law bytes as samples.
pub fn ulaw_decode(ulaw: &[u8], out: &mut Vec<i16>) {
    out.extend(ulaw.iter().map(|&byte| PCM_OF_ULAW[usize::from(byte)]));
}

/// Appends the samples as A-law.
pub fn alaw_encode(pcm: &[i16], out: &mut Vec<u8>) {
    // 12 magnitude bits and the sign decide.
    out.extend(pcm.iter().map(|&sample| ALAW_OF[usize::from(sample.cast_unsigned() >> 3)]));
}

/// Appends the A-law bytes as samples.
pub fn alaw_decode(alaw: &[u8], out: &mut Vec<i16>) {
    out.extend(alaw.iter().map(|&byte| PCM_OF_ALAW[usize::from(byte)]));
}

/// The code of each positive magnitude, in units of four: 8 KB, stays in cache.
static ULAW_OF: [u8; (1 << 13) + 1] = ulaw_table();
static ALAW_OF: [u8; 1 << 13] = alaw_table();
static PCM_OF_ULAW: [i16; 256] = pcm_of_ulaw_table();
static PCM_OF_ALAW: [i16; 256] = pcm_of_alaw_table();

/// Added to the magnitude, in units of four, so that segments are powers of two.
const ULAW_BIAS: i32 = 33;

/// The largest magnitude that has a code of its own, in units of four.
const ULAW_CLIP: i32 = 8_158;

const fn ulaw_table() -> [u8; (1 << 13) + 1] {
    let mut table = [0; (1 << 13) + 1];
    let mut magnitude = 0;
    while magnitude < table.len() {
        let clipped = if magnitude > ULAW_CLIP as usize { ULAW_CLIP } else { magnitude as i32 };
        let biased = (clipped + ULAW_BIAS) as u32;
        let segment = 26 - biased.leading_zeros();
        let step = (biased >> (segment + 1)) & 0x0F;
        table[magnitude] = !((segment << 4) as u8 | step as u8);
        magnitude += 1;
    }
    table
}

const fn pcm_of_ulaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = !(code as u8);
        let segment = (bits >> 4) & 0x07;
        let step = (bits & 0x0F) as i32;
        let magnitude = ((((step << 1) + ULAW_BIAS) << segment) - ULAW_BIAS) << 2;
        table[code] = if bits & 0x80 != 0 { -magnitude as i16 } else { magnitude as i16 };
        code += 1;
    }
    table
}

const fn alaw_table() -> [u8; 1 << 13] {
    let mut table = [0; 1 << 13];
    let mut index = 0;
    while index < table.len() {
        // Back to a signed 13-bit value.
        let value = if index < 1 << 12 { index as i32 } else { index as i32 - (1 << 13) };
        let (sign, magnitude) = if value < 0 { (0, -value - 1) } else { (0x80, value) };
        let segment = if magnitude < 32 { 0 } else { 27 - (magnitude as u32).leading_zeros() };
        let step = if segment < 2 { magnitude >> 1 } else { magnitude >> segment } & 0x0F;
        table[index] = (sign | (segment << 4) as u8 | step as u8) ^ 0x55;
        index += 1;
    }
    table
}

const fn pcm_of_alaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = code as u8 ^ 0x55;
        let segment = (bits >> 4) & 0x07;
        let step = ((bits & 0x0F) as i32) << 4;
        let magnitude = match segment {
            0 => step + 8,
            _ => (step + 0x108) << (segment - 1),
        };
        table[code] = if bits & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 };
        code += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, as it is usually written: bias in 16-bit units, search for the segment.
    fn ulaw_by_search(sample: i16) -> u8 {
        let sign = if sample < 0 { 0x80 } else { 0x00 };
        let magnitude = i32::from(sample).abs().min(32_635) + 132;
        let segment = (0..8).rev().find(|s| magnitude >= 128 << s).unwrap_or(0);
        let step = (magnitude >> (segment + 3)) & 0x0F;
        !(sign | u8::try_from(segment << 4).unwrap() | u8::try_from(step).unwrap())
    }

    fn alaw_by_search(sample: i16) -> u8 {
        let value = i32::from(sample) >> 3;
        let (mask, magnitude) = if value >= 0 { (0xD5, value) } else { (0x55, -value - 1) };
        let ends = [0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF];
        let segment = ends.iter().position(|&end| magnitude <= end).unwrap();
        let shift = if segment < 2 { 1 } else { segment };
        let step = (magnitude >> shift) & 0x0F;
        (u8::try_from(segment << 4).unwrap() | u8::try_from(step).unwrap()) ^ mask
    }

    fn one(convert: fn(&[i16], &mut Vec<u8>), sample: i16) -> u8 {
        let mut out = Vec::new();
        convert(&[sample], &mut out);
        out[0]
    }

    fn back(convert: fn(&[u8], &mut Vec<i16>), code: u8) -> i16 {
        let mut out = Vec::new();
        convert(&[code], &mut out);
        out[0]
    }

    #[test]
    fn every_sample_has_the_code_of_the_definition() {
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(one(ulaw_encode, sample), ulaw_by_search(sample), "mu-law of {sample}");
            assert_eq!(one(alaw_encode, sample), alaw_by_search(sample), "A-law of {sample}");
        }
    }

    #[test]
    fn known_values_of_the_tables() {
        for (code, sample) in [(0xFF, 0), (0x7F, 0), (0x80, 32_124), (0x00, -32_124), (0xF0, 120)] {
            assert_eq!(back(ulaw_decode, code), sample, "{code:#x}");
        }
        for (code, sample) in [(0xD5, 8), (0x55, -8), (0xAA, 32_256), (0x2A, -32_256)] {
            assert_eq!(back(alaw_decode, code), sample, "{code:#x}");
        }
        assert_eq!(one(ulaw_encode, 0), ULAW_SILENCE);
        assert_eq!(one(alaw_encode, 0), ALAW_SILENCE);
    }

    #[test]
    fn every_code_survives_a_round_trip() {
        for code in 0..=255_u8 {
            let ulaw = one(ulaw_encode, back(ulaw_decode, code));
            // The two zeros of mu-law become one.
            assert_eq!(ulaw, if code == 0x7F { 0xFF } else { code });
            assert_eq!(one(alaw_encode, back(alaw_decode, code)), code);
        }
    }
}

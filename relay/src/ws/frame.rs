//! The bytes of one frame: its header (RFC 6455 §5.2) and its mask (§5.3). No state.

use super::{Role, Violation};

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    /// The next fragment of the message that is under way.
    Continuation,
    /// Text, or its first fragment.
    Text,
    /// Bytes, or their first fragment.
    Binary,
    /// The end of one direction.
    Close,
    /// Wants a pong with the same payload.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// Whether the frame is about the connection: short, whole, and allowed between fragments.
    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// Reads the low four bits of a frame's first byte.
    pub(super) const fn parse(bits: u8) -> Result<Self, Violation> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            _ => Err(Violation::Opcode),
        }
    }

    /// The low four bits of a frame's first byte.
    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether this frame ends its message.
    pub(super) is_last: bool,
    /// What it is for.
    pub(super) opcode: Opcode,
    /// The key, when the sender is a client.
    pub(super) mask: Option<Mask>,
    /// Length of the header itself.
    pub(super) header_bytes: usize,
    /// Length of what follows. `usize::MAX` stands for more than this machine can address.
    pub(super) payload_bytes: usize,
}

/// A masking key.
pub(super) type Mask = [u8; MASK_BYTES];

impl Head {
    /// Reads the header of the frame that we, in our role, receive; `None` when more bytes are
    /// needed. What is wrong in the first two bytes is found without waiting for the others.
    /// A length that could have been written shorter is taken: the RFC binds the sender only.
    pub(super) fn parse(bytes: &[u8], role: Role) -> Result<Option<Self>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(Violation::ReservedBit);
        }
        let opcode = Opcode::parse(first & 0x0F)?;
        let is_last = first & LAST != 0;
        let is_masked = second & MASKED != 0;
        if is_masked != (role == Role::Server) {
            return Err(Violation::Masking);
        }
        let short = second & !MASKED;
        if opcode.is_control() {
            if !is_last {
                return Err(Violation::FragmentedControl);
            }
            if short > CONTROL_BYTES_MAX as u8 {
                return Err(Violation::LongControl);
            }
        }
        let Some((length, rest)) = parse_length(short, rest)? else { return Ok(None) };
        let (mask, rest) = match is_masked {
            true => {
                let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (Some(*mask), rest)
            }
            false => (None, rest),
        };
        let header_bytes = bytes.len() - rest.len();
        Ok(Some(Self { is_last, opcode, mask, header_bytes, payload_bytes: length }))
    }
}

/// Reads the length that the short field stands for, and what comes after it.
fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(usize, &[u8])>, Violation> {
    match short {
        126 => Ok(rest
            .split_first_chunk()
            .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))),
        127 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            if length >> 63 != 0 {
                return Err(Violation::Length);
            }
            Ok(Some((usize::try_from(length).unwrap_or(usize::MAX), rest)))
        }
        _ => Ok(Some((usize::from(short), rest))),
    }
}

/// Appends one whole frame to `out`: what `write` appends becomes its payload. `mask` is `Some`
/// for a client. The header's room is taken before the payload's length is known, as the middle
/// one of the three sizes, which nearly all messages of a call have; others move their payload.
pub(super) fn append(
    out: &mut Vec<u8>,
    opcode: Opcode,
    mask: Option<Mask>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    let mask_bytes = mask.map_or(0, |mask| mask.len());
    let guess = start + 4 + mask_bytes;
    out.resize(guess, 0);
    write(out);
    assert!(out.len() >= guess, "a payload is appended, nothing is taken away");
    let length = out.len() - guess;
    let (short, wide) = match length {
        0..=125 => (length as u8, 2),
        126..=0xFFFF => (126, 4),
        _ => (127, 10),
    };
    let payload = start + wide + mask_bytes;
    if payload != guess {
        out.resize(out.len().max(payload + length), 0);
        out.copy_within(guess..guess + length, payload);
        out.truncate(payload + length);
    }
    out[start] = LAST | opcode.bits();
    out[start + 1] = short | if mask.is_some() { MASKED } else { 0 };
    match wide {
        2 => {}
        4 => out[start + 2..start + 4].copy_from_slice(&(length as u16).to_be_bytes()),
        _ => out[start + 2..start + 10].copy_from_slice(&(length as u64).to_be_bytes()),
    }
    if let Some(mask) = mask {
        out[payload - MASK_BYTES..payload].copy_from_slice(&mask);
        apply_mask(&mut out[payload..], mask);
    }
}

/// Masks or unmasks in place. Eight bytes at a step, which the compiler widens to vectors.
pub(super) fn apply_mask(bytes: &mut [u8], mask: Mask) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The longest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;
const MASK_BYTES: usize = 4;
const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_agrees_with_the_definition_for_every_length() {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        for length in 0..70_usize {
            let plain: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let mut masked = plain.clone();
            apply_mask(&mut masked, mask);
            let expected: Vec<u8> =
                plain.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            assert_eq!(masked, expected, "length {length}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_come_out() {
        let mut out = Vec::new();
        append(&mut out, Opcode::Text, None, |text| text.extend_from_slice(b"Hello"));
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        out.clear();
        append(&mut out, Opcode::Text, mask, |text| text.extend_from_slice(b"Hello"));
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        out.clear();
        append(&mut out, Opcode::Binary, None, |bytes| bytes.resize(bytes.len() + 256, 7));
        assert_eq!(out[..4], [0x82, 0x7E, 0x01, 0x00]);
        out.clear();
        append(&mut out, Opcode::Binary, None, |bytes| bytes.resize(bytes.len() + 65_536, 7));
        assert_eq!(out[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(out.len(), 10 + 65_536);
    }

    #[test]
    fn a_header_reads_back_at_every_length_and_is_never_read_early() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537] {
            for (mask, reader) in [(None, Role::Client), (Some([1, 2, 3, 4]), Role::Server)] {
                let mut out = vec![b'!'];
                append(&mut out, Opcode::Text, mask, |text| text.resize(text.len() + length, b'x'));
                let frame = &out[1..];
                let head = Head::parse(frame, reader).unwrap().unwrap();
                assert_eq!((head.is_last, head.opcode, head.mask), (true, Opcode::Text, mask));
                assert_eq!(head.payload_bytes, length);
                assert_eq!(head.header_bytes + length, frame.len());
                for cut in 0..head.header_bytes {
                    assert_eq!(Head::parse(&frame[..cut], reader), Ok(None), "cut at {cut}");
                }
            }
        }
    }
}

//! What travels between control and its relays, and the tokens that open doors.

use std::str;
use std::sync::OnceLock;

use link::frame::{Decoder, Frame};
use link::id::WallTime;
use link::join::JoinToken;
use link::message::{ToControl, ToRelay};
use link::ticket::{Claims, KeySet, SigningKey};

/// The stream of one side. The first byte says in what pieces it comes.
///
/// # Panics
/// When the pieces matter, or a message that was read is not the same when it is written and read
/// again.
pub fn frames(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let whole = decoded(bytes, bytes.len().max(1));
    assert_eq!(whole, decoded(bytes, usize::from(*piece).max(1)), "pieces do not matter");
    for frame in &whole {
        if let Ok(message) = ToControl::read(frame) {
            let mut out = Vec::new();
            message.write(&mut out).expect("it came in a frame");
            let again = ToControl::read(&decoded(&out, out.len())[0]).expect("it was written");
            assert_eq!(format!("{message:?}"), format!("{again:?}"));
        }
        if let Ok(message) = ToRelay::read(frame) {
            let mut out = Vec::new();
            message.write(&mut out).expect("it came in a frame");
            let again = ToRelay::read(&decoded(&out, out.len())[0]).expect("it was written");
            assert_eq!(format!("{message:?}"), format!("{again:?}"));
            if let ToRelay::Agent(spec) = message {
                let _ = spec.problems();
            }
        }
    }
}

fn decoded(bytes: &[u8], piece: usize) -> Vec<Frame> {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

/// A ticket as a carrier brings it; claims in JSON are signed first.
///
/// # Panics
/// When a ticket of ours is not taken, or one is taken that says something else.
pub fn ticket(bytes: &[u8]) {
    static KEYS: OnceLock<(SigningKey, KeySet)> = OnceLock::new();
    let (key, set) = KEYS.get_or_init(|| {
        let key = SigningKey::from_bytes("k1", &KEY).expect("a key");
        let set = KeySet::new(&[key.verifying()]).expect("a set");
        (key, set)
    });
    let Ok(text) = str::from_utf8(bytes) else { return };
    let now = WallTime(NOW_US);
    if let Ok(claims) = set.verify(text, now) {
        assert!(key.issue(&claims).is_ok(), "what is taken was issued");
    }
    let Ok(claims) = serde_json::from_str::<Claims>(text) else { return };
    // Claims that are too long for the carrier make no ticket.
    let Ok(issued) = key.issue(&claims) else { return };
    if let Ok(read) = set.verify(&issued, now) {
        assert_eq!(read, claims);
        // No character may be another one.
        let middle = issued.len() / 2;
        let other = if issued.as_bytes()[middle] == b'A' { "B" } else { "A" };
        let mut forged = issued.clone();
        forged.replace_range(middle..=middle, other);
        assert!(set.verify(&forged, now).is_err(), "a changed ticket is no ticket");
    }
}

/// The line that a relay joins with.
///
/// # Panics
/// When a line that is taken is not the same once it is written again.
pub fn join_token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(token) = JoinToken::from_line(text) else { return };
    let again = JoinToken::from_line(token.to_line().reveal()).expect("it was written");
    assert_eq!(format!("{token:?}"), format!("{again:?}"));
    assert_eq!(token.ca_der().is_ok(), again.ca_der().is_ok());
}

/// 2026-11-20, noon.
const NOW_US: i64 = 1_795_176_000_000_000;
/// An Ed25519 key for tests alone: the first vector of RFC 8032 §7.1, secret and public half.
const KEY: [u8; 64] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

//! An event on file: length, checksum, JSON as on the link. Pure.
//!
//! ```text
//! 0       4       8
//! +-------+-------+------------------+
//! | len   | crc   | body (JSON)      |      both big-endian; len counts the body,
//! +-------+-------+------------------+      crc is CRC-32C over len and body
//! ```
//!
//! A process that is killed while it writes leaves a torn end, a disk may flip bits: whatever
//! follows the first record that is not whole is not read.

use link::event::NodeEvent;
use link::frame::FRAME_BYTES_MAX;

/// The bytes before a record's body.
pub const HEADER_BYTES: usize = 8;
/// The longest body: an event that is longer would not fit a frame of the link either.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// An event as a record.
///
/// # Errors
/// When it is longer than [`BODY_BYTES_MAX`], or cannot be written as JSON.
pub fn encode(event: &NodeEvent) -> Result<Vec<u8>, Unfit> {
    let mut bytes = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut bytes, event).map_err(|_| Unfit)?;
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    if body.len() > BODY_BYTES_MAX {
        return Err(Unfit);
    }
    let len = u32::try_from(body.len()).map_err(|_| Unfit)?.to_be_bytes();
    let (first, second) = header.split_at_mut(len.len());
    first.copy_from_slice(&len);
    second.copy_from_slice(&checksum(len, body).to_be_bytes());
    Ok(bytes)
}

/// An event that no record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event that does not fit a record")]
pub struct Unfit;

/// What stands in a piece of a file that begins with a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The events of its whole records, in their order.
    pub events: Vec<NodeEvent>,
    /// The bytes of those records.
    pub used: usize,
    /// What follows them.
    pub rest: Rest,
}

/// What follows the whole records of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// The beginning of a record: torn, when the file ends here.
    Torn,
    /// Something that is no record.
    Bad,
}

/// Reads whole records, `events_max` at most, up to whatever is none.
#[must_use]
pub fn read(bytes: &[u8], events_max: usize) -> Found {
    let mut found = Found { events: Vec::new(), used: 0, rest: Rest::Nothing };
    while found.events.len() < events_max {
        let left = bytes.get(found.used..).unwrap_or_default();
        if left.is_empty() {
            break;
        }
        match first(left) {
            Ok((event, used)) => {
                found.events.push(event);
                found.used += used;
            }
            Err(rest) => {
                found.rest = rest;
                break;
            }
        }
    }
    found
}

/// The record that `bytes` begins with, and its length; else what stands there.
fn first(bytes: &[u8]) -> Result<(NodeEvent, usize), Rest> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(Rest::Torn)?;
    let body_bytes = u32::from_be_bytes(*len) as usize;
    if body_bytes == 0 || body_bytes > BODY_BYTES_MAX {
        return Err(Rest::Bad);
    }
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(Rest::Torn)?;
    let body = rest.get(..body_bytes).ok_or(Rest::Torn)?;
    if checksum(*len, body) != u32::from_be_bytes(*crc) {
        return Err(Rest::Bad);
    }
    // Whole, and still not an event: written by something else.
    let event = serde_json::from_slice(body).map_err(|_| Rest::Bad)?;
    Ok((event, HEADER_BYTES + body_bytes))
}

fn checksum(len: [u8; 4], body: &[u8]) -> u32 {
    !len.iter().chain(body).fold(!0_u32, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

/// CRC-32C (Castagnoli), reflected, by byte. A node that is full writes some 300 KB a second, so
/// that a table is quick enough.
static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0_u32;
    while n < 256 {
        let mut crc = n;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[n as usize] = crc;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use link::event::{CallEvent, CallRef};
    use link::id::{CallId, EventNumber, Gen, TenantId, WallTime};
    use proptest::prelude::*;

    use super::*;

    fn event(n: u64, why: &str) -> NodeEvent {
        let id = CallId::new(format!("c_{n}")).unwrap();
        let call = CallRef { id, tenant: TenantId::default(), generation: Gen(0) };
        let event = CallEvent::StreamRefused { why: why.to_owned() };
        NodeEvent { n: EventNumber(n), at: WallTime(7), call: Some(call), event }
    }

    fn written(texts: &[String]) -> (Vec<NodeEvent>, Vec<u8>) {
        let events: Vec<_> = (1..).zip(texts).map(|(n, text)| event(n, text)).collect();
        let bytes = events.iter().flat_map(|event| encode(event).unwrap()).collect();
        (events, bytes)
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        // The check value of the catalogue: "123456789".
        assert_eq!(checksum(*b"1234", b"56789"), 0xE306_9283);
    }

    #[test]
    fn the_longest_event_that_a_relay_tells_fits() {
        let longest = "\u{1}".repeat(crate::telemetry::TEXT_BYTES_MAX);
        assert!(encode(&event(1, &longest)).is_ok());
        assert_eq!(encode(&event(1, &"x".repeat(BODY_BYTES_MAX))), Err(Unfit));
    }

    #[test]
    fn a_file_of_zeros_holds_nothing() {
        let found = read(&[0; 4_096], usize::MAX);
        assert_eq!((found.events.len(), found.used, found.rest), (0, 0, Rest::Bad));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(texts in prop::collection::vec(".{0,80}", 0..9), max in 0_usize..9) {
            let (events, bytes) = written(&texts);
            let all = read(&bytes, usize::MAX);
            prop_assert_eq!((&all.events, all.used), (&events, bytes.len()));
            prop_assert_eq!(all.rest, Rest::Nothing);
            let some = read(&bytes, max);
            prop_assert_eq!(&some.events, &events[..max.min(events.len())]);
            prop_assert_eq!(read(&bytes[some.used..], usize::MAX).events.len(), events.len() - some.events.len());
        }

        #[test]
        fn a_cut_yields_the_records_before_it(texts in prop::collection::vec(".{0,80}", 1..9), at in any::<prop::sample::Index>()) {
            let (events, bytes) = written(&texts);
            let at = at.index(bytes.len());
            let found = read(&bytes[..at], usize::MAX);
            prop_assert_eq!(&found.events, &events[..found.events.len()]);
            prop_assert!(found.events.len() < events.len());
            let rest = if found.used == at { Rest::Nothing } else { Rest::Torn };
            prop_assert_eq!(found.rest, rest);
        }

        #[test]
        fn a_flip_yields_the_records_before_it(
            texts in prop::collection::vec(".{0,80}", 1..9),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let (events, mut bytes) = written(&texts);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let found = read(&bytes, usize::MAX);
            prop_assert_eq!(&found.events, &events[..found.events.len()]);
            prop_assert!(found.events.len() < events.len());
            prop_assert!(found.used <= at);
            prop_assert_ne!(found.rest, Rest::Nothing);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let found = read(&bytes, usize::MAX);
            prop_assert!(found.used <= bytes.len());
        }
    }
}

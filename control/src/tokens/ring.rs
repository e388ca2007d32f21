//! How a ring of keys turns: every 24 h another key signs. It is published before it signs, so
//! that everybody has it in time, and kept until the last token of it has ended. Pure.

use link::id::WallTime;

use crate::store::{RingName, RingPlace};

/// The keys of one ring, in the order in which they sign; never empty.
#[derive(Debug)]
pub(super) struct Ring<K> {
    keys: Vec<(RingPlace, K)>,
}

impl<K> Ring<K> {
    /// Takes keys as a ring; `None` when there are none.
    pub(super) fn new(mut keys: Vec<(RingPlace, K)>) -> Option<Self> {
        keys.sort_by_key(|(place, _)| *place);
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// The key that signs at this moment.
    ///
    /// # Panics
    /// Never: a ring has a key.
    pub(super) fn signing(&self, now: WallTime) -> &K {
        let due = self.keys.iter().rfind(|(place, _)| place.signs_at <= now);
        // A clock behind the one that made the first key still has to sign.
        let (_, key) = due.or(self.keys.first()).expect("a ring has a key");
        key
    }

    /// All that a token may be signed with, the latest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &K> {
        self.keys.iter().rev().map(|(_, key)| key)
    }

    /// Where the keys belong.
    pub(super) fn places(&self) -> impl Iterator<Item = RingPlace> {
        self.keys.iter().map(|(place, _)| *place)
    }
}

/// What is to be done so that a ring goes on turning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A key is to be made for this place.
    Make(RingPlace),
    /// The keys up to this number are of no use any more.
    Drop(i64),
    /// Nothing.
    Rest,
}

/// What is to be done with a ring that has these keys, in order.
pub(super) fn turn(ring: RingName, places: &[RingPlace], now: WallTime) -> Turn {
    let Some(newest) = places.last() else {
        return Turn::Make(RingPlace { ring, number: 1, signs_at: now });
    };
    let due = newest.signs_at.plus_us(SIGNS_US);
    if due.plus_us(-PUBLISHED_US) <= now {
        // After a long pause the next one is late, and published as long before it signs.
        let signs_at = due.max(now.plus_us(PUBLISHED_US));
        return Turn::Make(RingPlace { ring, number: newest.number + 1, signs_at });
    }
    // A key's last token was signed when its successor began.
    let outlived = |pair: &&[RingPlace]| pair[1].signs_at.plus_us(KEPT_US) <= now;
    match places.windows(2).take_while(|pair| outlived(pair)).last() {
        Some(pair) => Turn::Drop(pair[0].number),
        None => Turn::Rest,
    }
}

/// How long a key signs.
pub(super) const SIGNS_US: i64 = 24 * 3_600 * 1_000_000;

/// How long it is known before it signs: an instance or relay that was away that long meets tokens
/// that it cannot read.
pub(super) const PUBLISHED_US: i64 = 10 * 60 * 1_000_000;

/// How long it is kept after it has signed: longer than any token lives (a pass, 25 h).
pub(super) const KEPT_US: i64 = 26 * 3_600 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600 * 1_000_000;

    fn place(number: i64, hours: i64) -> RingPlace {
        RingPlace { ring: RingName::Pass, number, signs_at: WallTime(hours * HOUR) }
    }

    fn at(hours: i64, minutes: i64) -> WallTime {
        WallTime(hours * HOUR + minutes * HOUR / 60)
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_kept_after_it_did() {
        let turn = |places: &[RingPlace], now| turn(RingName::Pass, places, now);
        assert_eq!(turn(&[], at(0, 0)), Turn::Make(place(1, 0)));
        let first = [place(1, 0)];
        assert_eq!(turn(&first, at(23, 49)), Turn::Rest);
        assert_eq!(turn(&first, at(23, 50)), Turn::Make(place(2, 24)));
        let both = [place(1, 0), place(2, 24)];
        assert_eq!(turn(&both, at(47, 0)), Turn::Rest);
        let three = [place(1, 0), place(2, 24), place(3, 48)];
        assert_eq!(turn(&three, at(49, 59)), Turn::Rest);
        assert_eq!(turn(&three, at(50, 0)), Turn::Drop(1));
        // After a week without any control.
        let late = RingPlace { signs_at: at(168, 10), ..place(2, 0) };
        assert_eq!(turn(&first, at(168, 0)), Turn::Make(late));
    }

    #[test]
    fn the_latest_key_whose_time_has_come_signs() {
        let ring = Ring::new(vec![(place(2, 24), "b"), (place(1, 0), "a")]).unwrap();
        let signs = |now| *ring.signing(now);
        assert_eq!((signs(at(0, 0)), signs(at(23, 59)), signs(at(24, 0))), ("a", "a", "b"));
        assert_eq!(signs(at(-1, 0)), "a", "a clock that is behind");
        assert_eq!(ring.all().copied().collect::<Vec<_>>(), ["b", "a"]);
        assert!(Ring::<()>::new(Vec::new()).is_none());
    }
}

//! Audio that waits: first in, first out, always in one piece.
//!
//! Used by [`uplink`](super::uplink) while the agent cannot take audio and by
//! [`playout`](super::playout) for what is ahead of the ear. Bounds are its owners' business.

/// A run of bytes of the caller's format, with a cheap front.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// How many bytes at the front have left already.
    gone: usize,
}

impl Held {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.gone
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets `write` append, and says how many bytes it gave. What a failed write left behind is
    /// taken back.
    pub(super) fn append<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let before = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(before);
            return Err(error);
        }
        assert!(self.bytes.len() >= before, "an append took bytes away");
        Ok(self.bytes.len() - before)
    }

    /// The oldest bytes, at most `most` of them.
    pub(super) fn oldest(&self, most: usize) -> &[u8] {
        let waiting = &self.bytes[self.gone..];
        &waiting[..most.min(waiting.len())]
    }

    /// Lets the oldest bytes go.
    pub(super) fn release_oldest(&mut self, count: usize) {
        assert!(count <= self.len(), "released more than was held");
        self.gone += count;
        if self.gone == self.bytes.len() {
            self.bytes.clear();
            self.gone = 0;
        // Only when at least half is gone: so each byte is moved once, on average.
        } else if self.gone >= COMPACT_BYTES && self.gone * 2 >= self.bytes.len() {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Drops the newest bytes.
    pub(super) fn drop_newest(&mut self, count: usize) {
        assert!(count <= self.len(), "dropped more than was held");
        self.bytes.truncate(self.bytes.len() - count);
    }
}

/// Below this, moving the rest to the front is not worth the trouble: half a second.
const COMPACT_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn push(held: &mut Held, bytes: &[u8]) {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(bytes);
            Ok::<(), ()>(())
        };
        assert_eq!(held.append(write), Ok(bytes.len()));
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut held = Held::default();
        let all: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut left = Vec::new();
        for piece in all.chunks(700) {
            push(&mut held, piece);
            let next = held.oldest(480).to_vec();
            held.release_oldest(next.len());
            left.extend(next);
        }
        left.extend_from_slice(held.oldest(usize::MAX));
        assert_eq!(left, all);
    }

    #[test]
    fn a_failed_append_leaves_nothing_behind() {
        let mut held = Held::default();
        push(&mut held, b"abc");
        let failed = held.append(|out| {
            out.extend_from_slice(b"half");
            Err("broken")
        });
        assert_eq!(failed, Err("broken"));
        assert_eq!(held.oldest(9), b"abc");
    }

    #[test]
    fn the_newest_bytes_can_be_dropped() {
        let mut held = Held::default();
        push(&mut held, b"abcdef");
        held.release_oldest(2);
        held.drop_newest(1);
        assert_eq!((held.oldest(9), held.len()), (&b"cde"[..], 3));
    }
}

//! The ear at a page: frames that are played one after the other, at exactly 48 bytes a
//! millisecond.
//!
//! No clock in here; time is the page's own, in microseconds.

use std::collections::VecDeque;

/// PCM bytes of one millisecond, 24 kHz.
pub(super) const BYTES_PER_MS: u64 = 48;

/// Frames that wait to be played.
#[derive(Debug, Default)]
pub(super) struct Ear {
    queue: VecDeque<Queued>,
    /// Frames that came so far: the number of the last one.
    frames: u32,
    /// The page's time so far, in bytes.
    now_bytes: u64,
    played_bytes: u64,
    /// Bytes of speech since the last pause.
    utterance_bytes: u64,
    /// Bytes of silence since the last speech.
    quiet_bytes: u64,
}

/// One frame in the queue.
#[derive(Debug)]
struct Queued {
    number: u32,
    left: u64,
}

impl Ear {
    /// A frame came.
    pub(super) fn media(&mut self, bytes: usize) {
        self.frames += 1;
        self.queue.push_back(Queued { number: self.frames, left: bytes as u64 });
    }

    /// Throws away what was not played; gives how much that was, in bytes.
    pub(super) fn clear(&mut self) -> u64 {
        self.queue.drain(..).map(|queued| queued.left).sum()
    }

    /// Plays until this time; gives the number of the last frame that was played to its end, if
    /// one was.
    pub(super) fn advance(&mut self, now_us: u64) -> Option<u32> {
        let target = now_us * BYTES_PER_MS / 1_000;
        let mut due = target.saturating_sub(self.now_bytes);
        self.now_bytes += due;
        let mut played = None;
        while let Some(front) = self.queue.front_mut() {
            let now = due.min(front.left);
            front.left -= now;
            due -= now;
            self.played_bytes += now;
            self.utterance_bytes += now;
            if now > 0 {
                self.quiet_bytes = 0;
            }
            if front.left > 0 {
                return played;
            }
            played = Some(front.number);
            self.queue.pop_front();
        }
        self.quiet_bytes += due;
        if self.quiet_bytes > PAUSE_BYTES {
            self.utterance_bytes = 0;
        }
        played
    }

    /// When the next frame will have been played, in microseconds.
    pub(super) fn next_us(&self) -> Option<u64> {
        let front = self.queue.front()?;
        Some(((self.now_bytes + front.left) * 1_000).div_ceil(BYTES_PER_MS))
    }

    /// Speech that was played so far, in milliseconds.
    pub(super) fn played_ms(&self) -> u64 {
        self.played_bytes / BYTES_PER_MS
    }

    /// Speech that waits to be played, in milliseconds.
    pub(super) fn queued_ms(&self) -> u64 {
        self.queue.iter().map(|queued| queued.left).sum::<u64>() / BYTES_PER_MS
    }

    /// Speech since the last pause, in milliseconds.
    pub(super) fn utterance_ms(&self) -> u64 {
        self.utterance_bytes / BYTES_PER_MS
    }

    /// Silence since the last speech, in milliseconds.
    pub(super) fn quiet_ms(&self) -> u64 {
        self.quiet_bytes / BYTES_PER_MS
    }
}

/// A hole shorter than 300 ms does not end what is being said.
const PAUSE_BYTES: u64 = 300 * BYTES_PER_MS;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn a_frame_is_heard_when_all_of_it_was_played() {
        let mut ear = Ear::default();
        ear.advance(10 * MS);
        ear.media(960);
        ear.media(960);
        assert_eq!(ear.next_us(), Some(30 * MS));
        assert_eq!(ear.advance(29 * MS), None);
        assert_eq!(ear.advance(30 * MS), Some(1));
        assert_eq!(ear.advance(90 * MS), Some(2));
        assert_eq!((ear.played_ms(), ear.quiet_ms(), ear.next_us()), (40, 40, None));
    }

    #[test]
    fn a_clear_takes_what_was_not_played_and_frames_stay_counted() {
        let mut ear = Ear::default();
        ear.media(2_880);
        ear.advance(20 * MS);
        assert_eq!((ear.queued_ms(), ear.clear()), (40, 40 * 48));
        ear.media(480);
        assert_eq!(ear.advance(40 * MS), Some(2));
        assert_eq!(ear.played_ms(), 30);
    }

    #[test]
    fn a_short_hole_does_not_end_what_is_said() {
        let mut ear = Ear::default();
        ear.media(9_600);
        ear.advance(400 * MS);
        assert_eq!(ear.utterance_ms(), 200);
        ear.advance(600 * MS);
        assert_eq!(ear.utterance_ms(), 0);
    }
}

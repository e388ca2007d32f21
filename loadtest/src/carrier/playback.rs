//! The caller's ear: a queue that is played at exactly 8 bytes a millisecond, with marks in it.
//!
//! No clock in here; time is the stream's own, in microseconds.

use std::collections::VecDeque;

use crate::audio::BYTES_PER_MS;

/// Audio and marks that wait to be played, and everything that was heard.
#[derive(Debug)]
pub(crate) struct Playback {
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// What was heard since the stream began, silence included: 8 bytes a millisecond.
    heard: Vec<u8>,
    /// How much was heard in all: what is kept of it is bounded.
    heard_bytes: usize,
    kept_bytes_max: usize,
    played_bytes: u64,
    /// Bytes of speech since the last pause.
    utterance_bytes: u64,
    /// Bytes of silence since the last speech.
    quiet_bytes: u64,
}

/// What waits in the queue.
#[derive(Debug)]
enum Queued {
    Audio { bytes: Vec<u8>, played: usize },
    Mark(String),
}

/// What a `clear` threw away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cleared {
    /// Every outstanding mark, in order.
    pub(crate) marks: Vec<String>,
    /// Audio that will not be heard, in bytes.
    pub(crate) dropped_bytes: usize,
}

impl Default for Playback {
    /// An ear that keeps everything it heard.
    fn default() -> Self {
        Self::keeping(usize::MAX)
    }
}

impl Playback {
    /// An ear that keeps so much of what it heard, from the beginning.
    pub(crate) fn keeping(kept_bytes_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            heard: Vec::new(),
            heard_bytes: 0,
            kept_bytes_max,
            played_bytes: 0,
            utterance_bytes: 0,
            quiet_bytes: 0,
        }
    }

    /// Queues audio; gives what did not fit any more, in bytes.
    pub(crate) fn media(&mut self, mut bytes: Vec<u8>) -> usize {
        let room = BUFFER_BYTES_MAX - self.queued_bytes;
        let excess = bytes.len().saturating_sub(room);
        bytes.truncate(bytes.len() - excess);
        self.queued_bytes += bytes.len();
        self.queue.push_back(Queued::Audio { bytes, played: 0 });
        excess
    }

    /// Queues a mark behind the audio.
    pub(crate) fn mark(&mut self, name: String) {
        self.queue.push_back(Queued::Mark(name));
    }

    /// Throws away everything that was not played.
    pub(crate) fn clear(&mut self) -> Cleared {
        let dropped_bytes = std::mem::take(&mut self.queued_bytes);
        let marks = self.queue.drain(..).filter_map(|queued| match queued {
            Queued::Mark(name) => Some(name),
            Queued::Audio { .. } => None,
        });
        Cleared { marks: marks.collect(), dropped_bytes }
    }

    /// Plays until this time of the stream; gives the marks that were reached.
    pub(crate) fn advance(&mut self, now_us: u64) -> Vec<String> {
        let target = now_us * BYTES_PER_MS as u64 / 1_000;
        let mut due =
            usize::try_from(target).unwrap_or(usize::MAX).saturating_sub(self.heard_bytes);
        let mut reached = Vec::new();
        while let Some(front) = self.queue.front_mut() {
            match front {
                Queued::Mark(name) => {
                    reached.push(std::mem::take(name));
                    self.queue.pop_front();
                }
                Queued::Audio { bytes, played } => {
                    let now = due.min(bytes.len() - *played);
                    let room = self.kept_bytes_max.saturating_sub(self.heard.len()).min(now);
                    self.heard.extend_from_slice(&bytes[*played..*played + room]);
                    self.heard_bytes += now;
                    *played += now;
                    let over = *played == bytes.len();
                    due -= now;
                    self.count_played(now);
                    if !over {
                        break;
                    }
                    self.queue.pop_front();
                }
            }
        }
        let room = self.kept_bytes_max.saturating_sub(self.heard.len()).min(due);
        self.heard.resize(self.heard.len() + room, codec::g711::ULAW_SILENCE);
        self.heard_bytes += due;
        self.quiet_bytes += due as u64;
        if self.quiet_bytes > PAUSE_BYTES {
            self.utterance_bytes = 0;
        }
        reached
    }

    /// Speech was played: a pause begins anew.
    fn count_played(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.queued_bytes -= bytes;
        self.played_bytes += bytes as u64;
        self.utterance_bytes += bytes as u64;
        self.quiet_bytes = 0;
    }

    /// When the next mark will be reached, in microseconds of the stream.
    pub(crate) fn next_mark_us(&self) -> Option<u64> {
        let mut bytes = self.heard_bytes;
        for queued in &self.queue {
            match queued {
                Queued::Mark(_) => {
                    return Some((bytes as u64 * 1_000).div_ceil(BYTES_PER_MS as u64));
                }
                Queued::Audio { bytes: more, played } => bytes += more.len() - played,
            }
        }
        None
    }

    /// Everything that was heard and kept, silence included.
    pub(crate) fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// Audio that waits to be played, in milliseconds.
    pub(crate) fn queued_ms(&self) -> u64 {
        (self.queued_bytes / BYTES_PER_MS) as u64
    }

    /// Speech that was played since the stream began, in milliseconds.
    pub(crate) fn played_ms(&self) -> u64 {
        self.played_bytes / BYTES_PER_MS as u64
    }

    /// Speech that was played since the last pause, in milliseconds.
    pub(crate) fn utterance_ms(&self) -> u64 {
        self.utterance_bytes / BYTES_PER_MS as u64
    }

    /// Silence since the last speech, in milliseconds.
    pub(crate) fn quiet_ms(&self) -> u64 {
        self.quiet_bytes / BYTES_PER_MS as u64
    }
}

/// Twilio keeps ten minutes of audio that was not played; more is thrown away (warning 31931).
const BUFFER_BYTES_MAX: usize = 10 * 60 * 1_000 * BYTES_PER_MS;

/// A hole shorter than 300 ms does not end what is being said.
const PAUSE_BYTES: u64 = 300 * BYTES_PER_MS as u64;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn audio_is_heard_at_eight_bytes_a_millisecond() {
        let mut ear = Playback::default();
        ear.advance(10 * MS);
        ear.media(vec![0x11; 160]);
        ear.advance(20 * MS);
        assert_eq!(ear.heard(), [vec![0xFF; 80], vec![0x11; 80]].concat());
        ear.advance(50 * MS);
        assert_eq!(ear.heard()[80..], [vec![0x11; 160], vec![0xFF; 160]].concat());
        assert_eq!((ear.played_ms(), ear.quiet_ms()), (20, 20));
    }

    #[test]
    fn a_mark_comes_back_when_the_audio_before_it_was_played() {
        let mut ear = Playback::default();
        ear.media(vec![0x11; 160]);
        ear.mark("a".into());
        ear.media(vec![0x22; 160]);
        ear.mark("b".into());
        assert_eq!(ear.next_mark_us(), Some(20 * MS));
        assert_eq!(ear.advance(19 * MS), [""; 0]);
        assert_eq!(ear.advance(20 * MS), ["a"]);
        assert_eq!(ear.advance(40 * MS), ["b"]);
        assert_eq!(ear.next_mark_us(), None);
    }

    #[test]
    fn a_mark_without_audio_comes_back_at_once() {
        let mut ear = Playback::default();
        ear.advance(5 * MS);
        ear.mark("a".into());
        assert_eq!(ear.next_mark_us(), Some(5 * MS));
        assert_eq!(ear.advance(5 * MS), ["a"]);
    }

    #[test]
    fn clear_gives_all_marks_and_stops_the_audio() {
        let mut ear = Playback::default();
        ear.media(vec![0x11; 800]);
        ear.mark("a".into());
        ear.mark("b".into());
        ear.advance(30 * MS);
        let cleared = ear.clear();
        assert_eq!(cleared, Cleared { marks: vec!["a".into(), "b".into()], dropped_bytes: 560 });
        ear.advance(40 * MS);
        assert_eq!(ear.heard()[240..], [0xFF; 80]);
        assert_eq!(ear.played_ms(), 30);
    }

    #[test]
    fn ten_minutes_are_kept_and_no_byte_more() {
        let mut ear = Playback::default();
        assert_eq!(ear.media(vec![0; BUFFER_BYTES_MAX - 8]), 0);
        assert_eq!(ear.media(vec![0; 20]), 12);
        ear.advance(MS);
        assert_eq!(ear.media(vec![0; 20]), 12);
    }

    #[test]
    fn a_short_hole_does_not_end_an_utterance() {
        let mut ear = Playback::default();
        ear.media(vec![0x11; 1_600]);
        ear.advance(400 * MS);
        assert_eq!(ear.utterance_ms(), 200);
        ear.advance(600 * MS);
        assert_eq!(ear.utterance_ms(), 0);
    }

    #[test]
    fn what_is_not_kept_is_played_all_the_same() {
        let mut ear = Playback::keeping(80);
        ear.media(vec![0x11; 160]);
        ear.mark("a".into());
        assert_eq!(ear.next_mark_us(), Some(20 * MS));
        assert_eq!(ear.advance(20 * MS), ["a"]);
        ear.advance(30 * MS);
        assert_eq!((ear.heard().len(), ear.played_ms(), ear.quiet_ms()), (80, 20, 10));
    }
}

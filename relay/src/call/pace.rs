//! When the next chunk of playout leaves, and how long it is.
//!
//! The model speaks faster than real time. What has left the relay cannot be taken back without
//! a `clear`, and everything that is ahead of the ear is in the way of it; so the relay keeps the
//! speech and stays only a bounded lead ahead. The lead is reckoned by the clock, which needs no
//! round trip, and bounded by proof: a line that stalls and then plays late does not make it grow.
//!
//! | waiting | and | then |
//! |---|---|---|
//! | a whole chunk | the lead has room for it | send it |
//! | a whole chunk | the lead is used up | wait until it has room, and a frame longer for another wake |
//! | less, and the part is complete | the lead has room for it | send it: last samples are speech |
//! | less, and more may come | the ear has enough to go on | wait for more |
//! | less, and more may come | the ear is about to run dry | send what there is |
//! | anything | too much is sent without proof that it was heard | wait for a mark |

use std::time::Duration;

use super::format::AudioFormat;
use super::moment::Moment;

/// Paces one call's playout.
#[derive(Debug)]
pub(super) struct Pace {
    /// How what waits is written.
    format: AudioFormat,
    /// The most audio ahead of the ear.
    lead: Duration,
    /// When the ear will have had everything that was sent.
    horizon: Moment,
}

/// What waits to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Bytes of the part that is next, not zero.
    pub(super) bytes: usize,
    /// Whether more of this part may come.
    pub(super) tail: Tail,
    /// Bytes that were sent and not proven to be heard.
    pub(super) unproven: u64,
}

/// Whether more of a part may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// The model is at it.
    Open,
    /// This is all.
    Final,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send so many bytes.
    Send(usize),
    /// Look again then.
    At(Moment),
    /// It may leave from then on, and is not in need before [`WAKE_SLACK`] after.
    From(Moment),
    /// Look again when a mark comes back.
    AtProof,
}

impl Pace {
    /// A pace that keeps at most `lead` ahead of the ear.
    pub(super) fn new(format: AudioFormat, lead: Duration) -> Self {
        assert!(lead >= LEAD_MIN, "the lead holds less than two chunks");
        Self { format, lead, horizon: Moment::default() }
    }

    /// Decides about what waits.
    pub(super) fn next(&self, waiting: Waiting, now: Moment) -> Next {
        assert!(waiting.bytes > 0, "nothing waits");
        let Waiting { bytes, tail, unproven } = waiting;
        if unproven > self.bytes(self.lead + PROOF_LATE_MAX) {
            return Next::AtProof;
        }
        let chunk = self.format.bytes(CHUNK_MS);
        // A chunk that is not whole leaves only in need: each is a message and a mark, and short
        // pieces have been heard to stutter.
        if bytes < chunk && tail == Tail::Open {
            let is_worth_it = bytes >= self.format.bytes(SCRAP_MS);
            let nearly_dry = if is_worth_it { NEARLY_DRY } else { Duration::ZERO };
            let hunger = self.horizon - nearly_dry;
            if now < hunger {
                return Next::At(hunger);
            }
        }
        let size = bytes.min(chunk);
        let room = self.horizon + self.format.duration(size as u64) - self.lead;
        if now < room { Next::From(room) } else { Next::Send(size) }
    }

    /// A chunk has left.
    pub(super) fn sent(&mut self, bytes: usize, now: Moment) {
        // An ear that has run dry begins to hear again when the chunk arrives.
        self.horizon = self.horizon.max(now) + self.format.duration(bytes as u64);
        assert!(self.horizon.since(now) <= self.lead, "sent further ahead than the lead");
    }

    /// All that was ahead of the ear is gone.
    pub(super) fn cleared(&mut self, now: Moment) {
        // An ear that had run dry before stays dry since then.
        self.horizon = self.horizon.min(now);
    }

    fn bytes(&self, span: Duration) -> u64 {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        ms.saturating_mul(self.format.bytes_per_ms())
    }
}

/// 60 ms: one mark each, so `heard` is exact to 60 ms, and above the 50 ms under which carriers
/// have been heard to stutter. Doubling it doubles what an interruption forgets.
const CHUNK_MS: u64 = 60;

/// The shortest chunk that is worth sending before the ear runs dry: one frame.
const SCRAP_MS: u64 = 20;

/// How early a chunk that is not whole leaves: one frame, for the way to the carrier.
const NEARLY_DRY: Duration = Duration::from_millis(20);

/// How long a chunk that may leave waits for something else that wakes the call: the caller's next
/// frame, which comes every 20 ms. A timer of its own for every chunk is 17 wakes a second more,
/// beside the 50 of the frames.
pub(super) const WAKE_SLACK: Duration = Duration::from_millis(20);

/// Two chunks: with less, every late wake would be heard.
const LEAD_MIN: Duration = Duration::from_millis(120);

/// The longest a mark may take to come back before playout waits for it, beyond the lead. Above
/// any sane round trip; doubling it doubles what a stalled line can be sent into.
const PROOF_LATE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment::from_micros(1_000_000 + ms * 1_000)
    }

    fn open(bytes: usize) -> Waiting {
        Waiting { bytes, tail: Tail::Open, unproven: 0 }
    }

    #[test]
    fn the_first_piece_leaves_at_once_however_short() {
        let pace = Pace::new(AudioFormat::Ulaw, Duration::from_millis(400));
        assert_eq!(pace.next(open(1), ms(0)), Next::Send(1));
        assert_eq!(pace.next(open(9_999), ms(0)), Next::Send(480));
    }

    #[test]
    fn the_lead_is_never_exceeded() {
        let mut pace = Pace::new(AudioFormat::Ulaw, Duration::from_millis(400));
        let mut sent = 0;
        while let Next::Send(size) = pace.next(open(9_999), ms(0)) {
            pace.sent(size, ms(0));
            sent += size;
        }
        assert_eq!(sent, 6 * 480, "six chunks are 360 ms");
        assert_eq!(pace.next(open(9_999), ms(0)), Next::From(ms(20)));
        assert_eq!(pace.next(open(9_999), ms(20)), Next::Send(480));
    }

    #[test]
    fn a_short_rest_waits_until_the_ear_is_nearly_dry() {
        let mut pace = Pace::new(AudioFormat::Ulaw, Duration::from_millis(400));
        pace.sent(480, ms(0));
        assert_eq!(pace.next(open(200), ms(0)), Next::At(ms(40)));
        assert_eq!(pace.next(open(200), ms(40)), Next::Send(200));
        assert_eq!(pace.next(open(8), ms(40)), Next::At(ms(60)), "less than a frame waits longer");
    }

    #[test]
    fn a_final_rest_waits_for_nothing_but_room() {
        let mut pace = Pace::new(AudioFormat::Ulaw, Duration::from_millis(400));
        pace.sent(480, ms(0));
        let rest = Waiting { bytes: 8, tail: Tail::Final, unproven: 480 };
        assert_eq!(pace.next(rest, ms(0)), Next::Send(8));
    }

    #[test]
    fn a_browsers_chunks_are_as_long_as_a_phones() {
        let mut pace = Pace::new(AudioFormat::Pcm24k, Duration::from_millis(400));
        assert_eq!(pace.next(open(99_999), ms(0)), Next::Send(2_880));
        for _ in 0..6 {
            pace.sent(2_880, ms(0));
        }
        assert_eq!(pace.next(open(99_999), ms(0)), Next::From(ms(20)));
        assert_eq!(pace.next(open(960), ms(0)), Next::At(ms(340)), "a frame leaves a frame early");
        let unproven = Waiting { unproven: 2_400 * 48 + 1, ..open(2_880) };
        assert_eq!(pace.next(unproven, ms(0)), Next::AtProof);
    }

    #[test]
    fn without_proof_playout_waits() {
        let pace = Pace::new(AudioFormat::Ulaw, Duration::from_millis(400));
        let waiting = Waiting { bytes: 480, tail: Tail::Open, unproven: 2_400 * 8 + 1 };
        assert_eq!(pace.next(waiting, ms(0)), Next::AtProof);
    }
}

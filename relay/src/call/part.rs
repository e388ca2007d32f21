//! One part of an answer: its audio that waits, and its line in the ledger.

use super::format::AudioFormat;
use super::held::Held;
use super::moment::Moment;

/// One part of one item of an answer, or a clip of ours.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it comes from.
    pub(super) source: Source,
    /// When the caller had stopped speaking, if this is the first answer to that.
    pub(super) replies_to: Option<Moment>,
    /// When its first sample left.
    pub(super) began: Option<Moment>,
    /// How its audio is written.
    format: AudioFormat,
    /// Audio that has not left.
    pub(super) waiting: Held,
    /// How far it is.
    pub(super) ledger: Ledger,
    /// Whether more comes.
    pub(super) making: Making,
    /// What the model made, in bytes of this format. A resampler's last block adds silence to what
    /// is generated here, and the model must never be asked to cut beyond what it made.
    made: u64,
}

/// Which part of which item of which answer, in the service's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spoken<'a> {
    /// Which of the call's sessions: another one knows nothing of it.
    pub(super) session: u32,
    /// The answer.
    pub(super) response: &'a str,
    /// The item within the answer.
    pub(super) item: &'a str,
    /// The part within the item.
    pub(super) part: u32,
}

/// Where a part comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The agent; the fields are those of [`Spoken`].
    Answer {
        /// Which of the call's sessions.
        session: u32,
        /// The answer.
        response: Box<str>,
        /// The item within the answer.
        item: Box<str>,
        /// The part within the item.
        part: u32,
    },
    /// A recording of ours.
    Clip,
}

/// Whether more of a part comes.
///
/// | making | on | to |
/// |---|---|---|
/// | `Growing` | no room for more | `Overflowed` |
/// | `Growing` | its audio ended | `Complete` |
/// | `Complete` | its answer ended | `Settled` |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Making {
    /// More audio may come.
    Growing,
    /// All audio is here; words may still come.
    Complete,
    /// The answer is over, nothing more comes.
    Settled,
    /// The model made more than there was room for; the rest is dropped.
    Overflowed,
}

/// Four counts, in bytes of the caller's format. Their order is the invariant that everything else rests on.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Made and kept.
    pub(super) generated: u64,
    /// Left the relay.
    pub(super) sent: u64,
    /// Followed by a mark.
    pub(super) marked: u64,
    /// Proven by a mark that came back.
    pub(super) heard: u64,
}

impl Ledger {
    /// Asserts the invariant.
    pub(super) fn check(&self) {
        assert!(self.heard <= self.marked, "heard more than was marked");
        assert!(self.marked <= self.sent, "marked more than was sent");
        assert!(self.sent <= self.generated, "sent more than was generated");
    }
}

impl Part {
    /// A part of which nothing is here yet.
    pub(super) fn new(source: Source, format: AudioFormat, replies_to: Option<Moment>) -> Self {
        Self {
            source,
            replies_to,
            began: None,
            format,
            waiting: Held::default(),
            ledger: Ledger::default(),
            making: Making::Growing,
            made: 0,
        }
    }

    /// Counts bytes that were appended to what waits, out of so many that the model made.
    pub(super) fn grow(&mut self, bytes: usize, made: u64) {
        self.ledger.generated += bytes as u64;
        self.made += made;
        self.ledger.check();
        self.check();
    }

    /// Drops the newest bytes, for want of room.
    pub(super) fn overflow(&mut self, bytes: usize) {
        self.waiting.drop_newest(bytes);
        self.ledger.generated -= bytes as u64;
        self.making = Making::Overflowed;
        self.check();
    }

    /// The answer is over.
    pub(super) fn settle(&mut self) {
        match self.making {
            Making::Growing | Making::Complete => self.making = Making::Settled,
            // What overflowed stays so: the model still has to be cut where it was heard.
            Making::Settled | Making::Overflowed => {}
        }
    }

    /// Whether the caller has heard all that the model made.
    pub(super) fn is_heard_in_full(&self) -> bool {
        match self.making {
            Making::Growing | Making::Overflowed => false,
            Making::Complete | Making::Settled => self.ledger.heard == self.ledger.generated,
        }
    }

    /// Whether the caller has heard all that is here, and nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        match self.making {
            Making::Growing | Making::Complete => false,
            Making::Settled | Making::Overflowed => self.ledger.heard == self.ledger.generated,
        }
    }

    /// Provably heard, in milliseconds of what the model made, rounded down.
    pub(super) fn heard_ms(&self) -> u32 {
        self.ms(self.ledger.heard.min(self.made))
    }

    /// Sent to the carrier, in milliseconds of what the model made.
    pub(super) fn sent_ms(&self) -> u32 {
        self.ms(self.ledger.sent.min(self.made))
    }

    /// Made by the model, in milliseconds.
    pub(super) fn generated_ms(&self) -> u32 {
        self.ms(self.made)
    }

    fn ms(&self, bytes: u64) -> u32 {
        to_ms(self.format, bytes)
    }

    fn check(&self) {
        let waiting = self.waiting.len() as u64;
        assert!(self.ledger.generated - self.ledger.sent == waiting, "audio was lost");
    }
}

impl Source {
    /// The agent's.
    pub(super) fn answer(spoken: Spoken<'_>) -> Self {
        let Spoken { session, response, item, part } = spoken;
        Self::Answer { session, response: response.into(), item: item.into(), part }
    }

    /// Whether it is exactly this part.
    pub(super) fn is(&self, spoken: Spoken<'_>) -> bool {
        match self {
            Self::Answer { part, .. } => *part == spoken.part && self.is_item(spoken),
            Self::Clip => false,
        }
    }

    /// Whether it is of this item, whatever part of it.
    pub(super) fn is_item(&self, spoken: Spoken<'_>) -> bool {
        match self {
            Self::Answer { session, response, item, .. } => {
                **item == *spoken.item
                    && **response == *spoken.response
                    && *session == spoken.session
            }
            Self::Clip => false,
        }
    }

    /// Whether the agent says it, in another session than this one.
    pub(super) fn is_before(&self, current: u32) -> bool {
        match self {
            Self::Answer { session, .. } => *session != current,
            Self::Clip => false,
        }
    }

    /// Whether it is of this answer.
    pub(super) fn is_answer(&self, response: &str) -> bool {
        match self {
            Self::Answer { response: r, .. } => **r == *response,
            Self::Clip => false,
        }
    }
}

/// Milliseconds of so many bytes, rounded down.
pub(super) fn to_ms(format: AudioFormat, bytes: u64) -> u32 {
    u32::try_from(format.ms(bytes)).unwrap_or(u32::MAX)
}

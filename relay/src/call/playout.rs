//! What the agent says, on its way to the caller's ear.
//!
//! The ledger: every part of every answer is counted four times, in bytes of the caller's format.
//!
//! ```text
//! generated   the model made it            heard <= marked <= sent <= generated
//! sent        it left the relay
//! marked      a mark follows it
//! heard       the mark came back: the only proof that the caller's ear got it
//! ```
//!
//! What is generated and not sent waits here ([`Part::waiting`]), and leaves in chunks at the pace of
//! [`Pace`]: one mark after each chunk, encoded once. A `clear` makes the carrier return every
//! outstanding mark; those prove nothing, so the marks of before a cut are dead.
//! Source: Twilio Media Streams, "mark" and "clear" messages, read 2026-11-20.
//!
//! What a cut means for the agent is [`barge_in`](super::barge_in)'s business; what was said in
//! words is [`turns`](super::turns)'.

use std::collections::VecDeque;
use std::time::Duration;

use super::format::{AudioFormat, Formats};
use super::input::{Audio, MarkId};
use super::moment::Moment;
use super::output::{CallerMessage, Outbox, Output};
use super::pace::{Next, Pace, Tail, WAKE_SLACK, Waiting};
use super::part::{Making, Part, Source, Spoken, to_ms};
use super::transcode::{BadAudio, Decoder, append_ulaw};

/// The agent's voice on its way to the ear.
#[derive(Debug)]
pub(super) struct Playout {
    /// How the caller is spoken to, and so how what waits is written.
    format: AudioFormat,
    /// In the order in which they are heard; the ear is at the front. Only the last one grows.
    parts: VecDeque<Part>,
    /// How many parts have left `parts` at the front: what turns a part's number into an index.
    parts_gone: u64,
    /// Marks that are out, oldest first.
    marks: VecDeque<Mark>,
    next_mark: u32,
    /// Marks below this number are dead: a clear came after them.
    first_live_mark: u32,
    pace: Pace,
    line: Line,
    decoder: Decoder,
    has_spoken: bool,
}

/// A mark that is out: when it comes back, the part is heard through there.
#[derive(Debug)]
struct Mark {
    id: MarkId,
    part: u64,
    through: u64,
}

/// Whether the caller's socket takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Free,
    Stalled,
}

/// What became of audio that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It waits for its turn.
    Kept,
    /// There was no room for all of it; the part takes no more.
    Overflowed {
        /// Milliseconds that were dropped.
        dropped_ms: u32,
    },
}

/// What a mark that came back proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The ear is further in what the agent says.
    Heard,
    /// The ear is further in a recording of ours.
    ClipHeard,
    /// Nothing: a clear threw it back.
    Dead,
    /// Nothing: it is not out.
    Stray,
}

/// What a cut leaves: the parts as they were.
#[derive(Debug)]
pub(super) struct Cut {
    /// In the order in which they were, or would have been, heard.
    pub(super) parts: VecDeque<Part>,
    /// Whether the carrier holds audio that nobody has heard for certain.
    pub(super) unheard: bool,
}

impl Playout {
    /// Nothing is said yet.
    pub(super) fn new(formats: Formats, lead: Duration) -> Self {
        Self {
            format: formats.caller(),
            parts: VecDeque::new(),
            parts_gone: 0,
            marks: VecDeque::new(),
            next_mark: 1,
            first_live_mark: 1,
            pace: Pace::new(formats.caller(), lead),
            line: Line::Free,
            decoder: Decoder::new(formats),
            has_spoken: false,
        }
    }

    /// Takes audio of an answer that is wanted.
    ///
    /// # Errors
    /// When the audio cannot be read, or belongs to a part that another one has followed.
    pub(super) fn add(
        &mut self,
        source: Spoken<'_>,
        audio: Audio<'_>,
        replies_to: Option<Moment>,
    ) -> Result<Added, BadAudio> {
        let room = self.format.bytes(HELD_MS_MAX).saturating_sub(self.held());
        let index = self.part_for(source, replies_to)?;
        let part = &mut self.parts[index];
        // Its answer is discarded by then, so this is for whoever forgets to ask.
        if part.making == Making::Overflowed {
            return Ok(Added::Overflowed { dropped_ms: 0 });
        }
        let decoder = &mut self.decoder;
        let mut made = 0;
        let bytes = part.waiting.append(|out| {
            made = decoder.decode(audio, out)?;
            Ok(())
        })?;
        part.grow(bytes, made);
        let excess = bytes.saturating_sub(room);
        if excess == 0 {
            return Ok(Added::Kept);
        }
        part.overflow(excess);
        // What is still in there is this part's, and half a sample of it would turn the next
        // part into noise.
        self.decoder.reset();
        Ok(Added::Overflowed { dropped_ms: to_ms(self.format, excess as u64) })
    }

    /// Says a recording of ours, which is mu-law, after what waits.
    pub(super) fn say(&mut self, clip: &[u8]) {
        self.complete_last();
        let mut part = Part::new(Source::Clip, self.format, None);
        let kept = part.waiting.append(|out| {
            append_ulaw(clip, self.format, out);
            Ok::<(), BadAudio>(())
        });
        if let Ok(bytes) = kept {
            part.grow(bytes, bytes as u64);
        }
        part.making = Making::Settled;
        self.parts.push_back(part);
    }

    /// All audio of an item is here.
    pub(super) fn audio_ended(&mut self, spoken: Spoken<'_>) {
        if self.parts.back().is_some_and(|part| part.source.is_item(spoken)) {
            self.complete_last();
        }
    }

    /// An answer is over; `None` means whatever answer there is.
    pub(super) fn answer_ended(&mut self, response: Option<&str>) {
        let ended = |part: &Part| response.is_none_or(|id| part.source.is_answer(id));
        if self.parts.back().is_some_and(ended) {
            self.complete_last();
        }
        for part in self.parts.iter_mut().filter(|part| ended(part)) {
            part.settle();
        }
    }

    /// Sends what may leave. Says when to be asked again, if time alone is waited for.
    pub(super) fn pump(&mut self, now: Moment, out: &mut impl Outbox) -> Option<Moment> {
        if self.line == Line::Stalled {
            return None;
        }
        loop {
            // Parts in front of it have left the relay and are still on their way to the ear.
            let index = self.parts.iter().position(|part| !part.waiting.is_empty())?;
            match self.pace.next(self.waiting(index), now) {
                Next::Send(bytes) => self.send(index, bytes, now, out),
                Next::At(moment) => return Some(moment),
                Next::From(moment) => return Some(moment + WAKE_SLACK),
                Next::AtProof => return None,
            }
        }
    }

    fn waiting(&self, index: usize) -> Waiting {
        let part = &self.parts[index];
        let tail = if part.making == Making::Growing { Tail::Open } else { Tail::Final };
        let unproven = self.parts.iter().map(|part| part.ledger.sent - part.ledger.heard).sum();
        Waiting { bytes: part.waiting.len(), tail, unproven }
    }

    fn send(&mut self, index: usize, bytes: usize, now: Moment, out: &mut impl Outbox) {
        let part = &mut self.parts[index];
        let chunk = Audio::raw(self.format, part.waiting.oldest(bytes));
        out.put(Output::ToCaller(CallerMessage::Media(chunk)));
        part.waiting.release_oldest(bytes);
        part.began.get_or_insert(now);
        self.has_spoken |= part.source != Source::Clip;
        part.ledger.sent += bytes as u64;
        self.pace.sent(bytes, now);

        // 17 marks a second use up the numbers in eight years.
        let id = MarkId(self.next_mark);
        self.next_mark += 1;
        out.put(Output::ToCaller(CallerMessage::Mark(id)));
        part.ledger.marked = part.ledger.sent;
        part.ledger.check();
        let through = part.ledger.marked;
        self.marks.push_back(Mark { id, part: self.parts_gone + index as u64, through });
    }

    /// A mark came back. Marks come back in order: one that is further proves all before it.
    pub(super) fn mark_returned(&mut self, id: MarkId) -> Proof {
        if id.0 < self.first_live_mark {
            return Proof::Dead;
        }
        let Some(at) = self.marks.iter().position(|mark| mark.id == id) else {
            return Proof::Stray;
        };
        let mut proof = Proof::ClipHeard;
        for mark in self.marks.drain(..=at) {
            let index = usize::try_from(mark.part - self.parts_gone)
                .expect("a part's number is less than the parts that a call can hold");
            let part = &mut self.parts[index];
            part.ledger.heard = mark.through;
            part.ledger.check();
            if part.source != Source::Clip {
                proof = Proof::Heard;
            }
        }
        proof
    }

    /// Takes the part at the ear once all of it has been heard and nothing more comes.
    pub(super) fn take_heard(&mut self) -> Option<Part> {
        let part = self.parts.pop_front_if(|part| part.is_over())?;
        self.parts_gone += 1;
        Some(part)
    }

    /// Stops: what waits is dropped, the marks that are out are dead.
    pub(super) fn cut(&mut self, now: Moment) -> Cut {
        let parts = std::mem::take(&mut self.parts);
        self.parts_gone += parts.len() as u64;
        self.marks.clear();
        self.first_live_mark = self.next_mark;
        self.pace.cleared(now);
        self.decoder.reset();
        let unheard = parts.iter().any(|part| part.ledger.heard < part.ledger.sent);
        Cut { parts, unheard }
    }

    /// The caller's socket takes no more.
    pub(super) fn stalled(&mut self) {
        self.line = Line::Stalled;
    }

    /// The caller's socket takes more again.
    pub(super) fn drained(&mut self) {
        self.line = Line::Free;
    }

    /// Whether everything that was to be said has been heard.
    pub(super) fn is_silent(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether the caller has provably heard nothing of what is to be said.
    pub(super) fn is_unheard(&self) -> bool {
        self.parts.iter().all(|part| part.ledger.heard == 0)
    }

    /// Whether something is still to be heard that another session than this one said.
    pub(super) fn outlasts(&self, session: u32) -> bool {
        self.parts.iter().any(|part| part.source.is_before(session))
    }

    /// Whether the agent's voice has left for the caller, ever.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// How long what was made and not heard for certain would sound.
    pub(super) fn unheard(&self) -> Duration {
        let count = |part: &Part| part.ledger.generated - part.ledger.heard;
        self.format.duration(self.parts.iter().map(count).sum())
    }

    /// Bytes that were made of an item so far: where in its audio a word stands.
    pub(super) fn generated(&self, spoken: Spoken<'_>) -> u64 {
        let of_item = |part: &&Part| part.source.is_item(spoken);
        self.parts.iter().filter(of_item).map(|part| part.ledger.generated).sum()
    }

    /// Asserts that every count is in order, and that not too much is held.
    pub(super) fn check(&self) {
        assert!(self.held() <= self.format.bytes(HELD_MS_AT_ALL), "too much playout is held");
        for part in &self.parts {
            part.ledger.check();
        }
    }

    /// How long what is made and not sent would sound.
    pub(super) fn unsent(&self) -> Duration {
        self.format.duration(self.held() as u64)
    }

    /// How much is made and not sent, in bytes; bounded by a minute, a clip and a few tones.
    fn held(&self) -> usize {
        self.parts.iter().map(|part| part.waiting.len()).sum()
    }

    /// The part that audio goes to: the last one, or a new one after it.
    fn part_for(
        &mut self,
        spoken: Spoken<'_>,
        replies_to: Option<Moment>,
    ) -> Result<usize, BadAudio> {
        let known = self.parts.iter().position(|part| part.source.is(spoken));
        let last = self.parts.len().checked_sub(1);
        // Samples of an earlier part would have to be heard before ones that have left.
        if known.is_some() {
            return if known == last { known.ok_or(BadAudio) } else { Err(BadAudio) };
        }
        if self.parts.len() >= PARTS_MAX {
            return Err(BadAudio);
        }
        self.complete_last();
        self.parts.push_back(Part::new(Source::answer(spoken), self.format, replies_to));
        Ok(self.parts.len() - 1)
    }

    /// Gives the last part the samples that are still in the resampler.
    fn complete_last(&mut self) {
        let Some(part) = self.parts.back_mut() else { return };
        if part.making != Making::Growing {
            return;
        }
        let decoder = &mut self.decoder;
        let rest = part.waiting.append(|out| {
            decoder.finish(out);
            Ok::<(), BadAudio>(())
        });
        part.grow(rest.unwrap_or(0), 0);
        part.making = Making::Complete;
    }
}

/// 60 s of speech, 480 KB of a phone's: longer than any answer that a caller sits through.
const HELD_MS_MAX: u64 = 60_000;

/// The most that can be held at all, in milliseconds: speech, tones and a clip of a few seconds.
const HELD_MS_AT_ALL: u64 = 2 * HELD_MS_MAX;

/// The most parts that are made and not heard. An answer has one or two.
const PARTS_MAX: usize = 64;

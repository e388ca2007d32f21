//! What the caller says, on its way to the agent.
//!
//! While the agent cannot take audio it is held, and the oldest is dropped beyond the bound: what
//! the caller says last matters most. Held audio is mu-law bytes, sent in pieces of 200 ms. Audio
//! that is not held crosses as the base64 text that it came as, if the agent speaks mu-law.

use super::held::Held;
use super::input::{AgentFormat, Audio, Slot};
use super::output::{AgentMessage, Flow, Milestone, Oddity, Outbox, Output};
use super::pace::BYTES_PER_MS;
use super::part::to_ms;
use super::transcode::{BadAudio, Widen};

/// The caller's voice on its way to the agent.
#[derive(Debug)]
pub(super) struct Uplink {
    gate: Gate,
    held: Held,
    path: Path,
    /// The carrier's number of the last media message that was taken.
    last_chunk: u64,
}

/// Whether the agent takes audio.
///
/// ```text
/// Connecting --open--> Open <--drained-- Stalled
///                        \-----stalled----^
/// ```
///
/// | gate | media | bound |
/// |---|---|---|
/// | `Connecting` | held | 2 s |
/// | `Open` | sent at once | |
/// | `Stalled` | held | 1 s |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Its session is not verified yet.
    Connecting,
    /// It does.
    Open,
    /// Its socket takes no more for the moment.
    Stalled,
}

/// What happens to audio on the way.
#[derive(Debug)]
enum Path {
    /// Nothing: both sides speak mu-law.
    Ulaw,
    /// It becomes PCM at 24 kHz.
    Pcm(Box<Widen>),
}

impl Uplink {
    /// Holds until it is opened.
    pub(super) fn new(agent_audio: AgentFormat) -> Self {
        let path = match agent_audio {
            AgentFormat::Ulaw => Path::Ulaw,
            AgentFormat::Pcm24k => Path::Pcm(Box::new(Widen::new())),
        };
        Self { gate: Gate::Connecting, held: Held::default(), path, last_chunk: 0 }
    }

    /// Takes one media message of the caller.
    ///
    /// # Errors
    /// When the audio cannot be read.
    pub(super) fn media(
        &mut self,
        chunk: u64,
        audio: Audio<'_>,
        to: Slot,
        out: &mut impl Outbox,
    ) -> Result<(), BadAudio> {
        // TCP keeps order: a number that does not grow is another stream's, or a repetition.
        if chunk <= self.last_chunk {
            out.put(Output::Note(Milestone::Tolerated(Oddity::StrayMedia)));
            return Ok(());
        }
        self.last_chunk = chunk;
        match (self.gate, &self.path) {
            (Gate::Open, Path::Ulaw) => {
                out.put(Output::ToAgent(to, AgentMessage::Audio(audio)));
            }
            (Gate::Open, Path::Pcm(_)) => {
                self.hold(audio)?;
                self.send_held(to, out);
            }
            (Gate::Connecting, Path::Ulaw | Path::Pcm(_)) => {
                self.hold(audio)?;
                self.drop_oldest_beyond(CONNECTING_BYTES_MAX, out);
            }
            (Gate::Stalled, Path::Ulaw | Path::Pcm(_)) => {
                self.hold(audio)?;
                self.drop_oldest_beyond(STALLED_BYTES_MAX, out);
            }
        }
        Ok(())
    }

    /// The agent takes audio.
    pub(super) fn open(&mut self, to: Slot, out: &mut impl Outbox) {
        assert_eq!(self.gate, Gate::Connecting, "the uplink opens once");
        self.gate = Gate::Open;
        self.send_held(to, out);
        // Two seconds' worth of memory that the rest of the call has no use for.
        self.held = Held::default();
    }

    /// The agent's socket takes no more.
    pub(super) fn stalled(&mut self) {
        match self.gate {
            Gate::Open => self.gate = Gate::Stalled,
            Gate::Connecting | Gate::Stalled => {}
        }
    }

    /// The agent's socket takes more again.
    pub(super) fn drained(&mut self, to: Slot, out: &mut impl Outbox) {
        match self.gate {
            Gate::Stalled => {
                self.gate = Gate::Open;
                self.send_held(to, out);
            }
            Gate::Connecting | Gate::Open => {}
        }
    }

    fn hold(&mut self, audio: Audio<'_>) -> Result<(), BadAudio> {
        self.held.append(|out| match audio {
            Audio::Base64(text) => {
                codec::base64::decode(text.as_bytes(), out).map_err(|_| BadAudio)
            }
            Audio::Ulaw(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Audio::Pcm(_) => Err(BadAudio),
        })?;
        Ok(())
    }

    fn drop_oldest_beyond(&mut self, bound: usize, out: &mut impl Outbox) {
        let excess = self.held.len().saturating_sub(bound);
        if excess > 0 {
            self.held.release_oldest(excess);
            let ms = to_ms(excess as u64);
            out.put(Output::Note(Milestone::Dropped { flow: Flow::Uplink, ms }));
        }
        assert!(self.held.len() <= bound, "more is held than the bound allows");
    }

    fn send_held(&mut self, to: Slot, out: &mut impl Outbox) {
        // In pieces, because the transcoder's buffers stay as long as the longest one.
        while !self.held.is_empty() {
            let piece = self.held.oldest(PIECE_BYTES);
            let audio = match &mut self.path {
                Path::Ulaw => Audio::Ulaw(piece),
                Path::Pcm(widen) => Audio::Pcm(widen.samples(piece)),
            };
            out.put(Output::ToAgent(to, AgentMessage::Audio(audio)));
            let sent = piece.len();
            self.held.release_oldest(sent);
        }
    }
}

/// 2 s: what a caller says while the agent's socket opens. Doubling it doubles how far the agent
/// begins behind the caller.
const CONNECTING_BYTES_MAX: usize = 2_000 * BYTES_PER_MS as usize;

/// 1 s: beyond that a stalled agent would answer to the past.
const STALLED_BYTES_MAX: usize = 1_000 * BYTES_PER_MS as usize;

/// 200 ms: few messages, and small buffers on the transcoding path.
const PIECE_BYTES: usize = 200 * BYTES_PER_MS as usize;

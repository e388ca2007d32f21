//! What the caller says, on its way to the agent.
//!
//! While the agent cannot take audio it is held, and the oldest is dropped beyond the bound: what
//! the caller says last matters most. Held audio is bytes of the caller's format, sent in pieces of
//! 200 ms. Audio that is not held crosses as it came, if the agent speaks the caller's format.
//!
//! A shard that is short of time has frames joined ([`Batch`]): they wait here until there are
//! enough of them, or until the caller has been read.
//!
//! The carrier stamps each frame with its place in time. A service finds the end of a turn by
//! hearing silence, so a gap between two stamps is filled with it, and so is a pause of the
//! carrier that lasts. Source: Twilio Media Streams, "media" message, read 2026-11-20. A browser
//! stamps nothing: only its pauses are filled.

use std::time::Duration;

use super::format::{AudioFormat, Formats};
use super::held::Held;
use super::input::{Audio, Batch, Slot};
use super::output::{AgentMessage, Flow, Milestone, Oddity, Outbox, Output};
use super::part::to_ms;
use super::transcode::{BadAudio, Widen};

/// The caller's voice on its way to the agent.
#[derive(Debug)]
pub(super) struct Uplink {
    /// How the caller's audio is written, and so what is held of it.
    format: AudioFormat,
    gate: Gate,
    held: Held,
    path: Path,
    time: Time,
    hearing: Hearing,
    batch: Batch,
    /// What was sent last, while another session may soon take over; it hears it again, so that a
    /// word that begins at the change is whole.
    recent: Option<Held>,
}

/// Whether the agent takes audio.
///
/// ```text
/// Waiting --open--> Open <--drained-- Stalled
///    ^---shut--------/ \-----stalled----^
/// ```
///
/// | gate | media | bound |
/// |---|---|---|
/// | `Waiting` | held | 2 s |
/// | `Open` | sent at once | |
/// | `Stalled` | held | 1 s |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// No session is ours yet, or any more.
    Waiting,
    /// It does.
    Open(Slot),
    /// Its socket takes no more for the moment.
    Stalled(Slot),
}

/// What happens to audio on the way.
#[derive(Debug)]
enum Path {
    /// Nothing: both sides speak the same.
    Same,
    /// Mu-law becomes PCM at 24 kHz.
    Widen(Box<Widen>),
}

/// Whether the agent is to hear the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// It is.
    Caller,
    /// It hears silence instead.
    Silence,
}

/// How far the carrier's time has come.
#[derive(Debug, Default)]
struct Time {
    /// The carrier's number of the last media message that was taken.
    last_chunk: u64,
    /// Where the next message should begin, in its milliseconds; `None` before the first.
    next_ms: Option<u64>,
    /// Silence that was put in since the last message.
    filled_ms: u64,
}

/// One media message of the caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Media<'a> {
    /// Its place in the carrier's time, in milliseconds.
    pub(super) at_ms: u64,
    /// Its number.
    pub(super) chunk: u64,
    /// In the caller's format.
    pub(super) audio: Audio<'a>,
}

impl Uplink {
    /// Holds until it is opened.
    pub(super) fn new(formats: Formats) -> Self {
        let path = match formats {
            Formats::Ulaw | Formats::Pcm24k => Path::Same,
            Formats::Transcoded => Path::Widen(Box::new(Widen::new())),
        };
        Self {
            format: formats.caller(),
            gate: Gate::Waiting,
            held: Held::default(),
            path,
            time: Time::default(),
            hearing: Hearing::Caller,
            batch: Batch::Off,
            recent: None,
        }
    }

    /// Takes one media message of the caller.
    ///
    /// # Errors
    /// When the audio cannot be read.
    pub(super) fn media(
        &mut self,
        media: Media<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), BadAudio> {
        // TCP keeps order: a number that does not grow is another stream's, or a repetition.
        if media.chunk <= self.time.last_chunk {
            out.put(Output::Note(Milestone::Tolerated(Oddity::StrayMedia)));
            return Ok(());
        }
        let length_ms = length_ms(media.audio)?;
        let missing_ms = self.time.step(media, length_ms);
        if missing_ms > 0 {
            out.put(Output::Note(Milestone::Tolerated(Oddity::FilledGap)));
            self.silence(missing_ms, out);
        }
        self.hear(media.audio, length_ms, out)
    }

    /// Takes audio that has no stamp.
    ///
    /// # Errors
    /// When the audio cannot be read.
    pub(super) fn speech(
        &mut self,
        audio: Audio<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), BadAudio> {
        let length_ms = length_ms(audio)?;
        self.time.go_on();
        self.hear(audio, length_ms, out)
    }

    fn hear(
        &mut self,
        audio: Audio<'_>,
        length_ms: u64,
        out: &mut impl Outbox,
    ) -> Result<(), BadAudio> {
        match self.hearing {
            Hearing::Caller => self.take(audio, out),
            Hearing::Silence => {
                self.silence(length_ms, out);
                Ok(())
            }
        }
    }

    /// From here on audio is sent on like this.
    pub(super) fn batch(&mut self, batch: Batch, out: &mut impl Outbox) {
        self.batch = batch;
        self.send_batch(out);
    }

    /// How often the caller is to be read, if not as soon as something comes.
    pub(super) fn reads_every(&self) -> Option<Duration> {
        match self.batch {
            Batch::Off | Batch::Writes(_) => None,
            Batch::Reads(pace) => Some(pace),
        }
    }

    /// Sends what has been joined so far, if the agent takes it.
    pub(super) fn send_batch(&mut self, out: &mut impl Outbox) {
        if let Gate::Open(to) = self.gate {
            self.send_held(to, out);
        }
    }

    /// The carrier sends nothing: puts silence in its place. Says whether that goes on.
    pub(super) fn fill_pause(&mut self, ms: u64, out: &mut impl Outbox) -> bool {
        // What was to be joined with more would wait for a carrier that may never speak again.
        self.send_batch(out);
        if self.time.next_ms.is_none() || self.time.filled_ms >= FILL_MS_MAX {
            return false;
        }
        self.time.filled_ms += ms;
        self.silence(ms, out);
        true
    }

    fn take(&mut self, audio: Audio<'_>, out: &mut impl Outbox) -> Result<(), BadAudio> {
        if let Some(recent) = &mut self.recent {
            hold(recent, self.format, audio)?;
            let excess = recent.len().saturating_sub(self.format.bytes(RECENT_MS));
            recent.release_oldest(excess);
        }
        match (self.gate, &self.path) {
            // Joined base64 would have its padding in the middle, so only a lone frame is text.
            (Gate::Open(to), Path::Same) if self.batch == Batch::Off => {
                out.put(Output::ToAgent(to, AgentMessage::Audio(audio)));
            }
            (Gate::Open(to), Path::Same | Path::Widen(_)) => {
                hold(&mut self.held, self.format, audio)?;
                if self.held.len() >= self.format.bytes(batch_ms(self.batch)) {
                    self.send_held(to, out);
                }
            }
            (Gate::Waiting, Path::Same | Path::Widen(_)) => {
                hold(&mut self.held, self.format, audio)?;
                self.drop_oldest_beyond(WAITING_MS_MAX, out);
            }
            (Gate::Stalled(_), Path::Same | Path::Widen(_)) => {
                hold(&mut self.held, self.format, audio)?;
                self.drop_oldest_beyond(STALLED_MS_MAX, out);
            }
        }
        Ok(())
    }

    fn silence(&mut self, ms: u64, out: &mut impl Outbox) {
        let silence = silence(self.format);
        let mut left = self.format.bytes(ms);
        while left > 0 {
            let piece = left.min(silence.len());
            // Bytes of the caller's own format cannot be malformed.
            let taken = self.take(Audio::raw(self.format, &silence[..piece]), out);
            assert!(taken.is_ok(), "silence could not be read");
            left -= piece;
        }
    }

    /// An agent takes audio: what waits, and from here on all.
    pub(super) fn open(&mut self, to: Slot, out: &mut impl Outbox) {
        self.gate = Gate::Open(to);
        self.send_held(to, out);
        // Two seconds' worth of memory that the rest of the call has no use for.
        self.held = Held::default();
        self.recent = None;
    }

    /// Another agent takes the place of the one that hears the caller: it begins a little earlier.
    pub(super) fn hand_over(&mut self, to: Slot, out: &mut impl Outbox) {
        // What is held of an open uplink was to be joined with more, and is the end of what is recent.
        if let Some(recent) = self.recent.take()
            && self.held.len() <= recent.len()
        {
            self.held = recent;
        }
        self.open(to, out);
    }

    /// From here on it is remembered what was said last.
    pub(super) fn expect_hand_over(&mut self) {
        self.recent.get_or_insert_default();
    }

    /// The agent is gone: holds until it is opened again.
    pub(super) fn shut(&mut self) {
        self.gate = Gate::Waiting;
        self.recent = None;
    }

    /// An agent's socket takes no more.
    pub(super) fn stalled(&mut self, slot: Slot) {
        if self.gate == Gate::Open(slot) {
            self.gate = Gate::Stalled(slot);
        }
    }

    /// An agent's socket takes more again.
    pub(super) fn drained(&mut self, slot: Slot, out: &mut impl Outbox) {
        if self.gate == Gate::Stalled(slot) {
            self.gate = Gate::Open(slot);
            self.send_held(slot, out);
        }
    }

    /// Whether the agent takes audio at this moment.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.gate, Gate::Open(_))
    }

    /// From here on, the agent hears silence instead of the caller, or the caller again.
    pub(super) fn mute(&mut self, on: bool) {
        self.hearing = if on { Hearing::Silence } else { Hearing::Caller };
    }

    /// Asserts that not too much is held.
    pub(super) fn check(&self) {
        let most = self.format.bytes(WAITING_MS_MAX);
        assert!(self.held.len() <= most, "too much uplink is held");
    }

    fn drop_oldest_beyond(&mut self, ms_max: u64, out: &mut impl Outbox) {
        let bound = self.format.bytes(ms_max);
        let excess = self.held.len().saturating_sub(bound);
        if excess > 0 {
            self.held.release_oldest(excess);
            let ms = to_ms(self.format, excess as u64);
            out.put(Output::Note(Milestone::Dropped { flow: Flow::Uplink, ms }));
        }
        assert!(self.held.len() <= bound, "more is held than the bound allows");
    }

    fn send_held(&mut self, to: Slot, out: &mut impl Outbox) {
        // In pieces, because the transcoder's buffers stay as long as the longest one.
        while !self.held.is_empty() {
            let piece = self.held.oldest(self.format.bytes(PIECE_MS));
            let audio = match &mut self.path {
                Path::Same => Audio::raw(self.format, piece),
                Path::Widen(widen) => Audio::Pcm(widen.samples(piece)),
            };
            out.put(Output::ToAgent(to, AgentMessage::Audio(audio)));
            let sent = piece.len();
            self.held.release_oldest(sent);
        }
    }
}

impl Time {
    /// A message came. Says how much is missing before it, in milliseconds.
    fn step(&mut self, media: Media<'_>, length_ms: u64) -> u64 {
        self.last_chunk = media.chunk;
        let filled_ms = std::mem::take(&mut self.filled_ms);
        let gap_ms = self.next_ms.map_or(0, |next| media.at_ms.saturating_sub(next));
        // A stamp that goes back a little is a carrier's rounding, and moves nothing.
        let end = media.at_ms + length_ms;
        self.next_ms = Some(self.next_ms.map_or(end, |next| end.max(next)));
        if gap_ms < GAP_MS_MIN { 0 } else { gap_ms.min(FILL_MS_MAX).saturating_sub(filled_ms) }
    }

    /// Audio without a stamp came: it begins where the caller is.
    fn go_on(&mut self) {
        self.filled_ms = 0;
        self.next_ms.get_or_insert(0);
    }
}

/// How much audio is joined before it is sent, in milliseconds.
fn batch_ms(batch: Batch) -> u64 {
    match batch {
        Batch::Off => 0,
        Batch::Writes(span) => ms_of(span),
        // One that is read late has more to say; it goes with the deadline, or at this size.
        Batch::Reads(pace) => ms_of(pace) * 2,
    }
}

fn ms_of(span: Duration) -> u64 {
    // A setting of a few frames: see `Batch`.
    u64::try_from(span.as_millis()).unwrap_or(u64::from(u32::MAX))
}

fn hold(held: &mut Held, format: AudioFormat, audio: Audio<'_>) -> Result<(), BadAudio> {
    held.append(|out| match (audio, format) {
        (Audio::Base64(text), AudioFormat::Ulaw) => {
            codec::base64::decode(text.as_bytes(), out).map_err(|_| BadAudio)
        }
        (Audio::Ulaw(bytes), AudioFormat::Ulaw) | (Audio::PcmBytes(bytes), AudioFormat::Pcm24k) => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        // Another leg's; half a sample of base64 would be noise from there on.
        (Audio::Base64(_) | Audio::Ulaw(_), AudioFormat::Pcm24k)
        | (Audio::PcmBytes(_), AudioFormat::Ulaw)
        | (Audio::Pcm(_), AudioFormat::Ulaw | AudioFormat::Pcm24k) => Err(BadAudio),
    })?;
    Ok(())
}

/// How long audio of a caller sounds, rounded down. Base64 is not checked for that.
fn length_ms(audio: Audio<'_>) -> Result<u64, BadAudio> {
    let bytes = match audio {
        Audio::Base64(text) => {
            let padding = text.bytes().rev().take(2).take_while(|byte| *byte == b'=').count();
            (text.len() / 4 * 3).saturating_sub(padding)
        }
        Audio::Ulaw(bytes) => bytes.len(),
        Audio::PcmBytes(bytes) if bytes.len() % 2 == 0 => {
            return Ok(AudioFormat::Pcm24k.ms(bytes.len() as u64));
        }
        Audio::PcmBytes(_) | Audio::Pcm(_) => return Err(BadAudio),
    };
    Ok(AudioFormat::Ulaw.ms(bytes as u64))
}

/// 200 ms of silence.
fn silence(format: AudioFormat) -> &'static [u8] {
    match format {
        AudioFormat::Ulaw => &ULAW_SILENCE,
        AudioFormat::Pcm24k => &PCM_SILENCE,
    }
}

static ULAW_SILENCE: [u8; AudioFormat::Ulaw.bytes(PIECE_MS)] =
    [codec::g711::ULAW_SILENCE; AudioFormat::Ulaw.bytes(PIECE_MS)];

static PCM_SILENCE: [u8; AudioFormat::Pcm24k.bytes(PIECE_MS)] =
    [0; AudioFormat::Pcm24k.bytes(PIECE_MS)];

/// 2 s: what a caller says while the agent's socket opens. Doubling it doubles how far the agent
/// begins behind the caller.
const WAITING_MS_MAX: u64 = 2_000;

/// 1 s: beyond that a stalled agent would answer to the past.
const STALLED_MS_MAX: u64 = 1_000;

/// 400 ms: a service hears speech some 200 ms after it began.
const RECENT_MS: u64 = 400;

/// 200 ms: few messages, and small buffers on the transcoding path.
const PIECE_MS: u64 = 200;

/// Below two frames a gap is jitter of the stamps.
const GAP_MS_MIN: u64 = 40;

/// The most silence that takes the place of one gap: longer than any setting that ends a turn
/// would wait for. What is missing beyond that is missing for good.
const FILL_MS_MAX: u64 = 2_000;

//! Every spoken item of a call, counted where it is made, told, sent, proven and heard.
//!
//! Audio is known by its sound: every sample of an item is the same, and not that of its
//! neighbours. So the phone knows whose audio it plays without asking the relay, and so does
//! whoever looks at what the relay sends.

use crate::phone::Kind;

/// Something that is spoken: one item of an answer.
#[derive(Debug)]
pub(crate) struct Spoken {
    /// The item.
    pub(crate) item: String,
    /// Whether it is a greeting.
    pub(crate) is_greeting: bool,
    /// Bytes that the model has made, in its own format.
    pub(crate) made_bytes: u64,
    /// Bytes of that which the relay was told.
    pub(crate) told_bytes: u64,
    /// Bytes that the relay has sent, in the caller's format.
    pub(crate) sent: u64,
    /// Bytes that marks have proven.
    pub(crate) proven: u64,
    /// Bytes that the ear got.
    pub(crate) ear: u64,
    /// Whether the relay has cut it.
    pub(crate) is_cut: bool,
    /// The words of it that the relay was told.
    pub(crate) words: String,
    /// How many words the model has made.
    pub(crate) words_made: usize,
}

/// Whose a piece of audio is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A spoken item's.
    Item(usize),
    /// The clip of an end.
    Sorry,
    /// The clip of a moment.
    Moment,
    /// Key tones, or the edge of something.
    Other,
}

/// All that is spoken in a call.
#[derive(Debug)]
pub(crate) struct Book {
    /// Whether the model speaks PCM.
    pub(crate) is_pcm: bool,
    /// Who listens.
    pub(crate) kind: Kind,
    /// In the order in which it began.
    pub(crate) spoken: Vec<Spoken>,
    /// Bytes that the ear got and that are nobody's for certain.
    pub(crate) ear_of_others: u64,
}

impl Book {
    /// Nothing is said yet.
    pub(crate) fn new(kind: Kind, is_pcm: bool) -> Self {
        Self { is_pcm, kind, spoken: Vec::new(), ear_of_others: 0 }
    }

    /// Something begins to be spoken.
    pub(crate) fn begin(&mut self, item: &str, is_greeting: bool) -> usize {
        self.spoken.push(Spoken {
            item: item.to_owned(),
            is_greeting,
            made_bytes: 0,
            told_bytes: 0,
            sent: 0,
            proven: 0,
            ear: 0,
            is_cut: false,
            words: String::new(),
            words_made: 0,
        });
        self.spoken.len() - 1
    }

    /// An item by the names that the relay uses.
    pub(crate) fn of_item(&mut self, item: &str) -> Option<&mut Spoken> {
        self.spoken.iter_mut().rev().find(|spoken| spoken.item == item)
    }

    /// How many bytes of a model's audio are a millisecond.
    pub(crate) fn bytes_per_ms(&self) -> u64 {
        if self.is_pcm { 48 } else { 8 }
    }

    /// Milliseconds, rounded down, of so many of a model's bytes.
    pub(crate) fn ms(&self, bytes: u64) -> u64 {
        bytes / self.bytes_per_ms()
    }

    /// Milliseconds, rounded down, of so many of the caller's bytes.
    pub(crate) fn ear_ms(&self, bytes: u64) -> u64 {
        bytes / self.kind.bytes_per_ms()
    }

    /// Of so many of a model's bytes, those that are whole samples.
    pub(crate) fn whole(&self, bytes: u64) -> u64 {
        if self.is_pcm { bytes & !1 } else { bytes }
    }

    /// Whether audio changes its form on the way.
    pub(crate) fn is_resampled(&self) -> bool {
        self.is_pcm && self.kind == Kind::Phone
    }

    /// The mu-law sample of an item.
    pub(crate) fn tag(&self, n: usize) -> u8 {
        if self.is_resampled() {
            let (sign, step) = ((n / STEPS) % 2, n % STEPS);
            u8::try_from(0x10 + sign * 0x80 + step * 8).unwrap_or(0)
        } else {
            u8::try_from(8 + n % PLAIN_TAGS).unwrap_or(0)
        }
    }

    fn tags(&self) -> usize {
        if self.is_resampled() { STEPS * 2 } else { PLAIN_TAGS }
    }

    /// Whose audio it is: of the items with that sound, the last.
    pub(crate) fn whose(&self, audio: &[u8]) -> Whose {
        match self.kind {
            Kind::Phone => self.whose_ulaw(audio),
            Kind::Page => {
                let (mut samples, mut ulaw) = (Vec::new(), Vec::new());
                codec::pcm::from_le_bytes(audio, &mut samples).expect("a page gets whole samples");
                codec::g711::ulaw_encode(&samples, &mut ulaw);
                self.whose_ulaw(&ulaw)
            }
        }
    }

    fn whose_ulaw(&self, ulaw: &[u8]) -> Whose {
        let Some(first) = ulaw.first().copied() else { return Whose::Other };
        let is_even = ulaw.iter().all(|byte| *byte == first);
        match (is_even, first) {
            (true, 2) => return Whose::Sorry,
            (true, 3) => return Whose::Moment,
            (false, _) if !self.is_resampled() => return Whose::Other,
            _ => {}
        }
        let sound = if is_even { first } else { most_of(ulaw) };
        let near = ulaw.iter().filter(|byte| byte.abs_diff(sound) <= 2).count();
        if near * 10 < ulaw.len() * 6 {
            return Whose::Other;
        }
        let tags = self.tags();
        let is_it = |n: &usize| {
            let tag = self.tag(*n);
            if self.is_resampled() { tag.abs_diff(sound) <= 2 } else { tag == sound }
        };
        let recent = self.spoken.len().saturating_sub(tags)..self.spoken.len();
        recent.rev().find(is_it).map_or(Whose::Other, Whose::Item)
    }

    /// So many bytes of an item's audio, from where it stands.
    pub(crate) fn make(&mut self, n: usize, bytes: u64, audio: &mut Vec<u8>) {
        let tag = self.tag(n);
        let from = self.spoken[n].made_bytes;
        self.spoken[n].made_bytes += bytes;
        if self.is_pcm {
            let mut sample = Vec::new();
            codec::g711::ulaw_decode(&[tag], &mut sample);
            let sample = sample[0].to_le_bytes();
            audio.extend((from..from + bytes).map(|at| sample[usize::from(at % 2 == 1)]));
        } else {
            audio.extend((0..bytes).map(|_| tag));
        }
    }
}

/// The sample of which there is most.
fn most_of(ulaw: &[u8]) -> u8 {
    let mut counts = [0_u16; 256];
    for byte in ulaw {
        counts[usize::from(*byte)] += 1;
    }
    (0..=255_u8).max_by_key(|byte| counts[usize::from(*byte)]).unwrap_or(0)
}

/// Sounds of mu-law items. Those below are the clips'; from 127 on they are the same levels with the
/// other sign, and the first of those is silence, which as samples has no sign.
const PLAIN_TAGS: usize = 119;

/// Levels that stay apart after resampling.
const STEPS: usize = 10;

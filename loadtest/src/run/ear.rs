//! What the far end hears of a caller: recognises and checks every 20 ms, and says when a turn
//! begins and ends. Shared by the fake model and the fake Media Streams server.

use super::board::Board;
use super::measured::Figures;
use super::stamp::{BLOCK, SPELLED_BITS, Stamp, is_loud_pcm24k};
use crate::demo::Audio;

/// One caller's audio, as it arrives.
#[derive(Debug)]
pub(crate) struct Ear {
    audio: Audio,
    /// Which call it is; learned from the audio.
    pub(crate) call: Option<u32>,
    spelled: u32,
    /// The frame that comes next.
    frame: u32,
    waiting: Vec<u8>,
    /// How much of `waiting` was heard.
    heard: usize,
    speech: Speech,
    /// When the first frame arrived.
    since_us: Option<u64>,
}

/// Whether the caller speaks, and for how long not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Quiet,
    Speaking { quiet: u32 },
}

/// What turn detection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The caller begins to speak.
    Started {
        /// Where in the audio, in milliseconds.
        at_ms: u64,
    },
    /// The caller has been quiet for long enough.
    Ended {
        /// Where in the audio, in milliseconds.
        at_ms: u64,
    },
}

impl Ear {
    /// Nothing heard yet.
    pub(crate) fn new(audio: Audio) -> Self {
        Self {
            audio,
            call: None,
            spelled: 0,
            frame: 0,
            waiting: Vec::new(),
            heard: 0,
            speech: Speech::Quiet,
            since_us: None,
        }
    }

    /// Bytes of 20 ms in the session's format.
    pub(crate) fn block_bytes(&self) -> usize {
        match self.audio {
            Audio::Mulaw => BLOCK,
            // Three times the samples, two bytes each.
            Audio::Pcm24k => BLOCK * 6,
        }
    }

    /// Takes base64; the sender may join and cut as it likes.
    pub(crate) fn take(&mut self, base64: &str, figures: &mut Figures) {
        let before = self.waiting.len();
        if codec::base64::decode(base64.as_bytes(), &mut self.waiting).is_err() {
            self.waiting.truncate(before);
            figures.counts.frames_altered_up += 1;
        }
    }

    /// Hears whole blocks up to the next turn; `None` when there is none in what was taken.
    pub(crate) fn next_turn(
        &mut self,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
    ) -> Option<Turn> {
        let size = self.block_bytes();
        // Taken out and put back, so that its room is kept.
        let bytes = std::mem::take(&mut self.waiting);
        let mut turn = None;
        while turn.is_none()
            && let Some(block) = bytes.get(self.heard..self.heard + size)
        {
            self.heard += size;
            let loud = match self.audio {
                Audio::Mulaw => self.stamped(block, now_us, board, figures),
                Audio::Pcm24k => self.counted(block, now_us, board, figures),
            };
            turn = self.listen(loud);
        }
        self.waiting = bytes;
        if turn.is_none() {
            self.waiting.drain(..self.heard);
            self.heard = 0;
        }
        turn
    }

    /// A block that names itself.
    fn stamped(&mut self, block: &[u8], now_us: u64, board: &Board, figures: &mut Figures) -> bool {
        let known = |stamp: &Stamp| stamp.reply == 0 && self.call.is_none_or(|c| c == stamp.call);
        let Some(stamp) = Stamp::read(block).filter(known) else {
            figures.counts.frames_altered_up += 1;
            self.frame += 1;
            return false;
        };
        if self.call.is_none() {
            // A session that takes over goes on where the one before it ended.
            self.frame = board.arrived(stamp.call).min(stamp.block);
        }
        self.call = Some(stamp.call);
        if stamp.block < self.frame {
            figures.counts.frames_repeated_up += 1;
            return stamp.loud;
        }
        figures.counts.frames_lost_up += u64::from(stamp.block.saturating_sub(self.frame));
        self.frame = stamp.block;
        self.arrived(now_us, board, figures);
        stamp.loud
    }

    /// A block whose place in the stream names it.
    fn counted(&mut self, block: &[u8], now_us: u64, board: &Board, figures: &mut Figures) -> bool {
        let loud = is_loud_pcm24k(block);
        if self.frame == 0 && !loud {
            figures.counts.frames_altered_up += 1;
        }
        let spells = self.frame <= SPELLED_BITS;
        if spells && self.frame > 0 {
            self.spelled |= u32::from(loud) << (self.frame - 1);
        }
        if self.frame == SPELLED_BITS {
            self.call = Some(self.spelled);
        }
        self.arrived(now_us, board, figures);
        loud && !spells
    }

    /// Notes a frame's delay. The first frames of a call wait for its session, which is no
    /// added delay of a frame: what was written before the first one arrived is not noted.
    fn arrived(&mut self, now_us: u64, board: &Board, figures: &mut Figures) {
        let since_us = *self.since_us.get_or_insert(now_us);
        if let Some(call) = self.call
            && let Some(written_us) = board.frame_arrived(call, self.frame)
            && board.is_measured(written_us)
            && written_us >= since_us
        {
            figures.note_up(now_us, now_us.saturating_sub(written_us));
        }
        self.frame += 1;
    }

    /// Turn detection: the sender says what is loud, so that no energy has to be measured.
    fn listen(&mut self, loud: bool) -> Option<Turn> {
        let at_ms = u64::from(self.frame) * 20;
        match (self.speech, loud) {
            (Speech::Quiet, false) => None,
            (Speech::Quiet, true) => {
                self.speech = Speech::Speaking { quiet: 0 };
                Some(Turn::Started { at_ms })
            }
            (Speech::Speaking { .. }, true) => {
                self.speech = Speech::Speaking { quiet: 0 };
                None
            }
            (Speech::Speaking { quiet }, false) if quiet + 1 < SILENCE => {
                self.speech = Speech::Speaking { quiet: quiet + 1 };
                None
            }
            (Speech::Speaking { .. }, false) => {
                self.speech = Speech::Quiet;
                Some(Turn::Ended { at_ms })
            }
        }
    }
}

/// 500 ms of silence end a turn.
const SILENCE: u32 = 25;

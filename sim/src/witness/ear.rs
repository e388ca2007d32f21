//! What is sent, cut, proven and claimed to be heard.

use std::collections::BTreeMap;
use std::time::Duration;

use relay::call::input::Audio;
use relay::call::moment::Moment;
use relay::call::output::AgentTurn;

use crate::book::{Book, Whose};
use crate::phone::Kind;

/// The ear's side of the books.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// Marks that are out: of which item, and through how much of it.
    marks: BTreeMap<u32, (Whose, u64)>,
    last: Option<Whose>,
    last_mark: u32,
    /// When something was last told, left or proven.
    moved: Moment,
}

impl Ear {
    /// Audio leaves.
    pub(super) fn sent(&mut self, audio: Audio<'_>, book: &mut Book) {
        let bytes = match (book.kind, audio) {
            (Kind::Phone, Audio::Ulaw(bytes)) | (Kind::Page, Audio::PcmBytes(bytes)) => bytes,
            (_, other) => panic!("not what this caller is told: {other:?}"),
        };
        assert!(!bytes.is_empty(), "an empty message");
        let whose = book.whose(bytes);
        self.last = Some(whose);
        if let Whose::Item(n) = whose {
            let told_ms = book.ms(book.spoken[n].told_bytes);
            let is_resampled = book.is_resampled();
            let spoken = &mut book.spoken[n];
            assert!(!spoken.is_cut, "audio of {} leaves after it was cut", spoken.item);
            spoken.sent += bytes.len() as u64;
            // A resampler's last block is longer than what it was given.
            let most = if is_resampled { (told_ms + 20) * 8 } else { spoken.told_bytes };
            assert!(spoken.sent <= most, "more leaves than was made");
        }
    }

    /// A mark follows.
    pub(super) fn marked(&mut self, mark: u32, book: &Book) {
        assert_eq!(mark, self.last_mark + 1, "marks are numbered as pieces of audio are");
        self.last_mark = mark;
        let whose = self.last.expect("a mark follows audio");
        let through = match whose {
            Whose::Item(n) => book.spoken[n].sent,
            Whose::Sorry | Whose::Moment | Whose::Other => 0,
        };
        self.marks.insert(mark, (whose, through));
    }

    /// Something moves, or has a reason not to.
    pub(super) fn moves(&mut self, now: Moment) {
        self.moved = now;
    }

    /// In a calm call, what has begun to leave is heard to its last sample.
    pub(super) fn look(&self, now: Moment, book: &Book) {
        if now.since(self.moved) < STUCK_AFTER {
            return;
        }
        for spoken in book.spoken.iter().rev().take(8) {
            let is_begun = spoken.sent > 0 && !spoken.is_cut;
            assert!(
                !is_begun || spoken.proven == book.whole(spoken.told_bytes),
                "{} of {} bytes of {} were heard, and nothing moves",
                spoken.proven,
                spoken.told_bytes,
                spoken.item
            );
        }
    }

    /// What is out is thrown away, and its marks prove nothing. What was told so far is cut.
    pub(super) fn cleared(&mut self, book: &mut Book) {
        assert!(!self.marks.is_empty(), "a clear of nothing");
        self.marks.clear();
        for spoken in book.spoken.iter_mut().rev().take(64) {
            // What was told after this is another answer's, or late.
            spoken.is_cut |= spoken.told_bytes > 0;
        }
    }

    /// The relay is about to hear a mark: what was sent before it is proven.
    pub(super) fn mark_told(&mut self, mark: u32, book: &mut Book) {
        if !self.marks.contains_key(&mark) {
            return;
        }
        let rest = self.marks.split_off(&(mark + 1));
        for (whose, through) in std::mem::replace(&mut self.marks, rest).into_values() {
            if let Whose::Item(n) = whose {
                book.spoken[n].proven = through;
            }
        }
    }

    /// The relay claims that so much of an item was heard.
    pub(super) fn claimed(&self, where_: &str, item: &str, heard_ms: u32, book: &mut Book) {
        let is_resampled = book.is_resampled();
        let other = book.ear_of_others;
        let spoken = book.of_item(item).unwrap_or_else(|| panic!("{where_}: unknown item {item}"));
        let (ear, proven) = (spoken.ear, spoken.proven);
        let heard = u64::from(heard_ms);
        if is_resampled {
            // Edges of resampled audio sound like nobody's.
            let ear_ms = book.ear_ms(ear + other);
            assert!(heard <= ear_ms, "{where_}: {heard} ms of {item}, the ear got {ear_ms}");
            return;
        }
        let (ear_ms, proven_ms) = (book.ear_ms(ear), book.ear_ms(proven));
        assert!(heard <= ear_ms, "{where_}: {heard} ms of {item}, the ear got {ear_ms}");
        assert_eq!(heard, proven_ms, "{where_}: {item}, by what marks have proven");
    }

    /// A turn is told.
    pub(super) fn told(&self, turn: &AgentTurn<'_>, is_calm: bool, book: &mut Book) {
        let made_ms = {
            let bytes = book.of_item(turn.item).map_or(0, |spoken| spoken.told_bytes);
            book.ms(bytes)
        };
        assert!(turn.heard_ms <= turn.generated_ms, "heard more than was made");
        assert!(u64::from(turn.generated_ms) <= made_ms, "made more than the model did");
        let whole = book.of_item(turn.item).map_or(0, |spoken| spoken.told_bytes);
        let whole = book.whole(whole);
        let Some(spoken) = book.of_item(turn.item) else { return };
        spoken.is_cut |= turn.interrupted;
        if is_calm && !turn.interrupted {
            assert_eq!(spoken.proven, whole, "{} was not heard in full", turn.item);
            assert_eq!(spoken.words.trim(), turn.text.trim(), "a turn has all its words");
        }
        let words = spoken.words.trim();
        assert!(words.starts_with(turn.text.trim()), "words that nobody said: {:?}", turn.text);
    }
}

/// Longer than anything that holds playout up in a calm call.
const STUCK_AFTER: Duration = Duration::from_secs(8);

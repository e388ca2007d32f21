//! The words of one item, and where in its audio they stand.
//!
//! A service sends words beside the audio, in no fixed step with it: sometimes ahead, sometimes
//! all at once. Each run of words is taken to sound between the sample at which it came and the
//! one at which the next came; the first begins with the audio. Within a run words are taken to
//! be spoken evenly. A word that was not heard to its end was not heard.

use super::part::Spoken;

/// What one item says.
#[derive(Debug)]
pub(super) struct Words {
    session: u32,
    response: Box<str>,
    item: Box<str>,
    text: String,
    runs: Vec<Run>,
}

/// Words that came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// The sample of the item at which they came.
    from: u64,
    /// Where they end in the text.
    end: usize,
}

impl Words {
    /// An item begins to be put into words.
    pub(super) fn new(spoken: Spoken<'_>, text: &str) -> Self {
        let mut words = Self {
            session: spoken.session,
            response: spoken.response.into(),
            item: spoken.item.into(),
            text: String::new(),
            runs: Vec::new(),
        };
        words.add(text, 0);
        words
    }

    /// Whether these are the words of this item.
    pub(super) fn is_of(&self, spoken: Spoken<'_>) -> bool {
        *self.item == *spoken.item
            && *self.response == *spoken.response
            && self.session == spoken.session
    }

    /// More words, `from` a sample on. Beyond the bound they are not kept.
    pub(super) fn add(&mut self, text: &str, from: u64) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
        let text = &text[..text.floor_char_boundary(room)];
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        let end = self.text.len();
        // Words that come at the same sample are one run, also when their audio is still to come.
        match self.runs.last_mut() {
            Some(last) if last.from >= from => last.end = end,
            Some(_) => self.runs.push(Run { from, end }),
            None => self.runs.push(Run { from: 0, end }),
        }
    }

    /// All of it.
    pub(super) fn all(&self) -> &str {
        &self.text
    }

    /// What was heard, when so much of what was `generated` was `heard`.
    pub(super) fn heard(&self, heard: u64, generated: u64) -> &str {
        let mut kept = 0;
        for (n, run) in self.runs.iter().enumerate() {
            let until = self.runs.get(n + 1).map_or(generated, |next| next.from);
            // The run in which the ear stopped: so much of its letters as of its sound.
            if heard < until {
                let sounds = heard.saturating_sub(run.from);
                kept += share(run.end - kept, sounds, until.saturating_sub(run.from));
                break;
            }
            kept = run.end;
        }
        whole_words(&self.text, kept)
    }
}

/// So much of `length` as `sounds` is of `of`.
fn share(length: usize, sounds: u64, of: u64) -> usize {
    let part = (length as u64).saturating_mul(sounds) / of.max(1);
    usize::try_from(part).unwrap_or(length).min(length)
}

/// The words that lie whole in the first `end` bytes.
fn whole_words(text: &str, end: usize) -> &str {
    let end = text.floor_char_boundary(end);
    let (kept, rest) = text.split_at(end);
    if rest.is_empty() || rest.starts_with(char::is_whitespace) {
        return kept.trim_end();
    }
    kept.rfind(char::is_whitespace).map_or("", |space| kept[..space].trim_end())
}

/// The longest text of one item: eight minutes of speech, far above what fits an answer.
const TEXT_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Spoken<'_> = Spoken { session: 1, response: "r", item: "i", part: 0 };

    fn words(runs: &[(&str, u64)]) -> Words {
        let mut words = Words::new(ITEM, "");
        for (text, from) in runs {
            words.add(text, *from);
        }
        words
    }

    #[test]
    fn runs_that_were_heard_are_kept() {
        let words = words(&[("Harbor Bikes,", 0), (" how can", 8_000), (" I help?", 16_000)]);
        assert_eq!(words.heard(16_000, 24_000), "Harbor Bikes, how can");
        assert_eq!(words.heard(8_000, 24_000), "Harbor Bikes,");
        assert_eq!(words.heard(0, 24_000), "");
    }

    #[test]
    fn a_run_that_was_heard_in_part_is_cut_between_words() {
        let words = words(&[("one two three four", 0)]);
        assert_eq!(words.heard(5_000, 10_000), "one two");
        assert_eq!(words.heard(9_999, 10_000), "one two three");
        assert_eq!(words.heard(10_000, 10_000), "one two three four");
    }

    #[test]
    fn words_that_come_before_any_audio_or_after_all_of_it_are_spread_over_it() {
        let mut late = Words::new(ITEM, "one two");
        late.add(" three four", 0);
        assert_eq!(late.heard(5_000, 10_000), "one two");
        let mut after = words(&[]);
        after.add("one two three four", 10_000);
        assert_eq!(after.heard(5_000, 10_000), "one two", "the first run begins with the audio");
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        let words = words(&[("žluťoučký kůň úpěl", 0)]);
        for heard in 0..=100 {
            let kept = words.heard(heard, 100);
            assert!("žluťoučký kůň úpěl".starts_with(kept));
        }
    }

    #[test]
    fn a_text_is_bounded() {
        let mut words = words(&[]);
        for _ in 0..10_000 {
            words.add("ähnlich ", 0);
        }
        assert!(words.all().len() <= TEXT_BYTES_MAX);
    }
}

//! Who has the word: answers, one at a time, and what was said in them.
//!
//! A service lets one answer write to the conversation at a time. What we ask for waits behind the
//! running one; what is asked for twice is asked for once.

use super::input::Slot;
use super::moment::Moment;
use super::output::{AgentMessage, AgentTurn, Cue, Milestone, Outbox, Output};
use super::part::{Part, Source};
use super::words::Words;

/// The conversation as the relay knows it.
#[derive(Debug)]
pub(super) struct Turns {
    answer: Answer,
    /// Words of answers that are not complete turns yet.
    words: Vec<Words>,
    /// Turns of the caller whose words have not come, oldest first.
    wordless: Vec<Box<str>>,
    /// When the caller last stopped speaking, until an answer to it begins.
    speech_ended: Option<Moment>,
}

/// The answer that is asked for or runs.
///
/// ```text
/// Idle --asked--> Asked --started--> Running --ended--> Idle
///   \---------------started----------^   \--ended, one is owed--> Asked
/// ```
///
/// | state | input | to | says |
/// |---|---|---|---|
/// | `Idle` | an answer is wanted | `Asked` | the request |
/// | `Asked`, `Running` | an answer is wanted | same, `Then::Ask` | |
/// | `Idle`, `Asked` | started | `Running` | |
/// | `Running` | discarded | same, `Voice::Discarded`: what still comes of it is late | |
/// | `Running` | ended, `Then::Nothing` | `Idle` | |
/// | `Running` | ended, `Then::Ask` | `Asked` | the request |
/// | `Asked` | refused | `Idle` | |
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Nobody answers.
    Idle,
    /// We asked for an answer, and it has not begun.
    Asked(Then),
    /// The service answers.
    Running {
        /// The answer.
        response: Box<str>,
        /// Whether the caller is to hear it.
        voice: Voice,
        /// What comes after it.
        then: Then,
    },
}

/// Whether the caller is to hear an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// The caller is.
    Wanted,
    /// It was cut, or is too long: what still comes of it is late.
    Discarded,
}

/// What comes after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Whatever the caller says.
    Nothing,
    /// Another answer, which is owed.
    Ask,
}

impl Turns {
    /// Nobody has said anything.
    pub(super) fn new() -> Self {
        Self { answer: Answer::Idle, words: Vec::new(), wordless: Vec::new(), speech_ended: None }
    }

    /// Asks for the greeting: the first thing in the conversation.
    pub(super) fn greet(&mut self, to: Slot, out: &mut impl Outbox) {
        assert_eq!(self.answer, Answer::Idle, "a greeting comes first");
        self.answer = Answer::Asked(Then::Nothing);
        out.put(Output::ToAgent(to, AgentMessage::Speak(Cue::Greeting)));
    }

    /// Asks for an answer to what is in the conversation, behind the one that runs.
    pub(super) fn want_answer(&mut self, to: Slot, out: &mut impl Outbox) {
        match &mut self.answer {
            Answer::Idle => {
                self.answer = Answer::Asked(Then::Nothing);
                out.put(Output::ToAgent(to, AgentMessage::Respond));
            }
            Answer::Asked(then) | Answer::Running { then, .. } => *then = Then::Ask,
        }
    }

    /// The caller stopped speaking.
    pub(super) fn on_speech_stopped(&mut self, now: Moment) {
        self.speech_ended = Some(now);
    }

    /// The caller's turn is an item; its words come later.
    pub(super) fn on_caller_turn(&mut self, item: &str, out: &mut impl Outbox) {
        if self.wordless.len() == WORDLESS_MAX {
            let oldest = self.wordless.remove(0);
            out.put(Output::Note(Milestone::CallerTurn { order: 0, item: &oldest, text: "" }));
        }
        self.wordless.push(item.into());
    }

    /// The words of a turn of the caller.
    pub(super) fn on_caller_said(&mut self, item: &str, text: &str, out: &mut impl Outbox) {
        // Also when nobody announced the turn: words are worth more than order.
        self.wordless.retain(|waiting| **waiting != *item);
        out.put(Output::Note(Milestone::CallerTurn { order: 0, item, text }));
    }

    /// An answer began.
    pub(super) fn on_started(&mut self, response: &str) {
        // Another answer than the one that was asked for, if the service was faster: it has heard
        // the same conversation, so nothing is owed for it. What was owed before still is.
        let then = match self.answer {
            Answer::Idle => Then::Nothing,
            Answer::Asked(then) | Answer::Running { then, .. } => then,
        };
        self.answer = Answer::Running { response: response.into(), voice: Voice::Wanted, then };
    }

    /// Whether the caller is to hear this answer.
    pub(super) fn is_wanted(&self, response: &str) -> bool {
        match &self.answer {
            Answer::Running { response: running, voice: Voice::Wanted, .. } => {
                **running == *response
            }
            Answer::Running { voice: Voice::Discarded, .. } | Answer::Idle | Answer::Asked(_) => {
                false
            }
        }
    }

    /// Words of an answer, at a sample of their item.
    pub(super) fn on_saying(&mut self, response: &str, item: &str, text: &str, at: u64) {
        match self.words.iter_mut().find(|words| words.is_of(response, item)) {
            Some(words) => words.add(text, at),
            None => {
                // An item that is never heard, say one that was cut before its first sample,
                // leaves its words behind.
                if self.words.len() == ITEMS_MAX {
                    self.words.remove(0);
                }
                self.words.push(Words::new(response, item, text));
            }
        }
    }

    /// When the caller stopped speaking, if no answer to that is heard yet.
    pub(super) fn speech_ended(&self) -> Option<Moment> {
        self.speech_ended
    }

    /// The answer has a voice.
    pub(super) fn on_voice(&mut self) {
        self.speech_ended = None;
    }

    /// The answer that runs and is to be heard, which from here on is not. Says its id.
    pub(super) fn discard(&mut self) -> Option<&str> {
        match &mut self.answer {
            Answer::Running { response, voice: voice @ Voice::Wanted, .. } => {
                *voice = Voice::Discarded;
                Some(response)
            }
            Answer::Running { voice: Voice::Discarded, .. } | Answer::Idle | Answer::Asked(_) => {
                None
            }
        }
    }

    /// An answer is over. What was owed is asked for.
    pub(super) fn on_ended(&mut self, response: &str, to: Slot, out: &mut impl Outbox) {
        // The end of an answer that another has replaced already changes nothing.
        let Answer::Running { response: running, then, .. } = &self.answer else { return };
        if **running != *response {
            return;
        }
        let then = *then;
        self.answer = Answer::Idle;
        match then {
            Then::Nothing => {}
            Then::Ask => self.want_answer(to, out),
        }
    }

    /// The service refused something: perhaps the answer that we asked for.
    pub(super) fn on_refused(&mut self) {
        // Which request was refused is not known here; waiting for an answer that does not come
        // would silence the agent for good, asking once more would only be refused again.
        match self.answer {
            Answer::Asked(_) => self.answer = Answer::Idle,
            Answer::Idle | Answer::Running { .. } => {}
        }
    }

    /// A part was heard in full, or cut: a turn of the agent is complete.
    pub(super) fn on_spoken(&mut self, part: &Part, out: &mut impl Outbox) {
        let Source::Answer { response, item, .. } = &part.source else { return };
        let at = self.words.iter().position(|words| words.is_of(response, item));
        let words = at.map(|at| self.words.remove(at));
        // A part of which less than a millisecond was made says nothing.
        if part.generated_ms() == 0 {
            return;
        }
        let interrupted = !part.is_heard_in_full();
        let text = match &words {
            None => "",
            Some(words) if interrupted => words.heard(part.ledger.heard, part.ledger.generated),
            Some(words) => words.all(),
        };
        out.put(Output::Note(Milestone::AgentTurn(AgentTurn {
            order: 0,
            item,
            text,
            heard_ms: part.heard_ms(),
            generated_ms: part.generated_ms(),
            interrupted,
            reply_after: part.began.zip(part.replies_to).map(|(began, end)| began.since(end)),
        })));
    }

    /// Nobody says anything any more: turns whose words never came are noted without.
    pub(super) fn close(&mut self, out: &mut impl Outbox) {
        for item in self.wordless.drain(..) {
            out.put(Output::Note(Milestone::CallerTurn { order: 0, item: &item, text: "" }));
        }
    }
}

/// The most turns of the caller that wait for their words.
const WORDLESS_MAX: usize = 16;

/// The most items whose words are kept; an answer has one or two.
const ITEMS_MAX: usize = 16;

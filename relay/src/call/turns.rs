//! Who has the word: answers, one at a time, and what was said in them.
//!
//! A service lets one answer write to the conversation at a time. What we ask for waits behind the
//! running one; what is asked for twice is asked for once. An answer that does not go on is given
//! up: [`Turns::wait`] says when.

use std::collections::VecDeque;

use super::input::{Answering, Slot};
use super::memory::Memory;
use super::moment::Moment;
use super::output::{AgentMessage, AgentTurn, Cue, Milestone, Outbox, Output};
use super::part::{Part, Source, Spoken};
use super::timers::{ANSWER_MAX, REFUSED_WAIT};
use super::words::Words;

/// The conversation as the relay knows it.
#[derive(Debug)]
pub(super) struct Turns {
    answer: Answer,
    /// What is to be asked for once nothing runs, in order.
    owed: VecDeque<Ask>,
    /// How long the answer that is waited for is still waited for.
    wait: Wait,
    floor: Floor,
    /// Words of answers that are not complete turns yet.
    words: Vec<Words>,
    /// When the caller last stopped speaking, until an answer to it begins.
    speech_ended: Option<Moment>,
    /// Answers in a row that came to nothing.
    strikes: u32,
}

/// What an agent can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// The greeting.
    Greeting,
    /// An answer to what is in the conversation.
    Answer,
    /// These words.
    Words(Box<str>),
    /// Whether the caller is still there.
    StillThere,
    /// Goodbye.
    Farewell,
}

/// The answer that is asked for or runs.
///
/// ```text
/// Idle --asked--> Asked --started--> Running --ended--> Idle
///   \---------------started----------^
/// ```
///
/// | state | input | to | says |
/// |---|---|---|---|
/// | `Idle` | something is owed | `Asked` | the request |
/// | `Idle`, `Asked` | started | `Running` | |
/// | `Running` | started | `Running`, another | |
/// | `Running` | discarded | same, `Voice::Discarded`: what still comes of it is late | |
/// | `Running` | ended | `Idle` | |
/// | `Asked`, `Running` | too early | same, and what was asked for is owed again | |
/// | any | given up, the session is lost | `Idle` | |
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Nobody answers.
    Idle,
    /// We asked for an answer, and it has not begun.
    Asked(Ask),
    /// The service answers.
    Running {
        /// The answer.
        response: Box<str>,
        /// What it was asked for with; `None` when the service began by itself.
        ask: Option<Ask>,
        /// Whether the caller is to hear it.
        voice: Voice,
        /// Whether anything has come of it: audio, or a call of a tool.
        result: Yield,
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

/// What has come of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Yield {
    /// Nothing.
    Nothing,
    /// A tool was called, and no word said.
    Tool,
    /// Audio.
    Speech,
}

/// What the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    /// Nothing that an answer is due for.
    Quiet,
    /// Speaks.
    Speaking,
    /// Has spoken, and the service is about to answer by itself.
    Unanswered,
}

/// The wait for an answer that goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wait {
    /// Since when it has not.
    pub(super) since: Moment,
    /// When it is given up.
    pub(super) until: Moment,
}

impl Wait {
    fn from(now: Moment) -> Self {
        Self { since: now, until: now + ANSWER_MAX }
    }
}

/// An answer that was given up, failed or ended: what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its id, if it had begun.
    pub(super) response: Option<Box<str>>,
    /// What to ask for, to ask again.
    pub(super) ask: Ask,
    /// What had come of it.
    pub(super) result: Yield,
}

impl Turns {
    /// Nobody has said anything.
    pub(super) fn new() -> Self {
        Self {
            answer: Answer::Idle,
            owed: VecDeque::new(),
            wait: Wait::default(),
            floor: Floor::Quiet,
            words: Vec::new(),
            speech_ended: None,
            strikes: 0,
        }
    }

    /// Owes something. Whoever wants words looks for room first; what else is owed is owed once:
    /// one answer answers everything that is in the conversation by then.
    pub(super) fn want(&mut self, ask: Ask) {
        if matches!(ask, Ask::Words(_)) || !self.owed.contains(&ask) {
            self.owed.push_back(ask);
        }
    }

    /// Owes something before everything else; only a greeting stays before an answer.
    pub(super) fn want_first(&mut self, ask: Ask) {
        self.owed.retain(|owed| matches!(owed, Ask::Words(_)) || *owed != ask);
        let greets = ask == Ask::Answer && self.owed.front() == Some(&Ask::Greeting);
        self.owed.insert(usize::from(greets), ask);
    }

    /// Owes that no more.
    pub(super) fn forget(&mut self, ask: &Ask) {
        self.owed.retain(|owed| owed != ask);
    }

    /// Asks for what is owed, if nobody answers and the caller does not speak.
    pub(super) fn ask(&mut self, to: Slot, now: Moment, out: &mut impl Outbox) {
        if self.answer != Answer::Idle || self.floor != Floor::Quiet {
            return;
        }
        let Some(ask) = self.owed.pop_front() else { return };
        let message = match &ask {
            Ask::Greeting => AgentMessage::Speak(Cue::Greeting),
            Ask::Answer => AgentMessage::Respond,
            Ask::Words(words) => AgentMessage::Speak(Cue::Words(words)),
            Ask::StillThere => AgentMessage::Speak(Cue::StillThere),
            Ask::Farewell => AgentMessage::Speak(Cue::Farewell),
        };
        out.put(Output::ToAgent(to, message));
        self.answer = Answer::Asked(ask);
        self.wait = Wait::from(now);
    }

    /// The caller speaks.
    pub(super) fn on_speech_started(&mut self) {
        self.floor = Floor::Speaking;
    }

    /// The caller stopped speaking.
    pub(super) fn on_speech_stopped(&mut self, now: Moment) {
        self.speech_ended = Some(now);
    }

    /// The caller's turn is complete, and answered by whom the service has confirmed.
    pub(super) fn on_caller_turn(&mut self, answering: Answering, now: Moment) {
        self.floor = match answering {
            Answering::ByService => Floor::Unanswered,
            Answering::ByRelay => Floor::Quiet,
        };
        self.wait = Wait::from(now);
    }

    /// Whether the caller speaks.
    pub(super) fn caller_speaks(&self) -> bool {
        self.floor == Floor::Speaking
    }

    /// The caller has had the word for long enough.
    pub(super) fn yield_floor(&mut self) {
        self.floor = Floor::Quiet;
    }

    /// Whether something is asked for, runs or is owed.
    pub(super) fn expects(&self, wanted: &Ask) -> bool {
        let runs = match &self.answer {
            Answer::Asked(ask) | Answer::Running { ask: Some(ask), .. } => ask == wanted,
            Answer::Idle | Answer::Running { ask: None, .. } => false,
        };
        runs || self.owed.contains(wanted)
    }

    /// Whether the caller waits for something of which nothing has come yet.
    pub(super) fn is_awaited(&self) -> bool {
        let is_due = match &self.answer {
            Answer::Idle => !self.owed.is_empty(),
            Answer::Asked(_) => true,
            Answer::Running { voice, result, .. } => {
                *voice == Voice::Wanted && *result == Yield::Nothing
            }
        };
        is_due && self.floor != Floor::Speaking
    }

    /// Whether more words can be owed.
    pub(super) fn has_room(&self) -> bool {
        self.owed.iter().filter(|ask| matches!(ask, Ask::Words(_))).count() < WORDS_OWED_MAX
    }

    /// Whether no more is owed than the bounds allow: words, and one of each other kind. Words that
    /// a session lost come back beside those that took their room.
    pub(super) fn is_bounded(&self) -> bool {
        self.owed.len() <= WORDS_OWED_MAX + 1 + 4
    }

    /// Whether nobody speaks, is about to, or is asked to.
    pub(super) fn is_quiet(&self) -> bool {
        self.answer == Answer::Idle && self.owed.is_empty() && self.floor == Floor::Quiet
    }

    /// An answer began. Says what it was asked for with, if it was.
    pub(super) fn on_started(&mut self, response: &str, now: Moment) -> Option<&Ask> {
        // Another answer than the one that was asked for, if the service was faster: then ours is
        // refused as too early, and owed again.
        let ask = match std::mem::replace(&mut self.answer, Answer::Idle) {
            Answer::Asked(ask) => Some(ask),
            Answer::Idle | Answer::Running { .. } => None,
        };
        if ask.is_none() {
            // The service answers by itself: the caller's turn is over, and this answer knows all
            // that an owed one would.
            self.floor = Floor::Quiet;
            self.owed.retain(|owed| *owed != Ask::Answer);
        } else if self.floor == Floor::Unanswered {
            self.floor = Floor::Quiet;
        }
        self.wait = Wait::from(now);
        let (voice, result) = (Voice::Wanted, Yield::Nothing);
        self.answer = Answer::Running { response: response.into(), ask, voice, result };
        match &self.answer {
            Answer::Running { ask, .. } => ask.as_ref(),
            Answer::Idle | Answer::Asked(_) => None,
        }
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

    /// Whether this answer runs, heard or not.
    pub(super) fn is_running(&self, response: &str) -> bool {
        match &self.answer {
            Answer::Running { response: running, .. } => **running == *response,
            Answer::Idle | Answer::Asked(_) => false,
        }
    }

    /// Words of an answer, at a sample of their item.
    pub(super) fn on_saying(&mut self, spoken: Spoken<'_>, text: &str, at: u64, now: Moment) {
        self.wait = Wait::from(now);
        match self.words.iter_mut().find(|words| words.is_of(spoken)) {
            Some(words) => words.add(text, at),
            None => {
                // An item that is never heard, say one that was cut before its first sample,
                // leaves its words behind.
                if self.words.len() == ITEMS_MAX {
                    self.words.remove(0);
                }
                self.words.push(Words::new(spoken, text));
            }
        }
    }

    /// When the caller stopped speaking, if no answer to that is heard yet.
    pub(super) fn speech_ended(&self) -> Option<Moment> {
        self.speech_ended
    }

    /// Something has come of the answer.
    pub(super) fn on_yield(&mut self, what: Yield, now: Moment) {
        self.wait = Wait::from(now);
        if what == Yield::Speech {
            self.speech_ended = None;
        }
        if let Answer::Running { result, .. } = &mut self.answer
            && *result != Yield::Speech
        {
            *result = what;
        }
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

    /// An answer is over. Gives what it was, if it is the running one and was to be heard.
    pub(super) fn on_ended(&mut self, response: &str) -> Option<Ended> {
        // The end of an answer that another has replaced already changes nothing.
        if !self.is_running(response) {
            return None;
        }
        match std::mem::replace(&mut self.answer, Answer::Idle) {
            Answer::Running { response, ask, voice: Voice::Wanted, result } => {
                let (response, ask) = (Some(response), ask.unwrap_or(Ask::Answer));
                Some(Ended { response, ask, result })
            }
            Answer::Running { voice: Voice::Discarded, .. } | Answer::Idle | Answer::Asked(_) => {
                None
            }
        }
    }

    /// The service refused our request, because another answer runs: it is owed again. An answer
    /// to the conversation is not: the one that runs has heard the same.
    pub(super) fn on_too_early(&mut self) {
        let refused = match &mut self.answer {
            // Some of it was said: it was the greeting, and the service means another request.
            Answer::Running { ask: Some(Ask::Greeting), result: Yield::Speech, .. } => None,
            Answer::Running { ask, .. } => ask.take(),
            Answer::Asked(ask) => Some(ask.clone()),
            Answer::Idle => None,
        };
        match refused {
            Some(Ask::Answer) | None => {}
            Some(ask) => self.want_first(ask),
        }
    }

    /// The service refused something: perhaps the answer that we asked for. It is waited for a
    /// little longer, then given up.
    pub(super) fn on_refused(&mut self, now: Moment) {
        if matches!(self.answer, Answer::Asked(_)) {
            self.wait.until = self.wait.until.min(now + REFUSED_WAIT);
        }
    }

    /// What is waited for, if anything is.
    pub(super) fn wait(&self) -> Option<Wait> {
        match (&self.answer, self.floor) {
            (Answer::Asked(_) | Answer::Running { .. }, _) | (Answer::Idle, Floor::Unanswered) => {
                Some(self.wait)
            }
            (Answer::Idle, Floor::Quiet | Floor::Speaking) => None,
        }
    }

    /// Gives up what is waited for: it comes no more, and if it does it is late.
    pub(super) fn give_up(&mut self) -> Option<Ended> {
        let unanswered = self.floor == Floor::Unanswered;
        if unanswered {
            self.floor = Floor::Quiet;
        }
        match std::mem::replace(&mut self.answer, Answer::Idle) {
            Answer::Idle if unanswered => {
                Some(Ended { response: None, ask: Ask::Answer, result: Yield::Nothing })
            }
            Answer::Idle => None,
            Answer::Asked(ask) => Some(Ended { response: None, ask, result: Yield::Nothing }),
            Answer::Running { response, ask, voice, result } => {
                let ask = ask.unwrap_or(Ask::Answer);
                let result = if voice == Voice::Discarded { Yield::Speech } else { result };
                Some(Ended { response: Some(response), ask, result })
            }
        }
    }

    /// The session is lost, and with it whatever ran in it. Gives what ran and was to be heard.
    pub(super) fn on_session_lost(&mut self) -> Option<Ended> {
        let was_discarded = match &self.answer {
            Answer::Running { voice, .. } => *voice == Voice::Discarded,
            Answer::Idle | Answer::Asked(_) => false,
        };
        // The next session hears the rest of what the caller says, and has to ask for the rest.
        let was_speaking = self.floor == Floor::Speaking;
        let ended = self.give_up().filter(|_| !was_discarded);
        self.floor = Floor::Quiet;
        let said_half = || Ended { response: None, ask: Ask::Answer, result: Yield::Nothing };
        ended.or_else(|| was_speaking.then(said_half))
    }

    /// An answer came to nothing. Says how many have in a row.
    pub(super) fn strike(&mut self) -> u32 {
        self.strikes += 1;
        self.strikes
    }

    /// An answer came to something.
    pub(super) fn forgive(&mut self) {
        self.strikes = 0;
    }

    /// A part was heard in full, or cut: a turn of the agent is complete. Gives what was heard of
    /// its words; `None` when there was nothing to hear.
    pub(super) fn on_spoken(
        &mut self,
        part: &Part,
        memory: &mut Memory,
        out: &mut impl Outbox,
    ) -> Option<String> {
        let Source::Answer { session, response, item, part: number } = &part.source else {
            return None;
        };
        let spoken = Spoken { session: *session, response, item, part: *number };
        let at = self.words.iter().position(|words| words.is_of(spoken));
        let words = at.map(|at| self.words.remove(at));
        // A part of which less than a millisecond was made says nothing.
        if part.generated_ms() == 0 {
            return None;
        }
        let interrupted = !part.is_heard_in_full();
        let text = match &words {
            None => "",
            Some(words) if interrupted => words.heard(part.ledger.heard, part.ledger.generated),
            Some(words) => words.all(),
        };
        let order = memory.agent_said(*session, item, text, out);
        out.put(Output::Note(Milestone::AgentTurn(AgentTurn {
            order,
            item,
            text,
            heard_ms: part.heard_ms(),
            generated_ms: part.generated_ms(),
            interrupted,
            reply_after: part.began.zip(part.replies_to).map(|(began, end)| began.since(end)),
        })));
        Some(text.to_owned())
    }
}

/// The most words that are owed by command. Each is one answer, some seconds long.
const WORDS_OWED_MAX: usize = 8;

/// The most items whose words are kept; an answer has one or two.
const ITEMS_MAX: usize = 16;

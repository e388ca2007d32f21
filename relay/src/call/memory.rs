//! What was said in a call, in its order: the transcript while it happens, and what a new session
//! is told when it takes the place of an old one.
//!
//! A service forgets everything with its socket, so the relay remembers. Turns get their place when
//! they begin (the caller's when its audio is an item, the agent's at its first word) and their
//! text when it is known: the caller's words may come after the answer to them, the agent's are
//! complete when they were heard. What is remembered is bounded: a summary takes the place of old
//! turns, and where none could be had the oldest are forgotten, and counted.

use std::collections::VecDeque;

use ::link::event::Role;
use ::link::message;

use super::output::{Milestone, Outbox, Output, Recalled};

/// What was said, oldest first.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What was said before the entries.
    summary: Option<Box<str>>,
    entries: VecDeque<Entry>,
    /// The place of the newest entry.
    order: u32,
    /// Turns that were completed since the last summary.
    unsummed: u32,
    /// The place through which the summary reaches that is being made. A service answers no request
    /// by its name, so no other one is asked for until it comes, however late.
    summing: Option<u32>,
}

/// Something at its place.
#[derive(Debug)]
struct Entry {
    order: u32,
    said: Said,
}

/// What can be remembered.
#[derive(Debug)]
enum Said {
    /// A turn of the caller; without a text until its words are known.
    Caller { item: Box<str>, text: Option<Box<str>> },
    /// A turn of the agent; without a text until it was heard, or cut.
    Agent { session: u32, item: Box<str>, text: Option<Box<str>> },
    /// The agent called a tool.
    Call { call: Box<str>, name: Box<str>, arguments: Box<str>, is_answered: bool },
    /// What the tool gave.
    Result { call: Box<str>, output: Box<str> },
    /// A message of the system.
    System(Box<str>),
}

impl Memory {
    /// Takes what was said in the call at another node, in place of everything else.
    pub(super) fn restore(&mut self, said: &[message::Said], out: &mut impl Outbox) {
        *self = Self::default();
        for turn in said {
            let (item, text) = (Box::default(), Some(turn.text.as_str().into()));
            let said = match turn.role {
                Role::Caller => Said::Caller { item, text },
                // No session of this node has this number.
                Role::Agent => Said::Agent { session: 0, item, text },
            };
            self.push(said, out);
        }
    }

    /// The caller's turn is an item; its words come later.
    pub(super) fn caller_turn(&mut self, item: &str, out: &mut impl Outbox) {
        if self.wordless().count() >= WORDLESS_MAX {
            self.give_up_words(1, out);
        }
        self.push(Said::Caller { item: item.into(), text: None }, out);
    }

    /// The words of a turn of the caller.
    pub(super) fn caller_said(&mut self, item: &str, text: &str, out: &mut impl Outbox) {
        let of_item = |entry: &&mut Entry| match &entry.said {
            Said::Caller { item: known, text: None } => **known == *item,
            Said::Caller { .. }
            | Said::Agent { .. }
            | Said::Call { .. }
            | Said::Result { .. }
            | Said::System(_) => false,
        };
        let order = match self.entries.iter_mut().rev().find(of_item) {
            Some(entry) => {
                entry.said = Said::Caller { item: item.into(), text: Some(text.into()) };
                entry.order
            }
            // Also when nobody announced the turn: words are worth more than order.
            None => self.push(Said::Caller { item: item.into(), text: Some(text.into()) }, out),
        };
        self.unsummed += 1;
        out.put(Output::Note(Milestone::CallerTurn { order, item, text }));
    }

    /// The agent begins to say an item, unless it is at it already.
    pub(super) fn agent_begins(&mut self, session: u32, item: &str, out: &mut impl Outbox) {
        if self.place_of(session, item).is_none() {
            self.forget_unheard();
            self.push(Said::Agent { session, item: item.into(), text: None }, out);
        }
    }

    /// So much of an item was heard. Gives its place.
    pub(super) fn agent_said(
        &mut self,
        session: u32,
        item: &str,
        heard: &str,
        out: &mut impl Outbox,
    ) -> u32 {
        self.agent_begins(session, item, out);
        self.unsummed += 1;
        let Some(at) = self.place_of(session, item) else { return self.order };
        let entry = &mut self.entries[at];
        if let Said::Agent { text, .. } = &mut entry.said {
            // An item may have several parts.
            let before = text.as_deref().filter(|text| !text.is_empty());
            *text = Some(before.map_or(heard.into(), |before| format!("{before} {heard}").into()));
        }
        entry.order
    }

    /// The agent called a tool.
    pub(super) fn called(
        &mut self,
        call: &str,
        name: &str,
        arguments: &str,
        out: &mut impl Outbox,
    ) {
        let (call, name) = (call.into(), name.into());
        let arguments = arguments.into();
        self.push(Said::Call { call, name, arguments, is_answered: false }, out);
    }

    /// A tool gave a result.
    pub(super) fn result(&mut self, call: &str, output: &str, out: &mut impl Outbox) {
        for entry in &mut self.entries {
            if let Said::Call { call: known, is_answered, .. } = &mut entry.said
                && **known == *call
            {
                *is_answered = true;
            }
        }
        self.push(Said::Result { call: call.into(), output: output.into() }, out);
    }

    /// The system said something.
    pub(super) fn system(&mut self, text: &str, out: &mut impl Outbox) {
        self.push(Said::System(text.into()), out);
    }

    /// Tells a new session what was said, and gives the number of turns in it. A turn of the agent
    /// that is still being heard is told when it is complete.
    pub(super) fn recall(&self, mut tell: impl FnMut(Recalled<'_>)) -> u32 {
        if let Some(summary) = &self.summary {
            tell(Recalled::Summary(summary));
        }
        let mut turns = 0;
        for entry in &self.entries {
            match &entry.said {
                Said::Caller { text, .. } => {
                    turns += 1;
                    tell(Recalled::Caller(text.as_deref().unwrap_or_default()));
                }
                // Nobody has heard it yet, or nothing of it was heard.
                Said::Agent { text: None, .. } => {}
                Said::Agent { text: Some(text), .. } if text.is_empty() => {}
                Said::Agent { text: Some(text), .. } => {
                    turns += 1;
                    tell(Recalled::Agent(text));
                }
                Said::Call { call, name, arguments, .. } => {
                    tell(Recalled::Call { call, name, arguments });
                }
                Said::Result { call, output } => tell(Recalled::Result { call, output }),
                Said::System(text) => tell(Recalled::System(text)),
            }
        }
        turns
    }

    /// Whether nothing was said that a session would have to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.summary.is_none() && self.entries.is_empty()
    }

    /// Whether it is time to sum up; from here on a summary is being made.
    pub(super) fn begin_summary(&mut self, every: u32) -> bool {
        let is_due = every > 0 && self.unsummed >= every && self.summing.is_none();
        if is_due {
            self.summing = Some(self.order);
            self.unsummed = 0;
        }
        is_due
    }

    /// A summary is made, or could not be: it takes the place of what it sums up.
    pub(super) fn summarised(&mut self, summary: Option<&str>) {
        let Some(through) = self.summing.take() else { return };
        let Some(summary) = summary.filter(|text| !text.is_empty()) else { return };
        let end = summary.floor_char_boundary(SUMMARY_BYTES_MAX);
        self.summary = Some(summary[..end].into());
        self.entries.retain(|entry| entry.order > through || entry.said.is_open());
        self.drop_orphans();
    }

    /// Nobody makes the summary any more: the session is gone.
    pub(super) fn give_up_summary(&mut self) {
        self.summing = None;
    }

    /// Nobody says anything any more: turns whose words never came are noted without.
    pub(super) fn close(&mut self, out: &mut impl Outbox) {
        self.give_up_words(usize::MAX, out);
    }

    /// Whether no more is kept than the bounds allow, beside what waits for its completion.
    pub(super) fn is_bounded(&self) -> bool {
        let open = self.entries.iter().filter(|entry| entry.said.is_open()).count();
        self.entries.len() <= ENTRIES_MAX + open && open <= OPEN_MAX
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.said.bytes()).sum()
    }

    fn push(&mut self, said: Said, out: &mut impl Outbox) -> u32 {
        self.order += 1;
        self.entries.push_back(Entry { order: self.order, said });
        self.forget_beyond_bounds(out);
        self.order
    }

    fn forget_beyond_bounds(&mut self, out: &mut impl Outbox) {
        let mut turns = 0;
        while self.entries.len() > ENTRIES_MAX || self.bytes() > BYTES_MAX {
            // What waits for its result or its words is kept; if all of it does, nothing is left
            // that could be forgotten, and its makers are bounded themselves.
            let Some(at) = self.entries.iter().position(|entry| !entry.said.is_open()) else {
                break;
            };
            turns += self.entries.remove(at).map_or(0, |entry| entry.said.turns());
            self.drop_orphans();
        }
        if turns > 0 {
            out.put(Output::Note(Milestone::Forgotten { turns }));
        }
    }

    /// A result without its call would be refused by a service.
    fn drop_orphans(&mut self) {
        let calls: Vec<Box<str>> =
            self.entries.iter().filter_map(|entry| entry.said.call().map(Box::from)).collect();
        self.entries.retain(|entry| match &entry.said {
            Said::Result { call, .. } => calls.contains(call),
            Said::Caller { .. } | Said::Agent { .. } | Said::Call { .. } | Said::System(_) => true,
        });
    }

    fn place_of(&self, session: u32, item: &str) -> Option<usize> {
        self.entries.iter().rposition(|entry| match &entry.said {
            Said::Agent { session: s, item: i, .. } => *s == session && **i == *item,
            Said::Caller { .. } | Said::Call { .. } | Said::Result { .. } | Said::System(_) => {
                false
            }
        })
    }

    /// An item that was begun and never heard is no turn, and nobody says so: the oldest go.
    fn forget_unheard(&mut self) {
        let is_unheard = |entry: &Entry| matches!(entry.said, Said::Agent { text: None, .. });
        if self.entries.iter().filter(|entry| is_unheard(entry)).count() >= UNHEARD_MAX
            && let Some(oldest) = self.entries.iter().position(is_unheard)
        {
            self.entries.remove(oldest);
        }
    }

    fn wordless(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.said, Said::Caller { text: None, .. }))
    }

    /// Notes the oldest turns without words as they are.
    fn give_up_words(&mut self, count: usize, out: &mut impl Outbox) {
        let mut given_up = 0;
        for entry in &mut self.entries {
            if let Said::Caller { item, text: text @ None } = &mut entry.said
                && given_up < count
            {
                *text = Some("".into());
                given_up += 1;
                let note = Milestone::CallerTurn { order: entry.order, item, text: "" };
                out.put(Output::Note(note));
            }
        }
    }
}

impl Said {
    /// Whether something about it is still to come.
    fn is_open(&self) -> bool {
        match self {
            Self::Caller { text, .. } | Self::Agent { text, .. } => text.is_none(),
            Self::Call { is_answered, .. } => !is_answered,
            Self::Result { .. } | Self::System(_) => false,
        }
    }

    fn turns(&self) -> u32 {
        match self {
            Self::Caller { .. } | Self::Agent { .. } => 1,
            Self::Call { .. } | Self::Result { .. } | Self::System(_) => 0,
        }
    }

    fn call(&self) -> Option<&str> {
        match self {
            Self::Call { call, .. } => Some(call),
            Self::Caller { .. } | Self::Agent { .. } | Self::Result { .. } | Self::System(_) => {
                None
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Caller { text, .. } | Self::Agent { text, .. } => {
                text.as_ref().map_or(0, |text| text.len())
            }
            Self::Call { name, arguments, .. } => name.len() + arguments.len(),
            Self::Result { output, .. } => output.len(),
            Self::System(text) => text.len(),
        }
    }
}

/// The most turns of the caller that wait for their words.
const WORDLESS_MAX: usize = 16;

/// The most turns of the agent that wait to be heard: more than playout holds parts.
const UNHEARD_MAX: usize = 80;

/// The most entries: with a summary every 20 turns there are half as many.
const ENTRIES_MAX: usize = 96;

/// The most entries that wait for something: turns of both sides, and tools that run.
const OPEN_MAX: usize = WORDLESS_MAX + UNHEARD_MAX + super::tools::TOOLS_MAX + 1;

/// The most text: some 8,000 tokens, which every session to come would have to pay for.
const BYTES_MAX: usize = 32 * 1024;

/// The longest summary.
const SUMMARY_BYTES_MAX: usize = 4 * 1024;

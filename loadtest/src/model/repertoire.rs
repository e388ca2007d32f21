//! A script as the model uses it: its sounds loaded, its troubles counted down.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::script::{Answer, Script, ToolCall};
use super::trouble::Mishap;
use crate::audio::{AudioError, Speech};

/// A script with its sounds loaded.
#[derive(Debug)]
pub(crate) struct Repertoire {
    script: Script,
    sounds: BTreeMap<Cue, Speech>,
    /// How often the trouble of an answer has struck, over all sessions.
    struck: Mutex<BTreeMap<Cue, u32>>,
}

/// A place in a script, or words that are in none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cue {
    /// The greeting.
    Greeting,
    /// The answer to the turn with this number, from 0.
    Turn(usize),
    /// Past the end.
    More,
    /// Words that somebody asked for.
    Words(String),
}

impl Repertoire {
    /// Loads every sound of a script.
    ///
    /// # Errors
    /// The first sound that cannot be loaded.
    pub(crate) fn load(script: Script) -> Result<Self, AudioError> {
        let turns = (0..script.turns.len()).map(Cue::Turn);
        let cues: Vec<Cue> = turns.chain([Cue::Greeting, Cue::More]).collect();
        let mut loaded = Self { script, sounds: BTreeMap::new(), struck: Mutex::default() };
        for cue in cues {
            let sound = loaded.answer(&cue).clip().load()?;
            loaded.sounds.insert(cue, sound);
        }
        Ok(loaded)
    }

    /// What the caller says in the turn with this number, from 0; empty past the end.
    pub(crate) fn caller(&self, turn: usize) -> &str {
        self.script.turns.get(turn).map_or("", |turn| &turn.caller)
    }

    /// What answers the caller's words: the turn that has them, else the turn with this number,
    /// else what is said past the end.
    pub(crate) fn cue(&self, words: &str, turn: usize) -> Cue {
        let known = |turn: &usize| self.script.turns.get(*turn).is_some_and(|t| t.caller == words);
        let by_words = || (0..self.script.turns.len()).find(known);
        if let Some(turn) = Some(turn).filter(known).or_else(by_words) {
            return Cue::Turn(turn);
        }
        let more = &self.script.more.text;
        if more.contains(CALLER) { Cue::Words(more.replace(CALLER, words)) } else { Cue::More }
    }

    /// What an instruction to the model makes it say: the greeting, when its words are in there;
    /// else the last passage in quotes; `None` when there is neither.
    pub(crate) fn asked(&self, instructions: &str) -> Option<Cue> {
        if instructions.contains(&self.script.greeting.text) {
            return Some(Cue::Greeting);
        }
        let straight = instructions.replace(['\u{201c}', '\u{201d}'], "\"");
        let passages: Vec<&str> = straight.split('"').collect();
        // An even number of pieces has an open quote at its end, which is none.
        let quoted =
            passages.len().checked_sub(2 + usize::from(passages.len().is_multiple_of(2)))?;
        let words = passages.get(quoted).map(|words| words.trim())?;
        (!words.is_empty()).then(|| Cue::Words(words.to_owned()))
    }

    /// What is said once a tool's output is there.
    pub(crate) fn after_tool(&self, tool: &str, output: &str) -> Cue {
        let calls = self.script.turns.iter().filter_map(|turn| turn.answer.tool.as_ref());
        let then = calls.filter(|call| call.name == tool).find_map(|call| call.then.as_ref());
        then.map_or(Cue::More, |words| Cue::Words(words.replace("{output}", output)))
    }

    /// What the model says at a cue.
    pub(crate) fn answer(&self, cue: &Cue) -> Answer {
        match cue {
            Cue::Greeting => self.script.greeting.clone(),
            Cue::Turn(turn) => {
                let turn = self.script.turns.get(*turn);
                turn.map_or(&self.script.more, |turn| &turn.answer).clone()
            }
            Cue::More => self.script.more.clone(),
            Cue::Words(words) => Answer::words(words),
        }
    }

    /// How it sounds.
    pub(crate) fn sound(&self, cue: &Cue) -> Speech {
        match cue {
            Cue::Words(words) => Speech::saying(words),
            Cue::Greeting | Cue::Turn(_) | Cue::More => {
                self.sounds.get(cue).cloned().unwrap_or_else(|| Speech::tone(0))
            }
        }
    }

    /// What goes wrong with it this time.
    pub(crate) fn trouble(&self, cue: &Cue) -> Option<Mishap> {
        let trouble = self.answer(cue).trouble?;
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        let struck = struck.entry(cue.clone()).or_default();
        (*struck < trouble.times).then(|| {
            *struck += 1;
            trouble.what
        })
    }

    /// The call of a tool that a cue makes.
    pub(crate) fn tool(&self, cue: &Cue) -> Option<ToolCall> {
        self.answer(cue).tool
    }
}

/// Stands for the caller's words in `more`.
const CALLER: &str = "{caller}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Trouble, Turn};

    fn loaded(script: Script) -> Repertoire {
        Repertoire::load(script).unwrap()
    }

    #[test]
    fn turns_are_found_by_their_words_or_by_their_number() {
        let plain = loaded(Script::plain());
        assert_eq!(plain.cue("And?", 0), Cue::Turn(1));
        assert_eq!(plain.cue("Something else", 1), Cue::More);
        assert_eq!((plain.caller(1), plain.caller(2)), ("And?", ""));
        assert!(plain.sound(&Cue::More).ms() > 500);
        let echo = loaded(Script { more: Answer::words("You said {caller}"), ..Script::plain() });
        assert_eq!(echo.cue("seven.", 9), Cue::Words("You said seven.".into()));
    }

    #[test]
    fn instructions_name_the_words_to_say() {
        let plain = loaded(Script::plain());
        let asked = |text: &str| plain.asked(text);
        assert_eq!(asked("Be kind. Say: Hello, how can I help?"), Some(Cue::Greeting));
        assert_eq!(
            asked("Be \"kind\". Say \"One moment.\""),
            Some(Cue::Words("One moment.".into()))
        );
        assert_eq!(asked("Say \u{201c}Bye.\u{201d}"), Some(Cue::Words("Bye.".into())));
        assert_eq!(asked("Ask whether somebody is there."), None);
        assert_eq!(asked("An open \"quote"), None);
    }

    #[test]
    fn trouble_strikes_as_often_as_it_says() {
        let what = Mishap::Silence;
        let mut script = Script::plain();
        script.greeting.trouble = Some(Trouble { what: what.clone(), times: 2 });
        let loaded = loaded(script);
        let struck: Vec<_> = (0..3).map(|_| loaded.trouble(&Cue::Greeting)).collect();
        assert_eq!(struck, [Some(what.clone()), Some(what), None]);
        assert_eq!(loaded.trouble(&Cue::More), None);
    }

    #[test]
    fn an_output_is_put_into_what_follows() {
        let mut answer = Answer::words("I look.").then_calls("find_slot");
        if let Some(tool) = &mut answer.tool {
            tool.then = Some("It is {output}.".into());
        }
        let turns = vec![Turn { caller: "When?".into(), answer }];
        let loaded = loaded(Script { turns, ..Script::plain() });
        assert_eq!(loaded.after_tool("find_slot", "nine"), Cue::Words("It is nine.".into()));
        assert_eq!(loaded.after_tool("other", "nine"), Cue::More);
    }
}

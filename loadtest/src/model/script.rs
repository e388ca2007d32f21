//! What the fake model says: a greeting, then one answer for each turn of the caller.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::audio::{AudioError, Clip, Speech};

/// A conversation as it was written beforehand. The model hears *that* the caller spoke, by the
/// energy of the audio; *what* was said, the script tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What a `response.create` without a turn of the caller gets.
    pub greeting: Answer,
    /// The caller's turns in order. After the last one, `more` answers.
    pub turns: Vec<Turn>,
    /// What is said when the script has run out, or after the output of a tool.
    #[serde(default = "more")]
    pub more: Answer,
}

/// One turn of the caller and the answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// What the transcription says that the caller said.
    pub caller: String,
    /// The answer.
    pub answer: Answer,
}

/// Something the model says, and perhaps does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The words.
    pub text: String,
    /// Their sound; `None` makes up 60 ms a character.
    #[serde(default)]
    pub clip: Option<Clip>,
    /// A tool that is called after the words.
    #[serde(default)]
    pub tool: Option<ToolCall>,
}

/// A tool that the model calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Its name.
    pub name: String,
    /// Its arguments: JSON text.
    #[serde(default = "no_arguments")]
    pub arguments: String,
}

fn no_arguments() -> String {
    "{}".into()
}

/// What a script that says nothing about it says at its end.
fn more() -> Answer {
    Answer::words("Is there anything else?")
}

impl Answer {
    /// An answer of words alone, with made-up sound.
    #[must_use]
    pub fn words(text: &str) -> Self {
        Self { text: text.into(), clip: None, tool: None }
    }

    /// An answer with a sound of its own.
    #[must_use]
    pub fn spoken(text: &str, clip: Clip) -> Self {
        Self { text: text.into(), clip: Some(clip), tool: None }
    }

    /// The same answer, with a call of a tool after it.
    #[must_use]
    pub fn then_calls(mut self, tool: &str) -> Self {
        self.tool = Some(ToolCall { name: tool.into(), arguments: no_arguments() });
        self
    }

    /// The sound, made up where the script gives none.
    fn clip(&self) -> Clip {
        let letters = u32::try_from(self.text.chars().count()).unwrap_or(u32::MAX);
        self.clip.clone().unwrap_or(Clip::ToneMs(letters.saturating_mul(60)))
    }
}

impl Script {
    /// Reads a script from a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no script.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// A greeting, then the same short answer to every turn, with made-up sound.
    #[must_use]
    pub fn plain() -> Self {
        let turn = |caller: &str, answer: &str| Turn {
            caller: caller.into(),
            answer: Answer::words(answer),
        };
        Self {
            greeting: Answer::words("Hello, how can I help?"),
            turns: vec![turn("Hello.", "Good to hear from you."), turn("And?", "That is all.")],
            more: more(),
        }
    }
}

/// A script with its sounds loaded.
#[derive(Debug, Clone)]
pub(crate) struct Repertoire {
    script: Script,
    sounds: BTreeMap<Cue, Speech>,
}

/// A place in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cue {
    /// The greeting.
    Greeting,
    /// The answer to the turn with this number, from 0.
    Turn(usize),
    /// Past the end.
    More,
}

impl Repertoire {
    /// Loads every sound of a script.
    ///
    /// # Errors
    /// The first sound that cannot be loaded.
    pub(crate) fn load(script: Script) -> Result<Self, AudioError> {
        let turns = (0..script.turns.len()).map(Cue::Turn);
        let cues: Vec<Cue> = turns.chain([Cue::Greeting, Cue::More]).collect();
        let mut loaded = Self { script, sounds: BTreeMap::new() };
        for cue in cues {
            let sound = loaded.answer(cue).clip().load()?;
            loaded.sounds.insert(cue, sound);
        }
        Ok(loaded)
    }

    /// The cue of the caller's turn with this number, from 0.
    pub(crate) fn cue(&self, turn: usize) -> Cue {
        if turn < self.script.turns.len() { Cue::Turn(turn) } else { Cue::More }
    }

    /// What the caller said at a cue; empty where the script does not know.
    pub(crate) fn caller(&self, cue: Cue) -> &str {
        match cue {
            Cue::Turn(turn) => self.script.turns.get(turn).map_or("", |turn| &turn.caller),
            Cue::Greeting | Cue::More => "",
        }
    }

    /// What the model says at a cue.
    pub(crate) fn answer(&self, cue: Cue) -> &Answer {
        match cue {
            Cue::Greeting => &self.script.greeting,
            Cue::Turn(turn) => {
                self.script.turns.get(turn).map_or(&self.script.more, |turn| &turn.answer)
            }
            Cue::More => &self.script.more,
        }
    }

    /// How it sounds.
    pub(crate) fn sound(&self, cue: Cue) -> Speech {
        self.sounds.get(&cue).cloned().unwrap_or_else(|| Speech::tone(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_script_is_refused() {
        let json = r#"{"greeting":{"text":"hi"},"turns":[{"caller":"x","reply":{"text":"y"}}]}"#;
        assert!(serde_json::from_str::<Script>(json).is_err());
    }

    #[test]
    fn past_the_end_there_is_always_an_answer() {
        let loaded = Repertoire::load(Script::plain()).unwrap();
        assert_eq!(loaded.cue(1), Cue::Turn(1));
        assert_eq!(loaded.cue(2), Cue::More);
        assert!(loaded.sound(Cue::More).ms() > 500);
    }
}

//! What the fake model says: a greeting, then one answer for each turn of the caller.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::trouble::{Mishap, Trouble};
use crate::audio::Clip;

/// A conversation as it was written beforehand. The model hears *that* the caller spoke, by the
/// energy of the audio; *what* was said, the script tells it, unless the sound says it itself
/// ([`Clip::Words`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What a `response.create` without a turn of the caller gets.
    pub greeting: Answer,
    /// The caller's turns in order: the first one of a conversation without turns of the caller,
    /// told or heard, is the first one here. After the last one, `more` answers.
    pub turns: Vec<Turn>,
    /// What is said when the script has run out, or knows no words like the caller's. `{caller}`
    /// in it stands for what the caller said.
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
    /// What goes wrong with it.
    #[serde(default)]
    pub trouble: Option<Trouble>,
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
    /// What is said once the output is there; `{output}` stands for it. `None` says `more`.
    #[serde(default)]
    pub then: Option<String>,
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
        Self { text: text.into(), clip: None, tool: None, trouble: None }
    }

    /// An answer with a sound of its own.
    #[must_use]
    pub fn spoken(text: &str, clip: Clip) -> Self {
        Self { clip: Some(clip), ..Self::words(text) }
    }

    /// The same answer, with a call of a tool after it.
    #[must_use]
    pub fn then_calls(mut self, tool: &str) -> Self {
        let (name, arguments) = (tool.into(), no_arguments());
        self.tool = Some(ToolCall { name, arguments, then: None });
        self
    }

    /// The same answer, going wrong the first time.
    #[must_use]
    pub fn with_trouble(mut self, what: Mishap) -> Self {
        self.trouble = Some(Trouble::once(what));
        self
    }

    /// The sound, made up where the script gives none.
    pub(crate) fn clip(&self) -> Clip {
        self.clip.clone().unwrap_or_else(|| Clip::Words(self.text.clone()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Leave;

    #[test]
    fn a_misspelt_script_is_refused() {
        let json = r#"{"greeting":{"text":"hi"},"turns":[{"caller":"x","reply":{"text":"y"}}]}"#;
        assert!(serde_json::from_str::<Script>(json).is_err());
    }

    #[test]
    fn trouble_is_written_in_words() {
        let json =
            r#"{"text":"Hm.","trouble":{"what":{"leave":{"how":{"close":1011},"after_ms":9}}}}"#;
        let answer: Answer = serde_json::from_str(json).unwrap();
        let how = Leave::Close(1011);
        let what = Mishap::Leave { how, after_ms: 9, away_ms: 0 };
        assert_eq!(answer, Answer::words("Hm.").with_trouble(what));
    }
}

//! Reads single settings and gathers what is wrong with them.

use serde::de::DeserializeOwned;

use super::settings::{Default, Form, setting};
use super::{Environment, Mistake};

/// Reads settings and gathers mistakes. Each method gives `None` when the setting is absent or
/// wrong, and has said so when it is wrong.
pub(super) struct Reader<'a> {
    pub(super) environment: &'a Environment,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// What the environment says; an empty value is none.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        let name = setting(name).name;
        self.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// What the environment says, or the table's default.
    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        let default = match setting(name).default {
            Default::Text(text) => Some(text),
            Default::Computed(_) | Default::Absent | Default::Required => None,
        };
        self.given(name).or(default).map(str::to_owned)
    }

    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let Some(text) = self.text(name) else {
            let setting = setting(name);
            if setting.default == Default::Required {
                self.mistake::<T>(name, format!("missing; give {}", setting.form.words()));
            }
            return None;
        };
        let value = parse(&text);
        if value.is_none() {
            let words = setting(name).form.words();
            self.mistake::<T>(name, format!("`{text}` is not {words}"));
        }
        value
    }

    pub(super) fn number(
        &mut self,
        name: &'static str,
        computed: impl FnOnce() -> u64,
    ) -> Option<u64> {
        let Form::Number(range) = &setting(name).form else { unreachable!("{name} is a number") };
        if self.text(name).is_none() {
            return Some(computed().clamp(*range.start(), *range.end()));
        }
        self.parsed(name, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// The text of the file that a setting names.
    pub(super) fn file(&mut self, name: &'static str) -> Option<String> {
        let path = self.text(name)?;
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) => self.mistake(name, format!("{path} cannot be read: {error}")),
        }
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let text = self.file(name)?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            // Place and kind, not the text: a signature is a secret.
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let words = setting(name).form.words();
                self.mistake(name, format!("line {line}, column {column}: not {words}"))
            }
        }
    }

    pub(super) fn mistake<T>(
        &mut self,
        name: &'static str,
        problem: impl Into<String>,
    ) -> Option<T> {
        self.mistakes.push(Mistake { name, problem: problem.into() });
        None
    }
}

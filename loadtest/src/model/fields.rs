//! Reading a client's JSON without mercy: every field is named, everything else is refused.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// An object whose unknown fields have been refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    path: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Takes a value as an object with no other fields than the known ones.
    ///
    /// # Errors
    /// When it is no object, or has another field.
    pub(crate) fn of(path: &'a str, value: &'a Value, known: &[&str]) -> Result<Self, Refusal> {
        let Value::Object(map) = value else {
            return Err(Refusal::wrong_type(path, "an object", value));
        };
        let fields = Self { path, map };
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Refusal::unknown(&fields.name(key))),
            None => Ok(fields),
        }
    }

    /// The full name of a field.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A field that may be absent.
    pub(crate) fn maybe(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn need(&self, key: &str) -> Result<&'a Value, Refusal> {
        self.map.get(key).ok_or_else(|| Refusal::missing(&self.name(key)))
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is not, or is no text.
    pub(crate) fn text(&self, key: &str) -> Result<&'a str, Refusal> {
        let value = self.need(key)?;
        value.as_str().ok_or_else(|| Refusal::wrong_type(&self.name(key), "a string", value))
    }

    /// A whole number that must be there, not below zero.
    ///
    /// # Errors
    /// When it is not, or is something else.
    pub(crate) fn whole(&self, key: &str) -> Result<u64, Refusal> {
        let value = self.need(key)?;
        value.as_u64().ok_or_else(|| Refusal::wrong_type(&self.name(key), "an integer", value))
    }

    /// A text out of a list, which must be there.
    ///
    /// # Errors
    /// When it is not, or is not in the list.
    pub(crate) fn one_of(&self, key: &str, allowed: &[&str]) -> Result<&'a str, Refusal> {
        let text = self.text(key)?;
        let listed = || Refusal::value(&self.name(key), &allowed.join(", "));
        allowed.contains(&text).then_some(text).ok_or_else(listed)
    }

    /// A number within bounds, when it is there.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn number_in(
        &self,
        key: &str,
        bounds: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.maybe(key) else { return Ok(None) };
        let name = self.name(key);
        let number =
            value.as_f64().ok_or_else(|| Refusal::wrong_type(&name, "a decimal", value))?;
        if bounds.contains(&number) {
            return Ok(Some(number));
        }
        Err(Refusal::value(&name, &format!("{} to {}", bounds.start(), bounds.end())))
    }

    /// A text, when it is there.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn maybe_text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        self.maybe(key).map(|_| self.text(key)).transpose()
    }

    /// A truth value, when it is there.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn maybe_flag(&self, key: &str) -> Result<Option<bool>, Refusal> {
        let Some(value) = self.maybe(key) else { return Ok(None) };
        let refused = || Refusal::wrong_type(&self.name(key), "a boolean", value);
        value.as_bool().map(Some).ok_or_else(refused)
    }
}

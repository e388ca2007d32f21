//! The agent file: agent specs as a person writes them, in TOML, for control and for a relay that
//! runs alone.
//!
//! Unknown fields are mistakes here, while over the link they are skipped: a person who writes a
//! file wants to know of a misspelt word. Parsing is the reader's business; what is wrong with what
//! was parsed is found here, all of it at once.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::AgentSpec;
use crate::id::AgentName;
use crate::secret::Secret;
use crate::strict;

/// The file as it is written.
#[derive(Debug, Deserialize, Serialize)]
pub struct AgentFile {
    /// Who answers calls that name nobody.
    #[serde(default)]
    pub default: Option<AgentName>,
    /// Every version of every agent.
    #[serde(default)]
    pub agent: Vec<AgentSpec>,
}

impl AgentFile {
    /// Gives each agent the key that `key_of` has under the name that its provider says, and lists
    /// everything that is wrong with the file; `written` is the same file, read as plain values.
    pub fn settle(
        &mut self,
        written: &Value,
        key_of: impl Fn(&str) -> Option<Secret>,
    ) -> Vec<String> {
        // Before keys come in, which nobody has written.
        let unread = strict::unread(written, &json!(self)).into_iter();
        let mut mistakes: Vec<String> =
            unread.map(|path| format!("`{path}` is not a field that is known")).collect();
        let mut seen = BTreeSet::new();
        for spec in &mut self.agent {
            give_key(spec, &key_of, &mut mistakes);
            mistakes.extend(spec.problems().iter().map(ToString::to_string));
            let (name, version) = (&spec.name, spec.version);
            if !seen.insert((spec.tenant.clone(), name.clone(), version)) {
                mistakes.push(format!("agent `{name}` is there twice with version {version}"));
            }
        }
        if self.agent.is_empty() {
            mistakes.push("it holds no [[agent]]".to_owned());
        } else if let Some(default) = &self.default
            && !self.agent.iter().any(|agent| agent.name == *default)
        {
            mistakes.push(format!("default: there is no agent `{default}`"));
        }
        mistakes
    }
}

/// Keys come from the environment; one that is written in the file stays.
fn give_key(
    spec: &mut AgentSpec,
    key_of: &impl Fn(&str) -> Option<Secret>,
    mistakes: &mut Vec<String>,
) {
    let setting = spec.provider.key_setting();
    if spec.provider.api_key().is_empty()
        && let Some(key) = key_of(setting)
    {
        spec.provider.set_api_key(key);
    }
    if spec.provider.needs_key() && spec.provider.api_key().is_empty() {
        mistakes.push(format!("agent `{}`: its provider needs a key; set {setting}", spec.name));
    }
}

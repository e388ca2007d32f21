//! Who answers: the agent file. Unknown fields are mistakes here, while over the link they are
//! skipped: a person who writes a file wants to know of a misspelt word.

use std::collections::BTreeMap;

use link::agent::AgentSpec;
use link::id::AgentName;
use link::secret::Secret;
use link::strict;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The agents of the file, every version of each.
#[derive(Debug, Clone)]
pub struct Agents {
    default: AgentName,
    specs: BTreeMap<(AgentName, u32), AgentSpec>,
}

impl Agents {
    /// The newest version of an agent; of the default one when no name is given.
    #[must_use]
    pub fn newest(&self, name: Option<&AgentName>) -> Option<&AgentSpec> {
        let name = name.unwrap_or(&self.default);
        let versions = (name.clone(), 0)..=(name.clone(), u32::MAX);
        self.specs.range(versions).next_back().map(|(_, spec)| spec)
    }

    /// Every agent and version.
    pub fn all(&self) -> impl Iterator<Item = &AgentSpec> {
        self.specs.values()
    }
}

/// The file as it is written.
#[derive(Deserialize, Serialize)]
struct AgentFile {
    default: Option<AgentName>,
    #[serde(default)]
    agent: Vec<AgentSpec>,
}

/// Reads the text of an agent file, and gives each agent the key that `key_of` has under the name
/// that its provider says.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(text: &str, key_of: impl Fn(&str) -> Option<Secret>) -> Result<Agents, Vec<String>> {
    let unreadable = |error: toml::de::Error| {
        vec![strict::explain(text, error.span().map(|span| span.start), error.message())]
    };
    // Twice over the same text: once for what it means, once for every word that stands in it.
    let file: AgentFile = toml::from_str(text).map_err(unreadable)?;
    let written: Value = toml::from_str(text).map_err(unreadable)?;
    let mut mistakes: Vec<String> = strict::unread(&written, &json!(file))
        .into_iter()
        .map(|path| format!("`{path}` is not a field that is known"))
        .collect();
    // A file with one agent needs no more words.
    let default = file.default.or_else(|| only(&file.agent));
    let mut specs = BTreeMap::new();
    for mut spec in file.agent {
        give_key(&mut spec, &key_of, &mut mistakes);
        mistakes.extend(spec.problems().iter().map(ToString::to_string));
        let (name, version) = (spec.name.clone(), spec.version);
        if specs.insert((name.clone(), version), spec).is_some() {
            mistakes.push(format!("agent `{name}` is there twice with version {version}"));
        }
    }
    match &default {
        _ if specs.is_empty() => mistakes.push("it holds no [[agent]]".to_owned()),
        None => mistakes.push("default: say which agent answers calls that name none".to_owned()),
        Some(default) if !specs.keys().any(|(name, _)| name == default) => {
            mistakes.push(format!("default: there is no agent `{default}`"));
        }
        Some(_) => {}
    }
    match default {
        Some(default) if mistakes.is_empty() => Ok(Agents { default, specs }),
        _ => Err(mistakes),
    }
}

/// The one agent's name, when there is only one: it needs no `default`.
fn only(agents: &[AgentSpec]) -> Option<AgentName> {
    let (first, rest) = agents.split_first()?;
    rest.iter().all(|agent| agent.name == first.name).then(|| first.name.clone())
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

#[cfg(test)]
mod tests;

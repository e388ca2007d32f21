//! Who answers: the agent file. Unknown fields are mistakes here, while over the link they are
//! skipped: a person who writes a file wants to know of a misspelt word.

use std::collections::BTreeMap;

use link::agent::AgentSpec;
use link::agent_file::AgentFile;
use link::id::AgentName;
use link::secret::Secret;
use link::strict;
use serde_json::Value;

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
    let mut file: AgentFile = toml::from_str(text).map_err(unreadable)?;
    let written: Value = toml::from_str(text).map_err(unreadable)?;
    let mut mistakes = file.settle(&written, key_of);
    // A file with one agent needs no more words.
    let default = file.default.or_else(|| only(&file.agent));
    if default.is_none() && !file.agent.is_empty() {
        mistakes.push("default: say which agent answers calls that name none".to_owned());
    }
    let written_down = file.agent.len();
    let key = |spec: AgentSpec| ((spec.name.clone(), spec.version), spec);
    let specs: BTreeMap<_, _> = file.agent.into_iter().map(key).collect();
    if mistakes.is_empty() && specs.len() < written_down {
        mistakes.push("two tenants have an agent of one name and version; rename one".to_owned());
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

#[cfg(test)]
mod tests;

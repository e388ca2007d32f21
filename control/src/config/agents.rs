//! Who answers from the start: the agent file. Unknown fields are mistakes here, while over the
//! link they are skipped: a person who writes a file wants to know of a misspelt word.
//!
//! The agents that the API makes are in the database; [`crate::directory`] knows both.

use std::collections::BTreeMap;
use std::sync::Arc;

use link::agent::{AgentSpec, Provider};
use link::agent_file::AgentFile;
use link::id::{AgentName, TenantId};
use link::secret::Secret;
use link::strict;
use serde_json::Value;

/// The agents of the file, every version of each.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    default: Option<AgentName>,
    specs: BTreeMap<(TenantId, AgentName, u32), Arc<AgentSpec>>,
}

impl Agents {
    /// Who answers calls of the default tenant that name nobody; `None` without a file.
    #[must_use]
    pub fn default_name(&self) -> Option<&AgentName> {
        self.default.as_ref()
    }

    /// The newest version of an agent.
    #[must_use]
    pub fn newest(&self, tenant: &TenantId, name: &AgentName) -> Option<&Arc<AgentSpec>> {
        self.versions(tenant, name).next_back()
    }

    /// The versions of an agent, oldest first.
    pub fn versions(
        &self,
        tenant: &TenantId,
        name: &AgentName,
    ) -> impl DoubleEndedIterator<Item = &Arc<AgentSpec>> {
        let versions = (tenant.clone(), name.clone(), 0)..=(tenant.clone(), name.clone(), u32::MAX);
        self.specs.range(versions).map(|(_, spec)| spec)
    }

    /// Every agent and version.
    pub fn all(&self) -> impl Iterator<Item = &Arc<AgentSpec>> {
        self.specs.values()
    }
}

/// The provider keys of the environment, by the name of their setting. They are the operator's, and
/// serve the default tenant only.
#[derive(Debug, Clone, Default)]
pub struct ProviderKeys(BTreeMap<String, Secret>);

impl ProviderKeys {
    /// The key of a setting.
    #[must_use]
    pub fn of(&self, setting: &str) -> Option<&Secret> {
        self.0.get(setting)
    }
}

impl FromIterator<(String, Secret)> for ProviderKeys {
    fn from_iter<T: IntoIterator<Item = (String, Secret)>>(keys: T) -> Self {
        Self(keys.into_iter().collect())
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
    let key =
        |spec: AgentSpec| ((spec.tenant.clone(), spec.name.clone(), spec.version), Arc::new(spec));
    let specs: BTreeMap<_, _> = file.agent.into_iter().map(key).collect();
    if mistakes.is_empty() { Ok(Agents { default, specs }) } else { Err(mistakes) }
}

/// The agent that answers when there is no file, with a model of the provider's when one is named.
///
/// # Errors
/// When its provider has no key.
pub fn standard(
    model: Option<&str>,
    key_of: impl Fn(&str) -> Option<Secret>,
) -> Result<Agents, Vec<String>> {
    let mut agents = read(include_str!("agents/standard.toml"), key_of)?;
    for spec in agents.specs.values_mut() {
        let Provider::OpenaiRealtime { model: theirs, .. } = &mut Arc::make_mut(spec).provider;
        model.unwrap_or(STANDARD_MODEL).clone_into(theirs);
    }
    Ok(agents)
}

/// The model of the standard agent, when the environment names no realtime model.
pub const STANDARD_MODEL: &str = "gpt-realtime-2.1";

/// The one agent's name, when there is only one: it needs no `default`.
fn only(agents: &[AgentSpec]) -> Option<AgentName> {
    let (first, rest) = agents.split_first()?;
    rest.iter().all(|agent| agent.name == first.name).then(|| first.name.clone())
}

#[cfg(test)]
mod tests;

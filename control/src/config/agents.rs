//! Who answers: the agent file. Unknown fields are mistakes here, while over the link they are
//! skipped: a person who writes a file wants to know of a misspelt word.

use std::collections::BTreeMap;

use link::agent::AgentSpec;
use link::id::AgentName;
use link::secret::Secret;
use serde::Deserialize;

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
#[derive(Deserialize)]
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
    let mut mistakes = Vec::new();
    let toml = toml::Deserializer::parse(text).map_err(|error| vec![error.to_string()])?;
    let mut unknown = |path: serde_ignored::Path<'_>| {
        mistakes.push(format!("`{path}` is not a field that is known"));
    };
    let file: AgentFile = serde_ignored::deserialize(toml, &mut unknown)
        .map_err(|error| vec![error.to_string().trim_end().to_owned()])?;
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
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../examples/agents.toml");

    fn key(_: &str) -> Option<Secret> {
        Some(Secret::new("sk-test"))
    }

    #[test]
    fn the_example_is_read_and_gets_its_key() {
        let agents = read(EXAMPLE, key).unwrap();
        let spec = agents.newest(None).unwrap();
        assert_eq!(spec.name.as_str(), "front-desk");
        assert_eq!(spec.provider.api_key().reveal(), "sk-test");
    }

    #[test]
    fn every_mistake_is_listed_at_once() {
        let text = EXAMPLE
            .replace("threshold = 0.5", "threshold = 5.0\ntreshold = 0.5")
            .replace("default = \"front-desk\"", "default = \"nobody\"");
        let mistakes = read(&text, |_| None).unwrap_err().join("\n");
        for part in [
            "treshold` is not a field",
            "turn_detection.threshold: outside 0 to 1",
            "needs a key; set OPENAI_API_KEY",
            "no agent `nobody`",
        ] {
            assert!(mistakes.contains(part), "{part} is missing in\n{mistakes}");
        }
    }

    #[test]
    fn the_newest_version_answers_new_calls_and_all_are_known() {
        let agent = EXAMPLE.split("[[agent]]").nth(1).unwrap();
        let newer = agent.replace("version = 1", "version = 7");
        let agents = read(&format!("{EXAMPLE}\n[[agent]]{newer}"), key).unwrap();
        assert_eq!(agents.newest(None).unwrap().version, 7);
        assert_eq!(agents.all().count(), 2);
        let twice = read(&format!("{EXAMPLE}\n[[agent]]{agent}"), key);
        assert!(twice.unwrap_err()[0].contains("twice with version 1"));
    }

    #[test]
    fn an_empty_file_and_one_without_a_default_are_mistakes() {
        assert!(read("", key).unwrap_err()[0].contains("no [[agent]]"));
        let agent = EXAMPLE.split("[[agent]]").nth(1).unwrap();
        let other = agent.replace("front-desk", "back-office");
        let two = format!("[[agent]]{agent}\n[[agent]]{other}");
        assert!(read(&two, key).unwrap_err()[0].starts_with("default:"));
    }
}

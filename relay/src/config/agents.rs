//! The agent file of a relay that runs alone. Unknown fields are mistakes here, while over the
//! link they are skipped: a person who writes a file wants to know of a misspelt word.

use std::collections::HashSet;

use link::agent::AgentSpec;
use link::id::AgentName;
use link::secret::Secret;
use link::strict;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize, Serialize)]
struct AgentFile {
    #[serde(default)]
    default: Option<AgentName>,
    #[serde(default)]
    agent: Vec<AgentSpec>,
}

/// Reads the text of an agent file, and gives each agent the key that `key_of` has under the name
/// that its provider says.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(
    text: &str,
    key_of: impl Fn(&str) -> Option<Secret>,
) -> Result<Vec<AgentSpec>, Vec<String>> {
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
    let mut agents = file.agent;
    for agent in &mut agents {
        let name = agent.provider.key_setting();
        if agent.provider.api_key().is_empty()
            && let Some(key) = key_of(name)
        {
            agent.provider.set_api_key(key);
        }
        if agent.provider.needs_key() && agent.provider.api_key().is_empty() {
            mistakes.push(format!("agent `{}`: its provider needs a key; set {name}", agent.name));
        }
        mistakes.extend(agent.problems().iter().map(ToString::to_string));
    }
    mistakes.extend(twice(&agents));
    if agents.is_empty() {
        mistakes.push("it holds no [[agent]]".to_owned());
    }
    if let Some(default) = file.default
        && !agents.iter().any(|agent| agent.name == default)
    {
        mistakes.push(format!("default: there is no agent `{default}`"));
    }
    if mistakes.is_empty() { Ok(agents) } else { Err(mistakes) }
}

fn twice(agents: &[AgentSpec]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut words = Vec::new();
    for agent in agents {
        if !seen.insert((&agent.tenant, &agent.name, agent.version)) {
            let (name, version) = (&agent.name, agent.version);
            words.push(format!("agent `{name}` is there twice with version {version}"));
        }
    }
    words
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
        assert_eq!(agents.len(), 1);
        assert_eq!(agents[0].provider.api_key().reveal(), "sk-test");
    }

    #[test]
    fn a_misspelt_field_a_problem_and_a_missing_key_are_listed_together() {
        let text = EXAMPLE
            .replace("threshold = 0.5", "threshold = 5.0\ntreshold = 0.5")
            .replace("default = \"front-desk\"", "default = \"nobody\"");
        let mistakes = read(&text, |_| None).unwrap_err().join("\n");
        for part in [
            "treshold` is not a field",
            "turn_detection.threshold: outside 0 to 1",
            "needs a key; set ",
            "no agent `nobody`",
        ] {
            assert!(mistakes.contains(part), "{part} is missing in\n{mistakes}");
        }
    }

    #[test]
    fn a_file_that_is_not_toml_says_where() {
        let mistakes = read("[[agent]\nname = 1", key).unwrap_err();
        assert!(mistakes[0].contains("line 1"), "{mistakes:?}");
    }

    #[test]
    fn the_same_version_twice_is_a_mistake() {
        let agent = EXAMPLE.split("[[agent]]").nth(1).unwrap();
        let text = format!("{EXAMPLE}\n[[agent]]{agent}");
        assert!(read(&text, key).unwrap_err()[0].contains("twice with version 1"));
    }
}

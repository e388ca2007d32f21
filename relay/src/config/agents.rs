//! The agent file of a relay that runs alone. Unknown fields are mistakes here, while over the
//! link they are skipped: a person who writes a file wants to know of a misspelt word.

use link::agent::AgentSpec;
use link::agent_file::AgentFile;
use link::secret::Secret;
use link::strict;
use serde_json::Value;

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
    let mut file: AgentFile = toml::from_str(text).map_err(unreadable)?;
    let written: Value = toml::from_str(text).map_err(unreadable)?;
    let mistakes = file.settle(&written, key_of);
    if mistakes.is_empty() { Ok(file.agent) } else { Err(mistakes) }
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

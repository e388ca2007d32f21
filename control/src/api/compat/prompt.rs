//! An agent for a prompt: the default agent with other instructions, made as `POST /v1/agents`
//! makes one, and made once. Its name is a digest of the prompt and of what it was based on, so that
//! the same prompt finds it again, and a new version of the default agent is not missed.
//!
//! Whoever writes the prompt has no key. So the agent may do what concerns its own call, and nothing
//! that reaches other systems or other people: no HTTP tools, no transfers.

use http::StatusCode;
use link::agent::{AgentSpec, Tool};
use link::id::AgentName;
use sha2::{Digest as _, Sha256};

use crate::api::auth::Client;
use crate::api::{agents, spec};
use crate::directory::{MADE_OF_PROMPT, is_made_of_prompt};
use crate::error::Problem;

/// The agent that has this prompt; `None` without one, which is the default agent.
///
/// # Errors
/// When there is nothing to base it on, there are too many, or the prompt makes no agent.
pub(super) async fn agent(
    client: &Client,
    prompt: Option<&str>,
) -> Result<Option<AgentName>, Problem> {
    let Some(prompt) = prompt.map(str::trim).filter(|prompt| !prompt.is_empty()) else {
        return Ok(None);
    };
    let Client { plane, tenant, .. } = client;
    let base = plane.directory.newest_or_new(plane, tenant, None).await?.ok_or_else(no_base)?;
    let name = name(&base, prompt);
    if plane.directory.newest_or_new(plane, tenant, Some(&name)).await?.is_some() {
        return Ok(Some(name));
    }
    let known = plane.store.agents(tenant).await?;
    if known.iter().filter(|agent| is_made_of_prompt(&agent.spec.name)).count() >= PROMPTS_MAX {
        return Err(too_many());
    }
    let wanted = spec::shown(&with_prompt(&base, name.clone(), prompt)).to_string();
    match agents::make(client, wanted.as_bytes(), None).await {
        Ok(_) => Ok(Some(name)),
        // Another request had the same prompt at the same moment.
        Err(problem) if problem.code == "agent_exists" => Ok(Some(name)),
        Err(problem) => Err(problem),
    }
}

fn name(base: &AgentSpec, prompt: &str) -> AgentName {
    let mut digest = Sha256::new();
    digest.update(base.name.as_str());
    // No name has this byte.
    digest.update([0]);
    digest.update(base.version.to_be_bytes());
    digest.update(prompt);
    let digest = digest.finalize();
    let digits: String = digest.iter().take(NAME_BYTES).map(|b| format!("{b:02x}")).collect();
    AgentName::new(format!("{MADE_OF_PROMPT}{digits}")).expect("hexadecimal digits are a name")
}

fn with_prompt(base: &AgentSpec, name: AgentName, prompt: &str) -> AgentSpec {
    let mut spec = base.clone();
    spec.name = name;
    prompt.clone_into(&mut spec.instructions);
    // What the default agent says first belongs to its own instructions.
    spec.greeting = spec.greeting.map(|_| GREETING.to_owned());
    spec.tools.retain(|tool| match tool {
        Tool::HangUp | Tool::SendDtmf => true,
        Tool::Transfer { .. } | Tool::Http(_) => false,
    });
    spec
}

fn no_base() -> Problem {
    let detail = "There is no default agent that a prompt could be given to. The operator sets \
        OPENAI_API_KEY, or `default` in CONTROL_AGENT_FILE.";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "agent_not_found", detail)
}

fn too_many() -> Problem {
    let detail = format!(
        "There are {PROMPTS_MAX} agents that were made of prompts ({MADE_OF_PROMPT}...). DELETE \
         /v1/agents/{{name}} takes away those that are not needed, or send a prompt again that was \
         sent before.",
    );
    Problem::new(StatusCode::CONFLICT, "prompts_too_many", detail)
}

/// Half of a tenant's agents, so that whoever has no key cannot keep others from making theirs.
const PROMPTS_MAX: usize = 100;

/// 128 bits: no two prompts share a name.
const NAME_BYTES: usize = 16;

const GREETING: &str = "Begin the conversation as your instructions say, in one or two sentences.";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base(version: u32) -> AgentSpec {
        let spec = json!({
            "name": "desk", "version": version, "instructions": "You answer.", "voice": "marin",
            "greeting": "Ask how you can help.",
            "provider": {"kind": link::agent::Provider::KINDS[0]},
            "tools": [
                {"kind": "hang_up"},
                {"kind": "http", "name": "slots", "description": "x", "url": "https://t.example"},
                {"kind": "transfer", "destinations": [{"name": "desk", "to": "+15550100"}]},
            ],
        });
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn one_prompt_has_one_name_for_each_version_that_it_is_based_on() {
        let first = name(&base(1), "Sing.");
        assert!(is_made_of_prompt(&first), "{first}");
        assert_eq!(first, name(&base(1), "Sing."));
        assert_ne!(first, name(&base(1), "Dance."));
        assert_ne!(first, name(&base(2), "Sing."));
        assert!(!is_made_of_prompt(&AgentName::new("prompt-desk").unwrap()));
    }

    #[test]
    fn a_prompt_reaches_its_own_call_and_nothing_else() {
        let name = name(&base(1), "Sing.");
        let spec = with_prompt(&base(1), name.clone(), "Sing.");
        assert_eq!((&spec.name, spec.instructions.as_str()), (&name, "Sing."));
        assert_eq!(spec.voice.as_deref(), Some("marin"));
        assert_eq!(spec.greeting.as_deref(), Some(GREETING));
        let tools: Vec<_> = spec.tools.iter().map(Tool::name).collect();
        assert_eq!(tools, [Tool::HangUp.name()]);
        assert_eq!(spec.problems(), []);
    }
}

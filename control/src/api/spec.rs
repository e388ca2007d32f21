//! An agent's spec in a request, and in an answer: everything that is wrong with it is said at once
//! and by field, and what is secret goes in and never comes out.

use http::StatusCode;
use link::agent::{AgentSpec, Provider, Tool};
use link::frame::FRAME_BYTES_MAX;
use link::id::{AgentName, TenantId};
use link::message::ToRelay;
use link::secret::Secret;
use link::strict;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::error::Problem;

/// What an answer shows beside the spec. It may be sent back as it was read, and changes nothing.
pub(super) const SHOWN_ONLY: [&str; 5] =
    ["version", "source", "signed_tools", "created_at", "updated_at"];

/// Whose spec a request brings.
pub(super) struct Owner<'a> {
    /// Whose agent it is.
    pub(super) tenant: &'a TenantId,
    /// Its name, where the address says it.
    pub(super) name: Option<&'a AgentName>,
}

/// Reads the spec of a request.
pub(super) fn read(body: &[u8], owner: &Owner<'_>) -> Result<Written, Problem> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
        let detail = "The body is not a JSON object with `name`, `provider`, `instructions` ...";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail));
    };
    SHOWN_ONLY.iter().for_each(|field| drop(fields.remove(*field)));
    if let Some(name) = owner.name {
        let written = fields.insert("name".to_owned(), name.as_str().into());
        if written.is_some_and(|written| written != name.as_str()) {
            let detail = "`name` is another one than the address says; an agent keeps its name.";
            return Err(unprocessable("agent_renamed", detail));
        }
    }
    // It is a field over the link, and the key's business here.
    if fields.remove("tenant").is_some() {
        return Err(no_field("tenant"));
    }
    let mistakes = shape(&fields);
    if !mistakes.is_empty() {
        return Err(unprocessable("agent_malformed", mistakes.join("; ") + "."));
    }
    let fields = Value::Object(fields);
    // Each field alone was read, so that all of them together are.
    let mut spec = AgentSpec::deserialize(&fields).map_err(|error| {
        unprocessable("agent_malformed", format!("The agent cannot be read: {error}."))
    })?;
    spec.tenant = owner.tenant.clone();
    spec.version = 1;
    check(&spec, &fields)?;
    Ok(Written { spec, fields })
}

/// A spec as it was written.
#[derive(Debug)]
pub(super) struct Written {
    /// What it means.
    pub(super) spec: AgentSpec,
    fields: Value,
}

impl Written {
    /// The spec; a tool that says nothing of its key keeps the one that it has. A tool that asks
    /// elsewhere does not: a key must not sign for whoever wrote another address.
    pub(super) fn with_keys_of(self, earlier: &AgentSpec) -> AgentSpec {
        let Self { mut spec, fields } = self;
        let written = &fields["tools"];
        for (place, tool) in spec.tools.iter_mut().enumerate() {
            let Tool::Http(tool) = tool else { continue };
            let is_silent = written[place].get("signing_key").is_none();
            let same = earlier.tools.iter().find_map(|other| match other {
                Tool::Http(other) => {
                    (other.name == tool.name && other.url == tool.url).then_some(other)
                }
                Tool::HangUp | Tool::Transfer { .. } | Tool::SendDtmf => None,
            });
            if let Some(same) = same.filter(|_| is_silent) {
                tool.signing_key = same.signing_key.clone();
            }
        }
        spec
    }
}

/// A spec as an answer shows it.
pub(super) fn shown(spec: &AgentSpec) -> Value {
    let mut bare = spec.clone();
    let mut signed = Vec::new();
    for tool in &mut bare.tools {
        if let Tool::Http(tool) = tool
            && !tool.signing_key.is_empty()
        {
            tool.signing_key = Secret::new("");
            signed.push(tool.name.clone());
        }
    }
    bare.provider.set_api_key(Secret::new(""));
    let mut shown = json!(bare);
    without(&mut shown, "tenant");
    without(&mut shown["provider"], "api_key");
    for tool in shown["tools"].as_array_mut().into_iter().flatten() {
        without(tool, "signing_key");
    }
    shown["signed_tools"] = signed.into();
    shown
}

fn without(value: &mut Value, field: &str) {
    if let Value::Object(fields) = value {
        fields.remove(field);
    }
}

/// What cannot be read at all, by field.
fn shape(fields: &Map<String, Value>) -> Vec<String> {
    let missing = NEEDED.iter().filter(|field| !fields.contains_key(**field));
    let mut mistakes: Vec<String> = missing.map(|field| format!("`{field}` is missing")).collect();
    let kind = fields.get("provider").and_then(|provider| provider.get("kind"));
    let is_built_in = |kind: &Value| kind.as_str().is_some_and(|k| Provider::KINDS.contains(&k));
    if fields.contains_key("provider") && !kind.is_some_and(is_built_in) {
        let known = Provider::KINDS.join(", ");
        mistakes.push(format!("`provider.kind` is not built in; there is {known}"));
    }
    let built_in = json!({"kind": Provider::KINDS[0]});
    for (field, value) in fields {
        if field == "provider" && !kind.is_some_and(is_built_in) {
            continue;
        }
        // Alone among good ones, so that the mistake has a name.
        let mut one = json!({"name": "x", "instructions": "x", "provider": built_in});
        one[field] = value.clone();
        if let Err(error) = AgentSpec::deserialize(&one) {
            mistakes.push(format!("`{field}`: {error}"));
        }
    }
    mistakes
}

/// What can be read and is wrong.
fn check(spec: &AgentSpec, fields: &Value) -> Result<(), Problem> {
    let unknown = strict::unread(fields, &json!(spec));
    if !unknown.is_empty() {
        return Err(no_field(&unknown.join("`, `")));
    }
    if !spec.provider.api_key().is_empty() {
        let detail = "`provider.api_key` is no part of an agent: the keys of services are kept \
            apart, so that whoever may read an agent cannot read them.";
        return Err(unprocessable("key_misplaced", detail));
    }
    let problems: Vec<String> =
        spec.problems().iter().map(|one| format!("`{}`: {}", one.field, one.problem)).collect();
    if !problems.is_empty() {
        return Err(unprocessable("agent_invalid", problems.join("; ") + "."));
    }
    let mut frame = Vec::new();
    let fits = ToRelay::Agent(Box::new(spec.clone())).write(&mut frame).is_ok();
    if !fits || frame.len() > FRAME_BYTES_MAX - KEY_BYTES {
        let detail = "The agent is longer than 62 KiB as JSON; shorten instructions or tools.";
        return Err(unprocessable("agent_too_long", detail));
    }
    Ok(())
}

fn no_field(path: &str) -> Problem {
    unprocessable("field_unknown", format!("There is no such field: `{path}`."))
}

fn unprocessable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

/// What every agent says.
const NEEDED: [&str; 3] = ["name", "provider", "instructions"];

/// Room in the frame for the provider key and a long version.
const KEY_BYTES: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: Option<&str>, body: &Value) -> Result<Written, Problem> {
        let name = name.map(|name| AgentName::new(name).unwrap());
        let owner = Owner { tenant: &TenantId::new("acme").unwrap(), name: name.as_ref() };
        read(body.to_string().as_bytes(), &owner)
    }

    fn agent() -> Value {
        let provider = json!({"kind": Provider::KINDS[0]});
        json!({"name": "desk", "instructions": "You answer.", "provider": provider})
    }

    fn tool(url: &str) -> Value {
        json!({"kind": "http", "name": "slots", "description": "Finds.", "url": url})
    }

    #[test]
    fn what_was_read_can_be_sent_back() {
        let mut body = agent();
        body["tools"] = json!([tool("https://t.example"), {"kind": "hang_up"}]);
        body["tools"][0]["signing_key"] = "hush".into();
        let first = read_as(None, &body).unwrap().spec;
        assert_eq!((first.tenant.as_str(), first.version), ("acme", 1));
        let shown = shown(&first);
        assert!(!shown.to_string().contains("hush") && !shown.to_string().contains("_key"));
        assert_eq!(shown["signed_tools"], json!(["slots"]));
        let again = read_as(Some("desk"), &shown).unwrap().with_keys_of(&first);
        assert_eq!(json!(again), json!(first));
    }

    #[test]
    fn a_key_stays_with_its_address_until_another_one_is_given() {
        let mut body = agent();
        body["tools"] = json!([tool("https://t.example")]);
        body["tools"][0]["signing_key"] = "hush".into();
        let first = read_as(None, &body).unwrap().spec;
        let key_after = |tool: Value| {
            let mut body = agent();
            body["tools"] = json!([tool]);
            let spec = read_as(None, &body).unwrap().with_keys_of(&first);
            let Tool::Http(tool) = &spec.tools[0] else { panic!("no request") };
            tool.signing_key.reveal().to_owned()
        };
        assert_eq!(key_after(tool("https://t.example")), "hush");
        assert_eq!(key_after(tool("https://other.example")), "");
        let mut unsigned = tool("https://t.example");
        unsigned["signing_key"] = "".into();
        assert_eq!(key_after(unsigned), "");
    }

    #[test]
    fn every_mistake_has_a_code_and_names_its_field() {
        let with = |field: &str, value: Value| {
            let mut body = agent();
            body[field] = value;
            body
        };
        for (body, code, part) in [
            (json!([]), "body_malformed", "JSON object"),
            (json!({}), "agent_malformed", "`instructions` is missing"),
            (with("provider", json!({"kind": "parrot"})), "agent_malformed", "`provider.kind`"),
            (with("provider", json!("x")), "agent_malformed", "`provider.kind`"),
            (with("name", json!("a b")), "agent_malformed", "`name`"),
            (with("greeting", json!(7)), "agent_malformed", "`greeting`"),
            (with("limits", json!({"call_seconds_max": -1})), "agent_malformed", "`limits`"),
            (with("tools", json!([{"kind": "juggle"}])), "agent_malformed", "`tools`"),
            (with("vioce", json!("x")), "field_unknown", "`vioce`"),
            (with("tenant", json!("other")), "field_unknown", "`tenant`"),
            (with("tenant", json!(7)), "field_unknown", "`tenant`"),
            (with("fallback", json!({})), "field_unknown", "`fallback`"),
            (with("instructions", json!(" ")), "agent_invalid", "`instructions`: empty"),
            (with("instructions", json!("\u{1}".repeat(20_000))), "agent_too_long", "62 KiB"),
        ] {
            let problem = read_as(None, &body).unwrap_err();
            assert_eq!(problem.code, code, "{:.80}", body.to_string());
            assert!(problem.detail.contains(part), "{}", problem.detail);
        }
        let mut keyed = agent();
        keyed["provider"]["api_key"] = "sk-1".into();
        assert_eq!(read_as(None, &keyed).unwrap_err().code, "key_misplaced");
        assert_eq!(read_as(Some("other"), &agent()).unwrap_err().code, "agent_renamed");
    }
}

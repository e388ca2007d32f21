//! Agent files: what is read of them, and what a person is told.

use super::*;
use link::agent::{Sessions, Tool};

const EXAMPLE: &str = include_str!("../../../../examples/agents.toml");

fn key(_: &str) -> Option<Secret> {
    Some(Secret::new("sk-test"))
}

/// Who answers when nobody is named.
fn newest(agents: &Agents) -> &AgentSpec {
    agents.newest(&TenantId::default(), agents.default_name().unwrap()).unwrap()
}

#[test]
fn the_example_is_read_and_gets_its_key() {
    let agents = read(EXAMPLE, key).unwrap();
    let spec = newest(&agents);
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
    assert_eq!(newest(&agents).version, 7);
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

/// Every field that a spec may have.
const WHOLE: &str = include_str!("whole.toml");

#[test]
fn every_field_of_a_spec_is_read() {
    let agents = read(WHOLE, key).unwrap();
    let spec = newest(&agents);
    assert_eq!(spec.limits.silence_seconds_max, 45);
    assert_eq!(spec.limits.call_tokens_max, 120_000);
    let session = Sessions { roll_over_seconds: 1_800, hedge_ms: 800, summary_turns: 12 };
    assert_eq!(spec.session, session);
    let names: Vec<_> = spec.tools.iter().map(Tool::name).collect();
    assert_eq!(names, ["hang_up", "send_dtmf", "transfer", "find_slot"]);
    let Tool::Transfer { destinations } = &spec.tools[2] else { panic!("no transfer") };
    let to: Vec<_> = destinations.iter().map(|to| (to.name.as_str(), to.to.as_str())).collect();
    assert_eq!(to, [("workshop", "+4930123456"), ("desk", "sip:desk@pbx.example.com")]);
    let Tool::Http(tool) = &spec.tools[3] else { panic!("no request") };
    assert_eq!((tool.url.as_str(), tool.timeout_ms), ("https://tools.example.com/slots", 4_000));
    assert_eq!(tool.parameters["properties"]["day"]["type"], "string");
    assert_eq!(tool.signing_key.reveal(), "signs-requests");
}

#[test]
fn what_is_wrong_with_a_tool_is_listed_too() {
    let text = WHOLE
        .replace("timeout_ms = 4000", "timeout_ms = 40")
        .replace("hedge_ms = 800", "hedge_ms = 8")
        .replace("silence_seconds_max = 45", "silence_seconds_max = 1")
        .replace("description = \"Finds", "descripton = \"\"\ndescription = \"Finds");
    let mistakes = read(&text, key).unwrap_err().join("\n");
    for part in [
        "agent.0.tools.3.descripton` is not a field",
        "tools: a tool's timeout_ms is outside",
        "session.hedge_ms: must be 0",
        "limits.silence_seconds_max: must be 0",
    ] {
        assert!(mistakes.contains(part), "{part} is missing in\n{mistakes}");
    }
    let bad = WHOLE.replace("+4930123456", "030 123456");
    let mistakes = read(&bad, key).unwrap_err().join("\n");
    assert!(mistakes.contains("an address is +E164"), "{mistakes}");
    assert!(mistakes.starts_with("line "), "{mistakes}");
}

#[test]
fn a_tools_key_is_shown_neither_by_debug_nor_by_a_mistake() {
    let agents = read(WHOLE, key).unwrap();
    assert!(!format!("{agents:?}").contains("signs-requests"));
    for (from, to) in [
        ("\"signs-requests\"", "\"signs-requests"),
        ("signing_key = ", "signing_key = 7 # "),
        ("signing_key = ", "signing_kye = "),
        ("signing_key = ", "signing_key "),
    ] {
        let mistakes = read(&WHOLE.replace(from, to), key).unwrap_err().join("\n");
        assert!(!mistakes.contains("signs-requests"), "{mistakes}");
    }
}

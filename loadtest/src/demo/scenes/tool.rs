//! The model asks a server of the agent's owner, and says what it was told.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use super::super::call;
use super::super::checks::{Check, check, common, ended, in_order, resume};
use super::super::follow::Seen;
use super::super::scene::Play;
use super::super::tools::ToolRequest;
use crate::clock::wall_us;
use crate::model::{Answer, ItemKind, Script, ToolCall, Turn};

/// A question that only the owner's server can answer.
pub(crate) fn play() -> Play {
    let mut answer = Answer::words("Let me have a look.");
    answer.tool = Some(ToolCall {
        name: "find_slot".into(),
        arguments: r#"{"day":"Saturday"}"#.into(),
        then: Some("There is room at {output}.".into()),
    });
    Play {
        about: "the model asks a server of the agent's owner",
        script: Script {
            greeting: call::greeting(),
            turns: vec![
                Turn { caller: QUESTION.into(), answer },
                call::turn(3, call::agent(3).then_calls("hang_up")),
            ],
            more: Answer::words("Is there anything else?"),
        },
        caller: vec![call::listen(400), call::say_words(QUESTION), call::listen(900), call::say(3)],
        tools: r#"{ kind = "hang_up" }, { kind = "http", name = "find_slot", description = "Finds a free slot in the workshop.", url = "http://{tools}/slots", signing_key = "demo-tool-signing-key" }"#,
        agent: "",
        session_limit: None,
        twist: None,
        judge,
    }
}

/// The claims of the scene.
fn judge(seen: &Seen) -> Vec<Check> {
    let order = ["call.answered", "turn", "tool", "turn", "call.ended"];
    let mut checks = vec![
        check("events in order: answered, turn, tool, turns, ended", in_order(seen, &order)),
        check("the server was asked once, in JSON, with a key", asked(seen)),
        check("the request was signed with the agent's key", signed(seen)),
        check("the tool is told as done", done(seen)),
        check("the model got the result, and said it", said(seen)),
        check("the agent said goodbye and hung up", ended(seen, "agent_hung_up")),
        check("resume was asked and answered <Hangup/>", resume(seen, "<Hangup/>")),
    ];
    checks.extend(common(seen));
    checks
}

/// The only request.
fn request(seen: &Seen) -> Result<&ToolRequest, String> {
    match seen.tool_requests.as_slice() {
        [request] => Ok(request),
        requests => Err(format!("there were {} requests", requests.len())),
    }
}

/// A POST of JSON that names the call, the tool and the arguments, with the key of its effect.
fn asked(seen: &Seen) -> Result<(), String> {
    let request = request(seen)?;
    let body: Value = serde_json::from_str(&request.body).map_err(|error| error.to_string())?;
    let call = seen.events.iter().find_map(|event| event.call.as_deref()).unwrap_or_default();
    let right = request.method == "POST"
        && request.content_type == "application/json"
        && body["call"] == call
        && body["tool"] == "find_slot"
        && body["arguments"]["day"] == "Saturday";
    let keyed = request.idempotency_key.starts_with(call) && request.idempotency_key != call;
    if right && keyed { Ok(()) } else { Err(format!("{request:?}")) }
}

/// `t=<unix seconds>,v1=<hex of the HMAC-SHA256 of "<t>.<body>">`, not older than five minutes.
fn signed(seen: &Seen) -> Result<(), String> {
    let request = request(seen)?;
    let unreadable = || format!("unreadable: `{}`", request.signature);
    let (time, sum) = request.signature.split_once(",v1=").ok_or_else(unreadable)?;
    let time = time.strip_prefix("t=").ok_or_else(unreadable)?;
    let seconds: u64 = time.parse().map_err(|_| unreadable())?;
    if wall_us() / 1_000_000 > seconds + 300 {
        return Err("the time is past".into());
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).map_err(|error| error.to_string())?;
    mac.update(format!("{time}.{}", request.body).as_bytes());
    let wanted: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    if sum == wanted { Ok(()) } else { Err("the sum is another one".into()) }
}

/// Control tells it.
fn done(seen: &Seen) -> Result<(), String> {
    let tools: Vec<_> =
        seen.of("tool").map(|event| (event.text("name"), event.text("outcome"))).collect();
    if tools.contains(&("find_slot", "done")) { Ok(()) } else { Err(format!("{tools:?}")) }
}

/// The conversation has the output, and the agent's next words hold it.
fn said(seen: &Seen) -> Result<(), String> {
    let items = seen.sessions.iter().flat_map(|session| &session.items);
    let outputs: Vec<_> = items.filter(|item| item.kind == ItemKind::Output).collect();
    if !outputs.iter().any(|item| item.text.contains(SLOT)) {
        return Err(format!("{} outputs, none with the result", outputs.len()));
    }
    let agent = seen.of("turn").filter(|turn| turn.text("role") == "agent");
    let words: Vec<_> = agent.map(|turn| turn.text("text")).collect();
    if words.iter().any(|text| text.contains(SLOT)) { Ok(()) } else { Err(format!("{words:?}")) }
}

/// What the demo's tool server answers.
pub(crate) const SLOT: &str = "half past nine";

/// What the caller asks.
const QUESTION: &str = "Do you have a free slot on Saturday?";

/// The key in the agent's file.
const KEY: &[u8] = b"demo-tool-signing-key";

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(signature: &str) -> Seen {
        let body = r#"{"call":"c_1","tool":"find_slot","arguments":{"day":"Saturday"}}"#;
        let request = ToolRequest {
            method: "POST".into(),
            content_type: "application/json".into(),
            idempotency_key: "c_1.call_9".into(),
            signature: signature.into(),
            body: body.into(),
        };
        let event = crate::demo::events::Event {
            seq: 1,
            kind: "call.started".into(),
            call: Some("c_1".into()),
            data: Value::Null,
        };
        Seen { tool_requests: vec![request], events: vec![event], ..Seen::default() }
    }

    #[test]
    fn a_request_is_checked_against_the_agents_key() {
        let now = wall_us() / 1_000_000;
        let body = seen("").tool_requests[0].body.clone();
        let sum = |time: u64| {
            let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
            mac.update(format!("{time}.{body}").as_bytes());
            let sum = mac.finalize().into_bytes();
            sum.iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        assert_eq!(signed(&seen(&format!("t={now},v1={}", sum(now)))), Ok(()));
        assert_eq!(asked(&seen("")), Ok(()));
        for bad in [
            String::new(),
            format!("t={now},v1={}", sum(now + 1)),
            format!("t={},v1={}", now - 400, sum(now - 400)),
        ] {
            assert!(signed(&seen(&bad)).is_err(), "{bad}");
        }
        let mut twice = seen("");
        twice.tool_requests.push(twice.tool_requests[0].clone());
        assert!(asked(&twice).is_err());
    }
}

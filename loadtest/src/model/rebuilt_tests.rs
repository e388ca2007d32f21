//! Sessions in the middle of a call: partial updates, a past that is told, answers beside it.

use super::tests::Client;
use super::*;
use crate::audio::Speech;
use crate::model::{Answer, ItemKind, Mishap, Script, Stopped, Turn};

fn update(session: Value) -> Value {
    let mut event = json!({"type": "session.update", "session": {"type": "realtime"}});
    let fields = session.as_object().unwrap().clone();
    event["session"].as_object_mut().unwrap().extend(fields);
    event
}

fn message(role: &str, kind: &str, text: &str) -> Value {
    json!({"type": "conversation.item.create", "item": {
        "type": "message", "role": role, "content": [{"type": kind, "text": text}]}})
}

fn told(client: &Client) -> Vec<(ItemKind, String)> {
    let items = |record: &crate::model::SessionRecord| {
        record.told().map(|item| (item.kind, item.text.clone())).collect()
    };
    client.conversation.ledger().read(items)
}

fn script_with(answer: Answer) -> Script {
    let turn = Turn { caller: "When?".into(), answer };
    Script { turns: vec![turn], ..Script::plain() }
}

fn with_trouble(what: Mishap) -> Client {
    let script = script_with(Answer::words("I am looking it up for you.").with_trouble(what));
    let mut client = Client::connect_to(script, Fault::None);
    client.configure(&json!({}));
    client
}

#[test]
fn a_partial_update_keeps_the_rest_and_shows_all_of_it() {
    let mut client = Client::configured();
    let detection = json!({"type": "server_vad", "silence_duration_ms": 700,
        "create_response": false, "interrupt_response": false});
    client.say(&update(json!({"audio": {"input": {"turn_detection": detection}}})));
    client.say(&update(json!({"instructions": "Be brief."})));
    let session = &client.last()["session"];
    let input = &session["audio"]["input"];
    assert_eq!(input["format"], json!({"type": "audio/pcmu"}));
    assert_eq!(input["transcription"]["model"], "gpt-transcribe");
    assert_eq!(input["turn_detection"]["silence_duration_ms"], 700);
    assert_eq!(input["turn_detection"]["create_response"], false);
    assert_eq!(session["instructions"], "Be brief.");
    assert_eq!(session["tools"][0]["name"], "hang_up");
    let record = client.conversation.ledger().read(Clone::clone);
    assert_eq!((record.updates, record.instructions.as_str()), (3, "Be brief."));
}

#[test]
fn a_past_is_told_in_order_and_shown_back() {
    let mut client = Client::configured();
    let call = json!({"type": "function_call", "name": "find_slot", "call_id": "call_1",
                      "arguments": "{\"day\":1}"});
    for event in [
        message("system", "input_text", "Summary."),
        message("user", "input_text", "Hello."),
        message("assistant", "output_text", "Good to hear from you."),
        json!({"type": "conversation.item.create", "item": call}),
        json!({"type": "conversation.item.create", "item":
            {"type": "function_call_output", "call_id": "call_1", "output": "nine"}}),
    ] {
        client.say(&event);
        let shown = &client.last()["item"];
        assert_eq!(client.last()["type"], "conversation.item.done");
        assert_eq!(shown["type"], event["item"]["type"]);
        assert_eq!(shown["status"], "completed");
    }
    let kinds: Vec<_> = told(&client).into_iter().map(|(kind, _)| kind).collect();
    use ItemKind::{Agent, Call, Caller, Output, System};
    assert_eq!(kinds, [System, Caller, Agent, Call, Output]);
    let mut first = message("system", "input_text", "First.");
    first["previous_item_id"] = "root".into();
    client.say(&first);
    assert_eq!(told(&client)[0].1, "First.");
    assert_eq!(client.conversation.take_complaints(), []);
}

#[test]
fn an_item_that_the_service_would_refuse_is_refused() {
    let mut client = Client::configured();
    let item = |item: Value| json!({"type": "conversation.item.create", "item": item});
    for (event, code) in [
        (message("user", "output_text", "x"), "invalid_value"),
        (message("system", "text", "x"), "invalid_value"),
        (message("assistant", "input_text", "x"), "invalid_value"),
        (message("caller", "input_text", "x"), "invalid_value"),
        (item(json!({"type": "function_call", "name": "x"})), "missing_required_parameter"),
        (
            item(json!({"type": "function_call", "name": "x", "call_id": "c", "arguments": {}})),
            "invalid_type",
        ),
        (
            item(json!({"type": "function_call_output", "call_id": "c", "output": "x"})),
            "invalid_value",
        ),
        (item(json!({"type": "message", "role": "user", "content": []})), "invalid_type"),
        (item(json!({"type": "message", "role": "user", "text": "x"})), "unknown_parameter"),
    ] {
        assert_eq!(client.refused(&event), code, "{event}");
    }
    let mut after = message("user", "input_text", "x");
    after["previous_item_id"] = "item_9".into();
    assert_eq!(client.refused(&after), "invalid_value");
}

#[test]
fn a_told_turn_without_an_answer_is_what_a_response_answers() {
    let mut client = Client::configured();
    client.say(&message("user", "input_text", "And?"));
    client.say(&message("system", "input_text", "The call continues."));
    client.say(&json!({"type": "response.create"}));
    client.pass(5_000);
    let words = client.find("response.output_audio_transcript.done");
    assert_eq!(words["transcript"], "That is all.");
    client.say(&message("user", "input_text", "And?"));
    client.speak();
    client.pass(5_000);
    let turns = client.conversation.ledger().read(|record| record.caller_turns());
    assert_eq!(turns, 3);
}

#[test]
fn whoever_was_told_of_a_call_does_not_greet() {
    let mut client = Client::configured();
    client.say(&message("system", "input_text", "The call continues."));
    client.say(&json!({"type": "response.create"}));
    client.pass(5_000);
    let words = client.find("response.output_audio_transcript.done");
    assert_eq!(words["transcript"], "Is there anything else?");
    let greeted = client.conversation.ledger().read(|record| record.responses[0].greeting);
    assert!(!greeted);
}

#[test]
fn words_are_said_that_are_asked_for() {
    let mut client = Client::configured();
    let say = "You answer a phone.\n\nSay exactly: \"One moment, please.\"";
    client.say(&json!({"type": "response.create", "response":
        {"instructions": say, "tool_choice": "none", "metadata": {"kind": "say"}}}));
    client.pass(5_000);
    let done = &client.last()["response"];
    assert_eq!(done["output"][0]["content"][0]["transcript"], "One moment, please.");
    assert_eq!(done["metadata"]["kind"], "say");
    let record = client.conversation.ledger().read(|record| record.responses[0].clone());
    assert_eq!((record.asked, record.greeting), (true, false));
    assert_eq!(record.instructions.as_deref(), Some(say));
    assert_eq!(record.status.as_deref(), Some("completed"));
}

#[test]
fn a_text_is_written_beside_what_is_spoken() {
    let mut client = Client::configured();
    client.speak();
    client.pass(100);
    client.say(&json!({"type": "response.create", "response": {
        "conversation": "none", "output_modalities": ["text"], "instructions": "Sum up.",
        "metadata": {"kind": "summary"}, "tools": []}}));
    assert_eq!(client.last()["response"]["conversation_id"], Value::Null);
    client.pass(5_000);
    let done: Vec<_> = client.heard.iter().filter(|e| e["type"] == "response.done").collect();
    assert_eq!(done.len(), 2);
    let text = client.find("response.output_text.done")["text"].as_str().unwrap();
    assert!(text.contains("The caller said: Hello."), "{text}");
    assert_eq!(client.conversation.take_complaints(), []);
    let audio_beside = json!({"type": "response.create", "response": {"conversation": "none"}});
    assert_eq!(client.refused(&audio_beside), "invalid_value");
}

#[test]
fn a_cancel_must_name_its_answer_when_there_are_several() {
    let mut client = Client::configured();
    client.say(&json!({"type": "response.create"}));
    client.say(&json!({"type": "response.create", "response":
        {"conversation": "none", "output_modalities": ["text"]}}));
    let beside = client.last()["response"]["id"].clone();
    let before = client.heard.len();
    client.say(&json!({"type": "response.cancel"}));
    assert_eq!(client.heard.len(), before);
    client.say(&json!({"type": "response.cancel", "response_id": beside}));
    assert_eq!(client.last()["response"]["status"], "cancelled");
}

#[test]
fn the_sound_says_what_the_caller_said() {
    let script = Script { more: Answer::words("You said {caller}"), ..Script::plain() };
    let mut client = Client::connect_to(script, Fault::None);
    client.configure(&json!({}));
    client.append(&Speech::saying("Caller 7, turn 3.").ulaw()[333..]);
    client.append(&[0xFF; 8 * 600]);
    client.pass(9_000);
    let written = client.find("conversation.item.input_audio_transcription.completed");
    assert_eq!(written["transcript"], "Caller 7, turn 3.");
    let said = client.find("response.output_audio_transcript.done");
    assert_eq!(said["transcript"], "You said Caller 7, turn 3.");
    let item = client.conversation.ledger().read(|record| record.items[0].clone());
    assert!(item.written_at_us.is_some() && item.text == "Caller 7, turn 3.");
}

#[test]
fn an_output_is_spoken_of_once_it_is_asked_for() {
    let mut answer = Answer::words("I look.").then_calls("hang_up");
    if let Some(tool) = &mut answer.tool {
        tool.then = Some("It is {output}.".into());
    }
    let mut client = Client::connect_to(script_with(answer), Fault::None);
    client.configure(&json!({}));
    client.speak();
    client.pass(5_000);
    let call = client.find("response.function_call_arguments.done")["call_id"].clone();
    client.say(&json!({"type": "conversation.item.create", "item":
        {"type": "function_call_output", "call_id": call, "output": "nine"}}));
    client.say(&json!({"type": "response.create"}));
    client.pass(5_000);
    let said = client.find("response.output_audio_transcript.done");
    assert_eq!(said["transcript"], "It is nine.");
}

#[test]
fn an_answer_fails_once_and_succeeds_when_it_is_asked_again() {
    let mut client = with_trouble(Mishap::Failed { code: "server_error".into() });
    client.speak();
    let failed = client.find("response.done")["response"].clone();
    assert_eq!(failed["status_details"]["error"]["code"], "server_error");
    client.say(&json!({"type": "response.create"}));
    client.pass(5_000);
    assert_eq!(client.last()["response"]["status"], "completed");
}

#[test]
fn an_answer_stops_by_itself() {
    let reason = Stopped::MaxOutputTokens;
    let mut client = with_trouble(Mishap::Incomplete { reason, after_ms: 800 });
    client.speak();
    client.pass(5_000);
    let done = &client.last()["response"];
    assert_eq!(done["status"], "incomplete");
    assert_eq!(done["status_details"]["reason"], "max_output_tokens");
    assert_eq!(done["output"][0]["status"], "incomplete");
    let made = client.conversation.ledger().read(|record| record.items.last().unwrap().made_ms);
    assert!(made.is_some_and(|ms| ms > 0 && ms <= 800), "{made:?}");
}

#[test]
fn a_silent_answer_is_begun_and_can_be_cancelled() {
    let mut client = with_trouble(Mishap::Silence);
    client.speak();
    client.pass(60_000);
    let created = client.kinds().iter().filter(|kind| **kind == "response.created").count();
    assert_eq!((created, client.find("response.done")), (1, &Value::Null));
    client.say(&json!({"type": "response.cancel"}));
    client.pass(100);
    assert_eq!(client.last()["response"]["status"], "cancelled");
}

#[test]
fn an_error_comes_in_the_place_of_an_answer() {
    let mut client = with_trouble(Mishap::Error { code: "server_error".into() });
    client.speak();
    assert_eq!(client.find("error")["error"]["type"], "server_error");
    assert!(!client.kinds().contains(&"response.created"));
}

#[test]
fn the_service_leaves_in_the_middle_of_an_answer() {
    let how = Leave::Close(1011);
    let mut client = with_trouble(Mishap::Leave { how, after_ms: 300, away_ms: 700 });
    client.speak();
    assert_eq!(client.conversation.take_leave(), None);
    client.pass(1_000);
    assert_eq!(client.conversation.take_leave(), Some((how, Duration::from_millis(700))));
}

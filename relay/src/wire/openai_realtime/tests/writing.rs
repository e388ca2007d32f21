use std::sync::Arc;

use link::agent::AgentSpec;
use serde_json::{Value, json};

use super::{agent, fixture, shape, written};
use crate::call::input::{Answering, Audio, AudioFormat};
use crate::call::output::{AgentMessage, Cue, Recalled};
use crate::wire::openai_realtime::{OpenaiRealtime, url};

#[test]
fn a_session_is_stated_with_what_the_service_knows() {
    let written = configured(agent(json!({})), Answering::ByService);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    shape(&written, "", &mut ours);
    let sample: Value = serde_json::from_str(&fixture("client", "session.update")).unwrap();
    shape(&sample, "", &mut theirs);
    for path in &ours {
        assert!(theirs.contains(path), "{path} is not in the sample");
    }
    let session = &written["session"];
    assert_eq!(written["event_id"], "relay_1");
    assert_eq!(session["type"], "realtime");
    assert_eq!(session["output_modalities"], json!(["audio"]));
    assert_eq!(session["audio"]["input"]["format"], json!({"type": "audio/pcmu"}));
    assert_eq!(
        session["audio"]["output"],
        json!({"format": {"type": "audio/pcmu"}, "voice": "marin"})
    );
    assert_eq!(
        session["audio"]["input"]["turn_detection"],
        json!({
            "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300,
            "silence_duration_ms": 500, "create_response": true, "interrupt_response": true,
        })
    );
    assert_eq!(session["tools"][0]["name"], "hang_up");
    assert_eq!(session["max_output_tokens"], 1_024);
}

#[test]
fn a_pcm_session_states_its_rate_and_a_missing_voice_is_left_out() {
    // What the agent speaks on the phone is the call's business.
    let spec = agent(json!({"voice": null, "turn_detection": {"threshold": 0.6}}));
    let format = AudioFormat::Pcm24k;
    let answering = Answering::ByService;
    let session = written(
        &mut OpenaiRealtime::new(spec),
        &AgentMessage::Configure { format, instructions: None, answering },
    );
    let audio = &session["session"]["audio"];
    let format = json!({"type": "audio/pcm", "rate": 24_000});
    assert_eq!(
        (&audio["input"]["format"], &audio["output"]),
        (&format, &json!({"format": format}))
    );
    assert_eq!(audio["input"]["turn_detection"]["threshold"], json!(0.6));
}

#[test]
fn small_messages_have_the_fields_of_the_samples() {
    let wire = &mut OpenaiRealtime::new(agent(json!({})));
    let truncate =
        AgentMessage::Truncate { item: "item_FxA00000000000000001", part: 0, heard_ms: 1_180 };
    let cancel = AgentMessage::Cancel { response: "resp_Fx0000000000000000001" };
    let result = AgentMessage::Recall(Recalled::Result {
        call: "call_Fx01",
        output: r#"{"state":"ready"}"#,
    });
    for (message, name) in [
        (truncate, "conversation.item.truncate"),
        (cancel, "response.cancel.by_id"),
        (result, "conversation.item.create.function_call_output"),
        (AgentMessage::Respond, "response.create"),
    ] {
        let mut ours = written(wire, &message);
        let event_id = ours.as_object_mut().unwrap().remove("event_id");
        assert!(event_id.is_some_and(|id| id.as_str().unwrap().starts_with("relay_")), "{name}");
        let text = fixture("client", name);
        let mut sample: Value = serde_json::from_str(&text).unwrap();
        sample.as_object_mut().unwrap().remove("event_id");
        assert_eq!(ours, sample, "{name}");
    }
}

#[test]
fn a_greeting_repeats_the_persona_and_calls_no_tool() {
    let written =
        written(&mut OpenaiRealtime::new(agent(json!({}))), &AgentMessage::Speak(Cue::Greeting));
    let response = &written["response"];
    let instructions = response["instructions"].as_str().unwrap();
    assert!(instructions.starts_with("You answer the phone"), "{instructions}");
    assert!(instructions.ends_with("how can I help?"), "{instructions}");
    assert_eq!(response["tool_choice"], "none");
    assert_eq!(response["metadata"], json!({"kind": "greeting"}));
}

#[test]
fn audio_is_appended_without_a_number() {
    let wire = &mut OpenaiRealtime::new(agent(json!({})));
    let append = |audio| json!({"type": "input_audio_buffer.append", "audio": audio});
    let mut say = |audio| written(wire, &AgentMessage::Audio(audio));
    assert_eq!(say(Audio::Base64("//8=")), append("//8="));
    assert_eq!(say(Audio::Ulaw(&[0xFF, 0xFF])), append("//8="));
    assert_eq!(say(Audio::PcmBytes(&[0xFF, 0xFF])), append("//8="));
    assert_eq!(say(Audio::Pcm(&[-1])), append("//8="));
    assert_eq!(say(Audio::Pcm(&[1, 2])), append("AQACAA=="));
}

#[test]
fn a_model_is_encoded_into_the_url() {
    let base = "wss://api.openai.com/v1/realtime";
    assert_eq!(url(base, "gpt-realtime-2.1"), format!("{base}?model=gpt-realtime-2.1"));
    assert_eq!(url(base, "a&b=c/d"), format!("{base}?model=a%26b%3Dc%2Fd"));
    assert_eq!(url("ws://[::1]:9/v1?x=1", "m"), "ws://[::1]:9/v1?x=1&model=m");
}

fn configured(spec: Arc<AgentSpec>, answering: Answering) -> Value {
    written(&mut OpenaiRealtime::new(spec), &configure(None, answering))
}

fn configure(instructions: Option<&str>, answering: Answering) -> AgentMessage<'_> {
    AgentMessage::Configure { format: AudioFormat::Ulaw, instructions, answering }
}

/// The text of a message, exactly.
fn text(wire: &mut OpenaiRealtime, message: &AgentMessage<'_>) -> String {
    let mut text = Vec::new();
    wire.write(message, &mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_relay_answers_until_the_service_is_told_to() {
    let spec = agent(json!({"turn_detection": {"silence_duration_ms": 700}}));
    let detection = |by_service: bool| {
        json!({
            "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300,
            "silence_duration_ms": 700, "create_response": by_service,
            "interrupt_response": by_service,
        })
    };
    let stated = configured(Arc::clone(&spec), Answering::ByRelay);
    assert_eq!(stated["session"]["audio"]["input"]["turn_detection"], detection(false));
    let by_itself = written(&mut OpenaiRealtime::new(spec), &AgentMessage::AnswerByYourself);
    let session =
        json!({"type": "realtime", "audio": {"input": {"turn_detection": detection(true)}}});
    assert_eq!(
        by_itself,
        json!({"type": "session.update", "event_id": "relay_1", "session": session})
    );
}

#[test]
fn new_instructions_are_all_that_changes_and_stay_for_later_answers() {
    let wire = &mut OpenaiRealtime::new(agent(json!({})));
    assert_eq!(
        text(wire, &AgentMessage::Instruct { instructions: "Speak \"slowly\"." }),
        r#"{"type":"session.update","event_id":"relay_1","session":{"instructions":"Speak \"slowly\".","type":"realtime"}}"#
    );
    let farewell = written(wire, &AgentMessage::Speak(Cue::Farewell));
    let instructions = farewell["response"]["instructions"].as_str().unwrap();
    assert!(instructions.starts_with("Speak \"slowly\".\n\nThe call must end"), "{instructions}");
    // A session that is opened again is told what it needs to know.
    let again = configure(Some("Speak fast."), Answering::ByService);
    assert_eq!(written(wire, &again)["session"]["instructions"], "Speak fast.");
    let own = written(wire, &configure(None, Answering::ByService));
    assert_eq!(own["session"]["instructions"], "You answer the phone for Harbor Bikes.");
}

#[test]
fn a_cue_is_an_answer_without_tools() {
    for (cue, kind, ends) in [
        (Cue::Words("One \"moment\", please."), "say", "nothing else: \"One \"moment\", please.\""),
        (Cue::StillThere, "still_there", "whether somebody is still there."),
        (Cue::Farewell, "farewell", "begin nothing new."),
    ] {
        let written =
            written(&mut OpenaiRealtime::new(agent(json!({}))), &AgentMessage::Speak(cue));
        let response = &written["response"];
        let instructions = response["instructions"].as_str().unwrap();
        assert!(instructions.starts_with("You answer the phone for Harbor Bikes.\n\n"), "{kind}");
        assert!(instructions.ends_with(ends), "{instructions}");
        assert_eq!(response["tool_choice"], "none");
        assert_eq!(response["metadata"], json!({"kind": kind}));
        assert_eq!(response.as_object().unwrap().len(), 3);
    }
}

#[test]
fn a_summary_is_written_beside_the_conversation() {
    let written = written(&mut OpenaiRealtime::new(agent(json!({}))), &AgentMessage::Summarise);
    let (mut ours, mut theirs) = (Vec::new(), vec![".response.tool_choice".to_owned()]);
    shape(&written, "", &mut ours);
    let sample: Value =
        serde_json::from_str(&fixture("client", "response.create.out_of_band")).unwrap();
    shape(&sample, "", &mut theirs);
    theirs.push(".response.max_output_tokens".to_owned());
    for path in &ours {
        assert!(theirs.contains(path), "{path} is not in the sample");
    }
    let response = &written["response"];
    assert_eq!(response["conversation"], "none");
    assert_eq!(response["output_modalities"], json!(["text"]));
    assert_eq!(response["metadata"], json!({"kind": "summary"}));
    assert_eq!((&response["tools"], &response["max_output_tokens"]), (&json!([]), &json!(600)));
}

#[test]
fn what_is_recalled_is_an_item_of_its_kind() {
    let item = |recalled| {
        let wire = &mut OpenaiRealtime::new(agent(json!({})));
        let written = written(wire, &AgentMessage::Recall(recalled));
        assert_eq!(written["type"], "conversation.item.create");
        written["item"].clone()
    };
    let message = |role: &str, kind: &str, words: &str| json!({"type": "message", "role": role, "content": [{"type": kind, "text": words}]});
    assert_eq!(item(Recalled::Caller("Hi.")), message("user", "input_text", "Hi."));
    assert_eq!(item(Recalled::Agent("Hello.")), message("assistant", "output_text", "Hello."));
    assert_eq!(item(Recalled::System("Be brief.")), message("system", "input_text", "Be brief."));
    assert_eq!(
        item(Recalled::Call { call: "call_1", name: "find", arguments: r#"{"n":1}"# }),
        json!({"type": "function_call", "call_id": "call_1", "name": "find",
            "arguments": "{\"n\":1}"})
    );
    assert_eq!(
        item(Recalled::Result { call: "call_1", output: "ok" }),
        json!({"type": "function_call_output", "call_id": "call_1", "output": "ok"})
    );
    let words = |item: Value| item["content"][0]["text"].as_str().unwrap().to_owned();
    let unheard = item(Recalled::Caller(""));
    assert_eq!(unheard["role"], "user");
    assert!(words(unheard).contains("not understood"));
    let summary = item(Recalled::Summary("They want a bike."));
    assert_eq!(summary["role"], "system");
    assert!(words(summary).ends_with(":\nThey want a bike."));
    let continues = item(Recalled::CallContinues);
    assert_eq!(continues["role"], "system");
    assert!(words(continues).contains("Do not greet again"));
}

#[test]
fn an_item_is_written_to_the_letter() {
    let wire = &mut OpenaiRealtime::new(agent(json!({})));
    assert_eq!(
        text(wire, &AgentMessage::Recall(Recalled::Agent("Ja, \u{fc}ber \"Bord\"."))),
        "{\"type\":\"conversation.item.create\",\"event_id\":\"relay_1\",\"item\":{\"content\":[\
         {\"text\":\"Ja, \u{fc}ber \\\"Bord\\\".\",\"type\":\"output_text\"}],\
         \"role\":\"assistant\",\"type\":\"message\"}}"
    );
    assert_eq!(
        text(wire, &AgentMessage::Respond),
        r#"{"type":"response.create","event_id":"relay_2"}"#
    );
}

#[test]
fn tools_are_declared_with_names_and_never_with_addresses() {
    let spec = agent(json!({"tools": [
        {"kind": "hang_up"},
        {"kind": "transfer", "destinations": [
            {"name": "desk", "description": "Sales.", "to": "+4930123456"},
            {"name": "bot", "to": "sip:bot@example.com"},
        ]},
        {"kind": "send_dtmf"},
        {"kind": "http", "name": "find_slot", "description": "Finds a slot.",
            "url": "https://tools.example.com/x", "signing_key": "whsec",
            "parameters": {"type": "object", "properties": {"day": {"type": "string"}}}},
    ]}));
    let stated = configured(spec, Answering::ByService);
    let tools = stated["session"]["tools"].as_array().unwrap().clone();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hang_up", "transfer", "send_dtmf", "find_slot"]);
    for tool in &tools {
        let fields: Vec<_> = tool.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["description", "name", "parameters", "type"]);
        assert_eq!(
            (&tool["type"], &tool["parameters"]["type"]),
            (&json!("function"), &json!("object"))
        );
    }
    let destination = &tools[1]["parameters"]["properties"]["destination"];
    assert_eq!(destination["enum"], json!(["desk", "bot"]));
    assert_eq!(destination["description"], "desk: Sales.\nbot");
    assert_eq!(tools[2]["parameters"]["required"], json!(["digits"]));
    assert_eq!(tools[3]["parameters"]["properties"]["day"]["type"], "string");
    let all = stated.to_string();
    for hidden in ["+4930123456", "sip:", "tools.example.com", "whsec"] {
        assert!(!all.contains(hidden), "{hidden}");
    }
}

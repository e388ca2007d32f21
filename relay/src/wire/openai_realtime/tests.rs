use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::call::input::{AgentEvent, Answering, Audio};
use crate::call::output::Cue;

fn fixtures(side: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/openai").join(side)
}

fn fixture(side: &str, name: &str) -> String {
    std::fs::read_to_string(fixtures(side).join(format!("{name}.json"))).unwrap()
}

fn meaning(text: &str) -> String {
    let mut meaning = None;
    read(text, |event| meaning = Some(format!("{event:?}")));
    meaning.unwrap()
}

fn agent(extra: Value) -> Arc<AgentSpec> {
    let mut spec = json!({
        "name": "front-desk",
        "instructions": "You answer the phone for Harbor Bikes.",
        "greeting": "Say: Harbor Bikes, how can I help?",
        "voice": "marin",
        "provider": {"kind": "openai_realtime"},
        "tools": [{"kind": "hang_up"}],
        "limits": {"call_seconds_max": 600, "output_tokens_max": 1024},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    Arc::new(serde_json::from_value(spec).unwrap())
}

fn written(wire: &mut OpenaiRealtime, message: &AgentMessage<'_>) -> Value {
    let mut text = Vec::new();
    wire.write(message, &mut text);
    serde_json::from_slice(&text).unwrap()
}

/// Every path to a value that is not an object, lists and all: the shape of a message.
fn shape(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(value, &format!("{path}.{name}"), out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            out.push(path.to_owned());
        }
    }
}

#[test]
fn no_documented_event_is_malformed() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures("server")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // As a file, and as it travels.
        let compact = serde_json::from_str::<Value>(&text).unwrap().to_string();
        assert_eq!(meaning(&text), meaning(&compact), "{path:?}");
        assert_ne!(meaning(&text), "Malformed", "{path:?}");
        seen += 1;
    }
    assert!(seen >= 46, "{seen} events, and there are 46 kinds");
}

#[test]
fn events_that_matter_mean_what_they_should() {
    let response = "resp_Fx0000000000000000001";
    let (item, caller) = ("item_FxA00000000000000001", "item_FxU00000000000000001");
    for (name, expected) in [
        ("session.created", "Opened".into()),
        ("session.updated", "Configured { uplink: Some(Ulaw), playout: Some(Ulaw) }".into()),
        ("input_audio_buffer.speech_started", "SpeechStarted".into()),
        ("input_audio_buffer.speech_stopped", "SpeechStopped".into()),
        ("input_audio_buffer.committed", format!("CallerTurn {{ item: {caller:?} }}")),
        (
            "conversation.item.input_audio_transcription.completed",
            format!("CallerSaid {{ item: {caller:?}, text: \"Hi, is my bike ready?\" }}"),
        ),
        (
            "conversation.item.input_audio_transcription.failed",
            format!("CallerSaid {{ item: {caller:?}, text: \"\" }}"),
        ),
        ("response.created", format!("ResponseStarted {{ response: {response:?} }}")),
        (
            "response.output_audio.done",
            format!("AudioEnded {{ response: {response:?}, item: {item:?} }}"),
        ),
        (
            "response.output_audio_transcript.delta",
            format!("Saying {{ response: {response:?}, item: {item:?}, text: \"Harbor Bikes,\" }}"),
        ),
        (
            "response.output_item.done.function_call",
            format!(
                "ToolCalled {{ response: {response:?}, call: \"call_Fx01\", name: \"lookup_order\", \
                 arguments: \"{{\\\"order_no\\\":\\\"A-1042\\\"}}\" }}"
            ),
        ),
        ("response.output_item.done", "Ignored".into()),
        ("rate_limits.updated", "Ignored".into()),
    ] {
        assert_eq!(meaning(&fixture("server", name)), expected, "{name}");
    }
    let text = fixture("server", "response.output_audio.delta");
    let audio = serde_json::from_str::<Value>(&text).unwrap()["delta"].to_string();
    let fields = format!("response: {response:?}, item: {item:?}, part: 0");
    assert_eq!(meaning(&text), format!("Audio {{ {fields}, audio: Base64({audio}) }}"));
}

#[test]
fn answers_end_in_four_ways() {
    for (name, outcome) in [
        ("completed", "Completed"),
        ("cancelled_turn_detected", "Cancelled"),
        ("cancelled_client", "Cancelled"),
        ("incomplete", "Incomplete"),
        ("failed", "Failed { code: \"rate_limit_exceeded\" }"),
    ] {
        let meaning = meaning(&fixture("server", &format!("response.done.{name}")));
        assert!(meaning.ends_with(&format!("outcome: {outcome} }}")), "{name}: {meaning}");
    }
    let unknown = r#"{"type":"response.done","response":{"id":"r","status":"evaporated"}}"#;
    assert!(meaning(unknown).contains("Failed { code: \"failed\" }"));
}

#[test]
fn errors_are_as_bad_as_they_are() {
    for (name, severity, code) in [
        ("response_cancel_not_active", "Benign", "response_cancel_not_active"),
        (
            "conversation_already_has_active_response",
            "Benign",
            "conversation_already_has_active_response",
        ),
        ("input_audio_buffer_commit_empty", "Benign", "input_audio_buffer_commit_empty"),
        ("truncate_too_long", "Benign", "invalid_request_error"),
        ("cannot_update_voice", "Refused", "cannot_update_voice"),
        ("invalid_event", "Refused", "invalid_event"),
        ("missing_required_parameter", "Refused", "missing_required_parameter"),
        ("session_expired", "Fatal", "session_expired"),
    ] {
        let meaning = meaning(&fixture("server", &format!("error.{name}")));
        let expected = format!("Complained {{ severity: {severity}, code: {code:?} }}");
        assert_eq!(meaning, expected, "{name}");
    }
    let error =
        |code: &str| format!(r#"{{"type":"error","error":{{"type":"x","code":"{code}"}}}}"#);
    for fatal in ["insufficient_quota", "invalid_api_key", "beta_api_shape_disabled"] {
        assert!(meaning(&error(fatal)).contains("Fatal"), "{fatal}");
    }
}

#[test]
fn a_session_in_another_format_is_seen() {
    let stated = |input: Value, output: Value| {
        let audio = json!({"input": {"format": input}, "output": {"format": output}});
        meaning(&json!({"type": "session.updated", "session": {"audio": audio}}).to_string())
    };
    let (pcm, alaw) = (json!({"type": "audio/pcm", "rate": 24_000}), json!({"type": "audio/pcma"}));
    assert_eq!(
        stated(pcm.clone(), pcm),
        "Configured { uplink: Some(Pcm24k), playout: Some(Pcm24k) }"
    );
    let slow = json!({"type": "audio/pcm", "rate": 16_000});
    assert_eq!(stated(slow, alaw), "Configured { uplink: None, playout: None }");
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_broken_is_malformed() {
    assert_eq!(meaning(r#"{"type":"response.sang","song":[]}"#), "Ignored");
    for text in ["", "[]", "{}", r#"{"type":5}"#, r#"{"type":"response.created"}"#, "{\"type\":"] {
        assert_eq!(meaning(text), "Malformed", "{text}");
    }
    let broken = r#"{"type":"response.output_audio.delta","response_id":"r","item_id":"i"}"#;
    assert_eq!(meaning(broken), "Malformed");
}

#[test]
fn an_escaped_delta_is_read_like_any_other() {
    let text = r#"{"type":"response.output_audio.delta","response_id":"r\u0031","item_id":"i","content_index":2,"delta":"\/\/8="}"#;
    let expected = r#"Audio { response: "r1", item: "i", part: 2, audio: Base64("//8=") }"#;
    assert_eq!(meaning(text), expected);
}

#[test]
fn a_session_is_stated_with_what_the_service_knows() {
    let mut wire = OpenaiRealtime::new(agent(json!({})));
    let written = written(
        &mut wire,
        &AgentMessage::Configure { instructions: None, answering: Answering::ByService },
    );
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
    let spec =
        agent(json!({"audio": "pcm24k", "voice": null, "turn_detection": {"threshold": 0.6}}));
    let session = written(
        &mut OpenaiRealtime::new(spec),
        &AgentMessage::Configure { instructions: None, answering: Answering::ByService },
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

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", keep in 0_usize..60) {
        let _ = meaning(&text);
        let start = r#"{"type":"response.output_audio.delta","response_id":"r","item_id""#;
        let _ = meaning(&format!("{}{text}", &start[..keep]));
    }
}

#[test]
fn events_are_named_alike_in_place_and_by_serde() {
    let text = fixture("server", "response.output_audio.delta");
    let compact = serde_json::from_str::<Value>(&text).unwrap().to_string();
    let mut in_place = false;
    read(&compact, |event| in_place = matches!(event, AgentEvent::Audio { .. }));
    assert!(in_place);
}

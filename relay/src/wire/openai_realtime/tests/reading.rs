use proptest::prelude::*;
use serde_json::{Value, json};

use super::{fixture, fixtures, meaning, read};
use crate::call::input::AgentEvent;

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
        (
            "session.updated",
            "Configured { uplink: Some(Ulaw), playout: Some(Ulaw), answering: ByService }".into(),
        ),
        ("input_audio_buffer.speech_started", "SpeechStarted".into()),
        ("input_audio_buffer.speech_stopped", "SpeechStopped".into()),
        ("input_audio_buffer.committed", format!("CallerTurn {{ item: {caller:?} }}")),
        (
            "conversation.item.input_audio_transcription.delta",
            format!("CallerSaying {{ item: {caller:?}, text: \"Hi, is\" }}"),
        ),
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
        ("failed", "Failed { code: \"rate_limit_exceeded\", retry: MayHelp }"),
    ] {
        let meaning = meaning(&fixture("server", &format!("response.done.{name}")));
        assert!(meaning.contains(&format!(", outcome: {outcome}, tokens: ")), "{name}: {meaning}");
    }
    let unknown = r#"{"type":"response.done","response":{"id":"r","status":"evaporated"}}"#;
    assert!(meaning(unknown).contains("Failed { code: \"failed\", retry: MayHelp }"));
    let failed = |code: &str| {
        let details = json!({"type": "failed", "error": {"type": "x", "code": code}});
        let response = json!({"id": "r", "status": "failed", "status_details": details});
        meaning(&json!({"type": "response.done", "response": response}).to_string())
    };
    assert!(failed("insufficient_quota").contains("retry: IsUseless"));
    assert!(failed("server_error").contains("retry: MayHelp"));
}

#[test]
fn what_an_answer_used_is_told() {
    assert!(meaning(&fixture("server", "response.done.completed")).ends_with("tokens: 412 }"));
    // Whatever stands there, the answer is over.
    for usage in [json!(null), json!({}), json!({"total_tokens": "many"}), json!(7)] {
        let response = json!({"id": "r", "status": "completed", "usage": usage});
        let told = meaning(&json!({"type": "response.done", "response": response}).to_string());
        assert_eq!(told, "ResponseEnded { response: \"r\", outcome: Completed, tokens: 0 }");
    }
}

#[test]
fn an_answer_beside_the_conversation_is_a_summary_or_nothing() {
    let event = |kind: &str, response: Value| {
        meaning(&json!({"type": kind, "response": response}).to_string())
    };
    let metadata = json!({"kind": "summary"});
    for beside in [
        json!({"id": "r", "conversation_id": null}),
        json!({"id": "r", "conversation_id": "conv", "metadata": metadata}),
        json!({"id": "r", "metadata": metadata}),
    ] {
        assert_eq!(event("response.created", beside), "Ignored");
    }
    let part = |text: &str| json!({"type": "output_text", "text": text});
    let done = |status: &str, content: Value, metadata: &Value| {
        let output = json!([{"type": "message", "role": "assistant", "content": content}]);
        event(
            "response.done",
            json!({"id": "r", "conversation_id": null, "status": status, "metadata": metadata,
                "output": output, "usage": {"total_tokens": 41}}),
        )
    };
    let said = json!([part("They want a bike. "), part("It is ready.")]);
    let told = "Summarised { summary: Some(\"They want a bike. \\nIt is ready.\"), tokens: 41 }";
    assert_eq!(done("completed", said.clone(), &metadata), told);
    assert_eq!(done("incomplete", said.clone(), &metadata), told);
    assert_eq!(done("failed", json!([]), &metadata), "Summarised { summary: None, tokens: 41 }");
    assert_eq!(
        done("completed", json!([part("  ")]), &metadata),
        "Summarised { summary: None, tokens: 41 }"
    );
    assert_eq!(
        done("completed", json!("x"), &metadata),
        "Summarised { summary: None, tokens: 41 }"
    );
    assert_eq!(done("completed", said, &Value::Null), "Ignored");
    for name in ["response.output_text.delta", "response.output_text.done"] {
        assert_eq!(meaning(&fixture("server", name)), "Ignored", "{name}");
    }
    // Who does not say where an answer is written has one place for it.
    let plain = event("response.created", json!({"id": "r"}));
    assert_eq!(plain, "ResponseStarted { response: \"r\" }");
}

#[test]
fn who_answers_is_read_from_the_detection_of_turns() {
    let answering = |detection: Value| {
        let input = json!({"format": {"type": "audio/pcmu"}, "turn_detection": detection});
        let audio = json!({"input": input, "output": {"format": {"type": "audio/pcmu"}}});
        meaning(&json!({"type": "session.updated", "session": {"audio": audio}}).to_string())
    };
    let both = json!({"type": "server_vad", "create_response": true, "interrupt_response": true});
    let none = json!({"type": "server_vad", "create_response": false, "interrupt_response": false});
    let half = json!({"type": "server_vad", "create_response": true, "interrupt_response": false});
    for (detection, who) in [
        (both, "ByService"),
        (json!({"type": "server_vad"}), "ByService"),
        (none, "ByRelay"),
        (half, "ByRelay"),
        (Value::Null, "ByRelay"),
    ] {
        let told = answering(detection.clone());
        assert!(told.ends_with(&format!("answering: {who} }}")), "{detection}: {told}");
    }
}

#[test]
fn errors_are_as_bad_as_they_are() {
    for (name, severity, code) in [
        ("response_cancel_not_active", "Benign", "response_cancel_not_active"),
        (
            "conversation_already_has_active_response",
            "TooEarly",
            "conversation_already_has_active_response",
        ),
        ("input_audio_buffer_commit_empty", "Benign", "input_audio_buffer_commit_empty"),
        ("truncate_too_long", "Benign", "invalid_request_error"),
        ("cannot_update_voice", "Refused", "cannot_update_voice"),
        ("invalid_event", "Refused", "invalid_event"),
        ("missing_required_parameter", "Refused", "missing_required_parameter"),
        ("session_expired", "Over", "session_expired"),
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
        "Configured { uplink: Some(Pcm24k), playout: Some(Pcm24k), answering: ByRelay }"
    );
    let slow = json!({"type": "audio/pcm", "rate": 16_000});
    assert_eq!(
        stated(slow, alaw),
        "Configured { uplink: None, playout: None, answering: ByRelay }"
    );
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

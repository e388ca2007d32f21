//! The service's words.

use serde_json::json;

use super::plan::Kind;

/// The session is introduced.
pub(super) fn introduced() -> String {
    r#"{"type":"session.created","event_id":"event_1","session":{"type":"realtime","id":"sess_1","model":"m"}}"#.into()
}

/// The session is stated.
pub(super) fn stated(format: &str, create: bool, interrupt: bool) -> String {
    let format = match format {
        "audio/pcm" => json!({"type": "audio/pcm", "rate": 24_000}),
        other => json!({"type": other}),
    };
    json!({
        "type": "session.updated", "event_id": "event_2",
        "session": {"type": "realtime", "audio": {
            "input": {"format": format, "turn_detection": {
                "type": "server_vad", "create_response": create, "interrupt_response": interrupt,
            }},
            "output": {"format": format, "voice": "marin"},
        }},
    })
    .to_string()
}

/// An error.
pub(super) fn error(kind: &str, code: &str) -> String {
    let code = if code.is_empty() { json!(null) } else { json!(code) };
    json!({"type": "error", "event_id": "event_3", "error": {
        "type": kind, "code": code, "message": "Something is not as it should be.", "param": null,
    }})
    .to_string()
}

/// Something that names an item, and nothing else that matters.
pub(super) fn of_item(kind: &str, item: &str) -> String {
    format!(r#"{{"type":"{kind}","event_id":"event_4","item_id":"{item}","audio_start_ms":1}}"#)
}

/// The caller's words.
pub(super) fn transcribed(item: &str, words: Option<&str>) -> String {
    match words {
        Some(words) => format!(
            r#"{{"type":"conversation.item.input_audio_transcription.completed","event_id":"event_5","item_id":"{item}","content_index":0,"transcript":"{words}"}}"#
        ),
        None => format!(
            r#"{{"type":"conversation.item.input_audio_transcription.failed","event_id":"event_5","item_id":"{item}","content_index":0,"error":{{"type":"x"}}}}"#
        ),
    }
}

/// An answer begins.
pub(super) fn created(response: &str) -> String {
    format!(
        r#"{{"type":"response.created","event_id":"event_6","response":{{"id":"{response}","object":"realtime.response","status":"in_progress","status_details":null,"output":[],"conversation_id":"conv_1","usage":null,"metadata":null}}}}"#
    )
}

/// Words of an answer.
pub(super) fn words(response: &str, item: &str, words: &str) -> String {
    format!(
        r#"{{"type":"response.output_audio_transcript.delta","event_id":"event_7","response_id":"{response}","item_id":"{item}","output_index":0,"content_index":0,"delta":"{words}"}}"#
    )
}

/// Audio of an answer.
pub(super) fn audio(response: &str, item: &str, bytes: &[u8]) -> String {
    let mut text = format!(
        r#"{{"type":"response.output_audio.delta","event_id":"event_8","response_id":"{response}","item_id":"{item}","output_index":0,"content_index":0,"delta":""#
    )
    .into_bytes();
    codec::base64::encode(bytes, &mut text);
    text.extend_from_slice(br#""}"#);
    String::from_utf8(text).expect("base64 is text")
}

/// All audio of an item is given.
pub(super) fn audio_done(response: &str, item: &str) -> String {
    format!(
        r#"{{"type":"response.output_audio.done","event_id":"event_9","response_id":"{response}","item_id":"{item}","output_index":0,"content_index":0}}"#
    )
}

/// A tool is called.
pub(super) fn tool(response: &str, call: &str, name: &str, arguments: &str) -> String {
    json!({
        "type": "response.output_item.done", "event_id": "event_10", "response_id": response,
        "output_index": 1,
        "item": {"id": format!("item_{call}"), "type": "function_call", "status": "completed",
                 "call_id": call, "name": name, "arguments": arguments},
    })
    .to_string()
}

/// An answer is over.
pub(super) fn done(response: &str, status: &str, code: &str, tokens: u64) -> String {
    let details = match (status, code) {
        ("failed", "") => json!({"type": "failed", "error": {"type": "server_error"}}),
        ("failed", code) => json!({"type": "failed", "error": {"type": "x", "code": code}}),
        ("completed", _) => json!(null),
        (status, _) => json!({"type": status, "reason": "some_reason"}),
    };
    json!({
        "type": "response.done", "event_id": "event_11",
        "response": {"id": response, "object": "realtime.response", "status": status,
                     "status_details": details, "output": [], "conversation_id": "conv_1",
                     "usage": {"total_tokens": tokens}, "metadata": null},
    })
    .to_string()
}

/// The summary begins or is over.
pub(super) fn summary(kind: &str, response: &str, status: &str, text: &str) -> String {
    let output = if text.is_empty() {
        json!([])
    } else {
        json!([{"type": "message", "content": [{"type": "output_text", "text": text}]}])
    };
    json!({
        "type": kind, "event_id": "event_12",
        "response": {"id": response, "object": "realtime.response", "status": status,
                     "status_details": null, "output": output, "conversation_id": null,
                     "usage": null, "metadata": {"kind": "summary"}},
    })
    .to_string()
}

/// What a request asks for.
pub(super) fn kind_of(request: &serde_json::Value) -> Option<Kind> {
    match request["response"]["metadata"]["kind"].as_str() {
        None => Some(Kind::Reply),
        Some("greeting") => Some(Kind::Greeting),
        Some("say" | "still_there" | "farewell") => Some(Kind::Words),
        Some("summary") => None,
        Some(other) => panic!("an answer of a kind that nobody knows: {other}"),
    }
}

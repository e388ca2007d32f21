//! A conversation with the fake model, without a socket: each refusal, and the turns.

use super::*;
use crate::audio::Speech;
use crate::model::Script;

pub(super) struct Client {
    pub(super) conversation: Conversation,
    now: Duration,
    pub(super) heard: Vec<Value>,
}

impl Client {
    fn connect() -> Self {
        Self::connect_with(Fault::None)
    }

    fn connect_with(fault: Fault) -> Self {
        Self::connect_to(Script::plain(), fault)
    }

    pub(super) fn connect_to(script: Script, fault: Fault) -> Self {
        let repertoire = Arc::new(Repertoire::load(script).unwrap());
        let mut heard = Vec::new();
        let dressed = (Pace::default(), fault);
        let visitor = Visitor { name: "x", model: "m", peer: "", at_us: 0, seconds_max: 60 };
        let conversation = Conversation::open(repertoire, dressed, visitor, &mut heard);
        Self { conversation, now: Duration::ZERO, heard }
    }

    pub(super) fn configured() -> Self {
        let mut client = Self::connect();
        client.configure(&json!({}));
        client
    }

    pub(super) fn configure(&mut self, turn_detection: &Value) {
        let mut detection = json!({"type": "server_vad", "silence_duration_ms": 500});
        let changes = turn_detection.as_object().unwrap().clone();
        detection.as_object_mut().unwrap().extend(changes);
        self.say(&json!({"type": "session.update", "session": {
            "type": "realtime",
            "tools": [{"type": "function", "name": "hang_up"}],
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"}, "turn_detection": detection,
                    "transcription": {"model": "gpt-transcribe"},
                },
                "output": {"format": {"type": "audio/pcmu"}},
            },
        }}));
        assert_eq!(self.last()["type"], "session.updated");
    }

    pub(super) fn say(&mut self, event: &Value) {
        self.conversation.receive(&event.to_string(), self.now, &mut self.heard);
    }

    pub(super) fn append(&mut self, ulaw: &[u8]) {
        for frame in ulaw.chunks(160) {
            let mut text = Vec::new();
            codec::base64::encode(frame, &mut text);
            let audio = String::from_utf8(text).unwrap();
            self.say(&json!({"type": "input_audio_buffer.append", "audio": audio}));
            self.pass(20);
        }
    }

    pub(super) fn speak(&mut self) {
        self.append(Speech::tone(400).ulaw());
        self.append(&[0xFF; 8 * 600]);
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.conversation.tick(self.now, &mut self.heard);
    }

    pub(super) fn last(&self) -> &Value {
        self.heard.last().unwrap()
    }

    pub(super) fn kinds(&self) -> Vec<&str> {
        self.heard.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }

    pub(super) fn find(&self, kind: &str) -> &Value {
        self.heard.iter().rfind(|event| event["type"] == kind).unwrap_or(&Value::Null)
    }

    pub(super) fn refused(&mut self, event: &Value) -> String {
        let before = self.heard.len();
        self.say(event);
        let error = &self.heard[before..].last().unwrap()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(self.conversation.take_complaints().len(), 1);
        error["code"].as_str().map_or_else(|| error["message"].to_string(), str::to_owned)
    }
}

#[test]
fn a_session_is_introduced_and_every_event_has_an_id() {
    let mut client = Client::configured();
    client.speak();
    assert_eq!(client.heard[0]["type"], "session.created");
    let mut ids: Vec<_> = client.heard.iter().map(|e| e["event_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), client.heard.len());
}

#[test]
fn anything_before_the_session_is_configured_is_a_complaint() {
    let mut client = Client::connect();
    client.say(&json!({"type": "input_audio_buffer.append", "audio": "//8="}));
    assert_eq!(client.conversation.take_complaints()[0].code, "unconfigured_session");
}

#[test]
fn a_refused_update_changes_nothing() {
    let mut client = Client::connect();
    let code = client.refused(&json!({"type": "session.update", "session": {
        "type": "realtime", "instructions": "x", "temperature": 1,
    }}));
    assert_eq!(code, "unknown_parameter");
    client.say(&json!({"type": "session.update", "session": {"type": "realtime"}}));
    assert_ne!(client.last()["session"]["instructions"], "x");
}

#[test]
fn what_is_no_event_is_refused() {
    let mut client = Client::configured();
    for (event, code) in [
        (json!({}), "missing_required_parameter"),
        (json!({"type": 7}), "invalid_type"),
        (json!({"type": "response.audio"}), "invalid_value"),
        (json!({"type": "response.create", "respons": {}}), "unknown_parameter"),
        (json!({"type": "response.create", "event_id": 4}), "invalid_type"),
        (json!({"type": "input_audio_buffer.commit"}), "input_audio_buffer_commit_empty"),
        (json!({"type": "output_audio_buffer.clear"}), "invalid_value"),
        (
            json!({"type": "conversation.item.delete", "item_id": "i"}),
            "item_delete_invalid_item_id",
        ),
    ] {
        assert_eq!(client.refused(&event), code, "{event}");
    }
    client.conversation.receive("{", client.now, &mut client.heard);
    assert_eq!(client.last()["error"]["code"], "invalid_event");
}

#[test]
fn audio_must_be_strict_base64_of_whole_samples() {
    let mut client = Client::configured();
    for audio in ["", "//8", "_-8=", "//8=\n", "%"] {
        let event = json!({"type": "input_audio_buffer.append", "audio": audio});
        assert_eq!(client.refused(&event), "invalid_value", "{audio:?}");
    }
    let mut wide = Client::connect();
    wide.say(&json!({"type": "session.update", "session": {"type": "realtime"}}));
    let odd = json!({"type": "input_audio_buffer.append", "audio": "/w=="});
    assert_eq!(wide.refused(&odd), "invalid_value");
}

#[test]
fn a_turn_is_heard_committed_transcribed_and_answered() {
    let mut client = Client::configured();
    client.heard.clear();
    client.speak();
    client.pass(5_000);
    let kinds = client.kinds();
    let at = |kind: &str| kinds.iter().position(|k| *k == kind).unwrap_or_else(|| panic!("{kind}"));
    assert!(at("input_audio_buffer.speech_started") < at("input_audio_buffer.speech_stopped"));
    assert!(at("input_audio_buffer.speech_stopped") < at("input_audio_buffer.committed"));
    assert!(at("input_audio_buffer.committed") < at("conversation.item.added"));
    assert!(at("conversation.item.added") < at("response.created"));
    let written = client.find("conversation.item.input_audio_transcription.completed");
    assert_eq!(written["transcript"], "Hello.");
    assert_eq!(client.last()["type"], "response.done");
    let spoken = &client.last()["response"]["output"][0]["content"][0];
    assert_eq!(spoken["transcript"], "Good to hear from you.");
    assert_eq!(client.conversation.take_complaints().len(), 0);
}

#[test]
fn the_caller_cancels_the_answer_unless_told_otherwise() {
    let mut client = Client::configured();
    client.say(&json!({"type": "response.create"}));
    client.append(Speech::tone(160).ulaw());
    client.pass(100);
    let done = client.find("response.done");
    assert_eq!(done["response"]["status_details"]["reason"], "turn_detected");

    let mut client = Client::connect();
    client.configure(&json!({"interrupt_response": false}));
    client.say(&json!({"type": "response.create"}));
    client.append(Speech::tone(160).ulaw());
    client.pass(5_000);
    assert_eq!(client.find("response.done")["response"]["status"], "completed");
}

#[test]
fn without_create_response_a_turn_is_not_answered() {
    let mut client = Client::connect();
    client.configure(&json!({"create_response": false}));
    client.speak();
    client.pass(5_000);
    assert!(!client.kinds().contains(&"response.created"));
}

#[test]
fn one_response_at_a_time() {
    let mut client = Client::configured();
    client.say(&json!({"type": "response.create"}));
    let code = client.refused(&json!({"type": "response.create"}));
    assert_eq!(code, "conversation_already_has_active_response");
}

#[test]
fn only_an_active_response_is_cancelled() {
    let mut client = Client::configured();
    let cancel = json!({"type": "response.cancel"});
    assert_eq!(client.refused(&cancel), "response_cancel_not_active");
    client.say(&json!({"type": "response.create"}));
    client.say(&cancel);
    client.pass(100);
    let reason = &client.find("response.done")["response"]["status_details"]["reason"];
    assert_eq!(reason, "client_cancelled");
}

#[test]
fn truncation_ends_within_the_audio_of_a_known_item() {
    let mut client = Client::configured();
    client.say(&json!({"type": "response.create"}));
    client.pass(5_000);
    let item = client.find("response.output_audio.done")["item_id"].clone();
    let cut = |item: &Value, ms: Value| {
        json!({"type": "conversation.item.truncate", "item_id": item, "content_index": 0,
               "audio_end_ms": ms})
    };
    assert_eq!(client.refused(&cut(&item, json!(100.5))), "invalid_type");
    assert_eq!(client.refused(&cut(&item, json!("100"))), "invalid_type");
    assert_eq!(client.refused(&cut(&json!("item_9"), json!(1))), "item_truncate_invalid_item_id");
    let long = client.refused(&cut(&item, json!(9_999)));
    assert_eq!(long, "\"Audio content of 1320ms is already shorter than 9999ms\"");
    client.say(&cut(&item, json!(700)));
    assert_eq!(client.last()["type"], "conversation.item.truncated");
    let again = client.refused(&cut(&item, json!(701)));
    assert_eq!(again, "\"Audio content of 700ms is already shorter than 701ms\"");
}

#[test]
fn only_the_output_of_an_open_call_is_taken() {
    let mut client = Client::configured();
    let output = |call: &str| {
        json!({"type": "conversation.item.create",
               "item": {"type": "function_call_output", "call_id": call, "output": "{}"}})
    };
    assert_eq!(client.refused(&output("call_9")), "invalid_value");
    client.conversation.called.push("call_1".into());
    client.say(&output("call_1"));
    assert_eq!(client.last()["type"], "conversation.item.done");
    assert_eq!(client.refused(&output("call_1")), "invalid_value");
}

#[test]
fn the_assistants_past_is_text_only() {
    let mut client = Client::configured();
    let item = |kind: &str| {
        json!({"type": "conversation.item.create", "item": {"type": "message",
               "role": "assistant", "content": [{"type": kind, "text": "Hi."}]}})
    };
    assert_eq!(client.refused(&item("output_audio")), "missing_required_parameter");
    assert_eq!(client.refused(&item("text")), "invalid_value");
    client.say(&item("output_text"));
    assert_eq!(client.last()["type"], "conversation.item.done");
}

#[test]
fn a_response_that_fails_says_so_in_its_end_only() {
    let mut client = Client::connect_with(Fault::FailResponses);
    client.configure(&json!({}));
    client.say(&json!({"type": "response.create"}));
    assert_eq!(client.last()["response"]["status"], "failed");
    assert!(!client.kinds().contains(&"error"));
}

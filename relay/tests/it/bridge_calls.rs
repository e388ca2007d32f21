//! Whole calls over real sockets: interruptions, goodbyes, failures, broken input.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bridge_rig::{Format, Rig, Told};

const SORRY: &[u8] = include_bytes!("../../assets/sorry.ulaw");

#[tokio::test]
async fn an_interruption_clears_the_line_and_cuts_the_model_at_what_was_heard() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    let answer = model.begin().await;
    model.delta(answer, &[0x11; 16_000]).await;
    model.end(answer, "completed").await;

    // The ear gets two chunks; four more have left the relay by then.
    let mut marks = Vec::new();
    while marks.len() < 6 {
        match caller.next().await {
            Told::Media(bytes) => assert_eq!(bytes, [0x11; 480]),
            Told::Mark(name) => marks.push(name),
            told @ (Told::Clear | Told::Closed(_)) => panic!("{told:?}"),
        }
    }
    caller.mark(&marks[0]).await;
    caller.mark(&marks[1]).await;
    rig.relay.until_metric("relay_streams_started_total 1").await;
    caller.media(&[0xFF; 160]).await;
    // The append behind the marks says that the relay has seen them.
    model.hear(160).await;
    model.say(json!({"type": "input_audio_buffer.speech_started", "item_id": "u1"})).await;

    let truncate = model.next_event().await.unwrap();
    assert_eq!(truncate["type"], "conversation.item.truncate");
    assert_eq!((&truncate["item_id"], &truncate["content_index"]), (&json!("i1"), &json!(0)));
    assert_eq!(truncate["audio_end_ms"], 120, "two marked chunks were heard");

    // Chunks of the cut answer may be ahead of the clear, and none is behind it.
    loop {
        match caller.next().await {
            Told::Clear => break,
            Told::Media(_) => {}
            Told::Mark(name) => marks.push(name),
            Told::Closed(code) => panic!("closed with {code}"),
        }
    }
    for dead in &marks[2..] {
        caller.mark(dead).await;
    }
    model.answer([&[0x22; 480][..]]).await;
    assert_eq!(caller.next().await, Told::Media(vec![0x22; 480]));
    rig.relay.until_metric("relay_barge_ins_total 1").await;
}

#[tokio::test]
async fn an_agent_that_says_goodbye_is_heard_out_and_the_line_is_closed() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    let answer = model.begin().await;
    model.delta(answer, &[0x33; 5_000]).await;
    let call = json!({
        "type": "function_call", "status": "completed", "name": "hang_up", "call_id": "c1",
        "arguments": "{}",
    });
    model
        .say(json!({"type": "response.output_item.done", "response_id": "r1", "item": call}))
        .await;
    model.end(answer, "completed").await;
    assert_eq!(caller.listen_to_the_end().await, (vec![0x33; 5_000], 1000));
    assert_eq!(model.next_event().await, None, "the model's socket is closed as well");
    rig.relay.until_metric("relay_streams_ended_total{reason=\"agent_hung_up\"} 1").await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_closes_the_model() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    caller.hang_up().await;
    assert_eq!(model.next_event().await, None);
    assert_eq!(caller.next().await, Told::Closed(1000));
    rig.relay.until_metric("relay_streams_ended_total{reason=\"caller_hung_up\"} 1").await;
}

#[tokio::test]
async fn a_model_that_dismisses_us_is_followed_by_the_clip() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    model.close_with(1_008).await;
    let (heard, code) = caller.listen_to_the_end().await;
    assert!(heard == SORRY, "{} of {} bytes", heard.len(), SORRY.len());
    assert_eq!(code, 1000);
    rig.relay.until_metric("relay_streams_ended_total{reason=\"agent_failed\"} 1").await;
}

#[tokio::test]
async fn a_model_that_is_lost_is_replaced_by_one_that_knows_what_was_said() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    model.answer([&[0x22; 480][..]]).await;
    assert_eq!(caller.listen(480).await, [0x22; 480]);
    rig.relay.until_metric("relay_turns_total{role=\"agent\"} 1").await;
    model.close_with(1_011).await;

    let mut successor = rig.model().await;
    successor.settle().await;
    let told = successor.next_event().await.unwrap();
    assert_eq!(told["type"], "conversation.item.create", "the turn first: {told}");
    caller.media(&[0x11; 160]).await;
    while !successor.hear(1).await.ends_with(&[0x11; 160]) {}
    successor.answer([&[0x33; 480][..]]).await;
    let mut heard = caller.listen(480).await;
    // The clip that covers the gap may come first.
    while !heard.ends_with(&[0x33; 480]) {
        heard.extend(caller.listen(1).await);
    }
    rig.relay.until_metric("relay_agents_replaced_total{because=\"lost\"} 1").await;
}

#[tokio::test]
async fn a_model_that_turns_us_away_is_followed_by_the_clip() {
    let rig = Rig::new(Format::Ulaw).await;
    let mut caller = rig.caller().await;
    let mut door = rig.connection().await;
    let mut request = [0; 1_024];
    let _ = door.read(&mut request).await.unwrap();
    door.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(caller.listen_to_the_end().await.1, 1000);
    rig.relay.until_metric("relay_streams_ended_total{reason=\"agent_refused\"} 1").await;
}

#[tokio::test]
async fn a_model_that_refuses_the_session_is_followed_by_the_clip() {
    let rig = Rig::new(Format::Ulaw).await;
    let mut caller = rig.caller().await;
    let mut model = rig.model().await;
    model.say(json!({"type": "session.created", "session": {}})).await;
    let error = json!({"type": "invalid_request_error", "code": "unknown_parameter"});
    model.say(json!({"type": "error", "error": error})).await;
    assert_eq!(caller.listen_to_the_end().await.1, 1000);
    rig.relay.until_metric("relay_streams_ended_total{reason=\"agent_refused\"} 1").await;
}

#[tokio::test]
async fn broken_messages_end_one_call_and_no_other() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut good, mut good_model) = rig.call().await;
    let (mut bad, mut bad_model) = rig.call().await;
    let too_long = "/".repeat(32 * 1_024);
    let too_long = json!({"chunk": "9", "timestamp": "20", "payload": too_long});
    let broken = [
        &json!({"event": "media", "media": too_long}).to_string(),
        r#"{"event":"media"}"#,
        r#"{"event":"media","media":{"chunk":"1","timestamp":"20","payload":"!!!!"}}"#,
        r#"{"event":"mark","mark":{"name":"theirs"}}"#,
        r#"{"event":"start"}"#,
    ];
    for text in broken {
        bad.say(text).await;
    }
    bad.say(r#"{"event":"unknown to us","media":7}"#).await;
    bad.media(&[0x44; 160]).await;
    assert_eq!(bad_model.hear(160).await, [0x44; 160], "five are tolerated");
    bad.say("[]").await;
    assert_eq!(bad.next().await, Told::Closed(1002));
    assert_eq!(bad_model.next_event().await, None);

    good.media(&[0x55; 160]).await;
    assert_eq!(good_model.hear(160).await, [0x55; 160]);
    rig.relay.until_metric("relay_streams_ended_total{reason=\"caller_protocol\"} 1").await;
    rig.relay.until_metric("relay_calls 1").await;
}

#[tokio::test]
async fn a_message_beyond_all_bounds_ends_its_call_at_once() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    caller.say(&" ".repeat(65 * 1_024)).await;
    assert_eq!(caller.next().await, Told::Closed(1009));
    assert_eq!(model.next_event().await, None);
    rig.relay.until_metric("relay_streams_ended_total{reason=\"caller_protocol\"} 1").await;
}

#[tokio::test]
async fn what_is_unknown_to_us_is_ignored_on_both_legs() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    for n in 0..50 {
        model.say(json!({"type": "response.sang", "verse": n})).await;
        caller.say(&json!({"event": "weather", "rain": n}).to_string()).await;
    }
    caller.media(&[0x66; 160]).await;
    let appended: Value = model.next().await.unwrap();
    assert_eq!(appended["type"], "input_audio_buffer.append");
}

#[tokio::test]
async fn a_tool_that_does_not_exist_is_answered() {
    let rig = Rig::new(Format::Ulaw).await;
    let (_caller, mut model) = rig.call().await;
    let answer = model.begin().await;
    let call = json!({
        "type": "function_call", "status": "completed", "name": "fly", "call_id": "c1",
        "arguments": "{\"to\":\"moon\"}",
    });
    model
        .say(json!({"type": "response.output_item.done", "response_id": "r1", "item": call}))
        .await;
    let result = model.next_event().await.unwrap();
    assert_eq!(result["item"]["type"], "function_call_output");
    assert_eq!(result["item"]["call_id"], "c1");
    model.end(answer, "completed").await;
    assert_eq!(model.next_event().await.unwrap()["type"], "response.create");
}

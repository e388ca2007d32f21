//! Answers in the making: their order, their pieces, and every way to end early.

use super::*;

fn material(ms: usize, format: Format) -> Material {
    Material {
        response: "resp_1".into(),
        item: "item_1".into(),
        tool_ids: ("item_2".into(), "call_1".into()),
        previous: None,
        conversation: "conv_1".into(),
        format,
        voice: "marin".into(),
        max_output_tokens: "inf".into(),
        metadata: Value::Null,
        text: "One two three four, five.".into(),
        audio: vec![0x55; ms * format.bytes_per_ms()],
        tool: None,
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn an_answer_comes_in_the_order_of_the_service() {
    let mut reply = Reply::plan(material(300, Format::Pcmu), Pace::default(), at(0));
    let mut out = Vec::new();
    let happened = reply.tick(at(10_000), &mut out);
    assert_eq!(happened, [Happened::Item("item_1".into()), Happened::Done]);
    assert_eq!(
        kinds(&out),
        [
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
    );
    assert_eq!(out.last().unwrap()["response"]["status"], "completed");
}

#[test]
fn words_and_audio_are_whole_when_joined() {
    for format in [Format::Pcmu, Format::Pcm24k] {
        let mut reply = Reply::plan(material(5_000, format), Pace::default(), at(0));
        let mut out = Vec::new();
        reply.tick(at(60_000), &mut out);
        let deltas = |kind: &str| -> Vec<&str> {
            let of_kind = out.iter().filter(|event| event["type"] == kind);
            of_kind.map(|event| event["delta"].as_str().unwrap()).collect()
        };
        let mut audio = Vec::new();
        for piece in deltas("response.output_audio.delta") {
            codec::base64::decode(piece.as_bytes(), &mut audio).unwrap();
        }
        assert_eq!(audio, material(5_000, format).audio);
        let words = deltas("response.output_audio_transcript.delta").concat();
        assert_eq!(words, "One two three four, five.");
        assert_eq!(reply.made_ms(), 5_000);
    }
}

#[test]
fn audio_is_made_faster_than_it_lasts() {
    let reply = Reply::plan(material(10_000, Format::Pcmu), Pace::default(), at(0));
    let (last, _) = reply.plan.back().unwrap();
    assert!(*last > at(1_800) && *last < at(2_200), "{last:?}");
}

#[test]
fn a_cut_answer_ends_with_its_reason_after_late_audio() {
    let mut reply = Reply::plan(material(5_000, Format::Pcmu), Pace::default(), at(0));
    let mut out = Vec::new();
    reply.tick(at(200), &mut out);
    let made = reply.made_ms();
    out.clear();
    reply.cut(Cut::TurnDetected, at(200));
    let happened = reply.tick(at(300), &mut out);
    assert_eq!(happened, [Happened::Done]);
    assert_eq!(out[0]["type"], "response.output_audio.delta");
    assert!(reply.made_ms() > made && reply.made_ms() < 5_000);
    let done = &out.last().unwrap()["response"];
    assert_eq!(done["status"], "cancelled");
    assert_eq!(done["status_details"]["reason"], "turn_detected");
    assert_eq!(done["output"][0]["status"], "incomplete");
}

#[test]
fn an_answer_cut_before_its_first_item_has_no_output() {
    let mut reply = Reply::plan(material(5_000, Format::Pcmu), Pace::default(), at(0));
    reply.cut(Cut::ClientCancelled, at(0));
    let mut out = Vec::new();
    reply.tick(at(100), &mut out);
    assert_eq!(kinds(&out), ["response.created", "response.done"]);
    assert_eq!(out[1]["response"]["output"], json!([]));
}

#[test]
fn a_tool_is_called_after_the_words() {
    let mut material = material(100, Format::Pcmu);
    material.tool = Some(ToolCall { name: "hang_up".into(), arguments: "{}".into(), then: None });
    let mut reply = Reply::plan(material, Pace::default(), at(0));
    let mut out = Vec::new();
    let happened = reply.tick(at(10_000), &mut out);
    assert!(happened.contains(&Happened::Called("call_1".into())));
    let done = out.iter().rfind(|event| event["type"] == "response.output_item.done").unwrap();
    assert_eq!(done["item"]["name"], "hang_up");
    assert_eq!(done["output_index"], 1);
}

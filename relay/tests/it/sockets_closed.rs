//! After an end, on every path, no socket is left open on either side. The paths of calls that were
//! prepared, and of a drain, are in `announced.rs` and `spares.rs`.

use serde_json::json;

use crate::bridge_rig::{Caller, Format, Rig};

impl Rig {
    async fn until_all_sockets_are_closed(&self) {
        for leg in ["caller", "agent"] {
            self.relay.until_metric(&format!("relay_sockets_open{{leg=\"{leg}\"}} 0")).await;
        }
        self.relay.until_metric("relay_calls 0").await;
    }

    async fn until_both_are_open(&self) {
        for leg in ["caller", "agent"] {
            self.relay.until_metric(&format!("relay_sockets_open{{leg=\"{leg}\"}} 1")).await;
        }
    }
}

#[tokio::test]
async fn the_caller_hangs_up() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, _model) = rig.call().await;
    rig.until_both_are_open().await;
    caller.hang_up().await;
    // The model does not even read: it is not waited for.
    rig.until_all_sockets_are_closed().await;
}

#[tokio::test]
async fn the_caller_is_lost() {
    let rig = Rig::new(Format::Ulaw).await;
    let (caller, _model) = rig.call().await;
    drop(caller);
    rig.until_all_sockets_are_closed().await;
}

#[tokio::test]
async fn the_caller_breaks_the_protocol() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, _model) = rig.call().await;
    caller.say(&" ".repeat(65 * 1_024)).await;
    rig.until_all_sockets_are_closed().await;
}

#[tokio::test]
async fn the_agent_dismisses_us() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    model.close_with(1_008).await;
    caller.listen_to_the_end().await;
    rig.until_all_sockets_are_closed().await;
}

#[tokio::test]
async fn the_agent_is_lost_and_another_takes_its_place() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    model.close_with(1_001).await;
    let mut successor = rig.model().await;
    successor.settle().await;
    // The one that was lost is gone before the call is over.
    rig.until_both_are_open().await;
    rig.relay.until_metric("relay_agents_replaced_total{because=\"lost\"} 1").await;
    caller.hang_up().await;
    rig.until_all_sockets_are_closed().await;
}

#[tokio::test]
async fn the_budget_of_tokens_is_used_up() {
    let rig = Rig::with("limits = { call_tokens_max = 1 }\n", &[]).await;
    let (mut caller, mut model) = rig.call().await;
    let answer = model.begin().await;
    model.delta(answer, &[0x22; 480]).await;
    let usage = json!({"total_tokens": 2});
    let response = json!({"id": "r1", "status": "completed", "usage": usage});
    model.say(json!({"type": "response.done", "response": response})).await;
    // The goodbye is asked for and made.
    while model.next_event().await.expect("a goodbye comes first")["type"] != "response.create" {}
    model.answer([&[0x33; 480][..]]).await;
    caller.listen_to_the_end().await;
    rig.relay.until_metric("relay_streams_ended_total{reason=\"token_limit\"} 1").await;
    rig.until_all_sockets_are_closed().await;
}

#[tokio::test]
async fn a_stream_is_refused() {
    let rig = Rig::new(Format::Ulaw).await;
    let mut caller = Caller::begin(rig.relay.public, None, "not a ticket").await;
    assert_eq!(caller.listen_to_the_end().await.1, 1_008);
    drop(caller);
    rig.until_all_sockets_are_closed().await;
}

#[tokio::test]
async fn a_newer_stream_of_the_call_takes_over() {
    let rig = Rig::new(Format::Ulaw).await;
    let mut old = rig.caller_of("c_same", 0).await;
    let _model = rig.model().await;
    let mut new = rig.caller_of("c_same", 1).await;
    old.listen_to_the_end().await;
    rig.relay.until_metric("relay_streams_ended_total{reason=\"superseded\"} 1").await;
    new.hang_up().await;
    rig.until_all_sockets_are_closed().await;
}

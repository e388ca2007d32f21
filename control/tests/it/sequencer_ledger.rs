//! The sequencer's transaction: what it takes, what it drops, and what it makes of calls.

use std::time::Duration;

use control::store::call::{Call, CallState, Resume};
use control::store::{Gap, Store, Times};
use link::event::{CallEvent, EndReason, NodeEvent};
use link::id::{CallId, EventNumber, Gen, TenantId};

use super::db::{
    TestDb, at, ending, event, fresh_call, kinds, ledger, node, on_both, source, started_call,
    stream_ended, stream_started, tenant, turn, turns,
};

on_both!(
    events_that_were_committed_before_are_dropped,
    a_gap_is_refused_and_what_came_before_it_is_kept,
    sources_of_one_node_are_told_apart_by_their_epoch,
    an_event_of_a_newer_relay_is_acknowledged_and_not_stored,
    an_event_of_an_unknown_tenant_or_call_is_kept,
    the_first_stream_answers_a_call_and_the_next_one_does_not,
    a_relays_decision_ends_the_call_once,
    a_late_decision_of_an_older_stream_changes_nothing,
    a_caller_who_hung_up_is_gone_after_a_while,
    a_lost_stream_leaves_the_call_to_resume,
    what_control_decides_gets_its_place_once_and_first,
    a_record_comes_back_as_it_was_written,
);

/// Calls that were left by their callers have ended at once.
const AT_ONCE: Times = Times {
    lease: Duration::from_secs(60),
    hung_up: Duration::ZERO,
    lost: Duration::from_secs(60),
};

async fn write(store: &Store, events: Vec<NodeEvent>) -> Result<EventNumber, Gap> {
    let mut ledger = ledger(store, Times::default()).await;
    let written = ledger.write(&[(source("n1"), events)]).await.unwrap();
    written.outcomes[0]
}

async fn call_now(store: &Store, call: &Call) -> Call {
    store.call(&call.tenant, &call.id).await.unwrap().unwrap()
}

async fn events_that_were_committed_before_are_dropped(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let mut ledger = ledger(&store, Times::default()).await;
    for (numbers, duplicates) in [(1..=5, 0), (3..=8, 3), (1..=8, 8)] {
        let last = *numbers.end();
        let batch = (source("n1"), turns(numbers, &call));
        let written = ledger.write(&[batch]).await.unwrap();
        assert_eq!(written.outcomes, [Ok(EventNumber(last))]);
        assert_eq!(written.duplicates, duplicates);
    }
    // The same batch twice in one transaction, too.
    let batch = (source("n1"), turns(9..=10, &call));
    let written = ledger.write(&[batch.clone(), batch]).await.unwrap();
    assert_eq!((written.entries.len(), written.duplicates), (2, 2));
    assert_eq!(kinds(&store).await.len(), 10);
    assert_eq!(store.mark(&source("n1")).await.unwrap(), EventNumber(10));
}

async fn a_gap_is_refused_and_what_came_before_it_is_kept(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let gap = Gap { expected: EventNumber(1) };
    assert_eq!(write(&store, turns(2..=4, &call)).await, Err(gap));
    let events = [1, 2, 4, 5].map(|n| turn(n, &call)).to_vec();
    assert_eq!(write(&store, events).await, Err(Gap { expected: EventNumber(3) }));
    assert_eq!(kinds(&store).await.len(), 2);
    assert_eq!(write(&store, turns(3..=5, &call)).await, Ok(EventNumber(5)));
    assert_eq!(kinds(&store).await.len(), 5);
}

async fn sources_of_one_node_are_told_apart_by_their_epoch(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let mut ledger = ledger(&store, Times::default()).await;
    let mut restarted = source("n1");
    restarted.epoch.0 = 7;
    let batches = [(source("n1"), turns(1..=2, &call)), (restarted, turns(1..=3, &call))];
    let written = ledger.write(&batches).await.unwrap();
    assert_eq!(written.outcomes, [Ok(EventNumber(2)), Ok(EventNumber(3))]);
    assert_eq!(kinds(&store).await.len(), 5);
}

async fn an_event_of_a_newer_relay_is_acknowledged_and_not_stored(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let events = vec![turn(1, &call), event(2, &call, 0, CallEvent::Unknown), turn(3, &call)];
    assert_eq!(write(&store, events).await, Ok(EventNumber(3)));
    assert_eq!(kinds(&store).await, ["turn", "turn"]);
}

async fn an_event_of_an_unknown_tenant_or_call_is_kept(db: &TestDb) {
    let store = db.open().await;
    let mut stranger = fresh_call(&store, "c_1").await;
    stranger.id = CallId::new("c_9").unwrap();
    let known_tenant = event(1, &stranger, 0, stream_started());
    stranger.tenant = TenantId::new("nobody").unwrap();
    let unknown_tenant = event(2, &stranger, 0, ending(EndReason::AgentFailed));
    let refused = CallEvent::StreamRefused { why: "expired".into() };
    let no_call = NodeEvent { n: EventNumber(3), at: at(1), call: None, event: refused };
    let events = vec![known_tenant, unknown_tenant, no_call];
    assert_eq!(write(&store, events).await, Ok(EventNumber(3)));
    assert_eq!(kinds(&store).await, ["stream.started", "call.ending", "stream.refused"]);
}

async fn the_first_stream_answers_a_call_and_the_next_one_does_not(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    write(&store, vec![event(1, &call, 0, stream_started())]).await.unwrap();
    let answered = call_now(&store, &call).await;
    assert_eq!((answered.state, answered.answered_at), (CallState::Active, Some(at(2))));
    store.resume(&call.tenant, &call.id, Some(&node()), at(3)).await.unwrap();
    write(&store, vec![event(2, &call, 1, stream_started())]).await.unwrap();
    assert_eq!(call_now(&store, &call).await.state, CallState::Active);
    let said = ["call.started", "call.answered", "stream.started", "stream.started"];
    assert_eq!(kinds(&store).await, said);
}

async fn a_relays_decision_ends_the_call_once(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let events = vec![
        event(1, &call, 0, stream_started()),
        event(2, &call, 0, ending(EndReason::AgentHungUp)),
        event(3, &call, 0, ending(EndReason::TimeLimit)),
        event(4, &call, 0, stream_ended(EndReason::AgentHungUp)),
    ];
    assert_eq!(write(&store, events).await, Ok(EventNumber(4)));
    let ended = call_now(&store, &call).await;
    assert_eq!(ended.state, CallState::Ended);
    assert_eq!(ended.end_reason.as_deref(), Some("agent_hung_up"));
    assert_eq!(ended.end_detail.as_deref(), Some("nul  inside"));
    let said = ["call.started", "call.answered", "stream.started", "call.ended", "call.ending"];
    assert_eq!(kinds(&store).await, [&said[..], &["stream.ended"]].concat());
    let answer = store.resume(&call.tenant, &call.id, Some(&node()), at(9)).await.unwrap();
    assert_eq!(answer, Resume::HangUp);
}

async fn a_late_decision_of_an_older_stream_changes_nothing(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    store.resume(&call.tenant, &call.id, Some(&node()), at(3)).await.unwrap();
    let events = vec![
        event(1, &call, 1, stream_started()),
        event(2, &call, 0, stream_started()),
        event(3, &call, 0, stream_ended(EndReason::CallerHungUp)),
        event(4, &call, 0, ending(EndReason::AgentFailed)),
    ];
    assert_eq!(write(&store, events).await, Ok(EventNumber(4)));
    let call = call_now(&store, &call).await;
    assert_eq!((call.state, call.generation), (CallState::Active, Gen(1)));
}

async fn a_caller_who_hung_up_is_gone_after_a_while(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let events = vec![
        event(1, &call, 0, stream_started()),
        event(2, &call, 0, stream_ended(EndReason::CallerHungUp)),
    ];
    write(&store, events).await.unwrap();
    let detached = call_now(&store, &call).await;
    assert_eq!(detached.state, CallState::Detached);

    let mut ledger = ledger(&store, AT_ONCE).await;
    assert!(ledger.is_due().await.unwrap());
    assert_eq!(ledger.write(&[]).await.unwrap().entries.len(), 1);
    assert!(!ledger.is_due().await.unwrap());
    let ended = call_now(&store, &call).await;
    assert_eq!(ended.end_reason.as_deref(), Some("caller_hung_up"));
    assert_eq!(kinds(&store).await.last().unwrap(), "call.ended");
}

async fn a_lost_stream_leaves_the_call_to_resume(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let events = vec![
        event(1, &call, 0, stream_started()),
        event(2, &call, 0, stream_ended(EndReason::RelayFault)),
    ];
    write(&store, events).await.unwrap();
    ledger(&store, AT_ONCE).await.write(&[]).await.unwrap();
    assert_eq!(call_now(&store, &call).await.state, CallState::Detached);
    let answer = store.resume(&call.tenant, &call.id, Some(&node()), at(9)).await.unwrap();
    assert!(matches!(answer, Resume::Reconnect(_)), "{answer:?}");

    write(&store, vec![event(3, &call, 1, stream_ended(EndReason::RelayFault))]).await.unwrap();
    let times = Times { lost: Duration::ZERO, ..AT_ONCE };
    ledger(&store, times).await.write(&[]).await.unwrap();
    let ended = call_now(&store, &call).await;
    assert_eq!(ended.end_reason.as_deref(), Some("relay_fault"));
}

async fn what_control_decides_gets_its_place_once_and_first(db: &TestDb) {
    let store = db.open().await;
    let mut ledger = ledger(&store, Times::default()).await;
    let call = started_call(&store, "c_1").await;
    assert!(ledger.is_due().await.unwrap());
    for _ in 0..2 {
        let batch = (source("n1"), vec![event(1, &call, 0, stream_started())]);
        ledger.write(&[batch]).await.unwrap();
    }
    assert_eq!(kinds(&store).await, ["call.started", "call.answered", "stream.started"]);
    // More decisions than one transaction takes follow in the next ones.
    for i in 0..201 {
        started_call(&store, &format!("c_more_{i}")).await;
    }
    let sizes = [ledger.write(&[]).await.unwrap(), ledger.write(&[]).await.unwrap()];
    assert_eq!(
        sizes.map(|written| (written.entries.len(), written.more)),
        [(200, true), (1, false)]
    );
}

async fn a_record_comes_back_as_it_was_written(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let mut ledger = ledger(&store, Times::default()).await;
    let written = ledger.write(&[(source("n1"), turns(1..=3, &call))]).await.unwrap();
    let read = store.events_after(&tenant(), Default::default(), Some(&call.id), 10).await.unwrap();
    let written: Vec<_> = written.entries.iter().map(|entry| (*entry.record).clone()).collect();
    assert_eq!(read, written);
    let json: serde_json::Value = serde_json::from_str(&read[0].json()).unwrap();
    assert_eq!(json["data"]["text"], "line\nbreak \u{0} and \"quotes\"");
    assert_eq!((json["seq"].clone(), json["call"].clone()), (1.into(), "c_1".into()));
}

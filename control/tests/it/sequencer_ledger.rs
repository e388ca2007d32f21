//! The sequencer's transaction: what it takes, what it drops, and what it makes of calls.

use std::time::Duration;

use control::store::call::{Call, CallEnd, CallState, CarrierWord, Number, Resume};
use control::store::{Gap, Store, Times};
use link::event::{
    CallEvent, EndReason, NodeEvent, Replaced, ReplacedBecause, ToolOutcome, ToolUse,
};
use link::id::{CallId, CommandId, EventNumber, Gen, TenantId};

use super::db::{
    TestDb, at, carrier, ending, event, fresh_call, kinds, ledger, node, on_both, source,
    started_call, stream_ended, stream_started, tenant, transferring, turn, turns,
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
    what_an_older_stream_says_late_is_kept_in_its_place_and_not_acted_on,
    a_transfer_is_durable_before_it_is_acknowledged_and_ends_with_the_phone_call,
    a_transferred_call_that_nobody_speaks_of_ends_after_hours,
    what_happens_in_a_call_is_kept_in_order,
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
    transferred: Duration::from_secs(60),
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

async fn what_an_older_stream_says_late_is_kept_in_its_place_and_not_acted_on(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    store.resume(&call.tenant, &call.id, Some(&node()), at(3)).await.unwrap();
    write(&store, vec![event(1, &call, 1, stream_started())]).await.unwrap();
    let before = call_now(&store, &call).await;
    // The old node had been cut off, and says now what happened before that.
    let late = vec![
        stream_started(),
        turn(1, &call).event,
        CallEvent::Dtmf { digit: '5' },
        CallEvent::AgentReplaced(Replaced {
            because: ReplacedBecause::Lost,
            gap_ms: 900,
            turns: 2,
            detail: None,
        }),
        CallEvent::CommandDone { id: CommandId::new("cmd_1").unwrap(), refused: None },
        transferring("+15550177"),
        ending(EndReason::TimeLimit),
        stream_ended(EndReason::Transferred),
    ];
    let late: Vec<_> = (1..).zip(late).map(|(n, said)| event(n, &call, 0, said)).collect();
    let mut ledger = ledger(&store, AT_ONCE).await;
    let written = ledger.write(&[(source("n0"), late)]).await.unwrap();
    assert_eq!(written.outcomes, [Ok(EventNumber(8))]);
    let generations: Vec<_> = written.entries.iter().map(|e| e.record.generation).collect();
    assert_eq!(generations, [Some(Gen(0)); 8]);
    let said: Vec<_> = written.entries.iter().map(|entry| entry.record.kind.as_str()).collect();
    let (decided, over) = (["call.ending"; 2], "stream.ended");
    let first = ["stream.started", "turn", "dtmf", "agent.replaced", "command.done"];
    assert_eq!(said, [&first[..], &decided, &[over]].concat());
    assert_eq!(call_now(&store, &call).await, before);
    assert!(!ledger.is_due().await.unwrap());
}

async fn a_transfer_is_durable_before_it_is_acknowledged_and_ends_with_the_phone_call(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let events = vec![
        event(1, &call, 0, stream_started()),
        event(2, &call, 0, transferring("sip:desk@pbx.example")),
        event(3, &call, 0, ending(EndReason::TimeLimit)),
        event(4, &call, 0, stream_ended(EndReason::Transferred)),
    ];
    assert_eq!(write(&store, events).await, Ok(EventNumber(4)));
    // Another process, after a crash, finds what was acknowledged.
    let again = db.open().await;
    let transferred = call_now(&again, &call).await;
    assert_eq!((transferred.state, transferred.ended_at), (CallState::Transferred, None));
    assert_eq!(transferred.transfer_to, Some(Number("sip:desk@pbx.example".into())));
    assert!(transferred.detached_at.is_some());
    let answer = again.resume(&call.tenant, &call.id, None, at(9)).await.unwrap();
    assert!(matches!(answer, Resume::Transfer(_)), "{answer:?}");
    let over = Some(CallEnd::Stream(EndReason::CallerHungUp));
    let word = CarrierWord { status: "completed".into(), seq: Some(3), over };
    again.carrier_word(&call.tenant, &carrier("CA-c_1"), &word, at(99)).await.unwrap().unwrap();
    ledger(&again, Times::default()).await.write(&[]).await.unwrap();
    let said = ["call.started", "call.answered", "stream.started", "call.transferred"];
    let end = ["call.ending", "stream.ended", "call.ended"];
    assert_eq!(kinds(&again).await, [&said[..], &end].concat());
    let records =
        again.events_after(&tenant(), Default::default(), Some(&call.id), 10).await.unwrap();
    let ended: serde_json::Value = serde_json::from_str(&records[6].data).unwrap();
    assert_eq!(ended, serde_json::json!({"reason": "transferred", "blame": "agent"}));
}

async fn a_transferred_call_that_nobody_speaks_of_ends_after_hours(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    write(&store, vec![event(1, &call, 0, transferring("+15550177"))]).await.unwrap();
    let times = Times { lost: Duration::ZERO, ..AT_ONCE };
    let mut patient = ledger(&store, times).await;
    assert!(!patient.is_due().await.unwrap());
    patient.write(&[]).await.unwrap();
    assert_eq!(call_now(&store, &call).await.state, CallState::Transferred);
    let times = Times { transferred: Duration::ZERO, ..Times::default() };
    let mut hasty = ledger(&store, times).await;
    assert!(hasty.is_due().await.unwrap());
    hasty.write(&[]).await.unwrap();
    let ended = call_now(&store, &call).await;
    assert_eq!((ended.state, ended.end_reason.as_deref()), (CallState::Ended, Some("transferred")));
}

async fn what_happens_in_a_call_is_kept_in_order(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let refused = Some("the agent is muted".to_owned());
    let happened = vec![
        stream_started(),
        CallEvent::Dtmf { digit: '#' },
        CallEvent::Tool(ToolUse {
            name: "find_slot".into(),
            request: "call_7".into(),
            outcome: ToolOutcome::TimedOut,
            after_ms: 5_000,
        }),
        CallEvent::AgentReplaced(Replaced {
            because: ReplacedBecause::RolledOver,
            gap_ms: 0,
            turns: 31,
            detail: None,
        }),
        CallEvent::CommandDone { id: CommandId::new("cmd_1").unwrap(), refused },
    ];
    let events = (1..).zip(happened).map(|(n, what)| event(n, &call, 0, what)).collect();
    write(&store, events).await.unwrap();
    let records =
        store.events_after(&tenant(), Default::default(), Some(&call.id), 10).await.unwrap();
    let shown = records[3..].iter().map(|record| (record.kind.as_str(), &*record.data));
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [
            ("dtmf", r##"{"digit":"#"}"##),
            (
                "tool",
                r#"{"after_ms":5000,"name":"find_slot","outcome":"timed_out","request":"call_7"}"#
            ),
            ("agent.replaced", r#"{"because":"rolled_over","gap_ms":0,"turns":31}"#),
            ("command.done", r#"{"id":"cmd_1","refused":"the agent is muted"}"#),
        ]
    );
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

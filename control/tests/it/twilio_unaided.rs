//! The carrier's questions while the database is away, through the real routes.

use control::fleet::zombie::LinkWord;
use control::store::call::{Call, CallState, Question, Resume};
use control::store::catch_up::CaughtUp;
use control::twilio::rescue::move_calls;
use link::event::{CallEvent, CallRef, EndReason, NodeEvent, ToolIntent};
use link::id::{EventNumber, Gen, NodeId};
use link::message::{Command, Load};
use link::ticket::{Claims, KeySet};

use super::db::{TestDb, at, ending, on_both, started_call, stream_started, tenant};
use super::web::{ACCOUNT, Web, inbound, next_command, resume_target, ticket};

on_both!(
    what_was_decided_without_the_database_is_written_when_it_is_back,
    a_call_goes_on_at_another_instance_that_has_not_heard_of_it,
    what_has_ended_stays_ended_and_a_stream_of_later_is_over,
    a_call_that_is_written_twice_is_written_once,
    the_calls_on_a_node_are_those_with_a_stream_there,
);

fn in_progress(call_sid: &str) -> [(&'static str, &str); 7] {
    let mut fields = inbound(call_sid);
    fields[3].1 = "in-progress";
    fields
}

fn claims(web: &Web, twiml: &str) -> Claims {
    let keys = KeySet::new(&web.plane.tokens.verifying()).unwrap();
    keys.verify(&ticket(twiml), control::clock::wall()).unwrap()
}

/// What a relay says, as the link hears it before it is committed.
fn heard(claims: &Claims, event: CallEvent) -> NodeEvent {
    let call = CallRef {
        id: claims.call.clone(),
        tenant: claims.tenant.clone(),
        generation: claims.generation,
    };
    NodeEvent { n: EventNumber(1), at: control::clock::wall(), call: Some(call), event }
}

#[tokio::test]
async fn without_the_database_calls_begin_and_go_on() {
    let web = Web::start().await;
    let (stay, _orders) = web.node("fra-1", 0);
    let (known, resume) = web.begun("CA1").await;
    web.plane.store.close().await;
    let (status, twiml) = web.voice("CA2").await;
    assert_eq!(status, 200);
    let first = claims(&web, &twiml);
    assert_eq!((first.node.as_str(), first.generation), ("fra-1", Gen(0)));
    assert_eq!((first.agent.as_str(), first.agent_version), ("front-desk", 3));
    let (_, again) = web.voice("CA2").await;
    assert_eq!(claims(&web, &again).call, first.call, "the same question, the same call");

    let (_, next) = web.hook(&resume_target(&twiml), &in_progress("CA2")).await;
    let second = claims(&web, &next);
    assert_eq!((&second.call, second.generation), (&first.call, Gen(1)));
    let (_, next) = web.hook(&resume, &in_progress("CA1")).await;
    let next = claims(&web, &next);
    assert_eq!((&next.call, next.generation), (&known.id, Gen(1)), "begun before");
    let page = web.plane.metrics.scrape().unwrap();
    assert!(page.contains("control_unaided_total 4"), "{page}");

    // Control has heard of the end although nobody could commit it.
    web.plane.standby.hear(stay.node(), &[heard(&second, ending(EndReason::AgentHungUp))]);
    let (_, twiml) = web.hook(&resume_target(&twiml), &in_progress("CA2")).await;
    assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
}

#[tokio::test]
async fn without_the_database_a_call_is_still_given_up_in_the_end() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    web.plane.store.close().await;
    let (_, mut twiml) = web.voice("CA1").await;
    for _ in 1..=3 {
        (_, twiml) = web.hook(&resume_target(&twiml), &in_progress("CA1")).await;
        assert!(twiml.contains("<Connect>"), "{twiml}");
    }
    let (_, last) = web.hook(&resume_target(&twiml), &in_progress("CA1")).await;
    assert!(last.contains("<Say>We are sorry"), "{last}");
    let kept = &web.plane.standby.unwritten(1)[0].call;
    assert_eq!(kept.end_reason.as_deref(), Some("too_many_resumes"));
}

#[tokio::test]
async fn without_the_database_and_without_a_node_the_carrier_asks_again() {
    let web = Web::start().await;
    let (stay, _orders) = web.node("fra-1", 0);
    let (_, resume) = web.begun("CA1").await;
    stay.set_load(Load { calls: 10, calls_max: 10, ready: true, ..Load::default() });
    web.plane.store.close().await;
    let (_, twiml) = web.voice("CA2").await;
    assert!(twiml.contains(r#"<Response><Pause length="1"/><Redirect"#), "{twiml}");
    assert!(twiml.contains("/v1/twilio/voice?try=1#rc=3"), "{twiml}");
    let (_, twiml) = web.hook("/v1/twilio/voice?try=6", &inbound("CA2")).await;
    assert!(twiml.contains(r#"<Response><Reject reason="busy"/></Response>"#), "{twiml}");
    let (_, twiml) = web.hook("/v1/twilio/voice?try=6", &in_progress("CA2")).await;
    assert!(twiml.contains("<Say>All lines are busy."), "{twiml}");

    let (_, twiml) = web.hook(&resume, &in_progress("CA1")).await;
    assert_eq!(resume_target(&twiml), format!("{resume}?try=1"));
    let (_, twiml) = web.hook(&format!("{resume}?try=15"), &in_progress("CA1")).await;
    assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
}

#[tokio::test]
async fn without_the_database_the_carriers_last_word_is_kept() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, _) = web.begun("CA1").await;
    web.plane.store.close().await;
    let word = |sid| [("AccountSid", ACCOUNT), ("CallSid", sid), ("CallStatus", "completed")];
    assert_eq!(web.hook("/v1/twilio/status", &word("CA1")).await.0, 204);
    assert_eq!(web.plane.standby.call(&call.id).unwrap().state, CallState::Ended);
    assert_eq!(web.hook("/v1/twilio/status", &word("CA2")).await.0, 503, "nobody knows it");
}

/// Two instances on one database, of which the first has lost it; the document for a call that began
/// there since, and went on once.
async fn begun_apart(db: &TestDb) -> (Web, Web, String) {
    let (apart, other) = (Web::one_of(&db.url()).await, Web::one_of(&db.url()).await);
    for web in [&apart, &other] {
        // Both reach the same relay; its orders are not read.
        let (stay, orders) = web.node("fra-1", 0);
        std::mem::forget((stay, orders));
    }
    apart.plane.store.close().await;
    let (_, first) = apart.voice("CA1").await;
    let node = NodeId::new("fra-1").unwrap();
    apart.plane.standby.hear(&node, &[heard(&claims(&apart, &first), stream_started())]);
    let (_, second) = apart.hook(&resume_target(&first), &in_progress("CA1")).await;
    assert_eq!(claims(&apart, &second).generation, Gen(1));
    (apart, other, second)
}

async fn what_was_decided_without_the_database_is_written_when_it_is_back(db: &TestDb) {
    let (apart, other, twiml) = begun_apart(db).await;
    assert_eq!(other.call("CA1").await, None);
    let kept = apart.plane.standby.unwritten(10).remove(0);
    let caught = other.plane.store.catch_up(&kept, at(5)).await.unwrap();
    assert_eq!(caught, CaughtUp::Done);
    let call = other.call("CA1").await.unwrap();
    assert_eq!((call.state, call.generation), (CallState::Starting, Gen(1)));
    assert!(call.answered_at.is_some());
    assert_eq!(call.id, claims(&apart, &twiml).call);
    let (_, next) = other.hook(&resume_target(&twiml), &in_progress("CA1")).await;
    assert_eq!(claims(&other, &next).generation, Gen(2));
    let kinds: Vec<_> = other.records(2).await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["call.started", "call.answered"]);
}

async fn a_call_goes_on_at_another_instance_that_has_not_heard_of_it(db: &TestDb) {
    let (apart, other, twiml) = begun_apart(db).await;
    let begun = claims(&apart, &twiml);
    let (_, next) = other.hook(&resume_target(&twiml), &in_progress("CA1")).await;
    let next = claims(&other, &next);
    assert_eq!((&next.call, next.generation), (&begun.call, Gen(2)), "from its pass");
    let written = other.records(1).await;
    assert_eq!((written[0].kind.as_str(), &written[0].call), ("call.started", &Some(begun.call)));
    assert_eq!(other.call("CA1").await.unwrap().generation, Gen(2));
    // The first one's word comes later and is older.
    let kept = apart.plane.standby.unwritten(10).remove(0);
    other.plane.store.catch_up(&kept, at(5)).await.unwrap();
    let call = other.call("CA1").await.unwrap();
    assert_eq!((call.generation, call.answered_at.is_some()), (Gen(2), true));
}

async fn what_has_ended_stays_ended_and_a_stream_of_later_is_over(db: &TestDb) {
    let (apart, other, _) = begun_apart(db).await;
    let kept = apart.plane.standby.unwritten(10).remove(0);
    other.plane.store.catch_up(&kept, at(5)).await.unwrap();
    let call = other.call("CA1").await.unwrap();
    let end = control::store::Ending {
        reason: control::store::call::CallEnd::Stream(EndReason::OperatorHungUp),
        detail: None,
    };
    other.plane.store.end_call(&call.tenant, &call.id, end, at(6)).await.unwrap();
    let node = NodeId::new("fra-1").unwrap();
    let limits = Default::default();
    let question = Question { node: Some(&node), token: None, given: None, limits, now: at(7) };
    assert!(matches!(apart.plane.standby.resume(call, &question), Resume::Reconnect(_)));
    let kept = apart.plane.standby.unwritten(10).remove(0);
    let caught = other.plane.store.catch_up(&kept, at(8)).await.unwrap();
    assert_eq!(caught, CaughtUp::Over { node: Some(node), generation: Gen(2) });
    let call: Call = other.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("operator_hung_up"));
}

async fn a_call_that_is_written_twice_is_written_once(db: &TestDb) {
    let (apart, other, _) = begun_apart(db).await;
    let kept = apart.plane.standby.unwritten(10).remove(0);
    for _ in 0..2 {
        other.plane.store.catch_up(&kept, at(5)).await.unwrap();
    }
    other.plane.standby.keep(&started_call(&other.plane.store, "c_2").await);
    let kinds: Vec<_> = other.records(3).await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["call.started", "call.answered", "call.started"]);
    assert_eq!(
        other.plane.store.calls(&tenant(), &Default::default(), None, 9).await.unwrap().calls.len(),
        2
    );
}

#[tokio::test]
async fn an_older_stream_is_told_to_fall_silent_when_a_newer_one_begins_elsewhere() {
    let web = Web::start().await;
    let (a, mut orders) = web.node("a", 0);
    let (b, _orders) = web.node("b", 9);
    let (call, target) = web.begun("CA1").await;
    let (_, twiml) = web.voice("CA1").await;
    web.plane.standby.hear(a.node(), &[heard(&claims(&web, &twiml), stream_started())]);
    drop(call);
    a.set_load(Load { calls: 10, calls_max: 10, ready: true, ..Load::default() });
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    let next = claims(&web, &twiml);
    assert_eq!((next.node.as_str(), next.generation), ("b", Gen(1)));
    let due = web.plane.standby.hear(b.node(), &[heard(&next, stream_started())]);
    control::standby::tell(&web.plane, due);
    let told = next_command(&mut orders).await;
    let control::fleet::orders::Order::Do { call, generation, id, command } = told else {
        panic!("no command: {told:?}")
    };
    assert_eq!((call, generation, id, command), (next.call, Gen(0), None, Command::Yield));
}

#[tokio::test]
async fn the_calls_of_a_node_that_vanished_are_given_another_stream_over_the_carriers_api() {
    let carrier = super::carrier::Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let (gone, _orders) = web.node("a", 0);
    let (first, _) = web.begun("CA1").await;
    let (second, resume) = web.begun("CA2").await;
    let node = gone.node().clone();
    drop(gone);
    let _node = web.node("b", 0);
    // The carrier has noticed by itself that the second one's stream is over.
    web.hook(&resume, &in_progress("CA2")).await;
    carrier.will_answer(200, "{}");
    let reborn = move_calls(&web.plane, &node, LinkWord::Reborn).await;
    assert_eq!(reborn, 0, "a stream that has not begun may be one of the new life");
    assert_eq!(move_calls(&web.plane, &node, LinkWord::Silent).await, 1);
    let asked = carrier.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].path.ends_with("/Calls/CA1.json"), "{}", asked[0].path);
    let next = claims(&web, asked[0].values("Twiml")[0]);
    assert_eq!((&next.call, next.generation, next.node.as_str()), (&first.id, Gen(1), "b"));
    let calls = [web.call_by_id(first.id.as_str()).await, web.call_by_id(second.id.as_str()).await];
    assert!(calls.iter().all(|call| call.generation == Gen(1)), "{calls:?}");
    assert_eq!(move_calls(&web.plane, &node, LinkWord::Silent).await, 0, "once");
}

async fn the_calls_on_a_node_are_those_with_a_stream_there(db: &TestDb) {
    let store = db.open().await;
    for id in ["c_1", "c_2", "c_3"] {
        started_call(&store, id).await;
    }
    super::db::fresh_call(&store, "c_4").await;
    let over =
        store.call(&tenant(), &link::id::CallId::new("c_2").unwrap()).await.unwrap().unwrap();
    let reason = control::store::call::CallEnd::NoNode;
    let end = control::store::Ending { reason, detail: None };
    store.end_call(&over.tenant, &over.id, end, at(3)).await.unwrap();
    let there = store.calls_on(&super::db::node(), 10).await.unwrap();
    let names: Vec<_> = there.iter().map(|call| call.id.to_string()).collect();
    assert_eq!(names, ["c_1", "c_3"]);
    let to = NodeId::new("n2").unwrap();
    let moved = store.move_call(&there[0], &to).await.unwrap().unwrap();
    assert_eq!((moved.generation, moved.node.as_ref()), (Gen(1), Some(&to)));
    assert_eq!(store.move_call(&there[0], &to).await.unwrap(), None, "it has moved on");
}

#[tokio::test]
async fn an_agent_that_goes_on_is_told_which_tools_were_asked_for() {
    let web = Web::start().await;
    let (stay, mut orders) = web.node("a", 0);
    let (call, target) = web.begun("CA1").await;
    let intent = ToolIntent { name: "book_slot".into(), request: "call_1".into() };
    web.says("a", 1, &call, stream_started()).await;
    web.says("a", 2, &call, CallEvent::ToolIntended(intent)).await;
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    let next = claims(&web, &twiml);
    let due = web.plane.standby.hear(stay.node(), &[heard(&next, stream_started())]);
    control::standby::tell(&web.plane, due);
    let told = next_command(&mut orders).await;
    let control::fleet::orders::Order::Do { generation, command, .. } = told else {
        panic!("no command: {told:?}")
    };
    let Command::Inject { text } = command else { panic!("instead: {command:?}") };
    assert_eq!(generation, Gen(1));
    assert!(text.contains("book_slot: asked for when the line was lost"), "{text}");
}

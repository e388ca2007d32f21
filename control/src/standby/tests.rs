//! What is decided in memory, and what is left to be written.

use link::event::{CallRef, EndReason};
use link::id::{AgentName, EventNumber, TenantId};

use super::*;
use crate::store::call::{Direction, NewCall, Number, ResumeLimits};

const NOW: WallTime = WallTime(1_795_514_400_000_000);

fn fresh(id: &str) -> Call {
    let new = NewCall {
        id: CallId::new(id).unwrap(),
        tenant: TenantId::default(),
        carrier: Some(carrier(id)),
        direction: Direction::Inbound,
        from: Number("+15550100".into()),
        to: Number("+15550101".into()),
        agent: AgentName::new("front-desk").unwrap(),
        agent_version: 1,
        run: None,
    };
    new.begin_life(NOW)
}

fn carrier(id: &str) -> CarrierIds {
    CarrierIds { account_sid: "AC1".into(), call_sid: format!("CA-{id}") }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn event(call: &Call, generation: u32, event: CallEvent) -> NodeEvent {
    let (id, tenant) = (call.id.clone(), call.tenant.clone());
    let call = Some(CallRef { id, tenant, generation: Gen(generation) });
    NodeEvent { n: EventNumber(1), at: NOW.plus_us(1), call, event }
}

fn started() -> CallEvent {
    CallEvent::StreamStarted { stream_sid: "MZ1".into() }
}

fn ending() -> CallEvent {
    CallEvent::Ending { reason: EndReason::AgentHungUp, detail: None, transfer_to: None }
}

fn kinds(unwritten: &Unwritten) -> Vec<&str> {
    unwritten.facts().iter().map(|(_, fact)| fact.kind).collect()
}

fn ask<'a>(node: &'a NodeId, token: &'a str) -> Question<'a> {
    let limits = ResumeLimits::default();
    Question { node: Some(node), token: Some(token), given: None, limits, now: NOW }
}

#[test]
fn a_call_that_begins_here_waits_to_be_written_with_what_happened_in_it() {
    let standby = Standby::default();
    let call = standby.begin(fresh("c_1"), &node("a"), NOW).unwrap();
    assert_eq!((call.state, call.generation), (CallState::Starting, Gen(0)));
    assert_eq!(standby.call_by_carrier(&carrier("c_1")), Some(call.clone()), "it is found again");
    standby.hear(&node("a"), &[event(&call, 0, started())]);
    standby.hear(&node("a"), &[event(&call, 0, ending())]);
    let unwritten = standby.unwritten(10);
    assert_eq!(kinds(&unwritten[0]), ["call.started", "call.answered", "call.ended"]);
    assert_eq!(unwritten[0].call.state, CallState::Ended);
    standby.written(&unwritten[0]);
    assert!(standby.unwritten(10).is_empty());
}

#[test]
fn what_happens_while_a_call_is_written_is_written_after_it() {
    let standby = Standby::default();
    let call = standby.begin(fresh("c_1"), &node("a"), NOW).unwrap();
    let first = standby.unwritten(10).remove(0);
    standby.hear(&node("a"), &[event(&call, 0, started())]);
    standby.written(&first);
    let second = standby.unwritten(10).remove(0);
    assert_eq!((second.call.state, kinds(&second)), (CallState::Active, vec![]));
    standby.written(&second);
    assert!(standby.unwritten(10).is_empty());
}

#[test]
fn a_call_that_the_database_has_waits_only_for_what_was_decided_here() {
    let standby = Standby::default();
    let mut call = fresh("c_1");
    call.begin(&node("a"), NOW);
    standby.keep(&call);
    standby.hear(&node("a"), &[event(&call, 0, started())]);
    assert!(standby.unwritten(10).is_empty(), "the relay tells the database itself");
    let (b, again) = (node("b"), standby.call(&call.id).unwrap());
    let Resume::Reconnect(next) = standby.resume(again.clone(), &ask(&b, "t1")) else { panic!() };
    assert_eq!((next.generation, next.node.as_ref()), (Gen(1), Some(&b)));
    assert_eq!(standby.resume(again, &ask(&b, "t1")), Resume::Reconnect(next), "asked again");
    standby.keep(&call);
    assert_eq!(standby.unwritten(10)[0].call.generation, Gen(1), "an older word is not taken");
}

#[test]
fn a_call_of_another_instance_goes_on_from_its_pass() {
    let standby = Standby::default();
    let (a, mut call) = (node("a"), fresh("c_1"));
    (call.state, call.generation) = (CallState::Detached, Gen(4));
    let Resume::Reconnect(next) = standby.resume(call.clone(), &ask(&a, "t1")) else { panic!() };
    assert_eq!(next.generation, Gen(5));
    // Another instance has given out two more streams meanwhile.
    let question = Question { given: Some(Gen(7)), ..ask(&a, "t2") };
    let Resume::Reconnect(next) = standby.resume(call, &question) else { panic!() };
    assert_eq!(next.generation, Gen(8));
}

#[test]
fn an_end_that_a_relay_has_told_of_is_an_end_although_it_is_not_committed() {
    let standby = Standby::default();
    let (a, call) = (node("a"), standby.begin(fresh("c_1"), &node("a"), NOW).unwrap());
    standby.hear(&a, &[event(&call, 0, started()), event(&call, 0, ending())]);
    assert_eq!(standby.resume(call, &ask(&a, "t1")), Resume::HangUp);
}

#[test]
fn an_end_is_known_to_a_control_that_takes_no_events() {
    let standby = Standby::default();
    let (a, call) = (node("a"), standby.begin(fresh("c_1"), &node("a"), NOW).unwrap());
    let decided = |generation| {
        let (id, tenant) = (call.id.clone(), call.tenant.clone());
        let call = CallRef { id, tenant, generation: Gen(generation) };
        let decided = Decided { reason: EndReason::AgentHungUp, transfer_to: None };
        Ephemeral { at: NOW, call, event: Passing::Decided(decided) }
    };
    let Resume::Reconnect(call) = standby.resume(call.clone(), &ask(&a, "t1")) else { panic!() };
    standby.hear_decided(&a, &[decided(0)]);
    assert_eq!(standby.call(&call.id).unwrap().state, CallState::Starting, "an older stream");
    standby.hear_decided(&a, &[decided(1)]);
    assert_eq!(standby.resume(*call, &ask(&a, "t2")), Resume::HangUp);
}

#[test]
fn an_older_stream_falls_silent_when_a_newer_one_begins_elsewhere() {
    let standby = Standby::default();
    let (a, b) = (node("a"), node("b"));
    let call = standby.begin(fresh("c_1"), &a, NOW).unwrap();
    assert!(standby.hear(&a, &[event(&call, 0, started())]).is_empty());
    let due = standby.hear(&b, &[event(&call, 1, started())]);
    let (id, command) = (call.id.clone(), Command::Yield);
    assert_eq!(due, [Due { node: a.clone(), call: id, generation: Gen(0), command }]);
    assert_eq!(standby.call(&call.id).unwrap().node, Some(b.clone()));
    // Sent again after a link broke, and said by the older one too late.
    assert!(standby.hear(&b, &[event(&call, 1, started())]).is_empty());
    assert!(standby.hear(&a, &[event(&call, 0, started())]).is_empty(), "it is told nothing");
    assert_eq!(standby.call(&call.id).unwrap().generation, Gen(1));
    // On the same node the relay has seen to it.
    assert!(standby.hear(&b, &[event(&call, 2, started())]).is_empty());
}

#[test]
fn a_note_is_told_to_the_stream_that_it_was_left_for_and_once() {
    let standby = Standby::default();
    let mut call = standby.begin(fresh("c_1"), &node("a"), NOW).unwrap();
    call.generation = Gen(1);
    standby.leave_note(&call, "Do not book again.".into());
    assert!(standby.hear(&node("a"), &[event(&call, 0, started())]).is_empty());
    let due = standby.hear(&node("a"), &[event(&call, 1, started())]);
    let text = "Do not book again.".to_owned();
    assert_eq!(due[0].command, Command::Inject { text });
    assert!(standby.hear(&node("a"), &[event(&call, 1, started())]).is_empty());
}

#[test]
fn when_all_is_full_calls_that_are_over_are_forgotten_first_and_none_that_waits() {
    let standby = Standby::default();
    let mut over = fresh("c_z");
    over.end(CallEnd::NoNode, None, NOW);
    standby.keep(&over);
    for n in 1..CALLS_MAX {
        standby.keep(&fresh(&format!("c_{n:06}")));
    }
    standby.begin(fresh("c_new"), &node("a"), NOW).unwrap();
    assert_eq!(standby.call(&over.id), None);
    assert_eq!(standby.call_by_carrier(&carrier("c_z")), None);
    standby.keep(&fresh("c_newer"));
    assert_eq!(standby.call(&CallId::new("c_000001").unwrap()), None, "the oldest id");
    for n in 2..CALLS_MAX {
        standby.begin(fresh(&format!("c_{n:06}")), &node("a"), NOW).unwrap();
    }
    standby.begin(fresh("c_newer"), &node("a"), NOW).unwrap();
    assert_eq!(standby.begin(fresh("c_newest"), &node("a"), NOW), Err(Full));
    assert!(standby.call(&CallId::new("c_new").unwrap()).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_database_that_has_just_failed_is_waited_for_less() {
    let standby = Standby::default();
    let now = clock::steady();
    assert_eq!(standby.patience(now), DECIDED_WITHIN);
    standby.failed(now);
    assert_eq!(standby.patience(now + Duration::from_millis(1_999)), DECIDED_SOON);
    assert_eq!(standby.patience(now + Duration::from_secs(2)), DECIDED_WITHIN);
}

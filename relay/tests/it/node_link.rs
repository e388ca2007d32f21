//! The relay's end of the link, between the real process and a control of a few lines.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use link::ephemeral::{Decided, Passing};
use link::event::{CallEvent, EndReason, NodeEvent};
use link::frame::Channel;
use link::id::{CallId, CommandId, EventNumber, Gen, NodeId};
use link::message::{Command, ToControl, ToRelay, Version};

use crate::node_rig::{Authority, Control, SIGNATURE, Session};
use crate::process_rig::{Carrier, Model, Relay, carrier, start, ticket};

async fn begin(relay: &Relay, control: &Control, call: &str) -> Carrier {
    let ticket = ticket(&control.key, |claims| claims.call = call.to_owned().try_into().unwrap());
    let mut carrier = relay.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(&start(&ticket)).await;
    carrier
}

async fn until_started(session: &mut Session) -> Vec<NodeEvent> {
    session.events_until(|event| matches!(event, CallEvent::StreamStarted { .. })).await
}

fn is_end(event: &CallEvent) -> bool {
    matches!(event, CallEvent::StreamEnded { .. })
}

#[tokio::test]
async fn a_relay_says_who_it_is_and_is_ready_once_it_is_synced() {
    let (control, model) = (Control::start(), Model::start().await);
    let settings = control.settings();
    let (relay, (mut session, hello)) = tokio::join!(Relay::start(&settings), control.accept());
    assert_eq!(hello.node.as_str(), "n1");
    assert_eq!(hello.secret.reveal(), "hush");
    assert_eq!(hello.public_url, "wss://relay.test");
    assert_eq!(relay.ask("/readyz").await.0, 503);
    assert_eq!(relay.open(Some(SIGNATURE)).await.err(), Some(503));
    session.welcome(0).await;
    session.sync(&control.key, model.address).await;
    // Its first word is that it takes calls: one that does not would be taken for a full node.
    let ToControl::Load(load) = session.next().await else { panic!("another first word") };
    assert!(load.ready && load.calls == 0, "{load:?}");
    assert_eq!(relay.ask("/readyz").await.0, 200);
    assert_eq!(relay.open(Some("forged=")).await.err(), Some(403));
    assert_eq!(relay.open(None).await.err(), Some(403));
    assert!(relay.open(Some(SIGNATURE)).await.is_ok());
    assert!(!relay.log().contains("hush"), "the join secret is in the log");
}

#[tokio::test]
async fn events_are_dense_and_forgotten_once_acknowledged() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    session.load_until(|load| load.calls == 1).await;
    carrier.hang_up().await;
    let last = session.events_until(is_end).await.pop().unwrap();
    assert_eq!(session.numbers, (1..=last.n.0).collect::<Vec<_>>());
    assert_eq!(last.call.unwrap().id.as_str(), "c_1");
    let CallEvent::StreamEnded { reason, .. } = last.event else { panic!("{:?}", last.event) };
    assert_eq!(reason, EndReason::CallerHungUp);
    relay.until_metric(&format!("relay_events_waiting {}", last.n.0)).await;
    session.acknowledge(last.n).await;
    relay.until_metric("relay_events_waiting 0").await;
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    until_started(&mut session).await;
    assert_eq!(session.numbers[0], 1);
    session.cut();
    relay.until_metric("relay_link_up 0").await;

    // Nothing else changes: the node is ready, the call goes on, another one begins and ends.
    assert_eq!(relay.ask("/readyz").await.0, 200);
    begin(&relay, &control, "c_2").await.hang_up().await;
    relay.until_metric("relay_streams_ended_total{reason=\"caller_hung_up\"} 1").await;

    let mut session = control.welcome(1, model.address).await;
    let last = session.events_until(is_end).await.pop().unwrap();
    let all_but_the_acknowledged: Vec<u64> = (2..=last.n.0).collect();
    assert_eq!(session.numbers, all_but_the_acknowledged);
    carrier.hang_up().await;
    session.events_until(is_end).await;
}

#[tokio::test]
async fn a_command_ends_its_call_once_the_decision_is_committed() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    until_started(&mut session).await;
    let call = CallId::new("c_1").unwrap();
    let hang_up = |n: u32| ToRelay::Command {
        call: call.clone(),
        generation: Gen(n),
        id: None,
        command: Command::HangUp,
    };
    // Another generation of the call is elsewhere, and none of this node's business.
    session.say(&hang_up(1)).await;
    session.say(&hang_up(0)).await;
    // Every control hears of it, and the one that numbers events commits it.
    let is_ending = |event: &NodeEvent| matches!(event.event, CallEvent::Ending { .. });
    let (mut told, mut ending) = (None, None);
    while told.is_none() || ending.is_none() {
        let message = session.next().await;
        if let ToControl::Ephemeral { events } = message {
            told = Some(events[0].event.clone());
        } else if let ToControl::Events { events } = message {
            ending = ending.or(events.into_iter().find(is_ending));
        }
    }
    let decided = Decided { reason: EndReason::OperatorHungUp, transfer_to: None };
    assert_eq!(told, Some(Passing::Decided(decided)));
    session.acknowledge(ending.unwrap().n).await;
    assert_eq!(carrier.closed().await, 1000);
    let events = session.events_until(is_end).await;
    let CallEvent::StreamEnded { reason, .. } = &events.last().unwrap().event else { panic!() };
    assert_eq!(*reason, EndReason::OperatorHungUp);
}

#[tokio::test]
async fn a_stream_that_a_newer_one_has_replaced_elsewhere_falls_silent_and_finalises_nothing() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    until_started(&mut session).await;
    let call = CallId::new("c_1").unwrap();
    let (generation, command) = (Gen(0), Command::Yield);
    session.say(&ToRelay::Command { call, generation, id: None, command }).await;
    assert_eq!(carrier.closed().await, 1000);
    let events = session.events_until(is_end).await;
    let CallEvent::StreamEnded { reason, .. } = &events.last().unwrap().event else { panic!() };
    assert_eq!(*reason, EndReason::Superseded);
    let finalises = |event: &NodeEvent| matches!(event.event, CallEvent::Ending { .. });
    assert!(!events.iter().any(finalises), "{events:?}");
    relay.until_metric("relay_calls 0").await;
}

#[tokio::test]
async fn a_call_leaves_for_another_node_once_that_is_committed() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    session.events_until(|event| matches!(event, CallEvent::AgentReady { .. })).await;
    let to = Some(NodeId::new("n2").unwrap());
    let command = Command::Leave { within_ms: 60_000, anyway: false, to: to.clone() };
    let call = CallId::new("c_1").unwrap();
    session.say(&ToRelay::Command { call, generation: Gen(0), id: None, command }).await;
    let is_leaving = |event: &CallEvent| matches!(event, CallEvent::StreamLeaving { .. });
    let events = session.events_until(is_leaving).await;
    let leaving = events.iter().find(|event| is_leaving(&event.event)).unwrap();
    assert_eq!(leaving.event, CallEvent::StreamLeaving { to });
    session.acknowledge(leaving.n).await;
    assert_eq!(carrier.closed().await, 1001);
    let last = session.events_until(is_end).await.pop().unwrap();
    let CallEvent::StreamEnded { reason, .. } = last.event else { panic!("{:?}", last.event) };
    assert_eq!(reason, EndReason::Drained);
    relay.until_metric("relay_calls 0").await;
}

#[tokio::test]
async fn every_command_that_wants_an_answer_gets_one() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    let is_ready = |event: &CallEvent| matches!(event, CallEvent::AgentReady { .. });
    session.events_until(is_ready).await;
    let order = |call: &str, id: &str, command| ToRelay::Command {
        call: CallId::new(call).unwrap(),
        generation: Gen(0),
        id: Some(CommandId::new(id).unwrap()),
        command,
    };
    let inject = || Command::Inject { text: "It rains.".into() };
    session.say(&order("c_1", "cmd_1", inject())).await;
    assert_eq!(answer(&mut session, "cmd_1").await, ("c_1".into(), None));
    session.say(&order("c_gone", "cmd_2", inject())).await;
    let not_here = Some("the call is not on this node".to_owned());
    assert_eq!(answer(&mut session, "cmd_2").await, ("c_gone".into(), not_here.clone()));
    session.say(&order("c_1", "cmd_3", Command::Unknown)).await;
    let unknown = Some("this relay does not know the command".to_owned());
    assert_eq!(answer(&mut session, "cmd_3").await, ("c_1".into(), unknown));
    carrier.hang_up().await;
    session.events_until(is_end).await;
    relay.until_metric("relay_calls 0").await;
    session.say(&order("c_1", "cmd_4", Command::HangUp)).await;
    assert_eq!(answer(&mut session, "cmd_4").await, ("c_1".into(), not_here));
    relay.until_metric("relay_commands_total{outcome=\"done\"} 1").await;
    relay.until_metric("relay_commands_total{outcome=\"refused\"} 3").await;
}

/// How a command is answered, and as whose call's.
async fn answer(session: &mut Session, command: &str) -> (String, Option<String>) {
    let is_it = |event: &CallEvent| matches!(event, CallEvent::CommandDone { id, .. } if id.as_str() == command);
    let events = session.events_until(is_it).await;
    let event = events.into_iter().find(|event| is_it(&event.event)).unwrap();
    let CallEvent::CommandDone { refused, .. } = event.event else { unreachable!() };
    (event.call.unwrap().id.to_string(), refused)
}

#[tokio::test]
async fn a_refused_stream_is_told_with_the_reason_and_the_call_that_was_proved() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let ticket = ticket(&control.key, |claims| claims.bearer = carrier("CA2"));
    let mut carrier = relay.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(&start(&ticket)).await;
    assert_eq!(carrier.closed().await, 1008);
    let events = session.events().await;
    let why = CallEvent::StreamRefused { why: "the ticket is for another CallSid".into() };
    assert_eq!(events[0].event, why);
    assert!(events[0].call.is_some());
    let mut carrier = relay.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(r#"{"event":"start"}"#).await;
    assert_eq!(session.events().await[0].call, None);
}

#[tokio::test]
async fn what_a_newer_control_says_is_skipped_and_counted() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    session.say_raw(Channel::Session, serde_json::json!({"m": "sing", "song": 3})).await;
    session.say_raw(Channel::Other(9), serde_json::json!({"m": "synced"})).await;
    session.say_raw(Channel::Config, serde_json::json!({"m": "agent", "name": 7})).await;
    relay.until_metric("relay_link_messages_unknown_total 3").await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    until_started(&mut session).await;
    carrier.hang_up().await;
    relay.until_metric("relay_link_up 1").await;
}

#[tokio::test]
async fn an_agent_with_problems_is_not_taken() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let spec = serde_json::json!({
        "name": "front-desk", "version": 2, "instructions": " ",
        "provider": {"kind": "openai_realtime"},
    });
    session.say(&ToRelay::Agent(serde_json::from_value(spec).unwrap())).await;
    session.say(&ToRelay::Unknown).await;
    relay.until_metric("relay_link_messages_unknown_total 1").await;
    assert!(relay.log().contains("a pushed agent is not taken"), "{}", relay.log());
    let ticket = ticket(&control.key, |claims| claims.agent_version = 2);
    let mut carrier = relay.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(&start(&ticket)).await;
    assert_eq!(carrier.closed().await, 1008);
}

#[tokio::test]
async fn a_refused_relay_says_so_loudly_and_lives() {
    let control = Control::start();
    let settings = control.settings();
    let (mut relay, (mut session, _)) = tokio::join!(Relay::start(&settings), control.accept());
    let why = "unknown join secret; run `control join-token`".to_owned();
    session.say(&ToRelay::Refused { why: why.clone() }).await;
    relay.until_metric("relay_link_attempts_total{outcome=\"refused\"} 1").await;
    let log = relay.log();
    assert!(log.contains("ERROR") && log.contains(&why), "{log}");
    assert!(relay.is_running());
    assert_eq!(relay.ask("/livez").await.0, 200);
    relay.signal("-TERM");
    assert_eq!(relay.exit().await.code(), Some(0));
}

#[tokio::test]
async fn another_major_version_is_a_refusal() {
    let control = Control::start();
    let settings = control.settings();
    let (relay, (mut session, _)) = tokio::join!(Relay::start(&settings), control.accept());
    let version = Version { major: 2, minor: 0 };
    let welcome = ToRelay::Welcome { version, acked: EventNumber(0), control: None };
    session.say(&welcome).await;
    relay.until_metric("relay_link_attempts_total{outcome=\"refused\"} 1").await;
}

#[tokio::test]
async fn only_the_certificate_of_the_join_token_is_trusted() {
    let control = Control::start();
    let settings = control.settings_trusting(&Authority::new());
    let relay = Relay::start(&settings).await;
    let refused = async {
        // The handshake has to be served for the relay to see the certificate.
        loop {
            assert!(control.handshake_fails().await);
        }
    };
    tokio::select! {
        () = relay.until_metric("relay_link_attempts_total{outcome=\"failed\"} 1") => {}
        () = refused => {}
    }
    assert_eq!(relay.ask("/readyz").await.0, 503);
}

#[tokio::test]
async fn a_stop_gives_the_last_events_to_control() {
    let (control, model) = (Control::start(), Model::start().await);
    let (mut relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    until_started(&mut session).await;
    relay.signal("-TERM");
    session.load_until(|load| !load.ready).await;
    relay.signal("-TERM");
    let events = session.events_until(is_end).await;
    let last = events.last().unwrap();
    let CallEvent::StreamEnded { reason, .. } = &last.event else { panic!("{:?}", last.event) };
    assert_eq!(*reason, EndReason::Drained);
    assert_eq!(carrier.closed().await, 1001);
    session.acknowledge(last.n).await;
    assert_eq!(relay.exit().await.code(), Some(0));
    assert!(!relay.log().contains("left behind"), "{}", relay.log());
}

#[tokio::test]
async fn a_stop_waits_for_control_and_not_for_ever() {
    let (control, model) = (Control::start(), Model::start().await);
    let (mut relay, mut session) = control.relay(model.address).await;
    begin(&relay, &control, "c_1").await.hang_up().await;
    session.events_until(is_end).await;
    relay.until_metric("relay_calls 0").await;
    relay.signal("-TERM");
    assert_eq!(relay.exit().await.code(), Some(0));
    assert!(relay.log().contains("events are left behind"), "{}", relay.log());
}

#[tokio::test]
async fn a_drained_node_takes_no_call_until_that_is_taken_back_and_its_calls_go_on() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut carrier = begin(&relay, &control, "c_1").await;
    until_started(&mut session).await;
    session.say(&ToRelay::Drain { on: true }).await;
    session.load_until(|load| load.draining && !load.ready && load.calls == 1).await;
    assert_eq!(relay.open(Some(SIGNATURE)).await.err(), Some(503));
    // A platform that would cut off what still runs is not asked to.
    assert_eq!(relay.ask("/readyz").await.0, 200);
    // What a control says that comes back does not open the door.
    session.say(&ToRelay::Synced).await;
    session.say(&ToRelay::Drain { on: false }).await;
    session.load_until(|load| load.ready && !load.draining && load.calls == 1).await;
    assert!(relay.open(Some(SIGNATURE)).await.is_ok());
    carrier.hang_up().await;
    let last = session.events_until(is_end).await.pop().unwrap();
    let CallEvent::StreamEnded { reason, .. } = last.event else { panic!("{:?}", last.event) };
    assert_eq!(reason, EndReason::CallerHungUp);
}

//! A relay with several controls: linked to each, events to the one that numbers them, commands from
//! any.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use link::ephemeral::Passing;
use link::event::{CallEvent, EndReason, Role};
use link::id::{CallId, Gen};
use link::message::{Command, ToRelay};

use crate::node_rig::{Control, SIGNATURE, Session};
use crate::process_rig::{Carrier, Model, Relay, start, ticket};

/// Two controls of one database and a relay that is linked to both.
struct Pair {
    controls: [Control; 2],
    a: Session,
    b: Session,
    relay: Relay,
    _model: Model,
}

impl Pair {
    /// Both let the relay in; the first one holds the lease, in term 1.
    async fn start() -> Self {
        Self::start_with(Model::start().await).await
    }

    async fn start_with(model: Model) -> Self {
        let one = Control::start();
        let controls = [Control::start_beside(&one), one];
        let settings = controls[0].settings_with(&controls[1]);
        let (relay, (mut a, _), (mut b, _)) =
            tokio::join!(Relay::start(&settings), controls[0].accept(), controls[1].accept());
        for (session, name, term) in [(&mut a, "c-a", Some(1)), (&mut b, "c-b", None)] {
            session.welcome_as(name, 0).await;
            session.sync(&controls[0].key, model.address).await;
            session.lease(term).await;
        }
        relay.until_metric("relay_link_controls 2").await;
        relay.until("/readyz", |status, _| status == 200).await;
        Self { controls, a, b, relay, _model: model }
    }

    async fn call(&self, call: &str) -> Carrier {
        let named = |claims: &mut link::ticket::Claims| {
            claims.call = call.to_owned().try_into().unwrap();
        };
        let ticket = ticket(&self.controls[0].key, named);
        let mut carrier = self.relay.open(Some(SIGNATURE)).await.unwrap();
        carrier.say(&start(&ticket)).await;
        carrier
    }
}

fn is_end(event: &CallEvent) -> bool {
    matches!(event, CallEvent::StreamEnded { .. })
}

fn is_start(event: &CallEvent) -> bool {
    matches!(event, CallEvent::StreamStarted { .. })
}

fn all_up_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

#[tokio::test]
async fn events_move_with_the_lease_and_none_is_left_behind() {
    let mut pair = Pair::start().await;
    let mut carrier = pair.call("c_1").await;
    pair.a.events_until(is_start).await;
    // The other has taken over and says so before the first one knows.
    pair.b.lease(Some(2)).await;
    carrier.hang_up().await;
    let last = pair.b.events_until(is_end).await.pop().unwrap();
    assert_eq!(pair.b.numbers, all_up_to(last.n.0), "what `a` has not acknowledged comes again");
    // Neither a late word of the old holder nor its loss changes anything.
    pair.a.lease(Some(1)).await;
    pair.a.cut();
    pair.call("c_2").await.hang_up().await;
    let last = pair.b.events_until(is_end).await.pop().unwrap();
    assert_eq!(pair.b.numbers, all_up_to(last.n.0));
    pair.relay.until_metric(&format!("relay_events_waiting {}", last.n.0)).await;
    pair.b.acknowledge(last.n).await;
    pair.relay.until_metric("relay_events_waiting 0").await;
}

#[tokio::test]
async fn a_new_term_of_the_same_control_gets_everything_again() {
    let mut pair = Pair::start().await;
    let mut carrier = pair.call("c_1").await;
    let first = pair.a.events_until(is_start).await.pop().unwrap();
    // What it had not committed when it lost the lease is lost to it.
    let told = pair.a.numbers.len();
    pair.a.lease(Some(3)).await;
    // Some of the first term may still come; from the change on it begins anew.
    let from = loop {
        pair.a.events().await;
        if let Some(at) = pair.a.numbers[told..].iter().position(|n| *n == 1) {
            break told + at;
        }
    };
    carrier.hang_up().await;
    pair.a.events_until(is_end).await;
    let again = &pair.a.numbers[from..];
    assert_eq!(again, all_up_to(*again.last().unwrap()));
    assert!(again.contains(&first.n.0));
}

#[tokio::test]
async fn nothing_is_told_while_nobody_holds_the_lease() {
    let mut pair = Pair::start().await;
    pair.a.lease(None).await;
    pair.call("c_1").await.hang_up().await;
    pair.relay.until_metric("relay_streams_ended_total{reason=\"caller_hung_up\"} 1").await;
    pair.b.lease(Some(2)).await;
    let last = pair.b.events_until(is_end).await.pop().unwrap();
    assert_eq!(pair.b.numbers, all_up_to(last.n.0));
    // What `a` was told before it gave the lease back, if anything, was told in order.
    pair.a.load_until(|load| load.calls == 0).await;
    assert_eq!(pair.a.numbers, all_up_to(pair.a.numbers.len() as u64));
}

#[tokio::test]
async fn commands_come_from_any_and_their_answer_goes_to_the_holder() {
    let mut pair = Pair::start().await;
    let mut carrier = pair.call("c_1").await;
    pair.a.events_until(is_start).await;
    let call = CallId::new("c_1").unwrap();
    let command = Command::HangUp;
    pair.b.say(&ToRelay::Command { call, generation: Gen(0), id: None, command }).await;
    let is_ending = |event: &CallEvent| matches!(event, CallEvent::Ending { .. });
    let events = pair.a.events_until(is_ending).await;
    let ending = events.iter().find(|event| is_ending(&event.event)).unwrap();
    pair.a.acknowledge(ending.n).await;
    assert_eq!(carrier.closed().await, 1000);
    let last = pair.a.events_until(is_end).await.pop().unwrap();
    let CallEvent::StreamEnded { reason, .. } = last.event else { panic!() };
    assert_eq!(reason, EndReason::OperatorHungUp);
    assert!(pair.b.numbers.is_empty(), "only the holder is told events");
}

#[tokio::test]
async fn words_for_the_moment_reach_every_control_once_and_have_no_number() {
    let mut pair = Pair::start_with(Model::transcribing("Are you open?").await).await;
    let mut carrier = pair.call("c_1").await;
    for session in [&mut pair.a, &mut pair.b] {
        let told = session.passing().await;
        assert_eq!((told.len(), told[0].call.id.as_str()), (1, "c_1"));
        let Passing::TranscriptDelta(delta) = &told[0].event else { panic!("{told:?}") };
        assert_eq!((delta.role, delta.text.as_str()), (Role::Caller, "Are you open?"));
    }
    carrier.hang_up().await;
    let last = pair.a.events_until(is_end).await.pop().unwrap();
    assert_eq!(pair.a.numbers, all_up_to(last.n.0));
    assert!(pair.b.numbers.is_empty(), "only the holder is told what is numbered");
}

#[tokio::test]
async fn a_control_that_was_lost_is_found_again() {
    let mut pair = Pair::start().await;
    pair.b.cut();
    pair.relay.until_metric("relay_link_controls 1").await;
    let (mut again, _) = pair.controls[1].accept().await;
    again.welcome_as("c-b", 0).await;
    pair.relay.until_metric("relay_link_controls 2").await;
    again.lease(Some(2)).await;
    pair.call("c_1").await.hang_up().await;
    let last = again.events_until(is_end).await.pop().unwrap();
    again.acknowledge(last.n).await;
    pair.relay.until_metric("relay_events_waiting 0").await;
    pair.a.load_until(|_| true).await;
}

#[tokio::test]
async fn a_control_at_two_addresses_is_linked_once() {
    let (one, model) = (Control::start(), Model::start().await);
    let controls = [Control::start_beside(&one), one];
    let settings = controls[0].settings_with(&controls[1]);
    let (relay, (mut first, _), (mut second, _)) =
        tokio::join!(Relay::start(&settings), controls[0].accept(), controls[1].accept());
    first.welcome_as("c-a", 0).await;
    first.sync(&controls[0].key, model.address).await;
    // From here on it counts as one that is reached.
    first.load_until(|_| true).await;
    second.welcome_as("c-a", 0).await;
    // It leaves before it says anything that would make it a member.
    second.closed().await;
    relay.until_metric("relay_link_attempts_total{outcome=\"twin\"} 1").await;
    relay.until_metric("relay_link_controls 1").await;
    first.load_until(|_| true).await;
}

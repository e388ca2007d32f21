//! The heartbeat between a real relay and a control of a few lines, and what both do with another
//! version of the link.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use base64_simd::URL_SAFE_NO_PAD;
use link::event::CallEvent;
use link::frame::Channel;
use link::id::{ControlId, EventNumber};
use link::message::{ToRelay, VERSION, Version};

use crate::node_rig::{Control, SIGNATURE, Session};
use crate::process_rig::{Carrier, Model, Relay, media, start, ticket};

async fn begin(relay: &Relay, control: &Control, call: &str) -> Carrier {
    let ticket = ticket(&control.key, |claims| claims.call = call.to_owned().try_into().unwrap());
    let mut carrier = relay.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(&start(&ticket)).await;
    carrier
}

async fn until_started(session: &mut Session) {
    session.events_until(|event| matches!(event, CallEvent::StreamStarted { .. })).await;
}

#[tokio::test]
async fn a_relay_beats_counts_the_frames_that_it_moves_and_says_what_it_heard() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, mut session) = control.relay(model.address).await;
    let mut beats = session.beats().await;
    let first = beats.next().await;
    assert_eq!((first.progress, first.load.calls, first.beat.heard_us), (0, 0, None));
    let mut carrier = begin(&relay, &control, "c_1").await;
    until_started(&mut session).await;
    for chunk in 1..=3 {
        carrier.say(&media(chunk)).await;
    }
    let moved = beats.until(|beat| beat.progress >= 3 && beat.load.calls == 1).await;
    carrier.hang_up().await;
    let ended = beats.until(|beat| beat.load.calls == 0).await;
    assert!(ended.progress >= moved.progress, "it only grows");
    assert!(ended.beat.sent_us > first.beat.sent_us);
    // From its first beat on control is judged; until then it was not.
    beats.say(77, Some(ended.beat.sent_us)).await;
    beats.until(|beat| beat.beat.heard_us == Some(77)).await;
}

#[tokio::test]
async fn a_control_that_falls_silent_is_left_and_dialled_again_while_the_other_goes_on() {
    let control = Control::start();
    let (other, model) = (Control::start_beside(&control), Model::start().await);
    let settings = control.settings_with(&other);
    let (relay, (mut session, _), (mut beside, _)) =
        tokio::join!(Relay::start(&settings), control.accept(), other.accept());
    session.welcome_as("c-1", 0).await;
    beside.welcome_as("c-2", 0).await;
    beside.lease(Some(1)).await;
    for session in [&mut session, &mut beside] {
        session.sync(&control.key, model.address).await;
    }
    relay.until_metric("relay_link_controls 2").await;
    let (mut silent, mut alive) = (session.beats().await, beside.beats().await);
    let heard = silent.next().await.beat.sent_us;
    silent.say(1, Some(heard)).await;
    let beating = async {
        loop {
            let heard = alive.next().await.beat.sent_us;
            alive.say(heard, Some(heard)).await;
        }
    };
    let left = async {
        session.closed().await;
        let _again = control.accept().await;
        relay.until_log("control is silent").await;
        let mut carrier = begin(&relay, &control, "c_1").await;
        until_started(&mut beside).await;
        carrier.hang_up().await;
    };
    tokio::select! {
        () = left => {}
        () = beating => {}
    }
}

#[tokio::test]
async fn a_control_that_does_not_hear_the_relay_is_left_although_it_beats() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, session) = control.relay(model.address).await;
    let mut beats = session.beats().await;
    let first = beats.next().await.beat.sent_us;
    let deaf = async {
        loop {
            beats.say(1, Some(first)).await;
            beats.next().await;
        }
    };
    tokio::select! {
        // First: a line that is over is no place to read from.
        biased;
        () = session.closed() => {}
        () = deaf => {}
    }
    relay.until_log("control does not hear this node").await;
    assert_eq!(relay.ask("/readyz").await.0, 200, "calls do not need it");
}

#[tokio::test]
async fn a_relay_asks_for_a_certificate_of_its_own_key_and_takes_no_other() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, session) = control.relay(model.address).await;
    let mut beats = session.beats().await;
    let key = URL_SAFE_NO_PAD.decode_to_vec(beats.enrols().await).unwrap();
    assert_eq!((key.len(), key[0]), (65, 4), "a point of P-256");
    let good_until = relay::clock::wall().plus_us(86_400_000_000);
    let foreign = control.certificate(None);
    beats.tell(&ToRelay::Certificate { certificate: foreign, good_until }).await;
    relay.until_log("a certificate is not taken").await;
    let certificate = control.certificate(Some(key));
    beats.tell(&ToRelay::Certificate { certificate, good_until }).await;
    relay.until_log("this node has a certificate of its own").await;
    // The next connection shows it, to a control that does not ask for it.
    session.cut();
    let (_session, hello) = control.accept().await;
    assert_eq!(hello.secret.reveal(), "hush", "an older control knows nothing else");
}

async fn welcomed_as(control: &Control, model: &Model, version: Version) -> (Relay, Session) {
    let settings = control.settings();
    let (relay, (mut session, hello)) = tokio::join!(Relay::start(&settings), control.accept());
    assert_eq!(hello.version, VERSION);
    let (acked, name) = (EventNumber(0), Some(ControlId::new("c-1").unwrap()));
    session.say(&ToRelay::Welcome { version, acked, control: name }).await;
    session.lease(Some(1)).await;
    session.sync(&control.key, model.address).await;
    (relay, session)
}

/// A call begins, is told of, and ends.
async fn serves(relay: &Relay, control: &Control, session: &mut Session) {
    session.load_until(|load| load.ready).await;
    let mut carrier = begin(relay, control, "c_1").await;
    until_started(session).await;
    carrier.hang_up().await;
    let is_end = |event: &CallEvent| matches!(event, CallEvent::StreamEnded { .. });
    let last = session.events_until(is_end).await.pop().unwrap();
    session.acknowledge(last.n).await;
    relay.until_metric("relay_events_waiting 0").await;
}

#[tokio::test]
async fn a_control_of_another_protocol_is_a_refusal_in_words() {
    let control = Control::start_speaking(b"linecard-link/2");
    let settings = control.settings();
    let relay = Relay::start(&settings).await;
    let refused = async {
        // The handshake has to be served for the relay to be told.
        loop {
            assert!(control.handshake_fails().await);
        }
    };
    tokio::select! {
        () = relay.until_metric("relay_link_attempts_total{outcome=\"refused\"} 1") => {}
        () = refused => {}
    }
    assert!(relay.log().contains("another major version"), "{}", relay.log());
}

#[tokio::test]
async fn a_control_one_minor_version_older_is_served_and_told_no_beats() {
    let (control, model) = (Control::start(), Model::start().await);
    let older = Version { minor: VERSION.minor - 1, ..VERSION };
    let (relay, mut session) = welcomed_as(&control, &model, older).await;
    serves(&relay, &control, &mut session).await;
    // Two loads are a second apart: several beats would have come.
    session.load_until(|_| true).await;
    session.load_until(|_| true).await;
    assert!(!session.is_beaten());
    relay.until_metric("relay_link_up 1").await;
}

#[tokio::test]
async fn a_control_one_minor_version_newer_is_served_and_what_it_says_besides_is_skipped() {
    let (control, model) = (Control::start(), Model::start().await);
    let newer = Version { minor: VERSION.minor + 1, ..VERSION };
    let (relay, mut session) = welcomed_as(&control, &model, newer).await;
    session.say_raw(Channel::Session, serde_json::json!({"m": "sing", "song": 3})).await;
    session.say_raw(Channel::Session, serde_json::json!({"m": "synced", "verse": 2})).await;
    serves(&relay, &control, &mut session).await;
    relay.until_metric("relay_link_messages_unknown_total 1").await;
    relay.until_metric("relay_link_up 1").await;
    session.beats().await.next().await;
}

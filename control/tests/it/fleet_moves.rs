//! Calls that leave a node which drains, and go on at another.

use std::time::Duration;

use control::fleet::moves::Pace;
use control::sequencer::LeaseState;
use control::store::Times;
use control::store::call::{CallState, Resume};
use link::event::{CallEvent, CallRef, EndReason, NodeEvent, Role, Turn};
use link::id::{Gen, NodeId};
use link::message::{Command, Load, Said, ToControl, ToRelay};
use serde_json::json;

use super::db::{
    TestDb, at, event as told, in_time, ledger, on_both, source, started_call, stream_ended,
    stream_started, tenant, turn,
};
use super::link_relay::{Door, READY, Relay, door_of, event};
use super::web::{Chosen, Web, inbound, quick};

on_both!(
    a_call_that_is_sent_away_is_expected_where_it_goes,
    what_was_said_last_is_read_in_its_order,
    the_calls_of_a_node_are_those_that_a_stream_carries,
);

const DRAINING: Load = Load { calls: 1, ready: false, draining: true, ..READY };

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn in_progress(call_sid: &str) -> [(&'static str, &str); 7] {
    let mut fields = inbound(call_sid);
    fields[3].1 = "in-progress";
    fields
}

fn leaving(to: &str) -> CallEvent {
    CallEvent::StreamLeaving { to: Some(node(to)) }
}

fn caller_said(order: u32, text: &str) -> CallEvent {
    CallEvent::Turn(Turn {
        role: Role::Caller,
        item: format!("i{order}"),
        order,
        text: text.into(),
        heard_ms: None,
        generated_ms: None,
        interrupted: false,
        reply_after_ms: None,
    })
}

/// What a node is told to do next; what it is only told of is passed over.
async fn command_heard(relay: &mut Relay) -> (Gen, Command) {
    loop {
        if let ToRelay::Command { generation, command, .. } = relay.hear().await {
            return (generation, command);
        }
    }
}

/// A control plane whose drains are paced so.
async fn paced(pace: Pace) -> Door {
    let chosen = Chosen { pace, ..Chosen::default() };
    door_of(Web::with("http://127.0.0.1:1", (quick(), None), chosen).await).await
}

/// The first node carries a call, of which something was said; the second has none.
struct Scene {
    door: Door,
    from: Relay,
    to: Relay,
    call: CallRef,
    /// Where the carrier asks what follows.
    target: String,
}

impl Scene {
    async fn new(pace: Pace) -> Self {
        let door = paced(pace).await;
        let (mut from, _) = Relay::join(&door.token).await;
        let (call, target) = door.web.begun("CA1").await;
        let call = CallRef { id: call.id, tenant: call.tenant, generation: Gen(0) };
        let said = |n, what| NodeEvent { call: Some(call.clone()), ..event(n, what) };
        let events = vec![said(1, stream_started()), said(2, caller_said(1, "Are you open?"))];
        from.say(&ToControl::Events { events }).await;
        from.ack().await;
        let to = Relay::join_named(&door.token, "fra-2").await;
        Self { door, from, to, call, target }
    }

    /// The first node says something of the call.
    async fn source_says(&mut self, n: u64, what: CallEvent) {
        let said = NodeEvent { call: Some(self.call.clone()), ..event(n, what) };
        self.from.say(&ToControl::Events { events: vec![said] }).await;
        self.from.ack().await;
    }

    /// The second node has begun the call's next stream.
    async fn arrives(&mut self) {
        let call = CallRef { generation: Gen(1), ..self.call.clone() };
        let started = NodeEvent { call: Some(call), ..event(1, stream_started()) };
        self.to.say(&ToControl::Events { events: vec![started] }).await;
        self.to.ack().await;
    }

    /// How far the first node's drain is.
    async fn drain(&self) -> serde_json::Value {
        let (status, shown) = self.door.web.get("/v1/nodes/fra-1").await;
        assert_eq!(status, 200, "{shown}");
        shown["drain"].clone()
    }
}

#[tokio::test]
async fn a_call_leaves_a_draining_node_once_another_one_is_ready_for_it() {
    in_time(async {
        let mut scene = Scene::new(Pace::default()).await;
        assert_eq!(scene.drain().await, serde_json::Value::Null);
        scene.from.say(&ToControl::Load(DRAINING)).await;

        // A session is opened first, by the generation that follows.
        let awaited = scene.to.announcement().await;
        assert_eq!((&awaited.call, awaited.generation), (&scene.call.id, Gen(1)));
        assert_eq!(awaited.continues, Some(Vec::new()));
        let (call, generation) = (awaited.call, awaited.generation);
        scene.to.say(&ToControl::Prepared { call, generation }).await;
        let (generation, command) = command_heard(&mut scene.from).await;
        let to = Some(node("fra-2"));
        assert_eq!(generation, Gen(0));
        assert_eq!(command, Command::Leave { within_ms: 40_000, anyway: false, to });
        let shown = scene.drain().await;
        assert_eq!((&shown["calls_left"], &shown["moving"]), (&json!(1), &json!(1)), "{shown}");

        // What follows the stream is asked of it, and what was said by then goes along.
        scene.source_says(3, caller_said(2, "Hello?")).await;
        scene.source_says(4, leaving("fra-2")).await;
        let target = scene.target.clone();
        let (_, twiml) = scene.door.web.hook(&target, &in_progress("CA1")).await;
        assert!(twiml.contains("/v1/m/fra-2\""), "{twiml}");
        let told = scene.to.announcement().await;
        let said = |text: &str| Said { role: Role::Caller, text: text.into(), cut: false };
        assert_eq!(told.generation, Gen(1));
        assert_eq!(told.continues, Some(vec![said("Are you open?"), said("Hello?")]));

        scene.source_says(5, stream_ended(EndReason::Drained)).await;
        scene.arrives().await;
        let shown = scene.drain().await;
        assert_eq!((&shown["moved"], &shown["forced"]), (&json!(1), &json!(0)), "{shown}");
        let call = scene.door.web.call("CA1").await.unwrap();
        assert_eq!((call.state, call.node), (CallState::Active, Some(node("fra-2"))));
        assert!(call.resumes.is_empty(), "it is no stream that failed");
        let page = scene.door.web.plane.metrics.scrape().unwrap();
        for outcome in ["begun", "moved"] {
            let line = format!("control_moves_total{{outcome=\"{outcome}\"}} 1");
            assert!(page.contains(&line), "{line} is not in {page}");
        }
    })
    .await;
}

#[tokio::test]
async fn behind_the_deadline_a_call_leaves_in_mid_sentence() {
    in_time(async {
        let pace = Pace { deadline: Duration::ZERO, ..Pace::default() };
        let mut scene = Scene::new(pace).await;
        scene.from.say(&ToControl::Load(DRAINING)).await;
        let awaited = scene.to.announcement().await;
        let (call, generation) = (awaited.call, awaited.generation);
        scene.to.say(&ToControl::Prepared { call, generation }).await;
        let (_, command) = command_heard(&mut scene.from).await;
        let to = Some(node("fra-2"));
        assert_eq!(command, Command::Leave { within_ms: 0, anyway: true, to });
        scene.source_says(3, leaving("fra-2")).await;
        let target = scene.target.clone();
        scene.door.web.hook(&target, &in_progress("CA1")).await;
        scene.arrives().await;
        let shown = scene.drain().await;
        assert_eq!((&shown["moved"], &shown["forced"]), (&json!(1), &json!(1)), "{shown}");
    })
    .await;
}

#[tokio::test]
async fn a_call_stays_on_a_node_that_takes_calls_again() {
    in_time(async {
        let mut scene = Scene::new(Pace::default()).await;
        scene.from.say(&ToControl::Load(DRAINING)).await;
        let awaited = scene.to.announcement().await;
        let (call, generation) = (awaited.call, awaited.generation);
        scene.to.say(&ToControl::Prepared { call, generation }).await;
        command_heard(&mut scene.from).await;
        scene.from.say(&ToControl::Load(Load { calls: 1, ..READY })).await;
        let (_, command) = command_heard(&mut scene.from).await;
        let to = Some(node("fra-2"));
        assert_eq!(command, Command::Leave { within_ms: 0, anyway: false, to });
        assert_eq!(scene.drain().await, serde_json::Value::Null);
    })
    .await;
}

#[tokio::test]
async fn another_instance_sends_the_carrier_where_the_call_is_expected() {
    in_time(async {
        let url = TestDb::postgres().await.url();
        let one = Web::one_of(&url).await;
        let mut lease = one.plane.sequencer.state();
        lease.wait_for(|state| *state == LeaseState::Held).await.unwrap();
        let two = Web::one_of(&url).await;
        let _first = one.node("fra-1", 0);
        // The emptiest is another one.
        let _nodes = [two.node("fra-1", 0), two.node("fra-2", 7)];
        let (call, target) = one.begun("CA1").await;
        one.says("fra-1", 1, &call, stream_started()).await;
        one.says("fra-1", 2, &call, leaving("fra-2")).await;
        let (_, twiml) = two.hook(&target, &in_progress("CA1")).await;
        assert!(twiml.contains("/v1/m/fra-2\""), "{twiml}");
    })
    .await;
}

async fn a_call_that_is_sent_away_is_expected_where_it_goes(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let mut ledger = ledger(&store, Times::default()).await;
    let events = vec![
        told(1, &call, 0, stream_started()),
        told(2, &call, 0, leaving("n2")),
        told(3, &call, 0, stream_ended(EndReason::Drained)),
    ];
    ledger.write(&[(source("n1"), events)]).await.unwrap();
    let sent = store.call(&call.tenant, &call.id).await.unwrap().unwrap();
    assert_eq!((sent.state, sent.node), (CallState::Detached, Some(node("n2"))));
    let resumed = store.resume(&call.tenant, &call.id, Some(&node("n2")), at(3)).await.unwrap();
    let Resume::Reconnect(resumed) = resumed else { panic!("{resumed:?}") };
    assert_eq!((resumed.generation, resumed.resumes.len()), (Gen(1), 0));
    let kinds = super::db::kinds(&store).await;
    assert!(kinds.contains(&"stream.leaving".to_owned()), "{kinds:?}");
}

async fn what_was_said_last_is_read_in_its_order(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let mut ledger = ledger(&store, Times::default()).await;
    // The words of a turn may come behind the answer to it.
    let events = vec![
        told(1, &call, 0, caller_said(2, "two")),
        told(2, &call, 0, stream_started()),
        told(3, &call, 0, caller_said(1, "one")),
        told(4, &call, 1, caller_said(1, "three")),
    ];
    ledger.write(&[(source("n1"), events)]).await.unwrap();
    let said = store.said(&tenant(), &call.id).await.unwrap();
    let texts: Vec<_> = said.iter().map(|said| said.text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

async fn the_calls_of_a_node_are_those_that_a_stream_carries(db: &TestDb) {
    let store = db.open().await;
    let first = started_call(&store, "c_1").await;
    let second = started_call(&store, "c_2").await;
    let third = started_call(&store, "c_3").await;
    let mut ledger = ledger(&store, Times::default()).await;
    let events = vec![
        told(1, &first, 0, stream_started()),
        turn(2, &first),
        told(3, &second, 0, stream_started()),
        told(4, &second, 0, stream_ended(EndReason::CallerLost)),
    ];
    ledger.write(&[(source("n1"), events)]).await.unwrap();
    let carried = store.active_on(&node("n1"), 10).await.unwrap();
    let ids: Vec<_> = carried.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["c_1"], "{} has no stream yet", third.id);
    assert!(store.active_on(&node("n2"), 10).await.unwrap().is_empty());
    assert!(store.active_on(&node("n1"), 0).await.unwrap().is_empty());
}

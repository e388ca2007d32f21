//! Nodes of the API: shown to whoever runs the installation, weighted, drained over the link.

use std::time::Duration;

use control::fleet::nodes::{Arrival, NodeState};
use control::fleet::placement::Weight;
use control::sequencer::LeaseState;
use control::store::call::CallState;
use link::event::{CallEvent, CallRef, NodeEvent};
use link::id::{Epoch, EventNumber, Gen, NodeId};
use link::message::{Load, ToControl, ToRelay, VERSION, Version};
use serde_json::{Value, json};

use super::db::{TestDb, actor, at, in_time, on_both, stream_started, tenant};
use super::link_relay::{Door, READY, Relay, door_of, event};
use super::web::{Web, add_key, inbound};

on_both!(a_weight_is_kept_and_the_latest_counts);

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or("none")
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

async fn weigh(web: &Web, node: &str, body: Value) -> (u16, Value) {
    web.api(web.http.put(web.url(&format!("/v1/nodes/{node}/weight"))).json(&body)).await
}

/// Waits until an instance knows of a node what another one, or the node, has said.
async fn until(web: &Web, name: &str, is_so: impl Fn(&NodeState) -> bool) {
    let known = async {
        while !web.plane.nodes.state(&node(name)).is_some_and(|state| is_so(&state)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), known).await.expect("within five seconds");
}

async fn a_weight_is_kept_and_the_latest_counts(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    assert!(stores[0].node_weights().await.unwrap().is_empty());
    let (a, b) = (node("a"), node("b"));
    for (store, name, weight) in [(0, &a, 10), (1, &b, 0), (1, &a, 20)] {
        let weight = Weight::new(weight).unwrap();
        stores[store].set_node_weight(&tenant(), (name, weight), &actor(), at(1)).await.unwrap();
    }
    let kept = stores[0].node_weights().await.unwrap();
    let kept: Vec<_> = kept.iter().map(|(name, weight)| (name.as_str(), weight.get())).collect();
    assert_eq!(kept, [("a", 20), ("b", 0)]);
    let log = stores[0].audit(&tenant(), 0, 10).await.unwrap();
    let last = log.last().unwrap();
    assert_eq!((log.len(), last.action.as_str(), last.subject.as_str()), (3, "node.weighted", "a"));
    assert_eq!(last.detail, r#"{"weight":20}"#);
}

#[tokio::test]
async fn nodes_are_shown_to_the_operator_and_to_nobody_else() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 3);
    let (status, listed) = web.get("/v1/nodes").await;
    let first = &listed["nodes"][0];
    assert_eq!((status, &first["id"], &first["state"]), (200, &json!("fra-1"), &json!("ready")));
    assert_eq!((&first["calls"], &first["calls_max"]), (&json!(3), &json!(10)));
    assert_eq!((&first["weight"], &first["region"]), (&json!(100), &Value::Null));
    assert_eq!(web.get("/v1/nodes/fra-1").await, (200, first.clone()));
    for absent in ["/v1/nodes/none", "/v1/nodes/a%20b"] {
        let (status, problem) = web.get(absent).await;
        assert_eq!((status, code(&problem)), (404, "node_not_found"), "{absent}");
    }

    let url = |rest: &str| web.url(&format!("/v1/nodes{rest}"));
    let reader = add_key(&web.plane, &tenant(), &["nodes:read"]).await;
    assert_eq!(web.api_as(&reader, web.http.get(url(""))).await.0, 200);
    let (status, problem) = web.api_as(&reader, web.http.post(url("/fra-1/drain"))).await;
    assert_eq!((status, code(&problem)), (403, "scope_missing"));
    let stranger = web.key_for("acme", &["*"]).await;
    for request in [
        web.http.get(url("")),
        web.http.get(url("/fra-1")),
        web.http.post(url("/fra-1/drain")),
        web.http.delete(url("/fra-1/drain")),
        web.http.put(url("/fra-1/weight")).body(r#"{"weight": 0}"#),
    ] {
        let (status, problem) = web.api_as(&stranger, request).await;
        assert_eq!((status, code(&problem)), (403, "operator_only"));
    }
}

#[tokio::test]
async fn a_weight_holds_at_once_here_and_within_five_seconds_everywhere() {
    in_time(async {
        let url = TestDb::postgres().await.url();
        let (one, two) = (Web::one_of(&url).await, Web::one_of(&url).await);
        let _nodes = [one.node("a", 0), one.node("b", 5), two.node("a", 0), two.node("b", 5)];
        let (status, shown) = weigh(&one, "a", json!({"weight": 0})).await;
        assert_eq!((status, &shown["weight"]), (200, &json!(0)));
        assert_eq!(one.begun("CA1").await.0.node.unwrap(), node("b"), "the emptier has no weight");
        until(&two, "a", |state| state.weight.get() == 0).await;
        assert_eq!(two.begun("CA2").await.0.node.unwrap(), node("b"));
        weigh(&two, "a", json!({"weight": 100})).await;
        assert_eq!(two.begun("CA3").await.0.node.unwrap(), node("a"));
        until(&one, "a", |state| state.weight == Weight::FULL).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_weight_changes_nothing() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    for (body, status, of) in [
        (json!({"weight": 101}), 422, "weight_malformed"),
        (json!({"weight": -1}), 422, "weight_malformed"),
        (json!({"weight": "full"}), 400, "body_malformed"),
        (json!({"wieght": 1}), 400, "body_malformed"),
    ] {
        let (answered, problem) = weigh(&web, "fra-1", body.clone()).await;
        assert_eq!((answered, code(&problem)), (status, of), "{body}");
    }
    assert_eq!(weigh(&web, "none", json!({"weight": 1})).await.0, 404);
    assert!(web.plane.store.node_weights().await.unwrap().is_empty());
}

/// Two instances, of which the first numbers events, and the ends of one relay that is linked to both.
async fn pair() -> ([Door; 2], [Relay; 2]) {
    let url = TestDb::postgres().await.url();
    let one = door_of(Web::one_of(&url).await).await;
    let mut state = one.web.plane.sequencer.state();
    state.wait_for(|state| *state == LeaseState::Held).await.unwrap();
    let two = door_of(Web::one_of(&url).await).await;
    let (mut to_one, _) = Relay::join_any(&one.token).await;
    let (mut to_two, _) = Relay::join_any(&two.token).await;
    // The first word behind the welcome: both count it in.
    to_one.lease().await;
    to_two.lease().await;
    ([one, two], [to_one, to_two])
}

/// The relay tells both how it is.
async fn tell_both(relays: [&mut Relay; 2], load: Load) {
    for relay in relays {
        relay.say(&ToControl::Load(load)).await;
    }
}

/// Whether the node is to take no calls, as it is told next.
async fn drain_heard(relay: &mut Relay) -> bool {
    loop {
        if let ToRelay::Drain { on } = relay.hear().await {
            return on;
        }
    }
}

#[tokio::test]
async fn a_drained_node_gets_no_new_call_from_any_instance_and_its_calls_go_on() {
    in_time(async {
        let ([one, two], [mut to_one, mut to_two]) = pair().await;
        let (one, two) = (&one.web, &two.web);
        let (call, _) = one.begun("CA1").await;
        let of_call = CallRef { id: call.id.clone(), tenant: tenant(), generation: Gen(0) };
        let said = |n, what| NodeEvent { call: Some(of_call.clone()), ..event(n, what) };
        to_one.say(&ToControl::Events { events: vec![said(1, stream_started())] }).await;
        assert_eq!(to_one.ack().await, EventNumber(1));

        let drained = Load { calls: 1, ready: false, draining: true, ..READY };
        let asked = two.http.post(two.url("/v1/nodes/fra-1/drain"));
        let ((status, shown), ()) = tokio::join!(two.api(asked), async {
            assert!(drain_heard(&mut to_two).await);
            to_two.say(&ToControl::Load(drained)).await;
        });
        assert_eq!((status, &shown["state"]), (200, &json!("draining")), "{shown}");
        assert_eq!((&shown["region"], &shown["late_ms"]), (&json!("fra"), &json!(0.25)));
        tell_both([&mut to_one, &mut to_two], drained).await;
        until(one, "fra-1", |state| state.load.is_some_and(|load| load.draining)).await;
        for (web, call_sid) in [(one, "CA2"), (two, "CA3")] {
            let (_, twiml) = web.voice(call_sid).await;
            assert!(twiml.contains(r#"<Reject reason="busy"/>"#), "{twiml}");
        }

        // The call that it carries is told what it was told before, and answers.
        let call_id = call.id.as_str();
        assert_eq!(one.call_by_id(call_id).await.state, CallState::Active);
        let target = one.url(&format!("/v1/calls/{call_id}/commands"));
        let say = one.http.post(target).body(r#"{"do":"say","text":"One moment."}"#);
        let ((status, _), ()) = tokio::join!(one.api(say), async {
            let id = loop {
                if let ToRelay::Command { id, .. } = to_one.hear().await {
                    break id.unwrap();
                }
            };
            let done = CallEvent::CommandDone { id, refused: None };
            to_one.say(&ToControl::Events { events: vec![said(2, done)] }).await;
        });
        assert_eq!(status, 200);

        let undo = one.http.delete(one.url("/v1/nodes/fra-1/drain"));
        let ((status, shown), ()) = tokio::join!(one.api(undo), async {
            assert!(!drain_heard(&mut to_one).await);
            to_one.say(&ToControl::Load(READY)).await;
        });
        assert_eq!((status, &shown["state"]), (200, &json!("ready")), "{shown}");
        tell_both([&mut to_one, &mut to_two], READY).await;
        until(two, "fra-1", |state| state.load.is_some_and(|load| load.ready)).await;
        assert_eq!(two.begun("CA4").await.0.node.unwrap(), node("fra-1"));
        let log = one.plane.store.audit(&tenant(), 0, 10).await.unwrap();
        let actions: Vec<_> = log.iter().map(|line| line.action.as_str()).collect();
        assert_eq!(actions, ["node.drained", "node.undrained"]);
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_cannot_be_drained_is_not_told() {
    let web = Web::start().await;
    let (stay, mut orders) = web.plane.nodes.join(Arrival {
        node: node("old-1"),
        epoch: Epoch(1),
        public_url: "wss://media.example".into(),
        software: "test".into(),
        region: None,
        version: Version { minor: 1, ..VERSION },
    });
    stay.set_load(READY);
    for request in [
        web.http.post(web.url("/v1/nodes/old-1/drain")),
        web.http.delete(web.url("/v1/nodes/old-1/drain")),
    ] {
        let (status, problem) = web.api(request).await;
        assert_eq!((status, code(&problem)), (409, "node_too_old"));
    }
    assert!(orders.try_recv().is_err());
    assert!(web.hook("/v1/twilio/voice", &inbound("CA1")).await.1.contains("<Connect>"));
}

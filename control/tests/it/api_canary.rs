//! The canary of the API, regions, and what `GET /v1/nodes` says of where calls go.

use std::collections::BTreeMap;
use std::time::Duration;

use control::fleet::canary::{Canary, Percent, Side, Subject};
use control::fleet::nodes::Arrival;
use control::fleet::regions::Regions;
use control::fleet::tally::{Counts, Group};
use control::fleet::trial::Trial;
use control::store::call::Number;
use link::event::{CallRef, EndReason, NodeEvent};
use link::id::{EventNumber, Gen, NodeId};
use link::message::{Load, ToControl};
use serde_json::{Value, json};

use super::db::{TestDb, actor, at, in_time, on_both, stream_ended, stream_started, tenant};
use super::link_relay::{READY, Relay, door_of, event};
use super::web::{Chosen, Web, arrival, inbound, quick};

on_both!(a_canary_and_what_was_counted_are_kept_until_another_one_is_named);

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or("none")
}

fn canary(version: &str, percent: u8) -> Canary {
    let subject = Subject::version(version).unwrap();
    Canary { subject, percent: Percent::new(percent).unwrap() }
}

async fn set(web: &Web, body: Value) -> (u16, Value) {
    web.api(web.http.put(web.url("/v1/nodes/canary")).json(&body)).await
}

/// The node that a new call is sent to.
async fn placed(web: &Web, call_sid: &str) -> String {
    let (call, _) = web.begun(call_sid).await;
    call.node.unwrap().as_str().to_owned()
}

/// Waits until an instance knows the share that another one was told.
async fn until_share(web: &Web, percent: u8) {
    let share = || Some(web.plane.nodes.trial().canary()?.percent.get());
    let known = async {
        while share() != Some(percent) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), known).await.expect("within five seconds");
}

async fn a_canary_and_what_was_counted_are_kept_until_another_one_is_named(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let group = Group::new("new", Side::Canary);
    let counts = Counts { placed: 3, started: 2, ended: 1, agent_failed: 1, relay_failed: 0 };
    let counted = BTreeMap::from([(group.clone(), counts)]);
    let set = async |store: usize, canary: &Canary, seconds: i64| {
        stores[store].set_canary(&tenant(), canary, &actor(), at(seconds)).await.unwrap();
    };
    assert_eq!(stores[0].trial().await.unwrap(), Trial::default());

    set(0, &canary("new", 5), 1).await;
    for store in &stores {
        store.add_counts(&counted).await.unwrap();
    }
    set(1, &canary("new", 20), 2).await;
    let trial = stores[0].trial().await.unwrap();
    assert_eq!(trial.canary, Some((canary("new", 20), at(1))), "more of the same goes on");
    assert_eq!(trial.counts, BTreeMap::from([(group, counts.plus(counts))]));

    set(1, &canary("newer", 5), 3).await;
    let trial = stores[0].trial().await.unwrap();
    assert_eq!(trial.canary, Some((canary("newer", 5), at(3))));
    assert!(trial.counts.is_empty(), "counting begins anew");

    stores[0].add_counts(&counted).await.unwrap();
    for seconds in [4, 5] {
        stores[1].end_canary(&tenant(), &actor(), at(seconds)).await.unwrap();
    }
    let trial = stores[0].trial().await.unwrap();
    assert_eq!((trial.canary, trial.counts), (None, counted));
    let log = stores[0].audit(&tenant(), 0, 10).await.unwrap();
    let said: Vec<_> =
        log.iter().map(|line| (line.action.as_str(), line.subject.as_str())).collect();
    let set = "canary.set";
    assert_eq!(said, [(set, "new"), (set, "new"), (set, "newer"), ("canary.ended", "newer")]);
}

#[tokio::test]
async fn a_canary_holds_at_once_here_and_within_five_seconds_everywhere() {
    in_time(async {
        let url = TestDb::postgres().await.url();
        let (one, two) = (Web::one_of(&url).await, Web::one_of(&url).await);
        let new = || Arrival { software: "new".into(), ..arrival("new-1") };
        // By their calls alone the old one would get every call.
        let _nodes =
            [one.node("old-1", 0), one.join(new(), 5), two.node("old-1", 0), two.join(new(), 5)];
        let (status, shown) = set(&one, json!({"version": "new", "percent": 100})).await;
        assert_eq!((status, &shown["canary"]["percent"]), (200, &json!(100)));
        assert_eq!(placed(&one, "CA1").await, "new-1");
        until_share(&two, 100).await;
        assert_eq!(placed(&two, "CA2").await, "new-1");

        assert_eq!(set(&two, json!({"version": "new", "percent": 0})).await.0, 200);
        assert_eq!(placed(&two, "CA3").await, "old-1");
        until_share(&one, 0).await;
        assert_eq!(placed(&one, "CA4").await, "old-1");
        let (_, shown) = one.get("/v1/nodes/new-1").await;
        assert_eq!(shown["placement"]["takes_calls"], json!(false));
        assert!(shown["placement"]["why"].as_str().unwrap().contains("0 percent"), "{shown}");

        assert_eq!(set(&one, json!({"node": "new-1", "percent": 100})).await.0, 200);
        assert_eq!(placed(&one, "CA5").await, "new-1");
        let ended = one.api(one.http.delete(one.url("/v1/nodes/canary"))).await;
        assert_eq!((ended.0, &ended.1["canary"]), (200, &Value::Null));
        assert_eq!(placed(&one, "CA6").await, "old-1");
    })
    .await;
}

#[tokio::test]
async fn what_is_no_canary_changes_nothing_and_strangers_may_not_name_one() {
    let web = Web::start().await;
    for (body, status, of) in [
        (json!({"version": "new", "percent": 101}), 422, "canary_malformed"),
        (json!({"version": "new", "percent": -1}), 422, "canary_malformed"),
        (json!({"version": "", "percent": 1}), 422, "canary_malformed"),
        (json!({"node": "a b", "percent": 1}), 422, "canary_malformed"),
        (json!({"percent": 1}), 422, "canary_malformed"),
        (json!({"version": "new", "node": "a", "percent": 1}), 422, "canary_malformed"),
        (json!({"version": "new"}), 400, "body_malformed"),
        (json!({"version": "new", "percent": 1, "share": 1}), 400, "body_malformed"),
    ] {
        let (answered, problem) = set(&web, body.clone()).await;
        assert_eq!((answered, code(&problem)), (status, of), "{body}");
    }
    let stranger = web.key_for("acme", &["*"]).await;
    let url = web.url("/v1/nodes/canary");
    for request in
        [web.http.put(&url).json(&json!({"version": "new", "percent": 1})), web.http.delete(&url)]
    {
        let (status, problem) = web.api_as(&stranger, request).await;
        assert_eq!((status, code(&problem)), (403, "operator_only"));
    }
    assert_eq!(web.plane.store.trial().await.unwrap(), Trial::default());
    let (status, shown) = web.get("/v1/nodes").await;
    assert_eq!((status, shown), (200, json!({"nodes": [], "canary": null, "versions": []})));
}

/// The free slots of a region, as they are scraped.
fn free_slots(web: &Web, region: &str) -> Option<u32> {
    let page = web.plane.metrics.scrape().unwrap();
    let start = format!("control_free_slots{{region=\"{region}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

#[tokio::test]
async fn a_call_goes_near_its_carrier_and_flows_over_until_no_region_takes_it() {
    let regions = Regions::parse("us1=iad;ie1=fra,ams").unwrap();
    let from = Some(Number("+15550100".into()));
    let chosen = Chosen { regions, ..Chosen::default() };
    let web = Web::with("http://127.0.0.1:1", (quick(), from), chosen).await;
    // Each has one seat left; by their calls alone any would do.
    let of = |name: &str, region: &str| {
        web.join(Arrival { region: Some(region.to_owned()), ..arrival(name) }, 9)
    };
    let _nodes = [of("syd-1", "syd"), of("ams-1", "ams"), of("fra-1", "fra")];
    assert_eq!((free_slots(&web, "fra"), free_slots(&web, "iad")), (Some(1), None));
    for (call_sid, node) in [("CA1", "fra-1"), ("CA2", "ams-1"), ("CA3", "syd-1")] {
        let (status, _) = web.hook_from("ie1", "/v1/twilio/voice", &inbound(call_sid)).await;
        let call = web.call(call_sid).await.unwrap();
        assert_eq!((status, call.node), (200, Some(NodeId::new(node).unwrap())));
    }
    let (_, twiml) = web.hook_from("ie1", "/v1/twilio/voice", &inbound("CA4")).await;
    assert!(twiml.contains(r#"<Reject reason="busy"/>"#), "{twiml}");

    assert_eq!(free_slots(&web, "fra"), Some(0), "a region without a slot is there");
    let (_, shown) = web.get("/v1/nodes/fra-1").await;
    let placement = &shown["placement"];
    assert_eq!((&shown["reserved"], &placement["takes_calls"]), (&json!(1), &json!(false)));
    assert!(placement["why"].as_str().unwrap().contains("on their way"), "{shown}");
    assert_eq!(shown["state"], json!("ready"), "it is not full: they are not there yet");
}

#[tokio::test]
async fn streams_of_a_version_are_counted_by_how_they_fare() {
    in_time(async {
        let door = door_of(Web::start().await).await;
        let web = &door.web;
        let (mut relay, _) = Relay::join(&door.token).await;
        relay.say(&ToControl::Load(READY)).await;
        let mut said = 0;
        for (call_sid, reason) in [
            ("CA1", Some(EndReason::CallerHungUp)),
            ("CA2", Some(EndReason::RelayFault)),
            ("CA3", Some(EndReason::AgentRefused)),
            ("CA4", None),
        ] {
            let (call, _) = web.begun(call_sid).await;
            let call = CallRef { id: call.id, tenant: tenant(), generation: Gen(0) };
            for what in [Some(stream_started()), reason.map(stream_ended)].into_iter().flatten() {
                said += 1;
                let event = NodeEvent { call: Some(call.clone()), ..event(said, what) };
                relay.say(&ToControl::Events { events: vec![event] }).await;
            }
        }
        // Acknowledged is counted. The last one is still alive, and then dies with its node.
        while relay.ack().await != EventNumber(said) {}
        web.plane.nodes.weigh(&web.plane.store).await.unwrap();
        for (calls, lost) in [(1, 0), (0, 1)] {
            relay.say(&ToControl::Load(Load { calls, ..READY })).await;
            let told = async {
                while web.plane.nodes.list()[0].load.is_none_or(|load| load.calls != calls) {
                    tokio::task::yield_now().await;
                }
            };
            told.await;
            let (_, shown) = web.get("/v1/nodes").await;
            let fare = &shown["versions"][0];
            assert_eq!((&fare["nodes"], &fare["calls"]), (&json!(1), &json!(calls)));
            assert_eq!((&fare["placed"], &fare["canary"]), (&json!(4), &json!(false)));
            let failed = json!({"never_came": 0, "agent": 1, "relay": 1, "lost": lost});
            assert_eq!(fare["failed"], failed);
        }
    })
    .await;
}

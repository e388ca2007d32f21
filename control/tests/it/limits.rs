//! How many calls a tenant may have at once, for those that come in: phones and pages.

use control::access::crowd;
use control::dialer::rules::pacing;
use control::store::call::{Direction, NewCall};
use serde_json::json;

use super::db::{TestDb, at, new_call, node, on_both, tenant};
use super::web::{API_KEY, Web, inbound};

on_both!(
    a_call_beyond_the_limit_is_told_so_and_leaves_nothing_behind,
    calls_that_go_out_and_calls_that_come_in_share_one_limit,
    a_page_beyond_the_limit_is_told_when_to_come_back,
);

async fn limited(db: &TestDb, calls_max: u32) -> Web {
    let web = Web::one_of(&db.url()).await;
    let limits = json!({"limits": {"calls_max": calls_max}});
    let (status, _) = web.api(web.http.patch(web.url("/v1/tenant")).json(&limits)).await;
    assert_eq!(status, 200);
    web
}

fn is_refused(twiml: &str) -> bool {
    twiml.contains("<Response><Say>All lines are busy.")
        && twiml.ends_with("</Say><Hangup/></Response>")
}

async fn a_call_beyond_the_limit_is_told_so_and_leaves_nothing_behind(db: &TestDb) {
    let web = limited(db, 1).await;
    let _node = web.node("fra-1", 0);
    web.begun("CA1").await;
    for _ in 0..2 {
        let (status, twiml) = web.voice("CA2").await;
        assert!(status == 200 && is_refused(&twiml), "{twiml}");
    }
    assert_eq!(web.call("CA2").await, None);
    let (_, again) = web.voice("CA1").await;
    assert!(again.contains("<Connect>"), "the one that is in asks again: {again}");
    let page = web.plane.metrics.scrape().unwrap();
    assert!(page.contains(r#"control_twiml_total{answer="crowded"} 2"#), "{page}");

    let mut over = inbound("CA1");
    over[3].1 = "completed";
    assert_eq!(web.hook("/v1/twilio/status", &over).await.0, 204);
    crowd::count(&web.plane).await.unwrap();
    let (_, twiml) = web.voice("CA3").await;
    assert!(twiml.contains("<Connect>"), "one is over: {twiml}");

    // What is known is enough to refuse.
    web.plane.store.close().await;
    let (_, twiml) = web.voice("CA4").await;
    assert!(is_refused(&twiml), "{twiml}");
}

async fn calls_that_go_out_and_calls_that_come_in_share_one_limit(db: &TestDb) {
    let web = limited(db, 2).await;
    let _node = web.node("fra-1", 0);
    let slots = || pacing(&web.plane).tenants[&tenant()].slots;
    assert_eq!(slots(), 2);
    let out = NewCall { carrier: None, direction: Direction::Outbound, ..new_call("c_out") };
    let out = web.plane.store.create_call(out, at(0)).await.unwrap().into_call();
    web.begun("CA1").await;
    assert_eq!(slots(), 1, "a call that came in takes a slot");
    crowd::count(&web.plane).await.unwrap();
    let (_, twiml) = web.voice("CA2").await;
    assert!(twiml.contains("<Connect>"), "nobody has dialled the other one yet: {twiml}");
    let mut over = inbound("CA2");
    over[3].1 = "completed";
    web.hook("/v1/twilio/status", &over).await;
    web.plane.store.begin_stream(&tenant(), &out.id, &node(), at(1)).await.unwrap();
    crowd::count(&web.plane).await.unwrap();
    let (_, twiml) = web.voice("CA3").await;
    assert!(is_refused(&twiml), "{twiml}");
}

async fn a_page_beyond_the_limit_is_told_when_to_come_back(db: &TestDb) {
    let web = limited(db, 1).await;
    let _node = web.node("fra-1", 0);
    let (status, session) = web.post("/v1/sessions", &json!({})).await;
    assert_eq!(status, 201, "{session}");
    let (status, problem) = web.post("/v1/sessions", &json!({})).await;
    assert_eq!((status, &problem["code"]), (429, &json!("calls_max_reached")), "{problem}");
    let asked = web.http.post(web.url("/v1/sessions")).bearer_auth(API_KEY);
    assert_eq!(asked.send().await.unwrap().headers()["retry-after"], "5");
    let (_, twiml) = web.voice("CA1").await;
    assert!(is_refused(&twiml), "a session is a call: {twiml}");
    let (_, calls) = web.get("/v1/calls").await;
    assert_eq!(calls["calls"].as_array().unwrap().len(), 1, "nothing is left of the others");
}

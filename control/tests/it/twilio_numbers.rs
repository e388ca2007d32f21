//! What the number that was called decides: whose the call is, who answers, and whether an old
//! backend does.

use control::store::call::{CarrierIds, Number};
use control::store::numbers::{Legacy, Route};
use link::agent::AgentSpec;
use link::id::{AgentName, TenantId};
use serde_json::json;

use super::db::{actor, tenant};
use super::web::{ACCOUNT, Web, between, inbound, resume_target};

const OLD: &str = "https://old.example/voice?x=1&y=2";

fn other() -> TenantId {
    TenantId::new("other").unwrap()
}

/// The number that is called is another tenant's, whose agent answers.
async fn foreign_number(web: &Web) {
    let (store, now) = (&web.plane.store, control::clock::wall());
    store.ensure_tenant(&other(), now).await.unwrap();
    let spec: AgentSpec = serde_json::from_value(json!({
        "tenant": "other", "name": "desk", "instructions": "You answer.",
        "provider": {"kind": "openai_realtime", "url": "ws://127.0.0.1:9"},
    }))
    .unwrap();
    store.create_agent(spec, None, &actor(), now).await.unwrap();
    let route = Route { agent: Some(AgentName::new("desk").unwrap()), legacy: None };
    let wish = (Number("+15550102".into()), route);
    store.create_number(&other(), wish, None, &actor(), now).await.unwrap();
    web.plane.directory.refresh(store, &web.plane.nodes).await.unwrap();
}

/// Our number sends a share of its calls to the old backend.
async fn moving(web: &Web, percent: u8) {
    let legacy = Some(Legacy { url: OLD.into(), percent });
    let (store, now) = (&web.plane.store, control::clock::wall());
    let number = Number("+15550102".into());
    let route = Route { agent: None, legacy };
    let any = control::store::agents::Expected::Any;
    if store.number(&tenant(), &number).await.unwrap().is_some() {
        store.update_number(&tenant(), &number, (route, any), &actor(), now).await.unwrap();
    } else {
        store.create_number(&tenant(), (number, route), None, &actor(), now).await.unwrap();
    }
    web.plane.directory.refresh(store, &web.plane.nodes).await.unwrap();
}

fn is_elsewhere(twiml: &str) -> bool {
    let old = OLD.replace('&', "&amp;");
    twiml.contains(&format!(r#"<Response><Redirect method="POST">{old}</Redirect></Response>"#))
}

#[tokio::test]
async fn a_call_belongs_to_the_tenant_whose_number_was_called() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    foreign_number(&web).await;
    let (status, twiml) = web.voice("CA1").await;
    assert_eq!(status, 200, "{twiml}");
    assert_eq!(web.call("CA1").await, None, "it is nothing of the default tenant's");
    let carrier = CarrierIds { account_sid: ACCOUNT.into(), call_sid: "CA1".into() };
    let store = &web.plane.store;
    let call = store.call_by_carrier(&other(), &carrier).await.unwrap().unwrap();
    assert_eq!((call.agent.as_str(), call.agent_version), ("desk", 1));

    // What follows is the same tenant's: its status by the number, its stream by the address.
    let (_, again) = web.hook(&resume_target(&twiml), &inbound("CA1")).await;
    assert!(again.contains("<Connect>"), "{again}");
    let callback = between(&twiml, r#"statusCallback=""#, "\"");
    let stream = callback.strip_prefix(super::web::ORIGIN).unwrap();
    let error = [
        ("AccountSid", ACCOUNT),
        ("CallSid", "CA1"),
        ("StreamEvent", "stream-error"),
        ("StreamError", "no route"),
    ];
    assert_eq!(web.hook(stream, &error).await.0, 204);
    let mut over = inbound("CA1");
    over[3].1 = "completed";
    assert_eq!(web.hook("/v1/twilio/status", &over).await.0, 204);
    let call = store.call(&other(), &call.id).await.unwrap().unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("caller_hung_up"));
    let records = web.records_of(other(), 3).await;
    let kinds: Vec<_> = records.iter().map(|record| record.kind.as_str()).collect();
    assert_eq!(kinds, ["call.started", "stream.error", "call.ended"]);
}

#[tokio::test]
async fn a_number_that_moves_here_sends_its_share_to_the_old_backend() {
    let web = Web::start().await;
    let (stay, _orders) = web.node("fra-1", 0);
    moving(&web, 100).await;
    let (_, twiml) = web.voice("CA1").await;
    assert!(is_elsewhere(&twiml), "{twiml}");
    assert_eq!(web.call("CA1").await, None, "it is not a call of ours");
    moving(&web, 0).await;
    let (_, twiml) = web.voice("CA1").await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    moving(&web, 100).await;
    let (_, twiml) = web.voice("CA1").await;
    assert!(twiml.contains("<Connect>"), "a call that began here stays: {twiml}");

    moving(&web, 40).await;
    let mut gone = 0;
    for n in 0..60 {
        let call_sid = format!("CAshare{n}");
        let (first, second) = (web.voice(&call_sid).await.1, web.voice(&call_sid).await.1);
        assert_eq!(is_elsewhere(&first), is_elsewhere(&second), "{call_sid}");
        gone += usize::from(is_elsewhere(&first));
        // Its stream has begun: a node takes ten calls that are only promised to it.
        if let Some(call) = web.call(&call_sid).await {
            stay.settle(&call.id);
        }
    }
    assert!((10..=38).contains(&gone), "{gone} of 60");
}

#[tokio::test]
async fn the_old_backend_gets_what_cannot_be_answered_here() {
    let web = Web::start().await;
    moving(&web, 0).await;
    let full = web.node("fra-1", 10);
    let (_, twiml) = web.voice("CA1").await;
    assert!(is_elsewhere(&twiml), "no node: {twiml}");
    assert_eq!(web.call("CA1").await.unwrap().end_reason.as_deref(), Some("no_node"));
    let (_, again) = web.voice("CA1").await;
    assert!(is_elsewhere(&again), "the answer was lost on its way: {again}");
    drop(full);
    let _node = web.node("fra-1", 0);
    let (status, _) = web.hook("/v1/twilio/voice?agent=nobody", &inbound("CA2")).await;
    assert_eq!(status, 200, "no agent");
    web.plane.store.close().await;
    let (_, twiml) = web.voice("CA3").await;
    assert!(is_elsewhere(&twiml), "no database: {twiml}");
}

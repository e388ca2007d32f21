//! What follows a stream, through the real routes.

use control::store::Ending;
use control::store::call::{CallEnd, Number};
use link::event::EndReason;
use link::id::Gen;
use link::ticket::KeySet;

use super::web::{Web, inbound, resume_target, ticket};

fn in_progress(call_sid: &str) -> [(&'static str, &str); 7] {
    let mut fields = inbound(call_sid);
    fields[3].1 = "in-progress";
    fields
}

#[tokio::test]
async fn each_end_of_a_stream_gets_the_next_generation_and_the_fourth_in_a_minute_ends_the_call() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, mut target) = web.begun("CA1").await;
    let keys = KeySet::new(&web.plane.tokens.verifying()).unwrap();
    for generation in 1..=3 {
        let (status, twiml) = web.hook(&target, &in_progress("CA1")).await;
        assert_eq!(status, 200);
        let claims = keys.verify(&ticket(&twiml), control::clock::wall()).unwrap();
        assert_eq!((claims.generation, &claims.call), (Gen(generation), &call.id));
        target = resume_target(&twiml);
    }
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    assert!(twiml.contains("<Say>We are sorry") && twiml.contains("<Hangup/>"), "{twiml}");
    let call = web.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("too_many_resumes"));
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
    let kinds: Vec<_> = web.records(2).await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["call.started", "call.ended"]);
}

#[tokio::test]
async fn a_call_that_was_ended_is_hung_up() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, target) = web.begun("CA1").await;
    let end = Ending { reason: CallEnd::Stream(EndReason::AgentHungUp), detail: None };
    web.plane.store.end_call(&call.tenant, &call.id, end, control::clock::wall()).await.unwrap();
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
}

#[tokio::test]
async fn a_transfer_dials_and_dials_again_when_asked_again() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, target) = web.begun("CA1").await;
    let to = Number("+15550177".into());
    web.plane.store.transfer_call(&call.tenant, &call.id, to).await.unwrap();
    for _ in 0..2 {
        let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
        assert!(twiml.contains("<Dial><Number>+15550177</Number></Dial>"), "{twiml}");
    }
    let call = web.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("transferred"));
}

#[tokio::test]
async fn a_caller_who_has_gone_ends_the_call() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (_, target) = web.begun("CA1").await;
    let mut fields = inbound("CA1");
    fields[3].1 = "completed";
    let (_, twiml) = web.hook(&target, &fields).await;
    assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
    let call = web.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("caller_hung_up"));
}

#[tokio::test]
async fn a_pass_is_good_for_its_own_call_only() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (first, target) = web.begun("CA1").await;
    web.begun("CA2").await;
    let (status, twiml) = web.hook(&target, &in_progress("CA2")).await;
    assert_eq!(status, 200);
    assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
    for pass in ["v4.public.AAAA", "x", &target[target.len() - 40..]] {
        let (_, twiml) = web.hook(&format!("/v1/twilio/resume/{pass}"), &in_progress("CA1")).await;
        assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
    }
    assert_eq!(web.call_by_id(first.id.as_str()).await.generation, Gen(0));
}

#[tokio::test]
async fn while_no_node_takes_the_call_the_carrier_asks_again_but_not_for_ever() {
    let web = Web::start().await;
    let (node, _orders) = web.node("fra-1", 0);
    let (_, target) = web.begun("CA1").await;
    node.set_load(link::message::Load { calls: 10, calls_max: 10, ready: true });
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    assert!(twiml.contains(r#"<Pause length="1"/><Redirect"#), "{twiml}");
    let again = resume_target(&twiml);
    assert_eq!(again, format!("{target}?try=1"));
    assert_eq!(web.call("CA1").await.unwrap().generation, Gen(0), "nothing was counted");

    node.set_load(link::message::Load { calls: 9, calls_max: 10, ready: true });
    let (_, twiml) = web.hook(&again, &in_progress("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    node.set_load(link::message::Load { calls: 10, calls_max: 10, ready: true });
    let (_, twiml) = web.hook(&format!("{target}?try=15"), &in_progress("CA1")).await;
    assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
    assert_eq!(web.call("CA1").await.unwrap().end_reason.as_deref(), Some("no_node"));
}

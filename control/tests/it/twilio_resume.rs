//! What follows a stream, through the real routes.

use std::num::NonZeroU32;

use control::fleet::openings::Survival;
use control::store::Ending;
use control::store::call::{Call, CallEnd, ResumeLimits};
use link::event::EndReason;
use link::id::Gen;
use link::ticket::KeySet;

use serde_json::Value;

use super::db::{at, stream_ended, stream_started, transferring};
use super::web::{ACCOUNT, Chosen, ORIGIN, Web, between, inbound, quick, resume_target, ticket};

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
async fn a_question_whose_answer_was_lost_gets_the_same_generation_on_the_same_node() {
    let web = Web::start().await;
    let nodes = [web.node("fra-1", 0), web.node("fra-2", 1)];
    let (_, target) = web.begun("CA1").await;
    let keys = KeySet::new(&web.plane.tokens.verifying()).unwrap();
    let mut claimed = Vec::new();
    for token in ["t1", "t1", "t1", "t1", "t1", "t2"] {
        let (_, twiml) = web.hook_as(token, &target, &in_progress("CA1")).await;
        let claims = keys.verify(&ticket(&twiml), control::clock::wall()).unwrap();
        claimed.push((claims.generation.0, claims.node.to_string()));
        // Were it asked anew, the other node would be the emptier one.
        nodes[1].0.set_load(link::message::Load {
            calls: 0,
            calls_max: 10,
            ready: true,
            ..Default::default()
        });
        nodes[0].0.set_load(link::message::Load {
            calls: 5,
            calls_max: 10,
            ready: true,
            ..Default::default()
        });
    }
    let generations: Vec<_> = claimed.iter().map(|(generation, _)| *generation).collect();
    assert_eq!(generations, [1, 1, 1, 1, 1, 2]);
    assert!(claimed[..5].iter().all(|(_, node)| *node == claimed[0].1), "{claimed:?}");
}

#[tokio::test]
async fn of_many_calls_that_come_back_at_once_some_wait_a_few_seconds_and_no_longer() {
    let survival = Survival { openings_per_second: NonZeroU32::MIN, ..Survival::default() };
    let chosen = Chosen { survival, ..Chosen::default() };
    let web = Web::with("http://127.0.0.1:1", (quick(), None), chosen).await;
    let _node = web.node("fra-1", 0);
    let (_, first) = web.begun("CA1").await;
    let (second, later) = web.begun("CA2").await;
    let (_, twiml) = web.hook(&first, &in_progress("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    let (_, twiml) = web.hook(&later, &in_progress("CA2")).await;
    assert!(twiml.contains(r#"<Pause length="1"/><Redirect"#), "{twiml}");
    assert_eq!(resume_target(&twiml), format!("{later}?try=1"));
    assert_eq!(web.call("CA2").await.unwrap().generation, Gen(0), "nothing was counted");
    let (_, twiml) = web.hook(&format!("{later}?try=5"), &in_progress("CA2")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    // An end waits for nothing.
    let end = Ending { reason: CallEnd::Stream(EndReason::AgentHungUp), detail: None };
    web.plane.store.end_call(&second.tenant, &second.id, end, at(9)).await.unwrap();
    let (_, twiml) = web.hook(&later, &in_progress("CA2")).await;
    assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
}

#[tokio::test]
async fn how_often_a_call_comes_back_is_a_setting() {
    let resumes = ResumeLimits { max: 1, ..ResumeLimits::default() };
    let survival = Survival { resumes, ..Survival::default() };
    let chosen = Chosen { survival, ..Chosen::default() };
    let web = Web::with("http://127.0.0.1:1", (quick(), None), chosen).await;
    let _node = web.node("fra-1", 0);
    let (_, target) = web.begun("CA1").await;
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    let (_, twiml) = web.hook(&resume_target(&twiml), &in_progress("CA1")).await;
    assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
    let call = web.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("too_many_resumes"));
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
    web.says("fra-1", 1, &call, stream_started()).await;
    web.says("fra-1", 2, &call, transferring("+15550177")).await;
    web.says("fra-1", 3, &call, stream_ended(EndReason::Transferred)).await;
    for _ in 0..2 {
        let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
        let dial = r#"method="POST" callerId="+15550102"><Number>+15550177</Number></Dial></Resp"#;
        assert!(twiml.contains(dial), "{twiml}");
    }
    let (_, shown) = web.api(web.http.get(web.url(&format!("/v1/calls/{}", call.id)))).await;
    assert_eq!(
        (&shown["state"], &shown["transfer_to"]),
        (&"transferred".into(), &"+15550177".into())
    );
    assert_eq!((&shown["ended_at"], &shown["end_reason"]), (&Value::Null, &Value::Null));
    // Should the carrier begin anew, it is told the same.
    let (_, twiml) = web.voice("CA1").await;
    assert!(twiml.contains("<Number>+15550177</Number>"), "{twiml}");
}

/// A call that was transferred there, and where the end of the dialled leg leads.
async fn dialled(web: &Web, call_sid: &str, to: &str) -> (Call, String) {
    let (call, target) = web.begun(call_sid).await;
    let n = 1 + u64::from(call_sid != "CA1");
    web.says("fra-1", n, &call, transferring(to)).await;
    let (_, twiml) = web.hook(&target, &in_progress(call_sid)).await;
    let action = between(&twiml, r#"<Dial action=""#, "\"").strip_prefix(ORIGIN).unwrap();
    (call, action.split('#').next().unwrap().replace("&amp;", "&"))
}

#[tokio::test]
async fn the_end_of_the_dialled_leg_ends_the_call_once() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, action) = dialled(&web, "CA1", "+15550177").await;
    let fields = [&in_progress("CA1")[..], &[("DialCallStatus", "completed")]].concat();
    for _ in 0..2 {
        let (_, twiml) = web.hook(&action, &fields).await;
        assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
    }
    let word = [("AccountSid", ACCOUNT), ("CallSid", "CA1"), ("CallStatus", "completed")];
    web.hook("/v1/twilio/status", &word).await;
    let records = web.records(3).await;
    let kinds: Vec<_> = records.iter().map(|record| record.kind.as_str()).collect();
    assert_eq!(kinds, ["call.started", "call.transferred", "call.ended"]);
    assert_eq!(records[1].data, r#"{"to":"+15550177"}"#);
    assert_eq!(records[2].data, r#"{"blame":"agent","reason":"transferred"}"#);
    let (_, shown) = web.api(web.http.get(web.url(&format!("/v1/calls/{}", call.id)))).await;
    assert_eq!((&shown["state"], &shown["end_blame"]), (&"ended".into(), &"agent".into()));
}

#[tokio::test]
async fn a_caller_whose_transfer_reaches_nobody_hears_so() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, action) = dialled(&web, "CA1", "+15550177").await;
    let fields = [&in_progress("CA1")[..], &[("DialCallStatus", "no-answer")]].concat();
    let (_, twiml) = web.hook(&action, &fields).await;
    assert!(twiml.contains("<Say>We are sorry, nobody") && twiml.contains("<Hangup/>"), "{twiml}");
    let call = web.call_by_id(call.id.as_str()).await;
    assert_eq!(call.end_reason.as_deref(), Some("transferred"));
    assert_eq!(call.end_detail.as_deref(), Some("no-answer"));
}

#[tokio::test]
async fn a_caller_who_hangs_up_on_the_dialled_leg_was_transferred() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    dialled(&web, "CA1", "+15550177").await;
    let word = [("AccountSid", ACCOUNT), ("CallSid", "CA1"), ("CallStatus", "completed")];
    web.hook("/v1/twilio/status", &word).await;
    let call = web.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("transferred"));
    let (_, action) = dialled(&web, "CA2", "sip:desk@pbx.example").await;
    let mut gone = in_progress("CA2");
    gone[3].1 = "completed";
    web.hook(&action, &gone).await;
    assert_eq!(web.call("CA2").await.unwrap().end_reason.as_deref(), Some("transferred"));
}

#[tokio::test]
async fn a_sip_address_is_dialled_as_one_and_cannot_leave_its_element() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, target) = web.begun("CA1").await;
    let to = "sip:desk@pbx.example.com;transport=tls?x-from=a";
    web.says("fra-1", 1, &call, transferring(to)).await;
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    assert!(twiml.contains(&format!("<Sip>{to}</Sip></Dial>")), "{twiml}");
}

#[tokio::test]
async fn a_call_that_was_placed_shows_the_number_it_was_placed_from() {
    let carrier = super::carrier::Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let _node = web.node("fra-1", 0);
    let wish = r#"{"to": "+15550199", "from": "+15550103"}"#;
    let (_, placed) = web.api(web.http.post(web.url("/v1/calls")).body(wish)).await;
    let id = placed["id"].as_str().unwrap();
    let (_, twiml) = web.hook(&format!("/v1/twilio/voice?call={id}"), &in_progress("CAnew")).await;
    web.says("fra-1", 1, &web.call_by_id(id).await, transferring("+15550177")).await;
    let (_, twiml) = web.hook(&resume_target(&twiml), &in_progress("CAnew")).await;
    assert!(twiml.contains(r#"callerId="+15550103"><Number>+15550177<"#), "{twiml}");
}

#[tokio::test]
async fn ending_a_transferred_call_by_hand_asks_the_carrier() {
    let carrier = super::carrier::Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let _node = web.node("fra-1", 0);
    let (call, action) = dialled(&web, "CA1", "+15550177").await;
    let hang_up = web.http.post(web.url(&format!("/v1/calls/{}/hang_up", call.id)));
    let (status, shown) = web.api(hang_up).await;
    assert_eq!((status, &shown["end_reason"]), (202, &"operator_hung_up".into()));
    assert!(carrier.asked()[0].path.ends_with("/Calls/CA1.json"));
    let (_, twiml) = web.hook(&action, &in_progress("CA1")).await;
    assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
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
    node.set_load(link::message::Load {
        calls: 10,
        calls_max: 10,
        ready: true,
        ..Default::default()
    });
    let (_, twiml) = web.hook(&target, &in_progress("CA1")).await;
    assert!(twiml.contains(r#"<Pause length="1"/><Redirect"#), "{twiml}");
    let again = resume_target(&twiml);
    assert_eq!(again, format!("{target}?try=1"));
    assert_eq!(web.call("CA1").await.unwrap().generation, Gen(0), "nothing was counted");

    node.set_load(link::message::Load {
        calls: 9,
        calls_max: 10,
        ready: true,
        ..Default::default()
    });
    let (_, twiml) = web.hook(&again, &in_progress("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    node.set_load(link::message::Load {
        calls: 10,
        calls_max: 10,
        ready: true,
        ..Default::default()
    });
    let (_, twiml) = web.hook(&format!("{target}?try=15"), &in_progress("CA1")).await;
    assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
    assert_eq!(web.call("CA1").await.unwrap().end_reason.as_deref(), Some("no_node"));
}

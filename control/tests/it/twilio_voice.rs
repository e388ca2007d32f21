//! How a call begins, through the real routes.

use control::store::call::Filter;
use link::id::Gen;
use link::ticket::{Bearer, KeySet};

use super::web::{
    ACCOUNT, NEXT_TOKEN, ORIGIN, Web, answer, between, inbound, resume_target, sign, sign_with,
    ticket,
};

#[tokio::test]
async fn a_call_gets_a_stream_on_a_node_and_an_address_for_what_follows() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (status, twiml) = web.voice("CA1").await;
    assert_eq!(status, 200);
    assert_eq!(between(&twiml, "<Stream url=\"", "\""), "wss://media.example/v1/m/fra-1");
    assert_eq!(
        between(&twiml, "statusCallback=\"", "\""),
        "https://hooks.example/v1/twilio/stream?tenant=default#rc=5&amp;rp=all"
    );
    assert!(twiml.contains("#rc=3&amp;rp=all&amp;ct=1500&amp;rt=2500&amp;tt=8000</Redirect>"));
    assert!(resume_target(&twiml).starts_with("/v1/twilio/resume/v4.public."));

    let call = web.call("CA1").await.unwrap();
    let keys = KeySet::new(&web.plane.tokens.verifying()).unwrap();
    let claims = keys.verify(&ticket(&twiml), control::clock::wall()).unwrap();
    let carrier = Bearer::Carrier { call_sid: "CA1".into() };
    assert_eq!((claims.call, claims.bearer), (call.id.clone(), carrier));
    assert_eq!((claims.node.as_str(), claims.generation), ("fra-1", Gen(0)));
    assert_eq!((claims.agent.as_str(), claims.agent_version), ("front-desk", 3));
    let started = &web.records(1).await[0];
    assert_eq!((started.kind.as_str(), started.call.as_ref()), ("call.started", Some(&call.id)));
}

#[tokio::test]
async fn a_node_that_cannot_be_told_of_a_stream_gets_it_all_the_same() {
    let web = Web::start().await;
    let (stay, orders) = web.node("fra-1", 0);
    let counted = |outcome| {
        let page = web.plane.metrics.scrape().unwrap();
        let line = format!("control_announcements_total{{outcome=\"{outcome}\"}} ");
        page.lines().find_map(|text| text.strip_prefix(&line)?.parse::<u32>().ok()).unwrap_or(0)
    };
    // Nobody reads what the node is told, as if its link was stuck.
    let (call, target) = web.begun("CA1").await;
    for _ in 0..70 {
        let (status, twiml) = web.voice("CA1").await;
        assert_eq!(status, 200);
        assert!(twiml.contains("<Connect>"), "{twiml}");
    }
    // One place of 64 holds the agent's spec, which was told before.
    assert_eq!((counted("sent"), counted("full"), counted("away")), (63, 8, 0));
    drop(orders);
    let (_, twiml) = web.hook(&target, &inbound("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    assert_eq!((counted("sent"), counted("away")), (63, 1));
    assert_eq!(web.call_by_id(call.id.as_str()).await.node.as_ref(), Some(stay.node()));
}

#[tokio::test]
async fn a_repeated_question_is_the_same_call_of_the_same_generation() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (first, _) = web.begun("CA1").await;
    let fields = inbound("CA1");
    let request = web.http.post(web.url("/v1/twilio/voice")).form(&fields);
    let request = request
        .header("X-Twilio-Signature", sign(&format!("{ORIGIN}/v1/twilio/voice"), &fields))
        .header("I-Twilio-Idempotency-Token", "again");
    assert_eq!(answer(request).await.0, 200);
    let second = web.call("CA1").await.unwrap();
    assert_eq!((first.id, first.generation), (second.id, second.generation));
    let page = web.plane.store.calls(&first.tenant, &Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.calls.len(), 1);
}

#[tokio::test]
async fn a_hook_without_the_carriers_signature_is_refused_and_changes_nothing() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let fields = inbound("CA1");
    let post = || web.http.post(web.url("/v1/twilio/voice")).form(&fields);
    let (status, missing) = answer(post()).await;
    assert_eq!(status, 403);
    assert!(missing.contains("signature_refused"));
    let mut other = fields;
    other[5].1 = "+15550199";
    let forged = [
        sign(&format!("{ORIGIN}/v1/twilio/voice"), &other),
        sign(&format!("{ORIGIN}:8443/v1/twilio/voice"), &fields),
        sign(&format!("{ORIGIN}/v1/twilio/voice/"), &fields),
        sign("http://hooks.example/v1/twilio/voice", &fields),
        "AAAA".to_owned(),
    ];
    for signature in &forged {
        let (status, _) = answer(post().header("X-Twilio-Signature", signature)).await;
        assert_eq!(status, 403, "{signature}");
    }
    // What a proxy says about the host is not asked.
    let spoofed = sign("https://evil.example/v1/twilio/voice", &fields);
    let request = post().header("X-Twilio-Signature", spoofed).header("Host", "evil.example");
    assert_eq!(answer(request).await.0, 403);

    assert_eq!(web.call("CA1").await, None);
    let page = web.plane.metrics.scrape().unwrap();
    assert!(page.contains(r#"control_signatures_refused_total{why="missing"} 1"#), "{page}");
    assert!(page.contains(r#"control_signatures_refused_total{why="wrong"} 6"#), "{page}");
}

#[tokio::test]
async fn a_signature_with_the_default_port_is_right() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let fields = inbound("CA1");
    let signature = sign(&format!("{ORIGIN}:443/v1/twilio/voice"), &fields);
    let request = web.http.post(web.url("/v1/twilio/voice")).form(&fields);
    assert_eq!(answer(request.header("X-Twilio-Signature", signature)).await.0, 200);
}

#[tokio::test]
async fn while_a_token_is_replaced_the_next_one_signs_as_well() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let fields = inbound("CA1");
    let post = |token| {
        let signature = sign_with(token, &format!("{ORIGIN}/v1/twilio/voice"), &fields);
        web.http
            .post(web.url("/v1/twilio/voice"))
            .form(&fields)
            .header("X-Twilio-Signature", signature)
    };
    assert_eq!(answer(post(NEXT_TOKEN)).await.0, 200);
    assert_eq!(answer(post("auth-token-before-the-last")).await.0, 403);
}

/// The carrier asks with a body of JSON.
async fn json_hook(web: &Web, target: &str, body: &str) -> (u16, String) {
    let signature = sign(&format!("{ORIGIN}{target}"), &[]);
    let request = web.http.post(web.url(target)).body(body.to_owned());
    let request = request.header("Content-Type", "application/json; charset=utf-8");
    answer(request.header("X-Twilio-Signature", signature)).await
}

#[tokio::test]
async fn a_question_may_be_json_and_is_covered_by_its_digest() {
    use sha2::Digest as _;
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let target = |body: &str| {
        let digest = sha2::Sha256::digest(body);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("/v1/twilio/voice?agent=sales&bodySHA256={digest}")
    };
    let fields: std::collections::BTreeMap<_, _> = inbound("CA1").into_iter().collect();
    let body = serde_json::to_string(&fields).unwrap();
    let (status, twiml) = json_hook(&web, &target(&body), &body).await;
    assert_eq!(status, 200, "{twiml}");
    assert!(twiml.contains("<Connect>"), "{twiml}");
    let call = web.call("CA1").await.unwrap();
    assert_eq!((call.agent.as_str(), call.from.as_str()), ("sales", "+15550101"));
    // Another body under the same address, none at all in the address, and a form in its place.
    let other = body.replace("CA1", "CA2");
    for target in [target(&body), "/v1/twilio/voice".into()] {
        let (status, problem) = json_hook(&web, &target, &other).await;
        assert_eq!(status, 403, "{target}: {problem}");
    }
    let list = r#"[{"CallSid":"CA3"}]"#;
    let (status, problem) = json_hook(&web, &target(list), list).await;
    assert_eq!(status, 400);
    assert!(problem.contains("body_malformed"), "{problem}");
    let nested = format!(r#"{{"AccountSid":"{ACCOUNT}","CallSid":{{"a":1}}}}"#);
    let (status, problem) = json_hook(&web, &target(&nested), &nested).await;
    assert_eq!(status, 400);
    assert!(problem.contains("carrier_ids_missing"), "{problem}");
}

#[tokio::test]
async fn a_refusal_takes_less_than_a_tenth_of_a_second() {
    let web = Web::start().await;
    let full = web.node("fra-1", 10);
    let mut fastest = std::time::Duration::MAX;
    // The fastest of several: a busy machine holds up some, and our own waiting all of them.
    for n in 0..10 {
        let begun = std::time::Instant::now();
        let (_, twiml) = web.voice(&format!("CA{n}")).await;
        fastest = fastest.min(begun.elapsed());
        assert!(twiml.contains(r#"<Response><Reject reason="busy"/></Response>"#), "{twiml}");
    }
    assert!(fastest.as_millis() < 100, "{fastest:?}");
    drop(full);
    let mut fastest = std::time::Duration::MAX;
    for n in 10..20 {
        let begun = std::time::Instant::now();
        web.voice(&format!("CA{n}")).await;
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest.as_millis() < 100, "{fastest:?}");
}

#[tokio::test]
async fn while_no_relay_is_there_it_rings_for_a_while_and_then_it_is_busy() {
    let web = Web::start().await;
    let mut target = "/v1/twilio/voice?agent=sales".to_owned();
    for n in 1..=6 {
        let (_, twiml) = web.hook(&target, &inbound("CA1")).await;
        assert!(twiml.contains(r#"<Response><Pause length="1"/><Redirect"#), "{twiml}");
        target = resume_target(&twiml);
        assert_eq!(target, format!("/v1/twilio/voice?agent=sales&try={n}"));
    }
    let (_, twiml) = web.hook(&target, &inbound("CA1")).await;
    assert!(twiml.contains(r#"<Response><Reject reason="busy"/></Response>"#), "{twiml}");
    assert_eq!(web.call("CA1").await.unwrap().end_reason.as_deref(), Some("no_node"));
    let (_, twiml) = web.voice("CA2").await;
    assert!(twiml.contains("<Pause"), "{twiml}");
    let _node = web.node("fra-1", 0);
    let (_, twiml) = web.hook(&resume_target(&twiml), &inbound("CA2")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
}

#[tokio::test]
async fn the_ready_node_with_the_fewest_calls_takes_the_call() {
    let web = Web::start().await;
    let _nodes = [web.node("a", 3), web.node("b", 1), web.node("c", 2)];
    let mut chosen = Vec::new();
    for call_sid in ["CA1", "CA2", "CA3"] {
        chosen.push(web.begun(call_sid).await.0.node.unwrap().as_str().to_owned());
    }
    assert_eq!(chosen[0], "b");
    // A call on its way counts: two are equal now, which a lot decides, and then the other is next.
    chosen[1..].sort();
    assert_eq!(chosen[1..], ["b", "c"]);
}

#[tokio::test]
async fn without_a_node_a_ringing_call_stays_unanswered_and_another_is_told() {
    let web = Web::start().await;
    let _full = web.node("fra-1", 10);
    let (_, twiml) = web.voice("CA1").await;
    assert!(twiml.contains(r#"<Response><Reject reason="busy"/></Response>"#), "{twiml}");
    let call = web.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("no_node"));

    let mut fields = inbound("CA2");
    fields[3].1 = "in-progress";
    let (_, twiml) = web.hook("/v1/twilio/voice", &fields).await;
    assert!(twiml.contains("<Response><Say>All lines are busy."), "{twiml}");
    assert!(twiml.ends_with("</Say><Hangup/></Response>"), "{twiml}");

    let (_, again) = web.voice("CA1").await;
    assert!(again.contains("<Response><Hangup/></Response>"), "an ended call stays ended");
}

#[tokio::test]
async fn a_number_may_name_its_agent_and_who_calls_a_wrong_one_is_told_so() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (status, _) = web.hook("/v1/twilio/voice?agent=sales", &inbound("CA1")).await;
    assert_eq!(status, 200);
    assert_eq!(web.call("CA1").await.unwrap().agent.as_str(), "sales");
    for agent in ["nobody", "no%20name"] {
        let target = format!("/v1/twilio/voice?agent={agent}");
        let (status, twiml) = web.hook(&target, &inbound("CA2")).await;
        assert_eq!(status, 200, "{twiml}");
        assert!(twiml.contains("<Response><Say>We are sorry"), "{twiml}");
    }
    assert_eq!(web.call("CA2").await, None);
}

#[tokio::test]
async fn an_outbound_call_is_known_by_its_address_and_belongs_to_one_call_of_the_carrier() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let new = super::db::new_call("c_out");
    let new = control::store::call::NewCall { carrier: None, ..new };
    web.plane.store.create_call(new, control::clock::wall()).await.unwrap();
    let mut fields = inbound("CA1");
    fields[4].1 = "outbound-api";
    let (_, twiml) = web.hook("/v1/twilio/voice?call=c_out", &fields).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    assert_eq!(web.call("CA1").await.unwrap().id.as_str(), "c_out");
    for target in ["/v1/twilio/voice?call=c_out", "/v1/twilio/voice?call=c_none"] {
        let (_, twiml) = web.hook(target, &inbound("CA2")).await;
        assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
    }
    assert_eq!(web.call("CA2").await, None);
}

#[tokio::test]
async fn hooks_are_posts_of_bounded_size() {
    let web = Web::start().await;
    let (status, problem) = answer(web.http.get(web.url("/v1/twilio/voice"))).await;
    assert_eq!(status, 405);
    assert!(problem.contains("method_not_allowed"));
    let long = "x".repeat(65 * 1024);
    let (status, problem) =
        web.hook("/v1/twilio/voice", &[("AccountSid", ACCOUNT), ("Long", &long)]).await;
    assert_eq!(status, 413);
    assert!(problem.contains("body_too_long"));
    let (status, problem) = web.hook("/v1/twilio/voice", &[("Some", "thing")]).await;
    assert_eq!(status, 400);
    assert!(problem.contains("carrier_ids_missing"));
}

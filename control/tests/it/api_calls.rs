//! Calls of the API: placed, listed, looked at, ended.

use control::fleet::orders::Order;
use link::event::{CallEvent, Role, Turn};
use link::message::Command;
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::db::stream_started;
use super::web::{ORIGIN, Web, json as read, next_command};

const WISH: &str = r#"{"to": "+15550199", "agent": "sales"}"#;

async fn post(web: &Web, body: &'static str) -> (u16, Value) {
    web.api(web.http.post(web.url("/v1/calls")).body(body)).await
}

#[tokio::test]
async fn nothing_is_shown_or_done_without_a_key() {
    let web = Web::start().await;
    let get = |path| web.http.get(web.url(path));
    for request in [
        get("/v1/calls"),
        get("/v1/calls/c_1"),
        get("/v1/events"),
        get("/v1/calls").bearer_auth("key-0123456789abcdef01234568"),
        get("/v1/calls").basic_auth("key-0123456789abcdef01234567", Some("")),
        web.http.post(web.url("/v1/calls")).body(WISH),
        web.http.post(web.url("/v1/calls/c_1/hang_up")),
        web.http.post(web.url("/v1/calls/c_1/commands")).body(r#"{"do":"hang_up"}"#),
        get("/v1/calls/c_1/transcript"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let (status, problem) = read(response).await;
        assert_eq!((status, &problem["code"]), (401, &json!("api_key_refused")));
    }
}

#[tokio::test]
async fn a_call_is_placed_by_address_with_each_event_in_a_field_of_its_own() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let (status, call) = post(&web, WISH).await;
    assert_eq!(status, 201, "{call}");
    assert_eq!((&call["state"], &call["direction"]), (&json!("queued"), &json!("outbound")));
    assert_eq!((&call["agent"], &call["from"]), (&json!("sales"), &json!("+15550100")));
    assert_eq!(call["carrier"]["call_sid"], "CAnew");

    let asked = &carrier.asked()[0];
    let account = super::web::ACCOUNT;
    assert_eq!(asked.path, format!("/2010-04-01/Accounts/{account}/Calls.json"));
    let basic = base64_simd::STANDARD.encode_to_string(format!("{account}:{}", super::web::TOKEN));
    assert_eq!(asked.authorization, format!("Basic {basic}"));
    let id = call["id"].as_str().unwrap();
    let query = format!("?tenant=default&call={id}&attempt=1");
    assert_eq!(asked.values("Url"), [format!("{ORIGIN}/v1/twilio/voice{query}")]);
    let status = format!("{ORIGIN}/v1/twilio/status{query}#rc=5&rp=all");
    assert_eq!(asked.values("StatusCallback"), [status]);
    let events = ["initiated", "ringing", "answered", "completed"];
    assert_eq!(asked.values("StatusCallbackEvent"), events);
    assert_eq!(asked.values("To"), ["+15550199"]);
    // The agent wants to know who has picked up.
    assert_eq!(asked.values("MachineDetection"), ["Enable"]);
    assert_eq!(asked.values("AsyncAmd"), ["true"]);
    let machine = format!("{ORIGIN}/v1/twilio/machine{query}#rc=5&rp=all");
    assert_eq!(asked.values("AsyncAmdStatusCallback"), [machine]);
    assert!(asked.values("Twiml").is_empty());
}

#[tokio::test]
async fn a_wish_that_cannot_be_granted_is_a_problem_before_anything_happens() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    for (body, status, code) in [
        ("{", 400, "body_malformed"),
        (r#"{"to": "+15550199", "twiml": "<Response/>"}"#, 400, "body_malformed"),
        (r#"{"to": "5550199"}"#, 422, "number_malformed"),
        (r#"{"to": "+15550199", "from": "me"}"#, 422, "number_malformed"),
        (r#"{"to": "+15550199", "agent": "nobody"}"#, 422, "agent_not_found"),
    ] {
        let (answered, problem) = post(&web, body).await;
        assert_eq!((answered, problem["code"].as_str()), (status, Some(code)), "{body}");
        assert!(!problem["detail"].as_str().unwrap().contains("555"), "{problem}");
    }
    assert!(carrier.asked().is_empty());
    let (_, page) = web.api(web.http.get(web.url("/v1/calls"))).await;
    assert_eq!(page["calls"], json!([]));
}

#[tokio::test]
async fn what_the_carrier_refuses_ends_the_call_and_what_it_does_not_say_is_looked_for() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    for (status, body, told, code) in [
        (401, r#"{"code":20003,"status":401}"#, 502, "carrier_credentials"),
        (400, r#"{"code":21211,"message":"+15550199","status":400}"#, 422, "carrier_refused"),
    ] {
        carrier.will_answer(status, body);
        if status == 401 {
            // The account's next token is no better.
            carrier.will_answer(status, body);
        }
        let (answered, problem) = post(&web, WISH).await;
        assert_eq!((answered, problem["code"].as_str()), (told, Some(code)), "{problem}");
        assert!(!problem["detail"].as_str().unwrap().contains("+1555"), "{problem}");
    }
    carrier.will_answer(500, "oops");
    let (status, call) = post(&web, WISH).await;
    assert_eq!((status, &call["state"]), (201, &json!("queued")), "it may have been placed");
    let (_, page) = web.api(web.http.get(web.url("/v1/calls"))).await;
    let states: Vec<_> = page["calls"].as_array().unwrap().iter().map(|c| &c["state"]).collect();
    assert_eq!(states, ["queued", "ended", "ended"]);
    assert_eq!(carrier.asked().len(), 4, "placing is never repeated blindly");
}

#[tokio::test]
async fn once_the_next_token_is_promoted_it_is_the_one_that_opens_the_carriers_api() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    carrier.will_answer(401, r#"{"code":20003,"status":401}"#);
    let (status, call) = post(&web, WISH).await;
    assert_eq!(status, 201, "{call}");
    let hang_up = web.url(&format!("/v1/calls/{}/hang_up", call["id"].as_str().unwrap()));
    assert_eq!(web.api(web.http.post(hang_up)).await.0, 202);
    let basic = |token: &str| {
        let key = format!("{}:{token}", super::web::ACCOUNT);
        format!("Basic {}", base64_simd::STANDARD.encode_to_string(key))
    };
    let used: Vec<_> = carrier.asked().into_iter().map(|asked| asked.authorization).collect();
    let (old, new) = (basic(super::web::TOKEN), basic(super::web::NEXT_TOKEN));
    assert_eq!(used, [old, new.clone(), new]);
}

#[tokio::test]
async fn a_carrier_that_is_busy_is_asked_again_and_for_one_that_is_away_calls_wait() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    carrier.will_answer(429, r#"{"code":20429,"status":429}"#);
    assert_eq!(post(&web, WISH).await.0, 201);
    assert_eq!(carrier.asked().len(), 2);
    let web = Web::start().await;
    let (status, call) = post(&web, WISH).await;
    assert_eq!((status, &call["state"]), (201, &json!("queued")));
    let id = call["id"].as_str().unwrap();
    let hung_up = web.api(web.http.post(web.url(&format!("/v1/calls/{id}/hang_up")))).await;
    assert_eq!((hung_up.0, &hung_up.1["state"]), (202, &json!("ended")));
}

#[tokio::test]
async fn calls_are_listed_newest_first_by_pages() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    for n in 0..5 {
        web.begun(&format!("CA{n}")).await;
    }
    let (mut target, mut seen) = ("/v1/calls?limit=2".to_owned(), Vec::new());
    loop {
        let (status, page) = web.api(web.http.get(web.url(&target))).await;
        assert_eq!(status, 200);
        let calls = page["calls"].as_array().unwrap();
        seen.extend(calls.iter().map(|call| call["carrier"]["call_sid"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/v1/calls?limit=2&cursor={next}");
    }
    assert_eq!(seen, ["CA4", "CA3", "CA2", "CA1", "CA0"]);
    for (bad, code) in [("limit=0", "limit_malformed"), ("cursor=x", "cursor_malformed")] {
        let (status, problem) = web.api(web.http.get(web.url(&format!("/v1/calls?{bad}")))).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some(code)));
    }
}

#[tokio::test]
async fn a_call_is_shown_with_what_was_said() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, _) = web.begun("CA1").await;
    web.says("fra-1", 1, &call, stream_started()).await;
    let turn = Turn {
        order: 1,
        role: Role::Agent,
        item: "i1".into(),
        text: "Harbor Bikes, hello.".into(),
        heard_ms: Some(900),
        generated_ms: Some(2_000),
        interrupted: true,
        reply_after_ms: None,
    };
    web.says("fra-1", 2, &call, CallEvent::Turn(turn)).await;
    let (status, shown) = web.api(web.http.get(web.url(&format!("/v1/calls/{}", call.id)))).await;
    assert_eq!((status, &shown["state"]), (200, &json!("active")));
    assert_eq!((&shown["node"], &shown["generation"]), (&json!("fra-1"), &json!(0)));
    let turns = shown["turns"].as_array().unwrap();
    assert_eq!((turns.len(), &turns[0]["text"]), (1, &json!("Harbor Bikes, hello.")));
    assert_eq!(turns[0]["heard_ms"], 900);
    let nobody = web.api(web.http.get(web.url("/v1/calls/c_none/transcript"))).await;
    assert_eq!((nobody.0, &nobody.1["code"]), (404, &json!("call_not_found")));
    for id in ["c_none", "a%20b"] {
        let (status, problem) = web.api(web.http.get(web.url(&format!("/v1/calls/{id}")))).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("call_not_found")));
    }
}

#[tokio::test]
async fn a_transcript_is_in_the_order_of_the_conversation_over_all_streams() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (first, target) = web.begun("CA1").await;
    web.hook(&target, &super::web::inbound("CA1")).await;
    let second = web.call_by_id(first.id.as_str()).await;
    let turn = |role, order, text: &str, interrupted| {
        CallEvent::Turn(Turn {
            role,
            item: format!("i{order}"),
            order,
            text: text.into(),
            heard_ms: matches!(role, Role::Agent).then_some(700),
            generated_ms: matches!(role, Role::Agent).then_some(2_000),
            interrupted,
            reply_after_ms: None,
        })
    };
    // The caller's words are complete before the answer that they interrupt, and a stream that
    // was cut off tells its last turn when the next one has begun to speak.
    web.says("fra-1", 1, &first, turn(Role::Caller, 2, "Wait.", false)).await;
    web.says("fra-1", 2, &second, turn(Role::Agent, 0, "Sorry, go on.", false)).await;
    web.says("fra-1", 3, &first, turn(Role::Agent, 1, "We are open", true)).await;
    let target = format!("/v1/calls/{}/transcript", first.id);
    let (status, shown) = web.api(web.http.get(web.url(&target))).await;
    assert_eq!((status, &shown["call"]), (200, &json!(first.id.as_str())));
    assert_eq!(shown["whole"], true);
    let turns = shown["turns"].as_array().unwrap();
    let texts: Vec<_> = turns.iter().map(|turn| turn["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["We are open", "Wait.", "Sorry, go on."]);
    let cut = &turns[0];
    assert_eq!((&cut["role"], &cut["interrupted"]), (&json!("agent"), &json!(true)));
    assert_eq!((&cut["heard_ms"], &cut["generated_ms"]), (&json!(700), &json!(2_000)));
    assert_eq!((&cut["generation"], &turns[2]["generation"]), (&json!(0), &json!(1)));
    let (_, call) = web.api(web.http.get(web.url(&format!("/v1/calls/{}", first.id)))).await;
    assert_eq!(call["turns"], shown["turns"], "the call shows the same");
}

#[tokio::test]
async fn a_call_with_a_stream_is_ended_by_its_node() {
    let web = Web::start().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let (call, _) = web.begun("CA1").await;
    web.says("fra-1", 1, &call, stream_started()).await;
    let hang_up = || web.http.post(web.url(&format!("/v1/calls/{}/hang_up", call.id)));
    let (status, shown) = web.api(hang_up()).await;
    assert_eq!((status, &shown["state"]), (202, &json!("active")));
    let generation = call.generation;
    let order = Order::Do { call: call.id, generation, id: None, command: Command::HangUp };
    assert_eq!(next_command(&mut orders).await, order);
}

#[tokio::test]
async fn a_call_without_a_stream_is_ended_by_the_carrier_and_ending_it_again_changes_nothing() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let (_, placed) = post(&web, WISH).await;
    let id = placed["id"].as_str().unwrap();
    let hang_up = || web.http.post(web.url(&format!("/v1/calls/{id}/hang_up")));
    carrier.will_answer(404, r#"{"code":20404,"status":404}"#);
    let (status, shown) = web.api(hang_up()).await;
    assert_eq!((status, &shown["end_reason"]), (202, &json!("operator_hung_up")));
    let asked = &carrier.asked()[1];
    assert!(asked.path.ends_with("/Calls/CAnew.json"), "{}", asked.path);
    assert_eq!(asked.values("Status"), ["completed"]);
    assert_eq!(web.api(hang_up()).await.0, 202);
    assert_eq!(carrier.asked().len(), 2);
    let (status, _) = web.api(web.http.post(web.url("/v1/calls/c_none/hang_up"))).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_lost_node_leaves_the_hang_up_to_the_carrier() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let node = web.node("fra-1", 0);
    let (call, _) = web.begun("CA1").await;
    web.says("fra-1", 1, &call, stream_started()).await;
    drop(node);
    carrier.will_answer(503, "busy");
    carrier.will_answer(200, "{}");
    let (status, shown) =
        web.api(web.http.post(web.url(&format!("/v1/calls/{}/hang_up", call.id)))).await;
    assert_eq!((status, &shown["state"]), (202, &json!("ended")));
    assert_eq!(carrier.asked().len(), 2, "ending is repeated until it is done");
}

#[tokio::test]
async fn whoever_looks_for_streams_here_is_told_where_they_are() {
    let web = Web::start().await;
    let (status, problem) = read(web.http.get(web.url("/v1/m/fra-1")).send().await.unwrap()).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("stream_elsewhere")));
    let (status, problem) = read(web.http.get(web.url("/nothing")).send().await.unwrap()).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")));
    let (status, problem) = read(web.http.delete(web.url("/v1/calls")).send().await.unwrap()).await;
    assert_eq!((status, problem["code"].as_str()), (405, Some("method_not_allowed")));
}

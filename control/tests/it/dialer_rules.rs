//! What is checked before anybody is dialled, through the API.

use control::dialer::rules::Rules;
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::web::{Web, quick};

async fn post(web: &Web, body: Value) -> (u16, Value) {
    web.api(web.http.post(web.url("/v1/calls")).body(body.to_string())).await
}

async fn with_rules(rules: Rules) -> (Web, Carrier) {
    let carrier = Carrier::start().await;
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    (Web::beside(folder, &carrier.url(), rules).await, carrier)
}

#[tokio::test]
async fn calls_go_only_where_they_may() {
    let (web, carrier) = with_rules(quick()).await;
    for to in ["+4930123456", "+18765550100", "+88213300655", "+19005550100"] {
        let (status, problem) = post(&web, json!({"to": to})).await;
        assert_eq!((status, &problem["code"]), (422, &json!("country_not_allowed")), "{to}");
        assert!(!problem["detail"].as_str().unwrap().contains(&to[1..]), "{problem}");
    }
    let rules = Rules { places: Some("DE,+1876".parse().unwrap()), ..quick() };
    let (listed, asked) = with_rules(rules).await;
    for (to, status) in [("+4930123456", 201), ("+18765550100", 201), ("+14155550100", 422)] {
        assert_eq!(post(&listed, json!({"to": to})).await.0, status, "{to}");
    }
    assert_eq!((carrier.asked().len(), asked.asked().len()), (0, 2));
    let (_, page) = web.api(web.http.get(web.url("/v1/calls"))).await;
    assert_eq!(page["calls"], json!([]), "nothing was queued");
}

/// The operator settles something for the tenant.
async fn limit(web: &Web, limits: Value) {
    let body = json!({"limits": limits}).to_string();
    let (status, answer) = web.api(web.http.patch(web.url("/v1/tenant")).body(body)).await;
    assert_eq!(status, 200, "{answer}");
    web.plane.tenants.refresh().await.unwrap();
}

#[tokio::test]
async fn a_tenants_own_list_and_the_operators_both_count() {
    let (web, carrier) = with_rules(quick()).await;
    limit(&web, json!({"countries": ["+49"]})).await;
    assert_eq!(post(&web, json!({"to": "+4930123456"})).await.0, 201);
    let (status, problem) = post(&web, json!({"to": "+14155550100"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("country_not_allowed")));
    let rules = Rules { places: Some("FR".parse().unwrap()), ..quick() };
    let (french, asked) = with_rules(rules).await;
    limit(&french, json!({"countries": ["+49"]})).await;
    for to in ["+4930123456", "+33123456789"] {
        assert_eq!(post(&french, json!({"to": to})).await.0, 422, "{to}");
    }
    assert_eq!((carrier.asked().len(), asked.asked().len()), (1, 0));
}

#[tokio::test]
async fn a_tenant_has_so_many_calls_at_once_and_so_many_a_minute() {
    let (web, carrier) = with_rules(quick()).await;
    for limits in [json!({"calls_max": 0}), json!({"calls_max": null, "calls_minute_max": 0})] {
        limit(&web, limits).await;
        let (status, call) = post(&web, json!({"to": "+15550199"})).await;
        assert_eq!((status, &call["state"]), (201, &json!("queued")));
        assert!(carrier.asked().is_empty(), "it waits");
    }
    limit(&web, json!({"calls_minute_max": 1})).await;
    web.plane.dialler.wake();
    // The first of them goes out, and the second waits for its minute.
    let kinds: Vec<_> = web.records(3).await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["call.queued", "call.queued", "call.dialled"]);
    post(&web, json!({"to": "+15550199"})).await;
    assert_eq!(carrier.asked().len(), 1);
}

#[tokio::test]
async fn outside_the_hours_a_call_waits_and_impossible_hours_are_a_problem() {
    let (web, carrier) = with_rules(quick()).await;
    // Open from 11:00 to 12:00 UTC, or from 23:00 to midnight: whichever is not now.
    let hour = control::clock::wall().seconds() / 3_600 % 24;
    let (from, to) =
        if (10..=12).contains(&hour) { ("00:00", "02:00") } else { ("12:00", "14:00") };
    let (german, asked) =
        with_rules(Rules { places: Some("DE".parse().unwrap()), ..quick() }).await;
    let hours = json!({"from": from, "to": to});
    let (status, call) = post(&german, json!({"to": "+4930123456", "hours": hours})).await;
    assert_eq!((status, &call["state"]), (201, &json!("queued")), "{call}");
    assert!(asked.asked().is_empty());
    let hours = json!({"from": "09:00", "to": "10:00"});
    let (status, problem) = post(&web, json!({"to": "+14155550100", "hours": hours})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("hours_never_open")));
    let hours = json!({"from": "9", "to": "10:00"});
    let (status, problem) = post(&web, json!({"to": "+14155550100", "hours": hours})).await;
    assert_eq!((status, &problem["code"]), (400, &json!("body_malformed")), "{problem}");
    assert!(carrier.asked().is_empty());
}

#[tokio::test]
async fn who_does_not_want_to_be_called_is_not() {
    let (web, carrier) = with_rules(quick()).await;
    let list = web.url("/v1/do_not_call");
    let entry = |number: &str| format!("{list}/{number}");
    for number in ["+15550199", "%2B15550198", "+15550199"] {
        let (status, answer) = web.api(web.http.put(entry(number))).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (_, page) = web.api(web.http.get(&list)).await;
    let numbers: Vec<_> =
        page["numbers"].as_array().unwrap().iter().map(|n| &n["number"]).collect();
    assert_eq!(numbers, ["+15550198", "+15550199"]);
    assert_eq!(page["next"], Value::Null);
    let (status, problem) = post(&web, json!({"to": "+15550199"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("do_not_call")));
    assert_eq!(web.api(web.http.delete(entry("+15550199"))).await.0, 200);
    let (status, problem) = web.api(web.http.delete(entry("+15550199"))).await;
    assert_eq!((status, &problem["code"]), (404, &json!("number_not_listed")));
    assert_eq!(post(&web, json!({"to": "+15550199"})).await.0, 201);
    let (status, problem) = web.api(web.http.put(entry("12"))).await;
    assert_eq!((status, &problem["code"]), (422, &json!("number_malformed")));
    let (status, _) = super::web::json(web.http.get(&list).send().await.unwrap()).await;
    assert_eq!(status, 401);
    assert_eq!(carrier.asked().len(), 1);
}

#[tokio::test]
async fn a_number_that_came_on_the_list_while_its_call_waited_is_not_dialled() {
    let rules = quick();
    let pacing = control::store::Pacing { account_slots: 0, ..rules.pacing.clone() };
    let (web, carrier) = with_rules(Rules { pacing, ..rules }).await;
    let (status, call) = post(&web, json!({"to": "+15550199"})).await;
    assert_eq!((status, &call["state"]), (201, &json!("queued")));
    web.api(web.http.put(web.url("/v1/do_not_call/+15550199"))).await;
    let folder = std::sync::Arc::clone(&web.folder);
    web.plane.shutdown.cancel();
    let web = Web::beside(folder, &carrier.url(), quick()).await;
    let ended = web.records(2).await.pop().unwrap();
    assert_eq!(ended.kind, "call.ended");
    assert!(ended.data.contains("not_allowed"), "{}", ended.data);
    assert!(carrier.asked().is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_plan_is_named() {
    let (web, carrier) = with_rules(quick()).await;
    for (body, status, code) in [
        (json!({"retry": {"on": ["busy"], "times": 11}}), 422, "plan_malformed"),
        (json!({"retry": {"on": ["rain"], "times": 1}}), 400, "body_malformed"),
        (json!({"retry": {"on": ["busy"], "time": 1}}), 400, "body_malformed"),
        (json!({"machine": {"do": "leave_message", "text": ""}}), 422, "plan_malformed"),
        (json!({"machine": {"do": "shout"}}), 400, "body_malformed"),
        (json!({"within_s": 0}), 422, "plan_malformed"),
    ] {
        let mut wish = json!({"to": "+15550199"});
        wish.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let (answered, problem) = post(&web, wish).await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{body}");
    }
    assert!(carrier.asked().is_empty());
}

#[tokio::test]
async fn a_day_whose_money_is_spent_takes_no_more_calls() {
    let (web, carrier) = with_rules(quick()).await;
    limit(&web, json!({"spend_day_cents_max": 10})).await;
    let _node = web.node("fra-1", 0);
    let wish = || json!({"to": "+15550199"});
    let (status, call) = post(&web, wish()).await;
    assert_eq!(status, 201, "{call}");
    // It is answered, and takes more than a minute: two have begun.
    let call = web.call_by_id(call["id"].as_str().unwrap()).await;
    web.plane
        .store
        .begin_stream(&call.tenant, &call.id, &super::db::node(), call.created_at)
        .await
        .unwrap();
    web.says("fra-1", 1, &call, super::db::stream_started()).await;
    assert_eq!(post(&web, wish()).await.0, 201, "one minute has begun");
    let answered = web.call_by_id(call.id.as_str()).await.answered_at.unwrap();
    let end =
        control::store::Ending { reason: control::store::call::CallEnd::Canceled, detail: None };
    let later = answered.plus_us(60_000_001);
    web.plane.store.end_call(&call.tenant, &call.id, end, later).await.unwrap();
    let (status, problem) = post(&web, wish()).await;
    assert_eq!((status, &problem["code"]), (429, &json!("spend_cap_reached")));
    assert_eq!(carrier.asked().len(), 2);
}

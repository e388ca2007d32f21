//! Sessions of web pages: made, waited for, over.

use control::events::Seq;
use link::event::EndReason;
use link::id::Gen;
use link::ticket::{Bearer, KeySet, SESSION_SECONDS};
use serde_json::{Value, json};

use super::db::{stream_ended, stream_started, tenant};
use super::web::{API_KEY, Web, json as read, next_command};

async fn post(web: &Web, body: &'static str) -> (u16, Value) {
    web.api(web.http.post(web.url("/v1/sessions")).body(body)).await
}

const WISH: &str = r#"{"agent": "sales", "origin": "https://app.example"}"#;

/// A control plane whose operator has the page of the wish.
async fn with_page() -> Web {
    let web = Web::start().await;
    let origins = json!({"origins": ["https://app.example"]});
    let (status, _) = web.api(web.http.patch(web.url("/v1/tenant")).json(&origins)).await;
    assert_eq!(status, 200);
    web
}

#[tokio::test]
async fn a_session_is_a_token_for_one_page_on_one_node() {
    let web = with_page().await;
    let _node = web.node("fra-1", 0);
    let (status, session) = post(&web, WISH).await;
    assert_eq!(status, 201, "{session}");
    assert_eq!(session["ws_url"], "wss://media.example/v1/stream/fra-1");
    assert_eq!((&session["agent"], &session["agent_version"]), (&json!("sales"), &json!(1)));

    let keys = KeySet::new(&web.plane.tokens.verifying()).unwrap();
    let now = control::clock::wall();
    let claims = keys.verify(session["token"].as_str().unwrap(), now).unwrap();
    let page = Bearer::Page { origin: Some("https://app.example".into()) };
    assert_eq!((claims.bearer, claims.generation), (page, Gen(0)));
    assert_eq!((claims.node.as_str(), claims.agent.as_str()), ("fra-1", "sales"));
    assert_eq!(claims.call.as_str(), session["id"]);
    assert_eq!(claims.expires_at - claims.issued_at, SESSION_SECONDS);
    let (_, again) = post(&web, WISH).await;
    assert_ne!((&again["id"], &again["token"]), (&session["id"], &session["token"]));

    // It is a call like any other.
    let id = session["id"].as_str().unwrap();
    let (status, call) = web.api(web.http.get(web.url(&format!("/v1/calls/{id}")))).await;
    assert_eq!((status, &call["from"]), (200, &json!("https://app.example")));
    assert_eq!((&call["node"], &call["carrier"]), (&json!("fra-1"), &Value::Null));
}

#[tokio::test]
async fn a_program_that_is_no_page_names_no_origin() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (status, session) = web.api(web.http.post(web.url("/v1/sessions"))).await;
    assert_eq!(status, 201, "{session}");
    let keys = KeySet::new(&web.plane.tokens.verifying()).unwrap();
    let token = session["token"].as_str().unwrap();
    let claims = keys.verify(token, control::clock::wall()).unwrap();
    assert_eq!(claims.bearer, Bearer::Page { origin: None });
    assert_eq!(session["agent"], "front-desk");
}

#[tokio::test]
async fn a_page_gets_a_token_when_its_tenant_has_it_and_not_before() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let acme = web.key_for("acme", &["*"]).await;
    let theirs = web.http.patch(web.url("/v1/tenant"));
    let theirs = theirs.json(&json!({"origins": ["https://app.example"]}));
    assert_eq!(web.api_as(&acme, theirs).await.0, 200);
    let (status, problem) = post(&web, WISH).await;
    assert_eq!((status, &problem["code"]), (422, &json!("origin_not_allowed")));
    assert!(problem["detail"].as_str().unwrap().contains("PATCH /v1/tenant"), "{problem}");
    let ours = json!({"origins": ["https://app.example"]});
    assert_eq!(web.api(web.http.patch(web.url("/v1/tenant")).json(&ours)).await.0, 200);
    assert_eq!(post(&web, WISH).await.0, 201);
    // As a browser says it, however it is written here.
    assert_eq!(post(&web, r#"{"origin": "https://APP.example:443/"}"#).await.0, 201);
}

#[tokio::test]
async fn a_session_that_cannot_be_made_is_a_problem_and_leaves_nothing_behind() {
    let web = with_page().await;
    let _node = web.node("fra-1", 10);
    for (body, status, code) in [
        ("{", 400, "body_malformed"),
        (r#"{"Origin": "https://app.example"}"#, 400, "body_malformed"),
        (r#"{"agent": "no such name"}"#, 400, "body_malformed"),
        (r#"{"agent": "nobody"}"#, 422, "agent_not_found"),
        (r#"{"origin": "https://app.example/page"}"#, 422, "origin_malformed"),
        (WISH, 503, "no_node"),
    ] {
        let (answered, problem) = post(&web, body).await;
        assert_eq!((answered, problem["code"].as_str()), (status, Some(code)), "{body}");
    }
    let without_key = web.http.post(web.url("/v1/sessions")).body(WISH).send().await.unwrap();
    let (status, problem) = read(without_key).await;
    assert_eq!((status, &problem["code"]), (401, &json!("api_key_refused")));
    let asked = web.http.post(web.url("/v1/sessions")).bearer_auth(API_KEY).body(WISH);
    assert_eq!(asked.send().await.unwrap().headers()["retry-after"], "1");
    let (_, calls) = web.api(web.http.get(web.url("/v1/calls"))).await;
    assert_eq!(calls["calls"], json!([]));
}

#[tokio::test]
async fn a_session_begins_with_its_stream_and_is_over_with_it() {
    let web = with_page().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let (_, session) = post(&web, WISH).await;
    let id = session["id"].as_str().unwrap();
    let call = web.call_by_id(id).await;
    web.says("fra-1", 1, &call, stream_started()).await;
    let hang_up = web.http.post(web.url(&format!("/v1/calls/{id}/hang_up")));
    assert_eq!(web.api(hang_up).await.0, 202);
    let _ = next_command(&mut orders).await;
    web.says("fra-1", 2, &call, stream_ended(EndReason::CallerHungUp)).await;
    let (_, shown) = web.api(web.http.get(web.url(&format!("/v1/calls/{id}")))).await;
    assert_eq!(
        (&shown["state"], &shown["end_reason"]),
        (&json!("ended"), &json!("caller_hung_up"))
    );
    let kinds: Vec<_> = web.records(5).await.into_iter().map(|record| record.kind).collect();
    let expected =
        ["call.started", "call.answered", "stream.started", "stream.ended", "call.ended"];
    assert_eq!(kinds, expected);
    assert!(web.plane.store.head(&tenant()).await.unwrap() >= Seq(5));
}

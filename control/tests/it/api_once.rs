//! `Idempotency-Key` on everything that creates: sent again, done once.

use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::web::{API_KEY, Web, json as read};

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or("none")
}

fn post(web: &Web, target: &str, key: &str, body: &Value) -> RequestBuilder {
    web.http.post(web.url(target)).header("Idempotency-Key", key).json(body)
}

/// Status, whether it was answered before, and body.
async fn asked(request: RequestBuilder) -> (u16, bool, Value) {
    let response = request.bearer_auth(API_KEY).send().await.unwrap();
    let is_repeated = response.headers().contains_key("idempotency-replayed");
    let (status, body) = read(response).await;
    (status, is_repeated, body)
}

const CREATED: [&str; 2] = [
    r#"{"sid":"CA1","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA2","account_sid":"AC00000000000000000000000000000001"}"#,
];

#[tokio::test]
async fn whatever_is_created_is_created_once() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    for created in CREATED {
        carrier.will_answer(201, created);
    }
    let agent = json!({
        "name": "library", "instructions": "x", "provider": {"kind": "openai_realtime"},
    });
    for (target, body) in [
        ("/v1/calls", json!({"to": "+15550199"})),
        ("/v1/agents", agent),
        ("/v1/numbers", json!({"number": "+15550102"})),
        ("/v1/runs", json!({"calls": [{"to": "+15550188"}]})),
    ] {
        let (status, is_repeated, first) = asked(post(&web, target, target, &body)).await;
        assert_eq!((status, is_repeated), (201, false), "{target}: {first}");
        let again = asked(post(&web, target, target, &body)).await;
        assert_eq!(again, (201, true, first), "{target}");
        let (status, _, problem) = asked(post(&web, target, target, &json!({"x": 1}))).await;
        assert_eq!((status, code(&problem)), (422, "idempotency_key_reused"), "{target}");
    }
    // Two calls are queued, and then dialled.
    web.records(4).await;
    assert_eq!(carrier.asked().len(), 2);
    let (_, list) = web.get("/v1/calls").await;
    assert_eq!(list["calls"].as_array().unwrap().len(), 2);
    let elsewhere = json!({"number": "+15550102"});
    let (status, _, problem) = asked(post(&web, "/v1/agents", "/v1/numbers", &elsewhere)).await;
    assert_eq!((status, code(&problem)), (422, "idempotency_key_reused"), "another resource");
}

#[tokio::test]
async fn what_has_a_secret_is_made_once_and_shows_it_once() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    web.key_for("acme", &["calls:read"]).await;
    for (n, (target, body, secret)) in [
        ("/v1/keys", json!({"name": "web"}), "key"),
        // Another tenant's, which only the operator makes.
        ("/v1/keys", json!({"name": "web", "tenant": "acme"}), "key"),
        ("/v1/webhooks", json!({"url": "https://app.example/hook"}), "secret"),
        ("/v1/sessions", json!({"agent": "sales"}), "token"),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("key-{n}");
        let (status, _, first) = asked(post(&web, target, &key, &body)).await;
        assert_eq!(status, 201, "{target}: {first}");
        let shown = first[secret].as_str().unwrap();
        let (status, is_repeated, again) = asked(post(&web, target, &key, &body)).await;
        assert_eq!((status, code(&again)), (409, "already_created"), "{target}");
        assert_eq!((&again["id"], is_repeated), (&first["id"], false), "{target}");
        assert!(!again.to_string().contains(shown), "{target}");
        let other = json!({"name": "other", "tenant": body["tenant"]});
        if target == "/v1/keys" {
            let (status, _, problem) = asked(post(&web, target, &key, &other)).await;
            assert_eq!((status, code(&problem)), (422, "idempotency_key_reused"), "{target}");
        }
    }
    let (_, keys) = web.get("/v1/keys").await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let (_, hooks) = web.get("/v1/webhooks").await;
    assert_eq!(hooks["webhooks"].as_array().unwrap().len(), 1);
    let (_, calls) = web.get("/v1/calls").await;
    assert_eq!(calls["calls"].as_array().unwrap().len(), 1, "one session");
}

#[tokio::test]
async fn a_secret_that_was_refused_frees_its_key() {
    let web = Web::start().await;
    for (target, wrong, status, right) in [
        ("/v1/keys", json!({"name": " "}), 422, json!({"name": "web"})),
        ("/v1/keys", json!({"name": "web", "tenant": "nobody"}), 422, json!({"name": "more"})),
        (
            "/v1/webhooks",
            json!({"url": "http://a.example/"}),
            422,
            json!({"url": "https://a.example/"}),
        ),
    ] {
        let key = format!("{target} {right}");
        let (answered, _, problem) = asked(post(&web, target, &key, &wrong)).await;
        assert_eq!(answered, status, "{target}: {problem}");
        assert_eq!(asked(post(&web, target, &key, &right)).await.0, 201, "{target}");
    }
    let (wish, key) = (json!({"agent": "sales"}), "session");
    let (answered, _, problem) = asked(post(&web, "/v1/sessions", key, &wish)).await;
    assert_eq!((answered, code(&problem)), (503, "no_node"));
    let _node = web.node("fra-1", 0);
    assert_eq!(asked(post(&web, "/v1/sessions", key, &wish)).await.0, 201);
}

#[tokio::test]
async fn requests_at_once_with_one_key_place_one_call() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let wish = json!({"to": "+15550199"});
    let all = join_all((0..8).map(|_| asked(post(&web, "/v1/calls", "key-1", &wish)))).await;
    for (status, _, body) in &all {
        assert!(*status == 201 || code(body) == "idempotency_unfinished", "{status} {body}");
    }
    assert!(all.iter().any(|(status, _, _)| *status == 201));
    assert_eq!(carrier.asked().len(), 1);
}

#[tokio::test]
async fn a_request_that_was_refused_frees_its_key() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let (status, _, _) = asked(post(&web, "/v1/calls", "key-1", &json!({"to": "555"}))).await;
    assert_eq!(status, 422);
    let (status, _, _) = asked(post(&web, "/v1/calls", "key-1", &json!({"to": "+15550199"}))).await;
    assert_eq!(status, 201, "a corrected request may keep its key");
    for bad in ["", "\"\"", &"x".repeat(256)] {
        let (status, _, problem) = asked(post(&web, "/v1/calls", bad, &json!({}))).await;
        assert_eq!(status, 400, "{bad}: {problem}");
    }
}

#[tokio::test]
async fn what_a_silent_carrier_may_have_done_is_not_done_again() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    carrier.will_answer(500, "oops");
    let wish = json!({"to": "+15550199"});
    let (status, _, first) = asked(post(&web, "/v1/calls", "key-1", &wish)).await;
    assert_eq!((status, &first["state"]), (201, &json!("queued")));
    let (status, _, again) = asked(post(&web, "/v1/calls", "key-1", &wish)).await;
    assert_eq!((status, &again["id"]), (201, &first["id"]));
    assert_eq!(carrier.asked().len(), 1);
}

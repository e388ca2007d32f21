//! Keys of tenants: what opens the API, for whom, and how far.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::db::in_time;
use super::web::Web;

async fn create(web: &Web, key: &str, body: Value) -> (u16, Value) {
    web.api_as(key, web.http.post(web.url("/v1/keys")).body(body.to_string())).await
}

async fn status(web: &Web, key: &str, path: &str) -> u16 {
    web.api_as(key, web.http.get(web.url(path))).await.0
}

#[tokio::test]
async fn a_key_is_shown_once_opens_its_tenant_and_is_refused_once_revoked() {
    let web = Web::start().await;
    let mine = web.key_for("acme", &["*"]).await;
    let (code, made) = create(&web, &mine, json!({"name": "web", "expires_in_days": 30})).await;
    assert_eq!((code, &made["tenant"], &made["scopes"]), (201, &json!("acme"), &json!(["*"])));
    let fresh = made["key"].as_str().unwrap().to_owned();
    assert_eq!(status(&web, &fresh, "/v1/calls").await, 200);

    let id = made["id"].as_str().unwrap();
    let (code, shown) = web.api_as(&mine, web.http.get(web.url(&format!("/v1/keys/{id}")))).await;
    assert_eq!((code, &shown["name"]), (200, &json!("web")));
    assert!(shown.get("key").is_none() && shown["expires_at"].is_string(), "{shown}");
    let (_, listed) = web.api_as(&mine, web.http.get(web.url("/v1/keys"))).await;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(&fresh));

    let delete = || web.http.delete(web.url(&format!("/v1/keys/{id}")));
    let (code, revoked) = web.api_as(&mine, delete()).await;
    assert_eq!((code, revoked["revoked_at"].is_string()), (200, true));
    let (code, problem) = web.api_as(&fresh, web.http.get(web.url("/v1/calls"))).await;
    assert_eq!((code, &problem["code"]), (401, &json!("api_key_revoked")));
    assert_eq!(web.api_as(&mine, delete()).await.0, 200, "once more changes nothing");

    let (_, log) = web.api_as(&mine, web.http.get(web.url("/v1/audit"))).await;
    let actions: Vec<_> = log["lines"].as_array().unwrap().iter().map(|l| &l["action"]).collect();
    assert_eq!(actions, ["key.created", "key.created", "key.revoked"]);
    assert_eq!(log["lines"][2]["subject"], id);
    let next = format!("/v1/audit?after={}", log["next"].as_str().unwrap());
    let (_, rest) = web.api_as(&mine, web.http.get(web.url(&next))).await;
    assert_eq!((&rest["lines"], &rest["next"]), (&json!([]), &log["next"]));
}

#[tokio::test]
async fn a_key_sees_and_revokes_nothing_of_another_tenant() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, _) = web.begun("CA1").await;
    let (mine, theirs) = (web.key_for("acme", &["*"]).await, web.key_for("bolt", &["*"]).await);
    let (_, made) = create(&web, &mine, json!({"name": "web"})).await;
    let id = made["id"].as_str().unwrap();
    let key = format!("/v1/keys/{id}");
    for request in [
        web.http.get(web.url(&key)),
        web.http.delete(web.url(&key)),
        web.http.get(web.url(&format!("/v1/calls/{}", call.id))),
        web.http.get(web.url(&format!("/v1/calls/{}/transcript", call.id))),
        web.http.post(web.url(&format!("/v1/calls/{}/hang_up", call.id))),
        web.http
            .post(web.url(&format!("/v1/calls/{}/commands", call.id)))
            .body(r#"{"do":"hang_up"}"#),
        web.http.get(web.url("/v1/keys/none")),
        web.http.get(web.url("/v1/keys/a%20b")),
    ] {
        assert_eq!(web.api_as(&theirs, request).await.0, 404);
    }
    let (_, calls) = web.api_as(&theirs, web.http.get(web.url("/v1/calls"))).await;
    assert_eq!(calls["calls"], json!([]));
    let (_, keys) = web.api_as(&theirs, web.http.get(web.url("/v1/keys"))).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert_eq!(status(&web, made["key"].as_str().unwrap(), "/v1/calls").await, 200);
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_hands_on_no_more() {
    let web = Web::start().await;
    let reader = web.key_for("acme", &["calls:read"]).await;
    let maker = web.key_for("acme", &["keys:write", "calls:read"]).await;
    assert_eq!(status(&web, &reader, "/v1/calls").await, 200);
    for (key, request, needs) in [
        (&reader, web.http.post(web.url("/v1/calls")).body("{}"), "calls:write"),
        (&reader, web.http.get(web.url("/v1/events")), "events:read"),
        (&reader, web.http.get(web.url("/v1/keys")), "keys:read"),
        (&maker, web.http.get(web.url("/v1/keys")), "keys:read"),
    ] {
        let (code, problem) = web.api_as(key, request).await;
        assert_eq!((code, &problem["code"]), (403, &json!("scope_missing")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(needs), "{problem}");
    }
    let (code, made) = create(&web, &maker, json!({"name": "same"})).await;
    assert_eq!((code, &made["scopes"]), (201, &json!(["calls:read", "keys:write"])));
    let (code, _) = create(&web, &maker, json!({"name": "x", "scopes": ["calls:read"]})).await;
    assert_eq!(code, 201);
    for scopes in [json!(["*"]), json!(["calls:write"])] {
        let (code, problem) = create(&web, &maker, json!({"name": "x", "scopes": scopes})).await;
        assert_eq!((code, &problem["code"]), (403, &json!("scope_missing")));
    }
}

#[tokio::test]
async fn a_wish_for_a_key_that_cannot_be_granted_names_its_field() {
    let web = Web::start().await;
    let key = web.key_for("acme", &["*"]).await;
    for (body, code, word) in [
        (json!({}), 400, "`name`"),
        (json!({"name": 3}), 400, "`name`"),
        (json!({"name": "x", "scope": []}), 400, "`scope`"),
        (json!({"name": " "}), 422, "`name`"),
        (json!({"name": "x".repeat(101)}), 422, "`name`"),
        (json!({"name": "x", "scopes": []}), 422, "`scopes`"),
        (json!({"name": "x", "scopes": ["calls"]}), 422, "`scopes`"),
        (json!({"name": "x", "expires_in_days": 0}), 422, "`expires_in_days`"),
        (json!({"name": "x", "expires_in_days": -1}), 400, "`expires_in_days`"),
        (json!({"name": "x", "tenant": "bolt"}), 403, "CONTROL_API_KEYS"),
        (json!({"name": "x", "tenant": "a b"}), 400, "`tenant`"),
    ] {
        let (answered, problem) = create(&web, &key, body.clone()).await;
        assert_eq!(answered, code, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{body}: {problem}");
    }
}

#[tokio::test]
async fn the_operator_makes_keys_for_every_tenant_that_is_there() {
    let web = Web::start().await;
    web.key_for("acme", &["*"]).await;
    let wish = |tenant: &str| {
        let body = json!({"name": "first", "tenant": tenant}).to_string();
        web.http.post(web.url("/v1/keys")).body(body)
    };
    let (code, made) = web.api(wish("acme")).await;
    assert_eq!((code, &made["tenant"]), (201, &json!("acme")));
    assert_eq!(status(&web, made["key"].as_str().unwrap(), "/v1/keys").await, 200);
    let (code, problem) = web.api(wish("nobody")).await;
    assert_eq!((code, &problem["code"]), (422, &json!("tenant_not_found")));
}

#[tokio::test]
async fn an_event_stream_ends_when_its_key_is_revoked() {
    let web = Web::start().await;
    let (mine, watcher) = (web.key_for("acme", &["*"]).await, web.key_for("acme", &["*"]).await);
    let request = web.http.get(web.url("/v1/events")).bearer_auth(&watcher);
    let mut stream = request.send().await.unwrap().bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    let id = watcher.split('_').nth(2).unwrap();
    let delete = web.http.delete(web.url(&format!("/v1/keys/{id}")));
    assert_eq!(web.api_as(&mine, delete).await.0, 200);
    in_time(async { while stream.next().await.is_some() {} }).await;
}

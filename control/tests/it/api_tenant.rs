//! A tenant's settings, and the web pages that may ask for it.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::web::{ORIGIN, Web, json as read};

const PAGE: &str = "https://app.example";

async fn patch(web: &Web, key: &str, body: Value) -> (u16, Value) {
    web.api_as(key, web.http.patch(web.url("/v1/tenant")).body(body.to_string())).await
}

async fn preflight(web: &Web, origin: &str) -> Response {
    let request = web.http.request(Method::OPTIONS, web.url("/v1/calls"));
    let request = request.header("origin", origin).header("access-control-request-method", "POST");
    request.send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_tenant_sets_its_origins_and_the_operator_alone_its_limits() {
    let web = Web::start().await;
    let key = web.key_for("acme", &["*"]).await;
    web.plane.tenants.refresh().await.unwrap();
    let (code, shown) = web.api_as(&key, web.http.get(web.url("/v1/tenant"))).await;
    assert_eq!((code, &shown["id"], &shown["version"]), (200, &json!("acme"), &json!(1)));
    assert_eq!(shown["limits"]["countries"], Value::Null);

    let (code, shown) = patch(&web, &key, json!({"origins": [PAGE]})).await;
    assert_eq!((code, &shown["origins"], &shown["version"]), (200, &json!([PAGE]), &json!(2)));
    let limits = json!({"limits": {"countries": ["+49"], "calls_max": 3}});
    let (code, problem) = patch(&web, &key, limits.clone()).await;
    assert_eq!((code, &problem["code"]), (403, &json!("operator_only")));

    let operator = super::web::API_KEY;
    let (code, shown) = patch(&web, operator, limits).await;
    assert_eq!((code, &shown["id"]), (200, &json!("default")));
    assert_eq!(
        (&shown["limits"]["countries"], &shown["limits"]["calls_max"]),
        (&json!(["+49"]), &json!(3))
    );
    let (_, shown) = patch(&web, operator, json!({"limits": {"countries": null}})).await;
    assert_eq!(shown["limits"]["countries"], Value::Null, "null lifts it");
    assert_eq!(shown["limits"]["calls_max"], 3, "what is absent stays");
    let known = web.plane.tenants.get(&link::id::TenantId::default()).unwrap();
    assert_eq!(known.limits.calls_max, Some(3));

    let (_, log) = web.api_as(&key, web.http.get(web.url("/v1/audit"))).await;
    let last = log["lines"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["action"], &last["detail"]["origins"]),
        (&json!("tenant.changed"), &json!([PAGE]))
    );
}

#[tokio::test]
async fn a_change_of_an_outdated_version_is_refused() {
    let web = Web::start().await;
    let key = web.key_for("acme", &["*"]).await;
    let change = |version: &str| {
        let request = web.http.patch(web.url("/v1/tenant")).header("if-match", version);
        request.body(json!({"origins": []}).to_string())
    };
    assert_eq!(web.api_as(&key, change("\"1\"")).await.0, 200);
    let (code, problem) = web.api_as(&key, change("\"1\"")).await;
    assert_eq!((code, &problem["code"]), (412, &json!("version_outdated")));
    assert!(problem["detail"].as_str().unwrap().contains("version 2"), "{problem}");
    assert_eq!(web.api_as(&key, change("\"2\"")).await.0, 200);
    let (code, problem) = web.api_as(&key, change("x")).await;
    assert_eq!((code, &problem["code"]), (400, &json!("version_malformed")));
}

#[tokio::test]
async fn a_setting_that_is_none_names_its_field() {
    let web = Web::start().await;
    for (body, code, word) in [
        (json!({"origin": []}), 400, "`origin`"),
        (json!({"origins": "x"}), 400, "`origins`"),
        (json!({"origins": [PAGE, "https://app.example/"]}), 422, "`origins[1]`"),
        (json!({"origins": ["*"]}), 422, "`origins[0]`"),
        (json!({"limits": {"countries": ["49"]}}), 422, "`limits.countries`"),
        (json!({"limits": {"countries": ["+0"]}}), 422, "`limits.countries`"),
        (json!({"limits": {"calls_max": -1}}), 400, "`calls_max`"),
        (json!({"limits": {"calls": 1}}), 400, "`calls`"),
    ] {
        let (answered, problem) = patch(&web, super::web::API_KEY, body.clone()).await;
        assert_eq!(answered, code, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{body}: {problem}");
    }
}

#[tokio::test]
async fn a_page_may_ask_for_its_own_tenant_and_see_the_answer() {
    let web = Web::start().await;
    let (acme, bolt) = (web.key_for("acme", &["*"]).await, web.key_for("bolt", &["*"]).await);
    let refused = preflight(&web, PAGE).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(header(&refused, "access-control-allow-origin"), "");
    assert_eq!(read(refused).await.1["code"], "origin_refused");

    patch(&web, &acme, json!({"origins": [PAGE]})).await;
    let allowed = preflight(&web, PAGE).await;
    assert_eq!(allowed.status(), 204);
    assert_eq!(header(&allowed, "access-control-allow-origin"), PAGE);
    assert_eq!(header(&allowed, "access-control-allow-credentials"), "true");
    assert!(header(&allowed, "access-control-allow-headers").contains("idempotency-key"));

    let ask = |key: &str, origin: &str| {
        let request = web.http.get(web.url("/v1/calls")).bearer_auth(key);
        request.header("origin", origin).send()
    };
    let answer = ask(&acme, PAGE).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "access-control-allow-origin"), PAGE);
    assert_eq!(header(&answer, "vary"), "origin");
    // Another tenant's page: refused, whatever its key, and by a word that says what to set.
    let answer = ask(&bolt, PAGE).await.unwrap();
    let (code, problem) = read(answer).await;
    assert_eq!((code, &problem["code"]), (403, &json!("origin_refused")));
    for near in ["https://app.example:8443", "http://app.example", "https://x.app.example", "null"]
    {
        let answer = ask(&acme, near).await.unwrap();
        assert_eq!(answer.status(), 403, "{near}");
        assert_eq!(header(&answer, "access-control-allow-origin"), "", "{near}");
    }
    // Our own pages, and whoever is no browser.
    assert_eq!(ask(&bolt, ORIGIN).await.unwrap().status(), 200);
    let plain = web.http.get(web.url("/v1/calls")).bearer_auth(&bolt).send().await.unwrap();
    assert_eq!((plain.status().as_u16(), header(&plain, "vary")), (200, "origin"));
    assert_eq!(header(&plain, "access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_refusal_can_be_read_by_the_page_too() {
    let web = Web::start().await;
    let acme = web.key_for("acme", &["*"]).await;
    patch(&web, &acme, json!({"origins": [PAGE]})).await;
    let request = web.http.get(web.url("/v1/calls")).header("origin", PAGE);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(header(&answer, "access-control-allow-origin"), PAGE);
}

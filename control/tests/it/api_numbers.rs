//! Numbers of the API: taken, given another route, shown, given back.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::db::actor;
use super::web::{API_KEY, Web, json as read};
use control::store::call::Number;
use control::store::numbers::Route;
use link::id::TenantId;

/// Status, `ETag` and body.
async fn asked(request: RequestBuilder) -> (u16, Option<String>, Value) {
    let response = request.bearer_auth(API_KEY).send().await.unwrap();
    let tag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
    let (status, body) = read(response).await;
    (status, tag, body)
}

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn a_number_is_taken_rerouted_by_its_version_and_given_back() {
    let web = Web::start().await;
    let wish = json!({"number": "+15550102", "agent": "sales"});
    let (status, tag, made) = asked(web.http.post(web.url("/v1/numbers")).json(&wish)).await;
    assert_eq!((status, tag.as_deref()), (201, Some("\"1\"")), "{made}");
    assert_eq!((&made["agent"], &made["legacy_url"]), (&json!("sales"), &Value::Null));
    for id in ["+15550102", "%2B15550102", "15550102"] {
        assert_eq!(web.get(&format!("/v1/numbers/{id}")).await, (200, made.clone()), "{id}");
    }
    let one = web.url("/v1/numbers/15550102");
    let mut changed = made.clone();
    changed["legacy_url"] = "https://old.example/voice".into();
    changed["legacy_percent"] = 25.into();
    let put = |version: &str| web.http.put(&one).header("If-Match", version).json(&changed);
    let (status, _, problem) = asked(web.http.put(&one).json(&changed)).await;
    assert_eq!((status, code(&problem)), (428, "version_missing"));
    let (status, tag, second) = asked(put("\"1\"")).await;
    assert_eq!((status, tag.as_deref()), (200, Some("\"2\"")), "{second}");
    assert_eq!(second["legacy_percent"], 25);
    let (status, _, problem) = asked(put("\"1\"")).await;
    assert_eq!((status, code(&problem)), (412, "version_stale"));
    let (_, list) = web.get("/v1/numbers").await;
    assert_eq!(list, json!({"numbers": [second]}));
    assert_eq!(asked(web.http.delete(&one)).await, (204, None, Value::Null));
    for request in [web.http.get(&one), web.http.delete(&one), put("*")] {
        let (status, _, problem) = asked(request).await;
        assert_eq!((status, code(&problem)), (404, "number_not_found"));
    }
}

#[tokio::test]
async fn what_cannot_be_a_route_is_a_problem_that_names_the_field() {
    let web = Web::start().await;
    for (body, status, of, part) in [
        (json!([]), 400, "body_malformed", "number"),
        (json!({"number": "+15550102", "legacy": "x"}), 400, "body_malformed", "legacy_url"),
        (json!({}), 422, "number_missing", "`number`"),
        (json!({"number": "555"}), 422, "number_malformed", "`number`"),
        (json!({"number": "+15550102", "agent": "no body"}), 422, "agent_not_found", "`agent`"),
        (json!({"number": "+15550102", "agent": "nobody"}), 422, "agent_not_found", "`agent`"),
    ] {
        let (answered, problem) = web.post("/v1/numbers", &body).await;
        assert_eq!((answered, code(&problem)), (status, of), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    let good = "https://old.example/voice";
    for (url, percent, of) in [
        (json!("http://old.example"), json!(10), "legacy_url_malformed"),
        (json!("https://user:pass@old.example"), json!(10), "legacy_url_malformed"),
        (json!("https://old.example/a b"), json!(10), "legacy_url_malformed"),
        (json!("https://old.example/\u{0}"), json!(10), "legacy_url_malformed"),
        (json!(format!("{good}{}", "x".repeat(2_000))), json!(10), "legacy_url_malformed"),
        (json!(good), json!(101), "legacy_percent_malformed"),
        (json!(good), Value::Null, "legacy_percent_malformed"),
        (Value::Null, json!(10), "legacy_percent_malformed"),
    ] {
        let wish = json!({"number": "+15550102", "legacy_url": url, "legacy_percent": percent});
        let (status, problem) = web.post("/v1/numbers", &wish).await;
        assert_eq!((status, code(&problem)), (422, of), "{wish}");
    }
    assert_eq!(web.get("/v1/numbers").await.1, json!({"numbers": []}));
}

#[tokio::test]
async fn a_number_of_somebody_else_cannot_be_taken_seen_or_changed() {
    let web = Web::start().await;
    let (store, other) = (&web.plane.store, TenantId::new("other").unwrap());
    let now = control::clock::wall();
    store.ensure_tenant(&other, now).await.unwrap();
    let theirs = Number("+15550102".into());
    let wish = (theirs.clone(), Route::default());
    store.create_number(&other, wish, None, &actor(), now).await.unwrap();
    let (status, problem) = web.post("/v1/numbers", &json!({"number": "+15550102"})).await;
    assert_eq!((status, code(&problem)), (409, "number_taken"));
    let one = web.url("/v1/numbers/15550102");
    let put = web.http.put(&one).header("If-Match", "*").json(&json!({}));
    for request in [web.http.get(&one), put, web.http.delete(&one)] {
        let (status, _, problem) = asked(request).await;
        assert_eq!((status, code(&problem)), (404, "number_not_found"));
    }
    assert!(store.number(&other, &theirs).await.unwrap().is_some());
}

#[tokio::test]
async fn an_agent_that_a_number_names_stays() {
    let web = Web::start().await;
    let provider = json!({"kind": "openai_realtime"});
    let agent = json!({"name": "library", "instructions": "Answer.", "provider": provider});
    web.post("/v1/agents", &agent).await;
    let wish = json!({"number": "+15550102", "agent": "library"});
    assert_eq!(web.post("/v1/numbers", &wish).await.0, 201);
    let delete = || web.http.delete(web.url("/v1/agents/library"));
    let (status, _, problem) = asked(delete()).await;
    assert_eq!((status, code(&problem)), (409, "agent_in_use"));
    asked(web.http.delete(web.url("/v1/numbers/15550102"))).await;
    assert_eq!(asked(delete()).await.0, 204);
}

#[tokio::test]
async fn without_a_word_the_only_number_calls() {
    let carrier = Carrier::start().await;
    let web = Web::with_from(&carrier.url(), None).await;
    let wish = json!({"to": "+15550199", "agent": "sales"});
    let (status, problem) = web.post("/v1/calls", &wish).await;
    assert_eq!((status, code(&problem)), (422, "from_missing"));
    web.post("/v1/numbers", &json!({"number": "+15550102"})).await;
    let (status, call) = web.post("/v1/calls", &wish).await;
    assert_eq!((status, &call["from"]), (201, &json!("+15550102")), "{call}");
    web.post("/v1/numbers", &json!({"number": "+15550103"})).await;
    let (status, problem) = web.post("/v1/calls", &wish).await;
    assert_eq!((status, code(&problem)), (422, "from_missing"), "with two it would be a guess");
}

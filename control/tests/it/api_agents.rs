//! Agents of the API: made, changed by their version, shown without secrets, taken away.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::web::{API_KEY, Web, json as read};

fn agent(name: &str) -> Value {
    json!({
        "name": name,
        "instructions": "You answer the phone of a library.",
        "provider": {"kind": "openai_realtime"},
        "tools": [
            {"kind": "http", "name": "slots", "description": "Finds.", "url": "https://t.example",
             "signing_key": "hush"},
            {"kind": "hang_up"},
        ],
    })
}

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
async fn an_agent_is_made_changed_by_its_version_and_taken_away() {
    let web = Web::start().await;
    let one = web.url("/v1/agents/library");
    let make = web.http.post(web.url("/v1/agents")).json(&agent("library"));
    let (status, tag, made) = asked(make).await;
    assert_eq!((status, tag.as_deref()), (201, Some("\"1\"")), "{made}");
    assert_eq!((&made["name"], &made["version"]), (&json!("library"), &json!(1)));
    assert_eq!((&made["source"], &made["signed_tools"]), (&json!("api"), &json!(["slots"])));
    assert_eq!(made["provider"]["model"], "gpt-realtime-2.1", "what was left out is shown");
    assert!(!made.to_string().contains("hush") && !made.to_string().contains("sk-"), "{made}");
    assert_eq!(asked(web.http.get(&one)).await, (200, Some("\"1\"".into()), made.clone()));

    let mut changed = made.clone();
    changed["instructions"] = "You answer the phone of a museum.".into();
    let put = |version: &str| web.http.put(&one).header("If-Match", version).json(&changed);
    let (status, _, problem) = asked(web.http.put(&one).json(&changed)).await;
    assert_eq!((status, code(&problem)), (428, "version_missing"));
    let (status, tag, second) = asked(put("\"1\"")).await;
    assert_eq!((status, tag.as_deref()), (200, Some("\"2\"")), "{second}");
    assert_eq!(second["signed_tools"], json!(["slots"]), "a key that nobody touched stays");
    let (status, _, problem) = asked(put("\"1\"")).await;
    assert_eq!((status, code(&problem)), (412, "version_stale"));
    assert!(problem["detail"].as_str().unwrap().contains("version is 2"), "{problem}");
    let (_, _, first) = asked(web.http.get(format!("{one}?version=1"))).await;
    assert_eq!(first["instructions"], made["instructions"]);

    let (_, list) = web.get("/v1/agents").await;
    let listed = list["agents"].as_array().unwrap().iter();
    let listed: Vec<_> =
        listed.map(|agent| (agent["name"].as_str().unwrap(), agent["source"].clone())).collect();
    let (file, api) = (json!("file"), json!("api"));
    assert_eq!(listed, [("front-desk", file.clone()), ("library", api), ("sales", file)]);

    let delete = |version: &str| web.http.delete(&one).header("If-Match", version);
    let (status, _, problem) = asked(delete("\"1\"")).await;
    assert_eq!((status, code(&problem)), (412, "version_stale"));
    assert_eq!(asked(delete("\"2\"")).await, (204, None, Value::Null));
    for request in [web.http.get(&one), web.http.delete(&one), put("*")] {
        let (status, _, problem) = asked(request).await;
        assert_eq!((status, code(&problem)), (404, "agent_not_found"));
    }
}

#[tokio::test]
async fn agents_of_the_file_are_shown_and_stay_as_they_are() {
    let web = Web::start().await;
    let one = web.url("/v1/agents/front-desk");
    let (status, tag, shown) = asked(web.http.get(&one)).await;
    assert_eq!((status, tag.as_deref()), (200, Some("\"3\"")));
    assert_eq!((&shown["source"], &shown["created_at"]), (&json!("file"), &Value::Null));
    assert!(!shown.to_string().contains("sk-agent"), "{shown}");
    for request in [
        web.http.post(web.url("/v1/agents")).json(&agent("front-desk")),
        web.http.put(&one).header("If-Match", "\"3\"").json(&agent("front-desk")),
        web.http.delete(&one),
    ] {
        let (status, _, problem) = asked(request).await;
        assert_eq!((status, code(&problem)), (409, "agent_read_only"));
    }
    let (status, _, _) = asked(web.http.get(format!("{one}?version=2"))).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_call_begins_with_the_newest_version_of_a_new_agent() {
    let carrier = Carrier::start().await;
    let web = Web::with_carrier(&carrier.url()).await;
    let wish = json!({"to": "+15550199", "agent": "library"});
    let (status, problem) = web.post("/v1/calls", &wish).await;
    assert_eq!((status, code(&problem)), (422, "agent_not_found"));
    web.post("/v1/agents", &agent("library")).await;
    let put = web.http.put(web.url("/v1/agents/library")).json(&agent("library"));
    let (status, _, _) = asked(put.header("If-Match", "*")).await;
    assert_eq!(status, 200);
    let (status, call) = web.post("/v1/calls", &wish).await;
    assert_eq!((status, &call["agent_version"]), (201, &json!(2)), "{call}");
    let (status, _, _) = asked(web.http.delete(web.url("/v1/agents/library"))).await;
    assert_eq!(status, 204);
    let (status, problem) = web.post("/v1/calls", &wish).await;
    assert_eq!((status, code(&problem)), (422, "agent_not_found"));
}

#[tokio::test]
async fn what_cannot_be_an_agent_is_a_problem_that_names_the_field() {
    let web = Web::start().await;
    let with = |field: &str, value: Value| {
        let mut agent = agent("library");
        agent[field] = value;
        agent
    };
    for (body, status, of, part) in [
        (json!("x"), 400, "body_malformed", "JSON object"),
        (with("provider", json!({"kind": "parrot"})), 422, "agent_malformed", "provider.kind"),
        (with("name", json!("a/b")), 422, "agent_malformed", "`name`"),
        (with("vioce", json!("marin")), 422, "field_unknown", "`vioce`"),
        (with("instructions", json!("")), 422, "agent_invalid", "`instructions`"),
    ] {
        let (answered, problem) = web.post("/v1/agents", &body).await;
        assert_eq!((answered, code(&problem)), (status, of), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    for (target, status) in [
        ("/v1/agents/nobody", 404),
        ("/v1/agents/a%20b", 404),
        ("/v1/agents/nobody?version=x", 400),
    ] {
        assert_eq!(web.get(target).await.0, status, "{target}");
    }
    web.post("/v1/agents", &agent("library")).await;
    let (status, problem) = web.post("/v1/agents", &agent("library")).await;
    assert_eq!((status, code(&problem)), (409, "agent_exists"));
}

#[tokio::test]
async fn without_the_database_an_agent_is_neither_made_nor_lost() {
    let web = Web::start().await;
    web.plane.store.close().await;
    let make = web.http.post(web.url("/v1/agents")).json(&agent("library"));
    let response = make.bearer_auth(API_KEY).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, problem) = read(response).await;
    assert_eq!((status, code(&problem)), (503, "store_unavailable"));
    let (status, shown) = web.get("/v1/agents/sales").await;
    assert_eq!((status, &shown["source"]), (200, &json!("file")));
}

//! Watching a call from a page: by a ticket in the address, on pages of one origin, as long as the
//! key that asked for it is good.

use control::tokens::watch::{WatchTicket, Watched};
use futures_util::StreamExt as _;
use link::id::TenantId;
use reqwest::Response;
use serde_json::{Value, json};

use super::db::{in_time, stream_started};
use super::web::{API_KEY, ORIGIN, Web, json as read};

const PAGE: &str = "https://app.example";

async fn ticket(web: &Web, key: &str, body: Value) -> (u16, Value) {
    web.api_as(key, web.http.post(web.url("/v1/events/tickets")).body(body.to_string())).await
}

async fn watch(web: &Web, ticket: &str, rest: &str, origin: Option<&str>) -> Response {
    let mut request = web.http.get(web.url(&format!("/v1/events?ticket={ticket}{rest}")));
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    request.send().await.unwrap()
}

async fn allow_page(web: &Web) {
    let body = json!({"origins": [PAGE]}).to_string();
    let (code, _) = web.api(web.http.patch(web.url("/v1/tenant")).body(body)).await;
    assert_eq!(code, 200);
}

/// What a stream says until it has said so many events.
async fn events(response: Response, many: usize) -> String {
    let mut stream = response.bytes_stream();
    let mut said = String::new();
    while said.matches("\ndata:").count() < many {
        said += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    said
}

#[tokio::test]
async fn a_page_watches_one_call_by_its_ticket_and_comes_back_with_it() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    allow_page(&web).await;
    let (call, _) = web.begun("CA1").await;
    web.begun("CA2").await;
    web.says("fra-1", 1, &call, stream_started()).await;
    let (code, made) =
        ticket(&web, API_KEY, json!({"call": call.id.as_str(), "origin": PAGE})).await;
    assert_eq!(code, 201, "{made}");
    let text = made["ticket"].as_str().unwrap();
    assert_eq!(made["url"], format!("{ORIGIN}/v1/events?ticket={text}"));
    for _ in 0..2 {
        let stream = watch(&web, text, "&after=0", Some(PAGE)).await;
        assert_eq!(stream.status(), 200);
        assert_eq!(stream.headers()["access-control-allow-origin"], PAGE);
        let said = in_time_of(events(stream, 3)).await;
        assert!(said.contains("call.started") && said.contains("stream.started"), "{said}");
        assert!(!said.contains("CA2"), "{said}");
    }
}

#[tokio::test]
async fn a_page_watches_one_run_by_its_ticket_and_comes_back_with_it() {
    let web = Web::start().await;
    allow_page(&web).await;
    let run = async |to: [&str; 2]| {
        let wish = json!({"calls": [{"to": to[0]}, {"to": to[1]}]});
        let (status, run) = web.post("/v1/runs", &wish).await;
        assert_eq!(status, 201, "{run}");
        run
    };
    let other = run(["+15550177", "+15550178"]).await;
    let run = run(["+15550188", "+15550189"]).await;
    let (code, made) = ticket(&web, API_KEY, json!({"run": run["id"], "origin": PAGE})).await;
    assert_eq!(code, 201, "{made}");
    let text = made["ticket"].as_str().unwrap();
    for _ in 0..2 {
        let stream = watch(&web, text, "&after=0", Some(PAGE)).await;
        assert_eq!(stream.status(), 200);
        let said = in_time_of(events(stream, 2)).await;
        assert!(said.contains("+15550188") && said.contains("+15550189"), "{said}");
        assert!(!said.contains("+1555017"), "{said}");
    }
    // One call of the run is part of what it shows; another run is not.
    let call = run["calls"][1]["id"].as_str().unwrap();
    let stream = watch(&web, text, &format!("&after=0&call={call}"), Some(PAGE)).await;
    let said = in_time_of(events(stream, 1)).await;
    assert!(said.contains("+15550189") && !said.contains("+15550188"), "{said}");
    let wider = format!("&run={}", other["id"].as_str().unwrap());
    let (code, problem) = read(watch(&web, text, &wider, Some(PAGE)).await).await;
    assert_eq!((code, &problem["code"]), (404, &json!("run_not_found")));
}

async fn in_time_of(said: impl Future<Output = String>) -> String {
    tokio::time::timeout(std::time::Duration::from_secs(30), said).await.expect("events come")
}

#[tokio::test]
async fn a_ticket_opens_nothing_else() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    allow_page(&web).await;
    let (call, _) = web.begun("CA1").await;
    let (other, _) = web.begun("CA2").await;
    let (_, made) = ticket(&web, API_KEY, json!({"call": call.id.as_str(), "origin": PAGE})).await;
    let text = made["ticket"].as_str().unwrap();
    let wider = watch(&web, text, &format!("&call={}", other.id), Some(PAGE)).await;
    assert_eq!(wider.status(), 404);
    for origin in [None, Some("https://evil.example"), Some("null"), Some(ORIGIN)] {
        let (code, problem) = read(watch(&web, text, "", origin).await).await;
        assert_eq!((code, &problem["code"]), (403, &json!("origin_refused")), "{origin:?}");
    }
    let bearer = web.http.get(web.url("/v1/calls")).bearer_auth(text).send().await.unwrap();
    assert_eq!(bearer.status(), 401);
    let (code, problem) = read(watch(&web, "v4.public.x", "", Some(PAGE)).await).await;
    assert_eq!((code, &problem["code"]), (401, &json!("ticket_refused")));

    let now = control::clock::wall();
    let expired = WatchTicket {
        tenant: TenantId::default(),
        what: Watched::Call(call.id),
        origin: PAGE.into(),
        key: "operator-1".into(),
        expires_at: now.seconds(),
    };
    let expired = web.plane.tokens.watch_ticket(&expired, now).unwrap();
    let (code, problem) = read(watch(&web, &expired, "", Some(PAGE)).await).await;
    assert_eq!((code, &problem["code"]), (401, &json!("ticket_expired")));
}

#[tokio::test]
async fn a_page_of_our_own_origin_needs_to_say_no_origin() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, _) = web.begun("CA1").await;
    let (code, made) =
        ticket(&web, API_KEY, json!({"call": call.id.as_str(), "origin": ORIGIN})).await;
    assert_eq!(code, 201, "{made}");
    let url = web.url(&format!("/v1/events?ticket={}", made["ticket"].as_str().unwrap()));
    for (site, code) in [("same-origin", 200), ("cross-site", 403)] {
        let request = web.http.get(&url).header("sec-fetch-site", site);
        assert_eq!(request.send().await.unwrap().status(), code, "{site}");
    }
}

#[tokio::test]
async fn a_ticket_ends_with_its_key_and_with_its_pages() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    allow_page(&web).await;
    let (call, _) = web.begun("CA1").await;
    let key = web.key_for("default", &["events:read"]).await;
    let (code, made) = ticket(&web, &key, json!({"call": call.id.as_str(), "origin": PAGE})).await;
    assert_eq!(code, 201, "{made}");
    let text = made["ticket"].as_str().unwrap();
    let mut stream = watch(&web, text, "", Some(PAGE)).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    let id = key.split('_').nth(2).unwrap();
    let delete = web.http.delete(web.url(&format!("/v1/keys/{id}")));
    assert_eq!(web.api(delete).await.0, 200);
    in_time(async { while stream.next().await.is_some() {} }).await;
    let (code, problem) = read(watch(&web, text, "", Some(PAGE)).await).await;
    assert_eq!((code, &problem["code"]), (401, &json!("api_key_revoked")));

    let (_, made) = ticket(&web, API_KEY, json!({"call": call.id.as_str(), "origin": PAGE})).await;
    let body = json!({"origins": []}).to_string();
    web.api(web.http.patch(web.url("/v1/tenant")).body(body)).await;
    let text = made["ticket"].as_str().unwrap();
    assert_eq!(watch(&web, text, "", Some(PAGE)).await.status(), 403);
}

#[tokio::test]
async fn a_wish_for_a_ticket_that_cannot_be_granted_is_a_problem() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    allow_page(&web).await;
    let (call, _) = web.begun("CA1").await;
    let id = call.id.as_str();
    for (body, code, word) in [
        (json!({"origin": PAGE}), 400, "call"),
        (json!({"call": "a b", "origin": PAGE}), 400, "`call`"),
        (json!({"call": id, "origin": "https://other.example"}), 422, "`origin`"),
        (json!({"call": id, "origin": "*"}), 422, "`origin`"),
        (json!({"call": id, "origin": PAGE, "expires_in_seconds": 1}), 422, "`expires_in_seconds`"),
        (json!({"call": "c_none", "origin": PAGE}), 404, "call"),
        (json!({"call": id, "run": "run_1", "origin": PAGE}), 400, "`run`"),
        (json!({"run": "run_none", "origin": PAGE}), 404, "run"),
        (json!({"run": "a b", "origin": PAGE}), 400, "`run`"),
    ] {
        let (answered, problem) = ticket(&web, API_KEY, body.clone()).await;
        assert_eq!(answered, code, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{body}: {problem}");
    }
    let foreign = web.key_for("bolt", &["*"]).await;
    let body = json!({"call": id, "origin": ORIGIN});
    assert_eq!(ticket(&web, &foreign, body).await.0, 404, "another tenant's call");
    let reader = web.key_for("default", &["calls:read"]).await;
    assert_eq!(ticket(&web, &reader, json!({"call": id, "origin": PAGE})).await.0, 403);
}

//! Runs of the API: several people are called at once.

use std::time::Duration;

use control::store::runs::Run;
use link::id::{RunId, TenantId};
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::web::{Web, inbound};

fn callees(many: usize) -> Value {
    let callee = |n: usize| json!({"to": format!("+155501{n:02}")});
    (0..many).map(callee).collect()
}

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or("none")
}

const CREATED: [&str; 10] = [
    r#"{"sid":"CA0","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA1","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA2","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA3","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA4","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA5","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA6","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA7","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA8","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA9","account_sid":"AC00000000000000000000000000000001"}"#,
];

/// A run as it is shown, once it is as a test waits for it to be.
async fn shown_once(web: &Web, id: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    let target = format!("/v1/runs/{id}");
    let shown = async {
        loop {
            let (status, run) = web.get(&target).await;
            assert_eq!(status, 200, "{run}");
            if is_there(&run) {
                return run;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), shown).await.expect("the run gets there")
}

async fn with_carrier() -> (Carrier, Web) {
    let carrier = Carrier::start().await;
    CREATED.iter().for_each(|created| carrier.will_answer(201, created));
    let web = Web::with_carrier(&carrier.url()).await;
    (carrier, web)
}

#[tokio::test]
async fn ten_calls_are_started_under_one_id() {
    let (carrier, web) = with_carrier().await;
    let mut calls = callees(10);
    calls[3]["agent"] = "front-desk".into();
    calls[4]["from"] = "+15550177".into();
    let wish = json!({"agent": "sales", "calls": calls});
    let (status, run) = web.post("/v1/runs", &wish).await;
    assert_eq!((status, &run["calls_total"]), (201, &json!(10)), "{run}");
    assert_eq!(run["states"], json!({"queued": 10}));
    let calls = run["calls"].as_array().unwrap();
    let called: Vec<_> = calls.iter().map(|call| call["to"].clone()).collect();
    let wanted = callees(10);
    let wanted: Vec<_> = wanted.as_array().unwrap().iter().map(|c| c["to"].clone()).collect();
    assert_eq!(called, wanted, "in the order in which they were named");
    assert!(calls.iter().all(|call| call["run"] == run["id"]));
    let by = |field: &str, value: &str| calls.iter().filter(|call| call[field] == value).count();
    assert_eq!((by("agent", "sales"), by("agent", "front-desk")), (9, 1));
    assert_eq!((by("from", "+15550100"), by("from", "+15550177")), (9, 1));

    let id = run["id"].as_str().unwrap();
    let is_named = |call: &Value| call["carrier"].is_object();
    let run = shown_once(&web, id, |run| run["calls"].as_array().unwrap().iter().all(is_named));
    let run = run.await;
    assert_eq!((&run["calls_total"], carrier.asked().len()), (&json!(10), 10));
    let calls = run["calls"].as_array().unwrap();
    let (_, list) = web.get(&format!("/v1/calls?run={id}&limit=200")).await;
    assert_eq!(list["calls"].as_array().unwrap().len(), 10);
    let (_, none) = web.get("/v1/calls?run=run_none").await;
    assert_eq!(none["calls"], json!([]));
    let (_, runs) = web.get("/v1/runs").await;
    assert_eq!(runs["runs"][0]["id"], id);

    // Every event that begins a call says which run it belongs to.
    let _node = web.node("fra-1", 0);
    let call = calls[0]["id"].as_str().unwrap();
    let call_sid = calls[0]["carrier"]["call_sid"].as_str().unwrap();
    web.hook(&format!("/v1/twilio/voice?call={call}"), &inbound(call_sid)).await;
    for record in web.records(21).await {
        if matches!(record.kind.as_str(), "call.queued" | "call.started") {
            let data: Value = serde_json::from_str(&record.data).unwrap();
            assert_eq!(data["run"], id, "{}", record.kind);
        }
    }
}

#[tokio::test]
async fn a_run_that_is_refused_calls_nobody_and_names_the_callee() {
    let (carrier, web) = with_carrier().await;
    let with = |place: usize, field: &str, value: &str| {
        let mut calls = callees(3);
        calls[place][field] = value.into();
        json!({"calls": calls})
    };
    for (body, status, of, part) in [
        (json!([]), 400, "body_malformed", "calls"),
        (json!({"calls": callees(1), "form": "+15550100"}), 400, "body_malformed", "calls"),
        (json!({"calls": []}), 422, "calls_too_many", "`calls`"),
        (with(2, "to", "5550101"), 422, "number_malformed", "`calls.2.to`"),
        (with(1, "from", "me"), 422, "number_malformed", "`from`"),
        (with(1, "agent", "nobody"), 422, "agent_not_found", "`calls.1`"),
    ] {
        let (answered, problem) = web.post("/v1/runs", &body).await;
        assert_eq!((answered, code(&problem)), (status, of), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part) && !detail.contains("555"), "{problem}");
    }
    assert!(carrier.asked().is_empty());
    assert_eq!(web.get("/v1/runs").await.1["runs"], json!([]));
}

#[tokio::test]
async fn what_the_carrier_refuses_is_one_calls_business() {
    let carrier = Carrier::start().await;
    carrier.will_answer(400, r#"{"code":21211,"status":400}"#);
    let web = Web::with_carrier(&carrier.url()).await;
    let (status, run) = web.post("/v1/runs", &json!({"calls": callees(2)})).await;
    assert_eq!((status, &run["states"]), (201, &json!({"queued": 2})), "{run}");
    let one_ended = json!({"ended": 1, "queued": 1});
    shown_once(&web, run["id"].as_str().unwrap(), |run| run["states"] == one_ended).await;
}

#[tokio::test]
async fn a_run_with_somebody_who_may_not_be_called_calls_nobody() {
    let (carrier, web) = with_carrier().await;
    let unwanted = web.http.put(web.url("/v1/do_not_call/+15550102"));
    assert_eq!(web.api(unwanted).await.0, 200);
    let mut abroad = callees(2);
    abroad[1]["to"] = "+4930123456".into();
    for (calls, place, of) in [(callees(3), 2, "do_not_call"), (abroad, 1, "country_not_allowed")] {
        let wish = json!({"calls": calls});
        let request = web.http.post(web.url("/v1/runs")).header("Idempotency-Key", "key-1");
        let (status, problem) = web.api(request.json(&wish)).await;
        assert_eq!((status, code(&problem)), (422, of), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("`calls.{place}`: ")), "{problem}");
    }
    assert_eq!(web.get("/v1/runs").await.1["runs"], json!([]));
    assert_eq!(web.get("/v1/calls").await.1["calls"], json!([]));
    assert!(carrier.asked().is_empty());
}

#[tokio::test]
async fn a_run_that_fails_at_its_last_callee_leaves_nothing_and_may_be_sent_again() {
    let (carrier, web) = with_carrier().await;
    web.change(
        "CREATE TRIGGER no_more BEFORE INSERT ON dials WHEN (SELECT count(*) FROM dials) >= 2 \
         BEGIN SELECT RAISE(ABORT, 'no more'); END",
    )
    .await;
    let start = || {
        let request = web.http.post(web.url("/v1/runs")).header("Idempotency-Key", "key-1");
        web.api(request.json(&json!({"calls": callees(3)})))
    };
    let (status, problem) = start().await;
    assert_eq!((status, code(&problem)), (503, "store_unavailable"));
    assert_eq!(web.get("/v1/runs").await.1["runs"], json!([]));
    assert_eq!(web.get("/v1/calls").await.1["calls"], json!([]));
    assert!(carrier.asked().is_empty());
    web.change("DROP TRIGGER no_more").await;
    let (status, run) = start().await;
    assert_eq!((status, &run["states"]), (201, &json!({"queued": 3})), "{run}");
}

#[tokio::test]
async fn a_run_is_hung_up_as_a_whole() {
    let (_carrier, web) = with_carrier().await;
    let (_, run) = web.post("/v1/runs", &json!({"calls": callees(3)})).await;
    let id = run["id"].as_str().unwrap();
    let hang_up = web.http.post(web.url(&format!("/v1/runs/{id}/hang_up")));
    let (status, ended) = web.api(hang_up).await;
    assert_eq!((status, &ended["states"]), (202, &json!({"ended": 3})), "{ended}");
}

#[tokio::test]
async fn runs_are_listed_by_pages_and_another_tenants_are_not_there() {
    let (_carrier, web) = with_carrier().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (_, run) = web.post("/v1/runs", &json!({"calls": callees(1)})).await;
        ids.insert(0, run["id"].clone());
    }
    let other = TenantId::new("other").unwrap();
    let now = control::clock::wall();
    web.plane.store.ensure_tenant(&other, now).await.unwrap();
    let theirs = Run { id: RunId::new("run_theirs").unwrap(), calls: 1, created_at: now };
    web.plane.store.start_run(&other, &theirs, Vec::new(), None).await.unwrap();
    let (mut seen, mut target) = (Vec::new(), "/v1/runs?limit=2".to_owned());
    loop {
        let (_, page) = web.get(&target).await;
        seen.extend(page["runs"].as_array().unwrap().iter().map(|run| run["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/v1/runs?limit=2&cursor={next}");
    }
    assert_eq!(seen, ids);
    for target in ["/v1/runs/run_theirs", "/v1/runs/run_none", "/v1/runs/a%20b"] {
        let (status, problem) = web.get(target).await;
        assert_eq!((status, code(&problem)), (404, "run_not_found"), "{target}");
    }
    let hang_up = web.http.post(web.url("/v1/runs/run_theirs/hang_up"));
    assert_eq!(web.api(hang_up).await.0, 404);
}

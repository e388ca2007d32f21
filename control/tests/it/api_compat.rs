//! Compatible routes: what apps from a serverless host ask, without a key.

use std::time::Duration;

use control::access::key::KeyId;
use control::access::origin::Origin;
use control::dialer::rules::Rules;
use control::store::call::Number;
use link::event::{CallEvent, Role, Turn};
use link::id::{AgentName, TenantId};
use link::ticket::{Bearer, KeySet};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::db::{stream_started, tenant};
use super::described;
use super::web::{API_KEY, Chosen, ORIGIN, Web, inbound, json as read, quick, sign};

pub(crate) const PAGE: &str = "https://app.example";

const CREATED: [&str; 3] = [
    r#"{"sid":"CA0","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA1","account_sid":"AC00000000000000000000000000000001"}"#,
    r#"{"sid":"CA2","account_sid":"AC00000000000000000000000000000001"}"#,
];

pub(crate) fn chosen() -> Chosen {
    Chosen { compat_origins: vec![Origin::parse(PAGE).unwrap()], ..Chosen::default() }
}

pub(crate) fn from() -> Option<Number> {
    Some(Number("+15550100".into()))
}

/// The routes are open to the page; a carrier takes calls.
async fn with_rules(rules: Rules) -> (Carrier, Web) {
    let carrier = Carrier::start().await;
    CREATED.iter().for_each(|created| carrier.will_answer(201, created));
    let web = Web::with(&carrier.url(), (rules, from()), chosen()).await;
    (carrier, web)
}

pub(crate) async fn open() -> (Carrier, Web) {
    with_rules(quick()).await
}

/// Calls wait for ever, so that nothing happens to them but what a test does.
fn waiting() -> Rules {
    let pacing = control::store::Pacing { account_slots: 0, ..quick().pacing };
    Rules { pacing, ..quick() }
}

/// Asks, and holds the answer against its description.
pub(crate) async fn ask(web: &Web, request: RequestBuilder) -> (u16, Value) {
    let request = request.build().unwrap();
    let (method, path) = (request.method().to_string(), request.url().path().to_owned());
    let response = web.http.execute(request).await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let (status, body) = read(response).await;
    described::check(&method, &path, status, &kind, &body);
    (status, body)
}

/// The page has something made.
async fn post(web: &Web, target: &str, body: &Value) -> (u16, Value) {
    ask(web, web.http.post(web.url(target)).header("origin", PAGE).json(body)).await
}

pub(crate) async fn get(web: &Web, target: &str) -> (u16, Value) {
    ask(web, web.http.get(web.url(target))).await
}

pub(crate) fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or("none")
}

/// The id that was handed out for the call of a number.
fn id_of<'r>(run: &'r Value, to: &str) -> &'r str {
    let calls = run["calls"].as_array().unwrap();
    calls.iter().find(|call| call["to"] == to).unwrap()["callId"].as_str().unwrap()
}

/// The id of v1 that an id of these routes begins with.
fn bare(id: &str) -> &str {
    id.rsplit_once('.').unwrap().0
}

/// Asks for three calls, two of them with one prompt.
async fn started(web: &Web) -> Value {
    let body = json!({
        "prompt": "You sell bicycles.",
        "calls": [
            {"to": "+15550101", "name": "Ann"},
            {"phone": "+1 555-0102"},
            {"phoneNumber": "+15550103", "prompt": "You buy bicycles."},
        ],
    });
    let (status, run) = post(web, "/api/start-calls", &body).await;
    assert_eq!(status, 201, "{run}");
    run
}

#[tokio::test]
async fn the_routes_are_off_until_the_setting_names_a_page() {
    let web = Web::start().await;
    for (method, target) in [
        (Method::POST, "/api/start-calls"),
        (Method::POST, "/api/start-session"),
        (Method::GET, "/api/calls/c_1"),
        (Method::GET, "/api/events?runId=x"),
        (Method::POST, "/api/twilio/outbound"),
        (Method::POST, "/api/twilio/status"),
        (Method::GET, "/api/search?query=bakery"),
        (Method::GET, "/api/health"),
    ] {
        let request = web.http.request(method, web.url(target)).header("origin", PAGE);
        let response = request.send().await.unwrap();
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{target}");
        let (status, problem) = read(response).await;
        assert_eq!((status, code(&problem)), (404, "compat_off"), "{target}");
        assert!(problem["detail"].as_str().unwrap().contains("CONTROL_COMPAT_ORIGIN"));
    }
    let (status, problem) = read(preflight(&web, "/api/start-calls", PAGE).await).await;
    assert_eq!((status, code(&problem)), (404, "compat_off"));
}

#[tokio::test]
async fn only_a_page_of_the_setting_has_something_made() {
    let (carrier, web) = open().await;
    let near = ["https://app.example:8443", "http://app.example", "https://x.app.example", "null"];
    for target in ["/api/start-calls", "/api/start-session"] {
        let body = json!({"to": "+15550101", "prompt": "You sell."});
        let request = || web.http.post(web.url(target)).json(&body);
        let requests = near.iter().map(|origin| request().header("origin", *origin));
        // A key opens /v1 and is nothing here.
        for request in requests.chain([request(), request().bearer_auth(API_KEY)]) {
            let (status, problem) = ask(&web, request).await;
            assert_eq!((status, code(&problem)), (403, "compat_origin_refused"), "{target}");
            assert!(problem["detail"].as_str().unwrap().contains("CONTROL_COMPAT_ORIGIN"));
        }
    }
    assert!(carrier.asked().is_empty());
    assert_eq!(web.get("/v1/runs").await.1["runs"], json!([]));
    assert_eq!(web.get("/v1/calls").await.1["calls"], json!([]));
}

#[tokio::test]
async fn several_people_are_called_and_each_is_found_by_its_id() {
    let (_carrier, web) = open().await;
    let run = started(&web).await;
    let calls = run["calls"].as_array().unwrap();
    let ids: Vec<_> = calls.iter().map(|call| call["callId"].clone()).collect();
    assert_eq!((calls.len(), json!(ids)), (3, run["callIds"].clone()));
    for (to, name) in
        [("+15550101", json!("Ann")), ("+15550102", Value::Null), ("+15550103", Value::Null)]
    {
        let call = calls.iter().find(|call| call["to"] == to).unwrap();
        assert_eq!((&call["name"], call["status"].is_string()), (&name, true), "{to}");
    }

    let id = id_of(&run, "+15550101");
    let (status, call) = get(&web, &format!("/api/calls/{id}")).await;
    assert_eq!((status, &call["callId"], &call["runId"]), (200, &json!(id), &run["runId"]));
    assert_eq!((&call["to"], &call["from"]), (&json!("+15550101"), &json!("+15550100")));
    assert_eq!((&call["direction"], &call["transcript"]), (&json!("outbound"), &json!([])));

    // It is a call of v1, with an agent that has the prompt.
    for (to, prompt) in [("+15550102", "You sell bicycles."), ("+15550103", "You buy bicycles.")] {
        let call = web.call_by_id(bare(id_of(&run, to))).await;
        let (_, agent) = web.get(&format!("/v1/agents/{}", call.agent)).await;
        assert_eq!(agent["instructions"], prompt);
    }
}

#[tokio::test]
async fn an_id_that_is_guessed_or_of_v1_is_nobodys() {
    let (_carrier, web) = with_rules(waiting()).await;
    let run = started(&web).await;
    let (first, second) = (id_of(&run, "+15550101"), id_of(&run, "+15550102"));
    let sum = first.rsplit_once('.').unwrap().1;
    let swapped = format!("{}.{sum}", bare(second));
    let zeros = format!("{}.{}", bare(first), "A".repeat(22));
    let of_run = run["runId"].as_str().unwrap();
    for id in [bare(first), &swapped, &zeros, of_run, "c_none", "c_none.x", "a%20b"] {
        let (status, problem) = get(&web, &format!("/api/calls/{id}")).await;
        assert_eq!((status, code(&problem)), (404, "call_not_found"), "{id}");
    }
    for id in [bare(of_run), first, "run_none", ""] {
        let target = web.url(&format!("/api/events?runId={id}"));
        let (status, problem) = read(web.http.get(target).send().await.unwrap()).await;
        assert_eq!((status, code(&problem)), (404, "run_not_found"), "{id}");
    }
    let missing = read(web.http.get(web.url("/api/events")).send().await.unwrap()).await;
    assert_eq!((missing.0, code(&missing.1)), (400, "run_id_missing"));
}

#[tokio::test]
async fn a_prompt_is_made_an_agent_once_and_changes_nobody_elses() {
    let (_carrier, web) = with_rules(waiting()).await;
    let made = async || {
        let (_, page) = web.get("/v1/agents").await;
        let agents = page["agents"].as_array().unwrap().clone();
        agents.into_iter().filter(|agent| agent["source"] == "api").collect::<Vec<_>>()
    };
    started(&web).await;
    let agents = made().await;
    assert_eq!(agents.len(), 2, "{agents:#?}");
    started(&web).await;
    assert_eq!(made().await, agents, "the same prompts make no new agents");
    let default = web.plane.directory.newest(&tenant(), None).unwrap();
    assert_eq!(default.name.as_str(), "front-desk");
    // Without a prompt it is the default agent who speaks.
    let (_, run) = post(&web, "/api/start-calls", &json!({"to": "+15550101"})).await;
    let call = web.call_by_id(bare(id_of(&run, "+15550101"))).await;
    assert_eq!((call.agent.as_str(), call.agent_version), ("front-desk", 3));
}

#[tokio::test]
async fn a_prompts_agent_is_no_default_where_only_one_other_is_there() {
    let mut chosen = chosen();
    chosen.agents = control::config::agents::Agents::default();
    let web = Web::with("http://127.0.0.1:1", (quick(), from()), chosen).await;
    let body = json!({"to": "+15550101", "prompt": "You sell."});
    let (status, problem) = post(&web, "/api/start-calls", &body).await;
    assert_eq!((status, code(&problem)), (422, "agent_not_found"));
    let agent = json!({
        "name": "desk", "instructions": "You answer.", "provider": {"kind": "openai_realtime"},
    });
    assert_eq!(web.post("/v1/agents", &agent).await.0, 201);
    assert_eq!(post(&web, "/api/start-calls", &body).await.0, 201);
    let default = web.plane.directory.newest(&tenant(), None).unwrap();
    assert_eq!(default.name.as_str(), "desk");
}

#[tokio::test]
async fn agents_of_prompts_are_bounded_and_those_that_are_there_stay_of_use() {
    let (_carrier, web) = with_rules(waiting()).await;
    started(&web).await;
    let base = web.plane.directory.newest(&TenantId::default(), None).unwrap();
    let actor = KeyId::new("test").unwrap();
    for n in 0..98 {
        let mut spec = (*base).clone();
        spec.name = AgentName::new(format!("prompt-{n:032x}")).unwrap();
        web.plane.store.create_agent(spec, None, &actor, control::clock::wall()).await.unwrap();
    }
    let with = |prompt: &str| json!({"to": "+15550101", "prompt": prompt});
    let (status, problem) = post(&web, "/api/start-calls", &with("You dance.")).await;
    assert_eq!((status, code(&problem)), (409, "prompts_too_many"));
    assert_eq!(post(&web, "/api/start-calls", &with("You sell bicycles.")).await.0, 201);
}

#[tokio::test]
async fn nobody_is_called_where_calls_may_not_go() {
    let (carrier, web) = open().await;
    let body = json!({"prompt": "You sell.", "numbers": ["+15550101", "+4930123456"]});
    let (status, problem) = post(&web, "/api/start-calls", &body).await;
    assert_eq!((status, code(&problem)), (422, "country_not_allowed"));
    assert!(!problem["detail"].as_str().unwrap().contains("4930"), "{problem}");
    assert!(carrier.asked().is_empty());
    assert_eq!(web.get("/v1/runs").await.1["runs"], json!([]));
    let (_, page) = web.get("/v1/agents").await;
    assert_eq!(page["agents"].as_array().unwrap().len(), 2, "no agent was made");
}

#[tokio::test]
async fn a_day_whose_money_is_spent_by_sessions_takes_neither_sessions_nor_calls() {
    let rules = Rules { spend_day_cents_max: Some(5), ..quick() };
    let (carrier, web) = with_rules(rules).await;
    let _node = web.node("fra-1", 0);
    let (status, session) = post(&web, "/api/start-session", &json!({})).await;
    assert_eq!(status, 201, "{session}");
    let call = web.call_by_id(bare(session["sessionId"].as_str().unwrap())).await;
    // A minute of it has begun.
    web.says("fra-1", 1, &call, stream_started()).await;
    for (target, body) in
        [("/api/start-session", json!({})), ("/api/start-calls", json!({"to": "+15550101"}))]
    {
        let (status, problem) = post(&web, target, &body).await;
        assert_eq!((status, code(&problem)), (429, "spend_cap_reached"), "{target}");
    }
    assert!(carrier.asked().is_empty());
}

#[tokio::test]
async fn too_much_at_once_is_refused_and_what_is_refused_for_its_origin_takes_nothing() {
    let (_carrier, web) = open().await;
    let request = |origin: &'static str| {
        let request = web.http.post(web.url("/api/start-session")).header("origin", origin);
        request.body("no JSON").send()
    };
    for _ in 0..40 {
        assert_eq!(request("https://evil.example").await.unwrap().status(), 403);
    }
    let answers = futures_util::future::join_all((0..40).map(|_| request(PAGE))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() == 429).collect();
    // Twenty at once, five a second; a slow machine lets a few more through.
    assert!((5..=20).contains(&refused.len()), "{} of 40 refused", refused.len());
    assert!(refused.iter().all(|answer| answer.headers().contains_key("retry-after")));
    // Looking is not making.
    assert_eq!(get(&web, "/api/health").await.0, 200);
}

#[tokio::test]
async fn each_callee_counts() {
    let (_carrier, web) = with_rules(waiting()).await;
    let many = |many: usize| json!({"numbers": vec!["+15550101"; many]});
    let (status, problem) = post(&web, "/api/start-calls", &many(21)).await;
    assert_eq!((status, code(&problem)), (422, "calls_too_many"));
    assert_eq!(post(&web, "/api/start-calls", &many(19)).await.0, 201);
    let (status, problem) = post(&web, "/api/start-calls", &many(19)).await;
    assert_eq!((status, code(&problem)), (429, "rate_limited"));
}

/// What a stream says until it has said so many events.
async fn events(mut response: Response, many: usize) -> Vec<Value> {
    let mut said = String::new();
    let mut listen = async || {
        while said.matches("\ndata:").count() < many || !said.ends_with("\n\n") {
            said += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), listen()).await.expect("events come");
    let lines = said.lines().filter_map(|line| line.strip_prefix("data:"));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_run_is_watched_from_its_beginning_with_calls_by_the_ids_that_were_given() {
    let (_carrier, web) = with_rules(waiting()).await;
    let run = started(&web).await;
    let watch = async |rest: &str| {
        let target = format!("/api/events?runId={}{rest}", run["runId"].as_str().unwrap());
        let request = web.http.get(web.url(&target)).header("origin", PAGE);
        request.send().await.unwrap()
    };
    let response = watch("").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["access-control-allow-origin"], PAGE);
    assert!(!response.headers().contains_key("access-control-allow-credentials"));
    let told = events(response, 3).await;
    let mut calls: Vec<_> = told.iter().map(|event| event["call"].as_str().unwrap()).collect();
    let given = run["callIds"].as_array().unwrap();
    let mut given: Vec<_> = given.iter().map(|id| id.as_str().unwrap()).collect();
    calls.sort_unstable();
    given.sort_unstable();
    assert_eq!(calls, given);
    assert!(told.iter().all(|event| event["type"] == "call.queued"), "{told:#?}");
    let later = events(watch(&format!("&after={}", told[1]["seq"])).await, 1).await;
    assert_eq!(later[0], told[2]);
}

#[tokio::test]
async fn the_carrier_asks_and_tells_at_the_paths_that_it_signs() {
    let (_carrier, web) = open().await;
    let _node = web.node("fra-1", 0);
    let (status, run) = post(&web, "/api/start-calls", &json!({"to": "+15550101"})).await;
    assert_eq!(status, 201, "{run}");
    // Queued, and dialled: the carrier has a name for it.
    web.records(2).await;
    let given = id_of(&run, "+15550101");
    let id = bare(given);
    let mut fields = inbound("CA0");
    fields[4].1 = "outbound-api";
    let target = format!("/api/twilio/outbound?call={id}");
    let (status, twiml) = web.hook(&target, &fields).await;
    assert_eq!(status, 200, "{twiml}");
    assert!(twiml.contains("<Connect><Stream"), "{twiml}");
    assert_eq!(web.call("CA0").await.unwrap().id.as_str(), id);

    // Signed for the path of v1, it is not signed for this one.
    for target in [target.as_str(), "/api/twilio/status"] {
        let signature = sign(&format!("{ORIGIN}/v1/twilio/voice"), &fields);
        let request = web.http.post(web.url(target)).form(&fields);
        for request in
            [request.try_clone().unwrap(), request.header("X-Twilio-Signature", signature)]
        {
            let (status, problem) = read(request.send().await.unwrap()).await;
            assert_eq!((status, code(&problem)), (403, "signature_refused"), "{target}");
        }
    }
    fields[3].1 = "completed";
    assert_eq!(web.hook("/api/twilio/status", &fields).await.0, 204);
    let (_, call) = get(&web, &format!("/api/calls/{given}")).await;
    assert_eq!((&call["status"], &call["endReason"]), (&json!("ended"), &json!("caller_hung_up")));
}

#[tokio::test]
async fn a_session_is_bound_to_the_page_that_asked_and_says_how_to_begin() {
    let (_carrier, web) = open().await;
    let _node = web.node("fra-1", 0);
    let body = json!({"prompt": "You sing."});
    let (status, session) = post(&web, "/api/start-session", &body).await;
    assert_eq!(status, 201, "{session}");
    assert_eq!(session["wsUrl"], "wss://media.example/v1/stream/fra-1");
    let start: Value = serde_json::from_str(session["startMessage"].as_str().unwrap()).unwrap();
    assert_eq!(start, json!({"type": "start", "token": session["token"]}));
    let keys = KeySet::new(&web.plane.tokens.verifying()).unwrap();
    let token = session["token"].as_str().unwrap();
    let claims = keys.verify(token, control::clock::wall()).unwrap();
    assert_eq!(claims.bearer, Bearer::Page { origin: Some(PAGE.into()) });
    let id = session["sessionId"].as_str().unwrap();
    assert_eq!(claims.call.as_str(), bare(id));
    let spec = web.plane.directory.newest(&tenant(), Some(&claims.agent)).unwrap();
    assert_eq!(spec.instructions, "You sing.");

    // It is found as a call is, with what was said.
    let call = web.call_by_id(claims.call.as_str()).await;
    web.says("fra-1", 1, &call, stream_started()).await;
    let turn = Turn {
        order: 0,
        role: Role::Agent,
        item: "i0".into(),
        text: "La la.".into(),
        heard_ms: Some(400),
        generated_ms: Some(400),
        interrupted: false,
        reply_after_ms: None,
    };
    web.says("fra-1", 2, &call, CallEvent::Turn(turn)).await;
    let (status, call) = get(&web, &format!("/api/calls/{id}")).await;
    assert_eq!((status, &call["status"], &call["runId"]), (200, &json!("active"), &Value::Null));
    let turns = call["transcript"].as_array().unwrap();
    let said = (&turns[0]["role"], &turns[0]["text"]);
    assert_eq!((turns.len(), said), (1, (&json!("agent"), &json!("La la."))));
}

#[tokio::test]
async fn without_a_relay_there_is_no_session_and_health_says_so() {
    let (_carrier, web) = open().await;
    let (status, health) = get(&web, "/api/health").await;
    assert_eq!(status, 200);
    assert_eq!(health, json!({"status": "no relay is ready", "takesCalls": false}));
    let full = web.node("fra-1", 10);
    let (status, problem) = post(&web, "/api/start-session", &json!({})).await;
    assert_eq!((status, code(&problem)), (503, "no_node"));
    drop(full);
    let _node = web.node("fra-2", 0);
    let (status, health) = get(&web, "/api/health").await;
    assert_eq!((status, health), (200, json!({"status": "ok", "takesCalls": true})));
    web.plane.store.close().await;
    let (status, health) = get(&web, "/api/health").await;
    assert_eq!((status, &health["takesCalls"]), (503, &json!(false)), "{health}");
}

async fn preflight(web: &Web, target: &str, origin: &str) -> Response {
    let request = web.http.request(Method::OPTIONS, web.url(target));
    let request = request.header("origin", origin).header("access-control-request-method", "POST");
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_browser_lets_the_page_ask_here_without_credentials_and_nowhere_else() {
    let (_carrier, web) = open().await;
    let allowed = preflight(&web, "/api/start-calls", PAGE).await;
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], PAGE);
    assert!(!allowed.headers().contains_key("access-control-allow-credentials"));
    let refused = preflight(&web, "/api/start-calls", "https://evil.example").await;
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    let (status, problem) = read(refused).await;
    assert_eq!((status, code(&problem)), (403, "compat_origin_refused"));
    let (status, problem) = read(preflight(&web, "/v1/calls", PAGE).await).await;
    assert_eq!((status, code(&problem)), (403, "origin_refused"));
    // A refusal can be read by the page, too.
    let request = web.http.get(web.url("/api/calls/c_none")).header("origin", PAGE);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
}

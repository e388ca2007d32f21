//! Agents over the link: what relays are told of those that the API makes, and when.

use std::time::Duration;

use link::message::{ToControl, ToRelay};
use serde_json::{Value, json};

use super::link_relay::{READY, Relay, door};
use super::web::{API_KEY, Web, inbound};

fn agent(instructions: &str) -> Value {
    let provider = json!({"kind": "openai_realtime"});
    json!({"name": "library", "instructions": instructions, "provider": provider})
}

async fn change(web: &Web, instructions: &str) {
    let put = web.http.put(web.url("/v1/agents/library")).json(&agent(instructions));
    let put = put.header("If-Match", "*").bearer_auth(API_KEY).send().await.unwrap();
    assert_eq!(put.status(), 200);
}

/// The version and the instructions of the agent that a relay is told of next.
async fn told(relay: &mut Relay) -> (u32, String) {
    let heard = relay.hear().await;
    let ToRelay::Agent(spec) = heard else { panic!("instead: {heard:?}") };
    assert_eq!(spec.provider.api_key().reveal(), "sk-environment");
    (spec.version, spec.instructions)
}

/// Waits until so many nodes are in.
async fn nodes(web: &Web, many: usize) {
    let come = async {
        while web.plane.nodes.list().len() != many {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), come).await.unwrap();
}

#[tokio::test]
async fn relays_hear_at_once_of_an_agent_and_of_each_version() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    // Welcomed, and a moment later in.
    nodes(&door.web, 1).await;
    assert_eq!(door.web.post("/v1/agents", &agent("one")).await.0, 201);
    assert_eq!(told(&mut relay).await, (1, "one".into()));
    change(&door.web, "two").await;
    assert_eq!(told(&mut relay).await, (2, "two".into()));
}

#[tokio::test]
async fn a_call_that_goes_on_takes_its_version_to_a_node_that_does_not_know_it() {
    let door = door().await;
    door.web.post("/v1/agents", &agent("one")).await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    let target = "/v1/twilio/voice?agent=library";
    let (_, twiml) = door.web.hook(target, &inbound("CA1")).await;
    assert!(matches!(relay.hear().await, ToRelay::Announce(_)), "it knows the agent already");
    change(&door.web, "two").await;
    assert_eq!(told(&mut relay).await.0, 2);

    relay.connection.close(0_u8.into(), b"");
    nodes(&door.web, 0).await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    let (_, twiml) = door.web.hook(&super::web::resume_target(&twiml), &inbound("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    assert_eq!(told(&mut relay).await, (1, "one".into()), "before its stream is announced");
    let heard = relay.hear().await;
    let ToRelay::Announce(announced) = heard else { panic!("instead: {heard:?}") };
    assert_eq!((announced.agent.as_str(), announced.version), ("library", 1));
}

/// A tenant's key of the service, set by one of its keys of the API.
async fn bring(web: &Web, api_key: &str, key: &str) {
    let put = web.http.put(web.url("/v1/keys/providers/openai")).json(&json!({"key": key}));
    assert_eq!(web.api_as(api_key, put).await.0, 200);
}

/// Whose agent a relay is told of next, its version, and the key of its service.
async fn told_key(relay: &mut Relay) -> (String, u32, String) {
    let heard = relay.hear().await;
    let ToRelay::Agent(spec) = heard else { panic!("instead: {heard:?}") };
    assert!(!format!("{spec:?}").contains("sk-"), "a key is not shown");
    let key = spec.provider.api_key().reveal().to_owned();
    (spec.tenant.to_string(), spec.version, key)
}

#[tokio::test]
async fn a_tenants_own_key_goes_to_the_relays_with_its_agents_and_no_other_does() {
    let door = door().await;
    let web = &door.web;
    let (acme, bolt) = (web.key_for("acme", &["*"]).await, web.key_for("bolt", &["*"]).await);
    let (mut relay, _) = Relay::join(&door.token).await;
    nodes(web, 1).await;
    let make = |words: &'static str| web.http.post(web.url("/v1/agents")).json(&agent(words));
    let (status, problem) = web.api_as(&acme, make("one")).await;
    assert_eq!((status, &problem["code"]), (422, &json!("provider_key_missing")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("PUT /v1/keys/providers/openai"), "{detail}");
    assert!(!detail.contains("OPENAI_API_KEY"), "that is not theirs to set: {detail}");

    bring(web, &acme, "sk-first-of-acme").await;
    assert_eq!(web.api_as(&acme, make("one")).await.0, 201);
    let of_acme = |key: &str| ("acme".to_owned(), 1, key.to_owned());
    assert_eq!(told_key(&mut relay).await, of_acme("sk-first-of-acme"));
    assert_eq!(web.api_as(&bolt, make("one")).await.0, 422, "another tenant's key is not used");
    assert_eq!(web.post("/v1/agents", &agent("one")).await.0, 201);
    assert_eq!(told_key(&mut relay).await, ("default".into(), 1, "sk-environment".into()));
    bring(web, &acme, "sk-second-of-acme").await;
    assert_eq!(told_key(&mut relay).await, of_acme("sk-second-of-acme"));

    let drop_key = web.http.delete(web.url("/v1/keys/providers/openai"));
    assert_eq!(web.api_as(&acme, drop_key).await.0, 200);
    assert_eq!(told_key(&mut relay).await, of_acme(""));
    let session = web.http.post(web.url("/v1/sessions"));
    let (status, problem) = web.api_as(&acme, session).await;
    assert_eq!((status, &problem["code"]), (422, &json!("provider_key_missing")));
    let take = web.http.post(web.url("/v1/numbers")).json(&json!({"number": "+15550103"}));
    assert_eq!(web.api_as(&acme, take).await.0, 201);
    let call = web.http.post(web.url("/v1/calls")).json(&json!({"to": "+15550199"}));
    let (status, problem) = web.api_as(&acme, call).await;
    assert_eq!((status, &problem["code"]), (422, &json!("provider_key_missing")));
}

#[tokio::test]
async fn a_call_that_came_in_for_an_agent_without_a_key_is_told_so() {
    let door = door().await;
    let web = &door.web;
    let acme = web.key_for("acme", &["*"]).await;
    bring(web, &acme, "sk-first-of-acme").await;
    let make = web.http.post(web.url("/v1/agents")).json(&agent("one"));
    assert_eq!(web.api_as(&acme, make).await.0, 201);
    let take = web.http.post(web.url("/v1/numbers")).json(&json!({"number": "+15550102"}));
    assert_eq!(web.api_as(&acme, take).await.0, 201);
    let (mut relay, _) = Relay::join(&door.token).await;
    nodes(web, 1).await;
    let (_, twiml) = web.voice("CA1").await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    assert!(matches!(relay.hear().await, ToRelay::Announce(_)));
    let drop_key = web.http.delete(web.url("/v1/keys/providers/openai"));
    assert_eq!(web.api_as(&acme, drop_key).await.0, 200);
    let (_, twiml) = web.voice("CA2").await;
    assert!(twiml.contains("<Say>We are sorry"), "{twiml}");
}

#[tokio::test]
async fn a_call_that_goes_on_takes_the_key_of_now_to_its_node() {
    let door = door().await;
    let web = &door.web;
    web.post("/v1/agents", &agent("one")).await;
    let (mut relay, _) = Relay::join(&door.token).await;
    nodes(web, 1).await;
    let (_, twiml) = web.hook("/v1/twilio/voice?agent=library", &inbound("CA1")).await;
    assert!(matches!(relay.hear().await, ToRelay::Announce(_)), "it knows the agent already");
    let of = |version, key: &str| ("default".to_owned(), version, key.to_owned());
    bring(web, API_KEY, "sk-first").await;
    assert_eq!(told_key(&mut relay).await, of(1, "sk-first"));
    change(web, "two").await;
    assert_eq!(told_key(&mut relay).await, of(2, "sk-first"));
    bring(web, API_KEY, "sk-second").await;
    assert_eq!(told_key(&mut relay).await, of(2, "sk-second"));
    let (_, twiml) = web.hook(&super::web::resume_target(&twiml), &inbound("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    assert_eq!(told_key(&mut relay).await, of(1, "sk-second"), "before its stream is announced");
    assert!(matches!(relay.hear().await, ToRelay::Announce(_)));
}

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

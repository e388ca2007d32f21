//! What relays tell for the moment: through the link to whoever watches and wants it, and nowhere
//! else.

use futures_util::FutureExt as _;
use link::ephemeral::{Ephemeral, Passing};
use link::event::{CallRef, NodeEvent};
use link::id::{EventNumber, Gen};
use link::message::ToControl;
use serde_json::{Value, json};

use super::api_events::Reader;
use super::db::{said, stream_started, tenant};
use super::described::fits;
use super::link_relay::{READY, Relay, door, event};

/// The type and the data of a message that must have no id.
fn without_id(message: &str) -> (String, Value) {
    let line = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
    assert_eq!(line("id:"), None, "{message}");
    let data = serde_json::from_str(line("data:").unwrap()).unwrap();
    (line("event:").unwrap().trim().to_owned(), data)
}

#[tokio::test]
async fn words_of_a_turn_reach_who_wants_them_and_move_no_place() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    let (call, _) = door.web.begun("CA1").await;
    let (other, _) = door.web.begun("CA2").await;
    door.web.records(2).await;
    let mut plain = Reader::open(&door.web, "/v1/events?after=2", None).await;
    let of_call = format!("/v1/events?ephemeral=true&call={}", call.id);
    let mut wanting = Reader::open(&door.web, &of_call, None).await;
    let unknown = Ephemeral { event: Passing::Unknown, ..said(&call, "") };
    let events = vec![said(&other, "Somebody else."), unknown, said(&call, "Are you open?")];
    relay.say(&ToControl::Ephemeral { events }).await;
    let (kind, shown) = without_id(&wanting.message().await.unwrap());
    assert_eq!((kind.as_str(), &shown["type"]), ("transcript.delta", &kind.as_str().into()));
    assert_eq!((&shown["call"], &shown["generation"]), (&call.id.as_str().into(), &0.into()));
    assert_eq!(shown["data"]["text"], "Are you open?");
    assert!(shown.get("seq").is_none(), "{shown}");
    fits(&json!({"$ref": "#/components/schemas/Ephemeral"}), &shown, "what is ephemeral");

    let started = NodeEvent {
        call: Some(CallRef { id: call.id.clone(), tenant: tenant(), generation: Gen(0) }),
        ..event(1, stream_started())
    };
    relay.say(&ToControl::Events { events: vec![started] }).await;
    assert_eq!(relay.ack().await, EventNumber(1), "what is ephemeral has no number");
    let (place, kind, _) = wanting.event().await;
    assert_eq!((place, kind.as_str()), (3, "call.answered"));
    assert_eq!(plain.event().await.1, "call.answered", "whoever does not ask sees events only");

    let mut late = Reader::open(&door.web, &format!("{of_call}&after=0"), None).await;
    for expected in ["call.started", "call.answered", "stream.started"] {
        assert_eq!(late.event().await.1, expected, "and whoever comes later, too");
    }
    assert!(late.message().now_or_never().is_none());
}

#[tokio::test]
async fn a_relay_that_tells_too_much_at_once_is_cut_off() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    let (call, _) = door.web.begun("CA1").await;
    let many = link::message::EPHEMERAL_EVENTS_MAX + 1;
    let events = (0..many).map(|n| said(&call, &n.to_string())).collect();
    relay.say(&ToControl::Ephemeral { events }).await;
    relay.connection.closed().await;
}

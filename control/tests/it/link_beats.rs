//! The heartbeat of the link, and what control does with relays of other versions of it.

use control::fleet::vital::Suspicion;
use futures_util::FutureExt as _;
use link::beat::{Beat, NodeBeat};
use link::frame::{Channel, Decoder, Frame};
use link::id::{EventNumber, NodeId};
use link::message::{Load, ToControl, ToRelay, VERSION, Version};
use quinn::{Connection, RecvStream, SendStream};
use serde_json::{Value, json};

use super::db::in_time;
use super::link_relay::{Door, READY, Relay, door, refused};

/// The streams of beats of one connection, at the relay's end.
pub(crate) struct Beats {
    sender: SendStream,
    receiver: RecvStream,
    decoder: Decoder,
}

impl Beats {
    pub(crate) async fn of(connection: &Connection) -> Self {
        let receiver = connection.accept_uni().await.unwrap();
        let sender = connection.open_uni().await.unwrap();
        Self { sender, receiver, decoder: Decoder::default() }
    }

    /// Control's next beat.
    async fn next(&mut self) -> Beat {
        let heard = self.hear().await;
        let ToRelay::Beat(beat) = heard else { panic!("no beat: {heard:?}") };
        beat
    }

    /// What control says next between its beats.
    pub(crate) async fn besides(&mut self) -> ToRelay {
        loop {
            let heard = self.hear().await;
            if !matches!(heard, ToRelay::Beat(_)) {
                return heard;
            }
        }
    }

    pub(crate) async fn tell(&mut self, message: &ToControl) {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        self.sender.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> ToRelay {
        let mut bytes = [0; 4_096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return ToRelay::read(&frame).unwrap();
            }
            let read = self.receiver.read(&mut bytes).await.unwrap().unwrap();
            self.decoder.push(&bytes[..read]);
        }
    }

    /// The relay beats.
    async fn say(&mut self, sent_us: u64, heard_us: Option<u64>, load: Load) {
        let beat = Beat { sent_us, heard_us, wall: control::clock::wall() };
        self.tell(&ToControl::Beat(NodeBeat { beat, progress: sent_us, load })).await;
    }
}

/// The node as the API shows it, once control thinks so of it.
async fn until(door: &Door, suspicion: Option<Suspicion>) -> Value {
    let node = NodeId::new("fra-1").unwrap();
    while door.web.plane.nodes.state(&node).unwrap().suspicion != suspicion {
        tokio::task::yield_now().await;
    }
    door.web.get("/v1/nodes/fra-1").await.1
}

#[tokio::test]
async fn control_beats_and_says_what_it_has_heard() {
    in_time(async {
        let door = door().await;
        let (relay, _) = Relay::join(&door.token).await;
        let mut beats = Beats::of(&relay.connection).await;
        let first = beats.next().await;
        assert_eq!(first.heard_us, None);
        beats.say(77, Some(first.sent_us), READY).await;
        loop {
            let beat = beats.next().await;
            assert!(beat.sent_us > first.sent_us);
            if beat.heard_us == Some(77) {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_falls_silent_gets_no_call_and_comes_back_by_itself() {
    in_time(async {
        let door = door().await;
        let (relay, _) = Relay::join(&door.token).await;
        let mut beats = Beats::of(&relay.connection).await;
        let heard = beats.next().await.sent_us;
        beats.say(1, Some(heard), READY).await;
        let node = until(&door, Some(Suspicion::Silent)).await;
        assert_eq!((&node["state"], &node["suspicion"]), (&json!("suspect"), &json!("silent")));
        assert!(node["clock_ahead_ms"].is_i64(), "{node}");
        let (_, twiml) = door.web.voice("CA1").await;
        // It may be back in a moment: the carrier is to ask again.
        assert!(twiml.contains("</Redirect>") && !twiml.contains("<Connect>"), "{twiml}");
        // It goes on where it was, on the same connection. Beats until the call is there: what it
        // has heard last must be young.
        let beating = async {
            let mut n = 2;
            loop {
                let heard = beats.next().await.sent_us;
                beats.say(n, Some(heard), READY).await;
                n += 1;
            }
        };
        let called = async {
            let node = until(&door, None).await;
            assert_eq!((&node["state"], &node["suspicion"]), (&json!("ready"), &Value::Null));
            door.web.begun("CA2").await.0.node.unwrap()
        };
        tokio::select! {
            node = called => assert_eq!(node.as_str(), "fra-1"),
            () = beating => {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_does_not_hear_control_is_suspect_although_it_beats() {
    in_time(async {
        let door = door().await;
        let (relay, _) = Relay::join(&door.token).await;
        let mut beats = Beats::of(&relay.connection).await;
        let first = beats.next().await.sent_us;
        let beating = async {
            let mut n = 1;
            loop {
                beats.say(n, Some(first), READY).await;
                beats.next().await;
                n += 1;
            }
        };
        let suspect = async {
            let node = until(&door, Some(Suspicion::Deaf)).await;
            assert_eq!((&node["state"], &node["suspicion"]), (&json!("suspect"), &json!("deaf")));
        };
        tokio::select! {
            () = suspect => {}
            () = beating => {}
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_beat_among_beats_is_skipped_and_a_beat_among_events_too() {
    in_time(async {
        let door = door().await;
        let (mut relay, _) = Relay::join(&door.token).await;
        let mut beats = Beats::of(&relay.connection).await;
        let mut bytes = Vec::new();
        Frame::write(&mut bytes, Channel::Session, &json!({"m": "sing", "song": 3})).unwrap();
        beats.sender.write_all(&bytes).await.unwrap();
        let beat = Beat { sent_us: 1, heard_us: None, wall: control::clock::wall() };
        let beat = NodeBeat { beat, progress: 0, load: Load { calls: 9, ..READY } };
        relay.say(&ToControl::Beat(beat)).await;
        relay.say(&ToControl::Events { events: vec![refused(1)] }).await;
        assert_eq!(relay.ack().await, EventNumber(1));
        beats.say(5, None, Load { calls: 4, ..READY }).await;
        while beats.next().await.heard_us != Some(5) {}
        assert_eq!(door.web.get("/v1/nodes/fra-1").await.1["calls"], 4);
        assert_eq!(door.web.plane.metrics.link_unknown.get(), 2);
    })
    .await;
}

/// A relay of this version is let in, carries a call and tells of it.
async fn serves(door: &Door, version: Version) -> Relay {
    let (mut relay, acked) = Relay::join_as(&door.token, version).await;
    assert_eq!(acked, EventNumber(0));
    let (call, _) = door.web.begun("CA1").await;
    assert_eq!(call.node.as_ref().unwrap().as_str(), "fra-1");
    relay.say(&ToControl::Events { events: vec![refused(1)] }).await;
    assert_eq!(relay.ack().await, EventNumber(1));
    relay
}

#[tokio::test]
async fn a_relay_one_minor_version_older_is_served_and_told_no_beats() {
    in_time(async {
        let door = door().await;
        let relay = serves(&door, Version { minor: VERSION.minor - 1, ..VERSION }).await;
        // The first beat would have been on its way before the call was placed.
        assert!(relay.connection.accept_uni().now_or_never().is_none());
        let node = until(&door, None).await;
        assert_eq!((&node["suspicion"], &node["clock_ahead_ms"]), (&Value::Null, &Value::Null));
    })
    .await;
}

#[tokio::test]
async fn a_relay_one_minor_version_newer_is_served_and_what_it_says_besides_is_skipped() {
    in_time(async {
        let door = door().await;
        let relay = serves(&door, Version { minor: VERSION.minor + 1, ..VERSION }).await;
        let mut beats = Beats::of(&relay.connection).await;
        let load = json!({"calls": 7, "calls_max": 10, "ready": true, "mood": "good"});
        let beat = json!({"sent_us": 5, "wall": 1, "phase": "full moon"});
        let beat = json!({"m": "beat", "beat": beat, "progress": 1, "load": load, "heat": 40});
        let mut bytes = Vec::new();
        Frame::write(&mut bytes, Channel::Session, &beat).unwrap();
        beats.sender.write_all(&bytes).await.unwrap();
        while beats.next().await.heard_us != Some(5) {}
        assert_eq!(door.web.get("/v1/nodes/fra-1").await.1["calls"], 7);
    })
    .await;
}

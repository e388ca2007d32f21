//! Calls whose agent is dialled before their stream is here: announced over the link.
//!
//! With two shards, which one has what follows from counting connections: an announcement goes to
//! the first shard when both are idle, and so does a connection.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use link::event::Role;
use link::id::{AgentName, CallId, Gen, TenantId};
use link::message::{Announcement, Said, ToControl, ToRelay};
use relay::stream::Stream;
use relay::tls;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::bridge_rig::{Caller, Model, Told};
use crate::node_rig::{Control, SIGNATURE, Session};
use crate::process_rig::{Relay, ticket, within};
use crate::ws_dial::Pki;

/// A relay that has joined, and a model's door that the test opens.
struct Stage {
    control: Control,
    relay: Relay,
    session: Session,
    door: TcpListener,
}

impl Stage {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let (control, door) = (Control::start(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let mut all = control.settings();
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let model = door.local_addr().unwrap();
        let (relay, session) = tokio::join!(Relay::start(&all), control.welcome(0, model));
        relay.until("/readyz", |status, _| status == 200).await;
        Self { control, relay, session, door }
    }

    async fn announce(&mut self, call: &str, agent: &str) {
        let announcement = Announcement {
            call: CallId::new(call).unwrap(),
            generation: Gen(0),
            tenant: TenantId::default(),
            agent: AgentName::new(agent).unwrap(),
            version: 1,
            continues: None,
        };
        self.session.say(&ToRelay::Announce(announcement)).await;
    }

    /// The call goes on here, with its next stream; so much was said in it.
    async fn announce_next(&mut self, call: &str, said: &[(Role, &str)]) {
        let turn =
            |(role, text): &(Role, &str)| Said { role: *role, text: (*text).into(), cut: false };
        let announcement = Announcement {
            call: CallId::new(call).unwrap(),
            generation: Gen(1),
            tenant: TenantId::default(),
            agent: AgentName::new("front-desk").unwrap(),
            version: 1,
            continues: Some(said.iter().map(turn).collect()),
        };
        self.session.say(&ToRelay::Announce(announcement)).await;
    }

    /// Waits until the node says that it is ready for the call's next stream.
    async fn prepared(&mut self, awaited: &str) {
        loop {
            if let ToControl::Prepared { call, generation } = self.session.next().await {
                assert_eq!((call.as_str(), generation), (awaited, Gen(1)));
                return;
            }
        }
    }

    async fn tcp(&self) -> TcpStream {
        within(self.door.accept()).await.unwrap().0
    }

    /// The model's end of the next connection, up to the session.
    async fn model(&self) -> Model {
        let mut model = Model::meet(Stream::Plain(self.tcp().await)).await;
        model.settle().await;
        model
    }

    async fn caller(&self, call: &str, agent: &str) -> Caller {
        let ticket = ticket(&self.control.key, |claims| {
            claims.call = CallId::new(call).unwrap();
            claims.agent = AgentName::new(agent).unwrap();
        });
        Caller::begin(self.relay.public, Some(SIGNATURE), &ticket).await
    }

    /// A connection that asks for nothing: the first shard has one more than the second.
    async fn burden_the_first_shard(&self) -> TcpStream {
        TcpStream::connect(self.relay.public).await.unwrap()
    }

    async fn until(&self, line: &str) {
        self.relay.until_metric(line).await;
    }
}

/// The caller is heard by this model, and hears it.
async fn talk(caller: &mut Caller, model: &mut Model) {
    caller.media(&[0x11; 160]).await;
    // A pause before it was filled with silence.
    while !model.hear(1).await.ends_with(&[0x11; 160]) {}
    model.answer([&[0x22; 480][..]]).await;
    assert_eq!(caller.listen(480).await, [0x22; 480]);
}

const OPEN: [&str; 2] =
    ["relay_sockets_open{leg=\"caller\"} 1", "relay_sockets_open{leg=\"agent\"} 1"];
const CLOSED: [&str; 2] =
    ["relay_sockets_open{leg=\"caller\"} 0", "relay_sockets_open{leg=\"agent\"} 0"];

#[tokio::test]
async fn an_announced_stream_finds_its_session_ready() {
    let mut stage = Stage::new(&[("RELAY_SHARDS", "1")]).await;
    stage.announce("c_1", "front-desk").await;
    let mut model = stage.model().await;
    stage.until("relay_announced_waiting 1").await;
    stage.until("relay_calls 0").await;
    let mut caller = stage.caller("c_1", "front-desk").await;
    talk(&mut caller, &mut model).await;
    stage.until("relay_prepared_total{outcome=\"claimed\"} 1").await;
    stage.until("relay_first_voice_seconds_count{prepared=\"yes\"} 1").await;
    stage.until("relay_handed_over_total 0").await;
    stage.until("relay_announced_waiting 0").await;
    for line in OPEN {
        stage.until(line).await;
    }
    caller.hang_up().await;
    assert_eq!(model.next_event().await, None);
    for line in CLOSED {
        stage.until(line).await;
    }
}

#[tokio::test]
async fn a_call_that_goes_on_finds_a_session_that_is_told_what_was_said() {
    let mut stage = Stage::new(&[("RELAY_SHARDS", "1")]).await;
    stage.announce_next("c_1", &[]).await;
    let mut model = stage.model().await;
    stage.prepared("c_1").await;
    let said = [(Role::Caller, "Are you open?"), (Role::Agent, "Yes.")];
    stage.announce_next("c_1", &said).await;
    // Said once more, behind what is known by now.
    stage.prepared("c_1").await;
    let ticket = ticket(&stage.control.key, |claims| {
        claims.call = CallId::new("c_1").unwrap();
        claims.generation = Gen(1);
    });
    let mut caller = Caller::begin(stage.relay.public, Some(SIGNATURE), &ticket).await;
    let expected =
        [("user", "Are you open?"), ("assistant", "Yes."), ("system", "Do not greet again")];
    for (role, words) in expected {
        let event = model.next_event().await.unwrap();
        assert_eq!(event["type"], "conversation.item.create", "{event}");
        assert_eq!(event["item"]["role"], role);
        assert!(event["item"]["content"][0]["text"].as_str().unwrap().contains(words), "{event}");
    }
    talk(&mut caller, &mut model).await;
    stage.until("relay_prepared_total{outcome=\"claimed\"} 1").await;
}

#[tokio::test]
async fn a_stream_on_another_shard_gets_the_call_handed_over() {
    let mut stage = Stage::new(&[("RELAY_SHARDS", "2")]).await;
    stage.announce("c_1", "front-desk").await;
    let mut model = stage.model().await;
    let _burden = stage.burden_the_first_shard().await;
    let mut caller = stage.caller("c_1", "front-desk").await;
    talk(&mut caller, &mut model).await;
    stage.until("relay_handed_over_total 1").await;
    stage.until("relay_prepared_total{outcome=\"claimed\"} 1").await;
    for line in OPEN {
        stage.until(line).await;
    }
    model.close_with(1_000).await;
    caller.listen_to_the_end().await;
    for line in CLOSED {
        stage.until(line).await;
    }
}

#[tokio::test]
async fn a_call_that_is_still_dialling_is_handed_over_as_well() {
    let mut stage = Stage::new(&[("RELAY_SHARDS", "2")]).await;
    stage.announce("c_1", "front-desk").await;
    let tcp = stage.tcp().await;
    let _burden = stage.burden_the_first_shard().await;
    let mut caller = stage.caller("c_1", "front-desk").await;
    stage.until("relay_handed_over_total 1").await;
    let mut model = Model::meet(Stream::Plain(tcp)).await;
    model.settle().await;
    talk(&mut caller, &mut model).await;
    caller.hang_up().await;
    assert_eq!(model.next_event().await, None);
    for line in CLOSED {
        stage.until(line).await;
    }
}

#[tokio::test]
async fn a_session_over_tls_is_handed_over_as_well() {
    let pki = Pki::new();
    let settings = [("RELAY_SHARDS", "2"), ("RELAY_AGENT_CA_FILE", &pki.ca())];
    let mut stage = Stage::new(&settings).await;
    let url = format!("wss://localhost:{}/", stage.door.local_addr().unwrap().port());
    let spec = json!({
        "name": "secure", "instructions": "You answer the phone.",
        "provider": {"kind": "openai_realtime", "url": url, "api_key": "sk-test"},
    });
    stage.session.say(&ToRelay::Agent(serde_json::from_value(spec).unwrap())).await;
    stage.announce("c_1", "secure").await;
    let stream = within(tls::accept(stage.tcp().await, &pki.server())).await.unwrap();
    let mut model = Model::meet(stream).await;
    model.settle().await;
    let _burden = stage.burden_the_first_shard().await;
    let mut caller = stage.caller("c_1", "secure").await;
    talk(&mut caller, &mut model).await;
    stage.until("relay_handed_over_total 1").await;
    caller.hang_up().await;
    assert_eq!(model.next_event().await, None);
    for line in CLOSED {
        stage.until(line).await;
    }
}

#[tokio::test]
async fn a_session_that_ended_before_its_stream_came_is_dialled_anew() {
    let mut stage = Stage::new(&[("RELAY_SHARDS", "1")]).await;
    stage.announce("c_1", "front-desk").await;
    let mut model = stage.model().await;
    // A code that says not to come back.
    model.close_with(1_008).await;
    stage.until("relay_prepared_total{outcome=\"expired\"} 1").await;
    stage.until("relay_announced_waiting 0").await;
    stage.until("relay_sockets_open{leg=\"agent\"} 0").await;
    let mut caller = stage.caller("c_1", "front-desk").await;
    let mut model = stage.model().await;
    talk(&mut caller, &mut model).await;
    stage.until("relay_first_voice_seconds_count{prepared=\"no\"} 1").await;
}

#[tokio::test]
async fn a_node_that_drains_sends_its_announced_calls_away_and_prepares_no_more() {
    let mut stage = Stage::new(&[("RELAY_SHARDS", "2")]).await;
    let mut caller = stage.caller("c_live", "front-desk").await;
    let mut live = stage.model().await;
    talk(&mut caller, &mut live).await;
    stage.announce("c_1", "front-desk").await;
    let mut waiting = stage.model().await;
    stage.relay.signal("-TERM");
    assert_eq!(waiting.next_event().await, None);
    stage.until("relay_prepared_total{outcome=\"dismissed\"} 1").await;
    stage.until("relay_sockets_open{leg=\"agent\"} 1").await;
    stage.announce("c_2", "front-desk").await;
    stage.until("relay_announcements_total{outcome=\"closed\"} 1").await;
    talk(&mut caller, &mut live).await;
    caller.hang_up().await;
    assert_eq!(live.next_event().await, None);
    assert!(stage.relay.exit().await.success());
}

#[tokio::test]
async fn announcements_are_bounded_and_those_of_no_use_are_counted() {
    let settings = [("RELAY_SHARDS", "1"), ("RELAY_CALLS_MAX", "8")];
    let mut stage = Stage::new(&settings).await;
    let mut models = Vec::new();
    for call in ["c_1", "c_2"] {
        stage.announce(call, "front-desk").await;
        models.push(stage.model().await);
    }
    for (call, agent, outcome) in [
        ("c_3", "front-desk", "full"),
        ("c_1", "front-desk", "twice"),
        ("c_4", "nobody", "unknown_agent"),
    ] {
        stage.announce(call, agent).await;
        stage.until(&format!("relay_announcements_total{{outcome=\"{outcome}\"}} 1")).await;
    }
    let mut caller = stage.caller("c_1", "front-desk").await;
    talk(&mut caller, &mut models[0]).await;
    stage.announce("c_1", "front-desk").await;
    stage.until("relay_announcements_total{outcome=\"late\"} 1").await;
    stage.until("relay_announcements_total{outcome=\"prepared\"} 2").await;
    // The one whose stream has come makes room.
    stage.announce("c_3", "front-desk").await;
    stage.model().await;
}

#[tokio::test]
async fn another_agents_stream_does_not_get_what_was_prepared() {
    let mut stage = Stage::new(&[("RELAY_SHARDS", "1")]).await;
    let spec = json!({
        "name": "other", "instructions": "You answer the phone.",
        "provider": {
            "kind": "openai_realtime",
            "url": format!("ws://{}/", stage.door.local_addr().unwrap()),
        },
    });
    stage.session.say(&ToRelay::Agent(serde_json::from_value(spec).unwrap())).await;
    stage.announce("c_1", "other").await;
    let _prepared = stage.model().await;
    let mut caller = stage.caller("c_1", "front-desk").await;
    let mut model = stage.model().await;
    talk(&mut caller, &mut model).await;
    caller.hang_up().await;
    assert_eq!(caller.next().await, Told::Closed(1_000));
}

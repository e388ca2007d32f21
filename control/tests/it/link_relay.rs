//! The link, spoken to by a QUIC client of the test's own.

use std::sync::Arc;
use std::time::Duration;

use control::fleet::authority::Authority;
use control::fleet::link::Link;
use control::fleet::orders::Order;
use control::store::call::CallState;
use link::event::{CallEvent, CallRef, EndReason, NodeEvent};
use link::frame::{Channel, Decoder, Frame};
use link::id::{CommandId, Epoch, EventNumber, Gen, NodeId};
use link::join::JoinToken;
use link::message::{
    ALPN, Announcement, Command, Hello, Load, SERVER_NAME, ToControl, ToRelay, VERSION, Version,
};
use link::secret::Secret;
use link::ticket::KeySet;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use super::db::{ending, stream_started, tenant};
use super::web::{TOKEN, Web, inbound, sign};

/// A control plane with its link.
pub(crate) struct Door {
    pub(crate) web: Web,
    pub(crate) token: JoinToken,
    stop: CancellationToken,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn door() -> Door {
    door_of(Web::start().await).await
}

/// The link of a control plane.
pub(crate) async fn door_of(web: Web) -> Door {
    let authority = Arc::new(Authority::load(&web.plane.store).await.unwrap());
    let link = Link::bind("127.0.0.1:0".parse().unwrap(), Arc::clone(&authority)).unwrap();
    let token = authority.join_token(&link.local_addr().unwrap().to_string());
    let stop = CancellationToken::new();
    tokio::spawn(link.serve(Arc::clone(&web.plane), stop.clone()));
    Door { web, token, stop }
}

/// A relay's end of the link.
pub(crate) struct Relay {
    pub(crate) connection: Connection,
    sender: SendStream,
    receiver: RecvStream,
    decoder: Decoder,
    _endpoint: Endpoint,
}

impl Relay {
    async fn dial(token: &JoinToken) -> Self {
        Self::dial_showing(token, None).await
    }

    /// Dials with a certificate and its key.
    pub(crate) async fn dial_showing(
        token: &JoinToken,
        shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(token.ca_der().unwrap())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match shown {
            Some((certificate, key)) => tls.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => tls.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = token.address.parse().unwrap();
        let connection =
            endpoint.connect_with(config, address, SERVER_NAME).unwrap().await.unwrap();
        let (sender, receiver) = connection.open_bi().await.unwrap();
        let decoder = Decoder::default();
        Self { connection, sender, receiver, decoder, _endpoint: endpoint }
    }

    /// Dials, is let in by the one that numbers events, and takes its place; the last committed
    /// event.
    pub(crate) async fn join(token: &JoinToken) -> (Self, EventNumber) {
        Self::join_as(token, VERSION).await
    }

    /// The same, speaking this version of the link.
    pub(crate) async fn join_as(token: &JoinToken, version: Version) -> (Self, EventNumber) {
        let (mut relay, acked) = Self::join_any_as(token, version).await;
        while relay.lease().await.is_none() {}
        (relay, acked)
    }

    /// The same, whoever numbers events.
    pub(crate) async fn join_any(token: &JoinToken) -> (Self, EventNumber) {
        Self::join_with(token, hello(token)).await
    }

    async fn join_any_as(token: &JoinToken, version: Version) -> (Self, EventNumber) {
        Self::join_with(token, Hello { version, ..hello(token) }).await
    }

    /// Dials and is let in as a node of another name, by the one that numbers events.
    pub(crate) async fn join_named(token: &JoinToken, name: &str) -> Self {
        let hello = Hello { node: NodeId::new(name).unwrap(), ..hello(token) };
        let (mut relay, _) = Self::join_with(token, hello).await;
        while relay.lease().await.is_none() {}
        relay
    }

    async fn join_with(token: &JoinToken, hello: Hello) -> (Self, EventNumber) {
        let mut relay = Self::dial(token).await;
        relay.say(&ToControl::Hello(hello)).await;
        let ToRelay::Welcome { acked, .. } = relay.hear().await else { panic!("no welcome") };
        loop {
            if let ToRelay::Synced = relay.hear().await {
                break;
            }
        }
        relay.say(&ToControl::Load(READY)).await;
        (relay, acked)
    }

    /// What control says next of the lease.
    pub(crate) async fn lease(&mut self) -> Option<u64> {
        loop {
            if let ToRelay::Lease { term } = self.hear().await {
                return term;
            }
        }
    }

    pub(crate) async fn say(&mut self, message: &ToControl) {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        self.sender.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> ToRelay {
        self.try_hear().await.expect("the link is up")
    }

    /// The next message; `None` when the connection is over.
    pub(crate) async fn try_hear(&mut self) -> Option<ToRelay> {
        let mut bytes = [0; 4_096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(ToRelay::read(&frame).unwrap());
            }
            let read = self.receiver.read(&mut bytes).await.ok()??;
            self.decoder.push(&bytes[..read]);
        }
    }

    /// The next message, which is about a stream on its way.
    pub(crate) async fn announcement(&mut self) -> Announcement {
        let heard = self.hear().await;
        let ToRelay::Announce(announcement) = heard else { panic!("instead: {heard:?}") };
        announcement
    }

    pub(crate) async fn ack(&mut self) -> EventNumber {
        loop {
            if let ToRelay::Ack { through } = self.hear().await {
                return through;
            }
        }
    }
}

pub(crate) fn hello(token: &JoinToken) -> Hello {
    Hello {
        version: VERSION,
        secret: token.secret.clone(),
        node: NodeId::new("fra-1").unwrap(),
        epoch: Epoch(7),
        public_url: "wss://media.example".into(),
        software: "test".into(),
        region: Some("fra".into()),
    }
}

pub(crate) fn event(n: u64, event: CallEvent) -> NodeEvent {
    NodeEvent { n: EventNumber(n), at: control::clock::wall(), call: None, event }
}

pub(crate) fn refused(n: u64) -> NodeEvent {
    event(n, CallEvent::StreamRefused { why: format!("reason {n}") })
}

pub(crate) const READY: Load =
    Load { calls: 0, calls_max: 10, ready: true, draining: false, late_us: Some(250) };

#[tokio::test]
async fn a_relay_is_told_everything_that_a_call_needs_in_order() {
    let door = door().await;
    let mut relay = Relay::dial(&door.token).await;
    relay.say(&ToControl::Hello(hello(&door.token))).await;
    let first = relay.hear().await;
    let ToRelay::Welcome { version: VERSION, acked: EventNumber(0), control } = first else {
        panic!("instead: {first:?}")
    };
    assert_eq!(control.as_ref(), Some(door.web.plane.sequencer.control()));
    let ToRelay::TicketKeys { keys } = relay.hear().await else { panic!("no keys") };
    assert!(!KeySet::new(&keys).unwrap().is_empty());
    assert_eq!(keys, door.web.plane.tokens.verifying());
    let ToRelay::Signatures { values } = relay.hear().await else { panic!("no signatures") };
    let values: Vec<_> = values.iter().map(Secret::reveal).collect();
    for end in ["", "/"] {
        let url = format!("wss://media.example/v1/m/fra-1{end}");
        assert!(values.contains(&sign(&url, &[]).as_str()), "{url}");
    }
    let (mut agents, mut next) = (Vec::new(), relay.hear().await);
    while let ToRelay::Agent(spec) = next {
        agents.push(*spec);
        next = relay.hear().await;
    }
    let names: Vec<_> = agents.iter().map(|spec| (spec.name.as_str(), spec.version)).collect();
    assert_eq!(names, [("front-desk", 3), ("sales", 1)]);
    assert_eq!(agents[0].provider.api_key().reveal(), "sk-agent");
    assert!(matches!(next, ToRelay::Synced));
}

#[tokio::test]
async fn a_relay_that_may_not_join_is_told_why() {
    let door = door().await;
    let good = hello(&door.token);
    let wrong = [
        (Hello { secret: Secret::new("guess"), ..good.clone() }, "control join-token"),
        (Hello { version: Version { major: 2, minor: 0 }, ..good.clone() }, "version"),
        (Hello { public_url: "https://media.example".into(), ..good.clone() }, "wss://"),
    ];
    for (hello, part) in wrong {
        let mut relay = Relay::dial(&door.token).await;
        relay.say(&ToControl::Hello(hello)).await;
        let ToRelay::Refused { why } = relay.hear().await else { panic!("not refused") };
        assert!(why.contains(part), "{why}");
        assert!(relay.try_hear().await.is_none(), "nothing follows");
    }
    let mut silent = Relay::dial(&door.token).await;
    silent.say(&ToControl::Load(READY)).await;
    assert!(silent.try_hear().await.is_none(), "something else than a hello");
    assert!(door.web.plane.nodes.list().is_empty());
    let newer = Hello { version: Version { minor: 9, ..VERSION }, ..good };
    let mut relay = Relay::dial(&door.token).await;
    relay.say(&ToControl::Hello(newer)).await;
    assert!(matches!(relay.hear().await, ToRelay::Welcome { .. }), "a newer minor version is in");
}

#[tokio::test]
async fn events_are_acknowledged_once_they_are_committed_and_repeated_ones_change_nothing() {
    let door = door().await;
    let (mut relay, acked) = Relay::join(&door.token).await;
    assert_eq!(acked, EventNumber(0));
    relay.say(&ToControl::Events { events: (1..=3).map(refused).collect() }).await;
    assert_eq!(relay.ack().await, EventNumber(3));
    let store = &door.web.plane.store;
    assert_eq!(super::db::kinds(store).await, ["stream.refused"; 3]);

    relay.connection.close(0_u8.into(), b"");
    let (mut relay, acked) = Relay::join(&door.token).await;
    assert_eq!(acked, EventNumber(3), "what is committed is known on return");
    relay.say(&ToControl::Events { events: (2..=4).map(refused).collect() }).await;
    assert_eq!(relay.ack().await, EventNumber(4));
    assert_eq!(super::db::kinds(store).await, ["stream.refused"; 4]);

    relay.say(&ToControl::Events { events: vec![refused(9)] }).await;
    assert!(relay.try_hear().await.is_none(), "a gap ends the connection, to begin again");
    let (_, acked) = Relay::join(&door.token).await;
    assert_eq!(acked, EventNumber(4));
}

#[tokio::test]
async fn a_relay_that_is_ready_gets_calls_and_orders_and_its_stream_begins_them() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    // Waits for the first relay that says how it is doing.
    let (call, _) = door.web.begun("CA1").await;
    assert_eq!(call.node.as_ref().unwrap().as_str(), "fra-1");
    let started = NodeEvent {
        call: Some(CallRef { id: call.id.clone(), tenant: tenant(), generation: Gen(0) }),
        ..event(1, stream_started())
    };
    relay.say(&ToControl::Events { events: vec![started] }).await;
    assert_eq!(relay.ack().await, EventNumber(1));
    let id = Some(CommandId::new("cmd_1").unwrap());
    let command = Command::HangUp;
    let order = Order::Do { call: call.id.clone(), generation: Gen(0), id: id.clone(), command };
    door.web.plane.nodes.send(&call.node.unwrap(), order).unwrap();
    let ToRelay::Command { call: told, id: named, command, .. } = relay.hear().await else {
        panic!("no command")
    };
    assert_eq!((told, named, command), (call.id, id, Command::HangUp));
    let kinds = super::db::kinds(&door.web.plane.store).await;
    assert_eq!(kinds, ["call.started", "call.answered", "stream.started"]);
}

#[tokio::test]
async fn each_stream_is_announced_to_its_node_when_the_carrier_is_told_of_it() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    let (call, target) = door.web.begun("CA1").await;
    let first = Announcement {
        call: call.id,
        generation: Gen(0),
        tenant: tenant(),
        agent: call.agent,
        version: 3,
        continues: None,
    };
    assert_eq!(relay.announcement().await, first);
    let (_, twiml) = door.web.hook(&target, &inbound("CA1")).await;
    assert!(twiml.contains("<Connect>"), "{twiml}");
    let next = Announcement { generation: Gen(1), continues: Some(Vec::new()), ..first };
    assert_eq!(relay.announcement().await, next, "what follows a stream is announced, too");

    let new = control::store::call::NewCall { carrier: None, ..super::db::new_call("c_out") };
    door.web.plane.store.create_call(new, control::clock::wall()).await.unwrap();
    door.web.hook("/v1/twilio/voice?call=c_out", &inbound("CA2")).await;
    let announced = relay.announcement().await;
    assert_eq!((announced.call.as_str(), announced.generation), ("c_out", Gen(0)));

    let (_, ending) = door.web.begun("CA3").await;
    assert_eq!(relay.announcement().await.generation, Gen(0));
    let mut gone = inbound("CA3");
    gone[3].1 = "completed";
    door.web.hook(&ending, &gone).await;
    let (last, _) = door.web.begun("CA4").await;
    assert_eq!(relay.announcement().await.call, last.id, "an end announces nothing");
}

#[tokio::test]
async fn a_command_is_answered_by_the_event_that_its_relay_commits() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    let (call, _) = door.web.begun("CA1").await;
    let of_call = CallRef { id: call.id.clone(), tenant: tenant(), generation: Gen(0) };
    let said = |n, what| NodeEvent { call: Some(of_call.clone()), ..event(n, what) };
    relay.say(&ToControl::Events { events: vec![said(1, stream_started())] }).await;
    relay.ack().await;
    let say = door.web.http.post(door.web.url(&format!("/v1/calls/{}/commands", call.id)));
    let say = door.web.api(say.body(r#"{"do":"say","text":"One moment."}"#));
    let ((status, answer), told) = tokio::join!(say, async {
        let ToRelay::Command { call: told, generation, id, command } = relay.hear().await else {
            panic!("no command")
        };
        assert_eq!((told, generation), (call.id.clone(), Gen(0)));
        assert_eq!(command, Command::Say { text: "One moment.".into() });
        let id = id.unwrap();
        let done = CallEvent::CommandDone { id: id.clone(), refused: None };
        relay.say(&ToControl::Events { events: vec![said(2, done)] }).await;
        id
    });
    assert_eq!((status, answer), (200, serde_json::json!({"id": told.as_str(), "done": true})));
    assert_eq!(relay.ack().await, EventNumber(2));
}

#[tokio::test]
async fn what_is_unknown_is_skipped_and_what_is_too_long_ends_the_connection() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    let mut bytes = Vec::new();
    let song = serde_json::json!({"m": "sing", "song": 3});
    Frame::write(&mut bytes, Channel::Session, &song).unwrap();
    Frame::write(&mut bytes, Channel::Other(77), &song).unwrap();
    Frame::write(&mut bytes, Channel::Events, &"nonsense").unwrap();
    relay.sender.write_all(&bytes).await.unwrap();
    relay.say(&ToControl::Events { events: vec![refused(1)] }).await;
    assert_eq!(relay.ack().await, EventNumber(1));
    assert_eq!(door.web.plane.metrics.link_unknown.get(), 3);

    relay.sender.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(relay.try_hear().await.is_none());
}

#[tokio::test]
async fn a_node_that_starts_again_takes_its_own_place() {
    let door = door().await;
    let (mut old, _) = Relay::join(&door.token).await;
    let mut new = Relay::dial(&door.token).await;
    new.say(&ToControl::Hello(Hello { epoch: Epoch(8), ..hello(&door.token) })).await;
    assert!(matches!(new.hear().await, ToRelay::Welcome { acked: EventNumber(0), .. }));
    // It takes the place once it has everything and says how it is.
    new.say(&ToControl::Load(READY)).await;
    while old.try_hear().await.is_some() {}
    door.web.begun("CA1").await;
    assert_eq!(door.web.plane.nodes.list().len(), 1);
}

#[tokio::test]
async fn a_relay_that_finds_control_twice_and_leaves_without_a_word_keeps_its_place() {
    let door = door().await;
    let (mut first, _) = Relay::join(&door.token).await;
    door.web.begun("CA1").await;
    let mut second = Relay::dial(&door.token).await;
    second.say(&ToControl::Hello(hello(&door.token))).await;
    while !matches!(second.hear().await, ToRelay::Synced) {}
    second.connection.close(0_u8.into(), b"");
    first.say(&ToControl::Events { events: vec![refused(1)] }).await;
    assert_eq!(first.ack().await, EventNumber(1), "the first line goes on");
}

#[tokio::test]
async fn an_older_relay_is_told_nothing_of_the_lease_and_its_events_are_taken() {
    let door = door().await;
    let mut relay = Relay::dial(&door.token).await;
    let version = Version { minor: 0, ..VERSION };
    relay.say(&ToControl::Hello(Hello { version, ..hello(&door.token) })).await;
    while !matches!(relay.hear().await, ToRelay::Synced) {}
    relay.say(&ToControl::Events { events: vec![refused(1)] }).await;
    assert!(matches!(relay.hear().await, ToRelay::Ack { through: EventNumber(1) }));
}

#[tokio::test]
async fn while_the_database_is_away_a_relay_is_heard_and_let_in() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    let (call, target) = door.web.begun("CA1").await;
    door.web.plane.store.close().await;
    let of_call = CallRef { id: call.id.clone(), tenant: tenant(), generation: Gen(0) };
    let said = |n, what| NodeEvent { call: Some(of_call.clone()), ..event(n, what) };
    relay.say(&ToControl::Events { events: vec![said(1, stream_started())] }).await;
    // More batches than anybody keeps who waits for a database.
    for n in 2..=200 {
        relay.say(&ToControl::Events { events: vec![refused(n)] }).await;
    }
    let end = said(201, ending(EndReason::AgentHungUp));
    relay.say(&ToControl::Events { events: vec![end] }).await;
    let known = || door.web.plane.standby.call(&call.id).unwrap().state;
    let heard = async {
        while known() != CallState::Ended {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap();
    let (_, twiml) = door.web.hook(&target, &inbound("CA1")).await;
    assert!(twiml.contains("<Response><Hangup/></Response>"), "{twiml}");
    relay.connection.close(0_u8.into(), b"");
    let (_relay, acked) = Relay::join_any(&door.token).await;
    assert_eq!(acked, EventNumber(0), "it tells everything that it has");
}

#[tokio::test]
async fn a_relay_that_leaves_gets_no_more_calls() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&ToControl::Load(READY)).await;
    door.web.begun("CA1").await;
    relay.connection.close(0_u8.into(), b"");
    let gone = async {
        while !door.web.plane.nodes.list().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
}

#[tokio::test]
async fn the_authority_and_the_secret_outlive_a_restart_and_strangers_are_not_trusted() {
    let door = door().await;
    let again = Authority::load(&door.web.plane.store).await.unwrap();
    let token = again.join_token(&door.token.address);
    assert_eq!((&token.ca, token.secret.reveal()), (&door.token.ca, door.token.secret.reveal()));
    let link = Link::bind("127.0.0.1:0".parse().unwrap(), Arc::new(again)).unwrap();
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let address = link.local_addr().unwrap().to_string();
    tokio::spawn(link.serve(Arc::clone(&door.web.plane), stop));
    // The token of before opens the door of after.
    let (_relay, _) = Relay::join(&JoinToken { address, ..door.token.clone() }).await;
    assert!(!format!("{:?}", door.token).contains(TOKEN));
}

#[tokio::test]
async fn a_relay_that_is_in_is_told_of_new_keys_before_they_sign() {
    let door = door().await;
    let (mut relay, _) = Relay::join(&door.token).await;
    let plane = &door.web.plane;
    let before = plane.tokens.verifying();
    let almost_a_day = control::clock::wall().plus_us(24 * 3_600_000_000 - 60_000_000);
    plane.tokens.refresh(&plane.store, almost_a_day).await.unwrap();
    let ToRelay::TicketKeys { keys } = relay.hear().await else { panic!("no keys") };
    assert_eq!((keys.len(), &keys), (2, &plane.tokens.verifying()));
    assert!(keys.contains(&before[0]), "what was signed is taken on");
}

//! A control of a few lines, for the relay's end of the link: it says what a test tells it to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use link::beat::{Beat, NodeBeat};
use link::ephemeral::Ephemeral;
use link::event::{CallEvent, NodeEvent};
use link::frame::{Decoder, Frame};
use link::id::{ControlId, EventNumber};
use link::join::JoinToken;
use link::message::{ALPN, Hello, Load, SERVER_NAME, ToControl, ToRelay, VERSION};
use link::secret::Secret;
use link::ticket::SigningKey;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData,
    SignatureAlgorithm,
};

use crate::process_rig::{Relay, within};

/// Control's certificate authority, which outlives its leaves.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn server(&self, alpn: &[u8]) -> quinn::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        tls.alpn_protocols = vec![alpn.to_vec()];
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
    }
}

/// A relay's public key.
struct NodeKey(Vec<u8>);

impl PublicKeyData for NodeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A control that listens.
pub(crate) struct Control {
    endpoint: Endpoint,
    authority: Arc<Authority>,
    pub(crate) key: SigningKey,
}

impl Control {
    pub(crate) fn start() -> Self {
        Self::with(Arc::new(Authority::new()), ALPN)
    }

    /// One that speaks another protocol.
    pub(crate) fn start_speaking(alpn: &[u8]) -> Self {
        Self::with(Arc::new(Authority::new()), alpn)
    }

    /// Another control of the same database.
    pub(crate) fn start_beside(other: &Self) -> Self {
        Self::with(Arc::clone(&other.authority), ALPN)
    }

    fn with(authority: Arc<Authority>, alpn: &[u8]) -> Self {
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::server(authority.server(alpn), loopback).unwrap();
        Self { endpoint, authority, key: SigningKey::generate("k1").unwrap() }
    }

    /// The settings of a relay that joins this control.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.settings_trusting(&self.authority)
    }

    pub(crate) fn settings_trusting(&self, authority: &Authority) -> Vec<(String, String)> {
        Self::settings_for(&self.address(), authority)
    }

    /// The settings of a relay that joins both controls.
    pub(crate) fn settings_with(&self, other: &Self) -> Vec<(String, String)> {
        Self::settings_for(&format!("{}, {}", self.address(), other.address()), &self.authority)
    }

    /// The settings of a relay that finds this control at another address.
    pub(crate) fn settings_at(&self, address: SocketAddr) -> Vec<(String, String)> {
        Self::settings_for(&address.to_string(), &self.authority)
    }

    fn address(&self) -> String {
        self.listens().to_string()
    }

    /// Where it listens.
    pub(crate) fn listens(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    fn settings_for(address: &str, authority: &Authority) -> Vec<(String, String)> {
        let token = JoinToken::new(address, authority.issuer.der(), Secret::new("hush"));
        [("RELAY_JOIN_TOKEN", token.to_line().reveal()), ("RELAY_PUBLIC_URL", "wss://relay.test")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    /// A certificate of this public key, or of some other one.
    pub(crate) fn certificate(&self, key: Option<Vec<u8>>) -> String {
        let key = key.unwrap_or_else(|| KeyPair::generate().unwrap().public_key_raw().to_vec());
        let params = CertificateParams::new(vec!["n1.test".to_owned()]).unwrap();
        let certificate = params.signed_by(&NodeKey(key), &self.authority.issuer).unwrap();
        URL_SAFE_NO_PAD.encode_to_string(certificate.der())
    }

    /// The next connection of a relay, up to its hello.
    pub(crate) async fn accept(&self) -> (Session, Hello) {
        let incoming = within(self.endpoint.accept()).await.unwrap();
        let connection = within(incoming.accept().unwrap()).await.unwrap();
        let (sender, receiver) = within(connection.accept_bi()).await.unwrap();
        let (decoder, numbers) = (Decoder::default(), Vec::new());
        let mut session = Session { connection, sender, receiver, decoder, numbers };
        let ToControl::Hello(hello) = session.next().await else { panic!("hello comes first") };
        (session, hello)
    }

    /// Serves one handshake, and says whether the relay broke it off.
    pub(crate) async fn handshake_fails(&self) -> bool {
        let incoming = within(self.endpoint.accept()).await.unwrap();
        within(incoming.accept().unwrap()).await.is_err()
    }

    /// Accepts a relay and makes it ready, for an agent of this model.
    pub(crate) async fn welcome(&self, acked: u64, model: SocketAddr) -> Session {
        let (mut session, _) = self.accept().await;
        session.welcome(acked).await;
        session.sync(&self.key, model).await;
        session
    }

    /// A relay that is ready, and its session.
    pub(crate) async fn relay(&self, model: SocketAddr) -> (Relay, Session) {
        let settings = self.settings();
        let (relay, session) = tokio::join!(Relay::start(&settings), self.welcome(0, model));
        relay.until("/readyz", |status, _| status == 200).await;
        (relay, session)
    }
}

/// One connection of a relay.
pub(crate) struct Session {
    connection: Connection,
    sender: SendStream,
    receiver: RecvStream,
    decoder: Decoder,
    /// The numbers of all events that came on this connection.
    pub(crate) numbers: Vec<u64>,
}

impl Session {
    pub(crate) async fn next(&mut self) -> ToControl {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                let message = ToControl::read(&frame).unwrap();
                if let ToControl::Events { events } = &message {
                    self.numbers.extend(events.iter().map(|event| event.n.0));
                }
                return message;
            }
            let chunk = within(self.receiver.read_chunk(65_536, true)).await.unwrap().unwrap();
            self.decoder.push(&chunk.bytes);
        }
    }

    /// The next events, whatever loads come before them.
    pub(crate) async fn events(&mut self) -> Vec<NodeEvent> {
        loop {
            if let ToControl::Events { events } = self.next().await {
                return events;
            }
        }
    }

    /// What is told for the moment next, whatever comes before it.
    pub(crate) async fn passing(&mut self) -> Vec<Ephemeral> {
        loop {
            if let ToControl::Ephemeral { events } = self.next().await {
                return events;
            }
        }
    }

    /// Reads events up to one that is looked for, and gives all of them.
    pub(crate) async fn events_until(
        &mut self,
        is_it: impl Fn(&CallEvent) -> bool,
    ) -> Vec<NodeEvent> {
        let mut all = Vec::new();
        loop {
            all.extend(self.events().await);
            if all.iter().any(|event| is_it(&event.event)) {
                return all;
            }
        }
    }

    /// Reads loads up to one that is looked for.
    pub(crate) async fn load_until(&mut self, is_it: impl Fn(&Load) -> bool) {
        loop {
            if let ToControl::Load(load) = self.next().await
                && is_it(&load)
            {
                return;
            }
        }
    }

    pub(crate) async fn say(&mut self, message: &ToRelay) {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        self.sender.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn say_raw(&mut self, channel: link::frame::Channel, body: serde_json::Value) {
        let mut bytes = Vec::new();
        Frame::write(&mut bytes, channel, &body).unwrap();
        self.sender.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn welcome(&mut self, acked: u64) {
        self.welcome_as("c-1", acked).await;
        self.lease(Some(1)).await;
    }

    /// Lets the relay in, as one of several controls, and says nothing of the lease.
    pub(crate) async fn welcome_as(&mut self, control: &str, acked: u64) {
        let (acked, control) = (EventNumber(acked), Some(ControlId::new(control).unwrap()));
        self.say(&ToRelay::Welcome { version: VERSION, acked, control }).await;
    }

    /// Says whether this control numbers events.
    pub(crate) async fn lease(&mut self, term: Option<u64>) {
        self.say(&ToRelay::Lease { term }).await;
    }

    pub(crate) async fn acknowledge(&mut self, through: EventNumber) {
        self.say(&ToRelay::Ack { through }).await;
    }

    pub(crate) async fn sync(&mut self, key: &SigningKey, model: SocketAddr) {
        self.say(&ToRelay::TicketKeys { keys: vec![key.verifying()] }).await;
        self.say(&ToRelay::Signatures { values: vec![Secret::new(SIGNATURE)] }).await;
        let spec = serde_json::json!({
            "name": "front-desk", "instructions": "You answer the phone.",
            "provider": {"kind": "openai_realtime", "url": format!("ws://{model}/v1/realtime")},
        });
        self.say(&ToRelay::Agent(serde_json::from_value(spec).unwrap())).await;
        self.say(&ToRelay::Synced).await;
    }

    /// Waits until the relay has closed the connection.
    pub(crate) async fn closed(self) {
        within(self.connection.closed()).await;
    }

    /// The streams of beats, once the relay has opened its own.
    pub(crate) async fn beats(&self) -> Beats {
        let receiver = within(self.connection.accept_uni()).await.unwrap();
        let sender = self.connection.open_uni().await.unwrap();
        Beats { sender, receiver, decoder: Decoder::default() }
    }

    /// Whether the relay has opened a stream for beats.
    pub(crate) fn is_beaten(&self) -> bool {
        self.connection.accept_uni().now_or_never().is_some()
    }

    /// Breaks the connection, as a control that is killed.
    pub(crate) fn cut(&self) {
        self.connection.close(1_u32.into(), b"");
    }
}

/// The heartbeat of one connection.
pub(crate) struct Beats {
    sender: SendStream,
    receiver: RecvStream,
    decoder: Decoder,
}

impl Beats {
    /// What the relay says next.
    async fn hear(&mut self) -> ToControl {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return ToControl::read(&frame).unwrap();
            }
            let chunk = within(self.receiver.read_chunk(65_536, true)).await.unwrap().unwrap();
            self.decoder.push(&chunk.bytes);
        }
    }

    /// The relay's next beat.
    pub(crate) async fn next(&mut self) -> NodeBeat {
        loop {
            if let ToControl::Beat(beat) = self.hear().await {
                return beat;
            }
        }
    }

    /// The public key that the relay wants a certificate for.
    pub(crate) async fn enrols(&mut self) -> String {
        loop {
            if let ToControl::Enrol { key } = self.hear().await {
                return key;
            }
        }
    }

    /// Control says something between its beats.
    pub(crate) async fn tell(&mut self, message: &ToRelay) {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        self.sender.write_all(&bytes).await.unwrap();
    }

    /// Reads beats up to one that is looked for.
    pub(crate) async fn until(&mut self, is_it: impl Fn(&NodeBeat) -> bool) -> NodeBeat {
        loop {
            let beat = self.next().await;
            if is_it(&beat) {
                return beat;
            }
        }
    }

    /// Control beats.
    pub(crate) async fn say(&mut self, sent_us: u64, heard_us: Option<u64>) {
        let wall = relay::clock::wall();
        let mut bytes = Vec::new();
        ToRelay::Beat(Beat { sent_us, heard_us, wall }).write(&mut bytes).unwrap();
        // A relay that has left takes nothing, and its end of the line says so.
        let _ = self.sender.write_all(&bytes).await;
    }
}

/// The one signature that this control announces.
pub(crate) const SIGNATURE: &str = "signature=";

//! A relay as control sees it: a line to each control, events to the one that holds the lease, all
//! kept until they are acknowledged. It has no calls; its events are made at a rate.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use link::event::{CallEvent, CallRef, NodeEvent, Role, Turn};
use link::frame::Decoder;
use link::id::{CallId, Epoch, EventNumber, Gen, NodeId, TenantId, WallTime};
use link::join::JoinToken;
use link::message::{
    ALPN, Announcement, BATCH_EVENTS_MAX, BEAT_SINCE, Hello, Load, SERVER_NAME, ToControl, ToRelay,
    VERSION, Version,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::wall_us;

/// A relay that runs until it is dropped.
pub(super) struct Relay {
    shared: Arc<Shared>,
    _lines: JoinSet<()>,
}

struct Shared {
    node: NodeId,
    epoch: Epoch,
    token: JoinToken,
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<NodeEvent>,
    /// How many of `waiting`, from the front, the taker was told.
    sent: usize,
    last: u64,
    terms: BTreeMap<usize, u64>,
    taker: Option<(usize, u64)>,
}

impl State {
    /// Something happens in a call.
    fn push(&mut self, call: CallRef, now_us: u64, event: CallEvent) {
        self.last += 1;
        let at = WallTime(i64::try_from(now_us).unwrap_or(i64::MAX));
        let n = EventNumber(self.last);
        self.waiting.push_back(NodeEvent { n, at, call: Some(call), event });
    }
}

impl Relay {
    /// Starts one that is linked to all controls of the token.
    ///
    /// # Errors
    /// When the token is of no use.
    pub(super) fn start(number: usize, token: JoinToken) -> anyhow::Result<Self> {
        let addresses: Vec<SocketAddr> =
            token.addresses().map(str::parse).collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared {
            node: NodeId::new(format!("events-{number}"))?,
            epoch: Epoch(wall_us()),
            token,
            state: Mutex::default(),
            news: watch::Sender::new(()),
        });
        let mut lines = JoinSet::new();
        for (line, address) in addresses.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            lines.spawn(async move {
                loop {
                    // Why a line broke is of no interest: it is dialled again.
                    let _ = shared.line(line, address).await;
                    shared.set_term(line, None);
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        Ok(Self { shared, _lines: lines })
    }

    /// Something happens in a call: the event says which of the call's it is, and when it was made.
    pub(super) fn note(&self, call: &str, count: u64) {
        let now = wall_us();
        let mut state = self.shared.state();
        let turn = Turn {
            role: Role::Caller,
            item: format!("{call}-{count}-{now}"),
            order: u32::try_from(count).unwrap_or(u32::MAX),
            text: WORDS.to_owned(),
            heard_ms: None,
            generated_ms: None,
            interrupted: false,
            reply_after_ms: None,
        };
        let id = CallId::new(call).expect("a call of ours is an id");
        let call = CallRef { id, tenant: TenantId::default(), generation: Gen(0) };
        state.push(call, now, CallEvent::Turn(turn));
    }

    /// Lets what was noted go out.
    pub(super) fn send(&self) {
        self.shared.news.send_replace(());
    }

    /// How long the oldest event waits that is not acknowledged, in microseconds.
    pub(super) fn oldest_us(&self) -> u64 {
        let state = self.shared.state();
        let made = state.waiting.front().map(|event| event.at.0.unsigned_abs());
        made.map_or(0, |made| wall_us().saturating_sub(made))
    }

    /// Whether a control that numbers events has let it in.
    pub(super) fn is_in(&self) -> bool {
        self.shared.state().taker.is_some()
    }

    /// Events that are not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.shared.state().waiting.len()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_term(&self, line: usize, term: Option<u64>) {
        let mut state = self.state();
        match term {
            Some(term) => state.terms.insert(line, term),
            None => state.terms.remove(&line),
        };
        let taker = state.terms.iter().map(|(line, term)| (*term, *line)).max();
        let taker = taker.map(|(term, line)| (line, term));
        if state.taker != taker {
            state.taker = taker;
            // Nobody knows what the one before has committed of what it was told.
            state.sent = 0;
            drop(state);
            self.news.send_replace(());
        }
    }

    fn acknowledge(&self, through: EventNumber) {
        let mut state = self.state();
        while state.waiting.front().is_some_and(|event| event.n <= through) {
            state.waiting.pop_front();
            state.sent = state.sent.saturating_sub(1);
        }
    }

    /// The next events for a line, if it is the one that takes them.
    fn batch(&self, line: usize) -> Vec<NodeEvent> {
        let mut state = self.state();
        if state.taker.is_none_or(|(taker, _)| taker != line) {
            return Vec::new();
        }
        let events: Vec<NodeEvent> =
            state.waiting.iter().skip(state.sent).take(BATCH_EVENTS_MAX).cloned().collect();
        state.sent += events.len();
        events
    }

    /// One line, from its dialling to its break.
    async fn line(&self, line: usize, address: SocketAddr) -> anyhow::Result<()> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connecting = endpoint.connect_with(self.config()?, address, SERVER_NAME)?;
        let connection: Connection = tokio::time::timeout(CONNECT_WITHIN, connecting).await??;
        let (mut sender, receiver) = connection.open_bi().await?;
        let mut reader = Reader { receiver, decoder: Decoder::default(), bytes: vec![0; 65_536] };
        let hello = Hello {
            // It does not beat, and does not read beats.
            version: Version { minor: BEAT_SINCE - 1, ..VERSION },
            secret: self.token.secret.clone(),
            node: self.node.clone(),
            epoch: self.epoch,
            public_url: "wss://media.test".to_owned(),
            software: "events".to_owned(),
            region: None,
        };
        say(&mut sender, &ToControl::Hello(hello)).await?;
        let ToRelay::Welcome { acked, .. } = reader.next().await? else { bail!("no welcome") };
        self.acknowledge(acked);
        tokio::select! {
            heard = self.hear(line, &mut reader) => heard,
            told = self.tell(line, &mut sender) => told,
        }
    }

    async fn hear(&self, line: usize, reader: &mut Reader) -> anyhow::Result<()> {
        loop {
            match reader.next().await? {
                ToRelay::Lease { term } => self.set_term(line, term),
                ToRelay::Ack { through } => self.acknowledge(through),
                ToRelay::Refused { why } => bail!(why),
                ToRelay::Announce(announcement) => self.begin(announcement),
                ToRelay::Welcome { .. }
                | ToRelay::TicketKeys { .. }
                | ToRelay::Signatures { .. }
                | ToRelay::Agent(_)
                | ToRelay::Synced
                | ToRelay::Command { .. }
                | ToRelay::Drain { .. }
                | ToRelay::Beat(_)
                | ToRelay::Certificate { .. }
                | ToRelay::SpoolAck { .. }
                | ToRelay::Unknown => {}
            }
        }
    }

    /// A call is on its way here: its stream begins at once, as a quick carrier's does.
    fn begin(&self, announcement: Announcement) {
        let Announcement { call: id, generation, tenant, .. } = announcement;
        let stream_sid = format!("MZ{id}");
        let call = CallRef { id, tenant, generation };
        self.state().push(call, wall_us(), CallEvent::StreamStarted { stream_sid });
        self.news.send_replace(());
    }

    async fn tell(&self, line: usize, sender: &mut SendStream) -> anyhow::Result<()> {
        let mut news = self.news.subscribe();
        let mut load = tokio::time::interval(LOAD_EVERY);
        loop {
            tokio::select! {
                changed = news.changed() => changed?,
                _ = load.tick() => {
                    let load = Load { calls_max: 1_000, ready: true, ..Load::default() };
                    say(sender, &ToControl::Load(load)).await?;
                }
            }
            loop {
                let events = self.batch(line);
                if events.is_empty() {
                    break;
                }
                say(sender, &ToControl::Events { events }).await?;
            }
        }
    }

    fn config(&self) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.token.ca_der()?))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(IDLE_MAX.try_into()?))
            .keep_alive_interval(Some(KEEP_ALIVE));
        config.transport_config(Arc::new(transport));
        Ok(config)
    }
}

struct Reader {
    receiver: RecvStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Reader {
    async fn next(&mut self) -> anyhow::Result<ToRelay> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(ToRelay::read(&frame)?);
            }
            let read = self.receiver.read(&mut self.bytes).await?.context("control has closed")?;
            self.decoder.push(&self.bytes[..read]);
        }
    }
}

async fn say(sender: &mut SendStream, message: &ToControl) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    message.write(&mut bytes)?;
    sender.write_all(&bytes).await?;
    Ok(())
}

/// What is said in every turn: of ordinary length.
const WORDS: &str = "Could you tell me when you are open this weekend, and whether I may bring it?";

/// As the real relay.
const IDLE_MAX: Duration = Duration::from_millis(1_500);
const KEEP_ALIVE: Duration = Duration::from_millis(300);
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const LOAD_EVERY: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(200);

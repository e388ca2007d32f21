//! The fake model's front door: lets clients in or not, and knows every session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::mpsc;

use super::record::{Ledger, SessionRecord};
use super::refusal::Refusal;
use super::repertoire::Repertoire;
use super::trouble::Leave;
use super::visit::Visit;
use super::{Complaint, Fault, ModelSettings, Summary};
use crate::capture::Capture;
use crate::clock::wall_us;
use crate::serve::{self, Answer, Asked, Server};

/// A running fake model. It stops when it is dropped.
pub struct FakeModel {
    server: Server,
    shared: Arc<Shared>,
}

/// What all clients share.
pub(crate) struct Shared {
    pub(super) repertoire: Arc<Repertoire>,
    pub(super) fault: Fault,
    pub(super) session_limit: Option<Duration>,
    set_up: Duration,
    pub(super) round_trip: Duration,
    pub(super) capture: Capture,
    summary: Mutex<Summary>,
    sessions: Mutex<Sessions>,
    /// Until when nobody is let in, in microseconds since 1970.
    away_until_us: Mutex<u64>,
}

/// Every session, and how an open one is told to end.
#[derive(Default)]
struct Sessions {
    ledgers: Vec<Ledger>,
    /// By the id, with the address of the client's end.
    open: BTreeMap<String, (String, mpsc::Sender<Leave>)>,
}

impl FakeModel {
    /// Starts one.
    ///
    /// # Errors
    /// When a sound of the script cannot be loaded, the capture file cannot be made or the
    /// address cannot be listened on.
    pub async fn start(settings: ModelSettings) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            repertoire: Arc::new(Repertoire::load(settings.script)?),
            fault: settings.fault,
            session_limit: settings.session_limit,
            set_up: settings.set_up,
            round_trip: settings.round_trip,
            capture: Capture::create(settings.capture.as_deref())?,
            summary: Mutex::default(),
            sessions: Mutex::default(),
            away_until_us: Mutex::default(),
        });
        let server = Server::start(settings.listen, Arc::clone(&shared)).await?;
        Ok(Self { server, shared })
    }

    /// Where clients connect: the base URL, without the model.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/v1/realtime", self.server.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address
    }

    /// What was seen so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        lock(&self.shared.summary).clone()
    }

    /// What every session was told and said, in the order in which they were opened.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionRecord> {
        self.shared.sessions()
    }

    /// Ends an open session by its id; gives whether there was one.
    pub fn end(&self, session: &str, how: Leave) -> bool {
        let sessions = lock(&self.shared.sessions);
        sessions.open.get(session).is_some_and(|(_, order)| order.try_send(how).is_ok())
    }

    /// Ends the open session of the client with this address; gives whether there was one.
    pub fn end_of(&self, client: std::net::SocketAddr, how: Leave) -> bool {
        let client = client.to_string();
        let sessions = lock(&self.shared.sessions);
        let mut open = sessions.open.values();
        let order = open.find(|(peer, _)| *peer == client).map(|(_, order)| order);
        order.is_some_and(|order| order.try_send(how).is_ok())
    }

    /// Lets nobody in for a while: upgrades are answered with 503.
    pub fn go_away(&self, how_long: Duration) {
        self.shared.go_away(how_long);
    }
}

/// Nobody panics while holding one of these; whoever does has changed plain values only.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl serve::Service for Shared {
    async fn answer(self: Arc<Self>, asked: Asked) -> Answer {
        match asked.path() {
            "/v1/realtime" => {
                if !self.set_up.is_zero() {
                    tokio::time::sleep(self.set_up).await;
                }
                self.admit(asked)
            }
            "/_fake/summary" => serve::json(StatusCode::OK, &*lock(&self.summary)),
            "/_fake/sessions" => serve::json(StatusCode::OK, &self.sessions()),
            _ => serve::text(StatusCode::NOT_FOUND, "only /v1/realtime is served"),
        }
    }
}

impl Shared {
    /// Lets a client in: a key, a model, nothing of the Beta. What the URL and the headers
    /// may be is in the reference of the interface, "Connecting".
    fn admit(self: Arc<Self>, asked: Asked) -> Answer {
        if *lock(&self.away_until_us) > wall_us() {
            return serve::text(StatusCode::SERVICE_UNAVAILABLE, "nobody is here");
        }
        let key = asked.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
        if key.is_none_or(str::is_empty) || self.fault == Fault::RefuseUpgrade {
            self.complain_of_upgrade(key, "invalid_api_key", "Incorrect API key provided.");
            let refusal = Refusal::new("invalid_api_key", "Incorrect API key provided.");
            return serve::json(StatusCode::UNAUTHORIZED, &refusal.event(None));
        }
        let Some(model) = asked.query("model").filter(|model| !model.is_empty()) else {
            self.complain_of_upgrade(None, "missing_model", "The URL names no model.");
            return serve::text(StatusCode::BAD_REQUEST, "exactly one of model, call_id, intent");
        };
        let beta = asked.header("openai-beta").is_some();
        let offered = asked.header("sec-websocket-extensions").is_some();
        if offered {
            self.complain_of_upgrade(None, "compression", "An extension was offered.");
        }
        let peer = asked.peer.to_string();
        let Some((answer, socket)) = asked.upgrade() else {
            return serve::text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket");
        };
        tokio::spawn(async move {
            if let Some(socket) = socket.await {
                Visit::new(self).serve(socket, (&model, &peer), beta).await;
            }
        });
        answer
    }

    /// Notes a fault of the client's upgrade; a refusal that was wanted is none.
    pub(super) fn complain_of_upgrade(&self, key: Option<&str>, code: &str, message: &str) {
        if self.fault == Fault::RefuseUpgrade && key.is_some() {
            return;
        }
        self.note(vec![Complaint {
            event: "(upgrade)".into(),
            code: code.into(),
            message: message.into(),
        }]);
    }

    /// Keeps complaints, as many as there is room for.
    pub(super) fn note(&self, complaints: Vec<Complaint>) {
        let mut summary = lock(&self.summary);
        let room = COMPLAINTS_MAX.saturating_sub(summary.complaints.len());
        summary.complaints.extend(complaints.into_iter().take(room));
    }

    /// Changes the summary.
    pub(super) fn count(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut lock(&self.summary));
    }

    /// Makes a session known; gives where it is told to end.
    pub(super) fn open(&self, ledger: &Ledger) -> mpsc::Receiver<Leave> {
        // One order is enough: a session ends once.
        let (order, orders) = mpsc::channel(1);
        let (id, peer) = ledger.read(|record| (record.id.clone(), record.peer.clone()));
        let mut sessions = lock(&self.sessions);
        sessions.ledgers.push(ledger.clone());
        sessions.open.insert(id, (peer, order));
        orders
    }

    /// A session is over.
    pub(super) fn close(&self, session: &str) {
        lock(&self.sessions).open.remove(session);
    }

    /// Lets nobody in for a while.
    pub(super) fn go_away(&self, how_long: Duration) {
        let until = wall_us() + u64::try_from(how_long.as_micros()).unwrap_or_default();
        *lock(&self.away_until_us) = until;
    }

    /// What every session was told and said.
    fn sessions(&self) -> Vec<SessionRecord> {
        let ledgers: Vec<Ledger> = lock(&self.sessions).ledgers.clone();
        ledgers.iter().map(|ledger| ledger.read(SessionRecord::clone)).collect()
    }
}

/// More complaints than this teach nothing.
const COMPLAINTS_MAX: usize = 1_000;

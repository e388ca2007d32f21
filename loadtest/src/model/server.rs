//! The fake model's socket: lets clients in or not, and drives one conversation for each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::conversation::Conversation;
use super::refusal::Refusal;
use super::reply::Pace;
use super::script::Repertoire;
use super::{Complaint, Fault, ModelSettings, Summary};
use crate::capture::Capture;
use crate::clock::{Stopwatch, wall_us};
use crate::serve::{self, Answer, Asked, Server, ServerSocket};

/// A running fake model. It stops when it is dropped.
pub struct FakeModel {
    server: Server,
    shared: Arc<Shared>,
}

/// What all clients share.
struct Shared {
    repertoire: Arc<Repertoire>,
    fault: Fault,
    capture: Capture,
    summary: Mutex<Summary>,
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
            capture: Capture::create(settings.capture.as_deref())?,
            summary: Mutex::default(),
        });
        let server = Server::start(settings.listen, Arc::clone(&shared)).await?;
        Ok(Self { server, shared })
    }

    /// Where clients connect: the base URL, without the model.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/v1/realtime", self.server.address)
    }

    /// What was seen so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.shared.summary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl serve::Service for Shared {
    async fn answer(self: Arc<Self>, asked: Asked) -> Answer {
        match asked.path() {
            "/v1/realtime" => self.admit(asked),
            "/_fake/summary" => {
                let summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
                serve::json(StatusCode::OK, &summary)
            }
            _ => serve::text(StatusCode::NOT_FOUND, "only /v1/realtime is served"),
        }
    }
}

impl Shared {
    /// Lets a client in: a key, a model, nothing of the Beta. What the URL and the headers
    /// may be is in the reference of the interface, "Connecting".
    fn admit(self: Arc<Self>, asked: Asked) -> Answer {
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
        let Some((answer, socket)) = asked.upgrade() else {
            return serve::text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket");
        };
        tokio::spawn(async move {
            if let Some(socket) = socket.await {
                Visit::new(self).serve(socket, &model, beta).await;
            }
        });
        answer
    }

    /// Notes a fault of the client's upgrade; a refusal that was wanted is none.
    fn complain_of_upgrade(&self, key: Option<&str>, code: &str, message: &str) {
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
    fn note(&self, complaints: Vec<Complaint>) {
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        let room = COMPLAINTS_MAX.saturating_sub(summary.complaints.len());
        summary.complaints.extend(complaints.into_iter().take(room));
    }

    /// Changes the summary.
    fn count(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut self.summary.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// One client's visit.
struct Visit {
    shared: Arc<Shared>,
    began: Stopwatch,
    appended_ms: u64,
}

/// How a visit goes on after a step.
enum Next {
    Stay,
    Leave,
}

impl Visit {
    fn new(shared: Arc<Shared>) -> Self {
        shared.count(|summary| {
            summary.sessions += 1;
            summary.open += 1;
        });
        Self { shared, began: Stopwatch::start(), appended_ms: 0 }
    }

    /// Serves one client to its end.
    async fn serve(&mut self, mut socket: ServerSocket, model: &str, beta: bool) {
        let terminal = match (self.shared.fault, beta) {
            (_, true) => Some(("beta_api_shape_disabled", "The Realtime Beta API is gone.")),
            (Fault::Quota, false) => Some(("insufficient_quota", "You exceeded your quota.")),
            _ => None,
        };
        if let Some((code, message)) = terminal {
            if beta {
                self.shared.complain_of_upgrade(None, code, message);
            }
            let event = Refusal::new(code, message).event(None);
            self.send(&mut socket, event).await;
            close(&mut socket, CloseCode::Policy).await;
            return;
        }
        self.converse(&mut socket, model).await;
    }

    /// The loop of one client: what is due is sent, then whichever comes first, a message
    /// or a moment.
    async fn converse(&mut self, socket: &mut ServerSocket, model: &str) {
        let mut out = Vec::new();
        let name = uuid::Uuid::new_v4().simple().to_string();
        let repertoire = Arc::clone(&self.shared.repertoire);
        let expires_at = wall_us() / 1_000_000 + 3_600;
        let dressed = (Pace::default(), self.shared.fault);
        let mut conversation =
            Conversation::open(repertoire, dressed, (&name[..12], model), expires_at, &mut out);
        let mut leave_at = None;
        loop {
            if out.iter().any(|event| event["type"] == "session.updated") {
                leave_at = leave_at.or_else(|| self.leave_at());
            }
            for event in out.drain(..) {
                if !self.send(socket, event).await {
                    return;
                }
            }
            let now = Duration::from_micros(self.began.micros());
            let due = [conversation.next_timeout(), leave_at].into_iter().flatten().min();
            let due_us = due.map_or(u64::MAX / 4, |at| at.as_micros().try_into().unwrap_or(0));
            tokio::select! {
                message = socket.next() => {
                    let Some(Ok(message)) = message else { return };
                    if let Next::Leave = self.take(message, &mut conversation, &mut out) {
                        return;
                    }
                }
                () = tokio::time::sleep_until(self.began.at_micros(due_us)), if due.is_some() => {
                    conversation.tick(now.max(due.unwrap_or_default()), &mut out);
                }
            }
            if leave_at.is_some_and(|at| at <= Duration::from_micros(self.began.micros())) {
                if self.shared.fault == Fault::CloseMidCall {
                    close(socket, CloseCode::Error).await;
                }
                return;
            }
        }
    }

    /// When a faulty service leaves; `None` for one that stays.
    fn leave_at(&self) -> Option<Duration> {
        let faults = [Fault::CloseMidCall, Fault::Vanish];
        let leaves = faults.contains(&self.shared.fault);
        leaves.then(|| Duration::from_micros(self.began.micros()) + STAY)
    }

    /// Takes one message of the client.
    fn take(
        &mut self,
        message: Message,
        conversation: &mut Conversation,
        out: &mut Vec<Value>,
    ) -> Next {
        let now = Duration::from_micros(self.began.micros());
        match message {
            Message::Text(text) => {
                if let Ok(event) = serde_json::from_str::<Value>(text.as_str()) {
                    self.capture("client", &event);
                }
                if self.shared.fault == Fault::Mute {
                    return Next::Stay;
                }
                conversation.receive(text.as_str(), now, out);
                self.shared.note(conversation.take_complaints());
                let appended_ms = conversation.appended_ms();
                let more = appended_ms.saturating_sub(self.appended_ms);
                self.appended_ms = appended_ms;
                self.shared.count(|summary| summary.appended_ms += more);
                Next::Stay
            }
            Message::Binary(_) => {
                let message = "Binary frames are not accepted.";
                let refusal = Refusal::new("invalid_event", message);
                out.push(refusal.event(None));
                self.shared.note(vec![Complaint {
                    event: "(binary)".into(),
                    code: "invalid_event".into(),
                    message: message.into(),
                }]);
                Next::Stay
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Next::Stay,
            Message::Close(_) => Next::Leave,
        }
    }

    /// Sends an event; gives whether the client is still there.
    async fn send(&self, socket: &mut ServerSocket, event: Value) -> bool {
        self.capture("server", &event);
        socket.send(Message::text(event.to_string())).await.is_ok()
    }

    /// Writes an event down, as the conformance check reads it.
    fn capture(&self, from: &str, event: &Value) {
        self.shared.capture.line(&json!({"provider": "openai", "from": from, "event": event}));
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared.count(|summary| summary.open -= 1);
    }
}

/// Closes politely and waits for the answer, a second at most.
async fn close(socket: &mut ServerSocket, code: CloseCode) {
    let frame = CloseFrame { code, reason: "".into() };
    let _ = socket.close(Some(frame)).await;
    // The client answers a close; a second is long enough, whoever does not is cut off.
    let drain = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}

/// How long a faulty service stays.
const STAY: Duration = Duration::from_secs(2);

/// More complaints than this teach nothing.
const COMPLAINTS_MAX: usize = 1_000;

//! One client's visit: the socket, the clock, and everything that ends it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::conversation::{Conversation, Visitor};
use super::record::SessionEnd;
use super::refusal::Refusal;
use super::reply::Pace;
use super::server::Shared;
use super::trouble::Leave;
use super::{Complaint, Fault};
use crate::clock::{Stopwatch, wall_us};
use crate::serve::ServerSocket;

/// One client's visit.
pub(super) struct Visit {
    shared: Arc<Shared>,
    began: Stopwatch,
    appended_ms: u64,
}

/// How a visit goes on after a step.
enum Next {
    Stay,
    Over(SessionEnd),
}

impl Visit {
    /// A client was let in.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.count(|summary| {
            summary.sessions += 1;
            summary.open += 1;
        });
        Self { shared, began: Stopwatch::start(), appended_ms: 0 }
    }

    /// Serves one client to its end.
    pub(super) async fn serve(
        &mut self,
        mut socket: ServerSocket,
        (model, peer): (&str, &str),
        beta: bool,
    ) {
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
            close(&mut socket, CloseCode::Policy, "").await;
            return;
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        let seconds_max = self.shared.session_limit.map_or(3_600, |limit| limit.as_secs());
        let visitor = Visitor { name: &name[..12], model, peer, at_us: wall_us(), seconds_max };
        let mut out = Vec::new();
        let dressed = (Pace::default(), self.shared.fault);
        let repertoire = Arc::clone(&self.shared.repertoire);
        let mut conversation = Conversation::open(repertoire, dressed, visitor, &mut out);
        let ledger = conversation.ledger().clone();
        let mut orders = self.shared.open(&ledger);
        let end = self.converse(&mut socket, &mut conversation, out, &mut orders).await;
        let id = ledger.write(|record| {
            record.end = Some(end);
            record.closed_at_us = Some(wall_us());
            record.id.clone()
        });
        self.shared.close(&id);
    }

    /// The loop of one client: what is due is sent, then whichever comes first, a message, a
    /// moment or an order to leave.
    async fn converse(
        &mut self,
        socket: &mut ServerSocket,
        conversation: &mut Conversation,
        mut out: Vec<Value>,
        orders: &mut mpsc::Receiver<Leave>,
    ) -> SessionEnd {
        let mut leave_at = self.shared.session_limit.map(|limit| (limit, Leave::Expire));
        // What is said and still on its way: each at its time, in order.
        let mut coming: VecDeque<(Duration, Value)> = VecDeque::new();
        loop {
            if out.iter().any(|event| event["type"] == "session.updated") {
                leave_at = leave_at.or_else(|| self.leave_at());
            }
            let arrives = self.now() + self.shared.round_trip;
            coming.extend(out.drain(..).map(|event| (arrives, event)));
            while coming.front().is_some_and(|(at, _)| *at <= self.now()) {
                let Some((_, event)) = coming.pop_front() else { break };
                if !self.send(socket, event).await {
                    return SessionEnd::Lost;
                }
            }
            if let Some((how, away)) = conversation.take_leave() {
                self.shared.go_away(away);
                return self.leave(socket, how).await;
            }
            let now = self.now();
            let due = conversation.next_timeout().into_iter().chain(leave_at.map(|(at, _)| at));
            let due = due.chain(coming.front().map(|(at, _)| *at)).min();
            let due_us = due.map_or(u64::MAX / 4, |at| at.as_micros().try_into().unwrap_or(0));
            tokio::select! {
                message = socket.next() => {
                    let Some(Ok(message)) = message else { return SessionEnd::Lost };
                    if let Next::Over(end) = self.take(message, conversation, &mut out) {
                        // The answer to a close is on its way already; this waits for it.
                        let _ = socket.flush().await;
                        return end;
                    }
                }
                () = tokio::time::sleep_until(self.began.at_micros(due_us)), if due.is_some() => {
                    conversation.tick(now.max(due.unwrap_or_default()), &mut out);
                }
                Some(how) = orders.recv() => return self.leave(socket, how).await,
            }
            if let Some((at, how)) = leave_at
                && at <= self.now()
            {
                return self.leave(socket, how).await;
            }
        }
    }

    /// Time since the visit began.
    fn now(&self) -> Duration {
        Duration::from_micros(self.began.micros())
    }

    /// When a faulty service leaves; `None` for one that stays.
    fn leave_at(&self) -> Option<(Duration, Leave)> {
        let how = match self.shared.fault {
            Fault::CloseMidCall => Leave::Close(CloseCode::Error.into()),
            Fault::Vanish => Leave::Vanish,
            Fault::None
            | Fault::RefuseUpgrade
            | Fault::Quota
            | Fault::FailResponses
            | Fault::Silence
            | Fault::Mute => return None,
        };
        Some((self.now() + STAY, how))
    }

    /// Leaves in one of the ways in which a service does.
    async fn leave(&self, socket: &mut ServerSocket, how: Leave) -> SessionEnd {
        match how {
            Leave::Reset => {
                // Nothing is said and nothing more arrives: the kernel sends a reset.
                let _ = socket.get_ref().set_zero_linger();
            }
            Leave::Vanish => {}
            Leave::Close(code) => close(socket, code.into(), "").await,
            Leave::Expire => {
                self.shared.count(|summary| summary.expired += 1);
                let expired = "Your session hit the maximum duration of 60 minutes.";
                let event = Refusal::new("session_expired", expired).event(None);
                self.send(socket, event).await;
                close(socket, CloseCode::Away, expired).await;
            }
        }
        SessionEnd::Left
    }

    /// Takes one message of the client.
    fn take(
        &mut self,
        message: Message,
        conversation: &mut Conversation,
        out: &mut Vec<Value>,
    ) -> Next {
        let now = self.now();
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
            // The socket's own machinery answers pings.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Next::Stay,
            Message::Close(frame) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                Next::Over(SessionEnd::Closed(code))
            }
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
async fn close(socket: &mut ServerSocket, code: CloseCode, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = socket.close(Some(frame)).await;
    // The client answers a close; a second is long enough, whoever does not is cut off.
    let drain = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}

/// How long a faulty service stays.
const STAY: Duration = Duration::from_secs(2);

//! From the 101 to the end of the call: `start` within bounds, the ticket, the call.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use link::event::CallEvent;
use link::id::{CallId, Gen};
use tokio::time::timeout;

use super::door::Visitor;
use super::{Post, Shard, ToShard};
use crate::admit::{self, Admitted, Asking, Early, Refusal, START_BYTES_MAX, START_WITHIN};
use crate::call::input::Command;
use crate::clock;
use crate::gate::Seat;
use crate::mailbox::{Letter, Mailbox};
use crate::metrics::labels::{Lost, Refused};
use crate::telemetry::{CallLog, CallRef};
use crate::wire::browser;
use crate::wire::opening::{self, Opening};
use crate::ws::{CloseCode, Message, Socket, SocketError};

/// A call's entry in the shard and in the node's register; taken out when it is dropped, also by a
/// panic.
struct Entry {
    shard: Rc<Shard>,
    call: CallRef,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Self { shard, call } = self;
        shard.setup.gate.register().leave(&call.id, call.generation);
        let mailbox = {
            let mut mailboxes = shard.mailboxes.borrow_mut();
            let mailbox = mailboxes.remove(&(call.id.clone(), call.generation));
            let capacity = mailboxes.capacity();
            if admit::is_spacious(mailboxes.len(), capacity) {
                mailboxes.shrink_to(capacity / 2);
            }
            mailbox
        };
        // Whoever wanted something of the call hears that it is too late.
        for letter in mailbox.iter().flat_map(|mailbox| mailbox.empty()) {
            shard.outlet().return_letter(call, &letter, "the call is over");
        }
    }
}

impl Shard {
    /// One stream, from its 101 to its end.
    pub(super) async fn stream(self: &Rc<Self>, mut socket: Socket, visitor: Visitor) {
        let opened = timeout(START_WITHIN, self.opening(&mut socket, &visitor)).await;
        let late = |_| Err(Refusal::unproved(Refused::Slow, "no valid `start` in five seconds"));
        let admitted = opened
            .unwrap_or_else(late)
            .and_then(|(asking, early)| self.admit(&asking, early, visitor));
        match admitted {
            Ok((admitted, seat)) => {
                let shard = self.clone();
                self.carry(admitted, async move |admitted, mailbox, log| {
                    // At most 40 ms; what the caller says meanwhile waits in the socket.
                    let call = shard.call_for(&admitted).await;
                    call.run(socket, admitted, mailbox, log).await;
                })
                .await;
                drop(seat);
            }
            Err(refusal) => self.refuse(socket, refusal).await,
        }
    }

    /// Carries an admitted call. Whatever happens inside `drive`, the call's entry and mailbox are
    /// gone afterwards, and its end has been told.
    pub(super) async fn carry(
        self: &Rc<Self>,
        admitted: Admitted,
        drive: impl AsyncFnOnce(Admitted, Rc<Mailbox>, CallLog),
    ) {
        let (call, mailbox) = (admitted.call_ref(), Rc::new(Mailbox::default()));
        let key = (call.id.clone(), call.generation);
        self.mailboxes.borrow_mut().insert(key, mailbox.clone());
        let _entry = Entry { shard: self.clone(), call };
        let log = CallLog::new(self.setup.outlet.clone(), &admitted);
        drive(admitted, mailbox, log).await;
    }

    /// Reads up to `start`; gives it together with what came behind it in the same read.
    async fn opening(
        &self,
        socket: &mut Socket,
        visitor: &Visitor,
    ) -> Result<(Asking, Vec<Early>), Refusal> {
        let mut bytes_left = START_BYTES_MAX;
        poll_fn(|cx| self.poll_opening(cx, socket, visitor, &mut bytes_left)).await
    }

    fn poll_opening(
        &self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        visitor: &Visitor,
        bytes_left: &mut usize,
    ) -> Poll<Result<(Asking, Vec<Early>), Refusal>> {
        let mut buffers = self.buffers.borrow_mut();
        let buffers = &mut *buffers;
        loop {
            let read = ready!(socket.poll_read(cx, &mut buffers.read));
            let mut messages = read.map_err(|error| lost(&error))?;
            while let Some(message) = messages.next() {
                let Message::Text(text) = message else {
                    let words = "something else than text before `start`";
                    return Poll::Ready(Err(Refusal::unproved(Refused::Protocol, words)));
                };
                let Some(left) = bytes_left.checked_sub(text.len()) else {
                    let words = "more than 4 KiB up to `start`";
                    return Poll::Ready(Err(Refusal::unproved(Refused::TooMuch, words)));
                };
                *bytes_left = left;
                if let Some(asking) = ask(visitor, text).transpose() {
                    let early = messages.filter_map(Early::keep).collect();
                    return Poll::Ready(asking.map(|asking| (asking, early)));
                }
            }
        }
    }

    /// Judges `start`, makes the ticket one-time, and silences an older stream of the call.
    fn admit(
        &self,
        asking: &Asking,
        early: Vec<Early>,
        visitor: Visitor,
    ) -> Result<(Admitted, Seat), Refusal> {
        let setup = &self.setup;
        let now = clock::wall();
        let (claims, agent) = admit::judge(asking, &setup.known, &setup.identity, now)?;
        let seat = match visitor {
            Visitor::Carrier(seat) => seat,
            // Before its token is used up: it may come again.
            Visitor::Page { .. } => setup.gate.sit().map_err(|_| {
                Refusal::of(&claims, Refused::NoSeat, "this node takes no more calls now")
            })?,
        };
        let older = setup.gate.register().enter(&claims, setup.index, now)?;
        if let Some(older) = older {
            yield_to(&setup.post, older.shard, claims.call.clone(), older.generation);
        }
        let stream_sid = match asking {
            Asking::Carrier(start) => start.stream_sid.clone(),
            Asking::Page { .. } => claims.jti.clone(),
        };
        let dialect = asking.dialect();
        Ok((Admitted { claims, dialect, stream_sid, agent, early }, seat))
    }

    /// Closes with 1008, and says why where it helps and not where it would be a flood.
    async fn refuse(&self, mut socket: Socket, refusal: Refusal) {
        let outlet = &self.setup.outlet;
        outlet.counters().refusals.of(refusal.why).one();
        let may_tell = self.refusals_told.borrow_mut().take(self.clock.now());
        if may_tell {
            tracing::info!(why = %refusal.words, "stream refused");
            outlet.tell(refusal.call, CallEvent::StreamRefused { why: refusal.words }, None);
        } else {
            outlet.counters().events_lost.of(Lost::RefusalRate).one();
        }
        let is_for_now = refusal.why == Refused::NoSeat;
        let code = if is_for_now { CloseCode::TRY_AGAIN } else { CloseCode::POLICY };
        socket.close(code, reason(refusal.why));
        let finish = poll_fn(|cx| {
            let mut buffers = self.buffers.borrow_mut();
            let buffers = &mut *buffers;
            socket.poll_finish(cx, &mut buffers.to_caller, &mut buffers.read)
        });
        // A peer that does not close is dropped all the same.
        let _ = timeout(CLOSE_WITHIN, finish).await;
    }
}

/// How long a refused peer may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

fn lost(error: &SocketError) -> Refusal {
    let why = match error {
        SocketError::Violation(_) => Refused::Protocol,
        SocketError::Closed(_)
        | SocketError::Ended
        | SocketError::BacklogFull
        | SocketError::Io(_) => Refused::Lost,
    };
    Refusal::unproved(why, format!("the socket ended before `start`: {error}"))
}

/// What one of the first messages asks for; `None` when it asks for nothing yet.
fn ask(visitor: &Visitor, text: &str) -> Result<Option<Asking>, Refusal> {
    let unreadable = |words: &str| Err(Refusal::unproved(Refused::Protocol, words));
    match visitor {
        Visitor::Carrier(_) => match opening::read(text) {
            // Unknown messages are no reason to refuse; they use up the same allowance.
            Opening::Connected | Opening::Other => Ok(None),
            Opening::BadStart => unreadable("a `start` that cannot be read"),
            Opening::Start(start) => Ok(Some(Asking::Carrier(start))),
        },
        Visitor::Page { origin } => match browser::read_start(text) {
            browser::Start::Token(token) => {
                Ok(Some(Asking::Page { token, origin: origin.clone() }))
            }
            browser::Start::Bad => unreadable("a first message that is no `start` with a token"),
        },
    }
}

/// Tells an older stream of a call, on whatever shard, to fall silent. Its shard finds that the
/// letter is for the generation it carries.
fn yield_to(post: &Post, shard: usize, call: CallId, generation: Gen) {
    let letter = Letter::Command(None, Command::Yield);
    if post.send(shard, ToShard::Letter { call, generation, letter }).is_err() {
        tracing::warn!(shard, "a shard takes no messages");
    }
}

/// The close frame's reason: for whoever debugs the other side, without a hint for an attacker.
fn reason(why: Refused) -> &'static str {
    match why {
        Refused::Slow => "start did not come in time",
        Refused::TooMuch => "too much before start",
        Refused::Protocol | Refused::Lost => "not the beginning of a stream",
        Refused::NoTicket => "no ticket",
        Refused::BadTicket
        | Refused::Replayed
        | Refused::Old
        | Refused::Mismatch
        | Refused::UnknownAgent => "the ticket is not taken",
        Refused::Format => "audio must be audio/x-mulaw, 8000 Hz, 1 channel",
        Refused::StaleGeneration => "the call has moved on",
        Refused::NoSeat => "this node takes no more calls now",
    }
}

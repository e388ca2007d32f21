//! HTTP on a shard: requests that become streams, and those that are control's.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{Setup, Shard};
use crate::forward::{Body, Origin};
use crate::front::Elsewhere;
use crate::gate::Seat;
use crate::metrics::{OpenSocket, labels};
use crate::stream::{Leg, Stream};
use crate::upgrade::{Asks, TurnedAway};
use crate::ws::{Limits, Role, Socket};
use crate::{answer, upgrade};

/// Who has been let through the door, and has still to say what it wants.
#[derive(Debug)]
pub(super) enum Visitor {
    /// A carrier: its request was signed, so it has a seat.
    Carrier(Seat),
    /// A page: anybody can ask like one, so it gets a seat for its token.
    Page {
        /// The origin that its browser stated.
        origin: Option<String>,
    },
}

impl Visitor {
    fn limits(&self) -> Limits {
        match self {
            Self::Carrier(_) => Limits::CALLER,
            Self::Page { .. } => Limits::PAGE,
        }
    }
}

/// An upgrade that goes on once the 101 is written.
type Upgraded = RefCell<Option<(OnUpgrade, Visitor)>>;

impl Shard {
    /// Serves requests until the connection ends, or has become a WebSocket.
    pub(super) async fn http(
        self: Rc<Self>,
        stream: Stream,
        origin: Origin,
    ) -> Option<(Socket, Visitor)> {
        let upgraded = Rc::new(RefCell::new(None));
        let (shard, slot) = (self.clone(), upgraded.clone());
        let service = service_fn(move |request| {
            let (shard, slot) = (shard.clone(), slot.clone());
            async move { Ok::<_, hyper::Error>(shard.answer(request, origin, &slot).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_header_size(HEADERS_BYTES_MAX)
            .max_buf_size(HEADERS_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
        let (on_upgrade, visitor): (OnUpgrade, Visitor) = upgraded.take()?;
        let parts = on_upgrade.await.ok()?.downcast::<TokioIo<Stream>>().ok()?;
        let (stream, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
        let socket = Socket::new(stream, Role::Server, visitor.limits(), early);
        Some((socket.counted(OpenSocket::new(self.counters().clone(), Leg::Caller)), visitor))
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        origin: Origin,
        slot: &Upgraded,
    ) -> Response<Body> {
        if let Some(asks) = upgrade::asks(request.uri().path()) {
            let Setup { identity, front, .. } = &self.setup;
            let (path, headers) = (request.uri().path(), request.headers());
            return match front.elsewhere(asks, path, headers, &identity.node) {
                Some(Elsewhere::Replay(to)) => {
                    answer::replayed(self.turn_away(TurnedAway::elsewhere()), to)
                }
                Some(Elsewhere::Away(away)) => self.turn_away(away),
                None => {
                    let answer = self.upgrade(asks, &mut request, slot);
                    answer.unwrap_or_else(|away| self.turn_away(away))
                }
            };
        }
        match &self.setup.forward {
            Some(forward) => forward.forward(request, origin).await,
            None => answer::nothing_here(),
        }
    }

    fn turn_away(&self, away: TurnedAway) -> Response<Body> {
        self.setup.outlet.counters().upgrades.of(away.why).one();
        answer::sentence(away.status, away.sentence)
    }

    fn upgrade(
        &self,
        asks: Asks,
        request: &mut Request<Incoming>,
        slot: &Upgraded,
    ) -> Result<Response<Body>, TurnedAway> {
        let Setup { identity, known, gate, .. } = &self.setup;
        let (path, headers) = (request.uri().path(), request.headers());
        let (acceptable, visitor) = match asks {
            Asks::Carrier => {
                let judged = upgrade::judge(request.method(), path, headers, &identity.node, known);
                (judged?, Visitor::Carrier(gate.sit()?))
            }
            Asks::Page => {
                let node = &identity.node;
                let acceptable = upgrade::judge_page(request.method(), path, headers, node, known)?;
                let origin = upgrade::origin(headers)?;
                // Given back at once: a node that has none says so where it is heard best.
                drop(gate.sit()?);
                (acceptable, Visitor::Page { origin })
            }
        };
        self.setup.outlet.counters().upgrades.of(labels::Upgrade::Accepted).one();
        *slot.borrow_mut() = Some((hyper::upgrade::on(request), visitor));
        Ok(answer::switching(&acceptable.accept_key))
    }
}

/// From the connection, or the last answer, to the end of the next request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// All headers of a request together.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

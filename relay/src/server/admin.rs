//! Probes and metrics, on an address of their own. Nothing here asks who is there.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use link::id::{Epoch, NodeId};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::begin;
use super::watchdog::stuck;
use crate::answer;
use crate::clock::Clock;
use crate::forward::Body;
use crate::gate::room::Strain;
use crate::gate::{Door, Gate};
use crate::metrics::{Counters, Gauges, Metrics};
use crate::node::{LinkState, Phase};
use crate::shard::Gauge;

/// What probes and metrics show.
pub(super) struct Admin {
    pub(super) clock: Clock,
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) gate: Arc<Gate>,
    pub(super) gauges: Arc<[Arc<Gauge>]>,
    pub(super) link: watch::Receiver<LinkState>,
    pub(super) metrics: Arc<Metrics>,
}

/// Connections at a time; a scraper and a prober need two.
const CONNECTIONS_MAX: usize = 64;
/// From the connection, or the last answer, to the end of the next request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// The pause after the system would not give a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves for ever.
pub(super) async fn serve(listener: &TcpListener, admin: &Rc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Waits for a place before it accepts: the kernel holds the rest.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, _)) => {
                let admin = admin.clone();
                begin(async move {
                    admin.connection(tcp).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

impl Admin {
    async fn connection(self: Rc<Self>, tcp: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .serve_connection(TokioIo::new(tcp), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an admin connection ended");
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer::sentence(
                StatusCode::METHOD_NOT_ALLOWED,
                "Only GET is answered here.\n",
            );
        }
        match request.uri().path() {
            "/livez" => self.livez(),
            "/readyz" => self.readyz(),
            "/health" => self.health(),
            "/metrics" => self.metrics(),
            _ => {
                let words = "Here are /livez, /readyz, /health and /metrics.\n";
                answer::sentence(StatusCode::NOT_FOUND, words)
            }
        }
    }

    /// Whether the process should live: all its shards have time.
    fn livez(&self) -> Response<Body> {
        match stuck(&self.gauges, self.clock) {
            None => answer::sentence(StatusCode::OK, "alive\n"),
            Some(_) => answer::sentence(StatusCode::SERVICE_UNAVAILABLE, "A shard is stuck.\n"),
        }
    }

    /// Whether new calls are taken.
    fn readyz(&self) -> Response<Body> {
        let occupancy = self.gate.occupancy();
        let (status, words) = match occupancy.door {
            // Still ready: what a full node must go on doing, such as forwarding what control is
            // asked, a platform would cut off. Control knows, and sends calls elsewhere.
            Door::Open => match occupancy.strain {
                None => (StatusCode::OK, "ready\n"),
                Some(Strain::Memory) => (StatusCode::OK, "ready, but out of memory for calls\n"),
                Some(Strain::Files) => (StatusCode::OK, "ready, but out of files for calls\n"),
                Some(Strain::Lateness) => (StatusCode::OK, "ready, but late with its calls\n"),
            },
            // Ready for the same reason: its calls go on, and so does what it forwards.
            Door::Held => (StatusCode::OK, "ready, but drained by an operator\n"),
            Door::NotYetOpen => {
                (StatusCode::SERVICE_UNAVAILABLE, "Control has not told this node what it needs.\n")
            }
            Door::Draining => (StatusCode::SERVICE_UNAVAILABLE, "This node is draining.\n"),
        };
        answer::sentence(status, words)
    }

    /// The same for people and dashboards, with figures.
    fn health(&self) -> Response<Body> {
        let (occupancy, link) = (self.gate.occupancy(), *self.link.borrow());
        let now = self.clock.now();
        let shard = |gauge: &Arc<Gauge>| {
            let beat_ms = u64::try_from(now.since(gauge.beat()).as_millis()).unwrap_or(u64::MAX);
            let late_ms = gauge.lateness(now).as_secs_f64() * 1_000.0;
            json!({"connections": gauge.connections(), "beat_ms": beat_ms, "late_ms": late_ms})
        };
        let (bounds, used) = self.gate.usage();
        let remembered = self.gate.register().remembered();
        let known = |bound: u64| (bound < u64::MAX).then_some(bound);
        let page = json!({
            "node": self.node,
            "epoch": self.epoch,
            "version": env!("CARGO_PKG_VERSION"),
            "ready": occupancy.door == Door::Open,
            "draining": occupancy.is_draining(),
            "calls": occupancy.calls,
            "calls_max": self.gate.calls_max(),
            "calls_carried": remembered.calls,
            "tickets_remembered": remembered.tickets,
            "strain": occupancy.strain.map(Strain::as_str),
            "memory_bytes": used.memory,
            "memory_bytes_max": known(bounds.memory_max),
            "files_beside_calls": used.files_beside,
            "files_max": known(bounds.files_max),
            "late_ms_max": bounds.lateness_max.as_secs_f64() * 1_000.0,
            "shards": self.gauges.iter().map(shard).collect::<Vec<_>>(),
            "link": link.phase.as_str(),
            "events_waiting": link.events_waiting,
            "spool_bytes": link.spool_bytes,
        });
        answer::text(StatusCode::OK, "application/json", Bytes::from(format!("{page}\n")))
    }

    fn metrics(&self) -> Response<Body> {
        const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        match self.metrics.scrape() {
            Ok(page) => answer::text(StatusCode::OK, KIND, page.into()),
            Err(_) => answer::sentence(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The metrics cannot be written in this format.\n",
            ),
        }
    }
}

/// What is counted and measured, for a scrape.
pub(super) fn metrics(
    threads: Vec<Arc<Counters>>,
    gate: Arc<Gate>,
    link: watch::Receiver<LinkState>,
) -> Arc<Metrics> {
    let calls_max = gate.calls_max();
    Arc::new(Metrics::new(threads, move || {
        let (occupancy, link) = (gate.occupancy(), *link.borrow());
        let (bounds, used) = gate.usage();
        let lobby = gate.lobby();
        Gauges {
            calls: occupancy.calls,
            calls_max,
            ready: occupancy.door == Door::Open,
            strain: occupancy.strain,
            memory_bytes: used.memory,
            memory_bytes_max: bounds.memory_max,
            lateness: used.lateness,
            draining: occupancy.is_draining(),
            link_up: link.phase == Phase::Up,
            controls: link.controls,
            events_waiting: link.events_waiting,
            spool_bytes: link.spool_bytes,
            announced: lobby.announced(),
            spares: lobby.spares(),
        }
    }))
}

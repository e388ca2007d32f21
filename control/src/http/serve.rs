//! Our own accept loop: what warp's server lacks. Heads, bodies and silence have their times,
//! connections their number, and a stop its bound.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::patience::{Answering, Patience};

/// Serves routes on a listener until `stop` is cancelled; then lets requests under way end, within
/// a bound. Streams of events must end on the same token.
#[expect(clippy::disallowed_methods, reason = "this file owns the tasks of connections")]
pub async fn serve(
    listener: TcpListener,
    routes: BoxedFilter<(Response,)>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(connections_max()));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => {
                let Some((stream, peer, place)) = accepted else { continue };
                let connection = connection(stream, peer, routes.clone());
                let watched = graceful.watch(connection);
                connections.spawn(async move {
                    if let Err(error) = watched.await {
                        tracing::debug!(%error, "a connection broke");
                    }
                    drop(place);
                });
            }
            // Ended connections leave the set; a panic costs its own connection.
            Some(_) = connections.join_next() => {}
        }
    }
    // Newcomers are refused at once, so that a balancer goes elsewhere.
    drop(listener);
    if timeout(DRAIN_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are cut: they did not end in time");
    }
    connections.shutdown().await;
}

/// Raises the limit of open files as far as the system allows: each event stream is one.
pub fn raise_files_limit() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // Without it fewer connections are taken, which is seen to below.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// How many connections may be open at once: what the system allows, less what else is open.
fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(CONNECTIONS_MAX, |files| {
        CONNECTIONS_MAX.min(files.saturating_sub(FILES_ELSEWHERE).max(FILES_ELSEWHERE))
    })
}

/// The next connection. When there are too many, waits: the system's queue holds newcomers.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            // Out of descriptors: without a pause this would spin.
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection, as a future that does not start before it is polled.
fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: BoxedFilter<(Response,)>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    let answering = Answering::default();
    let io = TokioIo::new(Patience::new(stream, answering.clone(), HEAD_MAX));
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
        answering.begin();
        // warp's own server would say who asks; ours puts it where a route can read it.
        request.extensions_mut().insert(peer);
        let answer = routes.call(request);
        let answering = answering.clone();
        async move {
            let answer = answer.await;
            answering.end();
            answer as Result<_, Infallible>
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(io, service)
}

/// A peer that has gone without a word, or that takes nothing, is noticed by the system.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNSENT_MAX))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE))
}

/// From the first byte of a request to the end of its head.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// How long a connection may wait for its next request; proxies keep theirs up to a minute, and
/// should be the ones to close.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// How long written bytes may wait for the peer's word that they arrived.
const UNSENT_MAX: Duration = Duration::from_secs(60);

/// How often a silent peer is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Connections at once, most of them event streams: about 20 KiB each. When there are so many,
/// newcomers wait in the system's queue.
const CONNECTIONS_MAX: usize = 8_192;

/// Files that are open besides: the database's connections, links, logs.
const FILES_ELSEWHERE: usize = 100;

const HEADERS_MAX: usize = 100;

/// Heads are smaller than this; bodies pass through it.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// How long a stop waits for requests under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

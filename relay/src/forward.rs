//! Forwards what is not a stream to control, so that one public port, one tunnel and one
//! certificate serve both processes.
//!
//! A reverse proxy of one fixed backend and nothing more: no retries, no redirects, no cache. One
//! connection a request: control is near, its requests are few (webhooks, API calls, event
//! streams), and a fresh connection is never one that the other side is just closing. Bodies
//! stream both ways, unbuffered, which server-sent events need. No task is started: whoever polls
//! the answer's body drives the connection.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{Full, LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The way to control. One for the process or one for each shard; the bounds are its own.
#[derive(Debug, Clone)]
pub struct Forward {
    authority: Authority,
    waiting: Arc<Semaphore>,
    streaming: Arc<Semaphore>,
}

/// Who asks, as the accepted connection shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address.
    pub address: IpAddr,
    /// How it came.
    pub scheme: Scheme,
}

/// How a request came to the public port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over the relay's own TLS.
    Https,
}

/// A setting that names no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be http://host[:port] without path, query or user")]
pub struct BadBackend;

impl Forward {
    /// A way to `http://host[:port]`.
    ///
    /// # Errors
    /// When it is another kind of URL.
    pub fn new(backend: &str) -> Result<Self, BadBackend> {
        let uri: Uri = backend.parse().map_err(|_| BadBackend)?;
        let is_bare = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        match authority {
            Some(authority) if is_bare && uri.query().is_none() => Ok(Self {
                authority: authority.clone(),
                waiting: Arc::new(Semaphore::new(WAITING_MAX)),
                streaming: Arc::new(Semaphore::new(STREAMING_MAX)),
            }),
            _ => Err(BadBackend),
        }
    }

    /// Asks control and gives its answer, or one of our own that says what failed.
    pub async fn forward(&self, request: Request<Incoming>, origin: Origin) -> Response<Body> {
        match self.ask(request, origin).await {
            Ok(answer) => answer,
            Err(failure) => {
                let cause = failure.source().map(ToString::to_string);
                tracing::debug!(%failure, cause, "a forwarded request failed");
                failure.answer()
            }
        }
    }

    async fn ask(
        &self,
        request: Request<Incoming>,
        origin: Origin,
    ) -> Result<Response<Body>, Failure> {
        let request = self.rewrite(request, origin)?;
        // Held until the head of the answer is here; the body then counts as streaming.
        let _waiting = self.waiting.try_acquire().map_err(|_| Failure::Busy)?;
        let connect = timeout(CONNECT_MAX, self.connect());
        let tcp = connect.await.map_err(|_| Failure::TimedOut)?.map_err(Failure::Connect)?;
        let (mut sender, connection) =
            http1::Builder::new().max_headers(HEADERS_MAX).handshake(TokioIo::new(tcp)).await?;
        let mut driver = Driver(Some(Box::pin(connection)));
        let mut answer = pin!(sender.send_request(request));
        let head = poll_fn(|cx| {
            driver.drive(cx);
            answer.as_mut().poll(cx)
        });
        let answer = timeout(HEAD_MAX, head).await.map_err(|_| Failure::TimedOut)??;
        if answer.status().is_informational() {
            return Err(Failure::Nonsense);
        }
        let streaming =
            Arc::clone(&self.streaming).try_acquire_owned().map_err(|_| Failure::Busy)?;
        let (mut head, incoming) = answer.into_parts();
        strip_hop_by_hop(&mut head.headers);
        head.version = Version::default();
        let body = Body::Streaming(Streaming { incoming, driver, _place: streaming });
        Ok(Response::from_parts(head, body))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, self.authority.port_u16().unwrap_or(80))).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Makes the request that control gets: same method, path, query, `Host` and body; without
    /// what belongs to the caller's connection; with where it came from.
    fn rewrite(
        &self,
        request: Request<Incoming>,
        origin: Origin,
    ) -> Result<Request<Limited<Incoming>>, Failure> {
        let (mut head, body) = request.into_parts();
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(Failure::BodyTooLong);
        }
        // The path alone: a request that names another host goes to control all the same.
        let path = head.uri.path_and_query().cloned().ok_or(Failure::BadRequest)?;
        if head.method == http::Method::CONNECT {
            return Err(Failure::BadRequest);
        }
        head.uri = origin_form(path).ok_or(Failure::BadRequest)?;
        head.version = Version::HTTP_11;
        strip_hop_by_hop(&mut head.headers);
        // hyper has answered it, or will when the body is read.
        head.headers.remove(header::EXPECT);
        if !head.headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(self.authority.as_str());
            head.headers.insert(header::HOST, host.map_err(|_| Failure::BadRequest)?);
        }
        append(&mut head.headers, FORWARDED_FOR, &origin.address.to_canonical().to_string())?;
        let scheme = match origin.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        append(&mut head.headers, FORWARDED_PROTO, scheme)?;
        Ok(Request::from_parts(head, Limited::new(body, BODY_BYTES_MAX)))
    }
}

fn origin_form(path: PathAndQuery) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

/// Adds an entry to a list header: what proxies before us have said stays, ours is the last.
fn append(headers: &mut HeaderMap, name: &'static str, entry: &str) -> Result<(), Failure> {
    let mut list = Vec::new();
    for value in headers.get_all(name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(entry.as_bytes());
    headers.insert(name, HeaderValue::from_bytes(&list).map_err(|_| Failure::BadRequest)?);
    Ok(())
}

/// Removes what is meant for one connection only (RFC 9110 §7.6.1). `Connection` may name more
/// headers, but not those that say where a message goes or ends.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// Control's, as it comes.
    Streaming(Streaming),
    /// A sentence of our own.
    Sentence(Full<Bytes>),
}

/// A body that drives the connection it comes over; dropping it closes the connection.
#[derive(Debug)]
pub struct Streaming {
    incoming: Incoming,
    driver: Driver,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Streaming(streaming) => {
                streaming.driver.drive(cx);
                Pin::new(&mut streaming.incoming).poll_frame(cx)
            }
            Self::Sentence(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streaming(streaming) => streaming.incoming.is_end_stream(),
            Self::Sentence(text) => text.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streaming(streaming) => streaming.incoming.size_hint(),
            Self::Sentence(text) => text.size_hint(),
        }
    }
}

/// The connection to control, until it is done.
#[derive(Debug)]
struct Driver(Option<Pin<Box<ToControl>>>);

type ToControl = Connection<TokioIo<TcpStream>, Limited<Incoming>>;

impl Driver {
    /// Moves bytes. How the connection ends is seen by whoever waits for head or body.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
    }
}

/// Why control's answer did not come. What is displayed is what the outside is told: nothing of
/// how it looks behind the relay.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("This request cannot be forwarded.")]
    BadRequest,
    #[error("The body of a request may be 1 MiB long.")]
    BodyTooLong,
    #[error("Too many requests are under way; try again in a second.")]
    Busy,
    #[error("The control plane cannot be reached.")]
    Connect(#[source] io::Error),
    #[error("The control plane did not answer in time.")]
    TimedOut,
    #[error("The control plane broke off.")]
    Broken(#[source] hyper::Error),
    #[error("The control plane answered nonsense.")]
    Nonsense,
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if inner.is::<LengthLimitError>() {
                return Self::BodyTooLong;
            }
            cause = inner.source();
        }
        Self::Broken(error)
    }
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect(_) | Self::Broken(_) | Self::Nonsense => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn answer(&self) -> Response<Body> {
        let mut answer = Response::new(Body::Sentence(Full::new(format!("{self}\n").into())));
        *answer.status_mut() = self.status();
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        if matches!(self, Self::Busy) {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

/// Requests whose answer has not begun. Control answers in milliseconds, so 64 are thousands a
/// second; above it something is wrong, and a quick 503 is better than a queue.
pub const WAITING_MAX: usize = 64;
/// Answers under way, most of them event streams that stay open for hours. They have a bound of
/// their own so that they cannot keep webhooks out.
pub const STREAMING_MAX: usize = 1_024;
/// The longest request body; control's own bound for its largest route.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// For the TCP connection, to a process that is near.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);
/// From the connection to the head of the answer, the request's body included; Twilio gives a
/// webhook 15 s.
pub const HEAD_MAX: Duration = Duration::from_secs(15);
const HEADERS_MAX: usize = 100;
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

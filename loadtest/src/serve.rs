//! A small HTTP/1.1 server for the fakes: hyper underneath, whole bodies, WebSocket upgrades.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::{CancellationToken, DropGuard};

/// An answer with a whole body.
pub(crate) type Answer = Response<Full<Bytes>>;

/// A WebSocket that came in through the server: right on the TCP stream, which can be reset.
pub(crate) type ServerSocket = WebSocketStream<TcpStream>;

/// A request, its body read.
pub(crate) struct Asked {
    /// The method.
    pub(crate) method: Method,
    /// The path and the query, as they were written.
    pub(crate) target: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body; never above [`BODY_BYTES_MAX`].
    pub(crate) body: Bytes,
    /// Who asks.
    pub(crate) peer: SocketAddr,
    upgrade: Option<OnUpgrade>,
}

impl Asked {
    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a query parameter, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Answers 101 and gives the socket once the client has it. `None` when the request does not
    /// ask for a WebSocket.
    pub(crate) fn upgrade(
        self,
    ) -> Option<(Answer, impl Future<Output = Option<ServerSocket>> + Send)> {
        let key = self.header("sec-websocket-key")?.to_owned();
        let upgrade = self.upgrade?;
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
        answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let socket = async move {
            let parts = upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
            let (io, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
            let config = Some(socket_config());
            Some(WebSocketStream::from_partially_read(io, read, Role::Server, config).await)
        };
        Some((answer, socket))
    }
}

/// What a fake says to requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn answer(self: Arc<Self>, asked: Asked) -> impl Future<Output = Answer> + Send;
}

/// A listening server; it stops, and every connection with it, when it is dropped.
pub(crate) struct Server {
    /// Where it listens, with the real port.
    pub(crate) address: SocketAddr,
    _stop: DropGuard,
}

impl Server {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub(crate) async fn start(
        listen: SocketAddr,
        service: Arc<impl Service>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            service,
            stop.clone(),
        )));
        Ok(Self { address, _stop: stop.drop_guard() })
    }
}

/// Takes connections until the server is dropped. A connection that fails concerns nobody else.
async fn accept(listener: TcpListener, service: Arc<impl Service>, stop: CancellationToken) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        // Small frames must not wait for each other's acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = Arc::clone(&service);
        let connection =
            hyper::server::conn::http1::Builder::new()
                .serve_connection(
                    TokioIo::new(stream),
                    hyper::service::service_fn(move |request| {
                        let service = Arc::clone(&service);
                        async move {
                            Ok::<_, std::convert::Infallible>(ask(service, peer, request).await)
                        }
                    }),
                )
                .with_upgrades();
        tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

/// Reads the body, unless the request wants to become a WebSocket, and asks the service.
async fn ask(
    service: Arc<impl Service>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Answer {
    let upgrade = request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = match upgrade {
        Some(_) => Bytes::new(),
        None => match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        },
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let asked = Asked { method: head.method, target, headers: head.headers, body, peer, upgrade };
    service.answer(asked).await
}

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, body: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", body.to_owned().into())
}

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("the fakes' own values are JSON");
    answer(status, "application/json", body.into())
}

/// An answer of any kind.
pub(crate) fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// How every WebSocket of this crate is set up: small buffers, written through.
pub(crate) fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * 1024 * 1024)
        .max_message_size(Some(16 * 1024 * 1024))
        .max_frame_size(Some(16 * 1024 * 1024))
}

/// The largest request body, in bytes. A caller's script with audio in it is well below.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

//! Opens an agent's socket: name, TCP, TLS, WebSocket handshake, each with its own time-out.
//!
//! The handshake is tokio-tungstenite's; afterwards its stream is taken back, with the bytes that
//! it has read too many, and [`Socket`] takes over.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};
use http::{HeaderMap, StatusCode};
use link::secret::Secret;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::{self, protocol::WebSocketConfig};
use url::{Host, Url};

use crate::stream::{Leg, Stream, tune};
use crate::tls;
use crate::ws::{Limits, Role, Socket};

/// Where an agent is, and what is said at its door. Its `Debug` shows the host only: a query or a
/// header may be a key.
#[derive(Clone)]
pub struct Target {
    url: Url,
    headers: HeaderMap,
}

impl Target {
    /// Takes a `wss` URL, or a `ws` URL, which [`connect`] opens to loopback addresses only.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(url: &str) -> Result<Self, BadTarget> {
        let url = Url::parse(url).map_err(|_| BadTarget::Url)?;
        if !matches!(url.scheme(), "wss" | "ws") {
            return Err(BadTarget::Scheme);
        }
        if url.host().is_none() || !url.username().is_empty() || url.password().is_some() {
            return Err(BadTarget::Url);
        }
        Ok(Self { url, headers: HeaderMap::new() })
    }

    /// Adds `Authorization: Bearer`.
    ///
    /// # Errors
    /// When the key holds what no header may.
    pub fn with_bearer(self, key: &Secret) -> Result<Self, BadTarget> {
        self.with_secret(AUTHORIZATION, "Bearer ", key)
    }

    /// Adds a header whose value is `prefix` and the secret.
    ///
    /// # Errors
    /// When the value holds what no header may.
    pub fn with_secret(
        mut self,
        name: HeaderName,
        prefix: &str,
        secret: &Secret,
    ) -> Result<Self, BadTarget> {
        let mut value = HeaderValue::from_str(&format!("{prefix}{}", secret.reveal()))
            .map_err(|_: InvalidHeaderValue| BadTarget::Header)?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    fn is_secure(&self) -> bool {
        self.url.scheme() == "wss"
    }

    fn request(&self) -> Result<Request, DialError> {
        // The fragment is the client's own and never travels.
        let mut url = self.url.clone();
        url.set_fragment(None);
        let mut request = url.as_str().into_client_request().map_err(DialError::from)?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.url.host_str())
            .field("port", &self.url.port_or_known_default())
            .finish_non_exhaustive()
    }
}

/// What is wrong with an agent's address. The operator's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Not a URL with a host and without a user.
    #[error("not a URL of a host")]
    Url,
    /// Neither `wss` nor `ws`.
    #[error("neither a wss nor a ws URL")]
    Scheme,
    /// A key with characters that no header may hold.
    #[error("a key that no header can carry")]
    Header,
}

/// Why an agent's socket could not be opened. Never shows a key.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress(#[source] Option<io::Error>),
    /// A `ws` URL whose address is not a loopback address.
    #[error("an unencrypted address that is not loopback")]
    NotLoopback,
    /// No address took the connection.
    #[error("no address takes a connection")]
    Connect(#[source] io::Error),
    /// TLS failed: most often a certificate that is not trusted.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// The connection broke in the handshake.
    #[error("the connection broke in the handshake")]
    Broken(#[source] io::Error),
    /// The service answered the handshake with another status than 101.
    #[error("refused with status {}", .status.as_u16())]
    Refused {
        /// What it said: 401 a bad key, 429 too much.
        status: StatusCode,
    },
    /// The service's answer is no WebSocket handshake.
    #[error("the answer is no WebSocket handshake: {0}")]
    BadAnswer(String),
    /// A step took too long.
    #[error("{0} took too long")]
    TimedOut(Step),
}

impl DialError {
    /// Whether the service was there and said no, so that trying again at once is of no use.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::BadAnswer(_) | Self::NotLoopback)
    }
}

impl From<tungstenite::Error> for DialError {
    fn from(error: tungstenite::Error) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else a handshake can say is an answer that is no handshake"
        )]
        match error {
            tungstenite::Error::Io(cause) => Self::Broken(cause),
            // Closed in the middle of the answer: a broken connection, not a refusal. Trying
            // again helps.
            tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => {
                Self::Broken(io::ErrorKind::UnexpectedEof.into())
            }
            // The body is left out: a service may repeat a part of the key in it.
            tungstenite::Error::Http(answer) => Self::Refused { status: answer.status() },
            other => Self::BadAnswer(other.to_string()),
        }
    }
}

/// A step of dialling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Name and TCP.
    Connect,
    /// TLS.
    Tls,
    /// The WebSocket handshake.
    Upgrade,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Tls => "TLS",
            Self::Upgrade => "the handshake",
        })
    }
}

/// Opens a socket to an agent.
///
/// # Errors
/// When any step fails or takes too long; the connection is closed then.
pub async fn connect(
    target: &Target,
    tls: &Arc<ClientConfig>,
    limits: Limits,
) -> Result<Socket, DialError> {
    let request = target.request()?;
    let tcp = timeout(CONNECT_MAX, connect_tcp(target))
        .await
        .map_err(|_| DialError::TimedOut(Step::Connect))??;
    tune(&tcp, Leg::Agent).map_err(DialError::Connect)?;
    let mut stream = match target.is_secure() {
        true => timeout(TLS_MAX, connect_tls(target, tcp, tls))
            .await
            .map_err(|_| DialError::TimedOut(Step::Tls))??,
        false => Stream::Plain(tcp),
    };
    let already_read = timeout(UPGRADE_MAX, upgrade(&mut stream, request))
        .await
        .map_err(|_| DialError::TimedOut(Step::Upgrade))??;
    Ok(Socket::new(stream, Role::Client, limits, already_read))
}

async fn connect_tcp(target: &Target) -> Result<TcpStream, DialError> {
    let found = addresses(&target.url).await.map_err(|cause| DialError::NoAddress(Some(cause)))?;
    if !target.is_secure() && !found.iter().all(|address| address.ip().is_loopback()) {
        return Err(DialError::NotLoopback);
    }
    connect_any(&found, CONNECT_MAX).await
}

/// Tries the addresses of a name in the resolver's order, each with its share of the time, so that
/// one dead address does not use up all of it.
pub(crate) async fn connect_any(
    addresses: &[SocketAddr],
    within: Duration,
) -> Result<TcpStream, DialError> {
    let tried = addresses.len().min(ADDRESSES_MAX);
    let mut failure = DialError::NoAddress(None);
    for address in &addresses[..tried] {
        match timeout(within / tried as u32, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(cause)) => failure = DialError::Connect(cause),
            Err(_) => failure = DialError::TimedOut(Step::Connect),
        }
    }
    Err(failure)
}

/// The addresses of a URL. A name is looked up on the runtime's pool of blocking threads.
pub(crate) async fn addresses(url: &Url) -> io::Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().ok_or(io::ErrorKind::InvalidInput)?;
    match url.host() {
        Some(Host::Ipv4(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Ipv6(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Domain(name)) => Ok(lookup_host((name, port)).await?.collect()),
        None => Ok(Vec::new()),
    }
}

/// Whom the certificate of a URL's host must name.
pub(crate) fn server_name(url: &Url) -> io::Result<ServerName<'static>> {
    match url.host() {
        Some(Host::Ipv4(ip)) => Ok(ServerName::from(IpAddr::V4(ip))),
        Some(Host::Ipv6(ip)) => Ok(ServerName::from(IpAddr::V6(ip))),
        Some(Host::Domain(name)) => {
            ServerName::try_from(name.to_owned()).map_err(|_| io::ErrorKind::InvalidInput.into())
        }
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

async fn connect_tls(
    target: &Target,
    tcp: TcpStream,
    config: &Arc<ClientConfig>,
) -> Result<Stream, DialError> {
    let name = server_name(&target.url).map_err(DialError::Tls)?;
    tls::connect(tcp, name, config).await.map_err(DialError::Tls)
}

/// Does the WebSocket handshake and gives what was read beyond it. tungstenite shows the request,
/// key and all, to the `log` crate at trace level, which this process must not collect.
async fn upgrade(stream: &mut Stream, request: Request) -> Result<Vec<u8>, DialError> {
    // tungstenite makes a WebSocket of its own behind the handshake, which is dropped at once:
    // its buffer need not exist.
    let config = WebSocketConfig::default().read_buffer_size(0);
    let recorder = Recorder { stream, read: Vec::new() };
    let (socket, _) = client_async_with_config(request, recorder, Some(config)).await?;
    let mut read = socket.into_inner().read;
    // The very parser that the handshake used, over the same bytes: it stops at the same place.
    let (head_bytes, _) = Response::try_parse(&read)?
        .ok_or_else(|| DialError::BadAnswer("an incomplete head".into()))?;
    Ok(read.split_off(head_bytes))
}

/// Keeps a copy of what is read, because tungstenite does not give back what it read too many: a
/// service may send its first message in one packet with the 101.
struct Recorder<'a> {
    stream: &'a mut Stream,
    read: Vec<u8>,
}

impl AsyncRead for Recorder<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *this.stream).poll_read(cx, buffer))?;
        this.read.extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorder<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_shutdown(cx)
    }
}

/// For the name and TCP together. The caller waits in silence meanwhile, so all three steps are
/// short; the uplink that is held covers 2 s.
pub const CONNECT_MAX: Duration = Duration::from_secs(3);
/// For TLS.
pub const TLS_MAX: Duration = Duration::from_secs(3);
/// For the WebSocket handshake, in which services look keys up.
pub const UPGRADE_MAX: Duration = Duration::from_secs(5);
/// How many addresses of a name are tried; more would leave each less than a second.
const ADDRESSES_MAX: usize = 3;

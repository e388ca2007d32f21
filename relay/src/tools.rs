//! Runs the HTTP tools of agents: one signed POST for each request of the model, one answer.
//!
//! A tool's URL is a customer's text, so the connection goes to the very address that was checked
//! ([`link::guard`]), and nowhere else: no redirects, no proxies, no cookies. A request may have an
//! effect, so it is made once; whoever made it may ask again with the same key.
//! No task is started: whoever polls [`Tools::run`] moves the bytes, and dropping it closes the
//! connection.

use std::error::Error as _;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use link::guard::{Allowed, is_public};
use link::id::{CallId, WallTime};
use link::tool::HttpTool;
use rustls::ClientConfig;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use crate::call::input::ToolResult;
use crate::call::output::ToolRequest;
use crate::dial::{self, DialError};
use crate::stream::Stream;
use crate::{clock, tls};

/// Runs tools. Cheap to clone; all calls share one.
#[derive(Debug, Clone)]
pub struct Tools {
    allowed: Arc<Allowed>,
    tls: Arc<ClientConfig>,
}

/// How the run of a tool ended, for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolEnd {
    /// The answer's text, as it came; at most [`ANSWER_BYTES_MAX`].
    Done(String),
    /// Why there is none; a sentence that says nothing of how it looks behind the relay.
    Failed(String),
    /// There was none in time.
    TimedOut,
}

impl ToolEnd {
    /// As the call takes it.
    #[must_use]
    pub fn result(&self) -> ToolResult<'_> {
        match self {
            Self::Done(text) => ToolResult::Done(text),
            Self::Failed(why) => ToolResult::Failed(why),
            Self::TimedOut => ToolResult::TimedOut,
        }
    }
}

impl Tools {
    /// Reaches public addresses and what the operator allows, and trusts whom `tls` trusts.
    #[must_use]
    pub fn new(allowed: Allowed, tls: Arc<ClientConfig>) -> Self {
        Self { allowed: Arc::new(allowed), tls }
    }

    /// Makes one request of the model's, in a call. What it needs is copied, so that the future
    /// stands alone; it is done within the tool's time-out.
    pub fn run(
        &self,
        tool: &HttpTool,
        call: &CallId,
        request: &ToolRequest<'_>,
    ) -> impl Future<Output = ToolEnd> + use<> {
        let order = Order::write(tool, call, request, clock::wall());
        let (tools, within, name) = (self.clone(), tool.timeout(), tool.name.clone());
        async move {
            let answer = async { tools.post(order?, within).await };
            match timeout(within, answer).await {
                Ok(Ok(text)) => ToolEnd::Done(text),
                Ok(Err(failure)) => {
                    let cause = failure.source().map(ToString::to_string);
                    tracing::debug!(tool = name, %failure, cause, "a tool failed");
                    ToolEnd::Failed(failure.to_string())
                }
                Err(_) => ToolEnd::TimedOut,
            }
        }
    }

    async fn post(&self, order: Order, within: Duration) -> Result<String, Failure> {
        let stream = self.connect(&order.url, within).await?;
        let mut http = http1::Builder::new();
        http.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
        let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async move {
            let answer = sender.send_request(order.request()?).await?;
            read(answer).await
        });
        // How the connection ends is seen by the request. Each wakes this task for the other.
        let mut is_open = true;
        poll_fn(|cx| {
            is_open = is_open && connection.as_mut().poll(cx).is_pending();
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Looks the name up once, and goes to an address that was checked.
    async fn connect(&self, url: &Url, within: Duration) -> Result<Stream, Failure> {
        let addresses = dial::addresses(url).await.map_err(Failure::NoAddress)?;
        // One address that must not be reached condemns the name: what its owner wants with it
        // can only be harm.
        if !addresses.iter().all(|address| self.may_reach(url, address.ip())) {
            return Err(Failure::NotAllowed);
        }
        let tcp: TcpStream = dial::connect_any(&addresses, within).await?;
        tcp.set_nodelay(true).map_err(Failure::Broken)?;
        if url.scheme() == "http" {
            return Ok(Stream::Plain(tcp));
        }
        let name = dial::server_name(url).map_err(Failure::Tls)?;
        tls::connect(tcp, name, &self.tls).await.map_err(Failure::Tls)
    }

    /// Without TLS nobody proves who answers, so the operator must have named who may.
    fn may_reach(&self, url: &Url, address: IpAddr) -> bool {
        let name = match url.host() {
            Some(Host::Domain(name)) => Some(name),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => None,
        };
        let is_secure = url.scheme() == "https";
        self.allowed.lists(name, address) || (is_secure && is_public(address))
    }
}

/// One request, written and signed.
struct Order {
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

impl Order {
    fn write(
        tool: &HttpTool,
        call: &CallId,
        request: &ToolRequest<'_>,
        now: WallTime,
    ) -> Result<Self, Failure> {
        let url = address(&tool.url).ok_or(Failure::BadUrl)?;
        let body = body(tool, call, request.arguments)?;
        let mut headers = HeaderMap::new();
        let host = host(&url).and_then(|host| HeaderValue::from_str(&host).ok());
        headers.insert(header::HOST, host.ok_or(Failure::BadUrl)?);
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json.clone());
        headers.insert(header::ACCEPT, json);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("linecard"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(IDEMPOTENCY_KEY, key(call, request.call));
        if !tool.signing_key.is_empty() {
            let signature = sign(tool.signing_key.reveal(), now.seconds(), &body);
            headers.insert(SIGNATURE, signature);
        }
        Ok(Self { url, headers, body: body.into() })
    }

    fn request(self) -> Result<Request<Full<Bytes>>, Failure> {
        let target = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.parse().map_err(|_| Failure::BadUrl)?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_http = matches!(url.scheme(), "https" | "http") && url.host().is_some();
    // A password in a URL is shown in places that nobody thinks of.
    let has_user = !url.username().is_empty() || url.password().is_some();
    (is_http && !has_user).then_some(url)
}

fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// `{"call": .., "tool": .., "arguments": {..}}`, the arguments as the model wrote them: a number
/// that is read and written again may be another number.
fn body(tool: &HttpTool, call: &CallId, arguments: &str) -> Result<String, Failure> {
    // Some models write nothing where a tool takes nothing.
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments.trim() };
    if arguments.len() > ARGUMENT_BYTES_MAX {
        return Err(Failure::BadArguments);
    }
    serde_json::from_str::<Map<String, Value>>(arguments).map_err(|_| Failure::BadArguments)?;
    let (call, name) = (json!(call), json!(tool.name));
    Ok(format!(r#"{{"call":{call},"tool":{name},"arguments":{arguments}}}"#))
}

/// The key of the effect: of one request of one call, whatever node makes it.
fn key(call: &CallId, request: &str) -> HeaderValue {
    let plain = |b: u8| b.is_ascii_graphic();
    let text = match request.len() <= REQUEST_BYTES_MAX && request.bytes().all(plain) {
        true => format!("{call}.{request}"),
        // A service's id of another shape; its digest is as good a key.
        false => format!("{call}.{}", hex(&Sha256::digest(request))),
    };
    HeaderValue::from_str(&text).expect("call ids, digests and visible letters make a header")
}

/// `t=<unix seconds>,v1=<hex>`: the HMAC-SHA256 of the time, a dot and the body.
fn sign(key: &str, seconds: i64, body: &str) -> HeaderValue {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key may have any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body.as_bytes());
    let text = format!("t={seconds},v1={}", hex(&mac.finalize().into_bytes()));
    HeaderValue::from_str(&text).expect("digits and letters make a header")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Takes the text of an answer.
async fn read(answer: Response<Incoming>) -> Result<String, Failure> {
    let status = answer.status();
    if status.is_redirection() {
        return Err(Failure::Redirected(status));
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Failure::TooLong),
        Err(error) => return Err(Failure::Broken(io::Error::other(error))),
    };
    if !status.is_success() {
        let shown = String::from_utf8_lossy(&bytes);
        let end = shown.floor_char_boundary(COMPLAINT_BYTES_MAX);
        return Err(Failure::Refused(status, shown[..end].to_owned()));
    }
    String::from_utf8(bytes.into()).map_err(|_| Failure::NotText)
}

/// Why a tool gave nothing. What is displayed is what the model is told.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("The arguments are not a JSON object. Nothing was done; write them again.")]
    BadArguments,
    #[error("The tool is set up wrongly: its address is no URL. Nothing was done.")]
    BadUrl,
    #[error("The tool cannot be reached. Nothing was done.")]
    NoAddress(#[source] io::Error),
    #[error("The tool is set up wrongly: its address may not be reached. Nothing was done.")]
    NotAllowed,
    #[error("The tool cannot be reached. Nothing was done.")]
    Unreachable(#[from] DialError),
    #[error("The tool cannot be reached safely. Nothing was done.")]
    Tls(#[source] io::Error),
    #[error("The tool broke off. It is not known whether anything was done.")]
    Broken(#[source] io::Error),
    #[error("The tool's answer is longer than 16 KiB.")]
    TooLong,
    #[error("The tool's answer is not text.")]
    NotText,
    #[error("The tool is set up wrongly: it sent the request elsewhere (status {}).", .0.as_u16())]
    Redirected(StatusCode),
    #[error("The tool failed with status {}: {}", .0.as_u16(), .1)]
    Refused(StatusCode, String),
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(io::Error::other(error))
    }
}

/// The longest answer: what a model should be told fits a page, and each turn after it pays for it
/// again.
pub const ANSWER_BYTES_MAX: usize = 16 << 10;
/// How much of a refusal's text the model is shown.
pub const COMPLAINT_BYTES_MAX: usize = 512;
/// The longest arguments: four times what a model can write in one answer.
const ARGUMENT_BYTES_MAX: usize = 64 << 10;
/// The longest id of a request that is part of a key as it is.
const REQUEST_BYTES_MAX: usize = 128;
const HEADERS_MAX: usize = 64;
/// The longest head of an answer, and the buffer for its body.
const HEAD_BYTES_MAX: usize = 16 << 10;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SIGNATURE: HeaderName = HeaderName::from_static("linecard-signature");

#[cfg(test)]
mod tests;

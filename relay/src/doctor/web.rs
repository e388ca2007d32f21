//! One HTTP request over a connection of its own, and whatever the answer is.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::time::timeout;
use url::Url;

use crate::stream::Stream;
use crate::{dial, tls};

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    /// The connection, when the answer was 101.
    pub(super) upgraded: Option<Upgraded>,
}

/// Where a request got stuck, in words and with what to look at.
#[derive(Debug)]
pub(super) enum Stuck {
    /// The name has no address.
    Name(String),
    /// Nobody takes the connection.
    Connect(String),
    /// TLS.
    Tls(String),
    /// The connection breaks, or the answer is no HTTP.
    Http(String),
}

impl Stuck {
    pub(super) fn words(&self) -> String {
        match self {
            Self::Name(why) => format!("its name has no address: {why}"),
            Self::Connect(why) => format!("nobody takes a connection: {why}"),
            Self::Tls(why) => format!("TLS fails: {why}"),
            Self::Http(why) => format!("no answer: {why}"),
        }
    }
}

/// Where a URL leads.
pub(super) async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, Stuck> {
    let looked_up = timeout(STEP_MAX, dial::addresses(url)).await;
    let found = looked_up.map_err(|_| Stuck::Name("no answer in time".to_owned()))?;
    match found {
        Ok(found) if found.is_empty() => Err(Stuck::Name("there is none".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(Stuck::Name(error.to_string())),
    }
}

/// Asks once. With a TLS config the connection is made secure, for the host of the URL.
pub(super) async fn ask(
    url: &Url,
    addresses: &[SocketAddr],
    tls: Option<&Arc<ClientConfig>>,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, Stuck> {
    let tcp = dial::connect_any(addresses, STEP_MAX).await;
    let tcp = tcp.map_err(|error| Stuck::Connect(chain(&error)))?;
    let stream = match tls {
        None => Stream::Plain(tcp),
        Some(config) => {
            let name = dial::server_name(url).map_err(|error| Stuck::Tls(error.to_string()))?;
            let secured = timeout(STEP_MAX, tls::connect(tcp, name, config)).await;
            let secured = secured.map_err(|_| Stuck::Tls("no answer in time".to_owned()))?;
            secured.map_err(|error| Stuck::Tls(error.to_string()))?
        }
    };
    let answer = timeout(STEP_MAX, exchange(stream, request)).await;
    let answer = answer.map_err(|_| Stuck::Http("none in time".to_owned()))?;
    answer.map_err(|error| Stuck::Http(chain(&*error)))
}

async fn exchange(
    stream: Stream,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asked = async move {
        let mut answer = sender.send_request(request).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(&mut answer).await?;
            return Ok(Answer {
                status: answer.status(),
                headers: answer.headers().clone(),
                body: String::new(),
                upgraded: Some(upgraded),
            });
        }
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status, headers: head.headers, body, upgraded: None })
    };
    // The connection ends with the sender; its own error is the request's as well.
    let (answer, _) = tokio::join!(asked, connection.with_upgrades());
    answer
}

/// An error and what is behind it.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat what is behind them.
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

/// For each step of a request.
const STEP_MAX: Duration = Duration::from_secs(5);
/// More of an answer is not looked at.
const BODY_BYTES_MAX: usize = 64 << 10;

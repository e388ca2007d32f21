//! Requests that Twilio makes: signed, with the time-outs and retries that a URL's fragment asks
//! for, over a mapped connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::record::{Fault, Hook};
use super::sign::{Field, sign, without_fragment};
use super::twiml::{Method, Target};
use crate::clock::wall_us;

/// Where public names really are, as if a proxy that ends TLS stood in between. Clones share one
/// map, so that a name can be mapped once its server is up.
#[derive(Debug, Clone, Default)]
pub struct Resolve {
    map: Arc<Mutex<Vec<Known>>>,
}

/// A name, with its port, and where it is.
type Known = (String, Vec<SocketAddr>);

impl Resolve {
    /// Maps an origin, as [`Self::map`] does.
    #[must_use]
    pub fn with(self, origin: &str, address: SocketAddr) -> Self {
        self.map(origin, address);
        self
    }

    /// Maps an origin (`https://name[:port]`; its `wss` twin goes to the same place) to an address
    /// that is dialled in clear. The last word on a name counts.
    pub fn map(&self, origin: &str, address: SocketAddr) {
        self.map_all(origin, vec![address]);
    }

    /// The same, for a name with several addresses: each further attempt of a request takes the
    /// next one.
    pub fn map_all(&self, origin: &str, addresses: Vec<SocketAddr>) {
        let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
        let authority = authority.trim_end_matches('/').to_owned();
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        map.retain(|(known, _)| *known != authority);
        map.push((authority, addresses));
    }

    /// Finds the address of a URL: a mapped one, or a loopback address that the URL itself names.
    #[must_use]
    pub fn find(&self, url: &Url) -> Option<SocketAddr> {
        self.find_for(url, 0)
    }

    /// The same for a further attempt, counted from 0.
    pub(crate) fn find_for(&self, url: &Url, attempt: u32) -> Option<SocketAddr> {
        let host = url.host_str()?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, addresses)) = map.iter().find(|(known, _)| *known == authority) {
            let count = addresses.len().max(1);
            return addresses.get(attempt as usize % count).copied();
        }
        let ip: std::net::IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
        let plain = ip.is_loopback() && url.scheme() == "http";
        plain.then(|| SocketAddr::new(ip, url.port_or_known_default().unwrap_or(80)))
    }
}

/// What a URL's fragment asks for, and Twilio's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overrides {
    connect: Duration,
    read: Duration,
    total: Duration,
    retries: u32,
    retry_on: Vec<RetryOn>,
}

/// What a request is repeated after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryOn {
    Connect,
    Read,
    Status4xx,
    Status5xx,
}

impl Overrides {
    /// Reads a URL's fragment.
    ///
    /// # Errors
    /// When it holds a key or a value that Twilio does not know.
    pub(crate) fn read(url: &str) -> Result<Self, Fault> {
        let mut overrides = Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(15),
            total: Duration::from_secs(15),
            retries: 1,
            retry_on: vec![RetryOn::Connect],
        };
        let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
        for pair in fragment.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = || Fault::new(11100, format!("bad URL: #{key}={value}"));
            let number = |range: std::ops::RangeInclusive<u64>| {
                value.parse().ok().filter(|n| range.contains(n)).ok_or_else(wrong)
            };
            match key {
                "ct" => overrides.connect = Duration::from_millis(number(100..=10_000)?),
                "rt" => overrides.read = Duration::from_millis(number(100..=15_000)?),
                "tt" => overrides.total = Duration::from_millis(number(100..=15_000)?),
                "rc" => overrides.retries = u32::try_from(number(0..=5)?).map_err(|_| wrong())?,
                "rp" => overrides.retry_on = retry_on(value).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            }
        }
        Ok(overrides)
    }
}

/// Reads the list behind `rp`; `None` when a word is unknown.
fn retry_on(value: &str) -> Option<Vec<RetryOn>> {
    let mut all = Vec::new();
    for word in value.split(',') {
        match word {
            "ct" => all.push(RetryOn::Connect),
            "rt" => all.push(RetryOn::Read),
            "4xx" => all.push(RetryOn::Status4xx),
            "5xx" => all.push(RetryOn::Status5xx),
            "all" => all.extend([
                RetryOn::Connect,
                RetryOn::Read,
                RetryOn::Status4xx,
                RetryOn::Status5xx,
            ]),
            _ => return None,
        }
    }
    Some(all)
}

/// Who asks: the account's token and where names are.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// The account's auth token.
    pub(crate) token: String,
    /// Where public names really are.
    pub(crate) resolve: Resolve,
}

/// How one attempt went.
enum Attempt {
    Answered { status: u16, body: Bytes, is_xml: bool },
    Failed { on: RetryOn, why: String },
}

impl Asker {
    /// Asks, and asks again as the URL's fragment says. Gives what was asked and answered, and
    /// the answer's body or the fault.
    pub(crate) async fn ask(
        &self,
        target: &Target,
        form: Vec<Field>,
    ) -> (Hook, Result<String, Fault>) {
        let mut hook = self.hook(target, form);
        let overrides = match Overrides::read(&target.url) {
            Ok(overrides) => overrides,
            Err(fault) => return (hook, Err(fault)),
        };
        let attempts = self.attempts(&overrides, target.method, &mut hook);
        let outcome = tokio::time::timeout(overrides.total, attempts).await;
        hook.at_us = wall_us();
        let answer = match outcome {
            Ok(Ok((body, is_xml))) => {
                hook.twiml = is_xml.then(|| body.clone());
                Ok(body)
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::new(11205, format!("{} took too long", hook.url))),
        };
        (hook, answer)
    }

    /// The request as it will be recorded, signed. Fields of a GET go into the URL, and are
    /// signed with it.
    fn hook(&self, target: &Target, form: Vec<Field>) -> Hook {
        let mut url = without_fragment(&target.url).to_owned();
        let (method, params) = match target.method {
            Method::Post => ("POST", form),
            Method::Get => {
                let query = Serializer::new(String::new()).extend_pairs(form).finish();
                url = format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' });
                ("GET", Vec::new())
            }
        };
        Hook {
            at_us: wall_us(),
            signature: sign(&self.token, &url, &params),
            idempotency_token: uuid::Uuid::new_v4().to_string(),
            method: method.into(),
            status: 0,
            attempts: 0,
            twiml: None,
            url,
            params,
        }
    }

    /// Asks until it is answered or there is no further attempt. The same token goes with
    /// each: whoever answers can know a repetition.
    async fn attempts(
        &self,
        overrides: &Overrides,
        method: Method,
        hook: &mut Hook,
    ) -> Result<(String, bool), Fault> {
        loop {
            hook.attempts += 1;
            let (on, fault) = match self.attempt(overrides, method, hook).await {
                Attempt::Answered { status, body, is_xml } => {
                    hook.status = status;
                    if (200..300).contains(&status) {
                        return Ok((String::from_utf8_lossy(&body).into_owned(), is_xml));
                    }
                    let on = if status < 500 { RetryOn::Status4xx } else { RetryOn::Status5xx };
                    (on, Fault::new(11200, format!("{} answered {status}", hook.url)))
                }
                Attempt::Failed { on, why } => {
                    (on, Fault::new(11205, format!("{}: {why}", hook.url)))
                }
            };
            if hook.attempts > overrides.retries || !overrides.retry_on.contains(&on) {
                return Err(fault);
            }
        }
    }

    /// Asks once.
    async fn attempt(&self, overrides: &Overrides, method: Method, hook: &Hook) -> Attempt {
        let failed = |on, why: &dyn std::fmt::Display| Attempt::Failed { on, why: why.to_string() };
        let Ok(url) = Url::parse(&hook.url) else {
            return failed(RetryOn::Connect, &"the URL is malformed");
        };
        // Counted from 1 by the time it is made.
        let attempt = hook.attempts.saturating_sub(1);
        let Some(address) = self.resolve.find_for(&url, attempt) else {
            return failed(RetryOn::Connect, &"the name does not resolve");
        };
        let stream =
            match tokio::time::timeout(overrides.connect, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return failed(RetryOn::Connect, &error),
                Err(_) => return failed(RetryOn::Connect, &"no connection in time"),
            };
        let exchange = exchange(stream, &url, method, hook);
        match tokio::time::timeout(overrides.read, exchange).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(why)) => failed(RetryOn::Read, &why),
            Err(_) => failed(RetryOn::Read, &"no answer in time"),
        }
    }
}

/// One request and its answer over an open connection.
async fn exchange(
    stream: TcpStream,
    url: &Url,
    method: Method,
    hook: &Hook,
) -> Result<Attempt, String> {
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = request(url, method, hook).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    let is_xml = kind.is_some_and(|kind| {
        let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
        ["text/xml", "application/xml", "text/html"].iter().any(|known| kind.starts_with(known))
    });
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(Attempt::Answered { status, body, is_xml })
}

/// The request with the headers that Twilio sends.
fn request(url: &Url, method: Method, hook: &Hook) -> Result<Request<Full<Bytes>>, http::Error> {
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::builder()
        .method(hook.method.as_str())
        .uri(path)
        .header("host", host)
        .header("user-agent", "TwilioProxy/1.1")
        .header("accept", "*/*")
        .header("x-twilio-signature", &hook.signature)
        .header("i-twilio-idempotency-token", &hook.idempotency_token)
        .header("x-home-region", "us1");
    match method {
        Method::Get => request.body(Full::default()),
        Method::Post => {
            let body = Serializer::new(String::new()).extend_pairs(&hook.params).finish();
            request
                .header("content-type", "application/x-www-form-urlencoded; charset=UTF-8")
                .body(Full::from(body))
        }
    }
}

/// More than the largest document, so that a larger one is named by its own error.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fragment_sets_time_outs_and_retries() {
        let url = "https://a.example/r#rc=3&rp=all&ct=1500&rt=2500&tt=8000";
        let overrides = Overrides::read(url).unwrap();
        assert_eq!(overrides.retries, 3);
        assert_eq!(overrides.connect, Duration::from_millis(1_500));
        assert_eq!(overrides.read, Duration::from_millis(2_500));
        assert_eq!(overrides.total, Duration::from_secs(8));
        assert!(overrides.retry_on.contains(&RetryOn::Status5xx));
        let plain = Overrides::read("https://a.example/r").unwrap();
        assert_eq!((plain.retries, plain.retry_on), (1, vec![RetryOn::Connect]));
    }

    #[test]
    fn a_fragment_out_of_bounds_is_a_bad_url() {
        for bad in ["rc=6", "ct=99", "rt=15001", "rp=3xx", "retry=1", "rc"] {
            let fault = Overrides::read(&format!("https://a.example/#{bad}")).unwrap_err();
            assert_eq!(fault.code, 11100, "{bad}");
        }
    }

    #[test]
    fn both_twins_of_an_origin_are_found_and_nothing_else() {
        let there: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let resolve = Resolve::default().with("https://linecard.test", there);
        let find = |url: &str| resolve.find(&Url::parse(url).unwrap());
        assert_eq!(find("https://linecard.test/v1?x=1"), Some(there));
        assert_eq!(find("wss://linecard.test/v1/m/n"), Some(there));
        assert_eq!(find("https://linecard.test:444/"), None);
        assert_eq!(find("https://example.com/"), None);
        assert_eq!(find("http://127.0.0.1:81/"), Some("127.0.0.1:81".parse().unwrap()));
        assert_eq!(find("https://127.0.0.1:81/"), None);
    }

    #[test]
    fn a_further_attempt_takes_the_next_address_of_a_name() {
        let [one, two]: [SocketAddr; 2] =
            ["127.0.0.1:4001", "127.0.0.1:4002"].map(|text| text.parse().unwrap());
        let resolve = Resolve::default();
        resolve.map_all("https://linecard.test", vec![one, two]);
        let url = Url::parse("https://linecard.test/v1").unwrap();
        let found: Vec<_> = (0..3).map(|attempt| resolve.find_for(&url, attempt)).collect();
        assert_eq!(found, [Some(one), Some(two), Some(one)]);
        assert_eq!(resolve.find(&url), Some(one));
    }
}

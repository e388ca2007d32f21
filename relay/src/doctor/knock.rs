//! A carrier's handshake, played against the public URL: DNS, TLS and whatever proxy stands in
//! front must let an upgrade through to this relay. It cannot be let in, so what proves the way is
//! the relay's own refusal, by its words.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use link::id::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use url::{Host, Url};

use super::visits::here;
use super::web::{self, Answer, Stuck};
use crate::config::Config;
use crate::tls;
use crate::upgrade::{self, PREFIX, Shows};
use crate::wire::knock::{USER_AGENT, WRONG_SIGNATURE, start};
use crate::wire::opening::SIGNATURE_HEADER;
use link::finding::Finding;

const WHAT: &str = "a carrier's handshake";

/// Plays it: against the public URL when there is one, against this relay's own port otherwise.
pub(super) async fn look(config: &Config, public_url: Option<String>) -> Vec<Finding> {
    let scheme = if config.tls.is_some() { "wss" } else { "ws" };
    let own = format!("{scheme}://{}", here(config.listen));
    let is_public = public_url.is_some();
    let Ok(url) = Url::parse(&format!("{}{PREFIX}{}", public_url.unwrap_or(own), config.node))
    else {
        return Vec::new();
    };
    let tls = match (url.scheme(), is_public) {
        ("wss", true) => tls::client_config(None).map(Some).map_err(|error| error.to_string()),
        // No carrier comes this way: whose certificate it is was looked at by itself.
        ("wss", false) => anybody().map(Some).map_err(|error| error.to_string()),
        _ => Ok(None),
    };
    let tls = match tls {
        Ok(tls) => tls,
        Err(why) => {
            let mend = "install the system's roots: ca-certificates";
            return vec![Finding::failed(WHAT, why, mend)];
        }
    };
    let mut findings = vec![play(&url, tls.as_ref(), &config.node).await];
    if is_public && is_private(&url) {
        let words = format!("{} is an address of this machine or its network", url.authority());
        let mend = "no carrier reaches it; RELAY_PUBLIC_URL must be public";
        findings.push(Finding::warning("public URL", words, mend));
    }
    findings
}

fn is_private(url: &Url) -> bool {
    let ip: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => Some(ip.into()),
        Some(Host::Ipv6(ip)) => Some(ip.into()),
        Some(Host::Domain(name)) => return name == "localhost",
        None => None,
    };
    ip.is_some_and(|ip| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    })
}

async fn play(url: &Url, tls: Option<&Arc<ClientConfig>>, node: &NodeId) -> Finding {
    let answer = async {
        let addresses = web::addresses(url).await?;
        web::ask(url, &addresses, tls, request(url)?).await
    };
    match answer.await {
        Ok(answer) => judge(url, answer, node).await,
        Err(stuck) => {
            let mend = match &stuck {
                Stuck::Name(_) => "give the host of RELAY_PUBLIC_URL a DNS record",
                Stuck::Connect(_) => {
                    "start the relay; let the port in, through the firewall and to RELAY_LISTEN"
                }
                Stuck::Tls(_) => {
                    "a carrier would hang up here: a certificate for this host with its whole \
                     chain, at the proxy or in RELAY_TLS_CERT_FILE"
                }
                Stuck::Http(_) => {
                    "what listens there speaks no HTTP: TLS in front, or another port"
                }
            };
            Finding::failed(WHAT, format!("{url}: {}", stuck.words()), mend)
        }
    }
}

fn request(url: &Url) -> Result<Request<Empty<Bytes>>, Stuck> {
    let request = Request::get(url.path())
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "cmVsYXktZG9jdG9yLTE2IQ==")
        .header(SIGNATURE_HEADER, HeaderValue::from_static(WRONG_SIGNATURE));
    request.body(Empty::new()).map_err(|error| Stuck::Http(error.to_string()))
}

/// What an answer says about the way to this relay.
async fn judge(url: &Url, answer: Answer, node: &NodeId) -> Finding {
    let passes = |how: &str| Finding::ok(WHAT, format!("{url} passes upgrades through: {how}"));
    let failed = |words: String, mend: &str| Finding::failed(WHAT, format!("{url}: {words}"), mend);
    let Answer { status, body, upgraded, headers } = answer;
    if let Some(upgraded) = upgraded {
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        return match refused(socket).await {
            Some(reason) => passes(&format!("a ticket that is none was refused ({reason})")),
            None => failed(
                "the stream was opened, and a ticket that is none was not refused".to_owned(),
                "something else than this relay answers there",
            ),
        };
    }
    let refusal = upgrade::REFUSALS.iter().find(|(sentence, _)| *sentence == body);
    if let Some((sentence, shows)) = refusal {
        return match shows {
            Shows::Way => passes(sentence.trim_end()),
            Shows::NotReady => Finding::warning(
                WHAT,
                format!("{url} passes upgrades through, and the relay there is not ready"),
                "look at its link to control",
            ),
            Shows::WrongNode => failed(
                format!("another relay answers there, not {node}"),
                "each node needs a public URL of its own",
            ),
            Shows::NoUpgrade => failed(
                "the request arrives without its upgrade".to_owned(),
                "the proxy in front must pass `Connection: upgrade` and `Upgrade` on (nginx: \
                 proxy_http_version 1.1 and both headers)",
            ),
        };
    }
    let server = headers.get(header::SERVER).and_then(|server| server.to_str().ok());
    let server = server.map(|server| format!(" ({server})")).unwrap_or_default();
    let mend = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            "the proxy in front does not reach RELAY_LISTEN"
        }
        _ => "the proxy in front must send this path to RELAY_LISTEN",
    };
    failed(format!("something else answers{server}: status {}", status.as_u16()), mend)
}

/// Begins a stream with a ticket that is none; gives the relay's words when it closes with 1008.
async fn refused<S>(mut socket: WebSocketStream<S>) -> Option<String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.send(Message::text(start())).await.ok()?;
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                return (u16::from(frame.code) == 1008).then(|| frame.reason.to_string());
            }
        }
        None
    };
    timeout(CLOSED_WITHIN, closed).await.ok().flatten()
}

/// A relay closes at once.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);

/// A client that trusts whoever answers: on this machine, to its own port, with nothing to hide.
fn anybody() -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = Arc::new(Anybody(tls::provider()));
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! `relay doctor`, run as a process beside loopback fakes: what it finds, what it says to do, and
//! that it shows no secret and takes nobody's port.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;

use link::join::JoinToken;
use link::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::process_rig::{Alone, Model, NODE, within};

/// What a doctor said.
struct Said {
    code: i32,
    text: String,
    findings: Vec<Value>,
}

impl Said {
    /// How the thing of this name is, what was said of it, and what is to be done.
    fn of(&self, what: &str) -> (&str, &str, &str) {
        let found = self.findings.iter().find(|finding| finding["what"] == what);
        let found = found.unwrap_or_else(|| panic!("nothing of {what} in {}", self.text));
        let word = |key: &str| found[key].as_str().unwrap();
        (word("state"), word("words"), word("mend"))
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for a process beside the test's own sockets")]
async fn doctor(settings: &[(String, String)]) -> Said {
    let settings = settings.to_vec();
    let run = move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_relay"));
        command.args(["doctor", "--json"]).env_clear().env("RELAY_NODE", NODE).envs(settings);
        command.output().unwrap()
    };
    let output = within(tokio::task::spawn_blocking(run)).await.unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let page: Value = serde_json::from_str(&text).unwrap();
    let findings = page["findings"].as_array().unwrap().clone();
    Said { code: output.status.code().unwrap(), text, findings }
}

fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Answers every connection with these bytes once its request is there.
#[expect(clippy::disallowed_methods, reason = "the test's own server, ended with its runtime")]
async fn answers(text: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(answer(tcp, text.clone()));
        }
    });
    address
}

async fn answer<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut io: S, text: String) {
    let mut head = [0; 4_096];
    let _ = io.read(&mut head).await;
    let _ = io.write_all(text.as_bytes()).await;
    let _ = io.shutdown().await;
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// A relay's port behind TLS, as a proxy in front would be, for `localhost`.
struct Front {
    address: SocketAddr,
    root: String,
}

#[expect(clippy::disallowed_methods, reason = "the test's own server, ended with its runtime")]
async fn front(behind: impl Fn(TcpStream) -> Behind + Send + 'static) -> Front {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), behind(tcp));
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(to.tcp).await else { return };
                match to.to {
                    To::Relay(address) => {
                        let mut relay = TcpStream::connect(address).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut tls, &mut relay).await;
                    }
                    To::Answer(text) => answer(tls, text).await,
                }
            });
        }
    });
    Front { address, root: authority.pem() }
}

/// What a front does with a connection.
struct Behind {
    tcp: TcpStream,
    to: To,
}

enum To {
    Relay(SocketAddr),
    Answer(String),
}

/// Settings of a node that joined, whose carrier comes to this address.
fn joined(public_port: u16) -> Vec<(String, String)> {
    let ca = rcgen::generate_simple_self_signed(vec!["control.linecard.internal".into()]).unwrap();
    // Nobody is there: port 9 discards, and no fake of these tests has it.
    let token = JoinToken::new("127.0.0.1:9", ca.cert.der(), Secret::new("hush-join"));
    let url = format!("wss://localhost:{public_port}");
    settings(&[("RELAY_JOIN_TOKEN", token.to_line().reveal()), ("RELAY_PUBLIC_URL", &url)])
}

#[tokio::test]
async fn beside_a_relay_that_serves_everything_is_well_and_nothing_is_disturbed() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("OPENAI_API_KEY", "sk-hush");
    let relay = alone.start().await;
    let mut given = alone.settings().to_vec();
    given.extend(settings(&[
        ("RELAY_LISTEN", &relay.public.to_string()),
        ("RELAY_ADMIN_LISTEN", &relay.admin.to_string()),
    ]));
    let said = doctor(&given).await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_eq!(said.of("settings").0, "ok");
    assert_eq!(said.of("this relay").0, "ok");
    assert_eq!(said.of("model at 127.0.0.1").0, "ok");
    let (state, words, _) = said.of("a carrier's handshake");
    assert_eq!(state, "ok");
    assert!(words.contains("the ticket is not taken"), "{words}");
    assert!(!said.text.contains("hush"), "{}", said.text);
    relay.until_metric("relay_calls 0").await;
    relay.until_metric("relay_stream_refusals_total{why=\"bad_ticket\"} 1").await;
}

#[tokio::test]
async fn mistakes_in_the_settings_are_findings() {
    let said = doctor(&settings(&[("RELAY_SHARDS", "0"), ("RELAY_SHRADS", "2")])).await;
    assert_eq!(said.code, 1);
    assert_eq!(said.of("RELAY_SHARDS").0, "failed");
    assert_eq!(said.of("RELAY_JOIN_TOKEN").0, "failed");
    assert_eq!(
        said.of("settings"),
        ("warning", "there is no RELAY_SHRADS", "`relay config` explains every setting")
    );
    assert_eq!(said.of("open files").2.is_empty(), said.of("open files").0 == "ok");
}

#[tokio::test]
async fn a_model_that_refuses_the_key_or_is_not_there_is_told_apart() {
    let refusing = answers(http("401 Unauthorized", "", "your key sk-hush is wrong")).await;
    let mut alone = Alone::new(refusing);
    alone.set("OPENAI_API_KEY", "sk-hush");
    let said = doctor(alone.settings()).await;
    assert_eq!(said.code, 1);
    let (state, words, mend) = said.of("model at 127.0.0.1");
    assert_eq!((state, words), ("failed", "refused with status 401"));
    assert!(mend.contains("key"), "{mend}");
    assert!(!said.text.contains("hush"), "{}", said.text);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = doctor(Alone::new(nobody).settings()).await;
    let (state, words, mend) = said.of("model at 127.0.0.1");
    assert_eq!(state, "failed");
    assert!(words.contains("refused") && mend.contains("firewall"), "{words}: {mend}");
    // No relay serves there either, and that alone is no failure of the settings.
    assert_eq!(said.of("this relay").0, "warning");
    assert_eq!(said.of("a carrier's handshake").0, "failed");
}

#[tokio::test]
async fn a_front_that_passes_upgrades_through_is_recognised_by_the_relays_own_words() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    let signatures = alone.file("signatures.json", "[\"good=\"]");
    alone.set("RELAY_SIGNATURES_FILE", &signatures);
    let relay = alone.start().await;
    let to = relay.public;
    let front = front(move |tcp| Behind { tcp, to: To::Relay(to) }).await;
    let root = alone.file("root.pem", &front.root);

    let mut given = joined(front.address.port());
    let said = doctor(&given).await;
    let (state, words, mend) = said.of("a carrier's handshake");
    assert_eq!(state, "failed", "without its root");
    assert!(words.contains("TLS fails") && mend.contains("whole chain"), "{words}: {mend}");

    given.push(("SSL_CERT_FILE".into(), root));
    let said = doctor(&given).await;
    let (state, words, _) = said.of("a carrier's handshake");
    assert_eq!(state, "ok", "{}", said.text);
    assert!(words.ends_with("The signature is wrong."), "{words}");
    assert_eq!(said.of("public URL").0, "warning", "no carrier reaches localhost");
    let (state, words, _) = said.of("control's link");
    assert_eq!(state, "failed");
    assert!(words.starts_with("127.0.0.1:9: "), "{words}");
    assert_eq!(said.code, 1);
    assert!(!said.text.contains("hush"), "{}", said.text);
}

#[tokio::test]
async fn each_way_in_which_a_front_loses_a_stream_has_its_own_remedy() {
    let lost =
        http("426 Upgrade Required", "", "This is where media streams connect, by WebSocket.\n");
    let cases = [
        (lost, "without its upgrade", "proxy_http_version"),
        (http("404 Not Found", "", "There is no such node here.\n"), "another relay", "public URL"),
        (
            http("502 Bad Gateway", "server: nginx\r\n", "no"),
            "something else answers (nginx): status 502",
            "RELAY_LISTEN",
        ),
        (http("200 OK", "", "welcome"), "something else answers: status 200", "this path"),
        ("what\r\n\r\n".to_owned(), "no answer", "speaks no HTTP"),
    ];
    let folder = tempfile::TempDir::new().unwrap();
    for (n, (text, expected, remedy)) in cases.into_iter().enumerate() {
        let front = front(move |tcp| Behind { tcp, to: To::Answer(text.clone()) }).await;
        let root = folder.path().join(format!("{n}.pem"));
        std::fs::write(&root, &front.root).unwrap();
        let mut given = joined(front.address.port());
        given.push(("SSL_CERT_FILE".into(), root.to_str().unwrap().to_owned()));
        let said = doctor(&given).await;
        let (state, words, mend) = said.of("a carrier's handshake");
        assert_eq!(state, "failed");
        assert!(words.contains(expected), "{words}");
        assert!(mend.contains(remedy), "{mend}");
    }
}

#[tokio::test]
async fn controls_date_shows_a_clock_that_is_wrong() {
    let model = Model::start().await;
    let control =
        answers(http("404 Not Found", "date: Mon, 02 Nov 2026 08:00:00 GMT\r\n", "")).await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_CONTROL_HTTP_URL", &format!("http://{control}"));
    let said = doctor(alone.settings()).await;
    assert_eq!(said.of("control's HTTP").0, "ok");
    let (state, words, _) = said.of("clock");
    assert_eq!(state, "failed");
    assert!(words.ends_with("tickets are refused"), "{words}");
}

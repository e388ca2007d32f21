//! What the process tests share: the real binary, a carrier's side that opens streams, and a model
//! that only agrees to the session. Written from the wire formats, not from the relay's code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use link::id::{AgentName, CallId, Gen, NodeId, TenantId};
use link::ticket::{Bearer, Claims, SigningKey};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes in time")
}

/// A model's service on loopback that says yes to every session and nothing more.
pub(crate) struct Model {
    pub(crate) address: SocketAddr,
    appends: watch::Sender<u64>,
    spoken: watch::Sender<u64>,
}

impl Model {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that makes out these words of each caller, and nothing more of them.
    pub(crate) async fn transcribing(words: &'static str) -> Self {
        Self::start_with(Some(words)).await
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own server, ended with its runtime")]
    async fn start_with(words: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, appends) = (listener.local_addr().unwrap(), watch::Sender::new(0));
        let spoken = watch::Sender::new(0);
        let counted = (appends.clone(), spoken.clone());
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(serve_session(tcp, counted.clone(), words));
            }
        });
        Self { address, appends, spoken }
    }

    /// Waits until caller audio has come so many times, over all sessions.
    pub(crate) async fn until_appends(&self, count: u64) {
        within(self.appends.subscribe().wait_for(|appends| *appends >= count)).await.unwrap();
    }

    /// Waits until so many samples that are not silence have come, over all sessions.
    pub(crate) async fn until_spoken(&self, count: u64) {
        within(self.spoken.subscribe().wait_for(|spoken| *spoken >= count)).await.unwrap();
    }

    /// Samples that are not silence, over all sessions.
    pub(crate) fn spoken(&self) -> u64 {
        *self.spoken.borrow()
    }
}

async fn serve_session(
    tcp: TcpStream,
    (appends, spoken): (watch::Sender<u64>, watch::Sender<u64>),
    words: Option<&'static str>,
) {
    let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
    let format = serde_json::json!({"format": {"type": "audio/pcmu"}});
    let session = serde_json::json!({"audio": {"input": format, "output": format}});
    let created = serde_json::json!({"type": "session.created", "session": session});
    let updated = serde_json::json!({"type": "session.updated", "session": session});
    if socket.send(Message::text(created.to_string())).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            // A call may be over before its session is ready.
            "session.update" => {
                drop(socket.send(Message::text(updated.to_string())).await);
                if let Some(words) = words {
                    let said = serde_json::json!({
                        "type": "conversation.item.input_audio_transcription.delta",
                        "item_id": "item_1", "content_index": 0, "delta": words,
                    });
                    drop(socket.send(Message::text(said.to_string())).await);
                }
            }
            "input_audio_buffer.append" => {
                let mut audio = Vec::new();
                let payload = message["audio"].as_str().unwrap();
                codec::base64::decode(payload.as_bytes(), &mut audio).unwrap();
                let heard = audio.iter().filter(|sample| **sample != 0xFF).count();
                spoken.send_modify(|count| *count += u64::try_from(heard).unwrap());
                appends.send_modify(|count| *count += 1);
            }
            _ => {}
        }
    }
}

/// The files of a relay that runs alone, and the key that its tickets are signed with.
pub(crate) struct Alone {
    folder: TempDir,
    pub(crate) key: SigningKey,
    settings: Vec<(String, String)>,
}

impl Alone {
    pub(crate) fn new(model: SocketAddr) -> Self {
        let key = SigningKey::generate("k1").unwrap();
        let mut alone = Self { folder: TempDir::new().unwrap(), key, settings: Vec::new() };
        let keys = serde_json::to_string(&[alone.key.verifying()]).unwrap();
        let keys = alone.file("keys.json", &keys);
        let agents = alone.file("agents.toml", &agent_file(model));
        alone.set("RELAY_TICKET_KEY_FILE", &keys);
        alone.set("RELAY_AGENT_FILE", &agents);
        alone
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// What the relay would be started with.
    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    pub(crate) async fn start(&self) -> Relay {
        Relay::start(&self.settings).await
    }

    pub(crate) async fn start_with_files(&self, files_max: u32) -> Relay {
        Relay::start_with_files(&self.settings, files_max).await
    }

    /// A ticket for the node of these tests.
    pub(crate) fn ticket(&self, change: impl FnOnce(&mut Claims)) -> String {
        ticket(&self.key, change)
    }
}

/// An agent file whose only agent speaks through the model at this address.
pub(crate) fn agent_file(model: SocketAddr) -> String {
    format!(
        "[[agent]]\nname = \"front-desk\"\ninstructions = \"You answer the phone.\"\n\
         [agent.provider]\nkind = \"openai_realtime\"\nurl = \"ws://{model}/v1/realtime\"\n"
    )
}

/// A ticket for the node of these tests; each call of this makes another call.
pub(crate) fn ticket(key: &SigningKey, change: impl FnOnce(&mut Claims)) -> String {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    let n = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut claims = Claims {
        bearer: carrier(CALL_SID),
        call: CallId::new(format!("c_{n}")).unwrap(),
        tenant: TenantId::new("default").unwrap(),
        node: NodeId::new(NODE).unwrap(),
        generation: Gen(0),
        agent: AgentName::new("front-desk").unwrap(),
        agent_version: 1,
        jti: format!("{n:032x}"),
        issued_at: now_seconds(),
        expires_at: now_seconds() + 60,
    };
    change(&mut claims);
    key.issue(&claims).unwrap()
}

/// Who a carrier's ticket is for.
pub(crate) fn carrier(call_sid: &str) -> Bearer {
    Bearer::Carrier { call_sid: call_sid.into() }
}

/// Who a page's token is for.
pub(crate) fn page(origin: Option<&str>) -> Bearer {
    Bearer::Page { origin: origin.map(str::to_owned) }
}

pub(crate) const NODE: &str = "n1";
pub(crate) const CALL_SID: &str = "CA00000000000000000000000000000001";

#[expect(clippy::disallowed_methods, reason = "tickets are issued at the real time")]
pub(crate) fn now_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// The real process. Killed when it is dropped; its log is shown when the test fails.
pub(crate) struct Relay {
    child: Option<Child>,
    pid: u32,
    log: PathBuf,
    _log_folder: TempDir,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Relay {
    /// Starts it with these settings on ports of its own choice, and waits for its line.
    pub(crate) async fn start(settings: &[(String, String)]) -> Self {
        Self::run(std::process::Command::new(env!("CARGO_BIN_EXE_relay")), settings).await
    }

    /// Starts it with a limit of open files, below which it cannot raise its own.
    pub(crate) async fn start_with_files(settings: &[(String, String)], files_max: u32) -> Self {
        let mut shell = std::process::Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_relay");
        shell.arg("-c").arg(format!("ulimit -n {files_max} && exec '{binary}'"));
        Self::run(shell, settings).await
    }

    /// Starts it with the public port's socket passed on, as a service manager does.
    pub(crate) async fn start_with_socket(
        settings: &[(String, String)],
        socket: std::net::TcpListener,
    ) -> Self {
        let mut shell = std::process::Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_relay");
        let words = "export LISTEN_FDS=1 LISTEN_PID=$$; exec";
        shell.arg("-c").arg(format!("{words} '{binary}' 3<&0"));
        shell.stdin(Stdio::from(OwnedFd::from(socket)));
        Self::run(shell, settings).await
    }

    async fn run(mut command: std::process::Command, settings: &[(String, String)]) -> Self {
        let log_folder = TempDir::new().unwrap();
        let log = log_folder.path().join("log");
        let mut child = command
            .env_clear()
            .envs([
                ("RELAY_NODE", NODE),
                ("RELAY_LISTEN", "127.0.0.1:0"),
                ("RELAY_ADMIN_LISTEN", "127.0.0.1:0"),
                ("RELAY_LOG", "info,relay=debug"),
            ])
            .envs(settings.iter().cloned())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let line = blocking(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            (line, out)
        });
        let (line, _) = within(line).await;
        let port = |name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.unwrap_or_else(|| panic!("{name} is missing in {line:?}")).parse().unwrap()
        };
        assert!(line.starts_with("relay listening public=127.0.0.1:"), "{line:?}");
        let (public, admin) = (port("public="), port("admin="));
        let pid = child.id();
        Self { child: Some(child), pid, log, _log_folder: log_folder, public, admin }
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").arg(name).arg(self.pid.to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end of the process.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        within(blocking(move || child.wait().unwrap())).await
    }

    /// Resident bytes of the process.
    pub(crate) fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap();
        let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * u64::try_from(rustix::param::page_size()).unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// What the process has logged so far.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.log).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until the log holds these words.
    pub(crate) async fn until_log(&self, words: &str) {
        within(async {
            while !self.log().contains(words) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Asks the admin address.
    pub(crate) async fn ask(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await
    }

    /// Asks the admin address until it answers so.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(u16, &str) -> bool) {
        within(async {
            loop {
                let (status, body) = self.ask(path).await;
                if is_so(status, &body) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until a metric has this value.
    pub(crate) async fn until_metric(&self, line: &str) {
        self.until("/metrics", |_, page| page.lines().any(|found| found == line)).await;
    }

    /// Opens a stream as a carrier does.
    pub(crate) async fn open(&self, signature: Option<&str>) -> Result<Carrier, u16> {
        let tcp = TcpStream::connect(self.public).await.unwrap();
        open_over(tcp, NODE, signature).await
    }

    /// Opens a stream and begins it with a ticket.
    pub(crate) async fn begin(&self, ticket: &str) -> Carrier {
        let mut carrier = self.open(None).await.unwrap();
        carrier.say(&start(ticket)).await;
        carrier
    }
}

impl Drop for Relay {
    #[expect(clippy::print_stdout, reason = "a failed test shows what the process said")]
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("--- the relay's log\n{}", self.log());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for a process beside the test's own sockets")]
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// One GET on a fresh connection.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The carrier's end of a stream.
pub(crate) struct Carrier<S = TcpStream> {
    socket: WebSocketStream<S>,
}

/// Asks for a stream over a connection; gives the status when it is not 101.
pub(crate) async fn open_over<S>(
    stream: S,
    node: &str,
    signature: Option<&str>,
) -> Result<Carrier<S>, u16>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut request = format!("ws://relay.test/v1/m/{node}").into_client_request().unwrap();
    if let Some(signature) = signature {
        request.headers_mut().insert("x-twilio-signature", signature.parse().unwrap());
    }
    match within(tokio_tungstenite::client_async(request, stream)).await {
        Ok((socket, _)) => Ok(Carrier { socket }),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("neither a stream nor an answer: {error}"),
    }
}

impl<S> Carrier<S>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Reads until the relay closes, and gives the code; 1006 when it was cut.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return 1006,
            }
        }
    }

    /// Ends the stream as a carrier does when the caller hangs up.
    pub(crate) async fn hang_up(&mut self) {
        let stop = r#"{"event":"stop","sequenceNumber":"9","streamSid":"MZ1","stop":{"accountSid":"AC1","callSid":"CA1"}}"#;
        self.say(stop).await;
        let _ = self.socket.close(None).await;
    }
}

/// A TLS client that trusts this certificate and no other.
pub(crate) fn trusting(root: &CertificateDer<'static>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// 20 ms of silence from the caller.
pub(crate) fn media(chunk: u64) -> String {
    let payload = "/".repeat(213) + "/w==";
    let payload = payload.strip_prefix('/').unwrap();
    serde_json::json!({
        "event": "media", "sequenceNumber": (chunk + 1).to_string(), "streamSid": "MZ1",
        "media": {
            "track": "inbound", "chunk": chunk.to_string(),
            "timestamp": ((chunk - 1) * 20).to_string(), "payload": payload,
        },
    })
    .to_string()
}

/// 20 ms of the caller's voice: 160 samples that are not silence.
pub(crate) fn voice(chunk: u64) -> String {
    media(chunk).replace(&"/".repeat(212), &"V".repeat(212)).replace("/w==", "VQ==")
}

/// The `start` of a stream with a ticket.
pub(crate) fn start(ticket: &str) -> String {
    start_with(serde_json::json!({"ticket": ticket}), "audio/x-mulaw")
}

pub(crate) fn start_with(parameters: serde_json::Value, encoding: &str) -> String {
    serde_json::json!({
        "event": "start", "sequenceNumber": "1", "streamSid": "MZ1",
        "start": {
            "streamSid": "MZ1", "accountSid": "AC1", "callSid": CALL_SID, "tracks": ["inbound"],
            "customParameters": parameters,
            "mediaFormat": {"encoding": encoding, "sampleRate": 8_000, "channels": 1},
        },
    })
    .to_string()
}

//! The real binary, as an operator runs it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use link::join::JoinToken;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::web::{ACCOUNT, AGENTS, API_KEY, ORIGIN, TOKEN};

fn control(folder: &Path) -> Command {
    set(Command::new(env!("CARGO_BIN_EXE_control")), folder)
}

/// Gives a command the environment of a control.
fn set(mut command: Command, folder: &Path) -> Command {
    command
        .env_clear()
        .env("CONTROL_DATA_DIR", folder.join("data"))
        .env("CONTROL_LINK_LISTEN", "127.0.0.1:0")
        .kill_on_drop(true);
    command
}

/// A control that serves, in a process of its own.
struct Served {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    link: SocketAddr,
}

async fn serve(folder: &Path) -> Served {
    serve_by(control(folder), folder).await
}

/// The same, by a command that ends in the binary.
async fn serve_by(mut command: Command, folder: &Path) -> Served {
    let agents = folder.join("agents.toml");
    std::fs::write(&agents, AGENTS).unwrap();
    let mut child = command
        .env("CONTROL_LISTEN", "127.0.0.1:0")
        .env("CONTROL_ADMIN_LISTEN", "127.0.0.1:0")
        .env("CONTROL_PUBLIC_URL", ORIGIN)
        .env("CONTROL_API_KEYS", API_KEY)
        .env("TWILIO_PHONE_NUMBER", "+15550100")
        .env("CONTROL_AGENT_FILE", agents)
        .env("CONTROL_JOIN_TOKEN_FILE", folder.join("join-token"))
        .env("TWILIO_ACCOUNT_SID", ACCOUNT)
        .env("TWILIO_AUTH_TOKEN", TOKEN)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap().unwrap();
    let mut words = line.strip_prefix("control listening ").unwrap().split(' ');
    let mut address = |name: &str| {
        let word = words.next().unwrap().strip_prefix(name).unwrap();
        word.strip_prefix('=').unwrap().parse().unwrap()
    };
    let (http, admin, link) = (address("http"), address("admin"), address("link"));
    Served { child, http, admin, link }
}

impl Served {
    async fn stop(mut self) -> i32 {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(&pid).status().await.unwrap().success());
        let status = timeout(Duration::from_secs(12), self.child.wait()).await.unwrap().unwrap();
        status.code().unwrap()
    }

    async fn admin(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.admin)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

#[tokio::test]
async fn a_socket_that_is_passed_on_outlives_the_process_and_systemd_is_told() {
    let folder = TempDir::new().unwrap();
    let notify = tokio::net::UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let start = async |more: &[(&str, &Path)]| {
        let mut command = set(Command::new("sh"), folder.path());
        let binary = env!("CARGO_BIN_EXE_control");
        let words = "export LISTEN_FDS=1 LISTEN_PID=$$; exec";
        command.arg("-c").arg(format!("{words} '{binary}' 3<&0"));
        command.stdin(Stdio::from(OwnedFd::from(held.try_clone().unwrap())));
        command.envs(more.iter().copied());
        serve_by(command, folder.path()).await
    };
    let told = async |word: &str| {
        let mut bytes = [0; 256];
        let mut lines = String::new();
        while !lines.lines().any(|line| line == word) {
            let length = timeout(Duration::from_secs(20), notify.recv(&mut bytes)).await;
            lines = String::from_utf8(bytes[..length.unwrap().unwrap()].to_vec()).unwrap();
        }
    };
    let socket = folder.path().join("notify");
    let told_of = [("NOTIFY_SOCKET", &*socket), ("WATCHDOG_USEC", Path::new("2000000"))];
    let served = start(&told_of).await;
    assert_eq!(served.http, address);
    told("READY=1").await;
    told("WATCHDOG=1").await;
    told("WATCHDOG=1").await;
    assert_eq!(served.stop().await, 0);
    told("STOPPING=1").await;
    // Nobody serves, and nobody is refused: it waits for the next process.
    let ask = async {
        let url = format!("http://{address}/v1/calls");
        Client::new().get(url).bearer_auth(API_KEY).send().await.unwrap().status().as_u16()
    };
    let (status, served) = tokio::join!(ask, start(&[]));
    assert_eq!(status, 200);
    assert_eq!(served.stop().await, 0);
}

fn token_of(folder: &Path) -> JoinToken {
    JoinToken::from_line(&std::fs::read_to_string(folder.join("join-token")).unwrap()).unwrap()
}

#[tokio::test]
async fn wrong_settings_are_all_named_and_the_exit_code_is_64() {
    let folder = TempDir::new().unwrap();
    let mut command = control(folder.path());
    command.env("CONTROL_API_KEYS", "hunter2").env("CONTROL_LISTEN", "here");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    for name in ["CONTROL_PUBLIC_URL", "CONTROL_API_KEYS", "CONTROL_LISTEN", "TWILIO_AUTH_TOKEN"] {
        assert!(said.contains(name), "{name} is missing in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn the_tables_and_the_version_are_printed_without_any_setting() {
    for (word, part) in
        [("config", "CONTROL_PUBLIC_URL"), ("metrics", "control_nodes"), ("--version", "control 0")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_control")).env_clear().arg(word).output();
        let output = output.await.unwrap();
        assert!(output.status.success(), "{word}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(part), "{word}");
    }
}

#[tokio::test]
async fn the_process_serves_keeps_its_secrets_private_and_stays_small() {
    let folder = TempDir::new().unwrap();
    let served = serve(folder.path()).await;
    assert_eq!(served.admin("/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(served.admin("/readyz").await, (200, "ready\n".to_owned()));
    let (_, health) = served.admin("/health").await;
    assert!(health.contains(r#""status":"ready""#), "{health}");
    let (_, metrics) = served.admin("/metrics").await;
    assert!(metrics.contains("control_nodes 0") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(served.admin("/v1/calls").await.0, 404, "the API is not on the admin address");

    let mode = |path: &str| folder.path().join(path).metadata().unwrap().permissions().mode();
    assert_eq!(mode("data") & 0o777, 0o700);
    assert_eq!(mode("data/secret.key") & 0o777, 0o600);
    assert_eq!(mode("join-token") & 0o777, 0o600);
    assert_eq!(token_of(folder.path()).address, served.link.to_string());

    let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.id().unwrap()));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kib < 48 * 1024, "{kib} KiB at rest");
    assert_eq!(served.stop().await, 0);
}

#[tokio::test]
async fn a_stop_ends_open_event_streams_and_is_clean() {
    let folder = TempDir::new().unwrap();
    let served = serve(folder.path()).await;
    let url = format!("http://{}/v1/events", served.http);
    let mut stream = Client::new().get(url).bearer_auth(API_KEY).send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    assert_eq!(served.stop().await, 0);
    let mut rest = String::new();
    while let Some(piece) = stream.chunk().await.unwrap() {
        rest += std::str::from_utf8(&piece).unwrap();
    }
    assert!(rest.contains("this server stops"), "{rest}");
}

#[tokio::test]
async fn a_restart_keeps_the_authority_the_keys_and_the_calls() {
    let folder = TempDir::new().unwrap();
    let served = serve(folder.path()).await;
    let before = token_of(folder.path());
    let fields = super::web::inbound("CA1");
    let mut target = "/v1/twilio/voice".to_owned();
    // A relay might come yet: the carrier is asked to ask again, a few times.
    let twiml = loop {
        let url = format!("http://{}{target}", served.http);
        let signature = super::web::sign(&format!("{ORIGIN}{target}"), &fields);
        let hook = Client::new().post(url).form(&fields).header("X-Twilio-Signature", signature);
        let twiml = hook.send().await.unwrap().text().await.unwrap();
        if !twiml.contains("</Redirect>") {
            break twiml;
        }
        target = super::web::between(&twiml, &format!(">{ORIGIN}"), "#").to_owned();
    };
    assert!(twiml.contains("<Reject"), "there is no relay: {twiml}");

    // Printed beside a running control, and by one that does not run.
    let printed = || async {
        let mut command = control(folder.path());
        command.arg("join-token").env("CONTROL_LINK_ADDRESS", "control.internal:7443");
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        JoinToken::from_line(&String::from_utf8(output.stdout).unwrap()).unwrap()
    };
    let token = printed().await;
    assert_eq!(token.address, "control.internal:7443");
    assert_eq!((&token.ca, token.secret.reveal()), (&before.ca, before.secret.reveal()));
    assert_eq!(served.stop().await, 0);
    assert_eq!(printed().await.ca, before.ca);

    let served = serve(folder.path()).await;
    let after = token_of(folder.path());
    assert_eq!((&after.ca, after.secret.reveal()), (&before.ca, before.secret.reveal()));
    let url = format!("http://{}/v1/calls", served.http);
    let calls = Client::new().get(url).bearer_auth(API_KEY).send().await.unwrap();
    assert!(calls.text().await.unwrap().contains(r#""end_reason":"no_node""#));
    // The number of the settings is there from the first start on, once.
    let url = format!("http://{}/v1/numbers", served.http);
    let numbers = Client::new().get(url).bearer_auth(API_KEY).send().await.unwrap();
    let numbers = numbers.text().await.unwrap();
    assert_eq!(numbers.matches(r#""number":"+15550100""#).count(), 1, "{numbers}");
    assert_eq!(served.stop().await, 0);
}

/// What a command printed; it must have succeeded.
async fn printed(folder: &Path, words: &[&str]) -> String {
    let output = control(folder).args(words).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_operator_changes_signing_keys_at_once_beside_a_control_that_runs() {
    let folder = TempDir::new().unwrap();
    let served = serve(folder.path()).await;
    let folder = folder.path();
    let listed = async || {
        let lines = printed(folder, &["signing-key", "list"]).await;
        let keys = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        keys.map(|key| (key["ring"].clone(), key["number"].clone())).collect::<Vec<_>>()
    };
    let key = |ring: &str, number: u32| (json!(ring), json!(number));
    assert_eq!(listed().await, [key("ticket", 1), key("pass", 1)]);
    printed(folder, &["signing-key", "rotate", "--ring", "ticket"]).await;
    assert_eq!(listed().await, [key("ticket", 2), key("pass", 1)]);
    let said = printed(folder, &["signing-key", "rotate"]).await;
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(listed().await, [key("ticket", 3), key("pass", 2)]);
    let wrong =
        control(folder).args(["signing-key", "rotate", "--ring", "gold"]).output().await.unwrap();
    assert!(!wrong.status.success() && !wrong.stderr.is_empty());
    let url = format!("http://{}/v1/audit", served.http);
    let log = Client::new().get(url).bearer_auth(API_KEY).send().await.unwrap();
    let log = log.text().await.unwrap();
    assert_eq!(log.matches("signing_key.rotated").count(), 3, "{log}");
    assert_eq!(served.stop().await, 0);
}

#[tokio::test]
async fn the_operator_makes_tenants_and_keys_and_a_revocation_holds_within_five_seconds() {
    let folder = TempDir::new().unwrap();
    let served = serve(folder.path()).await;
    let folder = folder.path();
    printed(folder, &["tenant", "create", "acme"]).await;
    let again = control(folder).args(["tenant", "create", "acme"]).output().await.unwrap();
    assert!(!again.status.success());
    let set =
        ["tenant", "set", "acme", "--origins", "https://app.example", "--countries", "+49,+1"];
    let shown = printed(folder, &set).await;
    assert!(shown.contains(r#""countries":["+49","+1"]"#), "{shown}");
    assert!(shown.contains(r#""origins":["https://app.example"]"#), "{shown}");
    let listed = printed(folder, &["tenant", "list"]).await;
    assert_eq!(listed.lines().count(), 2, "{listed}");

    let make = ["key", "create", "--tenant", "acme", "--name", "web", "--scopes", "events:read"];
    let key = printed(folder, &make).await;
    let (key, url) = (key.trim(), format!("http://{}/v1/events", served.http));
    let mut stream = Client::new().get(&url).bearer_auth(key).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.unwrap().is_some());

    let id = key.split('_').nth(2).unwrap();
    printed(folder, &["key", "revoke", "--tenant", "acme", id]).await;
    let ended = async { while stream.chunk().await.unwrap().is_some() {} };
    timeout(Duration::from_secs(5), ended).await.expect("a revocation holds within five seconds");
    let refused = Client::new().get(&url).bearer_auth(key).send().await.unwrap();
    assert!(refused.text().await.unwrap().contains("api_key_revoked"));
    let listed = printed(folder, &["key", "list", "--tenant", "acme"]).await;
    assert!(listed.contains(id) && !listed.contains(key), "{listed}");
    for wrong in [
        ["key", "revoke", "--tenant", "acme", "nobody"].as_slice(),
        &["key", "create", "--tenant", "nobody", "--name", "x"],
        &["key", "create", "--name", "x", "--scopes", "songs:read"],
        &["tenant", "set", "acme", "--origins", "app.example"],
        &["tenant", "set", "nobody", "--calls-max", "1"],
    ] {
        let output = control(folder).args(wrong).output().await.unwrap();
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}");
    }
    assert_eq!(served.stop().await, 0);
}

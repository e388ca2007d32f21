//! Settings: everything wrong is said at once, and a secret never.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use link::join::JoinToken;
use link::secret::Secret;
use link::ticket::SigningKey;
use relay::call::input::Batch;
use relay::config::{self, Environment, Mistakes, Mode};
use relay::shard::UplinkPace;
use tempfile::TempDir;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn mistakes(pairs: &[(&str, &str)]) -> Mistakes {
    config::read(&environment(pairs)).map(|_| ()).unwrap_err()
}

fn names(mistakes: &Mistakes) -> Vec<&'static str> {
    mistakes.0.iter().map(|mistake| mistake.name).collect()
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path
}

const AGENTS: &str = r#"
[[agent]]
name = "front-desk"
instructions = "You answer the phone."
[agent.provider]
kind = "openai_realtime"
url = "ws://127.0.0.1:1/v1/realtime"
"#;

struct Files {
    _folder: TempDir,
    keys: String,
    agents: String,
}

fn files() -> Files {
    let folder = TempDir::new().unwrap();
    let key = SigningKey::generate("k1").unwrap().verifying();
    let keys = file(&folder, "keys.json", &serde_json::to_string(&[key]).unwrap());
    let agents = file(&folder, "agents.toml", AGENTS);
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    Files { keys: text(keys), agents: text(agents), _folder: folder }
}

fn token() -> String {
    let ca = rcgen::generate_simple_self_signed(vec!["control.linecard.internal".into()]).unwrap();
    let token = JoinToken::new("127.0.0.1:7443", ca.cert.der(), Secret::new("hush"));
    token.to_line().reveal().to_owned()
}

#[test]
fn all_mistakes_are_listed_at_once() {
    let found = mistakes(&[
        ("RELAY_NODE", "a node"),
        ("RELAY_LISTEN", "8080"),
        ("RELAY_TLS_CERT_FILE", "/nowhere/cert.pem"),
        ("RELAY_TOOLS_ALLOW", "10.0.0.1/8, tools.internal"),
        ("RELAY_SHARDS", "0"),
        ("RELAY_PLAYOUT_LEAD_MS", "1001"),
        ("RELAY_SPARE_AGENTS", "101"),
        ("RELAY_LOG_FORMAT", "xml"),
    ]);
    let expected = [
        "RELAY_NODE",
        "RELAY_LISTEN",
        "RELAY_JOIN_TOKEN",
        "RELAY_TLS_KEY_FILE",
        "RELAY_TOOLS_ALLOW",
        "RELAY_SHARDS",
        "RELAY_PLAYOUT_LEAD_MS",
        "RELAY_SPARE_AGENTS",
        "RELAY_LOG_FORMAT",
    ];
    assert_eq!(names(&found), expected);
    let page = found.to_string();
    assert!(page.contains("RELAY_SHARDS: `0` is not 1 to 256"), "{page}");
    assert!(page.contains("RELAY_LISTEN: `8080` is not address:port"), "{page}");
}

#[test]
fn a_node_joins_with_a_token_and_its_public_url() {
    let token = token();
    let joins = [("RELAY_NODE", "n1"), ("RELAY_JOIN_TOKEN", token.as_str())];
    assert_eq!(names(&mistakes(&joins)), ["RELAY_PUBLIC_URL"]);
    for bad in ["https://host", "wss://", "wss://host/path", "wss://host?x", "wss://u@host", "host"]
    {
        let with = [joins[0], joins[1], ("RELAY_PUBLIC_URL", bad)];
        assert_eq!(names(&mistakes(&with)), ["RELAY_PUBLIC_URL"], "{bad}");
    }
    let with = [joins[0], joins[1], ("RELAY_PUBLIC_URL", "wss://relay.example:8443/")];
    let (config, _) = config::read(&environment(&with)).unwrap();
    let Mode::Joined(joined) = config.mode else { panic!("it joins") };
    assert_eq!(joined.public_url, "wss://relay.example:8443");
    assert_eq!(config.drain_max, Duration::from_secs(200));
    assert_eq!(config.playout_lead, Duration::from_millis(400));
    assert_eq!(u64::from(config.calls_max), 500 * config.shards as u64);
}

#[test]
fn callers_audio_is_joined_as_the_settings_say() {
    let files = files();
    let paced = |ms, how| {
        let alone = [
            ("RELAY_NODE", "n1"),
            ("RELAY_TICKET_KEY_FILE", files.keys.as_str()),
            ("RELAY_AGENT_FILE", files.agents.as_str()),
            ("RELAY_UPLINK_BATCH_MS", ms),
            ("RELAY_UPLINK_BATCH", how),
        ];
        config::read(&environment(&alone)).map(|(config, _)| config.uplink)
    };
    let sixty = Duration::from_millis(60);
    assert_eq!(paced("", "").unwrap(), UplinkPace::WhenLate(Batch::Reads(sixty)));
    assert_eq!(paced("20", "reads").unwrap(), UplinkPace::Always(Batch::Off));
    assert_eq!(paced("60", "writes").unwrap(), UplinkPace::Always(Batch::Writes(sixty)));
    assert_eq!(names(&paced("30", "").unwrap_err()), ["RELAY_UPLINK_BATCH_MS"]);
    assert_eq!(names(&paced("", "read").unwrap_err()), ["RELAY_UPLINK_BATCH"]);
}

#[test]
fn a_node_alone_needs_keys_and_agents() {
    let files = files();
    let keys = [("RELAY_NODE", "n1"), ("RELAY_TICKET_KEY_FILE", files.keys.as_str())];
    assert_eq!(names(&mistakes(&keys)), ["RELAY_AGENT_FILE"]);
    let both = [keys[0], keys[1], ("RELAY_AGENT_FILE", files.agents.as_str())];
    let (config, _) = config::read(&environment(&both)).unwrap();
    let Mode::Alone(alone) = config.mode else { panic!("it runs alone") };
    assert_eq!(alone.agents[0].name.as_str(), "front-desk");
    let swapped = [keys[0], ("RELAY_TICKET_KEY_FILE", both[2].1), ("RELAY_AGENT_FILE", keys[1].1)];
    assert_eq!(names(&mistakes(&swapped)), ["RELAY_TICKET_KEY_FILE", "RELAY_AGENT_FILE"]);
}

#[test]
fn a_node_that_joins_takes_no_files_of_one_that_runs_alone() {
    let (files, token) = (files(), token());
    let found = mistakes(&[
        ("RELAY_NODE", "n1"),
        ("RELAY_JOIN_TOKEN", &token),
        ("RELAY_PUBLIC_URL", "wss://relay.example"),
        ("RELAY_AGENT_FILE", &files.agents),
    ]);
    assert_eq!(names(&found), ["RELAY_AGENT_FILE"]);
}

#[test]
fn no_secret_is_repeated() {
    let folder = TempDir::new().unwrap();
    let signatures = file(&folder, "signatures.json", "[\"hush-signature\", 7]");
    let files = files();
    let alone = mistakes(&[
        ("RELAY_NODE", "n1"),
        ("RELAY_TICKET_KEY_FILE", &files.keys),
        ("RELAY_AGENT_FILE", &files.agents),
        ("RELAY_SIGNATURES_FILE", signatures.to_str().unwrap()),
        ("OPENAI_API_KEY", "hush-key"),
    ]);
    assert_eq!(names(&alone), ["RELAY_SIGNATURES_FILE"]);
    let joined = mistakes(&[("RELAY_NODE", "n1"), ("RELAY_JOIN_TOKEN", "lcjoin1_hush-token")]);
    assert!(!format!("{alone}{joined}{alone:?}{joined:?}").contains("hush"), "{alone}{joined}");
}

#[test]
fn a_misspelt_name_is_found() {
    let environment = environment(&[("RELAY_NODES", "x"), ("RELAY_NODE", "x"), ("HOME", "/")]);
    assert_eq!(config::unknown(&environment).collect::<Vec<_>>(), ["RELAY_NODES"]);
}

#[test]
fn the_process_lists_its_mistakes_and_exits_64() {
    let output = Command::new(env!("CARGO_BIN_EXE_relay"))
        .env_clear()
        .env("RELAY_LISTEN", "nowhere")
        .env("RELAY_JOIN_TOKEN", "hush")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let page = String::from_utf8(output.stderr).unwrap();
    for name in ["RELAY_NODE:", "RELAY_LISTEN:", "RELAY_JOIN_TOKEN:", "RELAY_PUBLIC_URL:"] {
        assert!(page.contains(name), "{name} is missing in\n{page}");
    }
    assert!(!page.contains("hush") && output.stdout.is_empty(), "{page}");
}

#[test]
fn the_tables_are_printed_by_the_binary() {
    let run = |argument: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_relay")).arg(argument).output().unwrap();
        assert!(output.status.success(), "{argument}");
        String::from_utf8(output.stdout).unwrap()
    };
    let settings = run("config");
    for setting in config::settings::SETTINGS {
        assert!(settings.contains(setting.name), "{}", setting.name);
    }
    assert!(run("metrics").contains("relay_streams_ended_total"));
    assert_eq!(run("--version").trim(), concat!("relay ", env!("CARGO_PKG_VERSION")));
}

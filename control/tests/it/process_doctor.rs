//! `control doctor`, run as a process beside loopback fakes: what it finds, what it says to do, and
//! that it shows no secret.

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::{Value, json};
use warp::{Filter as _, Reply as _};

use super::web::{ACCOUNT, ORIGIN};

const AUTH_TOKEN: &str = "secret-of-the-account";
const API_KEY: &str = "key-0123456789abcdef01234567";
const MODEL_KEY: &str = "sk-of-the-model";

const FALLBACKS: &str = "fallbacks of the account's numbers";

/// What a doctor said.
struct Said {
    code: i32,
    text: String,
    findings: Vec<Value>,
}

impl Said {
    /// How the thing of this name is, what was said of it, and what is to be done.
    fn of(&self, what: &str) -> Vec<(&str, &str, &str)> {
        let found = self.findings.iter().filter(|finding| finding["what"] == what);
        let word = |finding: &'_ Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let found: Vec<_> = found
            .map(|it| ["state", "words", "mend"].map(|key| word(it, key).leak() as &str))
            .map(|[state, words, mend]| (state, words, mend))
            .collect();
        assert!(!found.is_empty(), "nothing of {what} in {}", self.text);
        found
    }
}

async fn doctor(settings: Vec<(String, String)>) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_control"));
    command.args(["doctor", "--json"]).env_clear().envs(settings);
    command.env("CONTROL_DATA_DIR", folder.path());
    let output = command.output().await.unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let page: Value = serde_json::from_str(&text).unwrap();
    let findings = page["findings"].as_array().unwrap().clone();
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "it has made a file");
    Said { code: output.status.code().unwrap(), text, findings }
}

/// The carrier's API and the model's, as far as a doctor asks them.
fn fakes(number: Value, model: StatusCode) -> SocketAddr {
    let account = warp::path!("2010-04-01" / "Accounts" / String)
        .map(|_| warp::reply::json(&json!({"status": "active", "type": "Full"})).into_response());
    let numbers = warp::path!("2010-04-01" / "Accounts" / String / "IncomingPhoneNumbers.json")
        .map(move |_| {
            let numbers: Vec<&Value> =
                Some(&number).filter(|it| !it.is_null()).into_iter().collect();
            warp::reply::json(&json!({"incoming_phone_numbers": numbers})).into_response()
        });
    let models = warp::path!("v1" / "models" / String).map(move |_| model.into_response());
    let routes = numbers.or(account).unify().or(models).unify();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(warp::serve(routes).incoming(listener).run());
    address
}

fn settings(fakes: SocketAddr, folder: &std::path::Path) -> Vec<(String, String)> {
    let agents = folder.join("agents.toml");
    let text = format!(
        "[[agent]]\nname = \"desk\"\ninstructions = \"You answer.\"\n\
         provider = {{ kind = \"openai_realtime\", url = \"ws://{fakes}/v1/realtime\", model = \"m\" }}\n"
    );
    std::fs::write(&agents, text).unwrap();
    let api = format!("http://{fakes}");
    let pairs = [
        ("CONTROL_PUBLIC_URL", "https://hooks.invalid"),
        ("CONTROL_API_KEYS", API_KEY),
        ("CONTROL_AGENT_FILE", agents.to_str().unwrap()),
        ("CONTROL_ADMIN_LISTEN", "127.0.0.1:1"),
        ("CONTROL_FROM_NUMBER", "+15550100"),
        ("OPENAI_API_KEY", MODEL_KEY),
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_AUTH_TOKEN", AUTH_TOKEN),
        ("TWILIO_API_URL", &api),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let fakes = fakes(Value::Null, StatusCode::UNAUTHORIZED);
    let said = doctor(settings(fakes, folder.path())).await;
    assert_eq!(said.code, 1);
    assert_eq!(said.of("carrier's account")[0].0, "ok");
    assert!(said.of("number")[0].1.contains("does not own it"));
    let model = said.of("model of agent `desk` at 127.0.0.1")[0];
    assert_eq!((model.0, model.2), ("failed", "a good key in OPENAI_API_KEY"));
    assert_eq!(said.of("public address https://hooks.invalid")[0].0, "failed");
    assert_eq!(said.of("this control")[0].2, "start it");
    assert_eq!(said.of("database")[0].0, "ok");
    let paste = said.of("the number's page in the carrier's console")[0].1;
    assert!(paste.contains("POST https://hooks.invalid/v1/twilio/voice"), "{paste}");
    assert!(paste.contains("POST https://hooks.invalid/v1/twilio/status"), "{paste}");
    for secret in [AUTH_TOKEN, API_KEY, MODEL_KEY] {
        assert!(!said.text.contains(secret), "{}", said.text);
    }
}

#[tokio::test]
async fn a_number_that_leads_here_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let number = json!({
        "voice_url": "https://hooks.invalid/v1/twilio/voice",
        "status_callback": "",
        "voice_fallback_url": "https://handler.example/bin",
    });
    let said = doctor(settings(fakes(number, StatusCode::OK), folder.path())).await;
    let number = said.of("number");
    assert_eq!(number[0], ("ok", "its calls come here", ""));
    assert_eq!((number.len(), number[1].0), (2, "warning"));
    assert_eq!(said.of(FALLBACKS)[0].0, "ok");
    assert_eq!(said.of("model of agent `desk` at 127.0.0.1")[0].0, "ok");
}

#[tokio::test]
async fn a_number_whose_fallback_leads_here_or_nowhere_has_none() {
    for fallback in ["", "https://hooks.invalid/v1/twilio/voice"] {
        let folder = tempfile::tempdir().unwrap();
        let number = json!({
            "voice_url": "https://hooks.invalid/v1/twilio/voice?agent=desk",
            "voice_fallback_url": fallback,
        });
        let said = doctor(settings(fakes(number, StatusCode::OK), folder.path())).await;
        let (state, words, _) = said.of(FALLBACKS)[0];
        assert_eq!(state, "warning");
        assert!(words.contains("1 of 1"), "{words}");
    }
}

#[tokio::test]
async fn settings_that_are_wrong_are_all_told_and_nothing_else_is_looked_at() {
    let said = doctor(vec![("CONTROL_LISTEN".into(), "x".into())]).await;
    assert_eq!(said.code, 1);
    assert_eq!(said.of("CONTROL_LISTEN")[0].0, "failed");
    assert_eq!(said.of("TWILIO_AUTH_TOKEN")[0].0, "failed");
    assert!(said.findings.iter().all(|finding| finding["what"] != "database"));
    assert!(!said.text.contains(ORIGIN));
}

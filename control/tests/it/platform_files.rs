//! The files that platforms read of control: Fly's and systemd's. Each says what its settings allow.

use std::path::Path;

use control::config::{self, Environment};
use toml::Value;

fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn controls_fly_file_needs_nothing_but_secrets() {
    let file: Value = toml::from_str(&read("control/fly.toml")).unwrap();
    let relays: Value = toml::from_str(&read("fly.toml")).unwrap();
    let table = file["env"].as_table().unwrap();
    let env: Environment = table
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(config::unknown(&env).collect::<Vec<_>>(), [""; 0]);
    let missing = config::read(&env).map(drop).unwrap_err();
    let names: Vec<_> = missing.0.iter().map(|mistake| mistake.name).collect();
    assert_eq!(names, ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"]);

    let port = |name: &str| {
        let port = env[name].rsplit(':').next().unwrap();
        Some(port.parse::<i64>().unwrap())
    };
    assert_eq!(file["checks"]["ready"]["port"].as_integer(), port("CONTROL_ADMIN_LISTEN"));
    assert_eq!(file["checks"]["ready"]["path"].as_str(), Some("/readyz"));
    assert_eq!(file["metrics"]["port"].as_integer(), port("CONTROL_ADMIN_LISTEN"));
    assert_eq!(port("CONTROL_LINK_ADDRESS"), port("CONTROL_LINK_LISTEN"));
    assert!(file.get("http_service").is_none(), "the internet reaches relays only");
    assert_eq!(file["kill_signal"].as_str(), Some("SIGTERM"));
    assert!(file["kill_timeout"].as_integer() > Some(10), "requests have ten seconds to end");
    assert_eq!(file["restart"][0]["policy"].as_str(), Some("always"));

    // What relays forward finds control, under the name that relays have on the internet.
    let app = file["app"].as_str().unwrap();
    let (listen, to) = (port("CONTROL_LISTEN").unwrap(), &relays["env"]["RELAY_CONTROL_HTTP_URL"]);
    assert_eq!(to.as_str(), Some(&*format!("http://{app}.internal:{listen}")));
    let public = env["CONTROL_PUBLIC_URL"].replace("https://", "wss://");
    assert_eq!(relays["env"]["RELAY_PUBLIC_URL"].as_str(), Some(&*public));
}

#[test]
fn a_units_settings_and_credentials_exist() {
    let unit = read("systemd/linecard-control.service");
    for line in unit.lines().filter_map(|line| line.strip_prefix("Environment=")) {
        let name = line.split('=').next().unwrap();
        assert_eq!(config::settings::setting(name).name, name);
    }
    let drop_in = read("systemd/linecard-control.service.d/credentials.conf");
    let credentials: Vec<_> =
        drop_in.lines().filter_map(|line| line.strip_prefix("LoadCredentialEncrypted=")).collect();
    assert!(!credentials.is_empty());
    for line in credentials {
        let (name, path) = line.split_once(':').unwrap();
        let setting = config::settings::setting(name);
        assert!(matches!(setting.form, config::settings::Form::Secret(_)), "{name} is no secret");
        assert_eq!(path, format!("/etc/credstore.encrypted/{name}"));
    }
}

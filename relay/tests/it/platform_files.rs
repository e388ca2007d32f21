//! The files that platforms read: Fly's, its autoscaler's, systemd's. Each says what the settings of
//! the relay allow, and none contradicts another.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use relay::config::{self, Environment};
use toml::Value;

fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn fly(path: &str) -> Value {
    toml::from_str(&read(path)).unwrap()
}

/// What a file gives the process, each as the text that it becomes.
fn env(file: &Value) -> Environment {
    let table = file["env"].as_table().unwrap();
    table.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn number(text: &str) -> i64 {
    text.parse().unwrap()
}

#[test]
fn the_relays_fly_file_drains_and_never_stops_by_itself() {
    let file = fly("fly.toml");
    let env = env(&file);
    assert_eq!(file["kill_signal"].as_str(), Some("SIGTERM"));
    assert_eq!(file["kill_timeout"].as_integer(), Some(300));
    assert!(number(&env["RELAY_DRAIN_SECONDS"]) < 300 - 20, "no time to close what is left");
    assert_eq!(file["deploy"]["strategy"].as_str(), Some("bluegreen"));
    assert!(file.get("mounts").is_none(), "bluegreen takes no volumes");
    assert_eq!(file["restart"][0]["policy"].as_str(), Some("always"));
    let service = &file["http_service"];
    assert_eq!(service["auto_stop_machines"].as_str(), Some("off"));
    assert_eq!(service["auto_start_machines"].as_bool(), Some(false));
    assert!(service["min_machines_running"].as_integer() >= Some(2));
    // 70 and 95 in 100 of the connections that a relay takes.
    let connections = number(&env["RELAY_CALLS_MAX"]) + 2_048;
    let bounds = &service["concurrency"];
    assert_eq!(bounds["type"].as_str(), Some("connections"));
    let about = |name: &str, percent: i64| {
        let apart = bounds[name].as_integer().unwrap() - connections * percent / 100;
        assert!(apart.abs() < 50, "{name} is {apart} from {percent} % of {connections}");
    };
    about("soft_limit", 70);
    about("hard_limit", 95);
}

#[test]
fn the_relays_fly_file_has_the_settings_of_a_relay_that_is_told_its_name_by_the_platform() {
    let file = fly("fly.toml");
    let mut env = env(&file);
    assert!(!env.contains_key("RELAY_NODE"), "streams are replayed by the machine's own id");
    assert_eq!(config::unknown(&env).collect::<Vec<_>>(), [""; 0]);
    let app = file["app"].as_str().unwrap();
    assert_eq!(env["RELAY_PUBLIC_URL"], format!("wss://{app}.fly.dev"));
    let port = |name: &str| number(env[name].rsplit(':').next().unwrap());
    assert_eq!(file["http_service"]["internal_port"].as_integer(), Some(port("RELAY_LISTEN")));
    let admin = Some(port("RELAY_ADMIN_LISTEN"));
    assert_eq!(file["checks"]["ready"]["port"].as_integer(), admin);
    assert_eq!(file["checks"]["ready"]["path"].as_str(), Some("/readyz"));
    assert_eq!(file["metrics"]["port"].as_integer(), admin);
    // Whatever else a node needs is a secret.
    env.insert("FLY_MACHINE_ID".into(), "3d8d413b29d089".into());
    env.insert("FLY_REGION".into(), "iad".into());
    let missing = config::read(&env).map(drop).unwrap_err();
    let names: Vec<_> = missing.0.iter().map(|mistake| mistake.name).collect();
    assert_eq!(names, ["RELAY_JOIN_TOKEN"]);
}

#[test]
fn the_autoscaler_reads_free_slots_and_only_stops() {
    let (file, relays) = (fly("autoscaler/fly.toml"), fly("fly.toml"));
    let (env, of_relays) = (env(&file), env(&relays));
    assert_eq!(env["FAS_APP_NAME"], relays["app"].as_str().unwrap());
    assert!(relays["processes"].get(&env["FAS_PROCESS_GROUP"]).is_some());
    // Machines that are created and destroyed are destroyed by force.
    assert!(env.keys().all(|name| !name.contains("CREATED")), "{env:?}");
    for count in ["FAS_MIN_STARTED_MACHINE_COUNT", "FAS_MAX_STARTED_MACHINE_COUNT"] {
        let words = &env[count];
        assert!(words.starts_with("max(2, min(20, "), "{count}: {words}");
        assert!(words.contains(&env["FAS_PROMETHEUS_METRIC_NAME"]), "{count}: {words}");
    }
    let query = &env["FAS_PROMETHEUS_QUERY"];
    let control = fly("control/fly.toml");
    let slots = format!("control_free_slots{{app='{}'}}", control["app"].as_str().unwrap());
    assert!(query.contains(&slots), "{query}");
    let ready = relay::metrics::table::page();
    assert!(query.contains("relay_ready{") && ready.contains("relay_ready"), "{query}");
    // It counts in machines of so many calls.
    let calls = number(&of_relays["RELAY_CALLS_MAX"]);
    assert!(query.ends_with(&format!(") / {calls}")), "{query}");
}

/// The lines of a unit that are no comments, by their key; keys that stand twice are joined.
fn unit(name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    for line in read(&format!("systemd/{name}")).lines() {
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let all = found.entry(key.to_owned()).or_default();
        all.push_str(value);
        all.push('\n');
    }
    found
}

#[test]
fn a_relay_of_a_pair_differs_from_a_single_one_in_its_names_only() {
    let (single, mut pair) = (unit("linecard-relay.service"), unit("linecard-relay@.service"));
    let own = ["Description", "EnvironmentFile", "StateDirectory", "RuntimeDirectory"];
    for key in own {
        let words = pair.remove(key).unwrap();
        assert!(words.contains("%i"), "{key}={words}");
    }
    let shared: BTreeMap<_, _> =
        single.into_iter().filter(|(key, _)| !own.contains(&&**key)).collect();
    assert_eq!(shared, pair);
}

#[test]
fn a_units_settings_exist_and_it_waits_longer_than_a_drain() {
    let unit = unit("linecard-relay.service");
    let names = |key: &str| {
        let lines = unit[key].lines();
        lines.map(|line| line.split('=').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for name in names("Environment") {
        assert_eq!(config::settings::setting(&name).name, name);
    }
    assert_eq!(unit["TimeoutStopSec"].trim(), "20min");
    assert_eq!(unit["Type"].trim(), "notify");
    assert_eq!(unit["WatchdogSec"].trim(), "10s");
}

use super::*;

const AGENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/agents.toml");
const KEY: &str = "0123456789abcdef01234567";

fn environment(changes: &[(&str, &str)]) -> Environment {
    let good = [
        ("CONTROL_PUBLIC_URL", "https://hooks.example"),
        ("CONTROL_API_KEYS", KEY),
        ("CONTROL_AGENT_FILE", AGENTS),
        ("OPENAI_API_KEY", "sk-test"),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("TWILIO_AUTH_TOKEN", "token"),
    ];
    let all = good.iter().chain(changes);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn mistakes(changes: &[(&str, &str)]) -> Vec<Mistake> {
    read(&environment(changes)).unwrap_err().0
}

#[test]
fn what_is_needed_is_enough() {
    let (config, logging) = read(&environment(&[])).unwrap();
    assert_eq!(config.public.as_str(), "https://hooks.example");
    assert_eq!(config.door.database_url.reveal(), "sqlite://./linecard-data/linecard.db");
    assert_eq!(logging.format, LogFormat::Text);
    assert!(config.from.is_none());
}

#[test]
fn an_empty_environment_names_everything_that_is_needed() {
    let names: Vec<_> =
        read(&Environment::new()).unwrap_err().0.iter().map(|mistake| mistake.name).collect();
    let needed =
        ["CONTROL_PUBLIC_URL", "CONTROL_API_KEYS", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"];
    assert_eq!(names, needed);
}

#[test]
fn each_wrong_setting_is_named_once_and_no_secret_is_repeated() {
    let wrong = [
        ("CONTROL_PUBLIC_URL", "http://hooks.example"),
        ("CONTROL_LISTEN", "8081"),
        ("CONTROL_API_KEYS", "hunter2"),
        ("CONTROL_PROXIES", "10.0.0.0/33"),
        ("CONTROL_AGENT_FILE", "/nowhere.toml"),
        ("TWILIO_ACCOUNT_SID", "ACxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ("TWILIO_API_URL", "http://api.twilio.com"),
        ("CONTROL_FROM_NUMBER", "5551230001"),
        ("CONTROL_DATABASE_URL", "mysql://user:hunter2@db"),
        ("CONTROL_SECRET_KEY", "hunter2"),
        ("CONTROL_LINK_ADDRESS", "control.internal"),
        ("CONTROL_LOG_FORMAT", "xml"),
    ];
    let found = mistakes(&wrong);
    for (name, _) in wrong {
        assert_eq!(found.iter().filter(|mistake| mistake.name == name).count(), 1, "{name}");
    }
    assert_eq!(found.len(), wrong.len());
    assert!(!Mistakes(found).to_string().contains("hunter2"));
}

#[test]
fn a_config_does_not_show_its_secrets() {
    let (config, _) = read(&environment(&[("TWILIO_AUTH_TOKEN", "hunter2")])).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(KEY) && !shown.contains("sk-test"));
}

#[test]
fn the_carriers_api_is_spoken_to_in_clear_on_loopback_only() {
    for good in ["https://api.dublin.ie1.twilio.com", "http://127.0.0.1:9", "http://[::1]:9/"] {
        assert!(mistakes_of("TWILIO_API_URL", good).is_empty(), "{good}");
    }
    for bad in ["http://10.0.0.1", "https://a/x", "https://u@a", "ftp://127.0.0.1"] {
        assert!(!mistakes_of("TWILIO_API_URL", bad).is_empty(), "{bad}");
    }
}

fn mistakes_of(name: &str, value: &str) -> Vec<Mistake> {
    read(&environment(&[(name, value)])).err().map_or(Vec::new(), |mistakes| mistakes.0)
}

#[test]
fn the_join_token_needs_neither_carrier_nor_keys_but_a_port() {
    let door = read_door(&Environment::new()).unwrap();
    assert_eq!(door.address(door.link_listen), "127.0.0.1:7443");
    let any = [("CONTROL_LINK_LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
    let found = read_door(&Environment::from(any.clone())).unwrap_err();
    assert_eq!(found.0[0].name, "CONTROL_LINK_ADDRESS");
    let named = ("CONTROL_LINK_ADDRESS".to_owned(), "control.internal:7443".to_owned());
    let door = read_door(&any.into_iter().chain([named]).collect()).unwrap();
    assert_eq!(door.address(door.link_listen), "control.internal:7443");
}

#[test]
fn a_misspelt_name_is_told() {
    let environment = environment(&[("CONTROL_PUBLIC_ULR", "x"), ("PATH", "y")]);
    assert_eq!(unknown(&environment).collect::<Vec<_>>(), ["CONTROL_PUBLIC_ULR"]);
}

#[test]
fn a_region_has_a_host_of_its_own_with_its_edge() {
    let api_url = |changes: &[(&str, &str)]| {
        read(&environment(changes)).map(|(config, _)| config.carrier.api_url)
    };
    assert_eq!(api_url(&[]).unwrap(), "https://api.twilio.com");
    assert_eq!(api_url(&[("TWILIO_REGION", "ie1")]).unwrap(), "https://api.dublin.ie1.twilio.com");
    let edge = [("TWILIO_REGION", "ie1"), ("TWILIO_EDGE", "frankfurt")];
    assert_eq!(api_url(&edge).unwrap(), "https://api.frankfurt.ie1.twilio.com");
    for (changes, name) in [
        (&[("TWILIO_REGION", "ie1.evil.example/")][..], "TWILIO_REGION"),
        (&[("TWILIO_REGION", "xx9")], "TWILIO_EDGE"),
        (&[("TWILIO_EDGE", "dublin")], "TWILIO_REGION"),
        (&[("TWILIO_REGION", "ie1"), ("TWILIO_API_URL", "https://x.example")], "TWILIO_REGION"),
        // Stopped answering in 2026.
        (&[("TWILIO_API_URL", "https://api.ie1.twilio.com")], "TWILIO_API_URL"),
    ] {
        let names: Vec<_> = mistakes(changes).into_iter().map(|mistake| mistake.name).collect();
        assert_eq!(names, [name], "{changes:?}");
    }
    assert!(api_url(&[("TWILIO_API_URL", "https://api.dublin.ie1.twilio.com")]).is_ok());
    assert!(api_url(&[("TWILIO_API_URL", "https://api.us1.twilio.com")]).is_ok());
}

#[test]
fn the_next_token_is_taken_along_and_not_shown() {
    let (config, _) = read(&environment(&[("TWILIO_AUTH_TOKEN_NEXT", "hunter2")])).unwrap();
    let next = config.carrier.auth_tokens.next.as_ref().map(Secret::reveal);
    assert_eq!(next, Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

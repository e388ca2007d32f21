use super::*;
use link::id::TenantId;

const AGENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/agents.toml");
const KEY: &str = "0123456789abcdef01234567";
const PLACES: (&str, &str) = ("places-key", "https://places.googleapis.com");

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
    assert_eq!(names, ["CONTROL_PUBLIC_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"]);
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
        ("CONTROL_RESUMES_MAX", "0"),
        ("CONTROL_RESUMES_SECONDS", "5"),
        ("CONTROL_RESUMES_CPS", "0"),
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
fn the_environment_of_another_host_is_enough() {
    let theirs = [
        ("PUBLIC_BASE_URL", "https://app.example/"),
        ("OPENAI_API_KEY", "sk-test"),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("TWILIO_AUTH_TOKEN", "token"),
        ("TWILIO_PHONE_NUMBER", "+15551230001"),
        ("DATABASE_URL", "postgres://u:p@db/app?sslmode=require"),
        ("TWILIO_VOICE_NAME", "Polly.Joanna-Neural"),
        ("VOICE_AGENT_MODEL", "gpt-4o"),
        ("PORT", "8080"),
        ("FRONTEND_URL", "https://app.example/start"),
        ("ALLOWED_ORIGINS", "https://admin.example, *, https://app.example"),
        ("GOOGLE_PLACES_API_KEY", "places-key"),
    ];
    let theirs = theirs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (config, _) = read(&theirs.clone().into()).unwrap();
    assert_eq!(config.public.as_str(), "https://app.example");
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.from.as_ref().map(Number::as_str), Some("+15551230001"));
    assert!(config.door.database_url.reveal().starts_with("postgres://"));
    assert_eq!(config.carrier_voice.as_deref(), Some("Polly.Joanna-Neural"));
    let name = config.agents.default_name().unwrap();
    assert_eq!(name.as_str(), "assistant");
    assert!(config.agents.newest(&TenantId::new("default").unwrap(), name).is_some());
    let pages: Vec<_> = config.pages.iter().map(Origin::as_str).collect();
    assert_eq!(pages, ["https://admin.example", "https://app.example"]);
    assert!(config.compat_origins.is_empty(), "no name of theirs opens what asks for no key");
    let places = config.places.as_ref().unwrap();
    assert_eq!((places.key.reveal(), &*places.url), PLACES);
    let [keys, passed_over, model] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(keys.contains("`control key create --name first`"), "{keys}");
    assert!(passed_over.contains("`*` in ALLOWED_ORIGINS"), "{passed_over}");
    assert!(model.contains("gpt-4o") && model.contains("gpt-realtime-2.1"), "{model}");

    let mut broken: Environment = theirs.into();
    broken.insert("PORT".into(), "http".into());
    let found = read(&broken).unwrap_err().to_string();
    assert!(found.contains("CONTROL_LISTEN") && found.contains("taken from PORT"), "{found}");
}

#[test]
fn the_compatible_routes_are_opened_to_exact_origins_with_a_warning() {
    let name = "CONTROL_COMPAT_ORIGIN";
    let page = "https://app.example";
    let (config, _) = read(&environment(&[(name, page)])).unwrap();
    assert_eq!(config.compat_origins.iter().map(Origin::as_str).collect::<Vec<_>>(), [page]);
    let [open, unbounded] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(open.contains("An Origin is not authentication"), "{open}");
    assert!(unbounded.contains("CONTROL_SPEND_DAY_CENTS"), "{unbounded}");
    let bounded = [(name, page), ("CONTROL_SPEND_DAY_CENTS", "500")];
    assert_eq!(read(&environment(&bounded)).unwrap().0.warnings.len(), 1);
    for bad in ["*", "https://app.example/", "http://app.example", "app.example", ","] {
        let names: Vec<_> = mistakes_of(name, bad).iter().map(|mistake| mistake.name).collect();
        assert_eq!(names, [name], "{bad}");
    }
    assert!(!mistakes_of("CONTROL_PLACES_URL", "http://places.example").is_empty());
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
fn calls_of_no_known_region_are_near_the_accounts_own() {
    let near = |changes: &[(&str, &str)], said| {
        let (config, _) = read(&environment(changes)).unwrap();
        config.regions.order(&[config.regions.of_carrier(said)])
    };
    let lists = ("CONTROL_REGIONS", "us1=iad,ord;ie1=fra");
    assert_eq!(near(&[lists], None), ["iad", "ord"]);
    assert_eq!(near(&[lists], Some("ie1")), ["fra"]);
    assert_eq!(near(&[lists, ("TWILIO_REGION", "ie1")], None), ["fra"]);
    assert!(near(&[], Some("ie1")).is_empty());
    assert_eq!(mistakes(&[("CONTROL_REGIONS", "iad,ord")])[0].name, "CONTROL_REGIONS");
}

#[test]
fn the_next_token_is_taken_along_and_not_shown() {
    let (config, _) = read(&environment(&[("TWILIO_AUTH_TOKEN_NEXT", "hunter2")])).unwrap();
    let next = config.carrier.auth_tokens.next.as_ref().map(Secret::reveal);
    assert_eq!(next, Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn secrets_that_are_not_set_are_read_from_their_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("TWILIO_AUTH_TOKEN", "hunter2\n");
    put("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000009");
    put("OPENAI_API_KEY", "sk-other");
    let mut given = environment(&[(credential::DIRECTORY, folder.path().to_str().unwrap())]);
    given.remove("TWILIO_AUTH_TOKEN");
    let (config, _) = read(&given).unwrap();
    assert_eq!(config.carrier.auth_tokens.primary.reveal(), "hunter2");
    let key = config.provider_keys.of("OPENAI_API_KEY").map(Secret::reveal);
    assert_eq!(key, Some("sk-test"), "what is set counts first");

    given.remove("TWILIO_ACCOUNT_SID");
    let names: Vec<_> = read(&given).unwrap_err().0.iter().map(|mistake| mistake.name).collect();
    assert_eq!(names, ["TWILIO_ACCOUNT_SID"], "what is no secret is no credential");
    std::fs::remove_file(folder.path().join("TWILIO_AUTH_TOKEN")).unwrap();
    std::fs::create_dir(folder.path().join("TWILIO_AUTH_TOKEN")).unwrap();
    let said = read(&given).unwrap_err().to_string();
    assert!(said.contains("TWILIO_AUTH_TOKEN: the credential "), "{said}");
}

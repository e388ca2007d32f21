use link::secret::Secret;

use super::*;

fn tool(url: &str) -> HttpTool {
    serde_json::from_value(json!({
        "name": "find_slot", "description": "Finds a slot.", "url": url, "signing_key": "whsec",
    }))
    .unwrap()
}

fn order(arguments: &str) -> Result<Order, Failure> {
    let call = CallId::new("c_1").unwrap();
    let request = ToolRequest { name: "find_slot", call: "call_9", arguments };
    let tool = tool("https://tools.example.com:8443/a/b?day=mon#part");
    Order::write(&tool, &call, &request, WallTime(1_790_000_000_000_000))
}

#[test]
fn a_request_is_written_and_signed() {
    let order = order(r#" {"day":"mon","n":12345678901234567890123} "#).unwrap();
    let body = r#"{"call":"c_1","tool":"find_slot","arguments":{"day":"mon","n":12345678901234567890123}}"#;
    assert_eq!(order.body, body);
    // printf '1790000000.BODY' | openssl dgst -sha256 -hmac whsec
    let signed = "t=1790000000,v1=2c570d60b663c26cbef4eede32f37be47b3eb327d8a2a804985a781a4cdb166e";
    assert_eq!(order.headers["linecard-signature"], signed);
    assert_eq!(order.headers["idempotency-key"], "c_1.call_9");
    assert_eq!(order.headers["host"], "tools.example.com:8443");
    let request = order.request().unwrap();
    assert_eq!(
        (request.method(), request.uri().to_string()),
        (&Method::POST, "/a/b?day=mon".into())
    );
}

#[test]
fn arguments_that_are_no_object_make_no_request() {
    for bad in ["{", "[]", "null", "\"x\"", "{} {}", "{\"a\":1,}", "{'a':1}", &"[".repeat(500)] {
        assert!(matches!(order(bad), Err(Failure::BadArguments)), "{bad}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(ARGUMENT_BYTES_MAX));
    assert!(matches!(order(&long), Err(Failure::BadArguments)));
    assert!(order("").unwrap().body.ends_with(br#""arguments":{}}"#));
}

#[test]
fn one_request_has_one_key_and_another_call_another() {
    let (one, other) = (CallId::new("c_1").unwrap(), CallId::new("c_2").unwrap());
    assert_eq!(key(&one, "call_9"), key(&one, "call_9"));
    assert_ne!(key(&one, "call_9"), key(&other, "call_9"));
    assert_ne!(key(&one, "call_9"), key(&one, "call_8"));
    // Ids that no header can hold are keys all the same.
    for odd in ["", "a b", "a\r\nx: y", "ü", &"x".repeat(500)] {
        let key = key(&one, odd);
        assert!(key.to_str().unwrap().starts_with("c_1."), "{odd}");
        assert!(key.len() <= 200);
    }
    assert_ne!(key(&one, "a b"), key(&one, "a  b"));
}

#[test]
fn an_unsigned_tool_has_no_signature() {
    let mut tool = tool("https://x.example/");
    tool.signing_key = Secret::new("");
    let request = ToolRequest { name: "find_slot", call: "1", arguments: "{}" };
    let order = Order::write(&tool, &CallId::new("c").unwrap(), &request, WallTime(0)).unwrap();
    assert!(!order.headers.contains_key("linecard-signature"));
}

#[test]
fn what_is_no_address_of_a_server_is_refused() {
    for bad in ["", "x", "ftp://x/", "https://", "https://u@x/", "https://u:p@x/", "file:///etc"] {
        assert_eq!(address(bad), None, "{bad}");
    }
    // Old spellings of an address are that address, so that it can be checked.
    for spelling in [
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://\u{ff11}27.0.0.1/",
        "http://127\u{3002}0.0.1/",
    ] {
        let url = address(spelling).unwrap();
        assert_eq!(url.host(), Some(Host::Ipv4(std::net::Ipv4Addr::LOCALHOST)), "{spelling}");
    }
    // A back slash is a slash: the host ends there.
    let url = address("https://good.example\\@127.0.0.1/").unwrap();
    assert_eq!(url.host_str(), Some("good.example"));
}

#[test]
fn only_public_addresses_are_reached_and_in_clear_only_listed_ones() {
    let config = tls::client_config(None);
    let Ok(config) = config else { return };
    let none = Tools::new(Allowed::default(), Arc::clone(&config));
    let some = Tools::new(Allowed::parse("10.0.0.0/8, desk.internal").unwrap(), config);
    let may = |tools: &Tools, url: &str, ip: &str| {
        tools.may_reach(&address(url).unwrap(), ip.parse().unwrap())
    };
    assert!(may(&none, "https://x.example/", "8.8.8.8"));
    assert!(!may(&none, "http://x.example/", "8.8.8.8"));
    assert!(!may(&none, "https://x.example/", "10.1.1.1"));
    assert!(may(&some, "https://x.example/", "10.1.1.1"));
    assert!(may(&some, "http://x.example/", "10.1.1.1"));
    assert!(may(&some, "http://DESK.internal/", "192.168.0.1"));
    assert!(!may(&some, "http://x.example/", "192.168.0.1"));
}

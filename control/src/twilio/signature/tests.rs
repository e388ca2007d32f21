use super::*;

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn tokens(token: &str) -> AuthTokens {
    AuthTokens::from(Secret::new(token))
}

/// Whether a signature is right for a URL of the origin `https://host`.
fn is_right(token: &str, url: &str, pairs: &[(&str, &str)], signature: &str) -> bool {
    let path = url.find('/').and_then(|at| url[at + 2..].find('/').map(|end| at + 2 + end));
    let (origin, target) = url.split_at(path.unwrap());
    let request = SignedRequest { target, fields: &fields(pairs) };
    let origin = PublicOrigin::parse(origin).unwrap();
    check(&tokens(token), &origin, &request, Some(signature)).is_ok()
}

/// Vectors that the carrier's own helper libraries are tested with.
#[test]
fn published_vectors_are_taken() {
    let pairs = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675310"),
        ("Digits", "1234"),
        ("From", "+14158675310"),
        ("To", "+18005551212"),
    ];
    let url = "https://example.com/myapp.php?foo=1&bar=2";
    assert!(is_right("12345", url, &pairs, "L/OH5YylLD5NRKLltdqwSvS0BnU="));
    let mut other = pairs;
    other[1].1 = "+12349013030";
    other[3].1 = "+12349013030";
    let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
    assert!(is_right("12345", url, &other, "0/KCTR6DLpKmkAf8muzZqo1nDgQ="));
    let digest = "5ccde7145dfb8f56479710896586cb9d5911809d83afbe34627818790db0aec9";
    let url = format!("https://example.com/myapp?bodySHA256={digest}");
    assert!(is_right("12345", &url, &[], "hPXmLwIy3Fgqv1i9KPmH/HhQ6zo="));
}

const TOKEN: &str = "relay-test-token";

fn voice() -> Vec<(&'static str, &'static str)> {
    vec![
        ("CallSid", "CA00000000000000000000000000000001"),
        ("AccountSid", "AC00000000000000000000000000000001"),
        ("From", "+15551230001"),
        ("To", "+15551230002"),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("ApiVersion", "2010-04-01"),
        ("Empty", ""),
        ("Utf8", "Zoë & co"),
        ("Plus", "a b+c"),
    ]
}

#[test]
fn empty_values_and_other_scripts_count_and_the_port_may_be_there_or_not() {
    let url = "https://voice.example.com/v1/twilio/voice";
    let (without, with) = ("zT6Xo8Rc+tWiyDqueN5KUdV0Txs=", "nqvU59icdD4Qu+z1gFFu7QxQTH0=");
    assert!(is_right(TOKEN, url, &voice(), without));
    assert!(is_right(TOKEN, url, &voice(), with));
    let url = "https://voice.example.com:443/v1/twilio/voice";
    assert!(is_right(TOKEN, url, &voice(), without));
    assert!(is_right(TOKEN, url, &voice(), with));
}

#[test]
fn a_signature_over_another_port_field_path_or_token_is_refused() {
    let signature = "zT6Xo8Rc+tWiyDqueN5KUdV0Txs=";
    let url = "https://voice.example.com/v1/twilio/voice";
    assert!(is_right(TOKEN, "https://voice.example.com:8443/v1/twilio/voice", &voice(), signature));
    let other_port = "https://voice.example.com:8443/v1/twilio/voice";
    assert!(!is_right(TOKEN, other_port, &voice(), "nqvU59icdD4Qu+z1gFFu7QxQTH0="));
    assert!(!is_right(TOKEN, &format!("{url}/"), &voice(), signature));
    assert!(!is_right("another", url, &voice(), signature));
    assert!(!is_right(TOKEN, url, &voice()[1..], signature));
    for broken in ["", "AAAA", "zT6Xo8Rc+tWiyDqueN5KUdV0Txs", "zT6Xo8Rc tWiyDqueN5KUdV0Txs="] {
        assert!(!is_right(TOKEN, url, &voice(), broken), "{broken}");
    }
}

#[test]
fn a_get_is_signed_with_its_query_alone() {
    let url = "https://voice.example.com/v1/twilio/voice\
        ?CallSid=CA00000000000000000000000000000001&CallStatus=ringing";
    assert!(is_right(TOKEN, url, &[], "KkqAfx3CA1mVnzFUAJs+mcvkYI0="));
}

#[test]
fn repeated_fields_count_once_for_each_value() {
    let pairs = [("A", "b"), ("A", "a"), ("A", "b")];
    let url = "https://voice.example.com/x";
    assert!(is_right(TOKEN, url, &pairs, "XQDI69anY18m0YQNurSglMzqmFo="));
}

#[test]
fn a_request_without_a_signature_is_told_apart_from_a_forged_one() {
    let origin = PublicOrigin::parse("https://h.example").unwrap();
    let request = SignedRequest { target: "/", fields: &[] };
    let token = tokens(TOKEN);
    assert_eq!(check(&token, &origin, &request, None), Err(Forged::Missing));
    assert_eq!(check(&token, &origin, &request, Some("x")), Err(Forged::Wrong));
}

#[test]
fn an_upgrade_may_be_signed_with_a_slash_and_with_the_port() {
    let values = expected_upgrade_values("wss://voice.example.com/v1/twilio/media", &tokens(TOKEN));
    let shown: Vec<_> = values.iter().map(Secret::reveal).collect();
    assert!(shown.contains(&"fFgazr7rYAshh7+vx5m06CyixyU="));
    assert!(shown.contains(&"2gdLtNolZwrX2tgQ+b9RfwZpGHw="));
    let values =
        expected_upgrade_values("wss://voice.example.com/v1/twilio/media/tok_abc", &tokens(TOKEN));
    let shown: Vec<_> = values.iter().map(Secret::reveal).collect();
    assert!(shown.contains(&"yqeRAX+ZJLud/n5m+D1sGfkqOEo="));
    assert!(shown.contains(&"qu853Qwvl/JklNOuinvU7iCUU3E="));
}

#[test]
fn while_a_token_is_replaced_both_sign() {
    let both = AuthTokens { primary: Secret::new("another"), next: Some(Secret::new(TOKEN)) };
    let origin = PublicOrigin::parse("https://voice.example.com").unwrap();
    let fields = fields(&voice());
    let request = SignedRequest { target: "/v1/twilio/voice", fields: &fields };
    let signature = Some("zT6Xo8Rc+tWiyDqueN5KUdV0Txs=");
    assert_eq!(check(&both, &origin, &request, signature), Ok(()));
    let swapped = AuthTokens { primary: Secret::new(TOKEN), next: Some(Secret::new("another")) };
    assert_eq!(check(&swapped, &origin, &request, signature), Ok(()));
    assert_eq!(check(&tokens("another"), &origin, &request, signature), Err(Forged::Wrong));
    let values = expected_upgrade_values("wss://voice.example.com/v1/twilio/media", &both);
    let shown: Vec<_> = values.iter().map(Secret::reveal).collect();
    assert!(shown.contains(&"fFgazr7rYAshh7+vx5m06CyixyU="));
    assert_eq!(shown.len(), 8);
}

#[test]
fn a_body_of_json_is_known_by_its_digest() {
    let body = br#"{"CallSid":"CA1234567890ABCDE","Caller":"+12349013030"}"#;
    let digest = "5ccde7145dfb8f56479710896586cb9d5911809d83afbe34627818790db0aec9";
    assert!(is_digest_of(&format!("/myapp?bodySHA256={digest}"), body));
    assert!(is_digest_of(&format!("/myapp?a=b&bodySHA256={digest}"), body));
    for target in ["/myapp", "/myapp?bodySHA256=", &format!("/myapp?other={digest}")] {
        assert!(!is_digest_of(target, body), "{target}");
    }
    assert!(!is_digest_of(&format!("/myapp?bodySHA256={digest}"), b"{}"));
}

#[test]
fn an_origin_is_https_with_nothing_behind_it() {
    for good in ["https://a.example", "https://a.example/", "https://a.example:8443"] {
        assert!(PublicOrigin::parse(good).is_some(), "{good}");
    }
    for bad in [
        "http://a.example",
        "https://a.example/x",
        "https://a.example?x",
        "https://u:p@a.example",
        "https://",
        "a.example",
        "https://a.example//",
    ] {
        assert!(PublicOrigin::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn the_other_spelling_of_a_port_keeps_the_rest() {
    assert_eq!(other_port("wss://[::1]/a:b", "wss"), "wss://[::1]:443/a:b");
    assert_eq!(other_port("https://h:8443", "https"), "https://h");
}

//! What control reads before it knows who asks.

use std::net::IpAddr;
use std::str;

use control::access::address::Proxies;
use control::access::key::ApiKey;
use control::access::origin::Origin;
use control::access::scope::Scopes;
use control::twilio::signature::{
    AuthTokens, PublicOrigin, SignedRequest, check, expected_upgrade_values,
};
use http::header::{HeaderMap, HeaderValue};
use link::secret::Secret;

/// Lines: the signature, the origin, the path, then fields `name=value`.
///
/// # Panics
/// When a signature that nobody made is taken, or a right one is not.
pub fn signature(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (signature, origin, target) = (line(), line(), line());
    let Some(origin) = PublicOrigin::parse(origin) else { return };
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let token = AuthTokens::from(Secret::new("a token that no input knows"));
    let request = SignedRequest { target, fields: &fields };
    // 160 bits do not come up by chance.
    assert!(check(&token, &origin, &request, Some(signature)).is_err(), "forged");
    let url = origin.url(target);
    let values = expected_upgrade_values(&url, &token);
    let plain = SignedRequest { target, fields: &[] };
    let first = values.first().map(Secret::reveal);
    assert_eq!(check(&token, &origin, &plain, first), Ok(()), "{url}");
}

/// One line each: a key, an origin, a list of proxies with an `X-Forwarded-For`, a list of scopes.
///
/// # Panics
/// When what was read is not written back as it was, or a stranger speaks for others.
pub fn access(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (key, origin, proxies, forwarded, scopes) = (line(), line(), line(), line(), line());
    if let Some(read) = ApiKey::read(key) {
        assert_eq!(read.to_text().reveal(), key);
    }
    if let Some(read) = Origin::parse(origin) {
        assert_eq!(read.as_str(), origin);
        assert!(!origin.contains(['*', '\'', '"', ' ', '\\']), "{origin}");
    }
    if let Some(proxies) = Proxies::parse(proxies) {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(forwarded) {
            headers.insert("x-forwarded-for", value);
        }
        for peer in [IpAddr::from([203, 0, 113, 7]), IpAddr::from([0; 16])] {
            // Without a word of anybody's only a proxy is nobody.
            if let Some(alone) = proxies.client(peer, &HeaderMap::new()) {
                assert_eq!(proxies.client(peer, &headers), Some(alone));
            }
        }
    }
    if let Ok(scopes) = Scopes::read(scopes.split(' ').filter(|word| !word.is_empty())) {
        let words = scopes.words();
        assert_eq!(Scopes::read(words.iter().map(String::as_str)), Ok(scopes.clone()));
        assert_eq!(Scopes::stored(&words.join(" ")), scopes);
    }
}

//! What control reads before it knows who asks.

use std::str;

use control::twilio::signature::{PublicOrigin, SignedRequest, check, expected_upgrade_values};
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
    let token = Secret::new("a token that no input knows");
    let request = SignedRequest { target, fields: &fields };
    // 160 bits do not come up by chance.
    assert!(check(&token, &origin, &request, Some(signature)).is_err(), "forged");
    let url = origin.url(target);
    let values = expected_upgrade_values(&url, &token);
    let plain = SignedRequest { target, fields: &[] };
    let first = values.first().map(Secret::reveal);
    assert_eq!(check(&token, &origin, &plain, first), Ok(()), "{url}");
}

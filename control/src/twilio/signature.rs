//! `X-Twilio-Signature`: who really asks.
//!
//! `base64(HMAC-SHA1(auth token, URL + sorted form fields))`. The URL is the configured public
//! origin with the request target as it arrived, byte by byte: the `Host` header and what proxies
//! add are never asked. The carrier drops or keeps the default port as it likes, so both are
//! tried. A body that is JSON is covered by its digest, which is part of the URL (`bodySHA256`).
//! Source: Twilio, "Security" and its helper libraries' validators, read 2026-11-20.

use hmac::{Hmac, KeyInit as _, Mac as _};
use link::secret::Secret;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

/// The origin at which the carrier reaches this process: `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicOrigin {
    /// As it was written, without a slash at the end: that is what the carrier is told.
    text: String,
    /// The other spelling of its port: with the default one when `text` has none, without any when
    /// it has one.
    other: String,
}

impl PublicOrigin {
    /// Reads `https://host[:port]`; `None` when it is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let url = Url::parse(text).ok()?;
        let is_bare = matches!(url.path(), "" | "/") && !text.contains(['?', '#']);
        let has_user = !url.username().is_empty() || url.password().is_some();
        if url.scheme() != "https" || !is_bare || has_user || text.ends_with('/') {
            return None;
        }
        Some(Self { text: text.to_owned(), other: other_port(text, "https") })
    }

    /// The origin as it was configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address of a path of ours, `/v1/...`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }
}

/// The secrets of an account that may sign a request of the carrier.
#[derive(Debug, Clone)]
pub struct AuthTokens {
    /// The one in use; it opens the REST API, too.
    pub primary: Secret,
    /// The one that will be promoted, or has just been: both sign while a token is replaced.
    /// `None` when nothing is being replaced.
    pub next: Option<Secret>,
}

impl AuthTokens {
    /// Every one of them.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.primary).chain(&self.next)
    }
}

impl From<Secret> for AuthTokens {
    /// An account whose token is not being replaced.
    fn from(primary: Secret) -> Self {
        Self { primary, next: None }
    }
}

/// Why a request was not taken for the carrier's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// It carries no signature.
    #[error("no signature")]
    Missing,
    /// The signature is not that of the account.
    #[error("another signature")]
    Wrong,
}

/// Checks a request's signature. `target` is the path and query as they arrived, `fields` the
/// form's, decoded; none for a GET and none for JSON, for which [`is_digest_of`] says the rest.
///
/// # Errors
/// [`Forged`], which says nothing about what would have been right.
pub fn check(
    tokens: &AuthTokens,
    origin: &PublicOrigin,
    request: &SignedRequest<'_>,
    signature: Option<&str>,
) -> Result<(), Forged> {
    let signature = signature.ok_or(Forged::Missing)?;
    let given = base64_simd::STANDARD.decode_to_vec(signature.trim()).map_err(|_| Forged::Wrong)?;
    let fields = sorted(request.fields);
    let mut is_right = subtle::Choice::from(0);
    // All are tried, whichever is right: how long it takes tells nothing.
    for token in tokens.iter() {
        for origin in [&origin.text, &origin.other] {
            let expected = mac(token, &[origin, request.target, &fields]);
            is_right |= expected.as_slice().ct_eq(&given);
        }
    }
    if bool::from(is_right) { Ok(()) } else { Err(Forged::Wrong) }
}

/// Whether an address carries the digest of this body. With the address signed, the body is the
/// carrier's.
#[must_use]
pub fn is_digest_of(target: &str, body: &[u8]) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let given = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bodySHA256");
    let expected: String = Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect();
    given.is_some_and(|(_, given)| given.eq_ignore_ascii_case(&expected))
}

/// What a signature covers besides the origin.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// Path and query, as they arrived.
    pub target: &'a str,
    /// The form's fields, decoded.
    pub fields: &'a [(String, String)],
}

/// The values that the signature of a stream's upgrade may have: the upgrade is a GET without
/// fields, so they are known before it comes. With and without a slash at the end and the default
/// port, as the carrier spells URLs both ways, and by each of the account's tokens.
#[must_use]
pub fn expected_upgrade_values(url: &str, tokens: &AuthTokens) -> Vec<Secret> {
    let scheme = url.split("://").next().unwrap_or_default();
    let spellings = [url.to_owned(), other_port(url, scheme)];
    let mut values = Vec::with_capacity(8);
    for token in tokens.iter() {
        for url in &spellings {
            for end in ["", "/"] {
                let value = mac(token, &[url, end]);
                values.push(Secret::new(base64_simd::STANDARD.encode_to_string(value)));
            }
        }
    }
    values
}

/// Names in byte order, each with every value it has, sorted and without repetitions.
fn sorted(fields: &[(String, String)]) -> String {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort();
    fields.dedup();
    fields.into_iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect()
}

fn mac(token: &Secret, parts: &[&str]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(token.reveal().as_bytes())
        .expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part.as_bytes()));
    mac.finalize().into_bytes().into()
}

/// The same URL with the scheme's default port where it names none, without any where it does.
fn other_port(url: &str, scheme: &str) -> String {
    let Some((before, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // The colons of an IPv6 address are inside brackets.
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    match port {
        Some(at) => format!("{before}://{}{path}", &authority[..at]),
        None => {
            let port = if matches!(scheme, "https" | "wss") { 443 } else { 80 };
            format!("{before}://{authority}:{port}{path}")
        }
    }
}

#[cfg(test)]
mod tests;

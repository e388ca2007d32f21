//! `X-Twilio-Signature`, as the real service makes it: HMAC-SHA1 of the URL and, for a form, of
//! its fields in byte order.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// A field of a form, in the order in which it is posted.
pub(crate) type Field = (String, String);

/// Signs a request. The URL goes in as it was configured, without its fragment.
pub(crate) fn sign(token: &str, url: &str, form: &[Field]) -> String {
    let mut fields: Vec<&Field> = form.iter().collect();
    fields.sort_unstable();
    fields.dedup();
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).expect("HMAC takes any key");
    mac.update(without_fragment(url).as_bytes());
    for (name, value) in fields {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    base64_simd::STANDARD.encode_to_string(mac.finalize().into_bytes())
}

/// A URL without its fragment, which is never sent.
pub(crate) fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Vec<Field> {
        fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn the_classic_vector_is_signed_alike() {
        let fields = form(&[
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675310"),
            ("Digits", "1234"),
            ("From", "+14158675310"),
            ("To", "+18005551212"),
        ]);
        let url = "https://example.com/myapp.php?foo=1&bar=2";
        assert_eq!(sign("12345", url, &fields), "L/OH5YylLD5NRKLltdqwSvS0BnU=");
    }

    #[test]
    fn repeated_names_are_signed_once_a_value_and_sorted() {
        let fields = form(&[("A", "b"), ("A", "a"), ("A", "b")]);
        let signature = sign("relay-test-token", "https://voice.example.com/x", &fields);
        assert_eq!(signature, "XQDI69anY18m0YQNurSglMzqmFo=");
    }

    #[test]
    fn an_upgrade_signs_its_address_alone_and_never_the_fragment() {
        let url = "wss://voice.example.com/v1/twilio/media#rc=3";
        assert_eq!(sign("relay-test-token", url, &[]), "fFgazr7rYAshh7+vx5m06CyixyU=");
    }
}

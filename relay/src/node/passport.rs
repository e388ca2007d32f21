//! The node's own certificate: asked for once control has let it in, shown on later connections.
//!
//! The key is made here and never leaves the process, nor does it outlive it: a node that starts again
//! comes in with the join token, as it did the first time.

use std::fmt;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use link::id::WallTime;
use rcgen::KeyPair;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// The key, and what control has made of it.
#[derive(Default)]
pub(super) struct Passport {
    key: Option<KeyPair>,
    issued: Option<Issued>,
    asked_at: Option<WallTime>,
}

struct Issued {
    shown: Arc<SingleCertAndKey>,
    taken_at: WallTime,
    good_until: WallTime,
}

/// Why a certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadCertificate {
    /// Nothing was asked for.
    #[error("a certificate that nobody has asked for")]
    Unasked,
    /// It is no text of ours.
    #[error("a certificate that cannot be read")]
    Malformed,
    /// It is none of this node's key.
    #[error("a certificate of another key")]
    Foreign(#[from] rustls::Error),
}

impl Passport {
    /// The public key to ask a certificate for, when it is time to ask: there is none, or half of its
    /// life is over.
    pub(super) fn ask(&mut self, now: WallTime) -> Option<String> {
        if self.issued.as_ref().is_some_and(|issued| !issued.is_half_over(now)) {
            return None;
        }
        // By the distance, not the sign: a clock that is set back must not silence it for long.
        let since = self.asked_at.map(|asked| now.0.abs_diff(asked.0));
        if since.is_some_and(|us| us < ASK_EVERY_US) {
            return None;
        }
        self.asked_at = Some(now);
        if self.key.is_none() {
            match KeyPair::generate() {
                Ok(key) => self.key = Some(key),
                Err(error) => tracing::warn!(%error, "this node has no key of its own"),
            }
        }
        self.key.as_ref().map(|key| URL_SAFE_NO_PAD.encode_to_string(key.public_key_raw()))
    }

    /// Takes what control has made of the key.
    pub(super) fn take(
        &mut self,
        certificate: &str,
        good_until: WallTime,
        now: WallTime,
    ) -> Result<(), BadCertificate> {
        let key = self.key.as_ref().ok_or(BadCertificate::Unasked)?;
        let der = URL_SAFE_NO_PAD.decode_to_vec(certificate.as_bytes());
        let der = CertificateDer::from(der.map_err(|_| BadCertificate::Malformed)?);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = CertifiedKey::from_der(vec![der], key, &provider)?;
        let shown = Arc::new(SingleCertAndKey::from(pair));
        self.issued = Some(Issued { shown, taken_at: now, good_until });
        Ok(())
    }

    /// How control is dialled: with the certificate while there is a good one; and whether it is.
    pub(super) fn dressed(
        &self,
        plain: &Arc<rustls::ClientConfig>,
        now: WallTime,
    ) -> (Arc<rustls::ClientConfig>, Shows) {
        let Some(issued) = self.issued.as_ref().filter(|issued| issued.is_good(now)) else {
            return (Arc::clone(plain), Shows::Nothing);
        };
        let mut config = rustls::ClientConfig::clone(plain);
        config.client_auth_cert_resolver = issued.shown.clone();
        // A session of before the certificate would be taken up without it.
        config.resumption = Resumption::disabled();
        (Arc::new(config), Shows::Certificate)
    }

    /// Control did not like it: the next connection goes without.
    pub(super) fn forget(&mut self) {
        self.issued = None;
    }
}

/// What a connection shows in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// The node's certificate.
    Certificate,
    /// Nothing: the join token in the hello is what counts.
    Nothing,
}

impl Issued {
    fn is_good(&self, now: WallTime) -> bool {
        now.plus_us(MARGIN_US) < self.good_until
    }

    fn is_half_over(&self, now: WallTime) -> bool {
        let (life, over) = (self.good_until.0 - self.taken_at.0, now.0 - self.taken_at.0);
        over >= life / 2
    }
}

impl fmt::Debug for Passport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passport(***)")
    }
}

/// How soon it is asked again when no answer came.
const ASK_EVERY_US: u64 = 30_000_000;

/// How long before its end a certificate is not shown any more: for clocks that are apart.
const MARGIN_US: i64 = 600_000_000;

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;

    use super::*;

    const NOW: WallTime = WallTime(1_795_514_400_000_000);
    const HOUR_US: i64 = 3_600_000_000;

    fn plain() -> Arc<rustls::ClientConfig> {
        let ca = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap();
        super::super::trust(ca.cert.der()).unwrap()
    }

    /// A certificate of this key, as a control would make it.
    fn of(key: &KeyPair) -> String {
        let params = CertificateParams::new(vec!["node.test".to_owned()]).unwrap();
        URL_SAFE_NO_PAD.encode_to_string(params.self_signed(key).unwrap().der())
    }

    #[test]
    fn a_certificate_is_asked_for_once_and_again_when_half_of_it_is_over() {
        let mut passport = Passport::default();
        let key = passport.ask(NOW).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode_to_vec(&key).unwrap().len(), 65);
        assert_eq!(passport.ask(NOW.plus_us(29_000_000)), None);
        assert_eq!(passport.ask(NOW.plus_us(31_000_000)), Some(key), "nobody has answered");
        let certificate = of(passport.key.as_ref().unwrap());
        passport.take(&certificate, NOW.plus_us(24 * HOUR_US), NOW).unwrap();
        assert_eq!(passport.ask(NOW.plus_us(11 * HOUR_US)), None);
        assert!(passport.ask(NOW.plus_us(12 * HOUR_US)).is_some());
    }

    #[test]
    fn a_certificate_is_shown_while_it_is_good_and_not_once_control_did_not_like_it() {
        let (mut passport, plain) = (Passport::default(), plain());
        let shows = |passport: &Passport, at| passport.dressed(&plain, at).1;
        assert_eq!(shows(&passport, NOW), Shows::Nothing);
        passport.ask(NOW);
        let certificate = of(passport.key.as_ref().unwrap());
        passport.take(&certificate, NOW.plus_us(24 * HOUR_US), NOW).unwrap();
        assert_eq!(shows(&passport, NOW), Shows::Certificate);
        assert!(passport.dressed(&plain, NOW).0.client_auth_cert_resolver.has_certs());
        assert_eq!(shows(&passport, NOW.plus_us(24 * HOUR_US)), Shows::Nothing);
        passport.forget();
        assert_eq!(shows(&passport, NOW), Shows::Nothing);
    }

    #[test]
    fn a_certificate_of_another_key_is_not_taken() {
        let mut passport = Passport::default();
        let other = of(&KeyPair::generate().unwrap());
        let taken = passport.take(&other, NOW.plus_us(HOUR_US), NOW);
        assert!(matches!(taken, Err(BadCertificate::Unasked)));
        passport.ask(NOW);
        let taken = passport.take(&other, NOW.plus_us(HOUR_US), NOW);
        assert!(matches!(taken, Err(BadCertificate::Foreign(_))));
        let taken = passport.take("?", NOW.plus_us(HOUR_US), NOW);
        assert!(matches!(taken, Err(BadCertificate::Malformed)));
    }
}

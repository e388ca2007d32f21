//! The relay's own certificate: dates, names, chain, as a carrier would judge it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;
use url::Url;

use crate::config::Environment;
use crate::{clock, dial, tls};
use link::finding::Finding;

const WHAT: &str = "certificate";
const DAY: Duration = Duration::from_secs(86_400);
/// A certificate that ends within this should have been renewed: most are at 30 days before.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Looks at the files that the settings name. Without them a proxy in front ends TLS, and the
/// handshake shows how.
pub(super) fn look(environment: &Environment, public_url: Option<&str>) -> Vec<Finding> {
    let Some(path) = environment.get("RELAY_TLS_CERT_FILE").filter(|path| !path.is_empty()) else {
        return Vec::new();
    };
    let Ok(chain) = tls::certificates(Path::new(path)) else {
        // Then the settings are wrong, and that was said.
        return Vec::new();
    };
    let url = public_url.and_then(|url| Url::parse(url).ok());
    let name = url.and_then(|url| dial::server_name(&url).ok());
    let micros = u64::try_from(clock::wall().0).unwrap_or(0);
    let now = Duration::from_micros(micros);
    judge(&chain, name.as_ref(), now)
}

/// Judges a chain at a time since 1970.
fn judge(
    chain: &[CertificateDer<'static>],
    name: Option<&ServerName<'static>>,
    now: Duration,
) -> Vec<Finding> {
    let [leaf, above @ ..] = chain else { return Vec::new() };
    let anybody = ServerName::try_from("no-name-was-given.invalid").expect("a name");
    let name_asked = name.unwrap_or(&anybody);
    // By itself: its dates and names, and whether its parts follow from each other.
    let itself = within(chain).and_then(|verifier| {
        let at = |moment: Duration| {
            let moment = UnixTime::since_unix_epoch(moment);
            verifier.verify_server_cert(leaf, above, name_asked, &[], moment).map(|_| ())
        };
        at(now)?;
        at(now + SOON)
    });
    if let Err(error) = itself
        && let Some(finding) = say(&error, now, name.is_some())
    {
        return vec![finding];
    }
    let Some(name) = name else {
        let words = "its dates and its chain are good; without RELAY_PUBLIC_URL its names are not \
                     compared";
        return vec![Finding::ok(WHAT, words)];
    };
    // As a carrier sees it: up to a root that everybody trusts.
    let trusted = Verifier::new(tls::provider()).and_then(|verifier| {
        let moment = UnixTime::since_unix_epoch(now);
        verifier.verify_server_cert(leaf, above, name, &[], moment)
    });
    vec![match trusted {
        Ok(_) => Finding::ok(WHAT, format!("good for {}, and trusted", name.to_str())),
        Err(error) => Finding::failed(
            WHAT,
            format!("no root that this machine trusts stands behind it ({error})"),
            "put the intermediate certificates behind the leaf in RELAY_TLS_CERT_FILE; a carrier \
             trusts public roots only",
        ),
    }]
}

/// A verifier that trusts the last certificate of the chain, whoever signed it.
fn within(chain: &[CertificateDer<'static>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if let Some(last) = chain.last() {
        roots.add(last.clone())?;
    }
    WebPkiServerVerifier::builder_with_provider(roots.into(), tls::provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// What an error means; nothing when only the name is wrong and none was asked for.
fn say(error: &rustls::Error, now: Duration, has_name: bool) -> Option<Finding> {
    let days = |span: Duration| span.as_secs() / DAY.as_secs();
    const RENEW: &str = "renew it; the relay reads its files again when they change";
    let rustls::Error::InvalidCertificate(wrong) = error else {
        return Some(Finding::failed(WHAT, error.to_string(), RENEW));
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is wrong says so itself")]
    Some(match wrong {
        CertificateError::ExpiredContext { not_after, .. } => {
            let end = Duration::from_secs(not_after.as_secs());
            match end.checked_sub(now) {
                Some(left) => {
                    Finding::warning(WHAT, format!("it ends in {} days", days(left)), RENEW)
                }
                None => {
                    Finding::failed(WHAT, format!("it ended {} days ago", days(now - end)), RENEW)
                }
            }
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let ahead = Duration::from_secs(not_before.as_secs()).saturating_sub(now);
            let words = format!("it begins in {} hours", ahead.as_secs() / 3_600);
            Finding::failed(WHAT, words, "look at this machine's clock")
        }
        CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName
            if !has_name =>
        {
            return None;
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let words = format!("it names {}, and not {}", presented.join(", "), expected.to_str());
            Finding::failed(WHAT, words, "get one for the host of RELAY_PUBLIC_URL")
        }
        CertificateError::UnknownIssuer => Finding::failed(
            WHAT,
            "its parts do not follow from each other",
            "leaf first in RELAY_TLS_CERT_FILE, then each certificate that signed the one before",
        ),
        other => Finding::failed(WHAT, format!("{other:?}"), RENEW),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;
    use link::finding::State;

    const NAME: &str = "relay.example.com";

    /// A leaf for [`NAME`], good in June 2030, and who signed it.
    fn chain() -> Vec<CertificateDer<'static>> {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap());
        let authority = authority.unwrap();
        let mut leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        leaf.not_before = date_time_ymd(2030, 6, 1);
        leaf.not_after = date_time_ymd(2030, 7, 1);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();
        vec![leaf.der().clone(), authority.der().clone()]
    }

    fn day(of_june_2030: u64) -> Duration {
        Duration::from_secs(1_906_502_400) + DAY * u32::try_from(of_june_2030 - 1).unwrap()
    }

    fn judged(
        chain: &[CertificateDer<'static>],
        name: Option<&str>,
        day_of_june: u64,
    ) -> (State, String) {
        let name = name.map(|name| ServerName::try_from(name.to_owned()).unwrap());
        let [finding] = &judge(chain, name.as_ref(), day(day_of_june))[..] else { panic!() };
        (finding.state, finding.words.clone())
    }

    #[test]
    fn dates_names_and_order_are_told_apart() {
        let chain = chain();
        assert_eq!(judged(&chain, Some(NAME), 25), (State::Warning, "it ends in 6 days".into()));
        assert_eq!(judged(&chain, Some(NAME), 33), (State::Failed, "it ended 2 days ago".into()));
        let early = day(1) - Duration::from_secs(7_200);
        let name = ServerName::try_from(NAME).unwrap();
        assert_eq!(judge(&chain, Some(&name), early)[0].words, "it begins in 2 hours");
        let (state, words) = judged(&chain, Some("other.example.com"), 5);
        assert_eq!(state, State::Failed);
        assert!(words.contains(NAME) && words.contains("other.example.com"), "{words}");
        let reversed: Vec<_> = chain.iter().rev().cloned().collect();
        assert_eq!(judged(&reversed, Some(NAME), 5).0, State::Failed);
    }

    #[test]
    fn a_chain_to_a_private_root_is_good_by_itself_and_not_for_a_carrier() {
        let chain = chain();
        assert_eq!(judged(&chain, None, 5).0, State::Ok);
        let (state, words) = judged(&chain, Some(NAME), 5);
        assert_eq!(state, State::Failed);
        assert!(words.starts_with("no root that this machine trusts"), "{words}");
    }
}

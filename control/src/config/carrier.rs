//! The account at the carrier, and where its API is.

use link::secret::Secret;
use url::Url;

use super::Reader;
use crate::fleet::regions::Regions;
use crate::twilio::signature::AuthTokens;

/// The account at the carrier.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name, `AC...`.
    pub sid: String,
    /// Its secrets: they sign webhooks and open the REST API.
    pub auth_tokens: AuthTokens,
    /// The origin of the REST API, without a slash at the end.
    pub api_url: String,
}

impl Reader<'_> {
    pub(super) fn carrier(&mut self) -> Option<Account> {
        let sid = self.parsed("TWILIO_ACCOUNT_SID", account_sid);
        let primary = self.parsed("TWILIO_AUTH_TOKEN", |text| Some(Secret::new(text)));
        let next = self.given("TWILIO_AUTH_TOKEN_NEXT").map(Secret::new);
        let api_url = self.carrier_api_url();
        Some(Account {
            sid: sid?,
            auth_tokens: AuthTokens { primary: primary?, next },
            api_url: api_url?,
        })
    }

    /// Which regions of relays are near to what; calls whose region the carrier does not say are in
    /// the account's own.
    pub(super) fn regions(&mut self) -> Regions {
        let regions = self.parsed("CONTROL_REGIONS", Regions::parse).unwrap_or_default();
        regions.with_home(self.given("TWILIO_REGION").unwrap_or(FIRST_REGION))
    }

    /// The address that was given, or that of the region. Tokens are per region, so nothing here is
    /// guessed: what does not fit together is a mistake.
    fn carrier_api_url(&mut self) -> Option<String> {
        let region = self.parsed("TWILIO_REGION", label);
        let edge = self.parsed("TWILIO_EDGE", label);
        let is_said = self.given("TWILIO_REGION").is_some() || self.given("TWILIO_EDGE").is_some();
        if !is_said {
            return self.parsed("TWILIO_API_URL", api_url);
        }
        if self.given("TWILIO_API_URL").is_some() {
            let problem = "TWILIO_API_URL says already where the API is; set one of the two";
            return self.mistake("TWILIO_REGION", problem);
        }
        let Some(region) = region else {
            let problem = "missing; an edge belongs to a region, for instance ie1";
            return match self.given("TWILIO_REGION") {
                // What is wrong with it was said.
                Some(_) => None,
                None => self.mistake("TWILIO_REGION", problem),
            };
        };
        let edge = match edge.or_else(|| edge_of(&region).map(str::to_owned)) {
            Some(edge) => edge,
            None if self.given("TWILIO_EDGE").is_some() => return None,
            None => {
                let problem = "missing; the region's edge is not known here";
                return self.mistake("TWILIO_EDGE", problem);
            }
        };
        Some(format!("https://api.{edge}.{region}.twilio.com"))
    }
}

/// Where calls are when nobody says anything else.
/// Source: Twilio, "Global infrastructure", read 2026-11-20.
const FIRST_REGION: &str = "us1";

/// `AC` and 32 hexadecimal digits; the example's placeholder is none.
pub(crate) fn account_sid(text: &str) -> Option<String> {
    let digits = text.strip_prefix("AC")?;
    // A placeholder copied from an example would otherwise fail at the first call, far from here.
    let is_sid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sid.then(|| text.to_owned())
}

/// `https://host[:port]`, or `http` to loopback: the account's secret travels over it.
pub(crate) fn api_url(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let url = Url::parse(text).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
    let has_user = !url.username().is_empty() || url.password().is_some();
    let (is_loopback, is_gone) = match url.host()? {
        url::Host::Domain(name) => (name == "localhost", is_gone(name)),
        url::Host::Ipv4(ip) => (ip.is_loopback(), false),
        url::Host::Ipv6(ip) => (ip.is_loopback(), false),
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    (is_safe && is_bare && !has_user && !is_gone).then(|| text.to_owned())
}

/// Whether this is a region's host without an edge: those have stopped answering.
/// Source: Twilio, "Global infrastructure", the change of 2026-04-28, read 2026-11-20.
fn is_gone(host: &str) -> bool {
    let region = host.strip_prefix("api.").and_then(|rest| rest.strip_suffix(".twilio.com"));
    region.is_some_and(|region| region != "us1" && !region.contains('.'))
}

/// One part of a host's name.
fn label(text: &str) -> Option<String> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ((2..=20).contains(&text.len()) && text.bytes().all(is_good)).then(|| text.to_owned())
}

/// The edge beside a region. Source: Twilio, "Global infrastructure", read 2026-11-20.
fn edge_of(region: &str) -> Option<&'static str> {
    Some(match region {
        "us1" => "ashburn",
        "us2" => "umatilla",
        "ie1" => "dublin",
        "de1" => "frankfurt",
        "au1" => "sydney",
        "jp1" => "tokyo",
        "sg1" => "singapore",
        "br1" => "sao-paulo",
        _ => return None,
    })
}

//! Web pages that may ask, and what the compatible routes need.

use link::secret::Secret;
use url::Url;

use super::Reader;
use super::carrier::api_url;
use crate::access::origin::Origin;

/// An account at the service that looks businesses up.
#[derive(Debug, Clone)]
pub struct PlacesAccount {
    /// What pays.
    pub key: Secret,
    /// The origin of its API, without a slash at the end.
    pub url: String,
}

impl Reader<'_> {
    /// The pages that may ask for the tenant `default`. Apps write these lists for other servers
    /// than this one: what is none of ours is passed over and told, and keeps nobody from starting.
    pub(super) fn pages(&mut self) -> Vec<Origin> {
        let mut pages = Vec::new();
        for name in ["ALLOWED_ORIGINS", "FRONTEND_URL"] {
            let text = self.given(name).unwrap_or_default().to_owned();
            for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                match origin_of(word) {
                    Some(origin) if pages.contains(&origin) => {}
                    Some(origin) => pages.push(origin),
                    None => self.warnings.push(format!(
                        "`{word}` in {name} is passed over: a page's origin is \
                         https://host[:port], http:// on loopback only",
                    )),
                }
            }
        }
        pages
    }

    /// The pages that may use the compatible routes. Nothing is passed over here: whom these routes
    /// are open to must be what was written.
    pub(super) fn compat_origins(&mut self) -> Option<Vec<Origin>> {
        let name = "CONTROL_COMPAT_ORIGIN";
        if self.given(name).is_none() {
            return Some(Vec::new());
        }
        let origins = self.parsed(name, origins)?;
        self.warnings.push(format!(
            "{name} opens /api/... without a key. An Origin is not authentication: any program can \
             send one, and have calls placed within the limits of rate, country and spend",
        ));
        if self.given("CONTROL_SPEND_DAY_CENTS").is_none() {
            self.warnings.push(format!(
                "{name} is set and CONTROL_SPEND_DAY_CENTS is not: unless the tenant has a limit, \
                 nothing bounds what such calls cost in a day",
            ));
        }
        Some(origins)
    }

    /// The account that looks businesses up, if there is one. `None` also says that the address was
    /// wrong, which is in the list of mistakes then.
    pub(super) fn places(&mut self) -> Option<PlacesAccount> {
        let url = self.parsed("CONTROL_PLACES_URL", api_url);
        let key = self.given("GOOGLE_PLACES_API_KEY").map(Secret::new);
        Some(PlacesAccount { key: key?, url: url? })
    }
}

/// One origin, or several separated by commas, each exactly as a browser says it.
fn origins(text: &str) -> Option<Vec<Origin>> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let origins: Vec<Origin> = words.map(Origin::parse).collect::<Option<_>>()?;
    (!origins.is_empty()).then_some(origins)
}

/// The origin of a page's address, with whatever stands behind it.
fn origin_of(address: &str) -> Option<Origin> {
    let url = Url::parse(address).ok()?;
    Origin::parse(&url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_origins_is_exact() {
        let read = origins("https://app.example, http://localhost:3000,").unwrap();
        let texts: Vec<_> = read.iter().map(Origin::as_str).collect();
        assert_eq!(texts, ["https://app.example", "http://localhost:3000"]);
        for bad in [",", "*", "https://app.example/", "https://a.example,http://b.example"] {
            assert!(origins(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_address_of_a_page_has_an_origin() {
        let origin = |text| origin_of(text).map(|origin| origin.to_string());
        assert_eq!(origin("https://App.example/start?x").as_deref(), Some("https://app.example"));
        for bad in ["*", "app.example", "http://app.example", "https://*.app.example"] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }
}

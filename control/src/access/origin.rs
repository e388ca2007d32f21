//! The origin of a web page, exactly as a browser says it: `https://host[:port]`.

use url::Url;

/// The origin of a web page. Compared as text: no wildcard, no upper case, no default port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Box<str>);

impl Origin {
    /// Reads an origin as browsers write it; `None` for anything else. In clear only on loopback:
    /// whoever is on the way could speak for the page.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_loopback = match url.host()? {
            url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback(),
        };
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
        // What a browser would say of this URL must be what was written.
        let is_exact = url.origin().ascii_serialization() == text;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte);
        (is_safe && is_exact && text.bytes().all(is_name)).then(|| Self(text.into()))
    }

    /// The origin as browsers write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_says() {
        for good in [
            "https://app.example",
            "https://app.example:8443",
            "http://localhost:3000",
            "http://127.0.0.1:5173",
            "http://[::1]:5173",
        ] {
            assert_eq!(Origin::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example",
            "https://app.example/",
            "https://app.example:443",
            "https://APP.example",
            "https://*.example",
            "https://u@app.example",
            "https://app.example/x",
            "http://app.example",
            "http://10.0.0.1:3000",
            "file://x",
            "https://a'b.example",
        ] {
            assert!(Origin::parse(bad).is_none(), "{bad}");
        }
    }
}

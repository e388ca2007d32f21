//! Who asks, by address: the peer, or whom a proxy of ours speaks for.

use std::net::{IpAddr, Ipv6Addr};

use http::header::HeaderMap;

/// The proxies whose word about their client is taken, as networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// An IPv4 one as IPv6 writes it.
    begin: u128,
    bits: u32,
}

/// Where a client is, as far as it is counted: an IPv4 address, or an IPv6 network of 64 bits,
/// which is what one household gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u128);

impl Proxies {
    /// Reads addresses and networks like `10.0.0.0/8`, separated by commas; `None` when one is
    /// none of both.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(Network::parse).collect::<Option<_>>().map(Self)
    }

    /// Where the client is that asks over a connection from `peer`; `None` when it is a proxy that
    /// names nobody: whatever runs beside it.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Place> {
        if !self.trust(peer) {
            return Some(Place::of(peer));
        }
        // The last one that is no proxy: what stands before it anybody may have written.
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let words = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
        let addresses = words.map(|word| word.trim().parse::<IpAddr>());
        for address in addresses {
            match address {
                Ok(address) if self.trust(address) => {}
                Ok(address) => return Some(Place::of(address)),
                // A proxy that writes something else: its client cannot be told from others.
                Err(_) => return Some(Place::of(peer)),
            }
        }
        None
    }

    fn trust(&self, address: IpAddr) -> bool {
        let address = number(address);
        self.0.iter().any(|network| network.holds(address))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (bits_max, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = bits.unwrap_or(bits_max);
        (bits <= bits_max).then(|| Self { begin: number(address), bits: before + bits })
    }

    fn holds(self, address: u128) -> bool {
        // Shifting by all 128 bits is none in Rust's eyes.
        let differing = (self.begin ^ address).checked_shr(128 - self.bits);
        differing.unwrap_or(0) == 0
    }
}

impl Place {
    fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let is_wide = address.is_ipv6();
        let number = number(address);
        Self(if is_wide { number >> 64 << 64 } else { number })
    }
}

fn number(address: IpAddr) -> u128 {
    let wide = match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    Ipv6Addr::to_bits(wide)
}

const FORWARDED_FOR: &str = "x-forwarded-for";

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> Option<Place> {
        let proxies = Proxies::parse("127.0.0.0/8, ::1, 10.1.0.0/16, fdaa::/16").unwrap();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers)
    }

    fn place(address: &str) -> Option<Place> {
        Some(Place::of(address.parse().unwrap()))
    }

    #[test]
    fn only_a_proxy_speaks_for_others() {
        assert_eq!(client("203.0.113.7", &["198.51.100.1"]), place("203.0.113.7"));
        assert_eq!(client("10.1.2.3", &["198.51.100.1"]), place("198.51.100.1"));
        assert_eq!(client("10.2.0.1", &["198.51.100.1"]), place("10.2.0.1"));
        assert_eq!(client("::ffff:10.1.2.3", &["198.51.100.1"]), place("198.51.100.1"));
    }

    #[test]
    fn the_last_address_that_is_no_proxy_counts() {
        let forged = "1.1.1.1, 198.51.100.1, 10.1.9.9";
        assert_eq!(client("127.0.0.1", &[forged]), place("198.51.100.1"));
        assert_eq!(client("127.0.0.1", &["1.1.1.1", "198.51.100.1"]), place("198.51.100.1"));
        assert_eq!(client("10.1.2.3", &["1.1.1.1, unknown"]), place("10.1.2.3"));
        assert_eq!(client("fdaa:0:1::3", &["2001:db8::1"]), place("2001:db8::2"));
    }

    #[test]
    fn a_proxy_that_names_nobody_is_the_machine_itself() {
        assert_eq!(client("127.0.0.1", &[]), None);
        assert_eq!(client("::1", &["127.0.0.1"]), None);
    }

    #[test]
    fn networks_are_read_and_nothing_else_is() {
        assert_eq!(Proxies::parse(""), Some(Proxies(Vec::new())));
        assert!(Proxies::parse("0.0.0.0/0,::/0").is_some());
        for bad in ["10.0.0.0/33", "10.0.0/8", "::/129", "host", "10.0.0.1/x"] {
            assert_eq!(Proxies::parse(bad), None, "{bad}");
        }
        let all = Proxies::parse("::/0").unwrap();
        assert!(all.trust("203.0.113.7".parse().unwrap()));
    }
}

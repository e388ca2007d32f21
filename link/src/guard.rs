//! Which addresses may be reached that a customer names: tools by a relay, webhooks by control. A URL
//! is written by a customer and a name resolves to whatever its owner likes, so it is the address
//! that counts, after it was resolved: nothing that only this machine or its neighbours can reach,
//! unless the operator lists it.
//! Source: IANA, "Special-Purpose Address Registry" for IPv4 and IPv6, read 2026-11-20.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the operator allows beyond the public internet: addresses, ranges and names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    ranges: Vec<Range>,
    names: Vec<Box<str>>,
}

/// All addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: IpAddr,
    bits: u8,
}

impl Allowed {
    /// Reads a comma-separated list of addresses (`10.1.2.3`), ranges (`10.1.0.0/16`, `fd00::/8`)
    /// and names (`tools.internal`); `None` when an entry is none of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut allowed = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if let Some(range) = Range::parse(entry) {
                allowed.ranges.push(range);
            } else {
                allowed.names.push(name(entry)?);
            }
        }
        Some(allowed)
    }

    /// Whether the operator lists this address, or the name it was found under.
    #[must_use]
    pub fn lists(&self, name: Option<&str>, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ranges.iter().any(|range| range.holds(address))
            || name.is_some_and(|name| self.lists_name(name))
    }

    fn lists_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.names.iter().any(|listed| listed.eq_ignore_ascii_case(name))
    }
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().ok()?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        // `10.1.2.3/8` is most likely a slip, and its writer meant the smaller range.
        let range = Self { first, bits };
        (bits <= most && range.begins(first) == range.key(first)).then_some(range)
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.begins(address) == self.key(self.first)
    }

    /// An address with only the bits that count.
    fn begins(&self, address: IpAddr) -> u128 {
        let width: u32 = if self.first.is_ipv4() { 32 } else { 128 };
        let rest = width - u32::from(self.bits);
        self.key(address).checked_shr(rest).unwrap_or(0).checked_shl(rest).unwrap_or(0)
    }

    fn key(&self, address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        }
    }
}

/// A host's name in the form in which URLs have it.
fn name(text: &str) -> Option<Box<str>> {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    // Nothing that looks like an address and is not one: `10.0.0` or `127.1`.
    let is_name = text.split('.').all(label)
        && text.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
    (text.len() <= 253 && is_name).then(|| text.into())
}

/// Whether anybody on the internet could reach this address, so that reaching it from here gives
/// nothing away. Addresses that carry another one are as public as that one.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        // This network, private, loopback, multicast, reserved, broadcast.
        (0 | 10 | 127 | 224..=255, _, _)
            // Shared by carriers' customers, link-local (with the clouds' metadata), private.
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            // Protocol assignments, documentation, 6to4 relays, benchmarks.
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [.., high, low] = segments;
    let carried = Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        // NAT64: the network turns it into the address that it ends with.
        [0x64, 0xFF9B, 0, 0, 0, 0, ..] => is_public_v4(carried),
        // Protocol assignments with Teredo, documentation, 6to4: tunnels that lead anywhere.
        [0x2001, 0..=0x1FF | 0xDB8, ..] | [0x2002, ..] | [0x3FFF, 0..=0xFFF, ..] => false,
        // Unicast of the world. Loopback, mapped, link-local, unique local and multicast
        // addresses are all outside of it.
        [first, ..] => first >> 13 == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
    }

    #[test]
    fn what_only_neighbours_can_reach_is_not_public() {
        for hidden in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fdaa:0:1::3",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!is_public(ip(hidden)), "{hidden}");
        }
    }

    #[test]
    fn addresses_of_the_world_are_public() {
        for open in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
        ] {
            assert!(is_public(ip(open)), "{open}");
        }
    }

    #[test]
    fn a_list_holds_addresses_ranges_and_names() {
        let list = "127.0.0.1, 10.1.0.0/16,fd00::/8,  Tools.internal , 0.0.0.0/32,localhost";
        let allowed = Allowed::parse(list).unwrap();
        for listed in ["127.0.0.1", "::ffff:127.0.0.1", "10.1.255.3", "fdaa::1", "0.0.0.0"] {
            assert!(allowed.lists(None, ip(listed)), "{listed}");
        }
        for other in ["127.0.0.2", "10.2.0.1", "fe80::1", "::1", "::a01:1", "0.0.0.1"] {
            assert!(!allowed.lists(Some("elsewhere.internal"), ip(other)), "{other}");
        }
        assert!(allowed.lists(Some("tools.INTERNAL"), ip("10.9.9.9")));
        assert!(allowed.lists(Some("tools.internal."), ip("10.9.9.9")));
        assert!(!allowed.lists(Some("x.tools.internal"), ip("10.9.9.9")));
        assert_eq!(Allowed::parse(" , "), Some(Allowed::default()));
    }

    #[test]
    fn the_widest_range_holds_everything_of_its_kind() {
        let all = Allowed::parse("0.0.0.0/0").unwrap();
        assert!(all.lists(None, ip("255.1.2.3")) && !all.lists(None, ip("2001:db8::1")));
        assert!(Allowed::parse("::/0").unwrap().lists(None, ip("fe80::1")));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for bad in [
            "10.0.0.0/33",
            "::/129",
            "10.1.2.3/8",
            "10.0.0/8",
            "127.1",
            "10.0.0.0/",
            "a b",
            "http://x",
            "x/8",
            "fe80::1%eth0",
            "[::1]",
            "-./",
            "ümlaut.example",
            "a..b",
        ] {
            assert_eq!(Allowed::parse(bad), None, "{bad}");
        }
    }
}

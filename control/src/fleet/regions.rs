//! Which regions of relays are near the ends of a call, as the operator says. Pure.
//!
//! A call has two ends: the carrier's region, and the agent's service. Each may have a list of
//! regions of relays, nearest first. A relay between two ends adds the way to both, so the places in
//! both lists are added; what a list does not name stands behind its last.

use std::collections::BTreeMap;

/// The lists of regions, by the end that they are near to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regions {
    near: BTreeMap<String, Vec<String>>,
    home: Option<String>,
}

impl Regions {
    /// Reads `us1=iad,ord; ie1=fra,ams; api.example.com=iad`; `None` when it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut near = BTreeMap::new();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (end, regions) = entry.split_once('=')?;
            let regions: Vec<_> = regions.split(',').map(word).collect::<Option<_>>()?;
            if regions.len() > REGIONS_MAX || near.insert(word(end)?, regions).is_some() {
                return None;
            }
        }
        Some(Self { near, home: None })
    }

    /// With the carrier's region of calls of which it says none.
    #[must_use]
    pub fn with_home(self, home: impl Into<String>) -> Self {
        Self { home: Some(home.into()), ..self }
    }

    /// The carrier's region of a call: what it says, where that is known, else the account's own.
    #[must_use]
    pub fn of_carrier<'a>(&'a self, said: Option<&'a str>) -> Option<&'a str> {
        said.filter(|said| self.near.contains_key(*said)).or(self.home.as_deref())
    }

    /// The regions for a call between these ends, best first; empty when nothing is said of either.
    /// Of two that are equally good the one that is nearer to the first end comes first.
    #[must_use]
    pub fn order(&self, ends: &[Option<&str>]) -> Vec<String> {
        let known = ends.iter().flatten().filter_map(|end| self.near.get(*end));
        let lists: Vec<&Vec<String>> = known.collect();
        let mut order: Vec<&String> = Vec::new();
        for region in lists.iter().copied().flatten() {
            if !order.contains(&region) {
                order.push(region);
            }
        }
        // Stable: equals stay as they were put in, the first end's first.
        order.sort_by_key(|region| lists.iter().map(|list| place(list, region)).sum::<usize>());
        order.into_iter().cloned().collect()
    }
}

fn place(list: &[String], region: &str) -> usize {
    list.iter().position(|one| one == region).unwrap_or(list.len())
}

/// A region or an end: what a relay may call its region (`RELAY_REGION`), and what a host's name may
/// be.
fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    ((1..=253).contains(&text.len()) && text.bytes().all(is_good)).then(|| text.to_owned())
}

/// Regions in one list: more would not be a preference.
const REGIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "us1=iad,ord; ie1=fra,ams,iad; api.example.com=iad,ams";

    fn order(ends: &[Option<&str>]) -> Vec<String> {
        Regions::parse(TEXT).unwrap().order(ends)
    }

    #[test]
    fn regions_come_in_the_order_of_the_carriers_region() {
        assert_eq!(order(&[Some("us1"), None]), ["iad", "ord"]);
        assert_eq!(order(&[Some("ie1"), Some("elsewhere.example")]), ["fra", "ams", "iad"]);
        assert_eq!(order(&[None, Some("api.example.com")]), ["iad", "ams"]);
        assert!(order(&[Some("au1"), None]).is_empty());
    }

    #[test]
    fn a_relay_between_two_ends_is_near_to_both() {
        // ams is second in both lists, fra first in one and in the other not at all.
        assert_eq!(order(&[Some("ie1"), Some("api.example.com")]), ["fra", "ams", "iad"]);
        let regions = Regions::parse("ie1=fra,ams,iad; far.example=iad,ams,ord").unwrap();
        let both = regions.order(&[Some("ie1"), Some("far.example")]);
        assert_eq!(both, ["ams", "iad", "fra", "ord"]);
    }

    #[test]
    fn a_carrier_that_says_nothing_known_is_at_home() {
        let regions = Regions::parse(TEXT).unwrap().with_home("us1");
        assert_eq!(regions.of_carrier(None), Some("us1"));
        assert_eq!(regions.of_carrier(Some("ie1")), Some("ie1"));
        assert_eq!(regions.of_carrier(Some("xx9")), Some("us1"));
        assert_eq!(Regions::default().of_carrier(Some("ie1")), None);
    }

    #[test]
    fn what_is_no_list_is_refused_as_a_whole() {
        for bad in ["us1", "us1=", "=iad", "us1=iad,", "us1=iad;us1=ord", "us1=i ad", "us1=iad=ord"]
        {
            assert_eq!(Regions::parse(bad), None, "{bad}");
        }
        assert_eq!(Regions::parse(" ; "), Some(Regions::default()));
    }
}

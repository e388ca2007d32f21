//! What the node knows from control, or from its files when it runs alone: keys, signatures,
//! agents. Written by the house, read by every shard without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use link::agent::AgentSpec;
use link::id::{AgentName, TenantId, WallTime};
use link::message::AGENT_VERSIONS_MAX;
use link::secret::Secret;
use link::ticket::{Claims, KeySet, Refusal};
use subtle::{Choice, ConstantTimeEq};

/// Which version of whose agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: AgentName,
    /// Its version.
    pub version: u32,
}

impl AgentKey {
    /// The key of a spec.
    #[must_use]
    pub fn of(spec: &AgentSpec) -> Self {
        let AgentSpec { tenant, name, version, .. } = spec;
        Self { tenant: tenant.clone(), name: name.clone(), version: *version }
    }

    /// The agent that a ticket names.
    #[must_use]
    pub fn of_claims(claims: &Claims) -> Self {
        let Claims { tenant, agent, agent_version, .. } = claims;
        Self { tenant: tenant.clone(), name: agent.clone(), version: *agent_version }
    }
}

/// How the signature of an upgrade is judged.
#[derive(Debug, Clone)]
pub enum Signatures {
    /// A relay that runs alone without a file of signatures asks for none.
    NotAsked,
    /// One of these must be there.
    OneOf(Vec<Secret>),
}

/// Everything that a stream is judged by.
#[derive(Debug)]
pub struct Known {
    keys: ArcSwap<KeySet>,
    signatures: ArcSwap<Signatures>,
    agents: ArcSwap<HashMap<AgentKey, Arc<AgentSpec>>>,
    synced: AtomicBool,
}

/// Why an agent was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{AGENTS_MAX} agent versions are kept, and no more")]
pub struct TooManyAgents;

/// The most agent versions that are kept. A spec may have 36 KiB, so it bounds them to 144 MiB at
/// the very worst and to a few MiB in practice; when it is reached, tickets for newer versions are
/// refused until the relay restarts.
pub const AGENTS_MAX: usize = 4_096;

impl Known {
    /// Knows nothing yet, and lets nobody in.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            keys: ArcSwap::default(),
            signatures: ArcSwap::from_pointee(Signatures::OneOf(Vec::new())),
            agents: ArcSwap::default(),
            synced: AtomicBool::new(false),
        }
    }

    /// Replaces the keys that tickets are signed with.
    pub fn set_keys(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
    }

    /// Replaces what an upgrade's signature may be.
    pub fn set_signatures(&self, signatures: Signatures) {
        self.signatures.store(Arc::new(signatures));
    }

    /// Keeps one version of an agent; of more than [`AGENT_VERSIONS_MAX`] the oldest other one makes
    /// room, and calls that have it keep it. The house is the only writer.
    ///
    /// # Errors
    /// When [`AGENTS_MAX`] are kept already.
    pub fn keep_agent(&self, spec: AgentSpec) -> Result<(), TooManyAgents> {
        let key = AgentKey::of(&spec);
        let mut agents = HashMap::clone(&self.agents.load());
        if agents.len() >= AGENTS_MAX && !agents.contains_key(&key) {
            return Err(TooManyAgents);
        }
        if let Some(oldest) = oldest_too_many(&agents, &key) {
            agents.remove(&oldest);
        }
        agents.insert(key, Arc::new(spec));
        self.agents.store(Arc::new(agents));
        Ok(())
    }

    /// Everything that a call needs is here.
    pub fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// Whether everything that a call needs has been here once. It stays so while control is away.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Checks a ticket's signature and life.
    ///
    /// # Errors
    /// The [`Refusal`] that applies first.
    pub fn verify(&self, ticket: &str, now: WallTime) -> Result<Claims, Refusal> {
        self.keys.load().verify(ticket, now)
    }

    /// One version of an agent.
    #[must_use]
    pub fn agent(&self, key: &AgentKey) -> Option<Arc<AgentSpec>> {
        self.agents.load().get(key).cloned()
    }

    /// The newest version of every agent, in the order of their names.
    #[must_use]
    pub fn newest_agents(&self) -> Vec<Arc<AgentSpec>> {
        let mut newest = BTreeMap::<_, Arc<AgentSpec>>::new();
        let agents = self.agents.load();
        agents.values().for_each(|spec| {
            let one = newest.entry((spec.tenant.clone(), spec.name.clone()));
            let one = one.or_insert_with(|| spec.clone());
            if one.version < spec.version {
                *one = spec.clone();
            }
        });
        newest.into_values().collect()
    }

    /// How many agent versions are kept.
    #[must_use]
    pub fn agent_count(&self) -> usize {
        self.agents.load().len()
    }

    /// Judges an upgrade's signature, in a time that tells nothing about the right one.
    #[must_use]
    pub fn signature(&self, given: Option<&[u8]>) -> Signature {
        let signatures = self.signatures.load();
        let Signatures::OneOf(values) = signatures.as_ref() else { return Signature::Good };
        let Some(given) = given else { return Signature::Missing };
        // Every value is looked at, so that the time does not say which one was close.
        let matches = values
            .iter()
            .map(|value| value.reveal().as_bytes().ct_eq(given))
            .fold(Choice::from(0), |found, one| found | one);
        if bool::from(matches) { Signature::Good } else { Signature::Forged }
    }
}

/// The version that must go when `key` comes, if one must.
fn oldest_too_many(agents: &HashMap<AgentKey, Arc<AgentSpec>>, key: &AgentKey) -> Option<AgentKey> {
    let others =
        agents.keys().filter(|one| one.tenant == key.tenant && one.name == key.name && one != &key);
    if others.clone().count() < AGENT_VERSIONS_MAX {
        return None;
    }
    others.min_by_key(|one| one.version).cloned()
}

/// What an upgrade's signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// One of those that were announced, or none is asked for.
    Good,
    /// Not there.
    Missing,
    /// Not one of those that were announced.
    Forged,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(known: &Known, name: &str, version: u32) {
        let spec = serde_json::json!({
            "name": name, "version": version, "instructions": "x",
            "provider": {"kind": "openai_realtime"},
        });
        known.keep_agent(serde_json::from_value(spec).unwrap()).unwrap();
    }

    #[test]
    fn an_agent_that_changes_all_the_time_costs_its_own_old_versions_only() {
        let known = Known::nothing();
        keep(&known, "b", 1);
        (1..=100).for_each(|version| keep(&known, "a", version));
        keep(&known, "a", 3);
        keep(&known, "a", 100);
        assert_eq!(known.agent_count(), AGENT_VERSIONS_MAX + 1);
        let has = |name: &str, version| {
            let name = AgentName::new(name).unwrap();
            known.agent(&AgentKey { tenant: TenantId::default(), name, version }).is_some()
        };
        assert!(has("b", 1) && has("a", 3) && has("a", 100) && !has("a", 85));
    }

    #[test]
    fn the_newest_version_of_each_agent_counts() {
        let known = Known::nothing();
        for (name, version) in [("a", 2), ("b", 1), ("a", 10), ("a", 9)] {
            keep(&known, name, version);
        }
        let newest = known.newest_agents();
        let newest: Vec<_> = newest.iter().map(|spec| (spec.name.as_str(), spec.version)).collect();
        assert_eq!(newest, [("a", 10), ("b", 1)]);
    }

    #[test]
    fn a_signature_must_be_one_of_those_announced() {
        let known = Known::nothing();
        assert_eq!(known.signature(Some(b"")), Signature::Forged, "before the first push");
        known.set_signatures(Signatures::OneOf(vec![Secret::new("abc="), Secret::new("def=")]));
        assert_eq!(known.signature(Some(b"def=")), Signature::Good);
        assert_eq!(known.signature(Some(b"def")), Signature::Forged);
        assert_eq!(known.signature(Some(b"abc=def=")), Signature::Forged);
        assert_eq!(known.signature(None), Signature::Missing);
        known.set_signatures(Signatures::NotAsked);
        assert_eq!(known.signature(None), Signature::Good);
    }
}

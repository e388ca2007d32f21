//! Which versions of agents each node has been told of, and telling it of more.
//!
//! A node keeps what it was told as long as its process lives; what is remembered here is one
//! connection's part of that. So a version may be told twice, which changes nothing, and a stream is
//! never announced before its agent.
//!
//! A version never changes, but for the key of its service, which its tenant may change or take away:
//! then it is told again.

use std::collections::BTreeMap;
use std::sync::Arc;

use link::agent::AgentSpec;
use link::id::{AgentName, NodeId, TenantId};
use link::message::AGENT_VERSIONS_MAX;
use link::secret::Secret;

use super::nodes::Nodes;
use super::orders::{KnownAgent, Order, Unsent};
use crate::store::call::Call;

/// Which version of whose agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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

    /// The agent of a call.
    #[must_use]
    pub fn of_call(call: &Call) -> Self {
        let Call { tenant, agent, agent_version, .. } = call;
        Self { tenant: tenant.clone(), name: agent.clone(), version: *agent_version }
    }
}

/// What one node was told: the versions of each agent, and the key of its service that each came
/// with.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<(TenantId, AgentName), BTreeMap<u32, Secret>>);

impl Told {
    fn key_of(&self, key: &AgentKey) -> Option<&Secret> {
        self.0.get(&(key.tenant.clone(), key.name.clone()))?.get(&key.version)
    }

    /// Whether the version was told.
    fn has(&self, key: &AgentKey) -> bool {
        self.key_of(key).is_some()
    }

    /// Whether it was told as it is, with the key that it has.
    fn has_all_of(&self, spec: &AgentSpec) -> bool {
        let told = self.key_of(&AgentKey::of(spec));
        told.is_some_and(|told| told.reveal() == spec.provider.api_key().reveal())
    }

    /// Forgets as the node forgets: the oldest other version. What came with another key is forgotten
    /// here alone: it is told once more, with the new one, when a call needs it.
    fn keep(&mut self, spec: &AgentSpec) {
        let key = spec.provider.api_key();
        let versions = self.0.entry((spec.tenant.clone(), spec.name.clone())).or_default();
        versions.retain(|_, told| told.reveal() == key.reveal());
        versions.insert(spec.version, key.clone());
        if versions.len() > AGENT_VERSIONS_MAX
            && let Some(oldest) = versions.keys().copied().find(|old| *old != spec.version)
        {
            versions.remove(&oldest);
        }
    }

    fn forget(&mut self, key: &AgentKey) {
        if let Some(versions) = self.0.get_mut(&(key.tenant.clone(), key.name.clone())) {
            versions.remove(&key.version);
        }
    }
}

impl Nodes {
    /// Whether the node has been told of this version. A node that is not there needs to know
    /// nothing.
    #[must_use]
    pub fn knows(&self, node: &NodeId, key: &AgentKey) -> bool {
        self.nodes().get(node).is_none_or(|entry| entry.told.has(key))
    }

    /// The node has got these on its way in.
    pub(super) fn was_told(&self, node: &NodeId, specs: &[Arc<AgentSpec>]) {
        if let Some(entry) = self.nodes().get_mut(node) {
            specs.iter().for_each(|spec| entry.told.keep(spec));
        }
    }

    /// Tells a node of a version, unless it knows it as it is.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn tell(&self, node: &NodeId, spec: &Arc<AgentSpec>) -> Result<(), Unsent> {
        if self.nodes().get(node).is_none_or(|entry| entry.told.has_all_of(spec)) {
            return Ok(());
        }
        let sent = self.send(node, Order::Agent(KnownAgent(Arc::clone(spec))));
        if let Some(entry) = self.nodes().get_mut(node) {
            match sent {
                Ok(()) => entry.told.keep(spec),
                // What it was told of it before does not count any more.
                Err(_) => entry.told.forget(&AgentKey::of(spec)),
            }
        }
        sent
    }

    /// Tells every node of a version. One that does not keep up is told when a call needs it.
    pub fn tell_all(&self, spec: &Arc<AgentSpec>) {
        for state in self.list() {
            if let Err(error) = self.tell(&state.node, spec) {
                tracing::debug!(node = %state.node, %error, "a node is not told of an agent yet");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(version: u32) -> AgentKey {
        AgentKey::of(&spec(version, ""))
    }

    fn spec(version: u32, api_key: &str) -> AgentSpec {
        let mut spec: AgentSpec = serde_json::from_value(serde_json::json!({
            "name": "x", "version": version, "instructions": "x",
            "provider": {"kind": link::agent::Provider::KINDS[0]},
        }))
        .unwrap();
        spec.provider.set_api_key(Secret::new(api_key));
        spec
    }

    #[test]
    fn of_one_agent_the_oldest_other_version_is_forgotten() {
        let mut told = Told::default();
        (10..).take(AGENT_VERSIONS_MAX).for_each(|version| told.keep(&spec(version, "a")));
        assert!(told.has(&key(10)) && !told.has(&key(3)));
        told.keep(&spec(3, "a"));
        assert!(told.has(&key(3)) && !told.has(&key(10)) && told.has(&key(11)));
        let other = AgentKey { tenant: TenantId::new("other").unwrap(), ..key(3) };
        assert!(!told.has(&other));
    }

    #[test]
    fn what_came_with_another_key_is_to_be_told_again() {
        let mut told = Told::default();
        (1..=2).for_each(|version| told.keep(&spec(version, "old")));
        assert!(told.has_all_of(&spec(2, "old")) && !told.has_all_of(&spec(2, "new")));
        told.keep(&spec(2, "new"));
        assert!(told.has_all_of(&spec(2, "new")) && !told.has(&key(1)));
        told.forget(&key(2));
        assert!(!told.has(&key(2)));
        assert!(!format!("{told:?}").contains("new"));
    }
}

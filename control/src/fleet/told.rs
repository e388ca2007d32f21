//! Which versions of agents each node has been told of, and telling it of more.
//!
//! A node keeps what it was told as long as its process lives; what is remembered here is one
//! connection's part of that. So a version may be told twice, which changes nothing, and a stream is
//! never announced before its agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use link::agent::AgentSpec;
use link::id::{AgentName, NodeId, TenantId};
use link::message::AGENT_VERSIONS_MAX;

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

/// What one node was told.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<(TenantId, AgentName), BTreeSet<u32>>);

impl Told {
    fn has(&self, key: &AgentKey) -> bool {
        let versions = self.0.get(&(key.tenant.clone(), key.name.clone()));
        versions.is_some_and(|versions| versions.contains(&key.version))
    }

    /// Forgets as the node forgets: the oldest other version.
    fn keep(&mut self, key: AgentKey) {
        let versions = self.0.entry((key.tenant, key.name)).or_default();
        versions.insert(key.version);
        if versions.len() > AGENT_VERSIONS_MAX
            && let Some(oldest) = versions.iter().copied().find(|old| *old != key.version)
        {
            versions.remove(&oldest);
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
            specs.iter().for_each(|spec| entry.told.keep(AgentKey::of(spec)));
        }
    }

    /// Tells a node of a version, unless it knows it.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn tell(&self, node: &NodeId, spec: &Arc<AgentSpec>) -> Result<(), Unsent> {
        let key = AgentKey::of(spec);
        if self.knows(node, &key) {
            return Ok(());
        }
        self.send(node, Order::Agent(KnownAgent(Arc::clone(spec))))?;
        if let Some(entry) = self.nodes().get_mut(node) {
            entry.told.keep(key);
        }
        Ok(())
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
        let (tenant, name) = (TenantId::default(), AgentName::new("x").unwrap());
        AgentKey { tenant, name, version }
    }

    #[test]
    fn of_one_agent_the_oldest_other_version_is_forgotten() {
        let mut told = Told::default();
        (10..).take(AGENT_VERSIONS_MAX).for_each(|version| told.keep(key(version)));
        assert!(told.has(&key(10)) && !told.has(&key(3)));
        told.keep(key(3));
        assert!(told.has(&key(3)) && !told.has(&key(10)) && told.has(&key(11)));
        let other = AgentKey { tenant: TenantId::new("other").unwrap(), ..key(3) };
        assert!(!told.has(&other));
    }
}

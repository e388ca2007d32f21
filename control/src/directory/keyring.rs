//! Whose key an agent's service is reached with: the tenant's own, where it has brought one. The
//! environment's keys are the operator's: other tenants must not speak at its cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use link::agent::AgentSpec;
use link::id::TenantId;
use link::secret::Secret;

use crate::config::agents::ProviderKeys;
use crate::store::{Store, StoreError};

/// The keys that some agents need, each looked up once.
pub(super) struct Keyring<'a> {
    environment: &'a ProviderKeys,
    store: &'a Store,
    found: BTreeMap<(TenantId, &'static str), Option<Secret>>,
}

impl<'a> Keyring<'a> {
    /// An empty one, for what is read at one moment: it does not hear of a change.
    pub(super) fn new(environment: &'a ProviderKeys, store: &'a Store) -> Self {
        Self { environment, store, found: BTreeMap::new() }
    }

    /// The spec with the key of its service, or with none when there is none.
    pub(super) async fn fill(&mut self, mut spec: AgentSpec) -> Result<Arc<AgentSpec>, StoreError> {
        if spec.provider.api_key().is_empty()
            && let Some(key) = self.key(&spec).await?
        {
            spec.provider.set_api_key(key);
        }
        Ok(Arc::new(spec))
    }

    async fn key(&mut self, spec: &AgentSpec) -> Result<Option<Secret>, StoreError> {
        let own = self.own(&spec.tenant, spec.provider.key_name()).await?;
        let environment = || self.environment.of(spec.provider.key_setting()).cloned();
        let is_operators = spec.tenant == TenantId::default();
        Ok(own.or_else(|| environment().filter(|_| is_operators)))
    }

    /// What the tenant has brought.
    async fn own(
        &mut self,
        tenant: &TenantId,
        provider: &'static str,
    ) -> Result<Option<Secret>, StoreError> {
        let place = (tenant.clone(), provider);
        if let Some(found) = self.found.get(&place) {
            return Ok(found.clone());
        }
        let found = match self.store.provider_key(tenant, provider).await {
            Ok(found) => found,
            // One that does not open costs its own tenant's calls, and no other's.
            Err(error @ (StoreError::Key(_) | StoreError::Row { .. })) => {
                tracing::error!(%tenant, provider, error = error.explain(), "a key does not open");
                None
            }
            Err(error) => return Err(error),
        };
        self.found.insert(place, found.clone());
        Ok(found)
    }
}

//! The tenants as they were a moment ago, in memory: what every request, web page and call is
//! held against. While the database is away, they stay as they were.

use std::collections::BTreeMap;
use std::sync::Arc;

use link::id::TenantId;
use tokio::sync::{Mutex, watch};

use super::origin::Origin;
use crate::store::{Store, StoreError, Tenant};

/// The tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tenants {
    store: Store,
    known: Arc<watch::Sender<Known>>,
    /// One reads at a time: who has begun to read before a change does not overwrite it.
    reading: Arc<Mutex<()>>,
    /// The pages that the environment names for the tenant `default`.
    pages: Arc<[Origin]>,
}

type Known = Arc<BTreeMap<TenantId, Arc<Tenant>>>;

impl Tenants {
    /// Takes them from the store.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(store: Store) -> Result<Self, StoreError> {
        let tenants =
            Self { store, known: Arc::default(), pages: Arc::default(), reading: Arc::default() };
        tenants.refresh().await?;
        Ok(tenants)
    }

    /// The same, with pages of the tenant `default` that the operator has named at start.
    #[must_use]
    pub fn with_pages(mut self, pages: Vec<Origin>) -> Self {
        self.pages = pages.into();
        self
    }

    /// Takes them from the store again.
    ///
    /// # Errors
    /// When the store fails; they then stay as they were.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.reading.lock().await;
        let read = self.store.tenants().await?;
        let read: BTreeMap<_, _> =
            read.into_iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant))).collect();
        self.known.send_if_modified(|known| {
            let is_news = **known != read;
            if is_news {
                *known = Arc::new(read);
            }
            is_news
        });
        Ok(())
    }

    /// A tenant; `None` when there is no such one.
    #[must_use]
    pub fn get(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.known.borrow().get(id).cloned()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        self.known.borrow().values().cloned().collect()
    }

    /// Whether a web page may ask for this tenant.
    #[must_use]
    pub fn may_ask(&self, id: &TenantId, origin: &str) -> bool {
        let is_named = *id == TenantId::default() && self.is_named(origin);
        is_named || self.known.borrow().get(id).is_some_and(|tenant| has(&tenant.origins, origin))
    }

    /// Whether a web page may ask for some tenant: which one, a browser's first question does not
    /// say yet.
    #[must_use]
    pub fn is_known(&self, origin: &str) -> bool {
        let is_listed = |tenant: &Arc<Tenant>| has(&tenant.origins, origin);
        self.is_named(origin) || self.known.borrow().values().any(is_listed)
    }

    fn is_named(&self, origin: &str) -> bool {
        has(&self.pages, origin)
    }
}

fn has(origins: &[Origin], origin: &str) -> bool {
    origins.iter().map(Origin::as_str).any(|known| known == origin)
}

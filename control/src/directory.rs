//! The directory: who answers which number, for every tenant, in memory. A webhook asks it before it is known
//! whose call it is, and does not wait for a database.
//!
//! Two sources: the agent file, whose agents stay as they are while the process lives, and the
//! database, in which each change has a revision; a change of a tenant's provider key counts as one of
//! all its agents. [`Directory::refresh`] reads what has changed, at
//! once behind a change of this instance and every second for those of others, and tells the relays.
//! Not here: how agents and numbers are stored (`store/agents.rs`, `store/numbers.rs`), how they are
//! made (`api/agents.rs`, `api/numbers.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use link::agent::AgentSpec;
use link::id::{AgentName, TenantId};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::keyring::Keyring;
use crate::config::agents::{Agents, ProviderKeys};
use crate::error::Problem;
use crate::fleet::nodes::Nodes;
use crate::fleet::told::AgentKey;
use crate::plane::Plane;
use crate::store::agents::CHANGES_PAGE;
use crate::store::call::Number;
use crate::store::numbers::{Line, NumberChange};
use crate::store::{Store, StoreError};

mod keyring;

/// Who answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    seeds: Agents,
    keys: ProviderKeys,
    known: Mutex<Known>,
    /// Held by the one who reads changes, so that they are taken in their order.
    reading: tokio::sync::Mutex<()>,
}

/// What the database says, as far as it was read: who answers, and which number leads where.
#[derive(Debug, Default)]
struct Known {
    agents: BTreeMap<TenantId, BTreeMap<AgentName, Arc<AgentSpec>>>,
    agents_read: i64,
    lines: BTreeMap<String, Arc<Line>>,
    lines_read: i64,
}

impl Directory {
    /// Puts the agents of the file and those of the database together.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(
        seeds: Agents,
        keys: ProviderKeys,
        store: &Store,
    ) -> Result<Self, StoreError> {
        let (known, reading) = (Mutex::default(), tokio::sync::Mutex::default());
        let directory = Self { inner: Arc::new(Inner { seeds, keys, known, reading }) };
        // Nobody is there yet who would have to be told.
        directory.refresh(store, &Nodes::new()).await?;
        Ok(directory)
    }

    /// The newest version of an agent. Without a name the one that the file says, and for a tenant
    /// that has one agent only, that one.
    #[must_use]
    pub fn newest(&self, tenant: &TenantId, name: Option<&AgentName>) -> Option<Arc<AgentSpec>> {
        match name {
            Some(name) => self.named(tenant, name),
            None => self.named(tenant, &self.default_name(tenant)?),
        }
    }

    /// The same; an agent that is not known yet may have been made on another instance a moment ago.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_or_new(
        &self,
        plane: &Plane,
        tenant: &TenantId,
        name: Option<&AgentName>,
    ) -> Result<Option<Arc<AgentSpec>>, StoreError> {
        if let Some(spec) = self.newest(tenant, name) {
            return Ok(Some(spec));
        }
        self.refresh(&plane.store, &plane.nodes).await?;
        Ok(self.newest(tenant, name))
    }

    /// Whose number this is, and where its calls go; `None` when nobody has taken it.
    #[must_use]
    pub fn line(&self, number: &str) -> Option<Arc<Line>> {
        self.known().lines.get(number).cloned()
    }

    /// One version of an agent, whether or not it is the newest.
    ///
    /// # Errors
    /// When it is not in memory and the database fails.
    pub async fn version(
        &self,
        store: &Store,
        key: &AgentKey,
    ) -> Result<Option<Arc<AgentSpec>>, StoreError> {
        let AgentKey { tenant, name, version } = key;
        let is_wanted = |spec: &Arc<AgentSpec>| spec.version == *version;
        let seed = self.inner.seeds.versions(tenant, name).find(|spec| is_wanted(spec));
        if let Some(spec) = seed.cloned().or_else(|| self.named(tenant, name).filter(is_wanted)) {
            return Ok(Some(spec));
        }
        match store.agent(tenant, name, Some(*version)).await? {
            Some(agent) => Ok(Some(self.keyring(store).fill(agent.spec).await?)),
            None => Ok(None),
        }
    }

    /// Everything that a relay should know before a call comes: all versions of the file, and the
    /// newest of each agent of the database. An older one follows when a call needs it.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<AgentSpec>> {
        let known = self.known();
        let stored = known.agents.values().flat_map(BTreeMap::values);
        self.inner.seeds.all().chain(stored).cloned().collect()
    }

    /// The newest versions of the tenant's agents of the file.
    #[must_use]
    pub fn seeds(&self, tenant: &TenantId) -> Vec<Arc<AgentSpec>> {
        let all = self.inner.seeds.all().filter(|spec| spec.tenant == *tenant);
        // Oldest first, so that the newest stays.
        let newest: BTreeMap<_, _> =
            all.map(|spec| (spec.name.clone(), Arc::clone(spec))).collect();
        newest.into_values().collect()
    }

    /// Every version of an agent of the file, oldest first; none when it is not there.
    #[must_use]
    pub fn seed_versions(&self, tenant: &TenantId, name: &AgentName) -> Vec<Arc<AgentSpec>> {
        self.inner.seeds.versions(tenant, name).cloned().collect()
    }

    /// Whether the agent is one of the file, which only the operator changes.
    #[must_use]
    pub fn is_seed(&self, tenant: &TenantId, name: &AgentName) -> bool {
        self.inner.seeds.newest(tenant, name).is_some()
    }

    /// Whether calls of an agent that is to be made could reach its service.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_key(&self, store: &Store, spec: &AgentSpec) -> Result<bool, StoreError> {
        if !spec.provider.needs_key() {
            return Ok(true);
        }
        let filled = self.keyring(store).fill(spec.clone()).await?;
        Ok(can_answer(&filled))
    }

    /// Reads what has changed since the last time, and tells the relays.
    ///
    /// # Errors
    /// When the database fails: what was read until then counts.
    pub async fn refresh(&self, store: &Store, nodes: &Nodes) -> Result<(), StoreError> {
        let _one_at_a_time = self.inner.reading.lock().await;
        // Agents first: a number that names one is not known before it.
        while self.read_agents(store, nodes).await? == CHANGES_PAGE {}
        while self.read_numbers(store).await? == CHANGES_PAGE {}
        Ok(())
    }

    /// Looks every second for what other instances have changed, until `stop` is cancelled.
    pub async fn follow(&self, store: &Store, nodes: &Nodes, stop: CancellationToken) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            if let Err(error) = self.refresh(store, nodes).await {
                tracing::debug!(error = error.explain(), "the directory waits for the database");
            }
        }
    }

    /// Takes one page of changed agents; says how many there were.
    async fn read_agents(&self, store: &Store, nodes: &Nodes) -> Result<usize, StoreError> {
        let after = self.known().agents_read;
        let changes = store.agent_changes(after).await?;
        let (many, mut keyring) = (changes.len(), self.keyring(store));
        for change in changes {
            let (tenant, name) = (change.tenant, change.name);
            let is_hidden = self.is_seed(&tenant, &name);
            if is_hidden && change.spec.is_some() {
                tracing::warn!(agent = %name, "an agent of the file hides one of the database");
            }
            // Behind the change: the key that was set with it is there.
            let spec = match change.spec.filter(|_| !is_hidden) {
                Some(spec) => Some(keyring.fill(spec).await?),
                None => None,
            };
            let mut known = self.known();
            known.agents_read = change.revision;
            let of_tenant = known.agents.entry(tenant).or_default();
            match spec {
                Some(spec) => {
                    of_tenant.insert(name, Arc::clone(&spec));
                    drop(known);
                    nodes.tell_all(&spec);
                }
                None => {
                    of_tenant.remove(&name);
                }
            }
        }
        Ok(many)
    }

    /// Takes one page of changed numbers; says how many there were.
    async fn read_numbers(&self, store: &Store) -> Result<usize, StoreError> {
        let after = self.known().lines_read;
        let changes = store.number_changes(after).await?;
        let mut known = self.known();
        for NumberChange { revision, tenant, number: Number(number), line } in &changes {
            known.lines_read = *revision;
            match line {
                Some(line) => drop(known.lines.insert(number.clone(), Arc::new(line.clone()))),
                // Another tenant may have taken it since, and been read before.
                None if known.lines.get(number).is_some_and(|line| line.tenant == *tenant) => {
                    known.lines.remove(number);
                }
                None => {}
            }
        }
        Ok(changes.len())
    }

    fn named(&self, tenant: &TenantId, name: &AgentName) -> Option<Arc<AgentSpec>> {
        if let Some(seed) = self.inner.seeds.newest(tenant, name) {
            return Some(Arc::clone(seed));
        }
        self.known().agents.get(tenant)?.get(name).cloned()
    }

    fn default_name(&self, tenant: &TenantId) -> Option<AgentName> {
        let seeds = &self.inner.seeds;
        if *tenant == TenantId::default()
            && let Some(name) = seeds.default_name()
        {
            return Some(name.clone());
        }
        let of_tenant = |spec: &&Arc<AgentSpec>| spec.tenant == *tenant;
        let known = self.known();
        let stored = known.agents.get(tenant).into_iter().flat_map(BTreeMap::keys);
        let names = seeds.all().filter(of_tenant).map(|spec| &spec.name).chain(stored);
        // Those that a page has brought about with a prompt must not change who answers.
        let names: BTreeSet<_> = names.filter(|name| !is_made_of_prompt(name)).collect();
        // With several, to choose one would be a guess.
        if names.len() == 1 { names.first().map(|name| (*name).clone()) } else { None }
    }

    fn keyring<'a>(&'a self, store: &'a Store) -> Keyring<'a> {
        Keyring::new(&self.inner.keys, store)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether calls of an agent can reach its service, by the key that it has been given.
#[must_use]
pub fn can_answer(spec: &AgentSpec) -> bool {
    !spec.provider.needs_key() || !spec.provider.api_key().is_empty()
}

/// The refusal of calls that nobody could answer, and of agents that could answer none.
#[must_use]
pub fn no_key(spec: &AgentSpec) -> Problem {
    let (agent, provider) = (&spec.name, spec.provider.key_name());
    let mut detail = format!(
        "There is no key for the service of agent `{agent}`, so it could answer no call. Bring \
         yours: PUT /v1/keys/providers/{provider}"
    );
    if spec.tenant == TenantId::default() {
        detail.push_str(", or set ");
        detail.push_str(spec.provider.key_setting());
    }
    detail.push('.');
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "provider_key_missing", detail)
}

/// Whether this is the name of an agent that was made of a prompt ([`crate::api::compat`]): no
/// person has chosen it.
#[must_use]
pub(crate) fn is_made_of_prompt(name: &AgentName) -> bool {
    let digest = name.as_str().strip_prefix(MADE_OF_PROMPT);
    digest.is_some_and(|text| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// How the names of agents begin that were made of a prompt; its digest follows.
pub(crate) const MADE_OF_PROMPT: &str = "prompt-";

/// How late a change of another instance may be known. Half of it costs the database twice as many
/// questions, of a tenth of a millisecond each.
const LOOK_EVERY: Duration = Duration::from_secs(1);

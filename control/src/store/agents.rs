//! Agents that were made with the API: a row for each agent, and one for each version of it, which
//! is never changed.
//!
//! What is secret in a spec is sealed beside it. Provider keys are no part of a spec: whoever tells
//! a relay of it puts them in ([`crate::directory`]).

use std::collections::BTreeMap;

use link::agent::{AgentSpec, Tool};
use link::id::{AgentName, TenantId, WallTime};
use link::secret::Secret;
use serde_json::json;
use zeroize::Zeroizing;

use super::audit::{self, Deed};
use super::idempotency::Once;
use super::revisions::next_revision;
use super::tx::{Scope, Tx, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;

/// One version of an agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// What answers, with the secrets of its tools and without a provider key.
    pub spec: AgentSpec,
    /// When the agent's first version was made.
    pub created_at: WallTime,
    /// When this version was made.
    pub updated_at: WallTime,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Changed<T> {
    /// It was made; this is how things are.
    Done(T),
    /// There is one of that name already.
    Exists,
    /// There is none of that name.
    Absent,
    /// It has changed meanwhile; this is its version.
    Stale(u32),
    /// The tenant has as many as it may have.
    TooMany,
    /// Something else needs it.
    InUse,
}

/// Which version a change is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whichever it is.
    Any,
    /// This one only.
    Version(u32),
}

impl Expected {
    pub(super) fn allows(self, version: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Version(expected) => expected == version,
        }
    }
}

/// An agent that has changed since somebody looked.
#[derive(Debug)]
pub(crate) struct AgentChange {
    /// The place of the change.
    pub(crate) revision: i64,
    /// Whose agent it is.
    pub(crate) tenant: TenantId,
    /// Its name.
    pub(crate) name: AgentName,
    /// Its newest version; `None` when it was deleted, or is of a release that this one cannot
    /// read.
    pub(crate) spec: Option<AgentSpec>,
}

impl Store {
    /// Makes an agent. Its version follows the last one of that name, also of one that was deleted:
    /// a relay that remembers a version never sees another spec under it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_agent(
        &self,
        spec: AgentSpec,
        once: Option<&Once>,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Changed<Agent>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(&spec.tenant)).await?;
        let revision = next_revision(&mut tx).await?;
        let known = head(&mut tx, &spec.tenant, &spec.name).await?;
        if known.as_ref().is_some_and(|head| !head.is_deleted) {
            return Ok(Changed::Exists);
        }
        let many: i64 =
            on!(tx, |c| sqlx::query_scalar(COUNT).bind(spec.tenant.as_str()).fetch_one(c).await)?;
        if many >= AGENTS_MAX {
            return Ok(Changed::TooMany);
        }
        let version = known.map_or(1, |head| head.version + 1);
        let head = Head { version, created_at: now, is_deleted: false };
        if let Some(once) = once {
            once.hold(&mut tx).await?;
        }
        let stamp = Stamp { revision, action: "agent.created", actor, now };
        self.save_agent(tx, spec, &head, stamp).await
    }

    /// Gives an agent a new version.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn update_agent(
        &self,
        spec: AgentSpec,
        expected: Expected,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Changed<Agent>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(&spec.tenant)).await?;
        let revision = next_revision(&mut tx).await?;
        let head = match head(&mut tx, &spec.tenant, &spec.name).await? {
            Some(head) if !head.is_deleted => head,
            Some(_) | None => return Ok(Changed::Absent),
        };
        if !expected.allows(head.version) {
            return Ok(Changed::Stale(head.version));
        }
        let head = Head { version: head.version + 1, ..head };
        let stamp = Stamp { revision, action: "agent.changed", actor, now };
        self.save_agent(tx, spec, &head, stamp).await
    }

    /// Takes an agent away. Calls that it has answered go on, and its versions are kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_agent(
        &self,
        tenant: &TenantId,
        name: &AgentName,
        expected: Expected,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<Changed<()>, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let revision = next_revision(&mut tx).await?;
        let head = match head(&mut tx, tenant, name).await? {
            Some(head) if !head.is_deleted => head,
            Some(_) | None => return Ok(Changed::Absent),
        };
        if !expected.allows(head.version) {
            return Ok(Changed::Stale(head.version));
        }
        let numbers: i64 = on!(tx, |c| sqlx::query_scalar(COUNT_NUMBERS)
            .bind(tenant.as_str())
            .bind(name.as_str())
            .fetch_one(c)
            .await)?;
        if numbers > 0 {
            return Ok(Changed::InUse);
        }
        on!(tx, |c| sqlx::query(DELETE)
            .bind(tenant.as_str())
            .bind(name.as_str())
            .bind(revision)
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        let detail = json!({"version": head.version}).to_string();
        let deed = Deed { actor, action: "agent.deleted", subject: name.as_str(), detail };
        audit::note(&mut tx, tenant, &deed, now).await?;
        tx.commit().await?;
        Ok(Changed::Done(()))
    }

    /// An agent's newest version, or another one of it. One that was deleted has no newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn agent(
        &self,
        tenant: &TenantId,
        name: &AgentName,
        version: Option<u32>,
    ) -> Result<Option<Agent>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let row: Option<AgentRow> = on!(tx, |c| sqlx::query_as(SELECT_ONE)
            .bind(tenant.as_str())
            .bind(name.as_str())
            .bind(version.map(i64::from))
            .fetch_optional(c)
            .await)?;
        row.map(|row| self.agent_of(row)).transpose()
    }

    /// The tenant's agents, the newest version of each; they are few, and in no order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn agents(&self, tenant: &TenantId) -> Result<Vec<Agent>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        let rows: Vec<AgentRow> =
            on!(tx, |c| sqlx::query_as(SELECT_ALL).bind(tenant.as_str()).fetch_all(c).await)?;
        rows.into_iter().map(|row| self.agent_of(row)).collect()
    }

    /// The agents of all tenants that have changed behind a revision, in order, at most so many as
    /// one page has.
    pub(crate) async fn agent_changes(&self, after: i64) -> Result<Vec<AgentChange>, StoreError> {
        let mut tx = self.db().survey().await?;
        let rows: Vec<ChangeRow> = on!(tx, |c| sqlx::query_as(SELECT_CHANGES)
            .bind(after)
            .bind(CHANGES_PAGE as i64)
            .fetch_all(c)
            .await)?;
        rows.into_iter().map(|row| self.change_of(row)).collect()
    }

    async fn save_agent(
        &self,
        mut tx: Tx,
        mut spec: AgentSpec,
        head: &Head,
        stamp: Stamp<'_>,
    ) -> Result<Changed<Agent>, StoreError> {
        spec.version = head.version;
        let Stamp { revision, action, actor, now } = stamp;
        on!(tx, |c| sqlx::query(SAVE_HEAD)
            .bind(spec.tenant.as_str())
            .bind(spec.name.as_str())
            .bind(i64::from(head.version))
            .bind(revision)
            .bind(head.created_at.0)
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        let (text, sealed) = self.written(&spec)?;
        on!(tx, |c| sqlx::query(INSERT_VERSION)
            .bind(spec.tenant.as_str())
            .bind(spec.name.as_str())
            .bind(i64::from(head.version))
            .bind(text)
            .bind(sealed)
            .bind(now.0)
            .execute(c)
            .await
            .map(drop))?;
        let detail = json!({"version": head.version}).to_string();
        let deed = Deed { actor, action, subject: spec.name.as_str(), detail };
        audit::note(&mut tx, &spec.tenant, &deed, now).await?;
        tx.commit().await?;
        Ok(Changed::Done(Agent { spec, created_at: head.created_at, updated_at: now }))
    }

    /// The spec's text without its secrets, and those, sealed; `None` when it has none.
    fn written(&self, spec: &AgentSpec) -> Result<(String, Option<Vec<u8>>), StoreError> {
        let mut bare = spec.clone();
        let secrets = take_secrets(&mut bare);
        let unwritable = |_| StoreError::Row { what: "agent" };
        let text = serde_json::to_string(&bare).map_err(unwritable)?;
        if secrets.is_empty() {
            return Ok((text, None));
        }
        let secrets = Zeroizing::new(serde_json::to_vec(&secrets).map_err(unwritable)?);
        Ok((text, Some(self.inner.sealing.seal(&sealed_name(spec), &secrets)?)))
    }

    fn agent_of(&self, row: AgentRow) -> Result<Agent, StoreError> {
        let (text, sealed, created_us, updated_us) = row;
        let spec = self.read_spec(&text, sealed.as_deref())?;
        Ok(Agent { spec, created_at: WallTime(created_us), updated_at: WallTime(updated_us) })
    }

    fn read_spec(&self, text: &str, sealed: Option<&[u8]>) -> Result<AgentSpec, StoreError> {
        let malformed = |_| StoreError::Row { what: "agent" };
        let mut spec: AgentSpec = serde_json::from_str(text).map_err(malformed)?;
        if let Some(sealed) = sealed {
            let secrets = self.inner.sealing.open(&sealed_name(&spec), sealed)?;
            let secrets = serde_json::from_slice(&secrets).map_err(malformed)?;
            put_secrets(&mut spec, secrets);
        }
        Ok(spec)
    }

    fn change_of(&self, row: ChangeRow) -> Result<AgentChange, StoreError> {
        let (revision, tenant, name, text, sealed) = row;
        let malformed = |_| StoreError::Row { what: "agent's name" };
        let name = AgentName::new(name).map_err(malformed)?;
        let spec = text.and_then(|text| match self.read_spec(&text, sealed.as_deref()) {
            Ok(spec) => Some(spec),
            // One agent that cannot be read must not hide all others.
            Err(error) => {
                tracing::error!(agent = %name, error = error.explain(), "an agent is left out");
                None
            }
        });
        let tenant = TenantId::new(tenant).map_err(malformed)?;
        Ok(AgentChange { revision, tenant, name, spec })
    }
}

/// The place and the time of a change, what it is called in the audit log, and who asked for it.
#[derive(Clone, Copy)]
struct Stamp<'a> {
    revision: i64,
    action: &'static str,
    actor: &'a KeyId,
    now: WallTime,
}

/// What is known of an agent besides its versions.
struct Head {
    version: u32,
    created_at: WallTime,
    is_deleted: bool,
}

/// Text, secrets, and when agent and version were made.
type AgentRow = (String, Option<Vec<u8>>, i64, i64);

/// Revision, tenant, name, text and secrets; the last two are there for agents that are.
type ChangeRow = (i64, String, String, Option<String>, Option<Vec<u8>>);

/// The agent's row. Nobody changes it meanwhile: whoever asks holds the revision.
async fn head(
    tx: &mut Tx,
    tenant: &TenantId,
    name: &AgentName,
) -> Result<Option<Head>, StoreError> {
    let row: Option<(i64, i64, Option<i64>)> = on!(*tx, |c| sqlx::query_as(SELECT_HEAD)
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(c)
        .await)?;
    row.map(|(version, created_us, deleted_us)| {
        let version = u32::try_from(version).map_err(|_| StoreError::Row { what: "version" })?;
        let is_deleted = deleted_us.is_some();
        Ok(Head { version, created_at: WallTime(created_us), is_deleted })
    })
    .transpose()
}

/// Takes what is secret out of a spec, by the name of its tool. A provider key is not kept at all.
fn take_secrets(spec: &mut AgentSpec) -> BTreeMap<String, Secret> {
    spec.provider.set_api_key(Secret::new(""));
    let mut secrets = BTreeMap::new();
    for tool in &mut spec.tools {
        if let Tool::Http(tool) = tool
            && !tool.signing_key.is_empty()
        {
            let key = std::mem::replace(&mut tool.signing_key, Secret::new(""));
            secrets.insert(tool.name.clone(), key);
        }
    }
    secrets
}

fn put_secrets(spec: &mut AgentSpec, mut secrets: BTreeMap<String, Secret>) {
    for tool in &mut spec.tools {
        if let Tool::Http(tool) = tool
            && let Some(key) = secrets.remove(&tool.name)
        {
            tool.signing_key = key;
        }
    }
}

/// What the secrets of a version are sealed under: they open for no other one.
fn sealed_name(spec: &AgentSpec) -> String {
    format!("agent/{}/{}/{}", spec.tenant, spec.name, spec.version)
}

/// Agents of one tenant. Every relay keeps all of them in memory, each with some versions.
const AGENTS_MAX: i64 = 200;

/// Changes that are read at once.
pub(crate) const CHANGES_PAGE: usize = 200;

const SELECT_HEAD: &str =
    "SELECT version, created_us, deleted_us FROM agents WHERE tenant = $1 AND name = $2";

const COUNT: &str =
    "SELECT CAST(count(*) AS BIGINT) FROM agents WHERE tenant = $1 AND deleted_us IS NULL";

const COUNT_NUMBERS: &str = "SELECT CAST(count(*) AS BIGINT) FROM numbers \
     WHERE tenant = $1 AND agent = $2 AND deleted_us IS NULL";

const SAVE_HEAD: &str = "INSERT INTO agents \
     (tenant, name, version, revision, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (tenant, name) DO UPDATE SET version = excluded.version, \
     revision = excluded.revision, created_us = excluded.created_us, \
     updated_us = excluded.updated_us, deleted_us = NULL";

const INSERT_VERSION: &str = "INSERT INTO agent_versions \
     (tenant, name, version, spec, sealed, created_us) VALUES ($1, $2, $3, $4, $5, $6)";

const DELETE: &str = "UPDATE agents SET revision = $3, deleted_us = $4 \
     WHERE tenant = $1 AND name = $2";

const SELECT_ONE: &str = "SELECT v.spec, v.sealed, a.created_us, v.created_us \
     FROM agents a JOIN agent_versions v ON v.tenant = a.tenant AND v.name = a.name \
     WHERE a.tenant = $1 AND a.name = $2 \
     AND (v.version = $3 OR ($3 IS NULL AND v.version = a.version AND a.deleted_us IS NULL))";

const SELECT_ALL: &str = "SELECT v.spec, v.sealed, a.created_us, v.created_us \
     FROM agents a JOIN agent_versions v \
     ON v.tenant = a.tenant AND v.name = a.name AND v.version = a.version \
     WHERE a.tenant = $1 AND a.deleted_us IS NULL";

const SELECT_CHANGES: &str = "SELECT a.revision, a.tenant, a.name, v.spec, v.sealed \
     FROM agents a LEFT JOIN agent_versions v \
     ON v.tenant = a.tenant AND v.name = a.name AND v.version = a.version \
     AND a.deleted_us IS NULL WHERE a.revision > $1 ORDER BY a.revision LIMIT $2";

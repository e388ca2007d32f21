//! What the operator does at the command line, beside a control that runs or without one: tenants
//! and their keys, relays, and keys that tokens are signed with. Everything goes through the store, and so
//! into the audit log.

use clap::{Args, Subcommand};
use link::id::{BadId, NodeId, TenantId};
use serde_json::{Value, json};

use crate::access::key::{ApiKey, KeyId, Pepper};
use crate::access::origin::Origin;
use crate::access::scope::Scopes;
use crate::clock;
use crate::config::Door;
use crate::events::rfc3339;
use crate::plane;
use crate::server;
use crate::store::{
    Added, Admission, BadRing, Changed, RingName, RingPlace, Store, StoredKey, Tenant,
};
use crate::tokens::rotation::rotate;

/// What is done to tenants.
#[derive(Debug, Subcommand)]
pub enum TenantTask {
    /// Makes a tenant.
    Create {
        /// Its name: letters, digits, `-`, `_` and `.`.
        #[arg(value_parser = tenant)]
        tenant: TenantId,
    },
    /// Lists all tenants, a line of JSON each.
    List,
    /// Changes a tenant; what is not given stays as it is.
    Set(TenantSettings),
}

/// What of a tenant is changed.
#[derive(Debug, Args)]
pub struct TenantSettings {
    /// Its name.
    #[arg(value_parser = tenant)]
    tenant: TenantId,
    /// The web pages that may ask, `https://host[:port]`, separated by commas; empty for none.
    #[arg(long)]
    origins: Option<String>,
    /// Calling codes that may be called, such as `+49`, separated by commas; `any` for all.
    #[arg(long)]
    countries: Option<String>,
    /// Calls that are begun in a minute; 0 for no bound.
    #[arg(long)]
    calls_minute_max: Option<u32>,
    /// Calls at once; 0 for no bound.
    #[arg(long)]
    calls_max: Option<u32>,
    /// What calls may cost in a day, in hundredths of the account's currency; 0 for no bound.
    #[arg(long)]
    spend_day_cents_max: Option<u32>,
    /// API requests in a second; 0 for the ordinary bound.
    #[arg(long)]
    requests_second_max: Option<u32>,
}

/// What is done to API keys.
#[derive(Debug, Subcommand)]
pub enum KeyTask {
    /// Makes a key and prints it, once.
    Create {
        /// Whose key it is.
        #[arg(long, default_value = "default", value_parser = tenant)]
        tenant: TenantId,
        /// What it is for.
        #[arg(long)]
        name: String,
        /// What it may do: `*`, or words like `calls:read`, separated by commas.
        #[arg(long, default_value = "*")]
        scopes: String,
        /// After how many days it ends; without it, never.
        #[arg(long)]
        days: Option<u32>,
    },
    /// Lists a tenant's keys, a line of JSON each.
    List {
        /// Whose keys.
        #[arg(long, default_value = "default", value_parser = tenant)]
        tenant: TenantId,
    },
    /// Revokes a key: it is refused everywhere within five seconds.
    Revoke {
        /// Whose key it is.
        #[arg(long, default_value = "default", value_parser = tenant)]
        tenant: TenantId,
        /// Its id, the second word of the key.
        id: String,
    },
}

/// What is done to relays.
#[derive(Debug, Subcommand)]
pub enum NodeTask {
    /// Revokes a relay: its link is cut and it is not let in again, everywhere within five seconds.
    /// Calls that it carries go on there.
    Revoke {
        /// Its name (RELAY_NODE).
        #[arg(value_parser = node)]
        node: NodeId,
    },
    /// Lets a revoked relay in again.
    Admit {
        /// Its name (RELAY_NODE).
        #[arg(value_parser = node)]
        node: NodeId,
    },
}

/// What is done to the keys that control signs tokens with.
#[derive(Debug, Subcommand)]
pub enum SigningTask {
    /// Lists the keys, a line of JSON each: which ring, which number, since when it signs.
    List,
    /// After a leak: new keys sign at once, and what those before them have signed is refused by
    /// every control and relay within five seconds. Tokens of web pages and addresses of event
    /// streams are asked for anew. Calls go on; one whose stream breaks before its end cannot be
    /// resumed by a pass that was signed before.
    Rotate {
        /// Which ring: `ticket` (streams and sessions), `pass` (resuming calls, event streams), or
        /// `all`.
        #[arg(long, default_value = "all", value_parser = rings)]
        ring: Rings,
    },
}

/// One ring of keys, or both.
#[derive(Debug, Clone, Copy)]
pub struct Rings(Option<RingName>);

/// Does something to tenants and says what became of it.
///
/// # Errors
/// What kept it from being done, in a sentence.
pub async fn tenants(door: &Door, task: TenantTask) -> anyhow::Result<String> {
    let store = server::open_store(door).await?;
    let done = on_tenants(&store, task).await;
    store.close().await;
    done
}

/// Does something to keys and says what became of it.
///
/// # Errors
/// What kept it from being done, in a sentence.
pub async fn keys(door: &Door, task: KeyTask) -> anyhow::Result<String> {
    let store = server::open_store(door).await?;
    let done = on_keys(&store, task).await;
    store.close().await;
    done
}

/// Does something to the keys that tokens are signed with and says what became of it.
///
/// # Errors
/// What kept it from being done, in a sentence.
pub async fn signing_keys(door: &Door, task: SigningTask) -> anyhow::Result<String> {
    let store = server::open_store(door).await?;
    let done = on_signing_keys(&store, task).await;
    store.close().await;
    done
}

/// Does something to relays and says what became of it.
///
/// # Errors
/// What kept it from being done, in a sentence.
pub async fn nodes(door: &Door, task: NodeTask) -> anyhow::Result<String> {
    let store = server::open_store(door).await?;
    let done = on_nodes(&store, task).await;
    store.close().await;
    done
}

async fn on_nodes(store: &Store, task: NodeTask) -> anyhow::Result<String> {
    let (node, admission, said) = match task {
        NodeTask::Revoke { node } => (node, Admission::Revoked, "is revoked"),
        NodeTask::Admit { node } => (node, Admission::Admitted, "may join"),
    };
    let (tenant, now) = (plane::tenant(), clock::wall());
    store.set_admission(&tenant, (&node, admission), &actor(), now).await?;
    Ok(format!("node {node} {said}\n"))
}

async fn on_tenants(store: &Store, task: TenantTask) -> anyhow::Result<String> {
    match task {
        TenantTask::Create { tenant } => {
            let made = store.create_tenant(&tenant, &actor(), clock::wall()).await?;
            anyhow::ensure!(made, "there is a tenant `{tenant}` already");
            Ok(format!(
                "tenant {tenant} is made; `control key create --tenant {tenant} --name first` \
                 makes its first key\n"
            ))
        }
        TenantTask::List => {
            let lines = store.tenants().await?;
            Ok(lines.iter().map(|tenant| format!("{}\n", tenant_json(tenant))).collect())
        }
        TenantTask::Set(settings) => set_tenant(store, settings).await,
    }
}

async fn set_tenant(store: &Store, settings: TenantSettings) -> anyhow::Result<String> {
    let origins = settings.origins.as_deref().map(origins).transpose()?;
    let countries = settings.countries.as_deref().map(countries).transpose()?;
    let TenantSettings { tenant: id, calls_minute_max, calls_max, .. } = &settings;
    let change = |tenant: &mut Tenant| {
        if let Some(origins) = origins {
            tenant.origins = origins;
        }
        let limits = &mut tenant.limits;
        if let Some(countries) = countries {
            limits.countries = countries;
        }
        for (limit, given) in [
            (&mut limits.calls_minute_max, *calls_minute_max),
            (&mut limits.calls_max, *calls_max),
            (&mut limits.spend_day_cents_max, settings.spend_day_cents_max),
            (&mut limits.requests_second_max, settings.requests_second_max),
        ] {
            if let Some(given) = given {
                *limit = (given > 0).then_some(given);
            }
        }
    };
    match store.change_tenant(id, None, &actor(), clock::wall(), change).await? {
        Changed::Done(tenant) => Ok(format!("{}\n", tenant_json(&tenant))),
        Changed::Outdated(_) | Changed::Unknown => anyhow::bail!("there is no tenant `{id}`"),
    }
}

async fn on_keys(store: &Store, task: KeyTask) -> anyhow::Result<String> {
    match task {
        KeyTask::Create { tenant, name, scopes, days } => {
            let scopes = Scopes::read(words(&scopes)).map_err(|_| {
                anyhow::anyhow!("--scopes is `*`, or words like calls:read, separated by commas")
            })?;
            let (key, now) = (ApiKey::generate()?, clock::wall());
            let expires_at = days.map(|days| now.plus_us(i64::from(days) * 86_400_000_000));
            let stored = StoredKey {
                id: key.id.clone(),
                tenant,
                name,
                hash: Pepper::load(store).await?.hash(&key),
                scopes,
                created_at: now,
                expires_at,
                used_at: None,
                revoked_at: None,
            };
            match store.add_api_key(&stored, &actor()).await? {
                Added::Done => Ok(format!("{}\n", key.to_text().reveal())),
                Added::TooMany => anyhow::bail!("there are too many good keys; revoke one"),
                Added::NoTenant => anyhow::bail!(
                    "there is no tenant `{0}`; `control tenant create {0}` makes it",
                    stored.tenant
                ),
            }
        }
        KeyTask::List { tenant } => {
            let keys = store.api_keys(&tenant, KEYS_SHOWN).await?;
            Ok(keys.iter().map(|key| format!("{}\n", key_json(key))).collect())
        }
        KeyTask::Revoke { tenant, id } => {
            let known = KeyId::new(&id);
            let revoked = match &known {
                Some(id) => store.revoke_api_key(&tenant, id, &actor(), clock::wall()).await?,
                None => None,
            };
            anyhow::ensure!(revoked.is_some(), "tenant `{tenant}` has no key `{id}`");
            Ok(format!("key {id} is revoked\n"))
        }
    }
}

async fn on_signing_keys(store: &Store, task: SigningTask) -> anyhow::Result<String> {
    match task {
        SigningTask::List => {
            let keys = store.signing_keys().await?;
            Ok(keys.iter().map(|key| format!("{}\n", place_json(key.place))).collect())
        }
        SigningTask::Rotate { ring: Rings(ring) } => {
            let mut said = String::new();
            for ring in ring.map_or(vec![RingName::Ticket, RingName::Pass], |ring| vec![ring]) {
                let place = rotate(store, ring, &actor(), clock::wall()).await?;
                said.push_str(&format!("{}\n", place_json(place)));
            }
            Ok(said)
        }
    }
}

fn place_json(place: RingPlace) -> Value {
    let RingPlace { ring, number, signs_at } = place;
    json!({"ring": ring.as_str(), "number": number, "signs_at": rfc3339(signs_at)})
}

fn tenant_json(tenant: &Tenant) -> Value {
    let origins: Vec<_> = tenant.origins.iter().map(Origin::as_str).collect();
    let limits = &tenant.limits;
    json!({
        "tenant": tenant.id.as_str(),
        "origins": origins,
        "countries": limits.countries,
        "calls_minute_max": limits.calls_minute_max,
        "calls_max": limits.calls_max,
        "spend_day_cents_max": limits.spend_day_cents_max,
        "requests_second_max": limits.requests_second_max,
    })
}

fn key_json(key: &StoredKey) -> Value {
    json!({
        "id": key.id.as_str(),
        "name": key.name,
        "scopes": key.scopes.words(),
        "expires_at": key.expires_at.map(rfc3339),
        "used_at": key.used_at.map(rfc3339),
        "revoked_at": key.revoked_at.map(rfc3339),
    })
}

fn origins(text: &str) -> anyhow::Result<Vec<Origin>> {
    let read = |word: &str| {
        let problem = "is no origin: https://host[:port], as a browser says it";
        Origin::parse(word).ok_or_else(|| anyhow::anyhow!("`{word}` {problem}"))
    };
    words(text).map(read).collect()
}

fn countries(text: &str) -> anyhow::Result<Option<Vec<String>>> {
    if text.trim() == "any" {
        return Ok(None);
    }
    let read = |word: &str| {
        anyhow::ensure!(is_calling_code(word), "`{word}` is no calling code such as +49");
        Ok(word.to_owned())
    };
    words(text).map(read).collect::<anyhow::Result<_>>().map(Some)
}

/// Whether numbers can begin so: `+` and 1 to 7 digits, the first not zero.
#[must_use]
pub fn is_calling_code(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let is_long_enough = (1..=7).contains(&digits.len());
    is_long_enough && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn node(text: &str) -> Result<NodeId, BadId> {
    NodeId::new(text)
}

fn tenant(text: &str) -> Result<TenantId, BadId> {
    TenantId::new(text)
}

fn rings(text: &str) -> Result<Rings, BadRing> {
    match text {
        "all" => Ok(Rings(None)),
        one => one.parse().map(|ring| Rings(Some(ring))),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Who the audit log names for what was done here.
fn actor() -> KeyId {
    KeyId::new("command-line").expect("letters are a name")
}

/// All that may be good, and as many that were.
const KEYS_SHOWN: u32 = 1_000;

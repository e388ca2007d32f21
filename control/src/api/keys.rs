//! API keys of a tenant: made, listed, revoked. A key is shown in the answer that makes it and
//! never again: what is stored cannot be turned back into it.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::id::{TenantId, WallTime};
use serde::Deserialize;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::once::{self, Next, Request};
use super::version::{Shown, shown};
use super::{done, read_body};
use crate::access::key::{ApiKey, KeyId};
use crate::access::scope::{RESOURCES, Scopes};
use crate::clock;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::body;
use crate::plane::Plane;
use crate::store::idempotency::Once;
use crate::store::{Added, Store, StoredKey};

/// `/v1/keys`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let create = warp::path!("v1" / "keys")
        .and(warp::post())
        .and(keyed(plane))
        .and(once::key())
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, key: Option<String>, body: Bytes| async move {
            shown(create(&client, key.as_deref(), &body).await)
        });
    let list = warp::path!("v1" / "keys")
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(list(&client).await) });
    let show = warp::path!("v1" / "keys" / String)
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(show(&client, &id).await) });
    let revoke = warp::path!("v1" / "keys" / String)
        .and(warp::delete())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(revoke(&client, &id).await) });
    create.or(list).unify().or(show).unify().or(revoke).unify().boxed()
}

/// The body of `POST /v1/keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    name: String,
    scopes: Option<Vec<String>>,
    expires_in_days: Option<u32>,
    tenant: Option<TenantId>,
}

/// `POST /v1/keys`.
async fn create(client: &Client, key: Option<&str>, body: &[u8]) -> Result<Shown, Problem> {
    let wish: Wish = read_body(body)?;
    let tenant = wish.tenant.as_ref().unwrap_or(&client.tenant).clone();
    if tenant != client.tenant {
        client.must_be_operator()?;
        is_there(client, &tenant).await?;
    }
    // Of the tenant whose key it will be: both are written in one transaction.
    match once::begin_for(client, &tenant, &Request { key, what: "keys", body }).await? {
        Next::Say(shown) => Ok(shown),
        Next::Do(once) => {
            let made = make(client, tenant, wish, once.as_ref()).await;
            once::end_secret(client, once, made).await
        }
    }
}

/// Whether there is such a tenant; it may have been made a moment ago.
async fn is_there(client: &Client, tenant: &TenantId) -> Result<(), Problem> {
    let tenants = &client.plane.tenants;
    if tenants.get(tenant).is_none() {
        tenants.refresh().await?;
    }
    tenants.get(tenant).map(drop).ok_or_else(no_tenant)
}

/// Without scopes the new key may do what the asking one may.
async fn make(
    client: &Client,
    tenant: TenantId,
    wish: Wish,
    once: Option<&Once>,
) -> Result<Shown, Problem> {
    if wish.name.trim().is_empty() || wish.name.len() > NAME_BYTES_MAX {
        let detail = format!("`name` says what the key is for, in 1 to {NAME_BYTES_MAX} bytes.");
        return Err(unprocessable("key_name_malformed", detail));
    }
    let scopes = scopes(client, wish.scopes.as_deref())?;
    let now = clock::wall();
    let expires_at = expiry(wish.expires_in_days, now)?;
    let key = ApiKey::generate().map_err(|error| {
        tracing::error!(%error, "a key cannot be made");
        let detail = "The system gave no randomness; the operator's log says more.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", detail).again_after(1)
    })?;
    let stored = StoredKey {
        id: key.id.clone(),
        tenant,
        name: wish.name,
        hash: client.plane.keys.pepper().hash(&key),
        scopes,
        created_at: now,
        expires_at,
        used_at: None,
        revoked_at: None,
    };
    match client.plane.store.add_api_key_once(&stored, once, &client.key).await? {
        Added::Done => {}
        Added::TooMany => {
            let detail = format!(
                "There are {} good keys already. DELETE /v1/keys/{{id}} revokes one.",
                Store::KEYS_MAX
            );
            return Err(unprocessable("keys_too_many", detail));
        }
        Added::NoTenant => return Err(no_tenant()),
    }
    let mut shown = json_of(&stored);
    shown["key"] = key.to_text().reveal().into();
    Ok(Shown::new(StatusCode::CREATED, shown, None))
}

/// Nobody hands on what they do not have.
fn scopes(client: &Client, words: Option<&[String]>) -> Result<Scopes, Problem> {
    let Some(words) = words else { return Ok(client.scopes.clone()) };
    let scopes = Scopes::read(words.iter().map(String::as_str)).map_err(|_| {
        let detail = format!(
            "`scopes` is a list of `*`, or of RESOURCE:read and RESOURCE:write with one of {}.",
            RESOURCES.join(", ")
        );
        unprocessable("scope_unknown", detail)
    })?;
    if !client.scopes.cover(&scopes) {
        let detail = "`scopes` holds more than the asking key may do itself.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail));
    }
    Ok(scopes)
}

fn expiry(days: Option<u32>, now: WallTime) -> Result<Option<WallTime>, Problem> {
    match days {
        None => Ok(None),
        Some(days @ 1..=DAYS_MAX) => Ok(Some(now.plus_us(i64::from(days) * DAY_US))),
        Some(_) => {
            let detail = format!("`expires_in_days` is a number from 1 to {DAYS_MAX}.");
            Err(unprocessable("expiry_malformed", detail))
        }
    }
}

/// `GET /v1/keys`: the newest, the revoked ones, too.
async fn list(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let keys = client.plane.store.api_keys(&client.tenant, KEYS_SHOWN).await?;
    let keys: Vec<Value> = keys.iter().map(json_of).collect();
    Ok((StatusCode::OK, json!({"keys": keys})))
}

/// `GET /v1/keys/{id}`.
async fn show(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let id = KeyId::new(id).ok_or_else(no_key)?;
    let key = client.plane.store.api_key(&client.tenant, &id).await?.ok_or_else(no_key)?;
    Ok((StatusCode::OK, json_of(&key)))
}

/// `DELETE /v1/keys/{id}`. It holds here at once and on every other instance within five seconds.
async fn revoke(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let id = KeyId::new(id).ok_or_else(no_key)?;
    let (store, now) = (&client.plane.store, clock::wall());
    let revoked = store.revoke_api_key(&client.tenant, &id, &client.key, now).await?;
    let revoked = revoked.ok_or_else(no_key)?;
    // The revocation stands whether or not this look succeeds: the next one is two seconds away.
    if let Err(error) = client.plane.keys.refresh(now).await {
        tracing::warn!(error = error.explain(), "a revoked key is still known for a moment");
    }
    Ok((StatusCode::OK, json_of(&revoked)))
}

/// A key as the API shows it.
fn json_of(key: &StoredKey) -> Value {
    json!({
        "id": key.id.as_str(),
        "tenant": key.tenant.as_str(),
        "name": key.name,
        "scopes": key.scopes.words(),
        "created_at": rfc3339(key.created_at),
        "expires_at": key.expires_at.map(rfc3339),
        "used_at": key.used_at.map(rfc3339),
        "revoked_at": key.revoked_at.map(rfc3339),
    })
}

fn no_tenant() -> Problem {
    let detail = "`tenant` names none. `control tenant create` makes one.";
    unprocessable("tenant_not_found", detail)
}

fn no_key() -> Problem {
    let detail = "There is no such key. GET /v1/keys lists those there are.";
    Problem::new(StatusCode::NOT_FOUND, "key_not_found", detail)
}

fn unprocessable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

/// The body of a wish is a name and a few words.
const BODY_BYTES_MAX: usize = 16 * 1024;

const NAME_BYTES_MAX: usize = 100;

/// Ten years.
const DAYS_MAX: u32 = 3_650;

const DAY_US: i64 = 86_400_000_000;

/// Keys that are listed: all that may be good, and as many that were.
const KEYS_SHOWN: u32 = 1_000;

//! What a tenant brings itself: keys of providers, its account at the carrier. They are written
//! and never shown; an answer has a hint at most, by which people tell them apart.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::agent::Provider;
use link::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use zeroize::Zeroizing;

use super::auth::{Client, keyed};
use super::{done, learn, read_body};
use crate::clock;
use crate::config;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::body;
use crate::plane::Plane;
use crate::store::{CARRIER, CarrierAccount, Credential, NewCredential};

/// `/v1/keys/providers` and `/v1/keys/carrier`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let list = warp::path!("v1" / "keys" / "providers")
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(list(&client).await) });
    let set = warp::path!("v1" / "keys" / "providers" / String)
        .and(warp::put())
        .and(keyed(plane))
        .and(body(BODY_BYTES_MAX))
        .and_then(|provider: String, client: Client, body: Bytes| async move {
            done(set_provider(&client, &provider, &body).await)
        });
    let drop_provider = warp::path!("v1" / "keys" / "providers" / String)
        .and(warp::delete())
        .and(keyed(plane))
        .and_then(|provider: String, client: Client| async move {
            done(forget(&client, provider_named(&provider)?).await)
        });
    let carrier = warp::path!("v1" / "keys" / "carrier");
    let show = carrier
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(show_carrier(&client).await) });
    let account = carrier.and(warp::put()).and(keyed(plane)).and(body(BODY_BYTES_MAX)).and_then(
        |client: Client, body: Bytes| async move { done(set_carrier(&client, &body).await) },
    );
    let leave = carrier
        .and(warp::delete())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(forget(&client, CARRIER).await) });
    let providers = list.or(set).unify().or(drop_provider).unify();
    providers.or(show).unify().or(account).unify().or(leave).unify().boxed()
}

/// The body of `PUT /v1/keys/providers/{provider}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderKey {
    key: Secret,
}

/// The body of `PUT /v1/keys/carrier`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    account_sid: String,
    auth_token: Secret,
    next_auth_token: Option<Secret>,
    api_url: Option<String>,
}

/// `GET /v1/keys/providers`.
async fn list(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let all = client.plane.store.credentials(&client.tenant).await?;
    let providers: Vec<Value> =
        all.iter().filter(|one| one.kind != CARRIER).map(|one| json_of("provider", one)).collect();
    Ok((StatusCode::OK, json!({"providers": providers})))
}

/// `PUT /v1/keys/providers/{provider}`.
async fn set_provider(
    client: &Client,
    provider: &str,
    body: &[u8],
) -> Result<(StatusCode, Value), Problem> {
    let kind = provider_named(provider)?;
    let ProviderKey { key } = read_body(body)?;
    let text = key.reveal();
    // Anything else would not survive a header.
    if !(8..=512).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = "`key` is not 8 to 512 characters without spaces.";
        return Err(unprocessable("provider_key_malformed", detail));
    }
    // Of a short one even the end would say too much.
    let hint = if text.len() >= 20 { &text[text.len() - 4..] } else { "" };
    set(client, &NewCredential { kind, hint, secret: text.as_bytes() }, "provider").await
}

/// `GET /v1/keys/carrier`.
async fn show_carrier(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let all = client.plane.store.credentials(&client.tenant).await?;
    let account = all.iter().find(|one| one.kind == CARRIER).ok_or_else(|| none(CARRIER))?;
    Ok((StatusCode::OK, json_of("kind", account)))
}

/// `PUT /v1/keys/carrier`.
async fn set_carrier(client: &Client, body: &[u8]) -> Result<(StatusCode, Value), Problem> {
    let account: Account = read_body(body)?;
    if config::account_sid(&account.account_sid).is_none() {
        let detail = "`account_sid` is not AC and 32 hexadecimal digits.";
        return Err(unprocessable("account_sid_malformed", detail));
    }
    let tokens = [("auth_token", Some(&account.auth_token))]
        .into_iter()
        .chain([("next_auth_token", account.next_auth_token.as_ref())]);
    for (field, token) in tokens {
        let text = token.map_or("absent", Secret::reveal);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let detail = format!("`{field}` is not 1 to 128 characters without spaces.");
            return Err(unprocessable("auth_token_malformed", detail));
        }
    }
    let api_url = account.api_url.as_deref().map(|url| {
        config::api_url(url).ok_or_else(|| {
            let detail = "`api_url` is not https://host[:port] without a path.";
            unprocessable("api_url_malformed", detail)
        })
    });
    let kept = CarrierAccount {
        account_sid: account.account_sid,
        auth_token: account.auth_token,
        next_auth_token: account.next_auth_token,
        api_url: api_url.transpose()?,
    };
    let secret = Zeroizing::new(serde_json::to_vec(&kept).expect("texts can be written"));
    let hint = kept.account_sid.as_str();
    set(client, &NewCredential { kind: CARRIER, hint, secret: &secret }, "kind").await
}

async fn set(
    client: &Client,
    new: &NewCredential<'_>,
    word: &'static str,
) -> Result<(StatusCode, Value), Problem> {
    let (store, now) = (&client.plane.store, clock::wall());
    let kept = store.set_credential(&client.tenant, new, &client.key, now).await?;
    // The relays get the tenant's agents with it.
    learn(&client.plane).await;
    Ok((StatusCode::OK, json_of(word, &kept)))
}

async fn forget(client: &Client, kind: &str) -> Result<(StatusCode, Value), Problem> {
    let (store, now) = (&client.plane.store, clock::wall());
    if store.drop_credential(&client.tenant, kind, &client.key, now).await? {
        learn(&client.plane).await;
        Ok((StatusCode::OK, json!({"deleted": true})))
    } else {
        Err(none(kind))
    }
}

fn provider_named(word: &str) -> Result<&'static str, Problem> {
    Provider::KEY_NAMES.into_iter().find(|known| *known == word).ok_or_else(|| {
        let detail =
            format!("There is no such provider; there is {}.", Provider::KEY_NAMES.join(", "));
        Problem::new(StatusCode::NOT_FOUND, "provider_not_found", detail)
    })
}

/// A secret as the API shows it.
fn json_of(word: &'static str, one: &Credential) -> Value {
    json!({
        word: one.kind,
        "hint": one.hint,
        "version": one.version,
        "changed_at": rfc3339(one.changed_at),
    })
}

fn none(kind: &str) -> Problem {
    let detail = format!("None is set for {kind}; PUT sets one.");
    Problem::new(StatusCode::NOT_FOUND, "credential_not_found", detail)
}

fn unprocessable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

const BODY_BYTES_MAX: usize = 16 * 1024;

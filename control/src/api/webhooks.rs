//! Webhooks: where a tenant wants to be told of events, and how that goes.
//!
//! What is sent, and when it is tried again, is in [`crate::webhooks`]. A secret is shown once, when
//! its webhook is made.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::done;
use super::once::{self, Next, Request};
use super::version::{Shown, shown};
use crate::clock;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::body;
use crate::plane::Plane;
use crate::store::idempotency::Once;
use crate::store::webhooks::{DeadLetter, NewWebhook, Webhook};
use crate::webhooks::new_secret;

/// `/v1/webhooks`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let create = warp::path!("v1" / "webhooks")
        .and(warp::post())
        .and(keyed(plane))
        .and(once::key())
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, key: Option<String>, body: Bytes| async move {
            shown(create(&client, key.as_deref(), &body).await)
        });
    let list = warp::path!("v1" / "webhooks")
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(list(&client).await) });
    let show = warp::path!("v1" / "webhooks" / String)
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(show(&client, &id).await) });
    let dead = warp::path!("v1" / "webhooks" / String / "dead_letters")
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(dead(&client, &id).await) });
    let remove = warp::path!("v1" / "webhooks" / String)
        .and(warp::delete())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(remove(&client, &id).await) });
    create.or(list).unify().or(show).unify().or(dead).unify().or(remove).unify().boxed()
}

/// The body of `POST /v1/webhooks`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    url: String,
    #[serde(default)]
    types: Vec<String>,
}

/// `POST /v1/webhooks`.
async fn create(client: &Client, key: Option<&str>, body: &[u8]) -> Result<Shown, Problem> {
    match once::begin(client, &Request { key, what: "webhooks", body }).await? {
        Next::Say(shown) => Ok(shown),
        Next::Do(once) => {
            let made = make(client, body, once.as_ref()).await;
            once::end_secret(client, once, made).await
        }
    }
}

async fn make(client: &Client, body: &[u8], once: Option<&Once>) -> Result<Shown, Problem> {
    let wish: Wish = serde_json::from_slice(body).map_err(|error| {
        let at = format!("line {}, column {}", error.line(), error.column());
        let detail = format!("The body is not {{\"url\", \"types\"?}} ({at}).");
        Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
    })?;
    let Client { plane, tenant, .. } = client;
    plane.post.check(&wish.url).map_err(|error| {
        let detail = format!("`url` {error}.");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "url_refused", detail)
    })?;
    let is_type = |text: &String| {
        let plain = |b: u8| b.is_ascii_lowercase() || matches!(b, b'.' | b'_');
        (1..=TYPE_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
    };
    if wish.types.len() > TYPES_MAX || !wish.types.iter().all(is_type) {
        let detail = format!("`types` is a list of at most {TYPES_MAX} event types, as `turn`.");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "types_malformed", detail));
    }
    if plane.store.webhooks(tenant).await?.len() >= WEBHOOKS_MAX {
        let detail = format!("There are {WEBHOOKS_MAX} webhooks, and no more may be; delete one.");
        return Err(Problem::new(StatusCode::CONFLICT, "webhooks_too_many", detail));
    }
    let secret = new_secret().ok_or_else(|| {
        let detail = "The system gave no randomness. Try again; the operator's log says why.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", detail).again_after(1)
    })?;
    let id = format!("wh_{}", Uuid::now_v7().simple());
    let Wish { url, types } = wish;
    let new = NewWebhook { id, tenant: tenant.clone(), url, types, secret };
    let made = plane.store.make_webhook(&new, once, clock::wall()).await?;
    let mut shown = json_of(&made);
    shown["secret"] = new.secret.reveal().into();
    Ok(Shown::new(StatusCode::CREATED, shown, None))
}

/// `GET /v1/webhooks`.
async fn list(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let hooks = client.plane.store.webhooks(&client.tenant).await?;
    let hooks: Vec<Value> = hooks.iter().map(json_of).collect();
    Ok((StatusCode::OK, json!({"webhooks": hooks})))
}

/// `GET /v1/webhooks/{id}`.
async fn show(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let hook = client.plane.store.webhook(&client.tenant, id).await?.ok_or_else(no_webhook)?;
    Ok((StatusCode::OK, json_of(&hook)))
}

/// `GET /v1/webhooks/{id}/dead_letters`: which events were given up. They are still among
/// `/v1/events`.
async fn dead(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let Client { plane, tenant, .. } = client;
    plane.store.webhook(tenant, id).await?.ok_or_else(no_webhook)?;
    let letters = plane.store.dead_letters(tenant, id, LETTERS_MAX).await?;
    let shown = |letter: &DeadLetter| {
        json!({
            "first": letter.first.0,
            "last": letter.last.0,
            "attempts": letter.attempts,
            "problem": letter.problem,
            "at": rfc3339(letter.at),
        })
    };
    let letters: Vec<Value> = letters.iter().map(shown).collect();
    Ok((StatusCode::OK, json!({"dead_letters": letters})))
}

/// `DELETE /v1/webhooks/{id}`: nothing more is told from the next message on.
async fn remove(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let was_there = client.plane.store.remove_webhook(&client.tenant, id).await?;
    was_there.then(|| (StatusCode::OK, json!({"id": id, "deleted": true}))).ok_or_else(no_webhook)
}

fn no_webhook() -> Problem {
    let detail = "There is no such webhook. GET /v1/webhooks lists those there are.";
    Problem::new(StatusCode::NOT_FOUND, "webhook_not_found", detail)
}

/// A webhook as the API shows it.
fn json_of(hook: &Webhook) -> Value {
    let waits = hook.attempts > 0 && hook.disabled_at.is_none();
    json!({
        "id": hook.id,
        "url": hook.url,
        "types": hook.types,
        "created_at": rfc3339(hook.created_at),
        "after": hook.after.0,
        "attempts": hook.attempts,
        "next_attempt_at": waits.then(|| rfc3339(hook.due_at)),
        "problem": hook.problem,
        "disabled_at": hook.disabled_at.map(rfc3339),
    })
}

const BODY_BYTES_MAX: usize = 16 * 1024;
const TYPES_MAX: usize = 32;
const TYPE_BYTES_MAX: usize = 64;

/// Each is told of everything that happens: a few are what a customer needs.
const WEBHOOKS_MAX: usize = 16;

/// Dead letters that are shown, the latest first.
const LETTERS_MAX: u32 = 100;

//! Numbers: which agent answers which number, and what share of its calls an old backend still gets.
//!
//! That a number's calls come here at all is said at the carrier: its voice address is
//! `/v1/twilio/voice` of this process.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::id::{AgentName, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::once::{self, Next, Request};
use super::version::{Shown, expected, if_match, required, shown, stale};
use super::{done, gone, learn};
use crate::clock;
use crate::dialer::is_e164;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::body;
use crate::plane::Plane;
use crate::store::agents::{Changed, Expected};
use crate::store::call::Number;
use crate::store::idempotency::Once;
use crate::store::numbers::{Legacy, Line, Route};

/// `/v1/numbers`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let all = warp::path!("v1" / "numbers");
    let one = warp::path!("v1" / "numbers" / String);
    let create = all
        .and(warp::post())
        .and(keyed(plane))
        .and(once::key())
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, key: Option<String>, body: Bytes| async move {
            shown(create(&client, key.as_deref(), &body).await)
        });
    let list = all
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(list(&client).await) });
    let show = one
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { shown(show(&client, &id).await) });
    let update =
        one.and(warp::put()).and(keyed(plane)).and(if_match()).and(body(BODY_BYTES_MAX)).and_then(
            |id: String, client: Client, version: Option<String>, body: Bytes| async move {
                shown(update(&client, &id, version.as_deref(), &body).await)
            },
        );
    let delete = one.and(warp::delete()).and(keyed(plane)).and(if_match()).and_then(
        |id: String, client: Client, version: Option<String>| async move {
            gone(delete(&client, &id, version.as_deref()).await)
        },
    );
    create.or(list).unify().or(show).unify().or(update).unify().or(delete).unify().boxed()
}

/// The number that calls when a call is placed: the given one, else the one that the operator or
/// the tenant's only number says.
pub(super) async fn caller(client: &Client, given: Option<String>) -> Result<Number, Problem> {
    let Client { plane, tenant, .. } = client;
    let is_operator = *tenant == TenantId::default();
    if let Some(from) = given {
        let from = e164(from, "from")?;
        let is_own = || plane.directory.line(from.as_str()).is_some_and(|l| l.tenant == *tenant);
        if is_operator || is_own() {
            return Ok(from);
        }
        let detail = "`from` is none of your numbers; GET /v1/numbers lists those.";
        return Err(unprocessable("from_foreign", detail));
    }
    if let Some(from) = plane.from.as_ref().filter(|_| is_operator) {
        return Ok(from.clone());
    }
    let mut own = plane.store.numbers(tenant).await?;
    match (own.pop(), own.is_empty()) {
        (Some(only), true) => Ok(only.number),
        (_, _) => {
            let detail = "Say who calls in `from`, set CONTROL_FROM_NUMBER, or have exactly one \
                number in /v1/numbers.";
            Err(unprocessable("from_missing", detail))
        }
    }
}

/// A number of a request.
pub(super) fn e164(text: String, field: &str) -> Result<Number, Problem> {
    if is_e164(&text) {
        return Ok(Number(text));
    }
    let detail = format!("`{field}` is not a number in E.164: + and 7 to 15 digits.");
    Err(unprocessable("number_malformed", detail))
}

/// The body that makes a number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    number: Option<String>,
    agent: Option<String>,
    legacy_url: Option<String>,
    legacy_percent: Option<u32>,
    // Shown, and sent back as they were read.
    #[serde(rename = "version")]
    _version: Option<Value>,
    #[serde(rename = "created_at")]
    _created_at: Option<Value>,
    #[serde(rename = "updated_at")]
    _updated_at: Option<Value>,
}

/// `POST /v1/numbers`.
async fn create(client: &Client, key: Option<&str>, body: &[u8]) -> Result<Shown, Problem> {
    match once::begin(client, &Request { key, what: "numbers", body }).await? {
        Next::Say(shown) => Ok(shown),
        Next::Do(once) => {
            let made = make(client, body, once.as_ref()).await;
            once::end(client, once, made).await
        }
    }
}

async fn make(client: &Client, body: &[u8], once: Option<&Once>) -> Result<Shown, Problem> {
    let mut wish = read(body)?;
    let number = wish.number.take().ok_or_else(|| {
        unprocessable("number_missing", "`number` is missing: which number is answered?")
    })?;
    let number = e164(number, "number")?;
    let route = route(client, wish).await?;
    let store = &client.plane.store;
    let (wish, now) = ((number, route), clock::wall());
    let made = store.create_number(&client.tenant, wish, once, &client.key, now).await?;
    saved(client, made, StatusCode::CREATED).await
}

/// `GET /v1/numbers`.
async fn list(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let lines = client.plane.store.numbers(&client.tenant).await?;
    let numbers: Vec<Value> = lines.iter().map(json_of).collect();
    Ok((StatusCode::OK, json!({"numbers": numbers})))
}

/// `GET /v1/numbers/{number}`.
async fn show(client: &Client, id: &str) -> Result<Shown, Problem> {
    let number = number_of(id)?;
    let line = client.plane.store.number(&client.tenant, &number).await?.ok_or_else(no_number)?;
    Ok(Shown::new(StatusCode::OK, json_of(&line), Some(line.version)))
}

/// `PUT /v1/numbers/{number}`: calls that come from now on go the new way.
async fn update(
    client: &Client,
    id: &str,
    version: Option<&str>,
    body: &[u8],
) -> Result<Shown, Problem> {
    let number = number_of(id)?;
    let store = &client.plane.store;
    store.number(&client.tenant, &number).await?.ok_or_else(no_number)?;
    let expected = required(version)?;
    let wish = read(body)?;
    if wish.number.as_ref().is_some_and(|written| written != number.as_str()) {
        let detail = "`number` is another one than the address says.";
        return Err(unprocessable("number_renamed", detail));
    }
    let change = (route(client, wish).await?, expected);
    let (tenant, key, now) = (&client.tenant, &client.key, clock::wall());
    let changed = store.update_number(tenant, &number, change, key, now).await?;
    saved(client, changed, StatusCode::OK).await
}

/// `DELETE /v1/numbers/{number}`.
async fn delete(client: &Client, id: &str, version: Option<&str>) -> Result<(), Problem> {
    let number = number_of(id)?;
    let expected = expected(version)?.unwrap_or(Expected::Any);
    let store = &client.plane.store;
    let (tenant, key, now) = (&client.tenant, &client.key, clock::wall());
    match store.delete_number(tenant, &number, expected, key, now).await? {
        Changed::Done(()) => {
            learn(&client.plane).await;
            Ok(())
        }
        Changed::Stale(version) => Err(stale(version)),
        Changed::Absent | Changed::Exists | Changed::TooMany | Changed::InUse => Err(no_number()),
    }
}

async fn saved(
    client: &Client,
    changed: Changed<Line>,
    status: StatusCode,
) -> Result<Shown, Problem> {
    let conflict = |code, detail: &str| Err(Problem::new(StatusCode::CONFLICT, code, detail));
    match changed {
        Changed::Done(line) => {
            learn(&client.plane).await;
            Ok(Shown::new(status, json_of(&line), Some(line.version)))
        }
        Changed::Exists => conflict(
            "number_exists",
            "You have this number; PUT /v1/numbers/{number} changes where its calls go.",
        ),
        Changed::InUse => conflict(
            "number_taken",
            "This number cannot be had here; ask the operator when it is yours at the carrier.",
        ),
        Changed::TooMany => {
            conflict("numbers_too_many", "There are 1,000 numbers; give one back first.")
        }
        Changed::Stale(version) => Err(stale(version)),
        Changed::Absent => Err(no_number()),
    }
}

/// Unknown fields are refused: with a misspelt `legacy_url` every call would come here.
fn read(body: &[u8]) -> Result<Wish, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        // Place and kind, not the text: it may hold a number.
        let at = format!("line {}, column {}", error.line(), error.column());
        let detail = format!(
            "The body is not {{\"number\", \"agent\"?, \"legacy_url\"?, \"legacy_percent\"? (0 to \
             100)}} ({at}).",
        );
        Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
    })
}

/// Where the calls shall go, checked.
async fn route(client: &Client, wish: Wish) -> Result<Route, Problem> {
    let Wish { agent, legacy_url, legacy_percent, .. } = wish;
    let agent = match agent {
        Some(name) => Some(agent_of(client, &name).await?),
        None => None,
    };
    let legacy = match (legacy_url, legacy_percent) {
        (None, None | Some(0)) => None,
        (Some(url), Some(percent @ 0..=100)) => {
            let percent = u8::try_from(percent).expect("a hundred at most");
            Some(Legacy { url: legacy(url)?, percent })
        }
        (_, _) => {
            let detail = "`legacy_percent` goes with `legacy_url`, and is how many calls of a \
                hundred the old backend still gets: 0 to 100.";
            return Err(unprocessable("legacy_percent_malformed", detail));
        }
    };
    Ok(Route { agent, legacy })
}

/// The agent of a request, which exists.
async fn agent_of(client: &Client, name: &str) -> Result<AgentName, Problem> {
    let none = || {
        let detail = "`agent` names no agent. GET /v1/agents lists those there are.";
        unprocessable("agent_not_found", detail)
    };
    let name = AgentName::new(name).map_err(|_| none())?;
    let plane = &client.plane;
    let found = plane.directory.newest_or_new(plane, &client.tenant, Some(&name)).await?;
    found.map(|_| name).ok_or_else(none)
}

/// The carrier asks there: it must be able to, and TwiML to say so.
fn legacy(url: String) -> Result<String, Problem> {
    let parsed = Url::parse(&url).ok().filter(|parsed| {
        let has_user = !parsed.username().is_empty() || parsed.password().is_some();
        parsed.scheme() == "https" && parsed.host_str().is_some() && !has_user
    });
    // The text goes out as it is written, because the carrier signs that text.
    let is_plain = url.starts_with("https://") && url.bytes().all(|byte| byte.is_ascii_graphic());
    if parsed.is_some() && is_plain && url.len() <= URL_BYTES_MAX {
        return Ok(url);
    }
    let detail = "`legacy_url` is not an address that the carrier can ask: https://, a host, no \
        user, no spaces, at most 2,000 characters.";
    Err(unprocessable("legacy_url_malformed", detail))
}

/// The number of an address, whose plus may be encoded, or be left out.
fn number_of(id: &str) -> Result<Number, Problem> {
    let plus = ["+", "%2B", "%2b"];
    let digits = plus.iter().find_map(|plus| id.strip_prefix(plus)).unwrap_or(id);
    e164(format!("+{digits}"), "number").map_err(|_| no_number())
}

fn no_number() -> Problem {
    let detail = "You have no such number. GET /v1/numbers lists those you have.";
    Problem::new(StatusCode::NOT_FOUND, "number_not_found", detail)
}

fn unprocessable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

fn json_of(line: &Line) -> Value {
    let Route { agent, legacy } = &line.route;
    json!({
        "number": line.number.as_str(),
        "agent": agent.as_ref().map(AgentName::as_str),
        "legacy_url": legacy.as_ref().map(|legacy| &legacy.url),
        "legacy_percent": legacy.as_ref().map_or(0, |legacy| legacy.percent),
        "version": line.version,
        "created_at": rfc3339(line.created_at),
        "updated_at": rfc3339(line.updated_at),
    })
}

const BODY_BYTES_MAX: usize = 16 * 1024;

/// What browsers and servers take as well.
const URL_BYTES_MAX: usize = 2_000;

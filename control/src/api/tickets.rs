//! Tickets of event streams: `POST /v1/events/tickets`, and who watches by one.
//!
//! A page's `EventSource` can send no header, so the right to watch stands in its address. It is
//! worth little to whoever finds it in a log: one call or one run, on pages of one origin, for a
//! while.
//!
//! Nothing is stored, and a ticket more does no harm: this takes no `Idempotency-Key`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, select};
use http::StatusCode;
use http::header::{self, HeaderMap};
use link::id::{CallId, RunId, TenantId, WallTime};
use serde::Deserialize;
use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::auth::{self, Asked, Client, asked, keyed};
use super::runs::no_run;
use super::{done, read_body};
use crate::access::key::KeyId;
use crate::access::known::Closed;
use crate::access::origin::Origin;
use crate::clock;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::{body, cors, queries, with};
use crate::plane::Plane;
use crate::tokens::watch::{WatchTicket, Watched};

/// `/v1/events/tickets`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "events" / "tickets")
        .and(warp::post())
        .and(keyed(plane))
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, body: Bytes| async move { done(create(&client, &body).await) })
        .boxed()
}

/// Who watches an event stream: by a key, or by a ticket in the address.
pub(super) struct Watcher {
    /// What answers.
    pub(super) plane: Arc<Plane>,
    /// Whose events.
    pub(super) tenant: TenantId,
    /// What of them; `None` for all.
    pub(super) only: Option<Watched>,
    /// Resolves when the right ends, and with it the stream.
    pub(super) until: BoxFuture<'static, ()>,
}

/// Lets requests pass that may watch.
pub(super) fn watching(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Watcher,), Error = Rejection> + Clone + use<> {
    asked().and(queries()).and(with(plane)).and_then(
        |asked: Asked, queries: BTreeMap<String, String>, plane: Arc<Plane>| async move {
            let Some(ticket) = queries.get("ticket") else {
                let client = auth::enter(plane, &asked).await?;
                let until = client.gone().boxed();
                let Client { plane, tenant, .. } = client;
                return Ok::<_, Rejection>(Watcher { plane, tenant, only: None, until });
            };
            auth::arrive(&plane, &asked)?;
            Ok(by_ticket(plane, ticket, &asked.headers, clock::wall()).await?)
        },
    )
}

/// The body of `POST /v1/events/tickets`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    call: Option<CallId>,
    run: Option<RunId>,
    origin: String,
    expires_in_seconds: Option<u32>,
}

async fn create(client: &Client, body: &[u8]) -> Result<(StatusCode, Value), Problem> {
    let wish: Wish = read_body(body)?;
    let plane = &client.plane;
    let origin =
        Origin::parse(&wish.origin).filter(|origin| may_ask(plane, &client.tenant, origin));
    let origin = origin.ok_or_else(|| {
        let detail = "`origin` is not one of the tenant's: PATCH /v1/tenant {\"origins\": [...]}.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "origin_unknown", detail)
    })?;
    let seconds = wish.expires_in_seconds.unwrap_or(SECONDS);
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        let detail =
            format!("`expires_in_seconds` is a number from {SECONDS_MIN} to {SECONDS_MAX}.");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "expiry_malformed", detail));
    }
    let what = watched(client, wish.call, wish.run).await?;
    let now = clock::wall();
    let expires_at = now.seconds() + i64::from(seconds);
    let ticket = WatchTicket {
        tenant: client.tenant.clone(),
        what,
        origin: origin.as_str().to_owned(),
        key: client.key.as_str().to_owned(),
        expires_at,
    };
    let ticket = plane.tokens.watch_ticket(&ticket, now).map_err(|error| {
        tracing::error!(%error, "a ticket cannot be signed");
        let detail = "The ticket could not be signed; the operator's log says why.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "token_unsigned", detail).again_after(1)
    })?;
    let url = plane.public.url(&format!("/v1/events?ticket={ticket}"));
    let expires_at = rfc3339(WallTime(expires_at * 1_000_000));
    let shown = json!({"ticket": ticket, "url": url, "expires_at": expires_at});
    Ok((StatusCode::CREATED, shown))
}

/// What is to be watched: one thing, which is there.
async fn watched(
    client: &Client,
    call: Option<CallId>,
    run: Option<RunId>,
) -> Result<Watched, Problem> {
    let (store, tenant) = (&client.plane.store, &client.tenant);
    match (call, run) {
        (Some(call), None) => {
            store.call(tenant, &call).await?.ok_or_else(Problem::no_call)?;
            Ok(Watched::Call(call))
        }
        (None, Some(run)) => {
            store.run(tenant, &run).await?.ok_or_else(no_run)?;
            Ok(Watched::Run(run))
        }
        (Some(_), Some(_)) | (None, None) => {
            let detail = "The body names what is to be watched: a `call` or a `run`, one of them.";
            Err(Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail))
        }
    }
}

/// Who comes with a ticket. Everything that it was given for must still hold.
async fn by_ticket(
    plane: Arc<Plane>,
    text: &str,
    headers: &HeaderMap,
    now: WallTime,
) -> Result<Watcher, Problem> {
    let refused = |code, detail: &str| Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    let ticket = plane
        .tokens
        .read_watch_ticket(text)
        .map_err(|_| refused("ticket_refused", "`ticket` is none of POST /v1/events/tickets."))?;
    let left_seconds = ticket.expires_at - now.seconds();
    let left = u64::try_from(left_seconds).ok().filter(|left| *left > 0).ok_or_else(|| {
        refused("ticket_expired", "The ticket has expired; POST /v1/events/tickets.")
    })?;
    if !is_from(&plane, &ticket, headers) {
        return Err(cors::refused());
    }
    let key = KeyId::new(&ticket.key).ok_or(Closed::Unknown)?;
    let gone = if plane.operators.has(&key) {
        std::future::pending().boxed()
    } else {
        let key = plane.keys.good(&key, now).await?;
        plane.keys.gone(&key).boxed()
    };
    let end = tokio::time::sleep(Duration::from_secs(left)).boxed();
    let until = select(gone, end).map(drop).boxed();
    Ok(Watcher { plane, tenant: ticket.tenant, only: Some(ticket.what), until })
}

/// Whether the request comes from a page of the ticket's origin. A page of our own origin says
/// none with a GET, but its browser says that it is the same.
fn is_from(plane: &Plane, ticket: &WatchTicket, headers: &HeaderMap) -> bool {
    let is_listed =
        Origin::parse(&ticket.origin).is_some_and(|origin| may_ask(plane, &ticket.tenant, &origin));
    let said = match headers.get(header::ORIGIN) {
        Some(origin) => origin.to_str().unwrap_or_default(),
        None if headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin") => {
            plane.public.as_str()
        }
        None => "",
    };
    is_listed && said == ticket.origin
}

fn may_ask(plane: &Plane, tenant: &TenantId, origin: &Origin) -> bool {
    let origin = origin.as_str();
    origin == plane.public.as_str() || plane.tenants.may_ask(tenant, origin)
}

const BODY_BYTES_MAX: usize = 16 * 1024;

/// An hour: longer than most calls, and than most pages stay open.
const SECONDS: u32 = 3_600;

const SECONDS_MIN: u32 = 30;

/// A day: the longest call.
const SECONDS_MAX: u32 = 86_400;

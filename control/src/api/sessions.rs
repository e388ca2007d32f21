//! `POST /v1/sessions`: somebody at a web page, or a program of the customer's own, is to talk with
//! an agent without a phone.
//!
//! The customer's backend asks, with its key, and hands `ws_url` and `token` to the page, which
//! opens the stream and says the token first. A session is a call: it is listed, followed, commanded
//! and ended as one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use link::id::AgentName;
use link::ticket::SESSION_SECONDS;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::once::{self, Next, Request};
use super::version::{Shown, shown};
use crate::access::crowd;
use crate::clock;
use crate::dialer::new_call_id;
use crate::directory::{can_answer, no_key};
use crate::error::Problem;
use crate::events::rfc3339;
use crate::fleet::placement::Wish;
use crate::http::body;
use crate::plane::Plane;
use crate::store::Ending;
use crate::store::call::{CallEnd, Direction, NewCall, Number};
use crate::store::idempotency::Once;

/// `/v1/sessions`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "sessions")
        .and(warp::post())
        .and(keyed(plane))
        .and(once::key())
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, key: Option<String>, body: Bytes| async move {
            shown(create(&client, key.as_deref(), &body).await)
        })
        .boxed()
}

/// The body of `POST /v1/sessions`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Which agent; the default when it is left out.
    agent: Option<AgentName>,
    /// The origin of the page that will use the token; left out for a program that is no page.
    origin: Option<String>,
}

/// `POST /v1/sessions`.
async fn create(client: &Client, key: Option<&str>, body: &[u8]) -> Result<Shown, Problem> {
    match once::begin(client, &Request { key, what: "sessions", body }).await? {
        Next::Say(shown) => Ok(shown),
        Next::Do(once) => {
            let made = make(client, body, once.as_ref()).await;
            once::end_secret(client, once, made).await
        }
    }
}

/// Unknown fields are refused: a misspelt `origin` would make a token that no page can use.
async fn make(client: &Client, body: &[u8], once: Option<&Once>) -> Result<Shown, Problem> {
    // Place and kind, not the text, as everywhere.
    let wanted: Wanted = match body {
        [] => Wanted { agent: None, origin: None },
        body => serde_json::from_slice(body).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            let detail = format!("The body is not {{\"agent\"?, \"origin\"?}} ({at}).");
            Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
        })?,
    };
    let origin = wanted.origin.as_deref().map(read_origin).transpose()?;
    if let Some(origin) = &origin {
        may_have(client, origin)?;
    }
    let session = begin(client, wanted.agent.as_ref(), origin, once).await?;
    Ok(Shown::new(StatusCode::CREATED, session, None))
}

/// Makes the call, chooses its node, and signs the token.
pub(super) async fn begin(
    client: &Client,
    agent: Option<&AgentName>,
    origin: Option<String>,
    once: Option<&Once>,
) -> Result<Value, Problem> {
    let Client { plane, tenant, .. } = client;
    let spec = plane.directory.newest_or_new(plane, tenant, agent).await?;
    let spec = spec.ok_or_else(|| {
        let detail = "There is no agent of the name in `agent`. GET /v1/agents lists those there \
            are.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "agent_not_found", detail)
    })?;
    if !can_answer(&spec) {
        return Err(no_key(&spec));
    }
    let new = NewCall {
        id: new_call_id(),
        tenant: tenant.clone(),
        carrier: None,
        direction: Direction::Inbound,
        from: Number(origin.clone().unwrap_or_else(|| PROGRAM.to_owned())),
        to: Number(spec.name.as_str().to_owned()),
        agent: spec.name.clone(),
        agent_version: spec.version,
        run: None,
    };
    // Held until it is written down.
    let _place = crowd::admit(plane, tenant, new.id.as_str()).await.map_err(|_| crowded())?;
    // Placed before it exists: a session that no node takes leaves nothing behind.
    let regions = plane.nodes.regions().order(&[spec.provider.host()]);
    let wish = Wish { call: &new.id, regions, left: None };
    let placed = plane.nodes.place_soon(wish, ARRIVE_WITHIN).await;
    let placed = placed.ok().and_then(|node| Some((plane.nodes.page_url(&node)?, node)));
    let Some((ws_url, node)) = placed else {
        let detail = "No relay takes a session at this moment. Try again; GET /readyz of the \
            relays says why.";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_node", detail);
        return Err(problem.again_after(1));
    };
    let call = plane.store.create_call_once(new, once, clock::wall()).await?.into_call();
    let now = clock::wall();
    let until = now.plus_us(SESSION_SECONDS * 1_000_000);
    let token = match plane.tokens.session(&call, &node, origin, now) {
        Ok(token) => token,
        Err(error) => {
            tracing::error!(call = %call.id, %error, "a session's token cannot be made");
            let end = Ending { reason: CallEnd::NoNode, detail: Some("no token can be made") };
            plane.store.end_call(&call.tenant, &call.id, end, now).await?;
            let detail = "No token can be made for this session: the names of tenant, node and \
                agent are too long together.";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_token", detail);
            return Err(problem);
        }
    };
    plane.nodes.asked_for(&node, &call.id, now);
    let waiting = plane.store.await_page(&call.tenant, &call.id, &node, until).await?;
    let call = waiting.ok_or_else(Problem::no_call)?;
    tracing::info!(call = %call.id, %node, "a session is made");
    Ok(json!({
        "id": call.id.as_str(),
        "token": token,
        "ws_url": ws_url,
        "expires_at": rfc3339(until),
        "agent": call.agent.as_str(),
        "agent_version": call.agent_version,
    }))
}

/// A token is good in one page, which must be one of the tenant's: whoever has the key, but not the
/// pages, cannot have a stranger's page speak for the tenant.
fn may_have(client: &Client, origin: &str) -> Result<(), Problem> {
    if client.plane.tenants.may_ask(&client.tenant, origin) {
        return Ok(());
    }
    let detail = "`origin` is not one of your web pages. Add it, exactly as the browser says it: \
        PATCH /v1/tenant {\"origins\": [...]}, or `control tenant set`.";
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "origin_not_allowed", detail))
}

/// The tenant has as many calls as it may have.
fn crowded() -> Problem {
    let detail = "As many calls are under way as you may have at once: `limits.calls_max` of \
        GET /v1/tenant, which the operator sets. Try again when one is over.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "calls_max_reached", detail).again_after(AGAIN_S)
}

/// An origin as a browser states it.
fn read_origin(text: &str) -> Result<String, Problem> {
    let malformed = || {
        let detail = "`origin` is not the origin of a page: scheme, host and port, as in \
            https://app.example or http://localhost:5173, and nothing behind them.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "origin_malformed", detail)
    };
    let url = Url::parse(text).map_err(|_| malformed())?;
    let is_web = matches!(url.scheme(), "http" | "https");
    let is_bare = url.path() == "/" && !text.contains(['?', '#', '@']);
    if text.len() > ORIGIN_BYTES_MAX || !is_web || !is_bare {
        return Err(malformed());
    }
    Ok(url.origin().ascii_serialization())
}

/// Seconds after which a session may be wanted again; a call lasts longer, but one of several may end.
const AGAIN_S: u32 = 5;

/// What calls when it is no page.
const PROGRAM: &str = "program";

/// How long a session waits for the first relay.
const ARRIVE_WITHIN: Duration = Duration::from_secs(1);

/// The body of a session is two short texts.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// The longest that a relay takes.
const ORIGIN_BYTES_MAX: usize = 270;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_a_browser_states_it() {
        for (text, origin) in [
            ("https://app.example", "https://app.example"),
            ("https://App.Example/", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("https://b\u{fc}cher.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(read_origin(text).unwrap(), origin, "{text}");
        }
        for text in [
            "",
            "null",
            "*",
            "app.example",
            "https://",
            "https://app.example/page",
            "https://app.example?x",
            "https://app.example#x",
            "https://me@app.example",
            "ftp://app.example",
            "file:///",
        ] {
            assert_eq!(read_origin(text).unwrap_err().code, "origin_malformed", "{text}");
        }
        let long = format!("https://{}.example", "a.".repeat(140));
        assert!(read_origin(&long).is_err());
    }
}

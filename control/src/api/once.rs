//! `Idempotency-Key`: a request that creates something may be sent again, and does it once.
//!
//! The same key and the same body get the same answer for a day; another body is a mistake. A
//! request that is refused has done nothing, and frees its key.
//!
//! An answer that shows a secret (a key, a webhook, a session) is not kept: who asks again is told
//! the id of what was made, and that its secret was shown.

use http::StatusCode;
use link::id::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use warp::{Filter, Rejection};

use super::auth::Client;
use super::version::Shown;
use crate::clock;
use crate::error::Problem;
use crate::store::idempotency::{Begun, Once};

/// The key of a request; most have none.
pub(super) fn key() -> impl Filter<Extract = (Option<String>,), Error = Rejection> + Clone {
    warp::header::optional::<String>("idempotency-key")
}

/// A request that may come twice.
pub(super) struct Request<'a> {
    /// Its key; `None` does it as often as it comes.
    pub(super) key: Option<&'a str>,
    /// What is asked, as a word.
    pub(super) what: &'static str,
    /// The body.
    pub(super) body: &'a [u8],
}

/// Whether a request is to be done.
pub(super) enum Next {
    /// It is, in a transaction that holds the key, where there is one.
    Do(Option<Once>),
    /// It was; this is what was answered.
    Say(Shown),
}

/// Looks whether a request has come before.
pub(super) async fn begin(client: &Client, request: &Request<'_>) -> Result<Next, Problem> {
    begin_for(client, &client.tenant, request).await
}

/// The same for what is made for another tenant, whose the key is then.
pub(super) async fn begin_for(
    client: &Client,
    tenant: &TenantId,
    request: &Request<'_>,
) -> Result<Next, Problem> {
    let Some(key) = request.key else { return Ok(Next::Do(None)) };
    let key = read(key)?;
    let digest = Sha256::new().chain_update(request.what).chain_update([0]);
    let digest = digest.chain_update(request.body).finalize();
    let store = &client.plane.store;
    match store.begin_once(tenant, key, &digest, clock::wall()).await? {
        Begun::Fresh(once) => Ok(Next::Do(Some(once))),
        Begun::Answered(text) => Ok(Next::Say(restore(&text)?)),
        Begun::Unfinished => {
            let detail = "A request with this Idempotency-Key was begun and has no answer yet. Try \
                again in a moment; if that stays so, look whether it did its work, and use \
                another key.";
            let status = StatusCode::CONFLICT;
            Err(Problem::new(status, "idempotency_unfinished", detail).again_after(1))
        }
        Begun::Other => {
            let detail = "This Idempotency-Key was sent with another body. Use a fresh one for each \
                request, and the same one only to send it again.";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Problem::new(status, "idempotency_key_reused", detail))
        }
    }
}

/// Keeps the answer for a request that comes again. That it could not be kept is no reason to hide
/// it.
pub(super) async fn end(
    client: &Client,
    once: Option<Once>,
    answer: Result<Shown, Problem>,
) -> Result<Shown, Problem> {
    keep(client, once, answer.as_ref().ok().map(Kept::whole)).await;
    answer
}

/// The same for an answer that shows a secret: only the id of what was made is kept.
pub(super) async fn end_secret(
    client: &Client,
    once: Option<Once>,
    answer: Result<Shown, Problem>,
) -> Result<Shown, Problem> {
    keep(client, once, answer.as_ref().ok().map(Kept::without_secret)).await;
    answer
}

/// Keeps what is to be kept of an answer; `None` of a refusal.
async fn keep(client: &Client, once: Option<Once>, kept: Option<Kept>) {
    let Some(once) = once else { return };
    let store = &client.plane.store;
    let done = match kept {
        Some(kept) => store.answer_once(&once, &kept.to_text()).await,
        None => store.forget_once(&once).await,
    };
    if let Err(error) = done {
        tracing::warn!(error = error.explain(), "an answer is not kept for a repeated request");
    }
}

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    body: Value,
    version: Option<u32>,
    /// Whether it showed a secret: then the body is only what says which thing was made.
    #[serde(default)]
    had_secret: bool,
}

impl Kept {
    fn whole(shown: &Shown) -> Self {
        let Shown { status, body, version, .. } = shown;
        let status = status.as_u16();
        Self { status, body: body.clone(), version: *version, had_secret: false }
    }

    fn without_secret(shown: &Shown) -> Self {
        let body = json!({"id": shown.body["id"]});
        Self { body, had_secret: true, ..Self::whole(shown) }
    }

    fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("JSON is written as JSON")
    }
}

fn restore(text: &[u8]) -> Result<Shown, Problem> {
    let kept = serde_json::from_slice::<Kept>(text).ok();
    if let Some(Kept { body, .. }) = kept.as_ref().filter(|kept| kept.had_secret) {
        return Err(already_created(body["id"].as_str().unwrap_or_default()));
    }
    let shown = kept.and_then(|Kept { status, body, version, .. }| {
        Some(Shown { status: StatusCode::from_u16(status).ok()?, body, version, is_repeated: true })
    });
    shown.ok_or_else(|| {
        let detail = "What was answered to this Idempotency-Key cannot be read; use another key.";
        Problem::new(StatusCode::CONFLICT, "idempotency_unfinished", detail)
    })
}

/// What was made cannot be shown again with its secret.
fn already_created(id: &str) -> Problem {
    let detail = "A request with this Idempotency-Key made what has this `id`, and was shown its \
        secret, which is shown once. If that answer is lost, take it away and ask with another key.";
    Problem::new(StatusCode::CONFLICT, "already_created", detail).about(id)
}

/// A key, with or without the quotes that the draft standard puts around it.
fn read(text: &str) -> Result<&str, Problem> {
    let bare = text.trim();
    let bare = bare.strip_prefix('"').and_then(|bare| bare.strip_suffix('"')).unwrap_or(bare);
    let is_good = (1..=KEY_CHARS_MAX).contains(&bare.len())
        && bare.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_good {
        return Ok(bare);
    }
    let detail = "An Idempotency-Key is 1 to 255 characters that can be seen, for instance a UUID.";
    Err(Problem::new(StatusCode::BAD_REQUEST, "idempotency_key_malformed", detail))
}

const KEY_CHARS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_kept_and_what_it_belongs_to_is_named() {
        let body = json!({"id": "wh_1", "secret": "whsec_hush"});
        let shown = Shown::new(StatusCode::CREATED, body, None);
        let kept = Kept::without_secret(&shown).to_text();
        assert!(!String::from_utf8_lossy(&kept).contains("hush"));
        let problem = restore(&kept).err().unwrap();
        assert_eq!((problem.status.as_u16(), problem.code), (409, "already_created"));
        assert_eq!(problem.id.as_deref(), Some("wh_1"));
        let whole = restore(&Kept::whole(&shown).to_text()).ok().unwrap();
        assert_eq!((whole.body, whole.is_repeated), (shown.body, true));
        // As it was written before there were answers with secrets.
        assert!(restore(br#"{"status":201,"body":{},"version":null}"#).is_ok());
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        assert_eq!(read("\"a-1\"").unwrap(), "a-1");
        assert_eq!(read(" a-1 ").unwrap(), "a-1");
        for bad in ["", "\"\"", "ä", "a\tb", &"x".repeat(256)] {
            assert_eq!(read(bad).unwrap_err().code, "idempotency_key_malformed", "{bad}");
        }
    }
}

//! `Idempotency-Key`: a request that creates something may be sent again, and does it once.
//!
//! The same key and the same body get the same answer for a day; another body is a mistake. A
//! request that is refused has done nothing, and frees its key.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
    let Some(key) = request.key else { return Ok(Next::Do(None)) };
    let key = read(key)?;
    let digest = Sha256::new().chain_update(request.what).chain_update([0]);
    let digest = digest.chain_update(request.body).finalize();
    let store = &client.plane.store;
    match store.begin_once(&client.tenant, key, &digest, clock::wall()).await? {
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
    let Some(once) = once else { return answer };
    let store = &client.plane.store;
    let kept = match &answer {
        Ok(shown) => store.answer_once(&once, &written(shown)).await,
        Err(_) => store.forget_once(&once).await,
    };
    if let Err(error) = kept {
        tracing::warn!(error = error.explain(), "an answer is not kept for a repeated request");
    }
    answer
}

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    body: Value,
    version: Option<u32>,
}

fn written(shown: &Shown) -> Vec<u8> {
    let Shown { status, body, version, .. } = shown;
    let kept = Kept { status: status.as_u16(), body: body.clone(), version: *version };
    serde_json::to_vec(&kept).expect("JSON is written as JSON")
}

fn restore(text: &[u8]) -> Result<Shown, Problem> {
    let kept = serde_json::from_slice::<Kept>(text).ok();
    let shown = kept.and_then(|Kept { status, body, version }| {
        Some(Shown { status: StatusCode::from_u16(status).ok()?, body, version, is_repeated: true })
    });
    shown.ok_or_else(|| {
        let detail = "What was answered to this Idempotency-Key cannot be read; use another key.";
        Problem::new(StatusCode::CONFLICT, "idempotency_unfinished", detail)
    })
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
    fn a_key_is_the_same_with_and_without_quotes() {
        assert_eq!(read("\"a-1\"").unwrap(), "a-1");
        assert_eq!(read(" a-1 ").unwrap(), "a-1");
        for bad in ["", "\"\"", "ä", "a\tb", &"x".repeat(256)] {
            assert_eq!(read(bad).unwrap_err().code, "idempotency_key_malformed", "{bad}");
        }
    }
}

//! What we ask the carrier: to place a call, to end one.
//!
//! Placing a call cannot be repeated blindly: there is no key that would make the second request
//! the same as the first (source: Twilio, "Calls resource", read 2026-11-20). It is only repeated
//! when the carrier has said that it did nothing (429). Ending one is repeated until it is done.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;

use crate::config::Account;
use crate::metrics::Asked;
use crate::store::call::{CarrierIds, Number};

/// The REST API of one account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest {
    http: Client,
    account: Account,
}

/// A call to place.
#[derive(Debug, Clone)]
pub struct Placing<'a> {
    /// Who is called.
    pub to: &'a Number,
    /// Who calls.
    pub from: &'a Number,
    /// Where the carrier asks what to do when somebody answers.
    pub url: String,
    /// Where it says how the call fares.
    pub status_callback: String,
}

/// Why the carrier did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The account's name or token is wrong (operator).
    #[error("the carrier refuses the account's credentials")]
    Credentials,
    /// It will not do this, now or later; the code says why.
    #[error("the carrier refuses, code {code}")]
    Refused {
        /// The carrier's number of the error; its documentation is at `/docs/errors/CODE`.
        code: u32,
    },
    /// There is no such call, or it is over.
    #[error("the call is over")]
    Gone,
    /// Too much at once, again and again.
    #[error("the carrier is asked too much at once")]
    Throttled,
    /// No answer in time; whether it was done is not known.
    #[error("the carrier did not answer in time")]
    Silent(#[source] reqwest::Error),
    /// The request never got there.
    #[error("the carrier cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The carrier failed, or answered with something else than it should.
    #[error("the carrier failed with status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
}

impl RestError {
    /// What this is called in the metrics.
    #[must_use]
    pub fn asked(&self) -> Asked {
        match self {
            Self::Credentials => Asked::Credentials,
            Self::Refused { .. } => Asked::Refused,
            Self::Gone => Asked::Done,
            Self::Throttled => Asked::Throttled,
            Self::Silent(_) => Asked::Silent,
            Self::Unreachable(_) => Asked::Unreachable,
            Self::Failed { .. } => Asked::Failed,
        }
    }
}

#[derive(Deserialize)]
struct Created {
    sid: String,
    account_sid: String,
}

#[derive(Deserialize)]
struct Failure {
    code: Option<u32>,
}

impl Rest {
    /// An account's API. Nothing is asked yet.
    ///
    /// # Errors
    /// When the machine's TLS roots cannot be read.
    pub fn new(account: Account) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .pool_max_idle_per_host(4)
            .redirect(reqwest::redirect::Policy::none());
        let is_secure = account.api_url.starts_with("https://");
        // A fake on loopback needs neither the machine's certificates nor its proxy.
        let http = if is_secure {
            http.https_only(true)
        } else {
            http.tls_certs_only(std::iter::empty()).no_proxy()
        };
        let http = http.build()?;
        Ok(Self { http, account })
    }

    /// Places a call.
    ///
    /// # Errors
    /// [`RestError`]; after [`RestError::Silent`] and [`RestError::Failed`] it may have been
    /// placed.
    pub async fn create(&self, placing: &Placing<'_>) -> Result<CarrierIds, RestError> {
        let mut form = vec![
            ("To", placing.to.as_str()),
            ("From", placing.from.as_str()),
            ("Url", &placing.url),
            ("Method", "POST"),
            ("StatusCallback", &placing.status_callback),
            ("StatusCallbackMethod", "POST"),
        ];
        // A field for each: one field with all of them is taken as none at all (21626).
        let events = ["initiated", "ringing", "answered", "completed"];
        form.extend(events.map(|event| ("StatusCallbackEvent", event)));
        let mut tries = 0;
        loop {
            match self.post("Calls.json", &form).await {
                Err(RestError::Throttled) if tries < RETRIES_MAX => {
                    back_off(tries).await;
                    tries += 1;
                }
                Ok(body) => {
                    let created: Created = serde_json::from_slice(&body)
                        .map_err(|_| RestError::Failed { status: 201 })?;
                    let Created { sid, account_sid } = created;
                    return Ok(CarrierIds { account_sid, call_sid: sid });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a call, in whatever state it is. One that is over is well ended.
    ///
    /// # Errors
    /// [`RestError`], never [`RestError::Gone`].
    pub async fn complete(&self, call: &CarrierIds) -> Result<(), RestError> {
        // It came from the carrier itself, and goes into a path.
        if !call.call_sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(());
        }
        let path = format!("Calls/{}.json", call.call_sid);
        let mut tries = 0;
        loop {
            match self.post(&path, &[("Status", "completed")]).await {
                Ok(_) | Err(RestError::Gone) => return Ok(()),
                Err(
                    RestError::Throttled
                    | RestError::Silent(_)
                    | RestError::Unreachable(_)
                    | RestError::Failed { .. },
                ) if tries < RETRIES_MAX => {
                    back_off(tries).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One request. What is refused is logged by the carrier's code, never by its words: they
    /// repeat numbers.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Vec<u8>, RestError> {
        let Account { sid, auth_token, api_url } = &self.account;
        let url = format!("{api_url}/2010-04-01/Accounts/{sid}/{path}");
        let request = self.http.post(url).basic_auth(sid, Some(auth_token.reveal())).form(form);
        let (status, body) = send(request).await?;
        if status.is_success() {
            return Ok(body);
        }
        let code = serde_json::from_slice(&body).ok().and_then(|failure: Failure| failure.code);
        tracing::warn!(status = status.as_u16(), code, "the carrier refuses a request");
        Err(refusal(status, code))
    }
}

/// Sends and reads the whole answer, bounded.
async fn send(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), RestError> {
    let lost = |error: reqwest::Error| {
        // The address holds the account, and its form numbers.
        let error = error.without_url();
        if error.is_connect() { RestError::Unreachable(error) } else { RestError::Silent(error) }
    };
    let mut answer = request.send().await.map_err(lost)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(lost)? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(RestError::Failed { status: status.as_u16() });
        }
        body.extend_from_slice(&piece);
    }
    Ok((status, body))
}

/// Reads a refusal by what is to be done about it. Code before status: the carrier's codes are
/// documented, its choice among the 4xx is not.
fn refusal(status: StatusCode, code: Option<u32>) -> RestError {
    match (status.as_u16(), code) {
        (429, _) | (_, Some(20429)) => RestError::Throttled,
        (401, _) | (_, Some(20003)) => RestError::Credentials,
        (404, _) | (_, Some(20404 | 21220)) => RestError::Gone,
        (400..=499, code) => {
            RestError::Refused { code: code.unwrap_or(u32::from(status.as_u16())) }
        }
        (status, _) => RestError::Failed { status },
    }
}

/// Full jitter: anything up to a bound that doubles, as the carrier's own libraries do.
async fn back_off(tries: u32) {
    let bound = BACK_OFF_FIRST.saturating_mul(1 << tries.min(8)).min(BACK_OFF_MAX);
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    tokio::time::sleep(bound.mul_f64(share)).await;
}

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// An answer is one call, under 2 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const RETRIES_MAX: u32 = 3;
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carriers_codes_are_told_apart_by_what_to_do() {
        let of = |status: u16, code| refusal(StatusCode::from_u16(status).unwrap(), code).asked();
        assert_eq!(of(401, Some(20003)), Asked::Credentials);
        assert_eq!(of(404, Some(20404)), Asked::Done);
        assert_eq!(of(400, Some(21220)), Asked::Done);
        assert_eq!(of(429, Some(20429)), Asked::Throttled);
        assert_eq!(of(400, Some(21211)), Asked::Refused);
        assert_eq!(of(400, None), Asked::Refused);
        assert_eq!(of(503, None), Asked::Failed);
    }
}

//! What we ask the carrier: to place a call, to end one, to list those it knows.
//!
//! Placing a call cannot be repeated blindly: there is no key that would make the second request
//! the same as the first (source: Twilio, "Calls resource", read 2026-11-20). It is only repeated
//! when the carrier has said that it did nothing (429). Ending one and listing are repeated until
//! they are done.
//!
//! The carrier counts how many requests an account has at once, not how many a second: so many go
//! out, the rest wait here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use link::id::WallTime;
use link::secret::Secret;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use self::error::RestError;
use self::error::refusal;
use crate::config::Account;
use crate::store::call::{CarrierIds, Number};
use crate::twilio::signature::AuthTokens;

mod error;

/// The REST API of one account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest {
    http: Client,
    account: Account,
    /// Who may ask at this moment.
    gate: Arc<Semaphore>,
    /// Whether the account's next token has taken the primary one's place.
    promoted: Arc<AtomicBool>,
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
    /// Whether it shall listen who has picked up; `None` when nobody wants to know.
    pub listening: Option<Listening>,
}

/// The carrier listens who has picked up, while the call goes on.
#[derive(Debug, Clone)]
pub struct Listening {
    /// What it listens for.
    pub goal: Goal,
    /// Where it says what it heard.
    pub callback: String,
}

/// What the carrier listens for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Whether a person or a machine has picked up.
    Who,
    /// The same, and of a machine the moment at which a message can be left.
    Beep,
}

/// A call as the carrier lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its names.
    pub ids: CarrierIds,
    /// How it fares, in the carrier's word.
    pub status: String,
    /// When the carrier was asked for it.
    pub created_at: WallTime,
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

#[derive(Deserialize)]
struct Listing {
    calls: Vec<ListedCall>,
}

#[derive(Deserialize)]
struct ListedCall {
    sid: String,
    account_sid: String,
    status: String,
    direction: String,
    date_created: String,
}

/// What is asked, besides where.
enum Asking<'a> {
    Do(&'a [(&'a str, &'a str)]),
    Look(&'a [(&'a str, &'a str)]),
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
        let gate = Arc::new(Semaphore::new(REQUESTS_MAX));
        Ok(Self { http, account, gate, promoted: Arc::default() })
    }

    /// The account that pays.
    #[must_use]
    pub fn account_sid(&self) -> &str {
        &self.account.sid
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
        if let Some(Listening { goal, callback }) = &placing.listening {
            let goal = match goal {
                Goal::Who => "Enable",
                Goal::Beep => "DetectMessageEnd",
            };
            // Beside the call: otherwise whoever picks up hears silence for seconds.
            form.extend([
                ("MachineDetection", goal),
                ("AsyncAmd", "true"),
                ("AsyncAmdStatusCallback", callback),
                ("AsyncAmdStatusCallbackMethod", "POST"),
            ]);
        }
        let body = self.ask_until("Calls.json", &Asking::Do(&form), did_nothing).await?;
        let created: Created =
            serde_json::from_slice(&body).map_err(|_| RestError::Failed { status: 201 })?;
        let Created { sid, account_sid } = created;
        Ok(CarrierIds { account_sid, call_sid: sid })
    }

    /// Ends a call, in whatever state it is. One that is over is well ended.
    ///
    /// # Errors
    /// [`RestError`], never [`RestError::Gone`].
    pub async fn complete(&self, call: &CarrierIds) -> Result<(), RestError> {
        self.update(call, &[("Status", "completed")]).await
    }

    /// Changes a call. One that is over stays so.
    async fn update(&self, call: &CarrierIds, form: &[(&str, &str)]) -> Result<(), RestError> {
        // It came from the carrier itself, and goes into a path.
        if !call.call_sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(());
        }
        let path = format!("Calls/{}.json", call.call_sid);
        match self.ask_until(&path, &Asking::Do(form), may_help).await {
            Ok(_) | Err(RestError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Speaks a sentence into a call in place of whatever it was doing, and ends it then.
    ///
    /// # Errors
    /// [`RestError`], never [`RestError::Gone`].
    pub async fn say_and_end(&self, call: &CarrierIds, twiml: &str) -> Result<(), RestError> {
        self.update(call, &[("Twiml", twiml)]).await
    }

    /// Gives a call other instructions in place of whatever it is doing.
    ///
    /// # Errors
    /// [`RestError`], never [`RestError::Gone`].
    pub async fn instruct(&self, call: &CarrierIds, twiml: &str) -> Result<(), RestError> {
        self.update(call, &[("Twiml", twiml)]).await
    }

    /// The latest calls that the API placed between two numbers, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn placed(&self, to: &Number, from: &Number) -> Result<Vec<Listed>, RestError> {
        // Not by time: a call that still waits at the carrier has no start that could be asked for.
        let query = [("To", to.as_str()), ("From", from.as_str()), ("PageSize", LISTED_MAX)];
        let body = self.ask_until("Calls.json", &Asking::Look(&query), may_help).await?;
        let listing: Listing =
            serde_json::from_slice(&body).map_err(|_| RestError::Failed { status: 200 })?;
        let ours = listing.calls.into_iter().filter(|call| call.direction == "outbound-api");
        Ok(ours.filter_map(listed).collect())
    }

    /// Asks, and asks again while `again` says so of what came back.
    async fn ask_until(
        &self,
        path: &str,
        asking: &Asking<'_>,
        again: fn(&RestError) -> bool,
    ) -> Result<Vec<u8>, RestError> {
        let mut tries = 0;
        loop {
            match self.ask(path, asking).await {
                Err(error) if tries < RETRIES_MAX && again(&error) => {
                    back_off(tries).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    /// One request, when its turn has come. What is refused is logged by the carrier's code, never
    /// by its words: they repeat numbers.
    async fn ask(&self, path: &str, asking: &Asking<'_>) -> Result<Vec<u8>, RestError> {
        let turn = timeout(TURN_WITHIN, self.gate.acquire()).await;
        // The gate is never closed; whoever waits for too long has asked nothing.
        let Ok(Ok(_turn)) = turn else { return Err(RestError::Throttled) };
        let AuthTokens { primary, next } = &self.account.auth_tokens;
        let Some(next) = next else { return self.ask_with(primary, path, asking).await };
        let is_promoted = self.promoted.load(Ordering::Relaxed);
        let (first, other) = if is_promoted { (next, primary) } else { (primary, next) };
        let answer = self.ask_with(first, path, asking).await;
        if !matches!(answer, Err(RestError::Credentials)) {
            return answer;
        }
        // The other token may have been promoted meanwhile. Nothing was done, so asking is safe.
        let answer = self.ask_with(other, path, asking).await;
        if !matches!(answer, Err(RestError::Credentials)) {
            self.promoted.store(!is_promoted, Ordering::Relaxed);
        }
        answer
    }

    async fn ask_with(
        &self,
        token: &Secret,
        path: &str,
        asking: &Asking<'_>,
    ) -> Result<Vec<u8>, RestError> {
        let Account { sid, api_url, .. } = &self.account;
        let url = format!("{api_url}/2010-04-01/Accounts/{sid}/{path}");
        let request = match asking {
            Asking::Do(form) => self.http.post(url).form(form),
            Asking::Look(query) => {
                let mut text = form_urlencoded::Serializer::new(String::new());
                self.http.get(format!("{url}?{}", text.extend_pairs(*query).finish()))
            }
        };
        let (status, body) = send(request.basic_auth(sid, Some(token.reveal()))).await?;
        if status.is_success() {
            return Ok(body);
        }
        let code = serde_json::from_slice(&body).ok().and_then(|failure: Failure| failure.code);
        tracing::warn!(status = status.as_u16(), code, "the carrier refuses a request");
        Err(refusal(status, code))
    }
}

/// A call of a listing; `None` for one whose date cannot be read.
fn listed(call: ListedCall) -> Option<Listed> {
    let created = jiff::fmt::rfc2822::parse(&call.date_created).ok()?;
    let created: Timestamp = created.timestamp();
    let ids = CarrierIds { account_sid: call.account_sid, call_sid: call.sid };
    let created_at = WallTime(created.as_microsecond());
    Some(Listed { ids, status: call.status, created_at })
}

/// Whether the carrier has said that nothing was done.
fn did_nothing(error: &RestError) -> bool {
    matches!(error, RestError::Throttled)
}

/// Whether asking once more may help, where asking twice does no harm.
fn may_help(error: &RestError) -> bool {
    match error {
        RestError::Throttled
        | RestError::Silent(_)
        | RestError::Unreachable(_)
        | RestError::Failed { .. } => true,
        RestError::Credentials | RestError::Refused { .. } | RestError::Gone => false,
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

/// Full jitter: anything up to a bound that doubles, as the carrier's own libraries do.
async fn back_off(tries: u32) {
    let bound = BACK_OFF_FIRST.saturating_mul(1 << tries.min(8)).min(BACK_OFF_MAX);
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    tokio::time::sleep(bound.mul_f64(share)).await;
}

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A call is under 2 KiB, and a listing has up to [`LISTED_MAX`] of them.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How many calls a listing has. The one that is looked for is among the newest.
const LISTED_MAX: &str = "50";

/// How many requests are out at once. The carrier refuses those above a limit that it does not
/// publish, and counts all of an account's; doubling it gains nothing, as a request takes 100 ms
/// and one call a second is the usual rate.
const REQUESTS_MAX: usize = 16;

/// How long a request waits for its turn. As many as could be answered meanwhile.
const TURN_WITHIN: Duration = Duration::from_secs(10);

const RETRIES_MAX: u32 = 3;
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(3);

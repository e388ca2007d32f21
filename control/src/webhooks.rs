//! Tells customers' servers what happens: signed messages, in order, tried again until they are
//! taken or given up.
//!
//! A message holds up to [`MESSAGE_EVENTS_MAX`] records that follow each other; the next one goes out
//! when it was taken. One of several instances does it, the one that numbers events; after a crash a
//! message may come a second time, which its receiver sees by the records' places. Messages are
//! signed as in Standard Webhooks (source: standardwebhooks.com, specification, read 2026-11-28).
//!
//! A customer writes the address, and whoever owns a name says where it leads; so it is the address
//! that a name resolves to that counts ([`link::guard`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64_simd::STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hmac::{Hmac, KeyInit as _, Mac as _};
use link::guard::{Allowed, is_public};
use link::id::WallTime;
use link::secret::Secret;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, StatusCode};
use sha2::Sha256;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use url::{Host, Url};

use crate::clock;
use crate::events::{Record, Seq};
use crate::sequencer::LeaseState;
use crate::store::webhooks::{DeadLetter, Told, Webhook};
use crate::store::{Store, StoreError};

/// What sends.
#[derive(Debug, Clone)]
pub struct Post {
    http: Client,
    allowed: Arc<Allowed>,
}

/// An address that nothing is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is not a URL of the kind that is sent to.
    #[error("must be https://host[:port]/path, without user or fragment, 2,048 characters at most")]
    Malformed,
    /// Only this network can reach it.
    #[error("leads to an address that the public internet cannot reach")]
    NotPublic,
}

impl Post {
    /// Nothing is sent yet. `allowed` is what the operator lists beyond the public internet; only
    /// there may messages go in clear.
    ///
    /// # Errors
    /// When the machine's TLS roots cannot be read.
    pub fn new(allowed: Allowed) -> Result<Self, reqwest::Error> {
        let allowed = Arc::new(allowed);
        let http = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(1)
            .user_agent(concat!("linecard-control/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guarded(Arc::clone(&allowed))))
            .build()?;
        Ok(Self { http, allowed })
    }

    /// Whether this is an address that may be sent to, as far as its text says.
    ///
    /// # Errors
    /// [`BadAddress`], which says why not.
    pub fn check(&self, text: &str) -> Result<(), BadAddress> {
        let url = Url::parse(text).map_err(|_| BadAddress::Malformed)?;
        let host = url.host().ok_or(BadAddress::Malformed)?;
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        let is_listed = match (address, url.host_str()) {
            (Some(address), _) => self.allowed.lists(None, address),
            (None, name) => self.allowed.lists(name, UNKNOWN),
        };
        let is_web = url.scheme() == "https" || (url.scheme() == "http" && is_listed);
        let has_user = !url.username().is_empty() || url.password().is_some();
        if !is_web || has_user || url.fragment().is_some() || text.len() > URL_BYTES_MAX {
            return Err(BadAddress::Malformed);
        }
        // A name's addresses are looked at when it is resolved, at each try.
        if address.is_some_and(|address| !is_listed && !is_public(address)) {
            return Err(BadAddress::NotPublic);
        }
        Ok(())
    }

    /// Tells all webhooks what is due while this instance holds the lease, until `shutdown`.
    pub async fn deliver(
        self,
        store: Store,
        mut state: watch::Receiver<LeaseState>,
        shutdown: CancellationToken,
    ) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy: Vec<String> = Vec::new();
        let mut running = FuturesUnordered::new();
        loop {
            let is_held = *state.borrow_and_update() == LeaseState::Held;
            tokio::select! {
                // What is under way is cut; the next holder sends it again.
                () = shutdown.cancelled() => return,
                changed = state.changed() => if changed.is_err() { return },
                Some(done) = running.next() => busy.retain(|id| *id != done),
                _ = look.tick(), if is_held => match store.due_webhooks(clock::wall()).await {
                    Ok(due) => for hook in due {
                        if busy.len() < RUNNING_MAX && !busy.contains(&hook.id) {
                            busy.push(hook.id.clone());
                            running.push(self.tell(&store, hook));
                        }
                    },
                    Err(error) => debug!(error = error.explain(), "webhooks wait for the database"),
                }
            }
        }
    }

    /// Tells one webhook everything that is due, as long as it takes it. Gives its name back.
    async fn tell(&self, store: &Store, mut hook: Webhook) -> String {
        loop {
            let told = match self.try_once(store, &hook).await {
                Ok(Some(told)) => told,
                Ok(None) => break,
                Err(error) => {
                    warn!(webhook = hook.id, error = error.explain(), "a webhook waits");
                    break;
                }
            };
            if let Err(error) = store.webhook_told(&hook, told.clone()).await {
                warn!(webhook = hook.id, error = error.explain(), "a webhook may be told twice");
                break;
            }
            match told {
                Told::Through(seq) => (hook.after, hook.attempts) = (seq, 0),
                Told::Dead(letter) => {
                    warn!(webhook = hook.id, first = %letter.first, "events were given up");
                    (hook.after, hook.attempts) = (letter.last, 0);
                }
                Told::Later { .. } | Told::Gone { .. } => break,
            }
        }
        hook.id
    }

    /// Sends the next message; `None` when there is none.
    async fn try_once(&self, store: &Store, hook: &Webhook) -> Result<Option<Told>, StoreError> {
        let page = store.events_after(&hook.tenant, hook.after, None, PAGE_RECORDS).await?;
        let Some(last) = page.last().map(|record| record.seq) else { return Ok(None) };
        let message = Message::of(&page, &hook.types);
        let Some(first) = message.first else { return Ok(Some(Told::Through(last))) };
        // Whatever is behind it in the page comes with the next one.
        let through = message.through.unwrap_or(last);
        let Some(secret) = store.webhook_secret(hook).await? else { return Ok(None) };
        let now = clock::wall();
        let id = format!("{}-{first}", hook.id);
        Ok(Some(match self.send(&hook.url, &id, &message.body, &secret, now).await {
            Ok(()) => Told::Through(through),
            Err(Failure::Gone) => Told::Gone { at: now },
            Err(failure) => {
                let problem = failure.to_string();
                let attempts = hook.attempts + 1;
                match pause(attempts) {
                    Some(pause) => {
                        let us = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
                        Told::Later { due_at: now.plus_us(us), problem }
                    }
                    None => {
                        let letter =
                            DeadLetter { first, last: through, attempts, problem, at: now };
                        Told::Dead(letter)
                    }
                }
            }
        }))
    }

    async fn send(
        &self,
        url: &str,
        id: &str,
        body: &str,
        secret: &Secret,
        now: WallTime,
    ) -> Result<(), Failure> {
        self.check(url).map_err(Failure::Address)?;
        let timestamp = now.seconds().to_string();
        let signature = sign(secret, id, &timestamp, body);
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body.to_owned());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) if answer.status() == StatusCode::GONE => Err(Failure::Gone),
            Ok(answer) => Err(Failure::Answered(answer.status().as_u16())),
            Err(error) if error.is_timeout() => Err(Failure::Silent),
            Err(error) if refuses_address(&error) => Err(Failure::Address(BadAddress::NotPublic)),
            Err(_) => Err(Failure::Unreachable),
        }
    }
}

/// Why a message was not taken, in words for the customer: nothing of what was answered, which may
/// be anything.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("the receiver wants no more (410)")]
    Gone,
    #[error("the receiver answered {0}; a 2xx takes a message")]
    Answered(u16),
    #[error("the receiver did not answer within ten seconds")]
    Silent,
    #[error("the receiver cannot be reached")]
    Unreachable,
    #[error("the URL {0}")]
    Address(BadAddress),
}

/// What is posted at once.
struct Message {
    /// The place of its first record; `None` when nothing of the page is wanted.
    first: Option<Seq>,
    /// The place of the last record that was looked at; `None` when that is the whole page.
    through: Option<Seq>,
    body: String,
}

impl Message {
    /// As much of the page as fits.
    fn of(page: &[Record], types: &[String]) -> Self {
        let mut message = Self { first: None, through: None, body: r#"{"events":["#.to_owned() };
        let mut events = 0;
        let mut looked_at = None;
        for record in page {
            let is_wanted = types.is_empty() || types.contains(&record.kind);
            if is_wanted {
                let bytes = message.body.len() + record.bytes();
                if events == MESSAGE_EVENTS_MAX || (events > 0 && bytes > MESSAGE_BYTES_MAX) {
                    message.through = looked_at;
                    break;
                }
                if events > 0 {
                    message.body.push(',');
                }
                message.body.push_str(&record.json());
                message.first.get_or_insert(record.seq);
                events += 1;
            }
            looked_at = Some(record.seq);
        }
        message.body.push_str("]}");
        message
    }
}

/// Resolves names, and leaves out what only this network can reach.
struct Guarded(Arc<Allowed>);

/// A name that leads nowhere but inwards.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
struct NoPublicAddress;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let may = |ip: IpAddr| is_public(ip) || allowed.lists(Some(name.as_str()), ip);
            let open: Vec<_> = found.filter(|address| may(address.ip())).collect();
            if open.is_empty() {
                return Err(NoPublicAddress.into());
            }
            let addresses: Addrs = Box::new(open.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether the guard is why a request did not go out.
fn refuses_address(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<NoPublicAddress>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The signature of Standard Webhooks: over id, time and body, with what stands behind `whsec_`.
fn sign(secret: &Secret, id: &str, timestamp: &str, body: &str) -> String {
    let key = secret.reveal().strip_prefix(SECRET_PREFIX).unwrap_or(secret.reveal());
    let key = STANDARD.decode_to_vec(key.as_bytes()).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key has any length");
    for part in [id, ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode_to_string(mac.finalize().into_bytes()))
}

/// A new secret; `None` when the system gives no randomness.
#[must_use]
pub fn new_secret() -> Option<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode_to_string(bytes))))
}

/// How long to wait after so many tries; `None` when it was tried often enough.
fn pause(attempts: u32) -> Option<Duration> {
    let index = usize::try_from(attempts.saturating_sub(1)).ok()?;
    PAUSES_SECONDS.get(index).map(|seconds| Duration::from_secs(*seconds))
}

/// The pauses between tries: quick at first, for a restart; a day in all, for a weekend's night.
const PAUSES_SECONDS: [u64; 10] = [1, 5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200];

/// Records of one message.
pub const MESSAGE_EVENTS_MAX: usize = 100;

/// Bytes of one message, about.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Records that are looked at for one message.
const PAGE_RECORDS: u32 = 200;

/// Webhooks that are told at once. When full, the others wait for a quarter of a second.
const RUNNING_MAX: usize = 64;

/// How often to look for what is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const URL_BYTES_MAX: usize = 2_048;
const SECRET_PREFIX: &str = "whsec_";

/// Stands for "not resolved yet"; it is nobody's, and listed by nobody.
const UNKNOWN: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;

    fn post(allowed: &str) -> Post {
        Post::new(Allowed::parse(allowed).unwrap()).unwrap()
    }

    fn record(seq: u64, kind: &str, bytes: usize) -> Record {
        Record {
            seq: Seq(seq),
            kind: kind.into(),
            call: None,
            generation: None,
            at: WallTime(0),
            data: format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes)),
        }
    }

    #[test]
    fn only_https_to_the_public_internet_and_what_the_operator_lists_is_told() {
        let post = post("127.0.0.1,hooks.internal");
        for good in [
            "https://example.com/hook?x=1",
            "https://8.8.8.8:8443/",
            "http://127.0.0.1:9/",
            "http://hooks.internal/a",
        ] {
            assert_eq!(post.check(good), Ok(()), "{good}");
        }
        for bad in
            ["http://example.com/", "https://u@example.com/", "https://a/#b", "ftp://a/", "a", ""]
        {
            assert_eq!(post.check(bad), Err(BadAddress::Malformed), "{bad}");
        }
        let strict = Post::new(Allowed::default()).unwrap();
        for inside in [
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/",
            "https://2130706433/",
        ] {
            assert_eq!(strict.check(inside), Err(BadAddress::NotPublic), "{inside}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inwards_is_not_told() {
        let post = Post::new(Allowed::default()).unwrap();
        let secret = new_secret().unwrap();
        let sent = post.send("https://localhost:1/", "id", "{}", &secret, WallTime(0)).await;
        assert_eq!(sent, Err(Failure::Address(BadAddress::NotPublic)));
    }

    #[test]
    fn a_message_is_signed_as_the_standard_says() {
        // The example of the specification.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = r#"{"test": 2432232314}"#;
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let made = new_secret().unwrap();
        assert!(made.reveal().starts_with("whsec_") && made.reveal().len() == 50);
    }

    #[test]
    fn a_message_is_as_much_of_a_page_as_fits_and_is_wanted() {
        let page: Vec<Record> =
            (1..=6).map(|seq| record(seq, if seq % 2 == 0 { "turn" } else { "dtmf" }, 5)).collect();
        let turns = Message::of(&page, &["turn".to_owned()]);
        assert_eq!((turns.first, turns.through), (Some(Seq(2)), None));
        let json: serde_json::Value = serde_json::from_str(&turns.body).unwrap();
        assert_eq!(json["events"].as_array().unwrap().len(), 3);
        assert_eq!(Message::of(&page, &["tool".to_owned()]).first, None);

        let many: Vec<Record> = (1..=150).map(|seq| record(seq, "turn", 5)).collect();
        let message = Message::of(&many, &[]);
        assert_eq!((message.first, message.through), (Some(Seq(1)), Some(Seq(100))));
        let heavy: Vec<Record> = (1..=4).map(|seq| record(seq, "turn", 200_000)).collect();
        let message = Message::of(&heavy, &[]);
        assert_eq!((message.first, message.through), (Some(Seq(1)), Some(Seq(1))));
    }

    #[test]
    fn pauses_grow_and_end_after_a_day() {
        let pauses: Vec<_> = (1..=11).map(pause).collect();
        assert_eq!(pauses[0], Some(Duration::from_secs(1)));
        assert_eq!(pauses[10], None);
        let day: u64 = PAUSES_SECONDS.iter().sum();
        assert!(day > 72_000 && day < 100_000, "{day}");
    }
}

//! How much may be asked: by an address, by a key, by a tenant. Each has a bucket of requests that
//! fills again by so many a second; an empty one is told when to come back.
//!
//! What the carrier asks is not counted: it is signed, and a call cannot wait.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::StatusCode;
use link::id::TenantId;

use super::address::Place;
use super::key::KeyId;
use crate::error::Problem;

/// Who has a bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Whoever asks from there.
    Place(Place),
    /// Whoever has the key.
    Key(KeyId),
    /// All keys of a tenant together.
    Tenant(TenantId),
    /// All who have something made without a key, together.
    Keyless,
}

/// Every bucket.
#[derive(Debug, Default)]
pub struct Rates<C: Clock = DefaultClock> {
    clock: C,
    buckets: Mutex<Buckets<C>>,
}

#[derive(Debug)]
struct Buckets<C: Clock> {
    by_owner: BTreeMap<Who, Bucket<C>>,
    /// How often [`Rates::sweep`] was called.
    sweeps: u64,
}

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

#[derive(Debug)]
struct Bucket<C: Clock> {
    per_second: NonZeroU32,
    limiter: Limiter<C>,
    /// The sweep before its last use.
    used: u64,
}

impl<C: Clock> Default for Buckets<C> {
    fn default() -> Self {
        Self { by_owner: BTreeMap::new(), sweeps: 0 }
    }
}

impl<C: Clock + Clone> Rates<C> {
    /// Takes a request out of a bucket that fills by `per_second`.
    ///
    /// # Errors
    /// A problem that says when to come back.
    pub fn take(&self, who: Who, per_second: NonZeroU32) -> Result<(), Problem> {
        self.take_many(who, per_second, NonZeroU32::MIN)
    }

    /// Takes several requests out of a bucket: what costs more than one.
    ///
    /// # Errors
    /// A problem that says when to come back.
    pub fn take_many(
        &self,
        who: Who,
        per_second: NonZeroU32,
        many: NonZeroU32,
    ) -> Result<(), Problem> {
        let word = match who {
            Who::Place(_) => "address",
            Who::Key(_) => "key",
            Who::Tenant(_) => "tenant",
            Who::Keyless => "kind, from all who have no key together",
        };
        let mut buckets = self.buckets();
        let sweeps = buckets.sweeps;
        if buckets.by_owner.len() >= BUCKETS_MAX {
            // Addresses are what anybody can have many of.
            buckets.by_owner.retain(|who, _| !matches!(who, Who::Place(_)));
        }
        let bucket = buckets.by_owner.entry(who).or_insert_with(|| self.bucket(per_second));
        if bucket.per_second != per_second {
            *bucket = self.bucket(per_second);
        }
        bucket.used = sweeps;
        let wait = match bucket.limiter.check_n(many) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(not_until)) => not_until.wait_time_from(self.clock.now()),
            // More than the bucket holds: as good as a full bucket's time.
            Err(_) => std::time::Duration::from_secs(u64::from(BURST_SECONDS.get())),
        };
        let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
        let detail = format!(
            "Too many requests of this {word}: {per_second} a second are allowed. Wait as \
             Retry-After says."
        );
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        Err(problem.again_after(seconds.max(1)))
    }

    /// Forgets buckets that have long been full again. Called every few seconds.
    pub fn sweep(&self) {
        let mut buckets = self.buckets();
        buckets.sweeps += 1;
        let sweeps = buckets.sweeps;
        buckets.by_owner.retain(|_, bucket| bucket.used + SWEEPS_KEPT >= sweeps);
    }

    fn bucket(&self, per_second: NonZeroU32) -> Bucket<C> {
        let quota = Quota::per_second(per_second);
        let quota = quota.allow_burst(per_second.saturating_mul(BURST_SECONDS));
        let limiter = RateLimiter::direct_with_clock(quota, self.clock.clone());
        Bucket { per_second, limiter, used: 0 }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets<C>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one address may ask in a second: pages behind one address share it.
pub const PLACE_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).expect("a hundred is not zero");

/// What a tenant may ask in a second unless the operator says otherwise.
pub const TENANT_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("two hundred is not zero");

/// What may be made in a second without a key, by all who have none together: who they are cannot
/// be told, so that an address of its own for each would bound nothing.
pub const KEYLESS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");

/// What having something made without a key costs its address, so that one of them leaves others
/// their part.
pub const KEYLESS_COSTS: NonZeroU32 = NonZeroU32::new(25).expect("twenty-five is not zero");

/// What a refused key costs its address: whoever guesses is slowed down, whoever mistypes is not.
pub const REFUSED_COSTS: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// The share of its tenant's requests that one key may take: one that runs wild leaves the others
/// half.
#[must_use]
pub fn key_share(tenant_per_second: NonZeroU32) -> NonZeroU32 {
    NonZeroU32::new(tenant_per_second.get().div_ceil(2)).unwrap_or(NonZeroU32::MIN)
}

/// What a bucket holds, in seconds of what fills it: a page that loads asks a lot at once.
pub(crate) const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(4).expect("four is not zero");

/// Buckets at once, some 200 bytes each. When full, those of addresses are forgotten, and so full.
const BUCKETS_MAX: usize = 50_000;

/// Sweeps after which an unused bucket is full, whatever its size: two seconds each.
const SWEEPS_KEPT: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::time::Duration;

    fn key(name: &str) -> Who {
        Who::Key(KeyId::new(name).unwrap())
    }

    fn some(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn rates() -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Rates { clock: clock.clone(), buckets: Mutex::default() }, clock)
    }

    fn taken(rates: &Rates<FakeRelativeClock>, who: &Who, per_second: u32) -> usize {
        (0..1_000).take_while(|_| rates.take(who.clone(), some(per_second)).is_ok()).count()
    }

    #[test]
    fn a_bucket_is_emptied_at_once_and_fills_by_the_second() {
        let (rates, clock) = rates();
        assert_eq!(taken(&rates, &key("a"), 10), 40);
        let refused = rates.take(key("a"), some(10)).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (429, "rate_limited"));
        assert_eq!(refused.retry_after, Some(1));
        assert_eq!(taken(&rates, &key("b"), 10), 40, "others have their own");
        clock.advance(Duration::from_secs(1));
        assert_eq!(taken(&rates, &key("a"), 10), 10);
    }

    #[test]
    fn a_changed_limit_holds_from_the_next_request_on() {
        let (rates, _) = rates();
        taken(&rates, &key("a"), 10);
        assert_eq!(taken(&rates, &key("a"), 100), 400);
        assert_eq!(taken(&rates, &key("a"), 1), 4);
    }

    #[test]
    fn what_costs_more_takes_more_and_says_how_long() {
        let (rates, _) = rates();
        let many = |n| rates.take_many(key("a"), some(10), some(n));
        assert!(many(30).is_ok());
        assert_eq!(many(40).unwrap_err().retry_after, Some(3));
        assert!(many(10).is_ok());
        assert_eq!(many(41).unwrap_err().retry_after, Some(4), "never fits");
    }

    #[test]
    fn an_unused_bucket_is_forgotten_and_a_used_one_is_not() {
        let (rates, _) = rates();
        taken(&rates, &key("a"), 10);
        taken(&rates, &key("b"), 10);
        for _ in 0..=SWEEPS_KEPT {
            assert!(rates.take(key("b"), some(10)).is_err());
            rates.sweep();
        }
        assert!(rates.take(key("b"), some(10)).is_err(), "still empty");
        assert_eq!(rates.buckets().by_owner.len(), 1);
    }

    #[test]
    fn one_key_leaves_its_tenant_half() {
        assert_eq!((key_share(some(200)), key_share(some(1))), (some(100), some(1)));
    }
}

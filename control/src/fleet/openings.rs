//! How many calls come back in a second: each opens a session with its agent's service, and five
//! hundred of them at once, after the death of a node, would be refused there.
//!
//! A bucket for each service of a tenant (its key is what the service counts) and one for each node.
//! Whoever finds one empty asks again a second later; new calls are not held up here.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use link::id::{NodeId, TenantId};

use crate::store::call::ResumeLimits;

/// What calls survive, as the operator says.
#[derive(Debug, Clone, Copy)]
pub struct Survival {
    /// How often one call comes back.
    pub resumes: ResumeLimits,
    /// How many come back in a second, at each service and at each node.
    pub openings_per_second: NonZeroU32,
}

impl Default for Survival {
    fn default() -> Self {
        Self { resumes: ResumeLimits::default(), openings_per_second: OPENINGS_PER_SECOND }
    }
}

/// Where a session is opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opener {
    /// The service of an agent, by the name of its key, and whose key that is.
    Service(TenantId, &'static str),
    /// A node.
    Node(NodeId),
}

/// Every bucket.
#[derive(Debug)]
pub struct Openings<C: Clock = DefaultClock> {
    clock: C,
    per_second: NonZeroU32,
    buckets: Mutex<BTreeMap<Opener, Bucket<C>>>,
}

type Bucket<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

impl Openings {
    /// Buckets that hold what fills them in a second.
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { clock: DefaultClock::default(), per_second, buckets: Mutex::default() }
    }
}

impl<C: Clock + Clone> Openings<C> {
    /// Takes one opening; false when the bucket is empty.
    pub fn take(&self, opener: Opener) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            // All are full again a second later: what is forgotten lets one herd more through.
            buckets.clear();
        }
        let quota = Quota::per_second(self.per_second);
        let bucket = buckets
            .entry(opener)
            .or_insert_with(|| RateLimiter::direct_with_clock(quota, self.clock.clone()));
        bucket.check().is_ok()
    }
}

/// Five hundred calls are back in four seconds. A service's own limit is per minute and above it; at
/// twice of it two cores are busy with handshakes for seconds.
const OPENINGS_PER_SECOND: NonZeroU32 = NonZeroU32::new(150).expect("it is not zero");

/// Buckets at once, some 200 bytes each.
const BUCKETS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::time::Duration;

    fn taken(openings: &Openings<FakeRelativeClock>, opener: &Opener) -> usize {
        (0..1_000).take_while(|_| openings.take(opener.clone())).count()
    }

    #[test]
    fn a_herd_comes_back_by_the_second_at_each_node_and_each_service() {
        let clock = FakeRelativeClock::default();
        let per_second = NonZeroU32::new(150).unwrap();
        let openings = Openings { clock: clock.clone(), per_second, buckets: Mutex::default() };
        let node = Opener::Node(NodeId::new("a").unwrap());
        let service = Opener::Service(TenantId::default(), "x");
        assert_eq!(taken(&openings, &node), 150);
        assert_eq!(taken(&openings, &service), 150, "each has its own");
        assert_eq!(taken(&openings, &node), 0);
        let mut back = 150;
        for _ in 0..3 {
            clock.advance(Duration::from_secs(1));
            back += taken(&openings, &node);
        }
        assert!((500..=600).contains(&back), "{back} of five hundred after three seconds");
    }
}

//! How many calls each tenant has at once, as this instance knows it: what a call that comes is held
//! against.
//!
//! Memory only. The database is counted every two seconds ([`count`]), for tenants that have a bound;
//! what this instance lets in counts at once. So several instances together may let in what comes
//! to them within two seconds, and no more. A call that would be too many has them counted once
//! more, because one may just have ended, four times a second at most: whoever calls again and again
//! is refused from memory, and so is everybody while the database is away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::id::TenantId;
use tokio::time::{Instant, timeout};

use crate::clock;
use crate::plane::Plane;
use crate::store::call::Direction;
use crate::store::{Alive, Store, StoreError};

/// The calls of all tenants that have a bound.
#[derive(Debug, Default)]
pub struct Crowd {
    known: Mutex<Known>,
    /// Held while the database is counted, so that a later count is not overwritten by an earlier.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    tenants: BTreeMap<TenantId, Calls>,
    /// How many counts have begun.
    counts: u64,
    /// When the last one began.
    counted_at: Option<Instant>,
}

/// The calls of one tenant.
#[derive(Debug, Default)]
struct Calls {
    /// Those that came in, by the carrier's name or their id.
    inbound: BTreeMap<String, Seen>,
    /// How many go out. Who lets those through is the dialler.
    outbound: usize,
}

/// How a call is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It was let in, and is being written down.
    Coming,
    /// It was written down, or was not, when so many counts had begun: a later one knows better.
    Before(u64),
}

/// The tenant has as many calls as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant has as many calls as it may have at once")]
pub struct Full;

/// A call that was let in. Dropped when it is written down, or is not going to be.
#[derive(Debug)]
pub struct Place<'a>(Option<(&'a Crowd, TenantId, String)>);

/// Lets a call of the tenant in, by the carrier's name or its id: again and again the same one.
///
/// # Errors
/// When it would be one too many.
pub async fn admit<'a>(plane: &'a Plane, tenant: &TenantId, name: &str) -> Result<Place<'a>, Full> {
    let limits = plane.tenants.get(tenant);
    let Some(max) = limits.and_then(|tenant| tenant.limits.at_once()) else {
        return Ok(Place(None));
    };
    let crowd = &plane.crowd;
    if let Ok(place) = crowd.enter(tenant, name, max) {
        return Ok(place);
    }
    if crowd.is_stale(clock::steady()) {
        // One that takes too long changes nothing: what was known still counts.
        match timeout(COUNT_WITHIN, count(plane)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = error.explain(), "calls cannot be counted");
            }
            Err(_) => tracing::debug!("calls cannot be counted in time"),
        }
    }
    crowd.enter(tenant, name, max)
}

/// Counts the calls of every tenant that has a bound.
///
/// # Errors
/// When the database fails; what was known then stays.
pub async fn count(plane: &Plane) -> Result<(), StoreError> {
    let tenants = plane.tenants.all();
    let bounded = tenants.iter().filter(|tenant| tenant.limits.at_once().is_some());
    let bounded: Vec<TenantId> = bounded.map(|tenant| tenant.id.clone()).collect();
    plane.crowd.count(&plane.store, &bounded).await
}

impl Crowd {
    /// How many calls have come in to the tenant that are not over; 0 for one without a bound.
    #[must_use]
    pub fn inbound(&self, tenant: &TenantId) -> u32 {
        let many = self.known().tenants.get(tenant).map_or(0, |calls| calls.inbound.len());
        u32::try_from(many).unwrap_or(u32::MAX)
    }

    async fn count(&self, store: &Store, tenants: &[TenantId]) -> Result<(), StoreError> {
        let _one_at_a_time = self.counting.lock().await;
        let began = self.known().begin(clock::steady());
        let alive = if tenants.is_empty() { Vec::new() } else { store.alive(tenants).await? };
        self.known().take(began, alive);
        Ok(())
    }

    fn enter(&self, tenant: &TenantId, name: &str, max: u32) -> Result<Place<'_>, Full> {
        self.known().enter(tenant, name, max)?;
        Ok(Place(Some((self, tenant.clone(), name.to_owned()))))
    }

    /// Whether the last count is too long ago to refuse anybody by it.
    fn is_stale(&self, now: Instant) -> bool {
        let counted_at = self.known().counted_at;
        counted_at.is_none_or(|at| now.duration_since(at) >= COUNT_AGAIN)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn enter(&mut self, tenant: &TenantId, name: &str, max: u32) -> Result<(), Full> {
        let calls = self.tenants.entry(tenant.clone()).or_default();
        let many = calls.inbound.len() + calls.outbound;
        let is_in = calls.inbound.contains_key(name);
        if !is_in && many >= usize::try_from(max).unwrap_or(usize::MAX) {
            return Err(Full);
        }
        calls.inbound.insert(name.to_owned(), Seen::Coming);
        Ok(())
    }

    /// A call that was let in is written down, or is not going to be.
    fn settle(&mut self, tenant: &TenantId, name: &str) {
        let seen = Seen::Before(self.counts);
        let calls = self.tenants.get_mut(tenant);
        if let Some(call) = calls.and_then(|calls| calls.inbound.get_mut(name)) {
            *call = seen;
        }
    }

    /// A count begins; its number.
    fn begin(&mut self, now: Instant) -> u64 {
        self.counted_at = Some(now);
        self.counts += 1;
        self.counts
    }

    /// A count has found these. It cannot have found what was written down while it looked.
    fn take(&mut self, began: u64, alive: Vec<Alive>) {
        let mut tenants: BTreeMap<TenantId, Calls> = BTreeMap::new();
        for Alive { tenant, name, direction } in alive {
            let calls = tenants.entry(tenant).or_default();
            match direction {
                Direction::Inbound => {
                    calls.inbound.insert(name, Seen::Before(began));
                }
                Direction::Outbound => calls.outbound += 1,
            }
        }
        for (tenant, calls) in std::mem::take(&mut self.tenants) {
            for (name, seen) in calls.inbound {
                let is_newer = match seen {
                    Seen::Coming => true,
                    Seen::Before(count) => count >= began,
                };
                if is_newer {
                    tenants.entry(tenant.clone()).or_default().inbound.insert(name, seen);
                }
            }
        }
        self.tenants = tenants;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some((crowd, tenant, name)) = &self.0 {
            crowd.known().settle(tenant, name);
        }
    }
}

/// How long calls are refused by one count: the longest that an end may not be known.
const COUNT_AGAIN: Duration = Duration::from_millis(250);

/// How long a call waits for a count, well within the time that a carrier is answered in.
const COUNT_WITHIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        TenantId::default()
    }

    fn alive(name: &str, direction: Direction) -> Alive {
        Alive { tenant: tenant(), name: name.into(), direction }
    }

    fn names(known: &Known) -> Vec<&str> {
        let calls = known.tenants.get(&tenant());
        calls.into_iter().flat_map(|calls| calls.inbound.keys()).map(String::as_str).collect()
    }

    #[test]
    fn calls_both_ways_count_and_one_that_is_in_may_ask_again() {
        let mut known = Known::default();
        let began = known.begin(clock::steady());
        known.take(began, vec![alive("a", Direction::Inbound), alive("b", Direction::Outbound)]);
        assert_eq!(known.enter(&tenant(), "c", 2), Err(Full));
        assert_eq!(known.enter(&tenant(), "a", 2), Ok(()));
        assert_eq!(known.enter(&tenant(), "c", 3), Ok(()));
        assert_eq!(known.enter(&tenant(), "d", 3), Err(Full));
        assert_eq!(known.enter(&TenantId::new("other").unwrap(), "d", 1), Ok(()));
        assert_eq!(known.enter(&TenantId::new("third").unwrap(), "d", 0), Err(Full));
    }

    #[test]
    fn a_count_takes_away_what_it_could_have_seen_and_nothing_newer() {
        let mut known = Known::default();
        for name in ["before", "during", "coming"] {
            known.enter(&tenant(), name, 9).unwrap();
        }
        known.settle(&tenant(), "before");
        let began = known.begin(clock::steady());
        known.settle(&tenant(), "during");
        known.take(began, Vec::new());
        assert_eq!(names(&known), ["coming", "during"]);
        let began = known.begin(clock::steady());
        known.take(began, Vec::new());
        assert_eq!(names(&known), ["coming"], "it was not written down, or is over");
        known.settle(&tenant(), "coming");
        let began = known.begin(clock::steady());
        known.take(began, vec![alive("coming", Direction::Inbound)]);
        assert_eq!(names(&known), ["coming"]);
    }

    #[test]
    fn a_place_is_settled_when_it_is_dropped() {
        let crowd = Crowd::default();
        let place = crowd.enter(&tenant(), "a", 1).unwrap();
        assert_eq!(crowd.inbound(&tenant()), 1);
        let began = crowd.known().begin(clock::steady());
        crowd.known().take(began, Vec::new());
        assert_eq!(crowd.inbound(&tenant()), 1, "it is still coming");
        drop(place);
        let began = crowd.known().begin(clock::steady());
        crowd.known().take(began, Vec::new());
        assert_eq!(crowd.inbound(&tenant()), 0);
        assert!(!crowd.is_stale(clock::steady()) && Crowd::default().is_stale(clock::steady()));
    }
}

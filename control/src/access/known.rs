//! The keys that requests have shown lately, so that the database is not asked for each request,
//! and looked at again so often that a revocation holds on every instance within five seconds.
//!
//! When the database is away, a key is good for as long as it was looked at lately and no longer:
//! what this instance could answer without a database is not worth a revoked key.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::id::WallTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::key::{ApiKey, KeyId, Pepper};
use crate::clock;
use crate::store::{Store, StoreError, StoredKey};

/// Why a key does not open anything.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// There is no such key.
    #[error("there is no such key")]
    Unknown,
    /// It was good until it expired.
    #[error("the key has expired")]
    Expired,
    /// It was good until it was revoked.
    #[error("the key is revoked")]
    Revoked,
    /// The store did not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys that were shown lately. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KnownKeys {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    pepper: Pepper,
    keys: Mutex<BTreeMap<KeyId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// As it was when it was looked at; `None` when there is no such key.
    key: Option<Arc<StoredKey>>,
    /// When the database was asked for it.
    looked: Instant,
    /// When a request showed it last.
    asked: Instant,
    /// The same by the wall clock, for the database; `None` before the key was proven.
    used: Option<WallTime>,
    /// Cancelled when the key is good no more. Whoever holds it is a stream that must end then.
    gone: Arc<CancellationToken>,
}

impl KnownKeys {
    /// Knows no key yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(store: Store) -> Result<Self, StoreError> {
        let pepper = Pepper::load(&store).await?;
        Ok(Self { inner: Arc::new(Inner { store, pepper, keys: Mutex::default() }) })
    }

    /// What hashes keys.
    #[must_use]
    pub fn pepper(&self) -> &Pepper {
        &self.inner.pepper
    }

    /// The key of this text, if it is good.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn open(&self, text: &str, now: WallTime) -> Result<Arc<StoredKey>, Closed> {
        let shown = ApiKey::read(text).ok_or(Closed::Unknown)?;
        let known = self.find(&shown.id).await?.ok_or(Closed::Unknown)?;
        // Before anything else is said about it: only who has the secret hears that it expired.
        if !known.hash.matches(&self.inner.pepper.hash(&shown)) {
            return Err(Closed::Unknown);
        }
        check(&known, now)?;
        if let Some(entry) = self.keys().get_mut(&shown.id) {
            entry.used = Some(now);
        }
        Ok(known)
    }

    /// The key of this name, if it is good, for who was let in by it before.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn good(&self, id: &KeyId, now: WallTime) -> Result<Arc<StoredKey>, Closed> {
        let known = self.find(id).await?.ok_or(Closed::Unknown)?;
        check(&known, now)?;
        Ok(known)
    }

    /// Resolves when the key is good no more: what goes on longer than a request ends then.
    pub fn gone(&self, key: &Arc<StoredKey>) -> impl Future<Output = ()> + Send + use<> {
        let mut keys = self.keys();
        // It may have been dropped since the request came: then it is looked at anew.
        let entry = keys.entry(key.id.clone()).or_insert_with(|| {
            let now = clock::steady();
            Entry::new(Some(Arc::clone(key)), now)
        });
        let gone = Arc::clone(&entry.gone);
        async move { gone.cancelled().await }
    }

    /// Looks at the known keys again and notes which were used.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refresh(&self, now: WallTime) -> Result<(), StoreError> {
        let looked = clock::steady();
        let wanted = self.wanted(looked);
        let read = self.inner.store.shown_api_keys(&wanted).await?;
        for (key, at) in self.take_in(&wanted, read, looked, now) {
            self.inner.store.note_key_use(&key.tenant, &key.id, at).await?;
        }
        Ok(())
    }

    /// A key as it was lately, or as it is.
    async fn find(&self, id: &KeyId) -> Result<Option<Arc<StoredKey>>, StoreError> {
        let now = clock::steady();
        if let Some(entry) = self.keys().get_mut(id)
            && now.duration_since(entry.looked) <= FRESH
        {
            entry.asked = now;
            return Ok(entry.key.clone());
        }
        let read = self.inner.store.shown_api_keys(std::slice::from_ref(id)).await?;
        let key = read.into_iter().next().map(Arc::new);
        self.keep(id, key.clone(), now);
        Ok(key)
    }

    /// Keeps what was read, unless somebody has looked later.
    fn keep(&self, id: &KeyId, key: Option<Arc<StoredKey>>, looked: Instant) {
        let mut keys = self.keys();
        if keys.len() >= KNOWN_MAX && !keys.contains_key(id) {
            // Whoever still uses one of the others pays with one question.
            keys.retain(|_, entry| entry.is_held());
        }
        if let Some(entry) = keys.get_mut(id) {
            if entry.looked <= looked {
                entry.key = key;
                entry.looked = looked;
                entry.asked = looked;
            }
        } else if keys.len() < KNOWN_MAX {
            keys.insert(id.clone(), Entry::new(key, looked));
        }
        // Otherwise every one is held by a stream, and this key is asked for each time.
    }

    /// Forgets what nobody needs and names the rest.
    fn wanted(&self, now: Instant) -> Vec<KeyId> {
        let mut keys = self.keys();
        keys.retain(|_, entry| {
            let is_used = entry.key.is_some() && now.duration_since(entry.asked) <= FORGET_AFTER;
            entry.is_held() || is_used
        });
        keys.keys().cloned().collect()
    }

    /// Takes in what was read; gives back the uses that the database does not know of.
    fn take_in(
        &self,
        wanted: &[KeyId],
        read: Vec<StoredKey>,
        looked: Instant,
        now: WallTime,
    ) -> Vec<(Arc<StoredKey>, WallTime)> {
        let mut read: BTreeMap<_, _> =
            read.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect();
        let mut uses = Vec::new();
        let mut keys = self.keys();
        for id in wanted {
            let Some(entry) = keys.get_mut(id) else { continue };
            entry.looked = looked;
            entry.key = read.remove(id);
            let good = entry.key.as_ref().filter(|key| check(key, now).is_ok());
            let Some(good) = good else {
                entry.gone.cancel();
                continue;
            };
            let noted = good.used_at.map_or(i64::MIN, |at| at.0.saturating_add(NOTE_EVERY_US));
            if let Some(used) = entry.used.filter(|used| used.0 >= noted) {
                uses.push((Arc::clone(good), used));
            }
        }
        uses
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<KeyId, Entry>> {
        self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(key: Option<Arc<StoredKey>>, looked: Instant) -> Self {
        Self { key, looked, asked: looked, used: None, gone: Arc::default() }
    }

    /// Whether a stream goes on by this key.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.gone) > 1
    }
}

fn check(key: &StoredKey, now: WallTime) -> Result<(), Closed> {
    if key.revoked_at.is_some() {
        return Err(Closed::Revoked);
    }
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(Closed::Expired);
    }
    Ok(())
}

/// How long a key is taken as it was: a look that fails or takes long does not shut everybody out,
/// and a revoked key is refused after five seconds, whatever happens.
pub(super) const FRESH: Duration = Duration::from_secs(4);

/// How long a key is looked at that no request shows.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Keys that are known at once. When full, those that no stream holds are forgotten.
const KNOWN_MAX: usize = 10_000;

/// How exactly the last use of a key is known: a write each minute and key.
const NOTE_EVERY_US: i64 = 60_000_000;

const _: () = assert!(FRESH.as_secs() < 5);

//! The lease: one instance numbers events, and one that has lost it commits nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use control::store::{AtOnce, Ledger, LedgerError, Store, Times};
use link::id::EventNumber;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::db::{TestDb, fresh_call, key, kinds, ledger, on_both, source, turns};
use super::pg::Cluster;

on_both!(
    a_lease_that_lasts_is_not_taken,
    a_lease_that_has_run_out_is_taken_by_one,
    a_lease_that_is_given_back_is_free,
    a_stale_holder_commits_nothing,
    after_a_crash_between_commit_and_acknowledgement_nothing_is_written_twice,
);

const LONG: Times = Times {
    lease: Duration::from_secs(600),
    hung_up: Duration::from_secs(10),
    lost: Duration::from_secs(60),
};

/// A lease that has run out as soon as it is taken.
const NO_TIME: Times = Times { lease: Duration::ZERO, ..LONG };

async fn take(store: &Store, times: Times) -> Option<Ledger> {
    Ledger::take(store, "somebody", times, AtOnce::No).await.unwrap()
}

async fn a_lease_that_lasts_is_not_taken(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let mut holder = take(&stores[0], LONG).await.unwrap();
    assert!(take(&stores[1], LONG).await.is_none());
    holder.write(&[]).await.unwrap();
}

async fn a_lease_that_has_run_out_is_taken_by_one(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    take(&stores[0], NO_TIME).await.unwrap().write(&[]).await.unwrap();
    let (first, second) = tokio::join!(take(&stores[0], LONG), take(&stores[1], LONG));
    assert!(first.is_some() != second.is_some());
}

async fn a_lease_that_is_given_back_is_free(db: &TestDb) {
    let store = db.open().await;
    take(&store, LONG).await.unwrap().release().await.unwrap();
    assert!(take(&store, LONG).await.is_some());
}

async fn a_stale_holder_commits_nothing(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let call = fresh_call(&stores[0], "c_1").await;
    let mut stale = take(&stores[0], NO_TIME).await.unwrap();
    stale.write(&[(source("n1"), turns(1..=2, &call))]).await.unwrap();
    let mut holder = take(&stores[1], LONG).await.unwrap();
    for _ in 0..2 {
        let refused = stale.write(&[(source("n1"), turns(3..=4, &call))]).await;
        assert!(matches!(refused, Err(LedgerError::Lost)), "{refused:?}");
    }
    assert_eq!(kinds(&stores[0]).await.len(), 2);
    let written = holder.write(&[(source("n1"), turns(1..=3, &call))]).await.unwrap();
    assert_eq!((written.entries.len(), written.duplicates), (1, 2));
    // Giving back a lease that somebody else holds gives nothing back.
    stale.release().await.unwrap();
    holder.write(&[(source("n1"), turns(4..=4, &call))]).await.unwrap();
    assert!(take(&stores[0], LONG).await.is_none());
    assert_eq!(kinds(&stores[0]).await.len(), 4);
}

async fn after_a_crash_between_commit_and_acknowledgement_nothing_is_written_twice(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let batch = (source("n1"), turns(1..=64, &call));
    let mut before = ledger(&store, LONG).await;
    before.write(std::slice::from_ref(&batch)).await.unwrap();
    // The answer never reached the relay, which offers the same to whoever holds the lease next.
    drop(before);
    let mut after = ledger(&db.open().await, LONG).await;
    let written = after.write(&[batch]).await.unwrap();
    assert_eq!(written.outcomes, [Ok(EventNumber(64))]);
    assert!(written.entries.is_empty());
    after.write(&[(source("n1"), turns(65..=66, &call))]).await.unwrap();
    assert_eq!(kinds(&store).await.len(), 66);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_repeated() {
    let TestDb::Postgres(url) = TestDb::postgres().await else { unreachable!() };
    let folder = tempfile::tempdir().unwrap();
    let is_armed = Arc::new(AtomicBool::new(false));
    let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
    tokio::spawn(lose_an_answer(listener, Arc::clone(&is_armed)));
    let server = Cluster::shared().folder().display().to_string();
    let url = url.replace(&server, &folder.path().display().to_string());

    let store = Store::open(&url, key()).await.unwrap();
    let call = fresh_call(&store, "c_1").await;
    let mut ledger = ledger(&store, LONG).await;
    let batches = [(source("n1"), turns(1..=5, &call))];
    is_armed.store(true, Ordering::Relaxed);
    let unknown = ledger.write(&batches).await;
    assert!(matches!(unknown, Err(LedgerError::Store(_))), "{unknown:?}");
    assert!(!is_armed.load(Ordering::Relaxed));

    let written = ledger.write(&batches).await.unwrap();
    assert_eq!((written.entries.len(), written.duplicates), (0, 5));
    ledger.write(&[(source("n1"), turns(6..=6, &call))]).await.unwrap();
    assert_eq!(kinds(&store).await.len(), 6);
}

/// Stands between the store and the server. Once armed, it lets one `COMMIT` through and hangs up
/// when the server has answered.
async fn lose_an_answer(listener: UnixListener, is_armed: Arc<AtomicBool>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let is_armed = Arc::clone(&is_armed);
        tokio::spawn(async move {
            let far = UnixStream::connect(Cluster::shared().folder().join(SOCKET)).await.unwrap();
            // Either side going away is the end of a connection, here as in life.
            relay(near, far, &is_armed).await.ok();
        });
    }
}

async fn relay(mut near: UnixStream, mut far: UnixStream, is_armed: &AtomicBool) -> io::Result<()> {
    let (mut question, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_last = false;
    loop {
        tokio::select! {
            read = near.read(&mut question) => {
                let bytes = &question[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                let is_commit = bytes.windows(7).any(|bytes| bytes == b"COMMIT\0");
                is_last = is_commit && is_armed.swap(false, Ordering::Relaxed);
                far.write_all(bytes).await?;
            }
            read = far.read(&mut answer) => {
                let bytes = &answer[..read?];
                if bytes.is_empty() || is_last {
                    return Ok(());
                }
                near.write_all(bytes).await?;
            }
        }
    }
}

const SOCKET: &str = ".s.PGSQL.5432";

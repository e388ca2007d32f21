//! The lease: one instance numbers events, and one that has lost it commits nothing.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::store::{AtOnce, Ledger, LedgerError, Store, Times};
use link::id::EventNumber;
use tempfile::TempDir;
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
    transferred: Duration::from_secs(60),
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
    let faulty = Faulty::start().await;
    let store = Store::open(&faulty.url, key()).await.unwrap();
    let call = fresh_call(&store, "c_1").await;
    let mut ledger = ledger(&store, LONG).await;
    let batches = [(source("n1"), turns(1..=5, &call))];
    faulty.arm(Fault::LoseAnswer);
    let unknown = ledger.write(&batches).await;
    assert!(matches!(unknown, Err(LedgerError::Store(_))), "{unknown:?}");

    let written = ledger.write(&batches).await.unwrap();
    assert_eq!((written.entries.len(), written.duplicates), (0, 5));
    ledger.write(&[(source("n1"), turns(6..=6, &call))]).await.unwrap();
    assert_eq!(kinds(&store).await.len(), 6);
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_not_taken_for_done() {
    let faulty = Faulty::start().await;
    let store = Store::open(&faulty.url, key()).await.unwrap();
    let call = fresh_call(&store, "c_1").await;
    let mut ledger = ledger(&store, LONG).await;
    ledger.write(&[(source("n1"), turns(1..=2, &call))]).await.unwrap();
    let batches = [(source("n1"), turns(3..=5, &call))];
    faulty.arm(Fault::LoseCommit);
    let unknown = ledger.write(&batches).await;
    assert!(matches!(unknown, Err(LedgerError::Store(_))), "{unknown:?}");
    assert_eq!(kinds(&store).await.len(), 2);

    let written = ledger.write(&batches).await.unwrap();
    assert_eq!((written.entries.len(), written.duplicates), (3, 0));
    assert_eq!(kinds(&store).await.len(), 5);
}

/// What happens to the next `COMMIT`, once; the connection is lost with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It happens, and nobody hears of it.
    LoseAnswer,
    /// It does not reach the server.
    LoseCommit,
}

/// A way to the server that a test can break.
struct Faulty {
    url: String,
    next: Arc<Mutex<Option<Fault>>>,
    _folder: TempDir,
}

impl Faulty {
    async fn start() -> Self {
        let direct = TestDb::postgres().await.url();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let server = Cluster::shared().folder().display().to_string();
        let url = direct.replace(&server, &folder.path().display().to_string());
        let next = Arc::new(Mutex::new(None));
        tokio::spawn(listen(listener, Arc::clone(&next)));
        Self { url, next, _folder: folder }
    }

    fn arm(&self, fault: Fault) {
        *self.next.lock().unwrap() = Some(fault);
    }
}

async fn listen(listener: UnixListener, next: Arc<Mutex<Option<Fault>>>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let next = Arc::clone(&next);
        tokio::spawn(async move {
            let far = UnixStream::connect(Cluster::shared().folder().join(SOCKET)).await.unwrap();
            // Either side going away is the end of a connection, here as in life.
            relay(near, far, &next).await.ok();
        });
    }
}

async fn relay(
    mut near: UnixStream,
    mut far: UnixStream,
    next: &Mutex<Option<Fault>>,
) -> io::Result<()> {
    let (mut question, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
    let mut fault = None;
    loop {
        tokio::select! {
            read = near.read(&mut question) => {
                let bytes = &question[..read?];
                if bytes.windows(7).any(|bytes| bytes == b"COMMIT\0") {
                    fault = next.lock().unwrap().take();
                }
                if bytes.is_empty() || fault == Some(Fault::LoseCommit) {
                    return Ok(());
                }
                far.write_all(bytes).await?;
            }
            read = far.read(&mut answer) => {
                let bytes = &answer[..read?];
                if bytes.is_empty() || fault.is_some() {
                    return Ok(());
                }
                near.write_all(bytes).await?;
            }
        }
    }
}

const SOCKET: &str = ".s.PGSQL.5432";

//! Opening a database: first starts, second starts, starts at once; and secrets.

use control::keys::SealingKey;
use control::store::call::CallState;
use control::store::{Store, StoreError, Times};
use futures_util::future::join_all;
use link::id::{CallId, Gen, WallTime};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection as _, PgConnection, SqlStr, SqliteConnection};
use zeroize::Zeroizing;

use super::db::{TestDb, event, fresh_call, key, ledger, on_both, source, tenant, transferring};

on_both!(
    a_second_start_finds_what_the_first_one_left,
    calls_of_the_first_layout_are_there_after_the_second,
    controls_that_start_at_once_do_not_collide,
    a_secret_is_made_once_by_whoever_comes_first,
    a_secret_does_not_open_with_another_key,
);

async fn a_second_start_finds_what_the_first_one_left(db: &TestDb) {
    let first = db.open().await;
    let call = fresh_call(&first, "c_1").await;
    first.close().await;
    let second = db.open().await;
    assert_eq!(second.call(&tenant(), &call.id).await.unwrap(), Some(call));
    second.ping().await.unwrap();
}

/// What the first release left is found by this one, which has another word for a call's state.
async fn calls_of_the_first_layout_are_there_after_the_second(db: &TestDb) {
    let insert = "INSERT INTO calls (id, tenant, account_sid, call_sid, direction, from_number, \
        to_number, agent, agent_version, generation, state, resumes, created_us, detached_us) \
        VALUES ('c_old', 'default', 'AC1', 'CA-old', 'inbound', '+15550100', '+15550101', \
        'front-desk', 1, 2, 'detached', '5,6', 4, 7)";
    match db {
        TestDb::Sqlite(_) => {
            let first = include_str!("../../src/store/migrations/sqlite/0001_first.sql");
            let url = format!("{}?mode=rwc", db.url());
            let mut old = SqliteConnection::connect(&url).await.unwrap();
            only(first).run_direct(None, &mut old, false).await.unwrap();
            sqlx::query(insert).execute(&mut old).await.unwrap();
            old.close().await.unwrap();
        }
        TestDb::Postgres(_) => {
            let first = include_str!("../../src/store/migrations/postgres/0001_first.sql");
            let mut old = PgConnection::connect(&db.url()).await.unwrap();
            only(first).run_direct(None, &mut old, false).await.unwrap();
            sqlx::raw_sql("ALTER TABLE calls NO FORCE ROW LEVEL SECURITY")
                .execute(&mut old)
                .await
                .unwrap();
            sqlx::query(insert).execute(&mut old).await.unwrap();
            sqlx::raw_sql("ALTER TABLE calls FORCE ROW LEVEL SECURITY")
                .execute(&mut old)
                .await
                .unwrap();
            old.close().await.unwrap();
        }
    }
    let store = db.open().await;
    let id = CallId::new("c_old").unwrap();
    let call = store.call(&tenant(), &id).await.unwrap().unwrap();
    assert_eq!((call.generation, call.state), (Gen(2), CallState::Detached));
    assert_eq!(call.resumes, [WallTime(5), WallTime(6)]);
    let transfer = event(1, &call, 2, transferring("+15550177"));
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[(source("n1"), vec![transfer])]).await.unwrap();
    let call = store.call(&tenant(), &id).await.unwrap().unwrap();
    assert_eq!(call.state, CallState::Transferred);
}

/// The first release's migrations.
pub(crate) fn only(first: &'static str) -> Migrator {
    let first = SqlStr::from_static(first);
    let first = Migration::new(1, "first".into(), MigrationType::Simple, first, false);
    Migrator::with_migrations(vec![first])
}

async fn controls_that_start_at_once_do_not_collide(db: &TestDb) {
    let stores = join_all((0..4).map(|_| db.open())).await;
    for store in &stores {
        store.ping().await.unwrap();
    }
}

async fn a_secret_is_made_once_by_whoever_comes_first(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let secrets = join_all(stores.iter().zip([7, 8]).map(|(store, byte)| {
        store.secret_or_make("ticket-key", move || {
            Ok::<_, StoreError>(Zeroizing::new(vec![byte; 32]))
        })
    }))
    .await;
    let secrets: Vec<_> = secrets.into_iter().map(Result::unwrap).collect();
    assert_eq!(secrets[0], secrets[1]);
    let again = stores[0].secret_or_make("ticket-key", || panic!("it was made")).await;
    assert_eq!(again.map_err(|error: StoreError| error.explain()).as_ref(), Ok(&secrets[0]));
}

async fn a_secret_does_not_open_with_another_key(db: &TestDb) {
    let made = || Ok::<_, StoreError>(Zeroizing::new(vec![7; 32]));
    db.open().await.secret_or_make("link-ca", made).await.unwrap();
    let other = Store::open(&db.url(), SealingKey::generate().unwrap()).await.unwrap();
    let refused = other.secret_or_make("link-ca", made).await.unwrap_err();
    assert!(refused.explain().contains("CONTROL_SECRET_KEY"), "{}", refused.explain());
}

#[tokio::test]
async fn an_address_of_no_known_database_is_refused_with_a_sentence() {
    for (url, says) in [
        ("mysql://x", "begins with sqlite:// or postgres://"),
        ("postgres://user:hush@localhost:port/db", "cannot be read"),
        ("sqlite:///nowhere/at/all/linecard.db", "is its folder there?"),
    ] {
        let refused = Store::open(url, key()).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
        assert!(!refused.explain().contains("hush"));
    }
}

//! Opening a database: first starts, second starts, starts at once; and secrets.

use control::keys::SealingKey;
use control::store::{Store, StoreError};
use futures_util::future::join_all;
use zeroize::Zeroizing;

use super::db::{TestDb, fresh_call, key, on_both, tenant};

on_both!(
    a_second_start_finds_what_the_first_one_left,
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

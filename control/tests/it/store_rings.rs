//! Signing keys turn every 24 h, once for all instances, and nothing that was signed is lost.

use control::store::Store;
use control::tokens::Tokens;
use link::id::WallTime;
use link::ticket::{SigningKey, VerifyingKey};

use super::db::{TestDb, at, fresh_call, node, on_both};

on_both!(
    the_next_key_is_made_once_for_all_instances_and_known_before_it_signs,
    a_key_goes_when_nothing_of_it_can_be_good_any_more,
    the_first_keys_are_those_of_the_release_before,
);

const HOUR_US: i64 = 3_600_000_000;

fn hours(hours: i64, minutes: i64) -> WallTime {
    at(0).plus_us(hours * HOUR_US + minutes * HOUR_US / 60)
}

async fn load(store: &Store) -> Tokens {
    Tokens::load(store, at(0)).await.unwrap()
}

async fn the_next_key_is_made_once_for_all_instances_and_known_before_it_signs(db: &TestDb) {
    let (here, there) = (db.open().await, db.open().await);
    let both = tokio::join!(load(&here), load(&there));
    let first = both.0.verifying();
    assert_eq!((first.len(), &first), (1, &both.1.verifying()));
    let call = fresh_call(&here, "c_1").await;

    for now in [hours(23, 49), hours(23, 50)] {
        let turned = tokio::join!(both.0.refresh(&here, now), both.1.refresh(&there, now));
        turned.0.unwrap();
        turned.1.unwrap();
    }
    // Whoever lost has what the other one made.
    both.0.refresh(&here, hours(23, 51)).await.unwrap();
    both.1.refresh(&there, hours(23, 51)).await.unwrap();
    let keys = both.0.verifying();
    assert_eq!((keys.len(), &keys), (2, &both.1.verifying()));
    assert_eq!(keys[1], first[0], "the latest is named first");

    let signed_by = |key: &VerifyingKey, now| {
        let ticket = both.0.ticket(&call, &node(), now).unwrap();
        let set = link::ticket::KeySet::new(std::slice::from_ref(key)).unwrap();
        set.verify(&ticket, now).is_ok()
    };
    assert!(signed_by(&keys[1], hours(23, 59)) && !signed_by(&keys[0], hours(23, 59)));
    assert!(signed_by(&keys[0], hours(24, 0)) && !signed_by(&keys[1], hours(24, 0)));
    // What one instance has signed the other one reads, with either key.
    for now in [hours(23, 59), hours(24, 0)] {
        let pass = both.0.pass(&call, now).unwrap();
        assert_eq!(both.1.read_pass(&pass, hours(24, 1)).unwrap().call, call.id);
    }
}

async fn a_key_goes_when_nothing_of_it_can_be_good_any_more(db: &TestDb) {
    let store = db.open().await;
    let tokens = load(&store).await;
    let first = tokens.verifying();
    let call = fresh_call(&store, "c_1").await;
    let last_pass = tokens.pass(&call, hours(23, 59)).unwrap();
    tokens.refresh(&store, hours(24, 0)).await.unwrap();
    tokens.refresh(&store, hours(48, 0)).await.unwrap();
    // The longest token is good to its last second.
    tokens.refresh(&store, hours(48, 58)).await.unwrap();
    assert!(tokens.read_pass(&last_pass, hours(48, 58)).is_ok());
    assert!(tokens.verifying().contains(&first[0]));
    for _ in 0..2 {
        tokens.refresh(&store, hours(50, 11)).await.unwrap();
    }
    assert!(!tokens.verifying().contains(&first[0]));
    assert!(tokens.read_pass(&last_pass, hours(48, 58)).is_err());
    let again = Tokens::load(&store, hours(50, 12)).await.unwrap();
    assert_eq!(again.verifying(), tokens.verifying());
}

async fn the_first_keys_are_those_of_the_release_before(db: &TestDb) {
    let store = db.open().await;
    let old = SigningKey::generate("old").unwrap();
    let bytes = zeroize::Zeroizing::new(old.to_bytes().to_vec());
    let made = || Ok::<_, control::store::StoreError>(bytes);
    store.secret_or_make("ticket-key", made).await.unwrap();
    let tokens = load(&store).await;
    assert_eq!(tokens.verifying()[0].public, old.verifying().public);
}

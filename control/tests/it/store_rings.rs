//! Signing keys turn every 24 h, once for all instances, and nothing that was signed is lost.

use control::access::key::KeyId;
use control::store::{RingName, RingPlace, Store};
use control::tokens::Tokens;
use control::tokens::rotation::rotate;
use control::tokens::watch::{WatchTicket, Watched};
use link::id::WallTime;
use link::ticket::{KeySet, SigningKey, VerifyingKey};

use super::db::{TestDb, at, fresh_call, node, on_both, tenant};

on_both!(
    the_next_key_is_made_once_for_all_instances_and_known_before_it_signs,
    a_key_goes_when_nothing_of_it_can_be_good_any_more,
    the_first_keys_are_those_of_the_release_before,
    after_a_rotation_at_once_nothing_that_was_signed_before_is_good,
    rotations_at_once_leave_one_key_and_the_ring_goes_on_turning,
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
        let set = KeySet::new(std::slice::from_ref(key)).unwrap();
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

fn actor() -> KeyId {
    KeyId::new("command-line").unwrap()
}

async fn rotated(store: &Store, ring: RingName, now: WallTime) -> RingPlace {
    rotate(store, ring, &actor(), now).await.unwrap()
}

async fn after_a_rotation_at_once_nothing_that_was_signed_before_is_good(db: &TestDb) {
    let (here, there) = (db.open().await, db.open().await);
    let (one, other) = (load(&here).await, load(&there).await);
    let call = fresh_call(&here, "c_1").await;
    let now = hours(1, 0);
    let watched = WatchTicket {
        tenant: tenant(),
        what: Watched::Call(call.id.clone()),
        origin: "https://app.example".into(),
        key: "operator-1".into(),
        expires_at: now.seconds() + 600,
    };
    let (ticket, pass) = (one.ticket(&call, &node(), now).unwrap(), one.pass(&call, now).unwrap());
    let watch = one.watch_ticket(&watched, now).unwrap();
    let before = one.verifying();

    // The rings are apart: what resumes calls is not touched when only tickets are changed.
    let place = rotated(&here, RingName::Ticket, now).await;
    assert_eq!((place.number, place.signs_at), (2, now));
    for (tokens, store) in [(&one, &here), (&other, &there)] {
        tokens.refresh(store, now).await.unwrap();
        let keys = tokens.verifying();
        assert_eq!(keys.len(), 1);
        assert_ne!(keys, before);
        let set = KeySet::new(&keys).unwrap();
        assert!(set.verify(&ticket, now).is_err(), "the leaked key opens nothing");
        let fresh = tokens.ticket(&call, &node(), now).unwrap();
        assert!(set.verify(&fresh, now).is_ok());
        assert!(tokens.read_pass(&pass, now).is_ok());
    }

    rotated(&there, RingName::Pass, now).await;
    for (tokens, store) in [(&one, &here), (&other, &there)] {
        tokens.refresh(store, now).await.unwrap();
        assert!(tokens.read_pass(&pass, now).is_err());
        assert!(tokens.read_watch_ticket(&watch).is_err());
        assert!(tokens.read_pass(&tokens.pass(&call, now).unwrap(), now).is_ok());
    }
    let log = here.audit(&tenant(), 0, 10).await.unwrap();
    let lines: Vec<_> =
        log.iter().map(|line| (line.action.as_str(), line.subject.as_str())).collect();
    assert_eq!(lines, [("signing_key.rotated", "ticket"), ("signing_key.rotated", "pass")]);
    assert!(log.iter().all(|line| line.actor == "command-line"));
}

async fn rotations_at_once_leave_one_key_and_the_ring_goes_on_turning(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let tokens = load(&stores[0]).await;
    let now = hours(1, 0);
    let places = tokio::join!(
        rotated(&stores[0], RingName::Ticket, now),
        rotated(&stores[1], RingName::Ticket, now),
    );
    let last = places.0.number.max(places.1.number);
    let stored = stores[0].signing_keys().await.unwrap();
    let numbers: Vec<_> = stored
        .iter()
        .filter(|key| key.place.ring == RingName::Ticket)
        .map(|key| key.place.number)
        .collect();
    assert_eq!((places.0.number == places.1.number, numbers), (false, vec![last]));
    tokens.refresh(&stores[0], now).await.unwrap();
    let first = tokens.verifying();
    assert_eq!(first.len(), 1);
    // A day later the next one signs, as ever.
    tokens.refresh(&stores[0], hours(24, 50)).await.unwrap();
    let keys = tokens.verifying();
    assert_eq!((keys.len(), &keys[1]), (2, &first[0]));
    // A process that starts has the same.
    let fresh = Tokens::load(&stores[1], hours(24, 51)).await.unwrap();
    assert_eq!(fresh.verifying(), keys);
}

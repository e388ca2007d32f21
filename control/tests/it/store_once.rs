//! Keys of requests that come twice: taken by one, kept for a day, never done twice.

use control::store::Store;
use control::store::agents::Changed;
use control::store::idempotency::{Begun, Once};
use futures_util::future::join_all;
use link::agent::AgentSpec;
use link::id::{AgentName, TenantId};
use serde_json::json;

use super::db::{TestDb, actor, at, on_both, tenant};

on_both!(
    an_answer_is_given_again_to_the_same_request_only,
    of_requests_at_once_one_is_done,
    a_key_with_which_nothing_was_done_is_free_again,
    a_holder_that_falls_silent_loses_the_key_before_its_work_and_not_after,
    a_key_is_its_tenants_alone,
);

const A_DAY: i64 = 24 * 3_600;

async fn begin(store: &Store, body: &str, second: i64) -> Begun {
    store.begin_once(&tenant(), "key-1", body.as_bytes(), at(second)).await.unwrap()
}

fn fresh(begun: Begun) -> Once {
    let Begun::Fresh(once) = begun else { panic!("{begun:?}") };
    once
}

async fn make(store: &Store, once: &Once) -> Result<(), String> {
    let spec: AgentSpec = serde_json::from_value(json!({
        "name": "desk", "instructions": "x", "provider": {"kind": "openai_realtime"},
    }))
    .unwrap();
    match store.create_agent(spec, Some(once), &actor(), at(1)).await {
        Ok(Changed::Done(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

async fn is_made(store: &Store) -> bool {
    let name = AgentName::new("desk").unwrap();
    store.agent(&tenant(), &name, None).await.unwrap().is_some()
}

async fn an_answer_is_given_again_to_the_same_request_only(db: &TestDb) {
    let store = db.open().await;
    let once = fresh(begin(&store, "body", 0).await);
    assert!(matches!(begin(&store, "body", 1).await, Begun::Unfinished));
    store.answer_once(&once, b"made, +15550199").await.unwrap();
    for second in [1, A_DAY - 1] {
        let begun = begin(&store, "body", second).await;
        let Begun::Answered(answer) = begun else { panic!("{begun:?}") };
        assert_eq!(answer, b"made, +15550199");
    }
    assert!(matches!(begin(&store, "other", 1).await, Begun::Other));
    fresh(begin(&store, "other", A_DAY).await);
}

async fn of_requests_at_once_one_is_done(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let all = join_all((0..6).map(|n| begin(&stores[n % 2], "body", 0))).await;
    let taken = all.iter().filter(|begun| matches!(begun, Begun::Fresh(_))).count();
    let waiting = all.iter().filter(|begun| matches!(begun, Begun::Unfinished)).count();
    assert_eq!((taken, waiting), (1, 5));
}

async fn a_key_with_which_nothing_was_done_is_free_again(db: &TestDb) {
    let store = db.open().await;
    let once = fresh(begin(&store, "body", 0).await);
    store.forget_once(&once).await.unwrap();
    let once = fresh(begin(&store, "another body", 0).await);
    make(&store, &once).await.unwrap();
    store.forget_once(&once).await.unwrap();
    assert!(matches!(begin(&store, "another body", 1).await, Begun::Unfinished));
}

async fn a_holder_that_falls_silent_loses_the_key_before_its_work_and_not_after(db: &TestDb) {
    let store = db.open().await;
    let first = fresh(begin(&store, "body", 0).await);
    assert!(matches!(begin(&store, "body", 59).await, Begun::Unfinished));
    let second = fresh(begin(&store, "body", 61).await);
    make(&store, &first).await.unwrap_err();
    assert!(!is_made(&store).await, "whoever comes back too late does nothing");
    store.forget_once(&first).await.unwrap();
    make(&store, &second).await.unwrap();
    assert!(is_made(&store).await);
    // It died between its work and its answer: nobody may do it again.
    assert!(matches!(begin(&store, "body", 3_600).await, Begun::Unfinished));
}

async fn a_key_is_its_tenants_alone(db: &TestDb) {
    let store = db.open().await;
    let other = TenantId::new("other").unwrap();
    store.ensure_tenant(&other, at(0)).await.unwrap();
    let once = fresh(begin(&store, "body", 0).await);
    store.answer_once(&once, b"ours").await.unwrap();
    let theirs = store.begin_once(&other, "key-1", b"body", at(1)).await.unwrap();
    fresh(theirs);
}

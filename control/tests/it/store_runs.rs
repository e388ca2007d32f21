//! Runs in the store, on both engines: all of their calls, or none.

use control::dialer::plan::Plan;
use control::store::call::{Direction, Filter, NewCall};
use control::store::dials::NewDial;
use control::store::idempotency::{Begun, Once};
use control::store::runs::Run;
use control::store::{Pacing, Store, Times};
use link::id::{RunId, WallTime};

use super::db::{TestDb, at, fresh_call, kinds, ledger, new_call, on_both, tenant};

on_both!(
    a_run_is_queued_with_all_of_its_calls,
    a_run_that_fails_at_its_last_call_leaves_nothing,
    a_run_of_a_holder_that_came_too_late_is_not_made,
);

fn run(calls: u32) -> Run {
    Run { id: RunId::new("run_1").unwrap(), calls, created_at: at(0) }
}

fn queued(id: &str) -> (NewCall, NewDial) {
    let run = Some(run(0).id);
    let new = NewCall { carrier: None, direction: Direction::Outbound, run, ..new_call(id) };
    let plan = Plan { within_s: 600, ..Plan::default() };
    let dial = NewDial { account: "AC1".into(), not_before: WallTime(0), until: at(600), plan };
    (new, dial)
}

async fn once(store: &Store) -> Once {
    let begun = store.begin_once(&tenant(), "key-1", b"body", at(0)).await.unwrap();
    let Begun::Fresh(once) = begun else { panic!("{begun:?}") };
    once
}

/// How many calls and dials there are of the run.
async fn left(store: &Store) -> (usize, usize) {
    let filter = Filter { run: Some(run(0).id), ..Filter::default() };
    let calls = store.calls(&tenant(), &filter, None, 10).await.unwrap().calls;
    let claimed = store.claim(&Pacing::default(), 16, at(1)).await.unwrap();
    (calls.len(), claimed.ask.len())
}

async fn a_run_is_queued_with_all_of_its_calls(db: &TestDb) {
    let store = db.open().await;
    let calls = ["c_1", "c_2", "c_3"].map(queued).into();
    let once = once(&store).await;
    let made = store.start_run(&tenant(), &run(3), calls, Some(&once)).await.unwrap();
    let names: Vec<_> = made.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(names, ["c_1", "c_2", "c_3"]);
    assert_eq!(store.run(&tenant(), &run(3).id).await.unwrap(), Some(run(3)));
    for call in &made {
        assert_eq!(store.call(&tenant(), &call.id).await.unwrap().as_ref(), Some(call));
        assert!(store.dial(&tenant(), &call.id).await.unwrap().is_some());
    }
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[]).await.unwrap();
    assert_eq!(kinds(&store).await, ["call.queued"; 3]);
    // What was done cannot be done again.
    let again = store.begin_once(&tenant(), "key-1", b"body", at(120)).await.unwrap();
    assert!(matches!(again, Begun::Unfinished), "{again:?}");
}

async fn a_run_that_fails_at_its_last_call_leaves_nothing(db: &TestDb) {
    let store = db.open().await;
    fresh_call(&store, "c_3").await;
    let once = once(&store).await;
    let calls = ["c_1", "c_2", "c_3"].map(queued).into();
    store.start_run(&tenant(), &run(3), calls, Some(&once)).await.unwrap_err();
    assert_eq!(store.run(&tenant(), &run(3).id).await.unwrap(), None);
    assert_eq!(left(&store).await, (0, 0));
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[]).await.unwrap();
    assert!(kinds(&store).await.is_empty(), "nothing is told of them");
    // The same run may be asked for again, with the same key.
    store.forget_once(&once).await.unwrap();
    let once = self::once(&store).await;
    let calls = ["c_1", "c_2", "c_4"].map(queued).into();
    store.start_run(&tenant(), &run(3), calls, Some(&once)).await.unwrap();
    assert_eq!(left(&store).await.0, 3);
}

async fn a_run_of_a_holder_that_came_too_late_is_not_made(db: &TestDb) {
    let store = db.open().await;
    let late = once(&store).await;
    let begun = store.begin_once(&tenant(), "key-1", b"body", at(61)).await.unwrap();
    assert!(matches!(begun, Begun::Fresh(_)), "{begun:?}");
    let calls = ["c_1", "c_2"].map(queued).into();
    store.start_run(&tenant(), &run(2), calls, Some(&late)).await.unwrap_err();
    assert_eq!(store.run(&tenant(), &run(2).id).await.unwrap(), None);
    assert_eq!(left(&store).await, (0, 0));
}

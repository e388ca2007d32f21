//! How long events are kept, and what clients are told whose place is older than that.

use std::pin::pin;

use control::events::Seq;
use control::hub::Hub;
use control::sequencer::{LeaseState, Settings, sequencer};
use control::sse::{Because, Item, Reset, Watch, stream};
use control::store::call::Call;
use control::store::{Store, Times};
use futures_util::{Stream, StreamExt as _};
use link::id::CallId;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tokio_util::sync::CancellationToken;

use super::db::{TestDb, fresh_call, ledger, on_both, source, tenant, turns};
use super::store_open::only;

on_both!(
    days_that_are_too_old_are_forgotten_and_no_others,
    a_client_whose_place_is_forgotten_is_told_and_goes_on,
    a_client_of_one_call_is_told_too,
    a_client_that_asks_for_everything_gets_what_is_kept,
    when_nothing_is_kept_a_client_goes_on_with_what_happens_next,
    the_holder_of_the_lease_forgets_by_itself,
    events_of_the_first_layout_are_read_and_go_in_time,
);

/// Twenty records of two calls by turns, of which the first ten are three days old.
async fn aged(db: &TestDb) -> (Store, [Call; 2]) {
    let store = db.open().await;
    let calls = [fresh_call(&store, "c_1").await, fresh_call(&store, "c_2").await];
    let mut ledger = ledger(&store, Times::default()).await;
    for n in 1..=10 {
        let one = (source("n1"), turns(n..=n, &calls[0]));
        let other = (source("n2"), turns(n..=n, &calls[1]));
        ledger.write(&[one, other]).await.unwrap();
    }
    ledger.release().await.unwrap();
    if let TestDb::Postgres(_) = db {
        db.change(OLD_DAYS).await;
    }
    db.change("UPDATE events SET stored_us = stored_us - 3 * 86400000000 WHERE seq <= 10").await;
    (store, calls)
}

/// Days before this one, as they would be there if the database were older: a new one has room for
/// the days that come, and one partition for all that came before.
const OLD_DAYS: &str = "DO $$ \
    DECLARE today CONSTANT BIGINT := (extract(epoch FROM now()) * 1000000)::bigint / 86400000000; \
    BEGIN \
        ALTER TABLE events DETACH PARTITION events_before; \
        EXECUTE format('CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (%s) TO (%s)', \
            (today - 4) * 86400000000, (today - 2) * 86400000000); \
    END $$";

async fn kept(store: &Store) -> Vec<u64> {
    let records = store.events_after(&tenant(), Seq(0), None, 100).await.unwrap();
    records.iter().map(|record| record.seq.0).collect()
}

fn watch(store: &Store, after: u64, call: Option<&Call>) -> impl Stream<Item = Item> + use<> {
    let call = call.map(|call| call.id.clone());
    let watch =
        Watch { tenant: tenant(), after: Some(Seq(after)), call, run: None, ephemeral: false };
    stream(store.clone(), &Hub::new(), watch, CancellationToken::new())
}

async fn next_seq(stream: &mut (impl Stream<Item = Item> + Unpin)) -> u64 {
    match stream.next().await.unwrap() {
        Item::Record(record) => record.seq.0,
        other @ (Item::Passing(_) | Item::Reset(_) | Item::Ping | Item::End(_)) => {
            panic!("{other:?}")
        }
    }
}

fn expired(after: u64, resumes_after: u64) -> Item {
    let because = Because::Expired;
    Item::Reset(Reset { after: Seq(after), resumes_after: Seq(resumes_after), because })
}

async fn days_that_are_too_old_are_forgotten_and_no_others(db: &TestDb) {
    let (store, _) = aged(db).await;
    assert_eq!(store.forget_events(5).await.unwrap(), 0);
    assert_eq!(kept(&store).await, (1..=20).collect::<Vec<_>>());
    assert_eq!(store.oldest(&tenant()).await.unwrap(), Some(Seq(1)));
    assert!(store.forget_events(1).await.unwrap() > 0);
    assert_eq!(kept(&store).await, (11..=20).collect::<Vec<_>>());
    assert_eq!(store.oldest(&tenant()).await.unwrap(), Some(Seq(11)));
    assert_eq!(store.forget_events(1).await.unwrap(), 0, "it was done");
    // Places are never used again, whatever is forgotten.
    let call = fresh_call(&store, "c_3").await;
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[(source("n3"), turns(1..=1, &call))]).await.unwrap();
    assert_eq!(kept(&store).await, (11..=21).collect::<Vec<_>>());
}

async fn a_client_whose_place_is_forgotten_is_told_and_goes_on(db: &TestDb) {
    let (store, _) = aged(db).await;
    store.forget_events(1).await.unwrap();
    let mut late = pin!(watch(&store, 4, None));
    assert_eq!(late.next().await, Some(expired(4, 10)));
    for seq in 11..=20 {
        assert_eq!(next_seq(&mut late).await, seq);
    }
    // The last one that is gone is the first place behind which nothing is missing.
    let mut just = pin!(watch(&store, 10, None));
    assert_eq!(next_seq(&mut just).await, 11);
}

async fn a_client_of_one_call_is_told_too(db: &TestDb) {
    let (store, calls) = aged(db).await;
    store.forget_events(1).await.unwrap();
    let mut late = pin!(watch(&store, 9, Some(&calls[1])));
    assert_eq!(late.next().await, Some(expired(9, 10)));
    assert_eq!(next_seq(&mut late).await, 12);
    let mut just = pin!(watch(&store, 10, Some(&calls[1])));
    assert_eq!(next_seq(&mut just).await, 12);
}

async fn a_client_that_asks_for_everything_gets_what_is_kept(db: &TestDb) {
    let (store, _) = aged(db).await;
    store.forget_events(1).await.unwrap();
    let mut all = pin!(watch(&store, 0, None));
    assert_eq!(next_seq(&mut all).await, 11);
}

async fn when_nothing_is_kept_a_client_goes_on_with_what_happens_next(db: &TestDb) {
    let (store, calls) = aged(db).await;
    db.change("UPDATE events SET stored_us = stored_us - 3 * 86400000000 WHERE seq > 10").await;
    store.forget_events(1).await.unwrap();
    assert_eq!(store.oldest(&tenant()).await.unwrap(), None);
    let mut late = pin!(watch(&store, 4, None));
    assert_eq!(late.next().await, Some(expired(4, 20)));
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[(source("n1"), turns(11..=11, &calls[0]))]).await.unwrap();
    let mut next = pin!(watch(&store, 20, None));
    assert_eq!(next_seq(&mut next).await, 21);
}

async fn the_holder_of_the_lease_forgets_by_itself(db: &TestDb) {
    let (store, _) = aged(db).await;
    let shutdown = CancellationToken::new();
    let settings = Settings { keep_days: 1, ..Settings::default() };
    let (sequencer, task) = sequencer(store.clone(), Hub::new(), settings, shutdown.clone());
    let task = tokio::spawn(task);
    sequencer.state().wait_for(|state| *state == LeaseState::Held).await.unwrap();
    // Nothing but the database says when.
    while store.oldest(&tenant()).await.unwrap() != Some(Seq(11)) {}
    shutdown.cancel();
    task.await.unwrap();
}

/// What the first release left is read by this one, and is forgotten as if it was stored on the day
/// of the change.
async fn events_of_the_first_layout_are_read_and_go_in_time(db: &TestDb) {
    let insert = "INSERT INTO events (tenant, seq, call, generation, type, at_us, body) \
        VALUES ('default', 1, 'c_old', 0, 'turn', 5, '{}'); \
        INSERT INTO heads (tenant, seq) VALUES ('default', 1)";
    match db {
        TestDb::Sqlite(_) => {
            let first = include_str!("../../src/store/migrations/sqlite/0001_first.sql");
            let url = format!("{}?mode=rwc", db.url());
            let mut old = SqliteConnection::connect(&url).await.unwrap();
            only(first).run_direct(None, &mut old, false).await.unwrap();
            old.close().await.unwrap();
        }
        TestDb::Postgres(_) => {
            let first = include_str!("../../src/store/migrations/postgres/0001_first.sql");
            let mut old = PgConnection::connect(&db.url()).await.unwrap();
            only(first).run_direct(None, &mut old, false).await.unwrap();
            old.close().await.unwrap();
        }
    }
    db.change(insert).await;
    let store = db.open().await;
    let call = CallId::new("c_old").unwrap();
    let records = store.events_after(&tenant(), Seq(0), Some(&call), 10).await.unwrap();
    assert_eq!(records[0].seq, Seq(1));
    store.forget_events(1).await.unwrap();
    assert_eq!(kept(&store).await, [1]);
    db.change("UPDATE events SET stored_us = 1 WHERE seq = 1").await;
    if let TestDb::Sqlite(_) = db {
        store.forget_events(1).await.unwrap();
        assert_eq!(kept(&store).await, [0_u64; 0]);
    }
}

#[tokio::test]
async fn on_postgres_there_is_room_for_a_week_and_a_day_is_closed_to_other_tenants() {
    let db = TestDb::postgres().await;
    let _store = db.open().await;
    let mut owner = PgConnection::connect(&db.url()).await.unwrap();
    let days: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_inherits JOIN pg_class ON oid = inhrelid \
         WHERE inhparent = 'events'::regclass AND relrowsecurity AND relforcerowsecurity",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    // Today, a week, and what was there before the days: it has rules of its own from then.
    assert_eq!(days, 9);
    sqlx::raw_sql("SET ROLE linecard_app").execute(&mut owner).await.unwrap();
    let refused = sqlx::raw_sql("SELECT linecard_event_days(0)").execute(&mut owner).await;
    assert!(refused.is_err(), "only the owner may drop days");
}

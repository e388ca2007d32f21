//! The sequencer as a task: many links, one order, and nothing acknowledged that is not committed.

use std::time::Duration;

use control::hub::Hub;
use control::sequencer::{LeaseState, Refused, Sequencer, Settings, sequencer};
use control::store::call::Call;
use control::store::{AtOnce, Gap, Ledger, Store, Times};
use futures_util::future::join_all;
use link::id::EventNumber;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::db::{TestDb, fresh_call, kinds, on_both, source, started_call, tenant, turns};
use super::pg::Cluster;

on_both!(
    places_are_dense_and_in_order_whatever_many_sources_send,
    a_gap_is_told_to_the_link,
    what_was_offered_before_a_stop_is_committed,
    control_decides_and_the_event_follows_by_itself,
    another_instance_takes_over_when_the_holder_stops,
    a_holder_that_lost_its_lease_says_no_and_commits_once_it_has_it_again,
);

/// A sequencer that runs.
struct Running {
    sequencer: Sequencer,
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Running {
    fn start(store: &Store, times: Times) -> Self {
        let shutdown = CancellationToken::new();
        let settings = Settings { times, ..Settings::default() };
        let (sequencer, task) = sequencer(store.clone(), Hub::new(), settings, shutdown.clone());
        Self { sequencer, task: tokio::spawn(task), shutdown }
    }

    async fn reaches(&self, wanted: LeaseState) {
        self.sequencer.state().wait_for(|state| *state == wanted).await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Sends turns as one link would, in batches of differing size, three of them under way at once.
async fn send(sequencer: &Sequencer, node: &str, call: &Call, total: u64) {
    let mut receipts = Vec::new();
    let mut n = 0;
    let sizes = [1, 7, 64, 3, 20].into_iter().cycle();
    for size in sizes {
        let last = (n + size).min(total);
        receipts.push((last, sequencer.submit(source(node), turns(n + 1..=last, call)).await));
        n = last;
        if receipts.len() == 3 || n == total {
            for (last, receipt) in receipts.drain(..) {
                // More than that when a link before this one has sent it.
                assert!(receipt.unwrap().await.unwrap() >= EventNumber(last));
            }
        }
        if n == total {
            return;
        }
    }
}

/// The items of one source's turns, in the order of their places.
async fn items_of(store: &Store, call: &Call) -> Vec<String> {
    let records = store.events_after(&tenant(), Default::default(), Some(&call.id), 100_000).await;
    let item = |data: &str| {
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        data["item"].as_str().unwrap().to_owned()
    };
    records.unwrap().iter().map(|record| item(&record.data)).collect()
}

async fn places_are_dense_and_in_order_whatever_many_sources_send(db: &TestDb) {
    let store = db.open().await;
    let running = Running::start(&store, Times::default());
    let mut calls = Vec::new();
    for i in 0..8 {
        calls.push(fresh_call(&store, &format!("c_{i}")).await);
    }
    let links = calls.iter().enumerate().map(|(i, call)| {
        let sequencer = running.sequencer.clone();
        async move { send(&sequencer, &format!("n{i}"), call, 300).await }
    });
    join_all(links).await;
    assert_eq!(kinds(&store).await.len(), 8 * 300);
    let expected: Vec<String> = (1..=300).map(|n| format!("item-{n}")).collect();
    for call in &calls {
        assert_eq!(items_of(&store, call).await, expected);
    }
    running.stop().await;
}

async fn a_gap_is_told_to_the_link(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let running = Running::start(&store, Times::default());
    let offers = [turns(1..=2, &call), turns(5..=6, &call), turns(3..=6, &call)];
    let mut answers = Vec::new();
    for offer in offers {
        answers.push(running.sequencer.submit(source("n1"), offer).await.unwrap().await);
    }
    let gap = Refused::Gap(Gap { expected: EventNumber(3) });
    assert_eq!(answers, [Ok(EventNumber(2)), Err(gap), Ok(EventNumber(6))]);
    running.stop().await;
}

async fn what_was_offered_before_a_stop_is_committed(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let running = Running::start(&store, Times::default());
    running.reaches(LeaseState::Held).await;
    let sequencer = running.sequencer.clone();
    let first = sequencer.submit(source("n1"), turns(1..=64, &call)).await.unwrap();
    let second = sequencer.submit(source("n1"), turns(65..=70, &call)).await.unwrap();
    running.stop().await;
    assert_eq!(first.await, Ok(EventNumber(64)));
    assert_eq!(second.await, Ok(EventNumber(70)));
    assert_eq!(kinds(&store).await.len(), 70);
    let late = sequencer.submit(source("n1"), turns(71..=71, &call)).await;
    assert_eq!(late.unwrap_err(), Refused::Stopped);
}

async fn control_decides_and_the_event_follows_by_itself(db: &TestDb) {
    let store = db.open().await;
    let running = Running::start(&store, Times::default());
    running.reaches(LeaseState::Held).await;
    started_call(&store, "c_1").await;
    // Nothing but the database says when: the head moves once the event is committed.
    while store.head(&tenant()).await.unwrap().0 == 0 {}
    assert_eq!(kinds(&store).await, ["call.started"]);
    running.stop().await;
}

async fn another_instance_takes_over_when_the_holder_stops(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let call = fresh_call(&stores[0], "c_1").await;
    // No process but a private database's first may take a lease at once.
    let first = Running::start(&stores[0], Times::default());
    first.reaches(LeaseState::Held).await;
    let taken = Ledger::take(&stores[1], "second", Times::default(), AtOnce::No).await.unwrap();
    assert!(taken.is_none());
    send(&first.sequencer, "n1", &call, 100).await;
    first.stop().await;

    let second = Running::start(&stores[1], Times::default());
    second.reaches(LeaseState::Held).await;
    // The relay resends what it thinks was lost, and goes on.
    send(&second.sequencer, "n1", &call, 130).await;
    assert_eq!(kinds(&stores[0]).await.len(), 130);
    second.stop().await;
}

async fn a_holder_that_lost_its_lease_says_no_and_commits_once_it_has_it_again(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let call = fresh_call(&stores[0], "c_1").await;
    let running = Running::start(&stores[0], Times::default());
    send(&running.sequencer, "n1", &call, 10).await;

    let mut thief = Ledger::take(&stores[1], "thief", Times::default(), AtOnce::Yes).await.unwrap();
    let thief = thief.as_mut().unwrap();
    let offer = running.sequencer.submit(source("n1"), turns(11..=20, &call)).await.unwrap();
    running.reaches(LeaseState::Waiting).await;
    // Whoever holds the lease next is told everything again.
    assert_eq!(offer.await, Err(Refused::NotHolder));
    // The relay, connected to both, has told the thief as well.
    thief.write(&[(source("n1"), turns(11..=15, &call))]).await.unwrap();
    assert_eq!(kinds(&stores[1]).await.len(), 15);
    // The thief is silent from here on, as if it had crashed.
    let free = Times { lease: Duration::ZERO, ..Times::default() };
    Ledger::take(&stores[1], "thief", free, AtOnce::Yes).await.unwrap().unwrap();
    running.reaches(LeaseState::Held).await;
    let again = running.sequencer.submit(source("n1"), turns(11..=20, &call)).await.unwrap();
    assert_eq!(again.await, Ok(EventNumber(20)));
    assert_eq!(kinds(&stores[1]).await.len(), 20);
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_drops_every_connection_costs_no_event_and_doubles_none() {
    let db = TestDb::postgres().await;
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let running = Running::start(&store, Times::default());
    running.reaches(LeaseState::Held).await;
    let mut admin = Cluster::shared().admin("postgres").await;
    let url = db.url();
    let database = url.rsplit('/').find_map(|part| part.split_once("?host=")).map(|it| it.0);
    let drop_all = async {
        for _ in 0..20 {
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            )
            .bind(database)
            .execute(&mut admin)
            .await
            .unwrap();
        }
    };
    tokio::join!(send(&running.sequencer, "n1", &call, 2_000), drop_all);
    let expected: Vec<String> = (1..=2_000).map(|n| format!("item-{n}")).collect();
    assert_eq!(items_of(&store, &call).await, expected);
    assert_eq!(kinds(&store).await.len(), 2_000);
    running.stop().await;
}

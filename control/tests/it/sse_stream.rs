//! Streams of records: each one exactly once and in order, whoever comes and goes.

use std::pin::pin;

use control::events::Seq;
use control::hub::Hub;
use control::sequencer::{LeaseState, Sequencer, Settings, sequencer};
use control::sse::{Because, End, Item, Reset, Watch, stream};
use control::store::Store;
use control::store::call::{Call, NewCall};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use link::id::RunId;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::db::{TestDb, at, fresh_call, new_call, node, on_both, said, source, tenant, turns};

on_both!(
    a_client_without_an_id_begins_with_what_happens_next,
    readers_that_come_and_go_under_load_see_each_record_once_in_order,
    a_long_replay_comes_in_pages_without_a_gap,
    a_filter_passes_one_call_and_keeps_the_place,
    a_run_is_followed_on_one_stream_from_memory_and_from_the_database,
    a_client_that_falls_behind_is_sent_away_and_resumes,
    an_id_from_another_database_is_a_break,
    an_instance_without_the_lease_streams_what_the_holder_commits,
    words_for_the_moment_are_for_who_wants_them_and_come_after_records,
    silence_is_broken_by_pings,
    a_stop_ends_every_stream,
);

/// One control instance, as far as events go.
struct Instance {
    store: Store,
    hub: Hub,
    sequencer: Sequencer,
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Instance {
    async fn start(db: &TestDb) -> Self {
        let instance = Self::start_beside(db).await;
        let mut state = instance.sequencer.state();
        state.wait_for(|state| *state == LeaseState::Held).await.unwrap();
        instance
    }

    /// Starts without waiting for the lease.
    async fn start_beside(db: &TestDb) -> Self {
        let (store, hub, shutdown) = (db.open().await, Hub::new(), CancellationToken::new());
        let (sequencer, task) =
            sequencer(store.clone(), hub.clone(), Settings::default(), shutdown.clone());
        Self { store, hub, sequencer, task: tokio::spawn(task), shutdown }
    }

    fn watch(&self, after: Option<u64>, call: Option<&Call>) -> impl Stream<Item = Item> + use<> {
        let call = call.map(|call| call.id.clone());
        let watch =
            Watch { tenant: tenant(), after: after.map(Seq), call, run: None, ephemeral: false };
        stream(self.store.clone(), &self.hub, watch, self.shutdown.clone())
    }

    async fn send(&self, node: &str, call: &Call, numbers: std::ops::RangeInclusive<u64>) {
        let receipt = self.sequencer.submit(source(node), turns(numbers, call)).await.unwrap();
        receipt.await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// The place of the next record, whatever else comes in between.
async fn next_seq(stream: &mut (impl Stream<Item = Item> + Unpin)) -> Option<u64> {
    loop {
        match stream.next().await? {
            Item::Record(record) => return Some(record.seq.0),
            Item::Passing(_) | Item::Ping => {}
            Item::Reset(reset) => panic!("{reset:?}"),
            Item::End(_) => return None,
        }
    }
}

/// Makes a stream live: it gets a record, and finds that nothing follows yet.
async fn go_live(
    instance: &Instance,
    call: &Call,
    stream: &mut (impl Stream<Item = Item> + Unpin),
) {
    instance.send("n1", call, 1..=1).await;
    assert_eq!(next_seq(stream).await, Some(1));
    assert_eq!(stream.next().now_or_never(), None);
}

async fn a_client_without_an_id_begins_with_what_happens_next(db: &TestDb) {
    let instance = Instance::start(db).await;
    let call = fresh_call(&instance.store, "c_1").await;
    instance.send("n1", &call, 1..=5).await;
    let mut stream = pin!(instance.watch(None, None));
    begins_behind(5, &mut stream, &instance, &call).await;
    instance.stop().await;
}

/// Sends records while the stream looks for its beginning: whichever it begins with, it is none of
/// the old ones, and all others follow.
async fn begins_behind(
    old: u64,
    stream: &mut (impl Stream<Item = Item> + Unpin),
    instance: &Instance,
    call: &Call,
) {
    let send_more = async {
        for n in old + 1..=60 {
            instance.send("n1", call, n..=n).await;
        }
    };
    let (first, ()) = tokio::join!(next_seq(stream), send_more);
    let first = first.unwrap();
    assert!(first > old, "{first} was there before");
    for expected in first + 1..=60 {
        assert_eq!(next_seq(stream).await, Some(expected));
    }
}

async fn readers_that_come_and_go_under_load_see_each_record_once_in_order(db: &TestDb) {
    const TOTAL: u64 = 3_000;
    let instance = Instance::start(db).await;
    let call = fresh_call(&instance.store, "c_1").await;
    let writer = async {
        for first in (1..=TOTAL).step_by(20) {
            instance.send("n1", &call, first..=first + 19).await;
        }
    };
    let readers =
        futures_util::future::join_all((1..=6).map(|seed| read_all(&instance, seed, TOTAL)));
    let ((), reconnects) = tokio::join!(writer, readers);
    assert!(reconnects.iter().sum::<u32>() > 60, "{reconnects:?}");
    assert_eq!(instance.hub.clients(), 0);
    instance.stop().await;
}

/// Reads everything from the beginning and leaves at random, to come back with the last id seen.
async fn read_all(instance: &Instance, seed: u64, total: u64) -> u32 {
    let mut random = seed;
    let mut seen = 0;
    let mut reconnects = 0;
    while seen < total {
        reconnects += 1;
        let mut stream = pin!(instance.watch(Some(seen), None));
        // Linear congruence is random enough to leave in replay, in the window, and live.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for _ in 0..(random >> 33) % 400 {
            let Some(seq) = next_seq(&mut stream).await else { break };
            assert_eq!(seq, seen + 1, "seed {seed}");
            seen = seq;
            if seen == total {
                break;
            }
        }
    }
    reconnects
}

async fn a_long_replay_comes_in_pages_without_a_gap(db: &TestDb) {
    let instance = Instance::start(db).await;
    let calls =
        [fresh_call(&instance.store, "c_1").await, fresh_call(&instance.store, "c_2").await];
    for first in (1..=1_200).step_by(60) {
        instance.send("n1", &calls[0], first..=first + 59).await;
    }
    instance.send("n2", &calls[1], 1..=1).await;
    let mut all = pin!(instance.watch(Some(0), None));
    for expected in 1..=1_201 {
        assert_eq!(next_seq(&mut all).await, Some(expected));
    }
    let mut one = pin!(instance.watch(Some(0), Some(&calls[0])));
    for expected in 1..=1_200 {
        assert_eq!(next_seq(&mut one).await, Some(expected));
    }
    let mut other = pin!(instance.watch(Some(0), Some(&calls[1])));
    assert_eq!(next_seq(&mut other).await, Some(1_201));
    instance.stop().await;
}

async fn a_filter_passes_one_call_and_keeps_the_place(db: &TestDb) {
    let instance = Instance::start(db).await;
    let wanted = fresh_call(&instance.store, "c_1").await;
    let other = fresh_call(&instance.store, "c_2").await;
    let mut stream = pin!(instance.watch(Some(0), Some(&wanted)));
    for n in 1..=40 {
        instance.send("n1", &wanted, n..=n).await;
        instance.send("n2", &other, n..=n).await;
        if n == 20 {
            // From here on the stream is live; before, it had to read the database.
            for n in 1..=20 {
                assert_eq!(next_seq(&mut stream).await, Some(2 * n - 1));
            }
        }
    }
    for n in 21..=40 {
        assert_eq!(next_seq(&mut stream).await, Some(2 * n - 1));
    }
    instance.stop().await;
}

async fn a_run_is_followed_on_one_stream_from_memory_and_from_the_database(db: &TestDb) {
    let instance = Instance::start(db).await;
    let run = RunId::new("run_1").unwrap();
    let of_run = |id: &str| NewCall { run: Some(run.clone()), ..new_call(id) };
    let watch = |after| {
        let watch =
            Watch { tenant: tenant(), after, call: None, run: Some(run.clone()), ephemeral: false };
        Box::pin(stream(instance.store.clone(), &instance.hub, watch, CancellationToken::new()))
    };
    let first = instance.store.create_call(of_run("c_1"), at(0)).await.unwrap().into_call();
    let alone = fresh_call(&instance.store, "c_2").await;
    let mut live = watch(Some(Seq(0)));
    assert!(next_seq(&mut live).now_or_never().is_none());
    instance.send("n1", &first, 1..=1).await;
    instance.send("n1", &alone, 2..=2).await;
    // One that joins while somebody watches: its first record says so.
    let later = instance.store.create_call(of_run("c_3"), at(0)).await.unwrap().into_call();
    instance.store.begin_stream(&tenant(), &later.id, &node(), at(1)).await.unwrap();
    while instance.store.head(&tenant()).await.unwrap() < Seq(3) {
        tokio::task::yield_now().await;
    }
    instance.send("n1", &later, 3..=3).await;
    instance.send("n1", &first, 4..=4).await;
    for place in [1, 3, 4, 5] {
        assert_eq!(next_seq(&mut live).await, Some(place));
    }
    // Nobody watches: the window is gone, and all comes from the database.
    drop(live);
    let mut replayed = watch(Some(Seq(1)));
    for place in [3, 4, 5] {
        assert_eq!(next_seq(&mut replayed).await, Some(place));
    }
    drop(replayed);
    instance.stop().await;
}

async fn a_client_that_falls_behind_is_sent_away_and_resumes(db: &TestDb) {
    let instance = Instance::start(db).await;
    let call = fresh_call(&instance.store, "c_1").await;
    let mut slow = Box::pin(instance.watch(Some(0), None));
    go_live(&instance, &call, &mut slow).await;
    for first in (2..=401).step_by(50) {
        instance.send("n1", &call, first..=first + 49).await;
    }
    assert_eq!(slow.next().await, Some(Item::End(End::TooSlow)));
    assert_eq!(slow.next().await, None);
    drop(slow);
    let mut resumed = pin!(instance.watch(Some(1), None));
    for expected in 2..=401 {
        assert_eq!(next_seq(&mut resumed).await, Some(expected));
    }
    instance.stop().await;
}

async fn an_id_from_another_database_is_a_break(db: &TestDb) {
    let instance = Instance::start(db).await;
    let call = fresh_call(&instance.store, "c_1").await;
    instance.send("n1", &call, 1..=3).await;
    let mut stream = pin!(instance.watch(Some(99), None));
    let reset = Reset { after: Seq(99), resumes_after: Seq(3), because: Because::UnknownId };
    assert_eq!(stream.next().await, Some(Item::Reset(reset)));
    begins_behind(3, &mut stream, &instance, &call).await;
    instance.stop().await;
}

async fn an_instance_without_the_lease_streams_what_the_holder_commits(db: &TestDb) {
    let holder = Instance::start(db).await;
    // A private database is taken over by whoever opens it; there, the old holder is the follower.
    let beside = Instance::start_beside(db).await;
    let (holder, follower) = match db {
        TestDb::Postgres(_) => (holder, beside),
        TestDb::Sqlite(_) => {
            let mut state = beside.sequencer.state();
            state.wait_for(|state| *state == LeaseState::Held).await.unwrap();
            (beside, holder)
        }
    };
    let call = fresh_call(&holder.store, "c_1").await;
    if let TestDb::Sqlite(_) = db {
        // It learns that it has lost the lease when it next has something to write.
        let lost = follower.sequencer.submit(source("n9"), turns(1..=1, &call)).await.unwrap();
        let mut state = follower.sequencer.state();
        state.wait_for(|state| *state == LeaseState::Waiting).await.unwrap();
        drop(lost);
    }
    let mut stream = Box::pin(follower.watch(Some(0), None));
    for n in 1..=4 {
        holder.send("n1", &call, n..=n).await;
        assert_eq!(next_seq(&mut stream).await, Some(n));
    }
    follower.stop().await;
    holder.stop().await;
}

async fn words_for_the_moment_are_for_who_wants_them_and_come_after_records(db: &TestDb) {
    let instance = Instance::start(db).await;
    let call = fresh_call(&instance.store, "c_1").await;
    let other = fresh_call(&instance.store, "c_2").await;
    let (after, of_call) = (Some(Seq(0)), Some(call.id.clone()));
    let watch = Watch { tenant: tenant(), after, call: of_call, run: None, ephemeral: true };
    let forever = CancellationToken::new();
    let mut wanting = Box::pin(stream(instance.store.clone(), &instance.hub, watch, forever));
    let mut plain = pin!(instance.watch(Some(0), None));
    go_live(&instance, &call, &mut wanting).await;
    instance.hub.pass(&[said(&other, "Not asked for."), said(&call, "Are you open?")]);
    instance.send("n1", &call, 2..=2).await;
    let Some(Item::Record(record)) = wanting.next().await else { panic!("records go first") };
    assert_eq!(record.seq, Seq(2));
    let Some(Item::Passing(words)) = wanting.next().await else { panic!("then the rest") };
    assert!(words.call == call.id && words.json.contains("Are you open?"), "{}", words.json);
    assert_eq!(wanting.next().now_or_never(), None);
    for expected in 1..=2 {
        let Some(Item::Record(record)) = plain.next().await else { panic!("only records") };
        assert_eq!(record.seq, Seq(expected));
    }
    assert_eq!(plain.next().now_or_never(), None);
    instance.stop().await;
}

async fn silence_is_broken_by_pings(db: &TestDb) {
    let instance = Instance::start(db).await;
    let call = fresh_call(&instance.store, "c_1").await;
    let watch =
        Watch { tenant: tenant(), after: Some(Seq(0)), call: None, run: None, ephemeral: false };
    let forever = CancellationToken::new();
    let mut stream = Box::pin(stream(instance.store.clone(), &instance.hub, watch, forever));
    go_live(&instance, &call, &mut stream).await;
    instance.stop().await;
    // Nothing asks the database any more, so time may be passed in one step.
    tokio::time::pause();
    for _ in 0..3 {
        assert_eq!(stream.next().await, Some(Item::Ping));
    }
}

async fn a_stop_ends_every_stream(db: &TestDb) {
    let instance = Instance::start(db).await;
    let mut streams = [instance.watch(None, None), instance.watch(Some(0), None)].map(Box::pin);
    assert_eq!(streams[0].next().now_or_never(), None);
    instance.shutdown.cancel();
    for stream in &mut streams {
        assert_eq!(stream.next().await, Some(Item::End(End::Shutdown)));
        assert_eq!(stream.next().await, None);
    }
    drop(streams);
    assert_eq!(instance.hub.clients(), 0);
    instance.stop().await;
}

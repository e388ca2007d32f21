//! The queue of outbound calls, on both engines: who is dialled next, and what becomes of it.

use std::time::Duration;

use control::dialer::plan::{Missed, Plan, Retry};
use control::store::call::{Call, CallEnd, CallState, CarrierWord, Direction, NewCall, Number};
use control::store::dials::{Dial, DialState, NewDial};
use control::store::{Bounds, Claimed, Ending, Health, Pacing, Store, Times};
use futures_util::future::join_all;
use link::id::{TenantId, WallTime};

use super::db::{
    TestDb, at, carrier, kinds, ledger, new_call, node, on_both, source, stream_started, tenant,
};

on_both!(
    a_call_is_taken_once_by_whoever_comes_first,
    an_account_and_a_number_keep_their_pace_over_all_instances,
    slots_are_free_again_when_calls_end,
    a_long_list_does_not_hold_up_another_number,
    what_was_asked_and_not_answered_is_looked_for_by_one,
    a_name_belongs_to_the_time_that_was_asked,
    a_missed_call_is_dialled_again_as_often_as_wanted,
    a_call_that_has_ended_is_not_dialled,
    a_call_whose_turn_does_not_come_is_late,
    an_account_that_fails_is_left_alone_and_then_tried_with_one_call,
    a_call_that_is_not_to_be_dialled_yet_waits,
);

fn pacing() -> Pacing {
    Pacing {
        account_every: Duration::ZERO,
        number_every: Duration::ZERO,
        lease: Duration::from_secs(45),
        ..Pacing::default()
    }
}

fn from(number: &str) -> impl Fn(NewCall) -> NewCall {
    let from = Number(number.into());
    move |new| NewCall { from: from.clone(), ..new }
}

async fn queued(store: &Store, id: &str, change: impl Fn(NewCall) -> NewCall) -> Call {
    planned(store, id, change, Plan { within_s: 600, ..Plan::default() }).await
}

async fn planned(store: &Store, id: &str, change: impl Fn(NewCall) -> NewCall, plan: Plan) -> Call {
    let new = NewCall { carrier: None, direction: Direction::Outbound, ..new_call(id) };
    let dial = NewDial {
        account: "AC1".into(),
        until: at(i64::from(plan.within_s)),
        not_before: WallTime(0),
        plan,
    };
    store.enqueue(change(new), dial, None, at(0)).await.unwrap()
}

fn names(dials: &[Dial]) -> Vec<&str> {
    dials.iter().map(|dial| dial.call.as_str()).collect()
}

async fn claim(store: &Store, pacing: &Pacing, second: i64) -> Claimed {
    store.claim(pacing, 16, at(second)).await.unwrap()
}

fn word(status: &str, over: CallEnd) -> CarrierWord {
    CarrierWord { status: status.into(), seq: Some(3), over: Some(over) }
}

async fn a_call_is_taken_once_by_whoever_comes_first(db: &TestDb) {
    let stores = [db.open().await, db.open().await, db.open().await];
    for n in 0..12 {
        queued(&stores[0], &format!("c_{n:02}"), |new| new).await;
    }
    let pacing = pacing();
    let takes = (0..9).map(|n| {
        let (store, pacing) = (&stores[n % 3], &pacing);
        async move { store.claim(pacing, 3, at(1)).await.unwrap().ask }
    });
    let mut taken: Vec<Dial> = join_all(takes).await.into_iter().flatten().collect();
    taken.sort_by(|a, b| a.call.cmp(&b.call));
    let wanted: Vec<_> = (0..12).map(|n| format!("c_{n:02}")).collect();
    assert_eq!(names(&taken), wanted);
    assert!(taken.iter().all(|dial| dial.attempt == 1 && dial.state == DialState::Asking));
    assert!(names(&claim(&stores[1], &pacing, 2).await.ask).is_empty());
}

async fn an_account_and_a_number_keep_their_pace_over_all_instances(db: &TestDb) {
    let (one, two) = (db.open().await, db.open().await);
    for n in 0..3 {
        queued(&one, &format!("c_a{n}"), from("+15550100")).await;
        queued(&one, &format!("c_b{n}"), from("+15550109")).await;
    }
    // Two a second for the account, one a second for each number.
    let pacing = Pacing {
        account_every: Duration::from_millis(500),
        number_every: Duration::from_secs(1),
        ..pacing()
    };
    let first = claim(&one, &pacing, 10).await;
    assert_eq!((names(&first.ask), first.next), (vec!["c_a0"], Some(at(10).plus_us(500_000))));
    assert!(names(&claim(&two, &pacing, 10).await.ask).is_empty());
    let half = two.claim(&pacing, 16, at(10).plus_us(500_000)).await.unwrap();
    assert_eq!((names(&half.ask), half.next), (vec!["c_b0"], Some(at(11))));
    assert_eq!(names(&claim(&one, &pacing, 11).await.ask), ["c_a1"]);
    // A pause is not caught up with.
    let late = claim(&two, &pacing, 30).await;
    assert_eq!((late.ask.len(), late.next), (1, Some(at(30).plus_us(500_000))));
}

async fn slots_are_free_again_when_calls_end(db: &TestDb) {
    let store = db.open().await;
    for n in 0..4 {
        queued(&store, &format!("c_{n}"), |new| new).await;
    }
    let pacing = Pacing { account_slots: 2, ..pacing() };
    let first = claim(&store, &pacing, 1).await;
    assert_eq!(names(&first.ask), ["c_0", "c_1"]);
    let ids: Vec<_> = first.ask.iter().map(|dial| dial.call.clone()).collect();
    store.name_call(&tenant(), &ids[0], Some(1), carrier("CA0"), at(2)).await.unwrap();
    assert!(claim(&store, &pacing, 3).await.ask.is_empty(), "a placed call holds its slot");
    // One ends by its stream, in the sequencer's transaction.
    let call = store.call(&tenant(), &ids[0]).await.unwrap().unwrap();
    store.begin_stream(&tenant(), &ids[0], &node(), at(3)).await.unwrap();
    let events = vec![
        super::db::event(1, &call, 0, stream_started()),
        super::db::event(2, &call, 0, super::db::ending(link::event::EndReason::AgentHungUp)),
    ];
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[(source("n1"), events)]).await.unwrap();
    assert_eq!(names(&claim(&store, &pacing, 4).await.ask), ["c_2"]);
    // The other one by a word of the API.
    let end = Ending { reason: CallEnd::Canceled, detail: None };
    store.end_call(&tenant(), &ids[1], end, at(5)).await.unwrap();
    assert_eq!(names(&claim(&store, &pacing, 5).await.ask), ["c_3"]);
    assert_eq!(store.dial(&tenant(), &ids[0]).await.unwrap(), None);
    let two = Bounds { slots: 2, ..Bounds::default() };
    let tenants = Pacing { tenants: [(tenant(), two)].into(), ..self::pacing() };
    queued(&store, "c_4", |new| new).await;
    assert!(claim(&store, &tenants, 6).await.ask.is_empty(), "its tenant has two");
}

async fn a_long_list_does_not_hold_up_another_number(db: &TestDb) {
    let store = db.open().await;
    for n in 0..300 {
        queued(&store, &format!("c_a{n:03}"), from("+15550100")).await;
    }
    queued(&store, "c_b", from("+15550109")).await;
    let pacing = Pacing { number_every: Duration::from_secs(1), ..pacing() };
    assert_eq!(names(&claim(&store, &pacing, 1).await.ask), ["c_a000", "c_b"]);
}

async fn what_was_asked_and_not_answered_is_looked_for_by_one(db: &TestDb) {
    let (one, two) = (db.open().await, db.open().await);
    let call = queued(&one, "c_1", |new| new).await;
    let pacing = pacing();
    assert_eq!(claim(&one, &pacing, 10).await.ask.len(), 1);
    let before = claim(&two, &pacing, 54).await;
    assert!(before.look.is_empty() && before.ask.is_empty(), "its lease lasts 45 s");
    assert_eq!(before.next, Some(at(55)));
    let looked = claim(&two, &pacing, 55).await;
    assert_eq!((names(&looked.look), looked.ask.len()), (vec!["c_1"], 0));
    let dial = &looked.look[0];
    assert_eq!((dial.state, dial.asked_at), (DialState::Unsure, Some(at(10))));
    assert!(claim(&one, &pacing, 56).await.look.is_empty(), "one looks");
    // It was not there: it is dialled again, as another time.
    two.move_dial(dial, DialState::Waiting, at(60)).await.unwrap();
    let again = claim(&one, &pacing, 60).await;
    assert_eq!((names(&again.ask), again.ask[0].attempt), (vec!["c_1"], 2));
    // Whoever had it before has no say any more.
    two.move_dial(dial, DialState::Waiting, at(60)).await.unwrap();
    let stored = one.dial(&tenant(), &call.id).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.attempt), (DialState::Asking, 2));
}

async fn a_name_belongs_to_the_time_that_was_asked(db: &TestDb) {
    let store = db.open().await;
    let call = queued(&store, "c_1", |new| new).await;
    let name = async |attempt, sid| {
        let named = store.name_call(&tenant(), &call.id, attempt, carrier(sid), at(2)).await;
        named.unwrap().unwrap().carrier
    };
    assert_eq!(name(Some(1), "CA1").await, None, "it was not asked for yet");
    claim(&store, &pacing(), 1).await;
    assert_eq!(name(None, "CA1").await, None);
    assert_eq!(name(Some(2), "CA1").await, None);
    assert_eq!(name(Some(1), "CA1").await, Some(carrier("CA1")));
    assert_eq!(name(Some(1), "CA2").await, Some(carrier("CA1")), "the first name stands");
    let dial = store.dial(&tenant(), &call.id).await.unwrap().unwrap();
    assert_eq!(dial.state, DialState::Placed);
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[]).await.unwrap();
    assert_eq!(kinds(&store).await, ["call.queued", "call.dialled"]);
}

async fn a_missed_call_is_dialled_again_as_often_as_wanted(db: &TestDb) {
    let store = db.open().await;
    let retry = Retry { on: vec![Missed::Busy, Missed::NoAnswer], times: 2, after_s: 60 };
    let plan = Plan { retry, within_s: 600, ..Plan::default() };
    let call = planned(&store, "c_1", |new| new, plan).await;
    let mut second = 1;
    for (attempt, status, over) in [
        (1, "busy", CallEnd::Busy),
        (2, "no-answer", CallEnd::NoAnswer),
        (3, "busy", CallEnd::Busy),
    ] {
        let claimed = claim(&store, &pacing(), second).await;
        assert_eq!(names(&claimed.ask), ["c_1"], "at {second}");
        let carrier = carrier(&format!("CA{attempt}"));
        let name = async || {
            let (tenant, carrier) = (tenant(), carrier.clone());
            let named = store.name_call(&tenant, &call.id, Some(attempt), carrier, at(second));
            named.await.unwrap().unwrap()
        };
        name().await;
        // The word may come twice.
        for _ in 0..2 {
            store.carrier_word(&tenant(), &carrier, &word(status, over), at(second)).await.unwrap();
        }
        if attempt < 3 {
            let dial = store.dial(&tenant(), &call.id).await.unwrap().unwrap();
            assert_eq!((dial.state, dial.due_at), (DialState::Waiting, at(second + 60)));
            assert_eq!(dial.tries, attempt);
            assert!(claim(&store, &pacing(), second + 59).await.ask.is_empty());
            // A late word on the old call does not make it this one's.
            assert_eq!(name().await.carrier, None);
        }
        second += 60;
    }
    let call = store.call(&tenant(), &call.id).await.unwrap().unwrap();
    assert_eq!((call.state, call.end_reason.as_deref()), (CallState::Ended, Some("busy")));
    assert_eq!(store.dial(&tenant(), &call.id).await.unwrap(), None);
    let mut ledger = ledger(&store, Times::default()).await;
    ledger.write(&[]).await.unwrap();
    let wanted = [
        "call.queued",
        "call.dialled",
        "call.retrying",
        "call.dialled",
        "call.retrying",
        "call.dialled",
        "call.ended",
    ];
    assert_eq!(kinds(&store).await, wanted);
    let records = store.events_after(&tenant(), Default::default(), None, 9).await.unwrap();
    let retrying: serde_json::Value = serde_json::from_str(&records[4].data).unwrap();
    assert_eq!((&retrying["after"], &retrying["try"]), (&"no_answer".into(), &3.into()));
}

async fn a_call_that_has_ended_is_not_dialled(db: &TestDb) {
    let store = db.open().await;
    let (one, two) =
        (queued(&store, "c_1", |new| new).await, queued(&store, "c_2", |new| new).await);
    let end = Ending { reason: CallEnd::Canceled, detail: None };
    store.end_call(&tenant(), &one.id, end, at(1)).await.unwrap();
    assert_eq!(names(&claim(&store, &pacing(), 1).await.ask), ["c_2"]);
    store.end_call(&tenant(), &two.id, end, at(2)).await.unwrap();
    assert_eq!(claim(&store, &pacing(), 999).await.next, None, "nothing is left behind");
    // The carrier's answer comes after the end, and the call must still be ended there.
    let named = store.name_call(&tenant(), &two.id, Some(1), carrier("CA2"), at(3)).await.unwrap();
    let named = named.unwrap();
    assert_eq!((named.state, named.carrier), (CallState::Ended, Some(carrier("CA2"))));
}

async fn a_call_whose_turn_does_not_come_is_late(db: &TestDb) {
    let store = db.open().await;
    queued(&store, "c_1", |new| new).await;
    let pacing = Pacing { account_slots: 0, ..pacing() };
    let waiting = claim(&store, &pacing, 599).await;
    assert!(waiting.late.is_empty() && waiting.ask.is_empty());
    assert_eq!(waiting.next, Some(at(600)));
    let late = claim(&store, &pacing, 600).await;
    assert_eq!((names(&late.late), late.ask.len()), (vec!["c_1"], 0));
}

async fn an_account_that_fails_is_left_alone_and_then_tried_with_one_call(db: &TestDb) {
    let store = db.open().await;
    for n in 0..4 {
        queued(&store, &format!("c_{n}"), |new| new).await;
    }
    let health =
        async |health, second| store.account_health("AC1", health, at(second)).await.unwrap();
    for _ in 0..4 {
        health(Health::Failed, 10).await;
    }
    let pacing = pacing();
    assert_eq!(store.claim(&pacing, 1, at(10)).await.unwrap().ask.len(), 1, "four are too few");
    health(Health::Failed, 10).await;
    let closed = claim(&store, &pacing, 14).await;
    assert!(closed.ask.is_empty());
    assert_eq!(closed.next, Some(at(15)), "five seconds first");
    assert_eq!(claim(&store, &pacing, 15).await.ask.len(), 1, "one is tried");
    health(Health::Failed, 16).await;
    assert!(claim(&store, &pacing, 25).await.ask.is_empty(), "twice as long");
    assert_eq!(claim(&store, &pacing, 26).await.ask.len(), 1);
    health(Health::Fine, 27).await;
    assert_eq!(claim(&store, &pacing, 27).await.ask.len(), 1, "all that is left");
}

async fn a_call_that_is_not_to_be_dialled_yet_waits(db: &TestDb) {
    let store = db.open().await;
    let new = NewCall { carrier: None, direction: Direction::Outbound, ..new_call("c_1") };
    let plan = Plan { within_s: 600, ..Plan::default() };
    let dial =
        NewDial { account: "AC1".into(), until: at(900), not_before: at(300), plan: plan.clone() };
    store.enqueue(new, dial, None, at(0)).await.unwrap();
    let early = claim(&store, &pacing(), 299).await;
    assert!(early.ask.is_empty());
    assert_eq!(early.next, Some(at(300)));
    let due = claim(&store, &pacing(), 300).await;
    assert_eq!((names(&due.ask), &due.ask[0].plan), (vec!["c_1"], &plan));
    let nobody = TenantId::new("other").unwrap();
    assert_eq!(store.dial(&nobody, &due.ask[0].call).await.unwrap(), None);
}

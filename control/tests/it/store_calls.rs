//! Calls in the store: found again, resumed, ended once, listed.

use control::store::call::{
    Begin, Call, CallEnd, CallState, CarrierWord, Created, Cursor, Direction, Filter, NewCall,
    Number, Resume,
};
use control::store::{Ending, Times};
use futures_util::future::join_all;
use link::event::{CallEvent, EndReason};
use link::id::{AgentName, CallId, Gen, NodeId, RunId, TenantId, WallTime};

use super::db::{
    TestDb, at, carrier, event, fresh_call, ledger, new_call, node, on_both, source, started_call,
    tenant, transferring,
};

on_both!(
    the_same_webhook_twice_gives_the_same_call,
    webhooks_at_once_give_one_call,
    an_outbound_call_is_found_by_the_name_that_the_carrier_gives_it,
    a_repeated_first_question_keeps_the_generation,
    three_resumes_within_a_minute_and_no_more,
    resumes_at_once_get_generations_of_their_own,
    a_resume_without_a_node_changes_nothing,
    an_ended_call_hangs_up_and_keeps_its_first_reason,
    a_transfer_dials_even_when_asked_again,
    the_carriers_last_word_ends_a_call_and_older_ones_change_nothing,
    the_list_shows_each_call_once_newest_first,
    a_filter_lets_through_what_it_names_and_nothing_else,
    a_stored_call_comes_back_whole,
    usage_is_counted_by_day_and_direction,
);

async fn the_same_webhook_twice_gives_the_same_call(db: &TestDb) {
    let store = db.open().await;
    let first = fresh_call(&store, "c_1").await;
    let repeated = NewCall { id: CallId::new("c_2").unwrap(), ..new_call("c_1") };
    let second = store.create_call(repeated, at(9)).await.unwrap();
    assert_eq!(second, Created::Known(Box::new(first)));
    assert_eq!(store.call(&tenant(), &CallId::new("c_2").unwrap()).await.unwrap(), None);
}

async fn webhooks_at_once_give_one_call(db: &TestDb) {
    let store = db.open().await;
    let webhooks = (0..6).map(|i| {
        let id = CallId::new(format!("c_{i}")).unwrap();
        store.create_call(NewCall { id, ..new_call("same") }, at(0))
    });
    let created: Vec<_> = join_all(webhooks).await.into_iter().map(Result::unwrap).collect();
    let fresh = created.iter().filter(|created| matches!(created, Created::Fresh(_))).count();
    assert_eq!(fresh, 1);
    let ids: Vec<_> = created.into_iter().map(|created| created.into_call().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

async fn an_outbound_call_is_found_by_the_name_that_the_carrier_gives_it(db: &TestDb) {
    let store = db.open().await;
    for id in ["c_1", "c_2"] {
        store.create_call(NewCall { carrier: None, ..new_call(id) }, at(0)).await.unwrap();
    }
    let id = CallId::new("c_1").unwrap();
    assert_eq!(store.call_by_carrier(&tenant(), &carrier("CA9")).await.unwrap(), None);
    let name =
        async |sid| store.name_call(&tenant(), &id, None, carrier(sid), at(1)).await.unwrap();
    name("CA9").await.unwrap();
    let again = name("CA10").await.unwrap();
    assert_eq!(again.carrier, Some(carrier("CA9")));
    let found = store.call_by_carrier(&tenant(), &carrier("CA9")).await.unwrap().unwrap();
    assert_eq!(found.id, id);
}

async fn a_repeated_first_question_keeps_the_generation(db: &TestDb) {
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    for node in ["n1", "n2"] {
        let node = NodeId::new(node).unwrap();
        let begun = store.begin_stream(&call.tenant, &call.id, &node, at(1)).await.unwrap();
        let Begin::Stream(begun) = begun else { panic!("{begun:?}") };
        assert_eq!((begun.generation, begun.node), (Gen(0), Some(node)));
        assert_eq!(begun.state, CallState::Starting);
    }
    let nobody = CallId::new("c_9").unwrap();
    let begun = store.begin_stream(&tenant(), &nobody, &node(), at(1)).await.unwrap();
    assert_eq!(begun, Begin::Unknown);
}

async fn three_resumes_within_a_minute_and_no_more(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let resume = |second| {
        let (store, call) = (&store, &call);
        async move { store.resume(&call.tenant, &call.id, Some(&node()), at(second)).await.unwrap() }
    };
    for (second, generation) in [(0, 1), (40, 2), (50, 3), (61, 4)] {
        let Resume::Reconnect(call) = resume(second).await else { panic!("at {second}") };
        assert_eq!(call.generation, Gen(generation));
    }
    assert_eq!(resume(99).await, Resume::TooMany);
    assert_eq!(resume(500).await, Resume::HangUp);
    let ended = store.call(&call.tenant, &call.id).await.unwrap().unwrap();
    assert_eq!(ended.end_reason.as_deref(), Some("too_many_resumes"));
}

async fn resumes_at_once_get_generations_of_their_own(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let call = started_call(&stores[0], "c_1").await;
    let node = node();
    let asked = (0..5).map(|i| stores[i % 2].resume(&call.tenant, &call.id, Some(&node), at(5)));
    let mut generations = Vec::new();
    let mut others = Vec::new();
    for answer in join_all(asked).await {
        let answer = answer.unwrap();
        if let Resume::Reconnect(call) = answer {
            generations.push(call.generation.0);
        } else {
            others.push(answer);
        }
    }
    generations.sort_unstable();
    assert_eq!(generations, [1, 2, 3]);
    assert!(others.contains(&Resume::TooMany) && others.contains(&Resume::HangUp), "{others:?}");
}

async fn a_resume_without_a_node_changes_nothing(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let answer = store.resume(&call.tenant, &call.id, None, at(5)).await.unwrap();
    assert_eq!(answer, Resume::NoNode);
    assert_eq!(store.call(&call.tenant, &call.id).await.unwrap(), Some(call));
}

async fn an_ended_call_hangs_up_and_keeps_its_first_reason(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    for (reason, detail) in [
        (CallEnd::Stream(EndReason::AgentRefused), Some("insufficient_quota")),
        (CallEnd::Canceled, None),
    ] {
        let ending = Ending { reason, detail };
        store.end_call(&call.tenant, &call.id, ending, at(5)).await.unwrap().unwrap();
    }
    let ended = store.call(&call.tenant, &call.id).await.unwrap().unwrap();
    assert_eq!(ended.end_reason.as_deref(), Some("agent_refused"));
    assert_eq!(ended.end_detail.as_deref(), Some("insufficient_quota"));
    assert_eq!(ended.ended_at, Some(at(5)));
    let answer = store.resume(&call.tenant, &call.id, Some(&node()), at(6)).await.unwrap();
    assert_eq!(answer, Resume::HangUp);
    let begun = store.begin_stream(&call.tenant, &call.id, &node(), at(7)).await.unwrap();
    assert_eq!(begun, Begin::HangUp);
}

async fn a_transfer_dials_even_when_asked_again(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let events = vec![event(1, &call, 0, transferring("+15550199"))];
    ledger(&store, Times::default()).await.write(&[(source("n1"), events)]).await.unwrap();
    for second in [5, 6] {
        let answer = store.resume(&call.tenant, &call.id, Some(&node()), at(second)).await;
        let Resume::Transfer(call) = answer.unwrap() else { panic!("no transfer") };
        assert_eq!(call.transfer_to, Some(Number("+15550199".into())));
        assert_eq!((call.state, call.ended_at), (CallState::Transferred, None));
    }
    let begun = store.begin_stream(&call.tenant, &call.id, &node(), at(7)).await.unwrap();
    assert!(matches!(begun, Begin::Transfer(_)), "{begun:?}");
    let end = Ending { reason: CallEnd::Stream(EndReason::CallerHungUp), detail: Some("busy") };
    for _ in 0..2 {
        let over = store.phone_over(&call.tenant, &call.id, end, at(9)).await.unwrap().unwrap();
        assert_eq!((over.state, over.ended_at), (CallState::Ended, Some(at(9))));
        assert_eq!(over.end_reason.as_deref(), Some("transferred"));
        assert_eq!(over.end_detail.as_deref(), Some("busy"));
    }
    let answer = store.resume(&call.tenant, &call.id, Some(&node()), at(10)).await.unwrap();
    assert_eq!(answer, Resume::HangUp);
}

async fn the_carriers_last_word_ends_a_call_and_older_ones_change_nothing(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let over = Some(CallEnd::Stream(EndReason::CallerHungUp));
    let words = [("in-progress", 2, None), ("ringing", 1, None), ("completed", 3, over)];
    for (status, seq, over) in words {
        let word = CarrierWord { status: status.into(), seq: Some(seq), over };
        let known = store.carrier_word(&call.tenant, &carrier("CA-c_1"), &word, at(seq)).await;
        known.unwrap().unwrap();
    }
    let ended = store.call(&call.tenant, &call.id).await.unwrap().unwrap();
    assert_eq!(ended.end_reason.as_deref(), Some("caller_hung_up"));
    assert_eq!(ended.carrier_status.as_deref(), Some("completed"));
    assert_eq!(ended.ended_at, Some(at(3)));
}

async fn the_list_shows_each_call_once_newest_first(db: &TestDb) {
    let store = db.open().await;
    // Two calls a second, so that pages also end between calls of one moment.
    for i in 0..11 {
        store.create_call(new_call(&format!("c_{i:02}")), at(i / 2)).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.calls(&tenant(), &Filter::default(), after.as_ref(), 3).await.unwrap();
        seen.extend(page.calls.into_iter().map(|call| call.id.to_string()));
        // A call that comes in between belongs before the first page, not into the next.
        store.create_call(new_call(&format!("late_{}", seen.len())), at(99)).await.unwrap();
        match page.next {
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None => break,
        }
    }
    let expected: Vec<String> = (0..11).rev().map(|i| format!("c_{i:02}")).collect();
    assert_eq!(seen, expected);
}

async fn a_filter_lets_through_what_it_names_and_nothing_else(db: &TestDb) {
    let store = db.open().await;
    let run = RunId::new("run_1").unwrap();
    for i in 0..6 {
        let plain = new_call(&format!("c_{i}"));
        let new = match i {
            1 => NewCall { run: Some(run.clone()), ..plain },
            2 => NewCall { direction: Direction::Outbound, carrier: None, ..plain },
            3 => NewCall { agent: AgentName::new("sales").unwrap(), ..plain },
            4 => NewCall { from: Number("+15550177".into()), ..plain },
            5 => NewCall { to: Number("+15550188".into()), run: Some(run.clone()), ..plain },
            _ => plain,
        };
        store.create_call(new, at(i)).await.unwrap();
    }
    let begun = CallId::new("c_0").unwrap();
    store.begin_stream(&tenant(), &begun, &node(), at(9)).await.unwrap();
    let all = Filter::default();
    for (filter, expected) in [
        (Filter { run: Some(run.clone()), ..all.clone() }, "c_5 c_1"),
        (Filter { state: Some(CallState::Starting), ..all.clone() }, "c_0"),
        (Filter { direction: Some(Direction::Outbound), ..all.clone() }, "c_2"),
        (Filter { agent: Some(AgentName::new("sales").unwrap()), ..all.clone() }, "c_3"),
        (Filter { from: Some(Number("+15550177".into())), ..all.clone() }, "c_4"),
        (Filter { to: Some(Number("+15550188".into())), ..all.clone() }, "c_5"),
        (Filter { since: Some(at(4)), ..all.clone() }, "c_5 c_4"),
        (Filter { until: Some(at(2)), ..all.clone() }, "c_1 c_0"),
        (Filter { run: Some(run), since: Some(at(2)), until: Some(at(5)), ..all.clone() }, ""),
        (all, "c_5 c_4 c_3 c_2 c_1 c_0"),
    ] {
        // Pages of one, so that the filter and the cursor meet.
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.calls(&tenant(), &filter, after.as_ref(), 1).await.unwrap();
            seen.extend(page.calls.iter().map(|call: &Call| call.id.to_string()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.join(" "), expected, "{filter:?}");
    }
}

async fn a_stored_call_comes_back_whole(db: &TestDb) {
    let store = db.open().await;
    let made = fresh_call(&store, "c_1").await;
    assert_eq!(store.call(&tenant(), &made.id).await.unwrap(), Some(made.clone()));
    let Resume::Reconnect(changed) =
        store.resume(&tenant(), &made.id, Some(&node()), at(7)).await.unwrap()
    else {
        panic!("a queued call can be resumed")
    };
    assert_eq!(store.call(&tenant(), &made.id).await.unwrap(), Some(*changed));
}

async fn usage_is_counted_by_day_and_direction(db: &TestDb) {
    let store = db.open().await;
    let day = 24 * 3_600 * 1_000_000;
    let on = |number: i64| WallTime(number * day);
    store.create_call(new_call("c_1"), on(20_785)).await.unwrap();
    store.create_call(new_call("c_2"), on(20_784)).await.unwrap();
    let outbound = NewCall { direction: Direction::Outbound, ..new_call("c_3") };
    store.create_call(outbound, on(20_784)).await.unwrap();
    let call = started_call(&store, "c_4").await;
    let mut ledger = ledger(&store, Times::default()).await;
    let said = [event(1, &call, 0, CallEvent::StreamStarted { stream_sid: "MZ1".into() })];
    ledger.write(&[(source("n1"), said.into())]).await.unwrap();

    // The events of `db.rs` happen at 10:00 on day 20781; that call is still talking at noon.
    let noon = WallTime(20_781 * day + day / 2);
    let usage = store.usage(&tenant(), (20_781, 20_781), noon).await.unwrap();
    let [talking] = &usage[..] else { panic!("{usage:?}") };
    assert_eq!((talking.calls, talking.answered), (1, 1));
    assert!(talking.talk_us > 3_600_000_000 && talking.talk_us < day.unsigned_abs(), "{usage:?}");

    let usage = store.usage(&tenant(), (20_784, 20_785), noon).await.unwrap();
    let days: Vec<_> = usage.iter().map(|it| (it.day, it.inbound, it.calls, it.talk_us)).collect();
    assert_eq!(days, [(20_784, true, 1, 0), (20_784, false, 1, 0), (20_785, true, 1, 0)]);
    let nobody = TenantId::new("nobody").unwrap();
    assert!(store.usage(&nobody, (0, 30_000), noon).await.unwrap().is_empty());
}

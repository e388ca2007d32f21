//! Thousands of short calls, half of them refused, leave the process where it was.
//!
//! `SHORT_CALLS=20000 cargo test --release -p linecard-relay --test it short_calls -- --nocapture`
//! does it at length, and prints what the process had before and after.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use futures_util::future::join_all;

use crate::process_rig::{Alone, Model, Relay, start, voice};

/// Calls at a time.
const HERD: u64 = 50;

/// A herd of calls: each second one brings no ticket and is refused, the others say something and
/// hang up.
async fn herd(alone: &Alone, relay: &Relay) {
    join_all((0..HERD).map(async |n| {
        let mut carrier = relay.open(None).await.unwrap();
        if n % 2 == 0 {
            carrier.say(&start("none")).await;
            assert_eq!(carrier.closed().await, 1008);
            return;
        }
        carrier.say(&start(&alone.ticket(|_| {}))).await;
        for chunk in 1..=3 {
            carrier.say(&voice(chunk)).await;
        }
        carrier.hang_up().await;
        carrier.closed().await;
    }))
    .await;
    relay.until_metric("relay_calls 0").await;
}

async fn health(relay: &Relay) -> serde_json::Value {
    serde_json::from_str(&relay.ask("/health").await.1).unwrap()
}

/// Resident bytes, once nothing of a call is left.
async fn resident(relay: &Relay) -> u64 {
    relay.until_metric("relay_sockets_open{leg=\"agent\"} 0").await;
    relay.resident()
}

#[tokio::test]
async fn short_calls_leave_the_process_where_it_was() {
    let asked = std::env::var("SHORT_CALLS").ok();
    let calls: u64 = asked.as_deref().map_or(1_000, |calls| calls.parse().unwrap());
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_SHARDS", "2");
    alone.set("RELAY_LOG", "warn");
    let relay = alone.start().await;
    // Buffers, pools and tables find their size.
    for _ in 0..4 {
        herd(&alone, &relay).await;
    }
    let before = resident(&relay).await;
    for _ in 0..calls / HERD {
        herd(&alone, &relay).await;
    }
    let after = resident(&relay).await;
    let now = health(&relay).await;
    println!("{calls} calls: {before} bytes before, {after} after; {now}");

    assert_eq!(now["calls_carried"], 0);
    // They are remembered for as long as they could be used again, and no longer.
    assert!(now["tickets_remembered"].as_u64().unwrap() <= (calls + 4 * HERD) / 2);
    let tickets = 100 * now["tickets_remembered"].as_u64().unwrap();
    let grown = after.saturating_sub(before).saturating_sub(tickets);
    // A leak of 2 KiB a call would be seen; an allocator that holds a page more would not.
    assert!(grown < (1 << 20) + calls * 1_024, "{grown} bytes more than before");
}

#[tokio::test]
async fn a_call_takes_no_more_memory_than_the_architecture_says() {
    let model = Model::start().await;
    let mut alone = Alone::new(model.address);
    alone.set("RELAY_SHARDS", "1");
    alone.set("RELAY_LOG", "warn");
    let relay = alone.start().await;
    let (mut carriers, mut resident) = (Vec::new(), Vec::new());
    // The first hundred bring what the process has once.
    for calls in [100_usize, 200] {
        while carriers.len() < calls {
            let mut carrier = relay.begin(&alone.ticket(|_| {})).await;
            for chunk in 1..=25 {
                carrier.say(&voice(chunk)).await;
            }
            carriers.push(carrier);
        }
        model.until_spoken(calls as u64 * 25 * 160).await;
        resident.push(relay.resident());
    }
    let a_call = resident[1].saturating_sub(resident[0]) / 100;
    println!("a call takes {a_call} bytes: {resident:?}");
    assert!(a_call < 40 << 10, "{a_call} bytes a call, without held audio");
}

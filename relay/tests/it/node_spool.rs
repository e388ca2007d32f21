//! Events on file: between real processes that are killed, and a control of a few lines.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use link::event::CallEvent;
use link::id::{ControlId, Epoch, EventNumber};
use link::message::{ToControl, ToRelay, Version};
use relay::node::spool::record;
use tempfile::TempDir;

use crate::node_rig::{Control, SIGNATURE, Session};
use crate::process_rig::{Model, Relay, start, ticket, within};

type Settings = Vec<(String, String)>;

/// Where a relay spools, and the settings that say so.
fn spooling(control: &Control) -> (TempDir, Settings) {
    let folder = TempDir::new().unwrap();
    let mut settings = control.settings();
    settings.push(("RELAY_SPOOL_DIR".to_owned(), folder.path().to_str().unwrap().to_owned()));
    (folder, settings)
}

/// A relay that is let in, with its session and its epoch; nothing is acknowledged.
async fn relay(settings: &Settings, control: &Control, model: &Model) -> (Relay, Session, Epoch) {
    let let_in = async {
        let (mut session, hello) = control.accept().await;
        session.welcome(0).await;
        session.sync(&control.key, model.address).await;
        (session, hello.epoch)
    };
    let (relay, (session, epoch)) = tokio::join!(Relay::start(settings), let_in);
    relay.until("/readyz", |status, _| status == 200).await;
    (relay, session, epoch)
}

/// Plays a call from its begin to its end; the number of its last event.
async fn call(relay: &Relay, control: &Control, session: &mut Session) -> u64 {
    let mut carrier = relay.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(&start(&ticket(&control.key, |_| {}))).await;
    session.events_until(|event| matches!(event, CallEvent::StreamStarted { .. })).await;
    carrier.hang_up().await;
    let is_end = |event: &CallEvent| matches!(event, CallEvent::StreamEnded { .. });
    session.events_until(is_end).await.last().unwrap().n.0
}

/// The files of a life.
fn files(folder: &Path, epoch: Epoch) -> Vec<PathBuf> {
    let name = format!(".{:014x}.", epoch.0);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains(&name)).collect()
}

/// Waits until so many events of a life are on file: a process that is killed then loses none.
async fn until_on_file(folder: &Path, epoch: Epoch, count: u64) {
    let on_file = || {
        let files = files(folder, epoch);
        let bytes = files.iter().map(|path| std::fs::read(path).unwrap());
        bytes.map(|bytes| record::read(&bytes, usize::MAX).events.len() as u64).sum::<u64>()
    };
    within(async {
        while on_file() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Reads what an earlier life left, up to an event of it.
async fn spooled_until(session: &mut Session, life: Epoch, last: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        if let ToControl::Spooled { epoch, events } = session.next().await {
            assert_eq!(epoch, life);
            numbers.extend(events.iter().map(|event| event.n.0));
        }
    }
    numbers
}

/// Waits for events of this life, before which nothing comes of an earlier one.
async fn events_only(session: &mut Session) {
    let mut message = session.next().await;
    while !matches!(message, ToControl::Events { .. }) {
        assert!(!matches!(message, ToControl::Spooled { .. }), "{message:?}");
        message = session.next().await;
    }
}

async fn kill(mut relay: Relay) {
    relay.signal("-KILL");
    assert_eq!(relay.exit().await.code(), None, "it was killed");
}

#[tokio::test]
async fn what_a_relay_told_before_it_was_killed_is_told_by_the_next_one_once() {
    let (control, model) = (Control::start(), Model::start().await);
    let (folder, settings) = spooling(&control);
    let (first, mut session, life) = relay(&settings, &control, &model).await;
    let last = call(&first, &control, &mut session).await;
    session.acknowledge(EventNumber(1)).await;
    until_on_file(folder.path(), life, last).await;
    kill(first).await;

    let (second, mut session, next) = relay(&settings, &control, &model).await;
    assert_ne!(life, next);
    // The first one, too, which control drops: its file is not done.
    let all: Vec<u64> = (1..=last).collect();
    assert_eq!(spooled_until(&mut session, life, last).await, all);
    // Control dies before it says so: whoever takes events next is told again.
    session.cut();
    let mut session = control.welcome(0, model.address).await;
    assert_eq!(spooled_until(&mut session, life, last).await, all);
    let ack = |through| ToRelay::SpoolAck { epoch: life, through: EventNumber(through) };
    session.say(&ack(last - 1)).await;
    second.until_metric(&format!("relay_spool_replayed_total {}", last - 1)).await;
    assert_eq!(files(folder.path(), life).len(), 1);
    session.say(&ack(last)).await;
    second.until_metric(&format!("relay_spool_replayed_total {last}")).await;
    within(async {
        while !files(folder.path(), life).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Its own events have their own numbers.
    let own = call(&second, &control, &mut session).await;
    assert_eq!(session.numbers, (1..=own).collect::<Vec<_>>());
    session.acknowledge(EventNumber(own)).await;
    second.until_metric("relay_events_waiting 0").await;
    second.until_metric("relay_spool_bytes 0").await;
    kill(second).await;

    let (third, mut session, _) = relay(&settings, &control, &model).await;
    third.until_log("events are spooled").await;
    let mut carrier = third.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(&start(&ticket(&control.key, |_| {}))).await;
    events_only(&mut session).await;
}

#[tokio::test]
async fn what_a_relay_told_that_was_stopped_without_control_is_on_file() {
    let (control, model) = (Control::start(), Model::start().await);
    let (folder, settings) = spooling(&control);
    let (mut first, mut session, life) = relay(&settings, &control, &model).await;
    let last = call(&first, &control, &mut session).await;
    first.until_metric("relay_calls 0").await;
    first.signal("-TERM");
    assert_eq!(first.exit().await.code(), Some(0));
    assert!(first.log().contains("events wait on file for the next start"), "{}", first.log());
    until_on_file(folder.path(), life, last).await;
    let (_second, mut session, _) = relay(&settings, &control, &model).await;
    assert_eq!(spooled_until(&mut session, life, last).await.len() as u64, last);
}

#[tokio::test]
async fn a_control_that_does_not_know_the_spool_is_told_nothing_of_it() {
    let (control, model) = (Control::start(), Model::start().await);
    let (folder, settings) = spooling(&control);
    let (first, mut session, life) = relay(&settings, &control, &model).await;
    let last = call(&first, &control, &mut session).await;
    until_on_file(folder.path(), life, last).await;
    kill(first).await;

    let old = async {
        let (mut session, _) = control.accept().await;
        let (acked, version) = (EventNumber(0), Version { major: 1, minor: 2 });
        let name = Some(ControlId::new("c-1").unwrap());
        session.say(&ToRelay::Welcome { version, acked, control: name }).await;
        session.lease(Some(1)).await;
        session.sync(&control.key, model.address).await;
        session
    };
    let (second, mut session) = tokio::join!(Relay::start(&settings), old);
    second.until("/readyz", |status, _| status == 200).await;
    let mut carrier = second.open(Some(SIGNATURE)).await.unwrap();
    carrier.say(&start(&ticket(&control.key, |_| {}))).await;
    events_only(&mut session).await;
    // One that does is told at once.
    session.cut();
    let mut session = control.welcome(0, model.address).await;
    assert_eq!(spooled_until(&mut session, life, last).await.len() as u64, last);
}

#[tokio::test]
async fn events_that_control_will_never_take_stay_on_file() {
    let (control, model) = (Control::start(), Model::start().await);
    let (folder, settings) = spooling(&control);
    let (first, mut session, life) = relay(&settings, &control, &model).await;
    let last = call(&first, &control, &mut session).await;
    until_on_file(folder.path(), life, last).await;
    kill(first).await;
    // What came before is gone, and this control lacks it.
    let path = &files(folder.path(), life)[0];
    let events = record::read(&std::fs::read(path).unwrap(), usize::MAX).events;
    let rest: Vec<u8> =
        events[1..].iter().flat_map(|event| record::encode(event).unwrap()).collect();
    std::fs::write(path, rest).unwrap();

    let (second, mut session, _) = relay(&settings, &control, &model).await;
    let told: BTreeSet<u64> = spooled_until(&mut session, life, last).await.into_iter().collect();
    assert_eq!(told, (2..=last).collect());
    session.say(&ToRelay::SpoolAck { epoch: life, through: EventNumber(0) }).await;
    second.until_log("they stay on file").await;
    assert_eq!(files(folder.path(), life).len(), 1);
    call(&second, &control, &mut session).await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_no_call_and_is_used_once_it_does() {
    let (control, model) = (Control::start(), Model::start().await);
    let (folder, mut settings) = spooling(&control);
    let spool = folder.path().join("spool");
    std::fs::write(&spool, "a file stands in the way").unwrap();
    settings.last_mut().unwrap().1 = spool.to_str().unwrap().to_owned();
    let (relay, mut session, epoch) = relay(&settings, &control, &model).await;
    relay.until_log("events are in memory only; calls go on").await;
    let last = call(&relay, &control, &mut session).await;
    let counts = |page: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix("relay_spool_full_total "));
        line.is_some_and(|count| count.parse::<u64>().unwrap() > 0)
    };
    relay.until("/metrics", |_, page| counts(page)).await;
    std::fs::remove_file(&spool).unwrap();
    relay.until_log("the spool takes events again").await;
    until_on_file(&spool, epoch, last).await;
}

#[tokio::test]
async fn a_relay_without_a_spool_says_so() {
    let (control, model) = (Control::start(), Model::start().await);
    let (relay, _session) = control.relay(model.address).await;
    relay.until_log("RELAY_SPOOL_DIR is not set").await;
    relay.until_metric("relay_spool_bytes 0").await;
}

//! Several instances on one PostgreSQL: each answers anything, one numbers events, another takes
//! over when that one is gone, and nobody's stream shows it.

use std::pin::pin;
use std::time::Duration;

use control::access::key::KeyId;
use control::events::Seq;
use control::hub::Hub;
use control::sequencer::{LeaseState, Refused, Sequencer, Settings, sequencer};
use control::sse::{Item, Watch, stream};
use control::store::call::Call;
use control::store::{RingName, Store, Times};
use control::tokens::rotation::rotate;
use futures_util::{Stream, StreamExt as _};
use link::event::{CallEvent, CallRef, NodeEvent};
use link::id::{EventNumber, Gen};
use link::message::{Command, ToControl, ToRelay};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::db::{TestDb, fresh_call, in_time, source, stream_started, tenant, turns};
use super::link_relay::{Relay, door_of, event};
use super::web::Web;

/// How long events may stand still when the instance that numbers them is gone.
const FAIL_OVER_WITHIN: Duration = Duration::from_secs(3);

/// An instance as far as events go.
struct Instance {
    store: Store,
    hub: Hub,
    sequencer: Sequencer,
    task: JoinHandle<()>,
}

impl Instance {
    fn start(store: Store) -> Self {
        let (hub, never) = (Hub::new(), CancellationToken::new());
        let (sequencer, task) = sequencer(store.clone(), hub.clone(), Settings::default(), never);
        Self { store, hub, sequencer, task: tokio::spawn(task) }
    }

    async fn holds(&self) {
        let mut state = self.sequencer.state();
        state.wait_for(|state| *state == LeaseState::Held).await.unwrap();
    }

    async fn send(&self, call: &Call, numbers: std::ops::RangeInclusive<u64>) {
        let receipt = self.sequencer.submit(source("n1"), turns(numbers, call)).await.unwrap();
        receipt.await.unwrap();
    }

    /// Dies without a word, as a process that is killed.
    fn kill(self) -> Hub {
        self.task.abort();
        self.hub
    }

    fn watch(&self, after: u64) -> impl Stream<Item = Item> + use<> {
        let watch = Watch {
            tenant: tenant(),
            after: Some(Seq(after)),
            call: None,
            run: None,
            ephemeral: false,
        };
        stream(self.store.clone(), &self.hub, watch, CancellationToken::new())
    }
}

async fn next_seq(stream: &mut (impl Stream<Item = Item> + Unpin)) -> u64 {
    loop {
        match stream.next().await.unwrap() {
            Item::Record(record) => return record.seq.0,
            Item::Passing(_) | Item::Ping => {}
            other @ (Item::Reset(_) | Item::End(_)) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn when_the_holder_is_killed_another_takes_over_in_time() {
    let db = TestDb::postgres().await;
    let holder = Instance::start(db.open().await);
    holder.holds().await;
    let others = [Instance::start(db.open().await), Instance::start(db.open().await)];
    let call = fresh_call(&holder.store, "c_1").await;
    holder.send(&call, 1..=5).await;
    holder.kill();
    let one_takes_over = async {
        tokio::select! {
            () = others[0].holds() => &others[0],
            () = others[1].holds() => &others[1],
        }
    };
    let next = tokio::time::timeout(FAIL_OVER_WITHIN, one_takes_over).await.unwrap();
    // The relay sends again what it heard nothing about.
    next.send(&call, 3..=9).await;
    let held = others.iter().filter(|other| *other.sequencer.state().borrow() == LeaseState::Held);
    assert_eq!(held.count(), 1);
    assert_eq!(super::db::kinds(&next.store).await.len(), 9);
}

#[tokio::test]
async fn a_stream_on_any_instance_shows_each_record_once_while_the_lease_moves() {
    let db = TestDb::postgres().await;
    let holder = Instance::start(db.open().await);
    holder.holds().await;
    let next = Instance::start(db.open().await);
    let witness = Instance::start(db.open().await);
    let call = fresh_call(&holder.store, "c_1").await;
    let mut streams = [next.watch(0), witness.watch(0)].map(Box::pin);
    let mut on_holder = Box::pin(holder.watch(0));
    for n in 1..=40 {
        holder.send(&call, n..=n).await;
        assert_eq!(next_seq(&mut on_holder).await, n);
    }
    for stream in &mut streams {
        for seq in 1..=40 {
            assert_eq!(next_seq(stream).await, seq);
        }
    }
    drop(on_holder);
    // The last words of the holder: nobody has asked for them when it dies.
    holder.send(&call, 41..=45).await;
    holder.kill();
    let took_over = async {
        tokio::select! {
            () = next.holds() => &next,
            () = witness.holds() => &witness,
        }
    };
    let holder = in_time_for(took_over).await;
    for stream in &mut streams {
        for seq in 41..=45 {
            assert_eq!(next_seq(stream).await, seq);
        }
    }
    holder.send(&call, 40..=400).await;
    for stream in &mut streams {
        for seq in 46..=400 {
            assert_eq!(next_seq(stream).await, seq);
        }
    }
    let mut resumed = pin!(witness.watch(300));
    assert_eq!(next_seq(&mut resumed).await, 301);
}

async fn in_time_for<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(FAIL_OVER_WITHIN, future).await.expect("another takes over in time")
}

#[tokio::test]
async fn what_a_former_holder_was_offered_is_given_back_to_its_relay() {
    let db = TestDb::postgres().await;
    let holder = Instance::start(db.open().await);
    holder.holds().await;
    let call = fresh_call(&holder.store, "c_1").await;
    holder.send(&call, 1..=2).await;
    let terms = holder.sequencer.term();
    let first = terms.borrow().unwrap();
    let thief = control::store::AtOnce::Yes;
    let thief = control::store::Ledger::take(&db.open().await, "t", Times::default(), thief).await;
    let thief = thief.unwrap().unwrap();
    assert!(thief.term() > first);
    let offer = holder.sequencer.submit(source("n1"), turns(3..=4, &call)).await.unwrap();
    assert_eq!(offer.await, Err(Refused::NotHolder));
    assert_eq!(*holder.sequencer.term().borrow(), None);
    thief.release().await.unwrap();
    let mut terms = holder.sequencer.term();
    let term = *in_time_for(terms.wait_for(Option::is_some)).await.unwrap();
    assert!(term.unwrap() > first + 1, "a new term, so that relays send again");
}

#[tokio::test]
async fn a_rotation_at_once_reaches_every_instance_and_its_relays_within_five_seconds() {
    in_time(async {
        let url = TestDb::postgres().await.url();
        let doors =
            [door_of(Web::one_of(&url).await).await, door_of(Web::one_of(&url).await).await];
        let mut relays = Vec::new();
        for door in &doors {
            relays.push(Relay::join_any(&door.token).await.0);
        }
        let plane = &doors[0].web.plane;
        let (before, now) = (plane.tokens.verifying(), control::clock::wall());
        let actor = KeyId::new("command-line").unwrap();
        rotate(&plane.store, RingName::Ticket, &actor, now).await.unwrap();
        let told = async {
            for relay in &mut relays {
                let keys = loop {
                    if let ToRelay::TicketKeys { keys } = relay.hear().await {
                        break keys;
                    }
                };
                assert_eq!(keys.len(), 1);
                assert!(!before.contains(&keys[0]), "the key before is dropped");
            }
        };
        let within = Duration::from_secs(5);
        tokio::time::timeout(within, told).await.expect("it holds within five seconds");
    })
    .await;
}

/// Two whole instances and one relay that is linked to both.
#[tokio::test]
async fn the_instance_that_is_asked_commands_and_hears_the_answer_that_the_other_numbers() {
    in_time(async {
        let url = TestDb::postgres().await.url();
        let holder = door_of(Web::one_of(&url).await).await;
        let mut state = holder.web.plane.sequencer.state();
        state.wait_for(|state| *state == LeaseState::Held).await.unwrap();
        let asked = door_of(Web::one_of(&url).await).await;
        assert_eq!(holder.token.secret.reveal(), asked.token.secret.reveal());

        let (mut to_holder, _) = Relay::join_any(&holder.token).await;
        let (mut to_asked, _) = Relay::join_any(&asked.token).await;
        assert!(to_holder.lease().await.is_some());
        assert_eq!(to_asked.lease().await, None);
        // Events that the wrong one is told are neither taken nor acknowledged.
        let lost = event(1, CallEvent::StreamRefused { why: "early".into() });
        to_asked.say(&ToControl::Events { events: vec![lost.clone()] }).await;

        let (call, _) = asked.web.begun("CA1").await;
        let of_call = CallRef { id: call.id.clone(), tenant: tenant(), generation: Gen(0) };
        let said = |n, what| NodeEvent { call: Some(of_call.clone()), ..event(n, what) };
        let events = vec![lost, said(2, stream_started())];
        to_holder.say(&ToControl::Events { events }).await;
        assert_eq!(to_holder.ack().await, EventNumber(2));

        let target = asked.web.url(&format!("/v1/calls/{}/commands", call.id));
        let say = asked.web.http.post(target).body(r#"{"do":"say","text":"One moment."}"#);
        let ((status, answer), id) = tokio::join!(asked.web.api(say), async {
            let id = loop {
                if let ToRelay::Command { id, command: Command::Say { .. }, .. } =
                    to_asked.hear().await
                {
                    break id.unwrap();
                }
            };
            let done = CallEvent::CommandDone { id: id.clone(), refused: None };
            to_holder.say(&ToControl::Events { events: vec![said(3, done)] }).await;
            id
        });
        assert_eq!((status, answer["done"].as_bool()), (200, Some(true)));
        assert_eq!(answer["id"], id.as_str());
        let kinds: Vec<_> =
            asked.web.records(5).await.into_iter().map(|record| record.kind).collect();
        let expected =
            ["call.started", "stream.refused", "call.answered", "stream.started", "command.done"];
        assert_eq!(kinds, expected);
    })
    .await;
}

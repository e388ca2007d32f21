//! What earlier lives of a relay left on file: through the link, under their own epoch.

use control::store::Source;
use link::id::{Epoch, EventNumber, NodeId};
use link::message::{ToControl, ToRelay};

use super::db::{TestDb, kinds, on_both};
use super::link_relay::{Relay, door_of, refused};
use super::web::Web;

on_both!(
    what_an_earlier_life_left_is_committed_once_and_beside_what_happens_now,
    events_of_an_earlier_life_that_do_not_follow_end_no_connection,
);

const EARLIER: Epoch = Epoch(6);

fn spooled(numbers: std::ops::RangeInclusive<u64>) -> ToControl {
    ToControl::Spooled { epoch: EARLIER, events: numbers.map(refused).collect() }
}

fn now(numbers: std::ops::RangeInclusive<u64>) -> ToControl {
    ToControl::Events { events: numbers.map(refused).collect() }
}

/// What is committed of the earlier life, as the relay is told next.
async fn told(relay: &mut Relay) -> u64 {
    loop {
        if let ToRelay::SpoolAck { epoch, through } = relay.hear().await {
            assert_eq!(epoch, EARLIER);
            return through.0;
        }
    }
}

async fn what_an_earlier_life_left_is_committed_once_and_beside_what_happens_now(db: &TestDb) {
    let door = door_of(Web::one_of(&db.url()).await).await;
    let store = &door.web.plane.store;
    let (mut relay, acked) = Relay::join(&door.token).await;
    relay.say(&spooled(1..=3)).await;
    assert_eq!(told(&mut relay).await, 3);
    relay.say(&now(1..=2)).await;
    assert_eq!((acked, relay.ack().await), (EventNumber(0), EventNumber(2)), "each has its own");
    assert_eq!(kinds(store).await, ["stream.refused"; 5]);
    // A relay that was killed again begins with what is on file.
    relay.say(&spooled(1..=4)).await;
    assert_eq!(told(&mut relay).await, 4);
    relay.say(&spooled(1..=4)).await;
    assert_eq!(told(&mut relay).await, 4);
    assert_eq!(kinds(store).await, ["stream.refused"; 6]);
    let earlier = Source { node: NodeId::new("fra-1").unwrap(), epoch: EARLIER };
    assert_eq!(store.mark(&earlier).await.unwrap(), EventNumber(4));
}

async fn events_of_an_earlier_life_that_do_not_follow_end_no_connection(db: &TestDb) {
    let door = door_of(Web::one_of(&db.url()).await).await;
    let (mut relay, _) = Relay::join(&door.token).await;
    relay.say(&spooled(1..=2)).await;
    assert_eq!(told(&mut relay).await, 2);
    relay.say(&spooled(4..=5)).await;
    assert_eq!(told(&mut relay).await, 2, "three is missing, and the relay sees that");
    relay.say(&now(1..=1)).await;
    assert_eq!(relay.ack().await, EventNumber(1), "the link goes on");
    assert_eq!(kinds(&door.web.plane.store).await, ["stream.refused"; 3]);
}

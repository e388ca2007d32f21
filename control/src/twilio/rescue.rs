//! Calls whose node vanished without closing their streams: a machine that lost its power or its
//! network says nothing, and the carrier holds on to a half-open stream for tens of seconds, in
//! silence. So the carrier is told over its API to open another stream.
//!
//! Whether a node is gone two witnesses decide ([`crate::fleet::zombie`]): its link, and whoever knocks
//! at the address where the carrier reaches it. A proxy that answers for a node that is gone hides
//! that, and the carrier's own clock decides. Both look from here: from a control that a network has cut
//! off from a node, but not from the others, the node looks gone, and its calls move although they are
//! well. Before anything is done, the carrier has the time that it
//! needs to ask by itself, as it does when a process dies and its machine closes the sockets; whoever
//! comes second finds that the call has moved on, and does nothing.
//!
//! The instance that numbers events does this, and no other one.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use link::id::NodeId;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use url::Url;

use super::connect;
use crate::clock;
use crate::fleet::nodes::Life;
use crate::fleet::zombie::{CarrierWord, Evidence, LinkWord, MediaWord, Verdict, judge};
use crate::plane::Plane;
use crate::store::call::{Call, CallState};

/// Looks for nodes that are gone, and lets their calls go on elsewhere, until the plane stops.
pub async fn keep_watch(plane: &Plane) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut watch, term) = (Watch::default(), plane.sequencer.term());
    loop {
        tokio::select! {
            () = plane.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let missed = watch.look(plane.nodes.lives(), clock::steady());
        if term.borrow().is_none() {
            continue;
        }
        for Missed { node, life, link } in missed {
            let media = knock(&life.public_url).await;
            let evidence = Evidence { link, media, carrier: CarrierWord::Nothing };
            let verdict = judge(evidence);
            tracing::info!(%node, ?evidence, ?verdict, "a node is missed");
            if verdict == Verdict::Move {
                watch.forget(&node);
                move_calls(plane, &node, link).await;
            }
        }
    }
}

/// Lets the calls go on elsewhere whose latest stream is on this node; says how many do.
pub async fn move_calls(plane: &Plane, node: &NodeId, link: LinkWord) -> usize {
    let calls = match plane.store.calls_on(node, CALLS_MAX).await {
        Ok(calls) => calls,
        Err(error) => {
            tracing::warn!(error = error.explain(), "its calls are looked for in memory");
            plane.standby.calls_on(node, CALLS_MAX as usize)
        }
    };
    // A new life has been seen for less time than a stream of its own takes to begin.
    let is_lost = |call: &Call| link != LinkWord::Reborn || call.state == CallState::Active;
    let calls = calls.into_iter().filter(is_lost);
    let moved = stream::iter(calls).map(|call| move_call(plane, call)).buffer_unordered(AT_ONCE);
    let moved = moved.filter(|is_moved| std::future::ready(*is_moved)).count().await;
    tracing::warn!(%node, moved, "calls of a node that vanished go on elsewhere");
    moved
}

/// Gives a call its next stream, unless it has moved on; whether the carrier has taken that.
async fn move_call(plane: &Plane, lost: Call) -> bool {
    let Ok(to) = plane.nodes.place(&lost.id, clock::wall()) else {
        // The carrier asks by itself in the end, and again and again.
        tracing::warn!(call = %lost.id, "no node takes a call of a node that vanished");
        return false;
    };
    let moved = match plane.store.move_call(&lost, &to).await {
        Ok(moved) => moved,
        Err(_) => {
            plane.standby.keep(&lost);
            plane.standby.move_call(&lost, &to)
        }
    };
    let Some(call) = moved else { return false };
    match instruct(plane, &call).await {
        Ok(()) => {
            plane.metrics.rescued.inc();
            true
        }
        Err(why) => {
            tracing::error!(call = %call.id, why, "the carrier keeps a stream that is gone");
            false
        }
    }
}

/// Tells the carrier to open the call's stream in place of the one that it waits for.
async fn instruct(plane: &Plane, call: &Call) -> Result<(), String> {
    let carrier = call.carrier.as_ref().ok_or("the carrier has not named the call")?;
    let (twiml, _) = connect(plane, call).await.map_err(|problem| problem.detail)?;
    let xml = twiml.to_xml_in(plane.carrier_voice.as_deref()).map_err(|error| error.to_string())?;
    let told = plane.carrier.instruct(carrier, &xml).await;
    told.map_err(|error| {
        plane.metrics.asked(error.asked());
        error.to_string()
    })
}

/// Whether somebody opens where the carrier reaches the node.
async fn knock(public_url: &str) -> MediaWord {
    let Ok(url) = Url::parse(public_url) else { return MediaWord::Unknown };
    let Some(host) = url.host_str() else { return MediaWord::Unknown };
    let port = url.port_or_known_default().unwrap_or(443);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout(KNOCK_WITHIN, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => MediaWord::Alive,
        Ok(Err(_)) | Err(_) => MediaWord::Dead,
    }
}

/// The nodes that were there.
#[derive(Debug, Default)]
struct Watch {
    seen: BTreeMap<NodeId, Seen>,
}

#[derive(Debug)]
struct Seen {
    life: Life,
    /// Since when it is missed, and when it was looked for last; `None` while it is there.
    missed: Option<(Instant, Option<Instant>)>,
}

/// A node that was there and is not.
#[derive(Debug, PartialEq, Eq)]
struct Missed {
    node: NodeId,
    life: Life,
    link: LinkWord,
}

impl Watch {
    /// Takes who is there at this moment; says whom to look for.
    fn look(&mut self, lives: BTreeMap<NodeId, Life>, now: Instant) -> Vec<Missed> {
        let mut missed = Vec::new();
        self.seen.retain(|node, seen| {
            let since = seen.missed.map(|(since, _)| since);
            since.is_none_or(|since| now.duration_since(since) < LOOKED_FOR)
                || lives.contains_key(node)
        });
        for (node, seen) in self.seen.iter_mut().filter(|(node, _)| !lives.contains_key(*node)) {
            let (since, looked) = seen.missed.get_or_insert((now, None));
            let is_due = match looked {
                None => now.duration_since(*since) >= GRACE,
                Some(looked) => now.duration_since(*looked) >= LOOK_AGAIN,
            };
            if is_due {
                *looked = Some(now);
                let (node, life) = (node.clone(), seen.life.clone());
                missed.push(Missed { node, life, link: LinkWord::Silent });
            }
        }
        for (node, life) in lives {
            let seen = self.seen.insert(node.clone(), Seen { life: life.clone(), missed: None });
            // One that was not missed closes its sockets itself, and the carrier asks.
            let was_missed =
                seen.is_some_and(|seen| seen.missed.is_some() && seen.life.epoch != life.epoch);
            if was_missed {
                missed.push(Missed { node, life, link: LinkWord::Reborn });
            }
        }
        missed
    }

    /// Nothing more is to be done about a node, until it is there again.
    fn forget(&mut self, node: &NodeId) {
        if self.seen.get(node).is_some_and(|seen| seen.missed.is_some()) {
            self.seen.remove(node);
        }
    }
}

/// How often it is looked who is there.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long the carrier has to ask by itself, from when the link is known to be down: a stream whose
/// socket was closed is asked about within 200 ms.
const GRACE: Duration = Duration::from_millis(1_200);

/// How often a node is knocked at whose link is down.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long one is looked for: by then the carrier has noticed by itself.
const LOOKED_FOR: Duration = Duration::from_secs(120);

/// How long a node has to open.
const KNOCK_WITHIN: Duration = Duration::from_millis(500);

/// Calls of one node that are moved.
const CALLS_MAX: u32 = 20_000;

/// Calls that are moved at once; the carrier's API lets fewer through, and they wait there.
const AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use link::id::Epoch;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn lives(nodes: &[(&str, u64)]) -> BTreeMap<NodeId, Life> {
        let life = |epoch: u64| Life { epoch: Epoch(epoch), public_url: "wss://a.example".into() };
        nodes.iter().map(|(name, epoch)| (node(name), life(*epoch))).collect()
    }

    fn missed(watch: &mut Watch, there: &[(&str, u64)], now: Instant) -> Vec<(String, LinkWord)> {
        let missed = watch.look(lives(there), now).into_iter();
        missed.map(|missed| (missed.node.to_string(), missed.link)).collect()
    }

    #[test]
    fn a_node_is_looked_for_when_the_carrier_has_had_time_to_ask_and_then_every_second() {
        let (mut watch, began) = (Watch::default(), clock::steady());
        let at = |ms| began + Duration::from_millis(ms);
        let silent = vec![("b".to_owned(), LinkWord::Silent)];
        assert!(missed(&mut watch, &[("a", 1), ("b", 1)], at(0)).is_empty());
        assert!(missed(&mut watch, &[("a", 1)], at(250)).is_empty());
        assert!(missed(&mut watch, &[("a", 1)], at(1_400)).is_empty());
        assert_eq!(missed(&mut watch, &[("a", 1)], at(1_450)), silent);
        assert!(missed(&mut watch, &[("a", 1)], at(1_700)).is_empty());
        assert_eq!(missed(&mut watch, &[("a", 1)], at(2_450)), silent);
        watch.forget(&node("b"));
        assert!(missed(&mut watch, &[("a", 1)], at(9_000)).is_empty());
    }

    #[test]
    fn a_node_that_is_back_is_the_same_or_a_new_one() {
        let (mut watch, began) = (Watch::default(), clock::steady());
        let at = |ms| began + Duration::from_millis(ms);
        missed(&mut watch, &[("a", 1), ("b", 1)], at(0));
        missed(&mut watch, &[], at(250));
        let reborn = vec![("b".to_owned(), LinkWord::Reborn)];
        assert_eq!(missed(&mut watch, &[("a", 1), ("b", 2)], at(500)), reborn);
        assert!(missed(&mut watch, &[("a", 1), ("b", 2)], at(9_000)).is_empty());
    }

    #[test]
    fn a_node_that_stays_away_is_not_looked_for_for_ever() {
        let (mut watch, began) = (Watch::default(), clock::steady());
        missed(&mut watch, &[("a", 1)], began);
        missed(&mut watch, &[], began);
        assert!(missed(&mut watch, &[], began + LOOKED_FOR).is_empty());
        assert!(watch.seen.is_empty());
    }

    #[tokio::test]
    async fn a_node_is_knocked_at_where_the_carrier_reaches_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://{}", listener.local_addr().unwrap());
        assert_eq!(knock(&url).await, MediaWord::Alive);
        drop(listener);
        assert_eq!(knock(&url).await, MediaWord::Dead);
        assert_eq!(knock("no url").await, MediaWord::Unknown);
    }
}

//! Spare sessions: kept open for streams that nobody has announced.
//!
//! Each shard keeps its share of every agent's newest version, replaces a session before it grows
//! old, and opens a bounded number a second, so that neither a herd of calls nor a service that
//! refuses becomes a herd of dials.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Shard;
use super::anteroom::Awaits;
use crate::call::moment::Moment;
use crate::gate::Door;
use crate::known::AgentKey;
use crate::lobby::WaitId;

/// When a shard may open spares again after one could not be opened.
#[derive(Debug, Default)]
pub(super) struct Patience {
    until: Moment,
}

impl Shard {
    /// Keeps this shard's share of spares, until the node lets nobody in any more.
    pub(super) async fn keep_spares(self: Rc<Self>) {
        let mut ticks = interval(REFILL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.anteroom.borrow().is_closed() {
            ticks.tick().await;
            self.tend_spares();
        }
    }

    /// A spare could not be opened.
    pub(super) fn spare_failed(&self) {
        self.spare_patience.borrow_mut().until = self.clock.now() + PAUSE;
    }

    /// One round: sends away what is too old, and opens at most one session.
    fn tend_spares(self: &Rc<Self>) {
        let now = self.clock.now();
        // Read in every round: agents are pushed at any time, and nobody tells the shards.
        let newest = self.setup.known.newest_agents();
        let mut young: HashMap<AgentKey, usize> =
            newest.iter().map(|agent| (AgentKey::of(agent), 0)).collect();
        let mut leaving: Vec<WaitId> = Vec::new();
        self.anteroom.borrow().spares().for_each(|(id, chair, agent)| {
            let age = now.since(chair.since);
            match young.get_mut(agent) {
                // Its successor is opened while it can still serve.
                Some(count) if age < REPLACED_AFTER => *count += 1,
                Some(_) if age < AGE_MAX => {}
                Some(_) | None => leaving.push(id),
            }
        });
        for id in leaving {
            self.dismiss(id);
        }
        // Old ones leave also while nothing is opened: after a failure, and while no stream may come.
        let is_held = self.setup.gate.occupancy().door == Door::Held;
        if is_held || now < self.spare_patience.borrow().until {
            return;
        }
        let share = self.spare_share();
        // One a round: the order of names decides who waits, and rounds are short.
        let wanted = newest.iter().find(|agent| young[&AgentKey::of(agent)] < share);
        if let Some(agent) = wanted
            && young.values().sum::<usize>() < self.spares_max()
        {
            let key = AgentKey::of(agent);
            let waits = self.setup.gate.spare(key.clone(), self.setup.index);
            self.seat(waits, agent, Awaits::Anybody(key));
        }
    }

    /// How many of each agent's spares are this shard's to keep.
    fn spare_share(&self) -> usize {
        let (all, shards) = (self.setup.spare_agents as usize, self.setup.shards.max(1));
        all / shards + usize::from(self.setup.index < all % shards)
    }

    /// All agents' spares of this shard together: a node with many agents keeps no more sessions
    /// that nobody has asked for than calls that were announced.
    fn spares_max(&self) -> usize {
        self.setup.gate.announced_max().div_ceil(self.setup.shards.max(1))
    }
}

/// A spare is opened this often at most, on each shard.
const REFILL_EVERY: Duration = Duration::from_millis(200);
/// The pause after a session could not be opened.
const PAUSE: Duration = Duration::from_secs(5);
/// When the successor of a spare is opened.
const REPLACED_AFTER: Duration = Duration::from_secs(270);
/// When a spare is sent away: services end idle sessions, and count their age from here.
const AGE_MAX: Duration = Duration::from_secs(300);

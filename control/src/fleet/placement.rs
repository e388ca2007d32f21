//! Which node takes a call: nearest regions first, and there the node with the fewest calls for its
//! weight. Pure: the same snapshot and the same call always give the same node.
//!
//! In order: any node but the one that the call comes from; a canary gets its share of calls and the
//! other nodes the rest; of those the first region of the wish in which a node takes calls, then the regions that the wish does not name; there the
//! node with the fewest calls for its weight; among equals a lot that the call's id draws. A call
//! whose side or region takes none goes on to the next: it is refused only when no node takes it.

use std::cmp::Ordering;

use link::id::{CallId, NodeId};
use sha2::{Digest as _, Sha256};

use super::canary::{Canary, Side};
use super::standing::Standing;

/// How many calls a node gets, measured against the weights of others. Without any it gets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(u8);

impl Weight {
    /// What a node has of which nobody says anything else.
    pub const FULL: Self = Self(100);

    /// Takes a number as a weight; `None` above 100.
    #[must_use]
    pub fn new(weight: u8) -> Option<Self> {
        (weight <= Self::FULL.0).then_some(Self(weight))
    }

    /// The number, 0 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::FULL
    }
}

/// What a call wants of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Which call: the seed of everything that is drawn by lot.
    pub call: &'a CallId,
    /// Regions of relays, the best first; empty when all are equally good. Those that are not named
    /// come last, all alike.
    pub regions: Vec<String>,
    /// The node that its last stream was on, which may be dead without anybody knowing yet: it gets
    /// the call only when no other takes it. `None` for a call's first stream.
    pub left: Option<&'a NodeId>,
}

impl<'a> From<&'a CallId> for Wish<'a> {
    /// A call that may go anywhere.
    fn from(call: &'a CallId) -> Self {
        Self { call, regions: Vec::new(), left: None }
    }
}

impl<'a> Wish<'a> {
    /// The same, of a call that comes from this node.
    #[must_use]
    pub fn leaving(self, node: Option<&'a NodeId>) -> Self {
        Self { left: node, ..self }
    }

    /// How far down the list a region stands.
    fn rank(&self, region: Option<&str>) -> usize {
        let place = self.regions.iter().position(|wanted| region == Some(wanted.as_str()));
        place.unwrap_or(self.regions.len())
    }
}

/// A node as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The node.
    pub node: &'a NodeId,
    /// Where it stands; `None` when it does not say.
    pub region: Option<&'a str>,
    /// The version of its software, as it says.
    pub software: &'a str,
    /// How it is.
    pub standing: Standing,
    /// Calls on it, as it has said.
    pub calls: u32,
    /// Calls on their way to it, for which a seat is kept.
    pub reserved: u32,
    /// The most calls it takes.
    pub calls_max: u32,
    /// How many it gets against others.
    pub weight: Weight,
}

/// The fleet at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    /// Every node whose link is up, in any order.
    pub candidates: Vec<Candidate<'a>>,
    /// What gets a share of the calls of its own; `None` when nothing does.
    pub canary: Option<&'a Canary>,
}

/// Why a node takes calls, or takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It takes calls.
    Free,
    /// It has not said for too long how it is.
    Suspect,
    /// It says that one of its threads does not move.
    Stuck,
    /// Somebody wants it to take none.
    Draining,
    /// It has too little of something for another call.
    Full,
    /// Its free seats are kept for calls on their way.
    Reserved,
    /// Its weight is 0.
    Unweighted,
    /// It is the canary, and the canary's share is 0.
    HeldBack,
}

impl Why {
    /// The reason in words for whoever runs the fleet.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Free => "It takes calls.",
            Self::Suspect => {
                "It has not said for seconds how it is: look at it and at the way to it."
            }
            Self::Stuck => "One of its threads does not move: look at its log, and restart it.",
            Self::Draining => {
                "It is drained, or stops: DELETE /v1/nodes/{node}/drain takes a drain back."
            }
            Self::Full => {
                "It has too little of something for another call: seats, memory, files, time."
            }
            Self::Reserved => {
                "Its free seats are kept for calls on their way, ten seconds at most."
            }
            Self::Unweighted => "Its weight is 0: PUT /v1/nodes/{node}/weight gives it calls.",
            Self::HeldBack => {
                "It is the canary, with 0 percent: PUT /v1/nodes/canary gives it a share."
            }
        }
    }
}

/// Why no node takes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// No relay says how it is; one may a moment later.
    #[error("no relay is connected")]
    Nobody,
    /// Those that are there take no more calls.
    #[error("no relay takes more calls")]
    Full,
}

impl<'a> Snapshot<'a> {
    /// The node for a call.
    ///
    /// # Errors
    /// When no node takes it, in any region.
    pub fn choose(&self, wish: &Wish<'_>) -> Result<&'a NodeId, Unplaced> {
        let side = self.canary.map_or(Side::Rest, |canary| canary.side_of_call(wish.call));
        // Another side weighs more than any region: a canary's share must not depend on where calls
        // come from.
        let rank = |one: &Candidate<'_>| {
            (Some(one.node) == wish.left, self.side(one) != side, wish.rank(one.region))
        };
        let taking = self.candidates.iter().filter(|one| self.why(one) == Why::Free);
        let chosen = taking.min_by(|one, other| {
            rank(one).cmp(&rank(other)).then_with(|| one.against(other, wish.call))
        });
        chosen.map(|chosen| chosen.node).ok_or_else(|| self.unplaced())
    }

    /// Why a node takes calls, or takes none.
    #[must_use]
    pub fn why(&self, candidate: &Candidate<'_>) -> Why {
        match candidate.standing {
            Standing::Suspect => Why::Suspect,
            Standing::Stuck => Why::Stuck,
            Standing::Draining => Why::Draining,
            Standing::Full => Why::Full,
            Standing::Ready if candidate.weight.get() == 0 => Why::Unweighted,
            Standing::Ready if self.is_held_back(candidate) => Why::HeldBack,
            Standing::Ready if candidate.seats() == 0 => Why::Reserved,
            Standing::Ready => Why::Free,
        }
    }

    /// How many more calls a node takes at this moment.
    #[must_use]
    pub fn free(&self, candidate: &Candidate<'_>) -> u32 {
        if self.why(candidate) == Why::Free { candidate.seats() } else { 0 }
    }

    fn side(&self, candidate: &Candidate<'_>) -> Side {
        Side::of(self.canary, candidate.node, candidate.software)
    }

    fn is_held_back(&self, candidate: &Candidate<'_>) -> bool {
        let takes_none = self.canary.is_some_and(|canary| canary.percent.get() == 0);
        takes_none && self.side(candidate) == Side::Canary
    }

    /// Nodes that say nothing may be heard again at any moment, and one that speaks decides.
    fn unplaced(&self) -> Unplaced {
        let is_silent = |one: &Candidate<'_>| one.standing == Standing::Suspect;
        if self.candidates.iter().all(is_silent) { Unplaced::Nobody } else { Unplaced::Full }
    }
}

impl Candidate<'_> {
    /// Seats that nobody has and nobody is on the way to.
    fn seats(&self) -> u32 {
        self.calls_max.saturating_sub(self.calls).saturating_sub(self.reserved)
    }

    /// Who would have fewer calls for its weight with one more. Counted with that one, so that of
    /// two empty nodes the heavier comes first.
    fn against(&self, other: &Self, call: &CallId) -> Ordering {
        // Without a division: a weight is at least 1, and both products fit.
        let times = |one: &Self, weight: Weight| {
            (u64::from(one.calls) + u64::from(one.reserved) + 1) * u64::from(weight.get())
        };
        let (ours, theirs) = (times(self, other.weight), times(other, self.weight));
        // By lot, and not by name: several controls would all begin with the same node.
        let lots = || lot(self.node.as_str(), call).cmp(&lot(other.node.as_str(), call));
        ours.cmp(&theirs).then_with(lots).then_with(|| self.node.cmp(other.node))
    }
}

/// What a call draws for a subject: a number that looks like chance, and is the same on every
/// instance and in every release.
pub(super) fn lot(subject: &str, call: &CallId) -> u64 {
    // No id holds a NUL, so no two pairs are written alike.
    let digest =
        Sha256::new().chain_update(subject).chain_update([0_u8]).chain_update(call.as_str());
    let digest = digest.finalize();
    digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests;

//! The trial of a canary: what operators have said of it, and how streams have fared on either side.
//!
//! It is kept in the database. Each instance looks every two seconds for what others have said, and
//! adds what it has counted itself.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use link::id::WallTime;

use super::canary::{Canary, Side};
use super::nodes::Nodes;
use super::tally::{Counts, Group, Tally};
use crate::store::{Store, StoreError};

/// What is known of the trial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trial {
    /// What is tried, and since when; `None` when nothing is.
    pub canary: Option<(Canary, WallTime)>,
    /// How streams have fared since the last canary was named, by group.
    pub counts: BTreeMap<Group, Counts>,
}

impl Trial {
    /// What is tried.
    #[must_use]
    pub fn canary(&self) -> Option<&Canary> {
        self.canary.as_ref().map(|(canary, _)| canary)
    }
}

/// How one group fares, and who is in it at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fare {
    /// Nodes of the group whose link is up.
    pub nodes: u64,
    /// Calls on them.
    pub calls: u64,
    /// How streams have fared.
    pub counts: Counts,
}

impl Nodes {
    /// What is known of the trial here.
    #[must_use]
    pub fn trial(&self) -> Arc<Trial> {
        Arc::clone(&self.inner.trial.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every group that has nodes or counts, and how it fares.
    #[must_use]
    pub fn fares(&self) -> BTreeMap<Group, Fare> {
        let trial = self.trial();
        let mut fares = BTreeMap::<Group, Fare>::new();
        for (group, counts) in &trial.counts {
            fares.entry(group.clone()).or_default().counts = *counts;
        }
        for node in self.list() {
            let side = Side::of(trial.canary(), &node.node, &node.software);
            let fare = fares.entry(Group::new(&node.software, side)).or_default();
            fare.nodes += 1;
            fare.calls += u64::from(node.load.map_or(0, |load| load.calls));
        }
        fares
    }

    /// Writes down what was counted here, and reads what all have said and counted.
    ///
    /// # Errors
    /// When the database fails: what was known then stays, and what was counted is kept.
    pub(super) async fn follow_trial(&self, store: &Store) -> Result<(), StoreError> {
        self.sweep(crate::clock::wall());
        let counted = self.tally().take();
        if let Err(error) = store.add_counts(&counted).await {
            self.tally().give_back(counted);
            return Err(error);
        }
        self.set_trial(store.trial().await?);
        Ok(())
    }

    pub(super) fn set_trial(&self, trial: Trial) {
        *self.inner.trial.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(trial);
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

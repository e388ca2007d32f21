//! What is done to a fleet: each act by itself, with the moment at which it was done.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::node::Node;
use super::stage::Stage;
use crate::carrier::What;
use crate::clock::wall_us;

/// Something that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Act {
    /// A relay's process is killed; the system closes its sockets.
    KillNode,
    /// A relay's process stands still with its sockets open, as a machine that is cut off.
    FreezeNode,
    /// A relay's process is asked to end.
    DrainNode,
    /// Every control is killed, and the database with them.
    ControlDown,
    /// The database is stopped, and one of the two controls is killed.
    DatabaseDown,
    /// A relay hears nothing of any control, and no control of it.
    Partition,
}

impl Act {
    /// Whether the calls that it concerns have to go to another node, or must not notice.
    pub(super) fn moves_calls(self) -> bool {
        match self {
            Self::KillNode | Self::FreezeNode | Self::DrainNode => true,
            Self::ControlDown | Self::DatabaseDown | Self::Partition => false,
        }
    }
}

/// Something that was done.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Blow {
    /// What.
    pub(super) act: Act,
    /// To which node; `None` when it concerns all.
    pub(super) node: Option<String>,
    /// When, in microseconds since 1970.
    pub(super) at_us: u64,
    /// When everything was there again.
    pub(super) healed_us: u64,
    /// Calls that came meanwhile, and those of them that were answered before it was over.
    pub(super) newcomers: u64,
    pub(super) newcomers_answered: u64,
    /// What went wrong with the act itself.
    pub(super) problem: Option<String>,
}

impl Stage {
    /// Does something to the node with this place, or to all; gives everything back afterwards.
    ///
    /// # Errors
    /// When it cannot be done, or something does not come back.
    pub(super) async fn strike(
        &mut self,
        act: Act,
        node: usize,
        lasts: Duration,
    ) -> anyhow::Result<Blow> {
        let mut blow = Blow {
            act,
            node: None,
            at_us: wall_us(),
            healed_us: 0,
            newcomers: 0,
            newcomers_answered: 0,
            problem: None,
        };
        match act {
            Act::KillNode | Act::FreezeNode | Act::DrainNode | Act::Partition => {
                let node = self.nodes.get_mut(node).context("there is such a node")?;
                blow.node = Some(node.name.clone());
                blow.problem = on_node(act, node, lasts).await?;
            }
            Act::ControlDown => self.without_control(lasts, &mut blow).await?,
            Act::DatabaseDown => self.without_database(lasts, &mut blow).await?,
        }
        blow.healed_us = wall_us();
        Ok(blow)
    }

    /// Neither control nor a database for a while, and callers who come then: the number's fallback
    /// speaks to them.
    async fn without_control(&mut self, lasts: Duration, blow: &mut Blow) -> anyhow::Result<()> {
        for control in &mut self.controls {
            control.kill().await?;
        }
        self.cluster.end().await?;
        let callers = NEWCOMERS_FROM..NEWCOMERS_FROM + NEWCOMERS_TOLD;
        let newcomers: Vec<String> =
            callers.map(|number| self.call(number, NEWCOMERS_SAY)).collect::<Result<_, _>>()?;
        tokio::time::sleep(lasts).await;
        for sid in &newcomers {
            let said = |what: &What| matches!(what, What::Said { .. });
            let told = self.twilio.read(sid, |record| record.what().any(said));
            blow.newcomers += 1;
            blow.newcomers_answered += u64::from(told == Some(true));
            self.twilio.hang_up(sid).await;
        }
        self.cluster.begin().await?;
        self.controls_back().await
    }

    /// One control without a database for a while, and callers who come then.
    async fn without_database(&mut self, lasts: Duration, blow: &mut Blow) -> anyhow::Result<()> {
        self.controls.last_mut().context("there are two controls")?.kill().await?;
        self.cluster.end().await?;
        let mut newcomers = Vec::new();
        let callers = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX).min(NEWCOMERS_MAX);
        for number in 0..callers {
            newcomers.push(self.call(NEWCOMERS_FROM + number, NEWCOMERS_SAY)?);
            tokio::time::sleep(lasts / callers.max(1)).await;
        }
        // The last of them needs a while to be answered.
        tokio::time::sleep(ANSWERED_WITHIN).await;
        for sid in &newcomers {
            let heard = |what: &What| *what == What::AgentHeard;
            let answered = self.twilio.read(sid, |record| record.what().any(heard));
            blow.newcomers += 1;
            blow.newcomers_answered += u64::from(answered == Some(true));
            self.twilio.hang_up(sid).await;
        }
        self.cluster.begin().await?;
        self.controls_back().await
    }

    /// Starts the controls that do not run.
    async fn controls_back(&mut self) -> anyhow::Result<()> {
        for control in self.controls.iter_mut().filter(|control| !control.is_up()) {
            control.start().await?;
        }
        Ok(())
    }
}

/// Does something to one node, and gives it back; what went wrong that is a finding and no error.
async fn on_node(act: Act, node: &mut Node, lasts: Duration) -> anyhow::Result<Option<String>> {
    match act {
        Act::KillNode => {
            node.kill().await?;
            tokio::time::sleep(lasts).await;
            node.start().await?;
        }
        Act::FreezeNode => {
            node.freeze()?;
            tokio::time::sleep(lasts).await;
            node.kill().await?;
            node.start().await?;
        }
        Act::DrainNode => {
            let ended = node.drain().await;
            node.start().await?;
            return Ok(match ended {
                Ok(status) if status.success() => None,
                Ok(status) => Some(format!("{} ended by {status}", node.name)),
                Err(error) => Some(format!("{error:#}")),
            });
        }
        Act::Partition => {
            node.ways.iter().for_each(super::cut::Way::cut);
            tokio::time::sleep(lasts).await;
            node.ways.iter().for_each(super::cut::Way::heal);
            if node.ways.iter().all(|way| way.swallowed() == 0) {
                return Ok(Some("nothing was on the way that was cut".to_owned()));
            }
        }
        Act::ControlDown | Act::DatabaseDown => bail!("{act:?} is nothing that a node suffers"),
    }
    Ok(None)
}

/// Callers who come while the database is away: numbers that no other call has.
const NEWCOMERS_FROM: u32 = 1_000_000;
const NEWCOMERS_MAX: u32 = 100;
const NEWCOMERS_SAY: u32 = 2;

/// Callers who come while there is no control at all.
const NEWCOMERS_TOLD: u32 = 10;

/// A caller who has heard nothing by then was not answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

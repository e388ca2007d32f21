//! Measures for the gate: memory, open files, and how late the shards are.

use std::sync::Arc;
use std::time::Duration;

use super::memory;
use crate::clock::{self, Clock};
use crate::gate::Gate;
use crate::gate::room::Measured;
use crate::shard::Gauge;

/// How often. A shard that is late is found after this and the beats that it takes to be sure.
const EVERY: Duration = Duration::from_millis(250);
/// Memory is read at each so manieth time: it costs a system call that looks at all of the
/// process's memory areas.
const MEMORY_EVERY: u32 = 4;

/// Measures for ever.
pub(super) async fn measure(gate: Arc<Gate>, gauges: Arc<[Arc<Gauge>]>, clock: Clock) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut memory = 0;
    for turn in (0..MEMORY_EVERY).cycle() {
        tick.tick().await;
        if turn == 0 {
            memory = memory::resident().unwrap_or(memory);
            gate.register().tidy(clock::wall());
        }
        let now = clock.now();
        let connections: u64 = gauges.iter().map(|gauge| gauge.connections()).sum();
        let waiting = {
            let lobby = gate.lobby();
            lobby.announced() + lobby.spares()
        };
        let beside = connections.saturating_sub(u64::from(gate.occupancy().calls));
        let measured = Measured {
            memory,
            files_beside: beside + u64::try_from(waiting).unwrap_or(u64::MAX),
            lateness: gauges.iter().map(|gauge| gauge.lateness(now)).max().unwrap_or_default(),
        };
        match gate.measure(measured) {
            Some(Some(strain)) => {
                tracing::warn!(why = strain.as_str(), ?measured, "no new calls are taken");
            }
            Some(None) => tracing::info!(?measured, "new calls are taken again"),
            None => {}
        }
    }
}

//! Whether the process lives: every shard has time for its own clock.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::shard::Gauge;

/// A shard that has not had time for its clock for so long is stuck.
const BEAT_MAX: Duration = Duration::from_secs(5);

/// The first shard that has had no time for its clock for too long.
pub(super) fn stuck(gauges: &[Arc<Gauge>], clock: Clock) -> Option<usize> {
    let now = clock.now();
    gauges.iter().position(|gauge| now.since(gauge.beat()) > BEAT_MAX)
}

/// Tells systemd that the process lives, as long as all its shards do.
pub(super) async fn watch(gauges: Arc<[Arc<Gauge>]>, clock: Clock) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(within / 3);
    loop {
        tick.tick().await;
        match stuck(&gauges, clock) {
            None => drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog])),
            Some(shard) => tracing::error!(shard, "a shard is stuck"),
        }
    }
}

//! Whether the process lives: the house has time for this, and every shard for its own clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::front::Front;
use crate::shard::Gauge;

/// A shard that has not had time for its clock for so long is stuck.
const BEAT_MAX: Duration = Duration::from_secs(5);

/// How often a process that nobody else watches looks at itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many looks in a row find a shard stuck before the process ends: ten seconds after its last beat,
/// as long as systemd waits.
const LOOKS_MAX: u32 = 5;
/// The exit code then (EX_SOFTWARE of sysexits).
const EXIT_STUCK: i32 = 70;

/// The first shard that has had no time for its clock for too long.
pub(super) fn stuck(gauges: &[Arc<Gauge>], clock: Clock) -> Option<usize> {
    let now = clock.now();
    gauges.iter().position(|gauge| now.since(gauge.beat()) > BEAT_MAX)
}

/// Lets whoever starts the process again know when it does not live: systemd by not being told that it
/// does, Fly, whose checks restart nothing, by its end.
pub(super) async fn watch(gauges: Arc<[Arc<Gauge>]>, clock: Clock, front: Front) {
    match (sd_notify::watchdog_enabled(), front) {
        (Some(within), Front::Plain | Front::Fly) => tell(&gauges, clock, within).await,
        (None, Front::Fly) => {
            let shard = until_stuck(&gauges, clock).await;
            tracing::error!(shard, "a shard stays stuck: the process ends, to be started again");
            std::process::exit(EXIT_STUCK);
        }
        (None, Front::Plain) => {}
    }
}

/// Tells systemd that the process lives, as long as all its shards do.
async fn tell(gauges: &[Arc<Gauge>], clock: Clock, within: Duration) {
    let mut tick = tokio::time::interval(within / 3);
    loop {
        tick.tick().await;
        match stuck(gauges, clock) {
            None => drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog])),
            Some(shard) => tracing::error!(shard, "a shard is stuck"),
        }
    }
}

/// Waits until a shard is stuck, look after look.
async fn until_stuck(gauges: &[Arc<Gauge>], clock: Clock) -> usize {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    // A machine that was stopped looks once when it goes on, and its shards have time before the next.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0;
    loop {
        tick.tick().await;
        match stuck(gauges, clock) {
            None => looks = 0,
            Some(shard) if looks + 1 == LOOKS_MAX => return shard,
            Some(_) => looks += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_beats_again_ends_nothing_and_one_that_does_not_ends_the_process() {
        let (clock, gauges) = (Clock::start(), [Arc::new(Gauge::default()), Arc::default()]);
        let began = clock.now();
        let beats = |gauge: &Gauge| gauge.beats(clock.now(), Duration::ZERO);
        let ends = until_stuck(&gauges, clock);
        let beating = async {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            loop {
                tick.tick().await;
                beats(&gauges[0]);
                // The other one stops for eight seconds, and for good after a minute.
                let at = clock.now().since(began).as_secs();
                if !(20..28).contains(&at) && at < 60 {
                    beats(&gauges[1]);
                }
            }
        };
        let shard = tokio::select! {
            shard = ends => shard,
            () = beating => unreachable!("it beats for ever"),
        };
        assert_eq!(shard, 1);
        let after = clock.now().since(began);
        let bounds = Duration::from_secs(68)..Duration::from_secs(72);
        assert!(bounds.contains(&after), "{after:?}");
    }
}

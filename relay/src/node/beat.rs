//! The heartbeat of one connection, on a stream of its own each way: what waits on the other one holds
//! no beat up. A control that is not heard, or does not hear, is away: its line is over, and dialled
//! again. Other lines go on, and so do calls. Between beats the node asks for its certificate.

use link::beat::{BEAT_EVERY, Doubt, NodeBeat, Pulse};
use link::frame::Frame;
use link::id::WallTime;
use link::message::{ToControl, ToRelay};
use link::ticket::SKEW_SECONDS;
use quinn::Connection;

use super::Link;
use super::session::{Broken, Reader, send};
use crate::call::moment::Moment;
use crate::clock;

/// Why a line is over although nobody has closed it.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("control is silent")]
    Silent,
    #[error("control does not hear this node")]
    Deaf,
}

impl From<Doubt> for Lost {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Silent => Self::Silent,
            Doubt::Deaf => Self::Deaf,
        }
    }
}

/// The frames of the stream that control beats on, from before it opens it.
struct Beats<'a> {
    connection: &'a Connection,
    reader: Option<Reader>,
}

impl Beats<'_> {
    /// The next frame. Nothing is lost when nobody waits for it any more.
    async fn next(&mut self) -> Result<Frame, Broken> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let receiver = self.connection.accept_uni().await?;
                self.reader.insert(Reader::new(receiver))
            }
        };
        reader.frame().await
    }
}

impl Link {
    /// Beats, and hears control beat, until one of the two ways is lost.
    pub(super) async fn beat(&self, connection: &Connection) -> Result<(), Broken> {
        let mut sender = connection.open_uni().await?;
        // Before all events that wait, on a line that takes little.
        sender.set_priority(1)?;
        let mut beats = Beats { connection, reader: None };
        let (clock, mut pulse) = (self.around.clock, Pulse::default());
        let (mut due, mut is_off) = (clock.now(), false);
        loop {
            let doubted = pulse.doubted_us().map_or(due, Moment::from_micros);
            tokio::select! {
                // All that has arrived is heard before anybody is doubted: it may be us who slept.
                biased;
                frame = beats.next() => {
                    if let Some(wall) = self.hear_beat(&frame?, &mut pulse) {
                        is_off = mind_clock(wall, is_off);
                    }
                    continue;
                }
                () = tokio::time::sleep_until(clock.instant(due.min(doubted))) => {}
            }
            let now = clock.now();
            if let Some(doubt) = pulse.doubt(now.micros()) {
                return Err(Lost::from(doubt).into());
            }
            if now >= due {
                due = now + BEAT_EVERY;
                let beat = pulse.beat(now.micros(), clock::wall());
                let (progress, load) = (self.progress(), self.load());
                let beat = ToControl::Beat(NodeBeat { beat, progress, load });
                send(&mut sender, &beat).await?;
                let wanted = self.passport.borrow_mut().ask(clock::wall());
                if let Some(key) = wanted {
                    send(&mut sender, &ToControl::Enrol { key }).await?;
                }
            }
        }
    }

    /// Takes what stands among control's beats; its wall clock, when it is a beat.
    fn hear_beat(&self, frame: &Frame, pulse: &mut Pulse) -> Option<WallTime> {
        let message = ToRelay::read(frame);
        if let Ok(ToRelay::Beat(beat)) = message {
            pulse.hear(beat, self.around.clock.now().micros());
            return Some(beat.wall);
        }
        if let Ok(ToRelay::Certificate { certificate, good_until }) = message {
            let taken = self.passport.borrow_mut().take(&certificate, good_until, clock::wall());
            match taken {
                Ok(()) => tracing::info!("this node has a certificate of its own"),
                Err(error) => tracing::warn!(%error, "a certificate is not taken"),
            }
        } else {
            self.around.counters.link_unknown.one();
            tracing::debug!("a frame among control's beats is skipped");
        }
        None
    }

    /// Frames that all shards have moved. Each counts for itself; nobody waits for the sum.
    fn progress(&self) -> u64 {
        self.around.shards_count.iter().map(|counters| counters.frames_moved()).sum()
    }
}

/// Says once that the two clocks have come apart; whether they are.
fn mind_clock(theirs: WallTime, was_off: bool) -> bool {
    let ahead_us = theirs.0.saturating_sub(clock::wall().0);
    let is_off = ahead_us.unsigned_abs() > SKEW_SECONDS.unsigned_abs() * 1_000_000;
    if is_off && !was_off {
        let ahead_ms = ahead_us / 1_000;
        tracing::warn!(ahead_ms, "control's clock is not this node's: tickets may be refused");
    }
    is_off
}

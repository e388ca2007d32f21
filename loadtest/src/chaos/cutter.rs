//! Cuts connections of the model: which one, when and how is chance, drawn from a seed.

use std::time::Duration;

use super::ChaosArgs;
use super::stage::Fakes;
use crate::clock::wall_us;
use crate::model::Leave;
use crate::noise::Noise;
use crate::proxy::{Connection, Fault, Flow};

/// Whoever cuts.
pub(super) struct Cutter {
    noise: Noise,
    wanted: u32,
    holes: u32,
    pause: Duration,
    struck: Vec<Struck>,
}

/// A cut that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Struck {
    /// The address by which the model knows the connection.
    pub(super) peer: String,
    /// When, in microseconds since 1970.
    pub(super) at_us: u64,
    /// How.
    pub(super) how: Cut,
}

/// A way in which a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// A reset.
    Reset,
    /// A close of the network's, without a word of WebSocket's.
    Vanish,
    /// The service closes with 1001.
    GoingAway,
    /// The service closes with 1011.
    ServerError,
    /// A reset in the middle of a frame.
    MidFrame,
    /// Nothing arrives any more, and nobody is told.
    BlackHole,
}

impl Cut {
    /// Its name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Vanish => "closed without a word",
            Self::GoingAway => "close 1001",
            Self::ServerError => "close 1011",
            Self::MidFrame => "cut in mid-frame",
            Self::BlackHole => "black hole",
        }
    }

    /// Draws one; of a hundred so many are black holes.
    fn draw(noise: &mut Noise, holes: u32) -> Self {
        if noise.below(100) < holes {
            return Self::BlackHole;
        }
        match noise.below(100) {
            0..30 => Self::Reset,
            30..40 => Self::Vanish,
            40..55 => Self::GoingAway,
            55..70 => Self::ServerError,
            _ => Self::MidFrame,
        }
    }
}

impl Cutter {
    /// Somebody who cuts as the arguments say.
    pub(super) fn new(args: &ChaosArgs) -> Self {
        Self {
            noise: Noise::seeded(args.seed, 0),
            wanted: args.cuts,
            holes: args.holes,
            pause: Duration::from_millis(args.every_ms) / args.calls.max(1),
            struck: Vec::new(),
        }
    }

    /// What was cut so far.
    pub(super) fn struck(&self) -> &[Struck] {
        &self.struck
    }

    /// Cuts until it is enough, and tells how far it is every few seconds.
    pub(super) async fn cut_until_enough(&mut self, fakes: &Fakes, mut tell: impl FnMut(usize)) {
        let clock = crate::clock::Stopwatch::start();
        let mut told = 0;
        while self.struck.len() < self.wanted as usize {
            // Evenly spread from none to twice the mean.
            let pause = self.pause * self.noise.below(2_001) / 1_000;
            tokio::time::sleep(pause).await;
            self.cut_one(fakes);
            if clock.millis() / TELL_MS > told {
                told = clock.millis() / TELL_MS;
                tell(self.struck.len());
            }
        }
    }

    /// Cuts one of the connections that are open, if there is any.
    fn cut_one(&mut self, fakes: &Fakes) {
        let mut open = fakes.proxy.connections();
        open.retain(|connection| connection.open && !self.is_lost(connection));
        let Ok(count @ 1..) = u32::try_from(open.len()) else { return };
        let connection = open[self.noise.below(count) as usize];
        let Some(outward) = connection.outward else { return };
        let how = Cut::draw(&mut self.noise, self.holes);
        if self.strike(fakes, connection.id, outward, how) {
            let (peer, at_us) = (outward.to_string(), wall_us());
            self.struck.push(Struck { peer, at_us, how });
        }
    }

    /// Whether a connection has had its cut already, which may not have come yet.
    fn is_lost(&self, connection: &Connection) -> bool {
        let peer = connection.outward.map(|outward| outward.to_string()).unwrap_or_default();
        self.struck.iter().rev().take(RECENT).any(|struck| struck.peer == peer)
    }

    /// Cuts a connection; gives whether there was something to cut.
    fn strike(
        &mut self,
        fakes: &Fakes,
        connection: u64,
        outward: std::net::SocketAddr,
        how: Cut,
    ) -> bool {
        let flow = if self.noise.below(2) == 0 { Flow::Up } else { Flow::Down };
        let bytes = u64::from(self.noise.below(3_000));
        let by_proxy = |fault| fakes.proxy.strike(connection, flow, fault);
        // A service that has not let the client in yet has nobody to say goodbye to.
        let by_service =
            |code| fakes.model.end_of(outward, Leave::Close(code)) || by_proxy(Fault::Reset);
        match how {
            Cut::Reset => by_proxy(Fault::Reset),
            Cut::Vanish => by_proxy(Fault::Close),
            Cut::GoingAway => by_service(1001),
            Cut::ServerError => by_service(1011),
            Cut::MidFrame => by_proxy(Fault::CutAfter(bytes)),
            Cut::BlackHole => by_proxy(Fault::BlackHole),
        }
    }
}

/// From one line of progress to the next.
const TELL_MS: u64 = 5_000;

/// A connection is closed long before so many others were cut.
const RECENT: usize = 2_000;

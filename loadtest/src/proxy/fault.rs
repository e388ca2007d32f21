//! What can happen to a connection, and plans of when it does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::noise::Noise;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// From the one who dialled to the target.
    Up,
    /// From the target to the one who dialled.
    Down,
}

/// Something that happens to a connection. What names no direction happens to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// From here on, every byte of the flow arrives so much later.
    Delay(Duration),
    /// From here on, no more than so many bytes of the flow arrive in a second. Whoever sends more
    /// fills a small buffer, and is stopped then.
    Throttle(u64),
    /// From here on, no more than so many bytes a second are even taken from the sender.
    SlowRead(u64),
    /// Nothing arrives any more in either direction, and nobody is told.
    BlackHole,
    /// The flow ends as if its sender had finished; the other one goes on.
    HalfClose,
    /// Both ends are reset (`SO_LINGER` 0).
    Reset,
    /// Both ends are closed without being reset.
    Close,
    /// After so many more bytes of the flow both ends are reset: in the middle of a frame.
    CutAfter(u64),
    /// The network is well again: no delay, no bounds.
    Heal,
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no fault: delay=MS, throttle=BYTES, slow-read=BYTES, black-hole, half-close, reset, \
     close, cut-after=BYTES, heal"
)]
pub struct BadFault(String);

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, number.parse().ok()),
            None => (text, None),
        };
        Ok(match (name, number) {
            ("delay", Some(ms)) => Self::Delay(Duration::from_millis(ms)),
            ("throttle", Some(bytes @ 1..)) => Self::Throttle(bytes),
            ("slow-read", Some(bytes @ 1..)) => Self::SlowRead(bytes),
            ("cut-after", Some(bytes)) => Self::CutAfter(bytes),
            ("black-hole", None) => Self::BlackHole,
            ("half-close", None) => Self::HalfClose,
            ("reset", None) => Self::Reset,
            ("close", None) => Self::Close,
            ("heal", None) => Self::Heal,
            _ => return Err(BadFault(text.to_owned())),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(by) => write!(f, "delay={}", by.as_millis()),
            Self::Throttle(bytes) => write!(f, "throttle={bytes}"),
            Self::SlowRead(bytes) => write!(f, "slow-read={bytes}"),
            Self::CutAfter(bytes) => write!(f, "cut-after={bytes}"),
            Self::BlackHole => f.write_str("black-hole"),
            Self::HalfClose => f.write_str("half-close"),
            Self::Reset => f.write_str("reset"),
            Self::Close => f.write_str("close"),
            Self::Heal => f.write_str("heal"),
        }
    }
}

/// Faults that come by themselves. The same seed gives the same faults at the same times to the
/// same numbers of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the plan is drawn from.
    pub seed: u64,
    /// From one fault of a connection to the next, on average.
    pub every: Duration,
    /// What may happen; nothing when empty.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Nothing ever happens by itself.
    #[must_use]
    pub fn none() -> Self {
        Self { seed: 0, every: Duration::ZERO, faults: Vec::new() }
    }

    /// What happens to one connection: after how long, where, what.
    pub(super) fn faults_of(
        &self,
        connection: u64,
    ) -> impl Iterator<Item = (Duration, Flow, Fault)> + use<> {
        let mut noise = Noise::seeded(self.seed, connection);
        let (every, faults) = (self.every, self.faults.clone());
        std::iter::from_fn(move || {
            let choices = u32::try_from(faults.len()).ok().filter(|count| *count > 0)?;
            // Evenly spread from none to twice the mean: no moment is out of reach.
            let after = every * noise.below(2_001) / 1_000;
            let flow = if noise.below(2) == 0 { Flow::Up } else { Flow::Down };
            Some((after, flow, faults[noise.below(choices) as usize]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_in_text() {
        assert_eq!("delay=20".parse(), Ok(Fault::Delay(Duration::from_millis(20))));
        let bytes = ["throttle=9", "slow-read=1", "cut-after=0"];
        let bare = ["black-hole", "half-close", "reset", "close", "heal"];
        for text in bytes.into_iter().chain(bare).chain(["delay=20"]) {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for bad in ["", "reset=1", "throttle=0", "throttle", "delay=x"] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_is_drawn_from_its_seed() {
        let every = Duration::from_secs(1);
        let plan = |seed| Plan { seed, every, faults: vec![Fault::Reset, Fault::BlackHole] };
        let faults = |seed, of| plan(seed).faults_of(of).take(50).collect::<Vec<_>>();
        assert_eq!(faults(7, 3), faults(7, 3));
        assert_ne!(faults(7, 3), faults(7, 4));
        assert_ne!(faults(7, 3), faults(8, 3));
        let total: Duration = faults(7, 3).iter().map(|(after, _, _)| *after).sum();
        assert!(total > every * 25 && total < every * 75, "{total:?}");
        assert_eq!(Plan::none().faults_of(0).next(), None);
    }
}

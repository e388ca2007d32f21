//! How a node is, in a word. Pure.

use link::message::Load;

/// How a node is, as far as it has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes new calls.
    Ready,
    /// It takes none because somebody wants it so; those that it carries go on.
    Draining,
    /// It takes none because it has too little of something: seats, memory, files, time.
    Full,
    /// Its link is up, and it has not said for too long how it is doing.
    Suspect,
    /// It says how it is doing, and that one of its threads has not moved for seconds.
    Stuck,
}

impl Standing {
    /// What a node's last word, and the time since, make of it.
    #[must_use]
    pub fn of(load: Option<Load>, silent_us: i64) -> Self {
        match load {
            None => Self::Suspect,
            // By the distance: a wall clock that is set back makes nobody suspect for ever.
            Some(_) if silent_us.unsigned_abs() > SILENT_US_MAX => Self::Suspect,
            Some(Load { late_us: Some(late_us), .. }) if late_us > STUCK_US_MAX => Self::Stuck,
            Some(Load { draining: true, .. }) => Self::Draining,
            Some(load) if load.ready && load.calls < load.calls_max => Self::Ready,
            Some(_) => Self::Full,
        }
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Full => "full",
            Self::Suspect => "suspect",
            Self::Stuck => "stuck",
        }
    }
}

/// A node says every second how it is doing; three words that did not come are no accident.
const SILENT_US_MAX: u64 = 3_500_000;

/// A thread that is only busy is late by a tenth of a second, and refuses calls by itself then; one that
/// owes its beat for so long hangs, and with it the calls that it carries.
const STUCK_US_MAX: u64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_what_it_said_last_unless_that_was_long_ago() {
        let ready = Load { calls: 1, calls_max: 2, ready: true, ..Load::default() };
        let of = |load| Standing::of(Some(load), 1_000_000).as_str();
        assert_eq!(of(ready), "ready");
        assert_eq!(of(Load { calls: 2, ..ready }), "full");
        assert_eq!(of(Load { ready: false, ..ready }), "full");
        assert_eq!(of(Load { ready: false, draining: true, ..ready }), "draining");
        assert_eq!(of(Load { late_us: Some(100_000), ..ready }), "ready");
        assert_eq!(of(Load { late_us: Some(6_000_000), draining: true, ..ready }), "stuck");
        assert_eq!(Standing::of(Some(ready), 4_000_000), Standing::Suspect);
        assert_eq!(Standing::of(None, 0), Standing::Suspect);
    }
}

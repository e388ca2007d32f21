//! How much room the node has beyond its seats: memory, open files, and the time of its shards.
//! Pure; the house measures, the [`Gate`](super::Gate) asks.
//!
//! Each of the three is a switch with two marks. It goes off when one more call would pass the
//! bound, or a shard is late, and on again only when a measurement is below the lower mark, so
//! that a node at its bound does not blink.

use std::time::Duration;

/// What the node may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Resident bytes of the process; control and operators see the same figure in `/health`.
    pub memory_max: u64,
    /// Files that calls and other connections may have open, the process's own left out.
    pub files_max: u64,
    /// How late a shard may be with its own timer and still take calls.
    pub lateness_max: Duration,
}

impl Bounds {
    /// Nothing is bounded but the seats.
    pub const NONE: Self =
        Self { memory_max: u64::MAX, files_max: u64::MAX, lateness_max: Duration::MAX };
}

/// What was measured last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Resident bytes.
    pub memory: u64,
    /// Files of connections that are no calls, and of sessions that wait for theirs.
    pub files_beside: u64,
    /// How late the latest shard is.
    pub lateness: Duration,
}

/// What there is too little of for another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strain {
    /// Memory.
    Memory,
    /// Open files.
    Files,
    /// Time: a shard is late with the calls that it has.
    Lateness,
}

impl Strain {
    /// Its name in `/health` and logs; a metric's label says the same.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "no_memory",
            Self::Files => "no_files",
            Self::Lateness => "late",
        }
    }
}

/// What a call is expected to take before it has taken it. A call in pass-through has some 40 KiB,
/// with TLS on both legs 64.
pub const CALL_BYTES: u64 = 64 << 10;
/// A caller's socket, an agent's, and another agent's while the call rolls over.
pub const CALL_FILES: u64 = 3;

/// The room, and which of its switches are off.
#[derive(Debug, Clone)]
pub struct Room {
    bounds: Bounds,
    measured: Measured,
    /// Seats taken when memory was measured: those taken since are not in the figure yet.
    calls_measured: u32,
    memory_is_short: bool,
    files_are_short: bool,
    is_late: bool,
}

impl Room {
    /// All of the room; nothing is measured yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            measured: Measured::default(),
            calls_measured: 0,
            memory_is_short: false,
            files_are_short: false,
            is_late: false,
        }
    }

    /// Takes a measurement, made while so many seats were taken, and gives what is short after it.
    pub fn measure(&mut self, measured: Measured, calls: u32) -> Option<Strain> {
        self.measured = measured;
        self.calls_measured = calls;
        let Bounds { memory_max, files_max, lateness_max } = self.bounds;
        self.memory_is_short &= self.memory(calls) > lower_mark(memory_max);
        self.files_are_short &= self.files(calls) > lower_mark(files_max);
        // A node without calls is late for reasons that refusing cannot mend, and it may be the
        // only node there is.
        self.is_late = calls > 0
            && match self.is_late {
                true => measured.lateness > lateness_max / 2,
                false => measured.lateness > lateness_max,
            };
        self.admit(calls).err()
    }

    /// Whether there is room for one call more than so many.
    ///
    /// # Errors
    /// What there is too little of.
    pub fn admit(&mut self, calls: u32) -> Result<(), Strain> {
        let with_one_more = calls.saturating_add(1);
        self.memory_is_short |= self.memory(with_one_more) > self.bounds.memory_max;
        self.files_are_short |= self.files(with_one_more) > self.bounds.files_max;
        match self {
            Self { memory_is_short: true, .. } => Err(Strain::Memory),
            Self { files_are_short: true, .. } => Err(Strain::Files),
            Self { is_late: true, .. } => Err(Strain::Lateness),
            Self { .. } => Ok(()),
        }
    }

    /// What the node may use.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// What was measured last.
    #[must_use]
    pub fn measured(&self) -> Measured {
        self.measured
    }

    fn memory(&self, calls: u32) -> u64 {
        let since = u64::from(calls.saturating_sub(self.calls_measured));
        self.measured.memory.saturating_add(since * CALL_BYTES)
    }

    fn files(&self, calls: u32) -> u64 {
        self.measured.files_beside.saturating_add(u64::from(calls) * CALL_FILES)
    }
}

/// A sixteenth below a bound: of 4 GiB the memory of 4,000 calls, of 3,000 files those of 60.
const fn lower_mark(bound: u64) -> u64 {
    bound - bound / 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        memory_max: 100 * CALL_BYTES,
        files_max: 60,
        lateness_max: Duration::from_millis(50),
    };

    fn late(ms: u64) -> Measured {
        Measured { lateness: Duration::from_millis(ms), ..Measured::default() }
    }

    #[test]
    fn calls_that_are_not_measured_yet_count_with_what_they_will_take() {
        let mut room = Room::new(BOUNDS);
        assert_eq!(room.measure(Measured { memory: 95 * CALL_BYTES, ..late(0) }, 3), None);
        assert_eq!(room.admit(7), Ok(()));
        assert_eq!(room.admit(8), Err(Strain::Memory));
        // Room for one again is not enough to begin anew.
        assert_eq!(
            room.measure(Measured { memory: 94 * CALL_BYTES, ..late(0) }, 3),
            Some(Strain::Memory)
        );
        assert_eq!(room.measure(Measured { memory: 93 * CALL_BYTES, ..late(0) }, 3), None);
    }

    #[test]
    fn files_are_counted_for_agents_that_are_not_dialled_yet() {
        let mut room = Room::new(BOUNDS);
        room.measure(Measured { files_beside: 9, ..late(0) }, 0);
        assert_eq!(room.admit(16), Ok(()), "51 for calls and 9 beside");
        assert_eq!(room.admit(17), Err(Strain::Files));
    }

    #[test]
    fn a_late_node_takes_calls_again_below_half_its_bound() {
        let mut room = Room::new(BOUNDS);
        let short = [(50, None), (51, Some(Strain::Lateness)), (26, Some(Strain::Lateness))];
        for (ms, expected) in short.into_iter().chain([(25, None), (50, None)]) {
            assert_eq!(room.measure(late(ms), 1), expected, "{ms} ms");
        }
    }

    #[test]
    fn a_node_without_calls_is_not_kept_empty_by_a_busy_neighbour() {
        let mut room = Room::new(BOUNDS);
        assert_eq!(room.measure(late(500), 0), None);
        assert_eq!(room.measure(late(500), 1), Some(Strain::Lateness));
        assert_eq!(room.measure(late(500), 0), None);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Arrive,
        Leave,
        Measure(Measured),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let measured = (0_u64..120, 0_u64..70, 0_u64..120).prop_map(|(calls, files, ms)| {
            Step::Measure(Measured { memory: calls * CALL_BYTES, files_beside: files, ..late(ms) })
        });
        let step = prop_oneof![4 => Just(Step::Arrive), 2 => Just(Step::Leave), 1 => measured];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn nobody_is_let_in_beyond_a_bound_nor_before_a_lower_mark_was_seen(steps in steps()) {
            let (mut room, mut calls) = (Room::new(BOUNDS), 0_u32);
            let (mut measured, mut since, mut off) = (Measured::default(), 0_u32, None);
            for step in steps {
                match step {
                    Step::Leave => calls = calls.saturating_sub(1),
                    Step::Measure(new) => {
                        (measured, since) = (new, calls);
                        let is_below = match off {
                            Some(Strain::Memory) => new.memory <= BOUNDS.memory_max * 15 / 16,
                            Some(Strain::Files) =>
                                new.files_beside + u64::from(calls) * CALL_FILES <= 57,
                            Some(Strain::Lateness) => calls == 0 || new.lateness <= BOUNDS.lateness_max / 2,
                            None => true,
                        };
                        let strain = room.measure(new, calls);
                        prop_assert!(is_below || strain.is_some(), "{off:?} ended too early");
                        off = strain;
                    }
                    Step::Arrive => match room.admit(calls) {
                        Ok(()) => {
                            prop_assert_eq!(off, None, "only a measurement opens again");
                            calls += 1;
                            let new = u64::from(calls.saturating_sub(since));
                            prop_assert!(measured.memory + new * CALL_BYTES <= BOUNDS.memory_max);
                            let files = measured.files_beside + u64::from(calls) * CALL_FILES;
                            prop_assert!(files <= BOUNDS.files_max);
                        }
                        Err(strain) => off = off.or(Some(strain)),
                    },
                }
            }
        }
    }
}

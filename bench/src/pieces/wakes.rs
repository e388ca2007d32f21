//! Whole wakes of a call: a turn of the shard's runtime, from the read on one socket to the write on
//! the other. The kernel's part is not counted.

use std::time::Duration;

use relay::call::input::Batch;

use super::calls::{Interrupted, Rig, Step, Talk, Up};
use super::{Piece, Work};
use crate::shift::Shift;

/// The pieces of this file.
pub(super) fn pieces() -> Vec<Piece> {
    vec![
        Piece {
            name: "wake/idle",
            what: "a turn of the runtime in which nothing happens: part of all below",
            set_up: || Box::new(Idle(begin())),
        },
        Piece {
            name: "wake/up",
            what: "a caller's frame of 20 ms becomes an append",
            set_up: || Box::new(Up::new(begin(), 1)),
        },
        Piece {
            name: "wake/up_three",
            what: "three frames that came together",
            set_up: || Box::new(Up::new(begin(), 3)),
        },
        Piece {
            name: "wake/up_joined",
            what: "three frames that came together become one append",
            set_up: || Box::new(Up::new(Shift::begin(Batch::Writes(BATCH)), 3)),
        },
        Piece {
            name: "wake/up_batched",
            what: "the same, and the caller is read once for them",
            set_up: || Box::new(Up::new(Shift::begin(Batch::Reads(BATCH)), 3)),
        },
        Piece {
            name: "wake/delta_held",
            what: "a delta of 60 ms waits, the lead being used up",
            set_up: || Box::new(Talk::before(Step::Delta, answering())),
        },
        Piece {
            name: "wake/chunk_paced",
            what: "60 ms that waited leave at their deadline, with a mark",
            set_up: || Box::new(Talk::before(Step::Chunk, answering())),
        },
        Piece {
            name: "wake/mark_back",
            what: "a mark comes back, long answer",
            set_up: || Box::new(Talk::before(Step::Mark, answering())),
        },
        Piece {
            name: "wake/barge_in",
            what: "speech_started: clear, truncate, a turn that was cut",
            set_up: || Box::new(Interrupted::new(answering())),
        },
    ]
}

const BATCH: Duration = Duration::from_millis(60);

/// A call that sends each frame as it comes.
fn begin() -> Shift {
    Shift::begin(Batch::Off)
}

/// A call whose agent has begun the first answer.
fn answering() -> Shift {
    let mut shift = begin();
    shift.agent_says(
        r#"{"type":"response.created","event_id":"event_1","response":{"id":"resp_1","status":"in_progress"}}"#,
    );
    shift.act();
    shift
}

/// Nobody says anything.
struct Idle(Shift);

impl Work for Idle {
    fn work(&mut self) {
        self.0.act();
    }
}

impl Rig for Shift {
    fn caller_says(&mut self, text: &str) {
        Self::caller_says(self, text);
    }

    fn agent_says(&mut self, text: &str) {
        Self::agent_says(self, text);
    }

    fn pass(&mut self, span: Duration) {
        Self::pass(self, span);
    }

    fn act(&mut self) {
        self.turn();
    }

    fn take_said_to_caller(&mut self) -> usize {
        self.heard_by_caller().len()
    }

    fn take_said_to_agent(&mut self) -> usize {
        self.heard_by_agent().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_frames_are_three_appends_in_one_write() {
        let mut up = Up::new(begin(), 3);
        for _ in 0..20 {
            up.ready();
            up.work();
            // 160 bytes of mu-law are 216 of base64, and an append is little more.
            let said = up.rig.heard_by_agent().len();
            assert!((3 * 216..3 * 320).contains(&said), "{said}");
        }
    }

    #[test]
    fn three_frames_are_one_append_in_batches() {
        for batch in [Batch::Writes(BATCH), Batch::Reads(BATCH)] {
            let mut up = Up::new(Shift::begin(batch), 3);
            for round in 0..20 {
                up.ready();
                up.work();
                // 480 bytes of mu-law are 640 of base64.
                let said = up.rig.heard_by_agent().len();
                assert!(round == 0 || (640..740).contains(&said), "{batch:?}: {said}");
            }
        }
    }

    #[test]
    fn an_interruption_is_a_clear() {
        let mut interrupted = Interrupted::new(answering());
        for _ in 0..3 {
            interrupted.ready();
            interrupted.work();
            let said = String::from_utf8_lossy(interrupted.rig.heard_by_caller()).into_owned();
            assert!(said.contains(r#""event":"clear""#), "{said}");
        }
    }
}

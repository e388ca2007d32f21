//! The pieces of the hot path, one by one: what is counted in instructions, and timed by criterion.
//!
//! A piece is set up once and then done over and over. Only [`Work::work`] is measured; what has to
//! happen between two rounds so that each costs the same is [`Work::ready`].

mod calls;
mod messages;
mod wakes;

mod audio;
mod link;

/// Something that is done over and over.
pub trait Work {
    /// Brings about the state in which the work is done. Not measured.
    fn ready(&mut self) {}

    /// The work itself.
    fn work(&mut self);

    /// Whether there is anything to make ready.
    fn rounds(&self) -> Rounds {
        Rounds::MadeReady
    }
}

/// What is between two rounds of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// Nothing: a round leaves everything as it was.
    Alike,
    /// [`Work::ready`].
    MadeReady,
}

/// One piece of the hot path.
pub struct Piece {
    /// `group/name`.
    pub name: &'static str,
    /// What one round of it is.
    pub what: &'static str,
    /// Sets it up.
    pub set_up: fn() -> Box<dyn Work>,
}

/// All pieces, in the order in which they are shown.
#[must_use]
pub fn all() -> Vec<Piece> {
    [wakes::pieces(), messages::pieces(), audio::pieces(), link::pieces()]
        .into_iter()
        .flatten()
        .collect()
}

/// Work that leaves everything as it was.
struct Plain<F>(F);

impl<F: FnMut()> Work for Plain<F> {
    fn work(&mut self) {
        (self.0)();
    }

    fn rounds(&self) -> Rounds {
        Rounds::Alike
    }
}

fn plain(work: impl FnMut() + 'static) -> Box<dyn Work> {
    Box::new(Plain(work))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_piece_can_be_done_over_and_over() {
        for piece in all() {
            let mut work = (piece.set_up)();
            for _ in 0..700 {
                work.ready();
                work.work();
            }
        }
    }

    #[test]
    fn every_piece_has_a_name_of_its_own() {
        let pieces = all();
        let names: BTreeSet<_> = pieces.iter().map(|piece| piece.name).collect();
        assert_eq!(names.len(), pieces.len());
    }
}

//! The time of each piece of the hot path, the same ones whose instructions are counted; then a frame
//! from socket to socket.

mod sockets;

use std::time::Duration;

use bench::pieces::{self, Piece, Rounds};
use criterion::measurement::{Measurement, WallTime};
use criterion::{Criterion, criterion_group, criterion_main};

fn all(c: &mut Criterion) {
    for piece in pieces::all() {
        one(c, &piece);
    }
}

fn one(c: &mut Criterion, piece: &Piece) {
    let mut work = (piece.set_up)();
    let mut done = 0;
    match work.rounds() {
        Rounds::Alike => {
            c.bench_function(piece.name, |b| b.iter(|| work.work()));
        }
        // The clock is read twice a round: some 40 ns that are not the piece's.
        Rounds::MadeReady => {
            c.bench_function(piece.name, |b| {
                b.iter_custom(|rounds| {
                    let mut took = Duration::ZERO;
                    for _ in 0..rounds {
                        done += 1;
                        if done % CALL_ROUNDS == 0 {
                            work = (piece.set_up)();
                        }
                        work.ready();
                        let began = WallTime.start();
                        work.work();
                        took += WallTime.end(began);
                    }
                    took
                });
            });
        }
    }
}

/// A call is an hour long at most, and its sessions are replaced before that: another begins before
/// anything of this becomes due.
const CALL_ROUNDS: u64 = 1_000;

criterion_group!(benches, all, sockets::sockets);
criterion_main!(benches);

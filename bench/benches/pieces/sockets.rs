//! One media frame of 20 ms through the relay.
//!
//! `up` and `down`: from TCP to TCP on loopback, frames and masks included; half of the system calls
//! are the bench's own far ends. `floor`: the same bytes through the same sockets, copied. On the way
//! down the mark comes back in the same step.

use bench::line::{Line, Media, delta};
use bench::wires::{Floor, Wires, framed};
use criterion::Criterion;
use criterion::measurement::{Measurement, WallTime};
use link::agent::AgentAudio;
use relay::ws::Role;
use tokio::runtime::{Builder, Runtime};

const PATHS: [(&str, AgentAudio); 2] =
    [("pass_through", AgentAudio::Mulaw), ("transcoded", AgentAudio::Pcm24k)];

/// All of this file.
pub(crate) fn sockets(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("sockets");
    for (name, audio) in PATHS {
        let mut wires = runtime.block_on(Wires::connect()).expect("loopback works");
        let (mut line, mut media) = (Line::up(audio), Media::new());
        group.bench_function(format!("up/{name}"), |b| {
            b.iter_custom(|frames| {
                runtime.block_on(async {
                    let began = WallTime.start();
                    for _ in 0..frames {
                        let frame = framed(media.following(), Role::Client);
                        wires.up(&mut line, &frame).await;
                    }
                    WallTime.end(began)
                })
            });
        });
        let said = framed(&delta(audio), Role::Server);
        group.bench_function(format!("down/{name}"), |b| {
            b.iter_custom(|frames| {
                runtime.block_on(async {
                    let began = WallTime.start();
                    for _ in 0..frames {
                        wires.down(&mut line, &said).await;
                    }
                    WallTime.end(began)
                })
            });
        });
    }
    let mut floor = runtime.block_on(Floor::connect()).expect("loopback works");
    let frame = framed(Media::new().following(), Role::Client);
    group.bench_function("floor", |b| {
        b.iter_custom(|frames| {
            runtime.block_on(async {
                let began = WallTime.start();
                for _ in 0..frames {
                    floor.copy(&frame).await;
                }
                WallTime.end(began)
            })
        });
    });
    group.finish();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().expect("a runtime of one thread")
}

//! One connection: two pumps, and whatever happens to both.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Known;
use super::fault::{Fault, Flow};
use super::pump::{Pump, Step};

/// A fault that somebody wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Where.
    pub(super) flow: Flow,
    /// What.
    pub(super) fault: Fault,
}

/// A connection.
pub(super) struct Link<'a> {
    up: Pump,
    down: Pump,
    known: &'a Known,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay,
    Close,
    Reset,
}

impl<'a> Link<'a> {
    /// Connects two sockets.
    pub(super) fn new(dialler: TcpStream, target: TcpStream, known: &'a Known) -> Self {
        let now = Instant::now();
        let (from_dialler, to_dialler) = dialler.into_split();
        let (from_target, to_target) = target.into_split();
        Self {
            up: Pump::new(from_dialler, to_target, now),
            down: Pump::new(from_target, to_dialler, now),
            known,
        }
    }

    /// Moves bytes until both directions are over or the connection is cut.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut planned: impl Iterator<Item = (Duration, Flow, Fault)>,
    ) {
        let mut plan_at = Instant::now();
        let mut next_planned = |plan_at: &mut Instant| {
            planned.next().map(|(after, flow, fault)| {
                *plan_at += after;
                Order { flow, fault }
            })
        };
        let mut coming = next_planned(&mut plan_at);
        loop {
            let next = tokio::select! {
                biased;
                Some(order) = orders.recv() => self.suffer(order).await,
                () = sleep_until(plan_at), if coming.is_some() => {
                    let order = coming.take();
                    coming = next_planned(&mut plan_at);
                    match order {
                        Some(order) => self.suffer(order).await,
                        None => Next::Stay,
                    }
                }
                step = self.up.step() => self.moved(Flow::Up, step),
                step = self.down.step() => self.moved(Flow::Down, step),
            };
            match next {
                Next::Stay => {}
                Next::Close => return,
                Next::Reset => {
                    self.up.make_reset();
                    self.down.make_reset();
                    self.up.forget();
                    self.down.forget();
                    return;
                }
            }
        }
    }

    /// Lets a fault happen.
    async fn suffer(&mut self, order: Order) -> Next {
        match (order.fault, order.flow) {
            (Fault::Reset, _) => Next::Reset,
            (Fault::Close, _) => Next::Close,
            (Fault::BlackHole, _) => {
                self.up.suffer(Fault::BlackHole).await;
                self.down.suffer(Fault::BlackHole).await;
                Next::Stay
            }
            (fault, Flow::Up) => {
                self.up.suffer(fault).await;
                Next::Stay
            }
            (fault, Flow::Down) => {
                self.down.suffer(fault).await;
                Next::Stay
            }
        }
    }

    /// Counts what a pump did, and notices ends.
    fn moved(&self, flow: Flow, step: Step) -> Next {
        match step {
            Step::Took => Next::Stay,
            Step::Gave(bytes) => {
                let count = match flow {
                    Flow::Up => &self.known.up_bytes,
                    Flow::Down => &self.known.down_bytes,
                };
                count.fetch_add(bytes as u64, Ordering::Relaxed);
                Next::Stay
            }
            Step::Over if self.up.is_over() && self.down.is_over() => Next::Close,
            Step::Over => Next::Stay,
            // Behind a black hole the other end would wait for ever. In the world its keep-alive
            // tells it some day; here the reset does, when this end has given up.
            Step::Swallowed | Step::Broken => Next::Reset,
        }
    }
}

/// Takes whatever somebody says, and never answers.
pub(super) async fn ignore(mut stream: TcpStream) {
    let mut buffer = [0; 4 * 1024];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

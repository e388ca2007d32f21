//! The link through a network that loses everything, one way or both: how soon a relay knows, and that
//! it comes back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use relay::clock::Clock;
use tokio::net::UdpSocket;

use crate::node_rig::{Beats, Control, Session};
use crate::process_rig::{Model, Relay};

/// What is promised is 1.5 s and 2.0 s; the rest is for the test's own looking and a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(4);

/// Passes datagrams on between a relay and its control.
struct Network {
    front: UdpSocket,
    back: UdpSocket,
    /// Whether what the relay says is lost, and what it is told.
    loses: Cell<[bool; 2]>,
}

impl Network {
    async fn to(control: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        back.connect(control).await.unwrap();
        Self { front, back, loses: Cell::new([false; 2]) }
    }

    /// Passes on, for ever.
    async fn run(&self) {
        let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
        // A relay that dials again does so from another port.
        let mut relay = None;
        loop {
            tokio::select! {
                came = self.front.recv_from(&mut up) => {
                    let (bytes, from) = came.unwrap();
                    relay = Some(from);
                    if !self.loses.get()[0] {
                        self.back.send(&up[..bytes]).await.unwrap();
                    }
                }
                came = self.back.recv(&mut down) => {
                    let bytes = came.unwrap();
                    if let (Some(relay), false) = (relay, self.loses.get()[1]) {
                        self.front.send_to(&down[..bytes], relay).await.unwrap();
                    }
                }
            }
        }
    }
}

/// Beats as a control does that hears what arrives, for ever.
async fn beat(session: Session, beats: Beats) {
    tokio::select! {
        // First: a line that is over is no place to read from.
        biased;
        () = session.closed() => {}
        () = beat_on(beats) => {}
    }
    std::future::pending().await
}

async fn beat_on(mut beats: Beats) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let (mut n, mut heard) = (0, None);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                n += 1;
                beats.say(n, heard).await;
            }
            beat = beats.next() => heard = Some(beat.beat.sent_us),
        }
    }
}

/// A relay whose network loses this knows it in time, goes on with its calls, and comes back.
async fn knows_and_comes_back(loses: [bool; 2], why: &str) {
    let (control, model) = (Control::start(), Model::start().await);
    let network = Network::to(control.listens()).await;
    let settings = control.settings_at(network.front.local_addr().unwrap());
    let claim = async {
        let (relay, session) =
            tokio::join!(Relay::start(&settings), control.welcome(0, model.address));
        relay.until_metric("relay_link_up 1").await;
        let mut beats = session.beats().await;
        // Judged from its first beat on, and heard from the second on.
        let heard = beats.next().await.beat.sent_us;
        beats.say(1, Some(heard)).await;
        beats.until(|beat| beat.beat.heard_us == Some(1)).await;
        let (clock, lost) = (Clock::start(), Cell::new(None));
        let known = async {
            network.loses.set(loses);
            lost.set(Some(clock.now()));
            relay.until_metric("relay_link_up 0").await;
        };
        tokio::select! {
            () = known => {}
            () = beat(session, beats) => {}
        }
        let after = clock.now().since(lost.get().unwrap());
        assert!(after <= KNOWN_WITHIN, "{after:?}");
        relay.until_log(why).await;
        assert_eq!(relay.ask("/readyz").await.0, 200, "calls do not need it");
        network.loses.set([false; 2]);
        let _session = control.welcome(0, model.address).await;
        relay.until_metric("relay_link_up 1").await;
    };
    tokio::select! {
        () = claim => {}
        () = network.run() => {}
    }
}

#[tokio::test]
async fn a_loss_of_both_ways_is_known_within_a_second_and_a_half() {
    knows_and_comes_back([true, true], "control is silent").await;
}

#[tokio::test]
async fn a_loss_of_what_control_says_is_known_within_a_second_and_a_half() {
    knows_and_comes_back([false, true], "control is silent").await;
}

#[tokio::test]
async fn a_loss_of_what_the_relay_says_is_known_within_two_seconds() {
    knows_and_comes_back([true, false], "control does not hear this node").await;
}

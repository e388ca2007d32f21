//! The floor against two plain ends: the bytes are the same, and ends pass through.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The floor's process, between `target` and whoever dials `address`.
struct Floor {
    process: Child,
    address: String,
    target: TcpListener,
}

impl Floor {
    fn start() -> Self {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(["--listen", "127.0.0.1:0", "--target"])
            .arg(target.local_addr().unwrap().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("floor listening address=").unwrap().to_owned();
        Self { process, address, target }
    }

    /// A call's two far ends.
    fn call(&self) -> (TcpStream, TcpStream) {
        let caller = TcpStream::connect(&self.address).unwrap();
        (caller, self.target.accept().unwrap().0)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Bytes that do not repeat within any buffer's length.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn bytes_come_out_as_they_went_in_both_ways_at_once() {
    let floor = Floor::start();
    // More than the sockets' buffers hold: the floor has to keep what the kernel does not take, and
    // to go on where it stopped.
    let (up, down) = (bytes(9 << 20, 1), bytes(9 << 20, 2));
    let (caller, agent) = floor.call();
    std::thread::scope(|scope| {
        for (end, says, hears) in [(&caller, &up, &down), (&agent, &down, &up)] {
            scope.spawn(move || {
                let mut end = end;
                end.write_all(says).unwrap();
                end.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let (mut end, mut heard) = (end, Vec::new());
                end.read_to_end(&mut heard).unwrap();
                assert!(heard == *hears, "{} bytes, or other ones", heard.len());
            });
        }
    });
}

#[test]
fn one_side_may_end_while_the_other_still_talks() {
    let floor = Floor::start();
    let (mut caller, mut agent) = floor.call();
    caller.write_all(b"the last word").unwrap();
    caller.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    agent.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "the last word");
    agent.write_all(b"and the answer").unwrap();
    drop(agent);
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "and the answer");
}

#[test]
fn a_target_that_refuses_ends_the_call_and_not_the_floor() {
    let mut floor = Floor::start();
    floor.target = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        let mut caller = TcpStream::connect(&floor.address).unwrap();
        assert_eq!(caller.read(&mut [0; 8]).unwrap_or(0), 0);
    }
    assert!(floor.process.try_wait().unwrap().is_none());
}

#[test]
fn the_floor_ends_on_sigterm() {
    let mut floor = Floor::start();
    let (mut caller, _agent) = floor.call();
    let pid = floor.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(floor.process.wait().unwrap().success());
    assert_eq!(caller.read(&mut [0; 8]).unwrap_or(0), 0);
}

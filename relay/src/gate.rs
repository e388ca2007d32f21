//! The node's one door: how many calls are in, whether more may come, which ones they are.
//! Shared by all shards and the house; touched a few times a call, never by media.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::admit::Register;

/// What the door shows; whoever watches it is told of every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Seats taken: calls, and sockets that have been upgraded and owe their `start`.
    pub calls: u32,
    /// Whether more may come.
    pub door: Door,
}

/// Whether more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Not yet: control has not told this node what it needs.
    NotYetOpen,
    /// Yes, while there are seats.
    Open,
    /// No more: the node lets its calls end and goes away.
    Draining,
}

/// The door itself.
#[derive(Debug)]
pub struct Gate {
    occupancy: watch::Sender<Occupancy>,
    register: Mutex<Register>,
    calls_max: u32,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSeat {
    /// The door is not open yet.
    NotReady,
    /// The node is draining.
    Draining,
    /// All seats are taken.
    Full,
}

/// A place for one call; given back when it is dropped, also by a panic.
#[derive(Debug)]
pub struct Seat(Arc<Gate>);

impl Gate {
    /// A door that is not open yet.
    #[must_use]
    pub fn new(calls_max: u32) -> Self {
        let (occupancy, _) = watch::channel(Occupancy { calls: 0, door: Door::NotYetOpen });
        Self { occupancy, register: Mutex::default(), calls_max }
    }

    /// Opens the door, unless it is draining already.
    pub fn open(&self) {
        self.occupancy.send_if_modified(|now| {
            let opens = now.door == Door::NotYetOpen;
            if opens {
                now.door = Door::Open;
            }
            opens
        });
    }

    /// Lets nobody in any more.
    pub fn drain(&self) {
        self.occupancy.send_modify(|now| now.door = Door::Draining);
    }

    /// Takes a seat.
    ///
    /// # Errors
    /// When there is none.
    pub fn sit(self: &Arc<Self>) -> Result<Seat, NoSeat> {
        let mut outcome = Err(NoSeat::Full);
        self.occupancy.send_if_modified(|now| {
            outcome = match now.door {
                Door::NotYetOpen => Err(NoSeat::NotReady),
                Door::Draining => Err(NoSeat::Draining),
                Door::Open if now.calls >= self.calls_max => Err(NoSeat::Full),
                Door::Open => {
                    now.calls += 1;
                    Ok(())
                }
            };
            outcome.is_ok()
        });
        outcome.map(|()| Seat(self.clone()))
    }

    /// What the door shows.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        *self.occupancy.borrow()
    }

    /// Tells of changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Occupancy> {
        self.occupancy.subscribe()
    }

    /// How many seats there are.
    #[must_use]
    pub fn calls_max(&self) -> u32 {
        self.calls_max
    }

    /// The calls that are carried and the tickets that were used.
    pub fn register(&self) -> MutexGuard<'_, Register> {
        // A panic of another holder cannot leave the register half-changed in a way that hurts
        // more than refusing every call from then on would.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.occupancy.send_modify(|now| {
            debug_assert!(now.calls > 0, "every seat was taken once");
            now.calls = now.calls.saturating_sub(1);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_back_when_it_is_dropped() {
        let gate = Arc::new(Gate::new(1));
        assert_eq!(gate.sit().unwrap_err(), NoSeat::NotReady);
        gate.open();
        let seat = gate.sit().unwrap();
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Full);
        drop(seat);
        let _seat = gate.sit().unwrap();
        assert_eq!(gate.occupancy().calls, 1);
    }

    #[test]
    fn a_draining_door_does_not_open_again() {
        let gate = Arc::new(Gate::new(1));
        gate.drain();
        gate.open();
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Draining);
    }
}

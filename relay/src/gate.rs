//! The node's one door: how many calls are in, whether more may come, which ones they are.
//! Shared by all shards and the house; touched a few times a call, never by media.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use link::id::{CallId, Gen};
use tokio::sync::{broadcast, watch};

use crate::admit::Register;
use crate::known::AgentKey;
use crate::lobby::{Found, Lobby, WaitId};
use crate::metrics::labels::Announced;

use self::room::{Bounds, Measured, Room, Strain};

pub mod room;

/// What the door shows; whoever watches it is told of every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Seats taken: calls, and sockets that have been upgraded and owe their `start`.
    pub calls: u32,
    /// Whether more may come.
    pub door: Door,
    /// What there is too little of for another call; control sends calls elsewhere meanwhile.
    pub strain: Option<Strain>,
}

impl Occupancy {
    /// Whether the node asks for calls.
    #[must_use]
    pub fn takes_calls(&self) -> bool {
        self.door == Door::Open && self.strain.is_none()
    }

    /// Whether it asks for none because somebody wants it so.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.door, Door::Held | Door::Draining)
    }
}

/// Whether more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Not yet: control has not told this node what it needs.
    NotYetOpen,
    /// Yes, while there are seats.
    Open,
    /// Not until an operator says so again; the calls that are in go on.
    Held,
    /// No more: the node lets its calls end and goes away.
    Draining,
}

/// The door itself.
#[derive(Debug)]
pub struct Gate {
    occupancy: watch::Sender<Occupancy>,
    register: Mutex<Register>,
    lobby: Mutex<Lobby>,
    /// Locked before `occupancy`, by whoever takes a seat and by whoever measures.
    room: Mutex<Room>,
    calls_max: u32,
    /// Streams of calls that go on here, as their sessions are ready.
    prepared: broadcast::Sender<(CallId, Gen)>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSeat {
    /// The door is not open yet.
    NotReady,
    /// The node is draining: it goes away, or an operator wants it empty.
    Draining,
    /// All seats are taken.
    Full,
    /// There are seats, and too little of something else.
    Strained(Strain),
}

/// Words of sessions that are ready which wait for a line to a control. One that is further behind
/// misses the oldest, and control goes by its own clock.
const PREPARED_MAX: usize = 256;

/// A place for one call; given back when it is dropped, also by a panic.
#[derive(Debug)]
pub struct Seat(Arc<Gate>);

impl Gate {
    /// A door that is not open yet.
    #[must_use]
    pub fn new(calls_max: u32, bounds: Bounds) -> Self {
        let closed = Occupancy { calls: 0, door: Door::NotYetOpen, strain: None };
        Self {
            occupancy: watch::Sender::new(closed),
            register: Mutex::default(),
            lobby: Mutex::default(),
            room: Mutex::new(Room::new(bounds)),
            calls_max,
            prepared: broadcast::Sender::new(PREPARED_MAX),
        }
    }

    /// Opens the door for the first time. One that is held or draining stays so.
    pub fn open(&self) {
        self.turn(Door::NotYetOpen, Door::Open);
    }

    /// Lets nobody in until [`Self::release`].
    pub fn hold(&self) {
        self.turn(Door::Open, Door::Held);
    }

    /// Opens a door that is held. One that drains for good stays so.
    pub fn release(&self) {
        self.turn(Door::Held, Door::Open);
    }

    fn turn(&self, from: Door, to: Door) {
        self.occupancy.send_if_modified(|now| {
            let turns = now.door == from;
            if turns {
                now.door = to;
            }
            turns
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
        let mut room = self.room();
        let mut outcome = Err(NoSeat::Full);
        self.occupancy.send_if_modified(|now| {
            let before = *now;
            outcome = match now.door {
                Door::NotYetOpen => Err(NoSeat::NotReady),
                Door::Held | Door::Draining => Err(NoSeat::Draining),
                Door::Open if now.calls >= self.calls_max => Err(NoSeat::Full),
                Door::Open => room.admit(now.calls).map_err(NoSeat::Strained),
            };
            match outcome {
                Ok(()) => now.calls += 1,
                // Told at once: the carrier asks control where to go within half a second.
                Err(NoSeat::Strained(strain)) => now.strain = Some(strain),
                Err(NoSeat::NotReady | NoSeat::Draining | NoSeat::Full) => {}
            }
            *now != before
        });
        outcome.map(|()| Seat(self.clone()))
    }

    /// Takes what the house has measured; gives what there is too little of when that changes.
    pub fn measure(&self, measured: Measured) -> Option<Option<Strain>> {
        let mut room = self.room();
        let mut changed = None;
        self.occupancy.send_if_modified(|now| {
            let strain = room.measure(measured, now.calls);
            changed = (strain != now.strain).then_some(strain);
            now.strain = strain;
            changed.is_some()
        });
        changed
    }

    /// What the node may use, and what it used when that was measured last.
    #[must_use]
    pub fn usage(&self) -> (Bounds, Measured) {
        let room = self.room();
        (room.bounds(), room.measured())
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // Nothing in it can be half-changed.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Gate {
    /// Enters a stream that is on its way to this shard's care.
    ///
    /// # Errors
    /// When nothing is to be prepared for it.
    pub fn announce(
        self: &Arc<Self>,
        stream: (CallId, Gen),
        agent: AgentKey,
        shard: usize,
    ) -> Result<Waits, Announced> {
        if !self.occupancy().takes_calls() {
            return Err(Announced::Closed);
        }
        // Announcements travel on another road than streams, and may lose the race.
        let carried = self.register().find(&stream.0);
        if carried.is_some_and(|carried| carried.generation >= stream.1) {
            return Err(Announced::Late);
        }
        // Taken before the lobby's lock, never inside it.
        let max = self.announced_max();
        let id = self.lobby().announce(stream.clone(), agent, shard, max)?;
        Ok(Waits { gate: self.clone(), id, whom: Whom::One(stream) })
    }

    /// Where a stream is awaited, if it is.
    #[must_use]
    pub fn awaits(&self, stream: &(CallId, Gen)) -> Option<Found> {
        self.lobby().announced_as(stream)
    }

    /// Tells whoever listens that the session of a stream that is awaited is ready.
    pub fn tell_prepared(&self, stream: (CallId, Gen)) {
        // Where nobody listens, nobody waits for it.
        let _ = self.prepared.send(stream);
    }

    /// Tells of sessions that are ready for streams of calls that go on here.
    #[must_use]
    pub fn watch_prepared(&self) -> broadcast::Receiver<(CallId, Gen)> {
        self.prepared.subscribe()
    }

    /// Makes room for a session that will serve any stream of its agent.
    #[must_use]
    pub fn spare(self: &Arc<Self>, agent: AgentKey, shard: usize) -> Waits {
        let id = self.lobby().number();
        Waits { gate: self.clone(), id, whom: Whom::Any { agent, shard } }
    }

    /// The index of what waits. Taken a few times a call, never with the register in hand.
    pub fn lobby(&self) -> MutexGuard<'_, Lobby> {
        self.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many streams may be on their way at once: what is announced and does not come must not
    /// cost more than a share of the node.
    #[must_use]
    pub fn announced_max(&self) -> usize {
        usize::try_from(self.calls_max / 4).unwrap_or(usize::MAX).max(1)
    }
}

/// An entry of the index; taken out when it is dropped, also by a panic.
#[derive(Debug)]
pub struct Waits {
    gate: Arc<Gate>,
    id: WaitId,
    whom: Whom,
}

/// Whom something waits for.
#[derive(Debug)]
enum Whom {
    One((CallId, Gen)),
    Any { agent: AgentKey, shard: usize },
}

impl Waits {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> WaitId {
        self.id
    }

    /// Says that its session is ready: any stream may claim a spare from here on, and the one that
    /// is awaited may come.
    pub fn offer(&self) {
        match &self.whom {
            Whom::Any { agent, shard } => {
                self.gate.lobby().offer(self.id, agent.clone(), *shard);
            }
            Whom::One(stream) => self.gate.tell_prepared(stream.clone()),
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut lobby = self.gate.lobby();
        match &self.whom {
            Whom::One(stream) => lobby.forget_announced(self.id, stream),
            Whom::Any { agent, .. } => lobby.forget_spare(self.id, agent),
        }
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
        let gate = Arc::new(Gate::new(1, Bounds::NONE));
        assert_eq!(gate.sit().unwrap_err(), NoSeat::NotReady);
        gate.open();
        let seat = gate.sit().unwrap();
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Full);
        drop(seat);
        let _seat = gate.sit().unwrap();
        assert_eq!(gate.occupancy().calls, 1);
    }

    #[test]
    fn a_strain_is_shown_from_the_first_refusal_to_the_measurement_that_ends_it() {
        let gate = Arc::new(Gate::new(9, Bounds { files_max: 4, ..Bounds::NONE }));
        gate.open();
        let seat = gate.sit().unwrap();
        assert!(gate.occupancy().takes_calls());
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Strained(Strain::Files));
        assert_eq!(gate.occupancy().strain, Some(Strain::Files));
        drop(seat);
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Strained(Strain::Files));
        assert_eq!(gate.measure(Measured::default()), Some(None));
        assert_eq!(gate.measure(Measured::default()), None);
        assert!(gate.sit().is_ok());
    }

    #[test]
    fn a_draining_door_does_not_open_again() {
        let gate = Arc::new(Gate::new(1, Bounds::NONE));
        gate.drain();
        gate.open();
        gate.hold();
        gate.release();
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Draining);
    }

    #[test]
    fn a_held_door_opens_when_it_is_released_and_not_before() {
        let gate = Arc::new(Gate::new(2, Bounds::NONE));
        gate.hold();
        gate.open();
        let seat = gate.sit().unwrap();
        gate.hold();
        gate.open();
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Draining);
        assert!(!gate.occupancy().takes_calls() && gate.occupancy().calls == 1);
        gate.release();
        assert!(gate.sit().is_ok());
        drop(seat);
        gate.hold();
        gate.drain();
        gate.release();
        assert_eq!(gate.sit().unwrap_err(), NoSeat::Draining);
    }
}

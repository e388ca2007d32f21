//! Who is expected, and where their agent waits: an index over all shards. Pure.
//!
//! What waits is a call without a caller, driven by its shard (`shard/anteroom.rs`). Here stands
//! which shard has it, so that a stream finds it wherever it lands. An entry is taken by the stream
//! that claims it, or out when what it stands for is gone ([`Waits`](crate::gate::Waits)).

use std::collections::HashMap;

use link::id::{CallId, Gen};
use link::ticket::Claims;

use crate::known::AgentKey;
use crate::metrics::labels::Announced;

/// The number of something that waits, unique in the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub u64);

/// Something that waits, for whoever claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub id: WaitId,
    /// The shard that has it.
    pub shard: usize,
    /// What it was opened for.
    pub kind: Kind,
}

/// What a session was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One stream.
    Announced,
    /// Any stream of its agent.
    Spare,
}

/// The index.
#[derive(Debug, Default)]
pub struct Lobby {
    announced: HashMap<(CallId, Gen), (Found, AgentKey)>,
    /// Oldest first; sessions that are ready, no others.
    spares: HashMap<AgentKey, Vec<Found>>,
    spares_count: usize,
    last: u64,
}

impl Lobby {
    /// A number for something that is to wait.
    pub fn number(&mut self) -> WaitId {
        self.last += 1;
        WaitId(self.last)
    }

    /// Enters a stream that is on its way.
    ///
    /// # Errors
    /// When it is entered already, or `max` are.
    pub fn announce(
        &mut self,
        stream: (CallId, Gen),
        agent: AgentKey,
        shard: usize,
        max: usize,
    ) -> Result<WaitId, Announced> {
        if self.announced.contains_key(&stream) {
            return Err(Announced::Twice);
        }
        if self.announced.len() >= max {
            return Err(Announced::Full);
        }
        let found = Found { id: self.number(), shard, kind: Kind::Announced };
        self.announced.insert(stream, (found, agent));
        Ok(found.id)
    }

    /// What was announced for a stream, if it waits.
    #[must_use]
    pub fn announced_as(&self, stream: &(CallId, Gen)) -> Option<Found> {
        self.announced.get(stream).map(|(found, _)| *found)
    }

    /// Enters a session that is ready for any stream of its agent.
    pub fn offer(&mut self, id: WaitId, agent: AgentKey, shard: usize) {
        self.spares.entry(agent).or_default().push(Found { id, shard, kind: Kind::Spare });
        self.spares_count += 1;
    }

    /// Takes what waits for a stream: what was announced for it, or a spare of its agent, of the
    /// stream's own shard if there is one.
    pub fn claim(&mut self, claims: &Claims, shard: usize) -> Option<Found> {
        let agent = AgentKey::of_claims(claims);
        let stream = (claims.call.clone(), claims.generation);
        // What was prepared for the stream leaves in any case. It is given only if the ticket names
        // the same agent: the ticket is signed, the announcement is a hint.
        if let Some((found, prepared)) = self.announced.remove(&stream)
            && prepared == agent
        {
            return Some(found);
        }
        let spares = self.spares.get_mut(&agent)?;
        // A call that need not move saves its sockets the way. Else the oldest goes first, which
        // would be replaced first.
        let n = spares.iter().position(|spare| spare.shard == shard).unwrap_or(0);
        let found = spares.remove(n);
        self.spares_count -= 1;
        if spares.is_empty() {
            self.spares.remove(&agent);
        }
        Some(found)
    }

    /// Takes out what waits no more.
    pub fn forget_announced(&mut self, id: WaitId, stream: &(CallId, Gen)) {
        // A stream may have been announced again since, under another number.
        if self.announced.get(stream).is_some_and(|(found, _)| found.id == id) {
            self.announced.remove(stream);
        }
    }

    /// Takes out a spare that is gone.
    pub fn forget_spare(&mut self, id: WaitId, agent: &AgentKey) {
        let Some(spares) = self.spares.get_mut(agent) else { return };
        let before = spares.len();
        spares.retain(|spare| spare.id != id);
        self.spares_count -= before - spares.len();
        if spares.is_empty() {
            self.spares.remove(agent);
        }
    }

    /// Streams that are on their way.
    #[must_use]
    pub fn announced(&self) -> usize {
        self.announced.len()
    }

    /// Those of one shard.
    #[must_use]
    pub fn announced_on(&self, shard: usize) -> usize {
        self.announced.values().filter(|(found, _)| found.shard == shard).count()
    }

    /// Spares that are ready.
    #[must_use]
    pub fn spares(&self) -> usize {
        self.spares_count
    }
}

#[cfg(test)]
mod tests {
    use link::id::{AgentName, NodeId, TenantId};
    use link::ticket::Bearer;

    use super::*;

    fn key(version: u32) -> AgentKey {
        let name = AgentName::new("front-desk").unwrap();
        AgentKey { tenant: TenantId::default(), name, version }
    }

    fn stream(call: &str) -> (CallId, Gen) {
        (CallId::new(call).unwrap(), Gen(0))
    }

    fn claims(call: &str, version: u32) -> Claims {
        let (call, generation) = stream(call);
        Claims {
            bearer: Bearer::Carrier { call_sid: "CA1".into() },
            call,
            tenant: TenantId::default(),
            node: NodeId::new("n1").unwrap(),
            generation,
            agent: key(version).name,
            agent_version: version,
            jti: "1".into(),
            issued_at: 0,
            expires_at: 60,
        }
    }

    #[test]
    fn a_stream_takes_what_was_announced_for_it_before_any_spare() {
        let mut lobby = Lobby::default();
        let id = lobby.number();
        lobby.offer(id, key(1), 0);
        let announced = lobby.announce(stream("c_1"), key(1), 1, 2).unwrap();
        assert_eq!(lobby.announce(stream("c_1"), key(1), 0, 2), Err(Announced::Twice));
        assert_eq!(lobby.announced_on(1), 1);
        let found = lobby.claim(&claims("c_1", 1), 0).unwrap();
        assert_eq!((found.id, found.shard, found.kind), (announced, 1, Kind::Announced));
        assert_eq!((lobby.announced(), lobby.spares()), (0, 1));
        // Its own end, later, takes nothing of another's.
        lobby.forget_announced(announced, &stream("c_1"));
        assert_eq!(lobby.claim(&claims("c_1", 1), 0).map(|found| found.id), Some(id));
        assert_eq!(lobby.claim(&claims("c_1", 1), 0), None);
    }

    #[test]
    fn a_spare_of_the_streams_own_shard_is_taken_first_and_each_once() {
        let mut lobby = Lobby::default();
        for shard in [0, 1, 1] {
            let id = lobby.number();
            lobby.offer(id, key(1), shard);
        }
        let mut take = |shard| lobby.claim(&claims("c_1", 1), shard).map(|found| found.shard);
        assert_eq!([take(1), take(1), take(1), take(1)], [Some(1), Some(1), Some(0), None]);
        assert_eq!(lobby.spares(), 0);
    }

    #[test]
    fn another_version_of_the_agent_is_not_taken_for_it() {
        let mut lobby = Lobby::default();
        let id = lobby.number();
        lobby.offer(id, key(1), 0);
        lobby.announce(stream("c_1"), key(1), 0, 2).unwrap();
        assert_eq!(lobby.claim(&claims("c_1", 2), 0), None);
        lobby.forget_spare(id, &key(1));
        assert_eq!(lobby.spares(), 0);
    }

    #[test]
    fn announcements_are_bounded() {
        let mut lobby = Lobby::default();
        let id = lobby.announce(stream("c_1"), key(1), 0, 1).unwrap();
        assert_eq!(lobby.announce(stream("c_2"), key(1), 0, 1), Err(Announced::Full));
        lobby.forget_announced(id, &stream("c_1"));
        assert!(lobby.announce(stream("c_2"), key(1), 0, 1).is_ok());
    }
}

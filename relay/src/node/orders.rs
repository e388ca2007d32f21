//! What control says on the link, and what is made of it: what calls need to know, orders for
//! them, and word of those to come.

use link::agent::AgentSpec;
use link::event::{CallEvent, CallRef};
use link::id::{CallId, CommandId, EventNumber, Gen, TenantId};
use link::message::{Announcement, Command, Said, ToRelay};
use link::ticket::{KeySet, VerifyingKey};

use super::lines::LineId;
use super::session::Broken;
use super::{Link, deliver};
use crate::clock;
use crate::known::{AgentKey, Signatures};
use crate::mailbox::Letter;
use crate::metrics::labels::{Announced, Answered};
use crate::shard::ToShard;
use crate::telemetry::{NOT_HERE, Noted};

impl Link {
    /// Takes one message of one control.
    pub(super) fn hear(&self, line: LineId, message: ToRelay) -> Result<(), Broken> {
        let known = &self.around.known;
        match message {
            ToRelay::TicketKeys { keys } => self.hear_keys(line, keys),
            ToRelay::Signatures { values } => {
                let values = self.lines.borrow_mut().set_signatures(line, values);
                known.set_signatures(Signatures::OneOf(values));
            }
            ToRelay::Lease { term } => {
                self.lines.borrow_mut().set_term(line, term);
                self.choose_taker();
            }
            ToRelay::Agent(spec) => self.hear_agent(*spec),
            ToRelay::Synced => {
                known.set_synced();
                self.around.gate.open();
                tracing::info!(agents = known.agent_count(), "synced with control");
            }
            ToRelay::Ack { through } => self.committed(through),
            ToRelay::SpoolAck { epoch, through } => self.committed_of(line, epoch, through),
            ToRelay::Command { call, generation, id, command } => {
                self.command(call, generation, id, command);
            }
            ToRelay::Refused { why } => return Err(Broken::Refused(why)),
            ToRelay::Announce(announcement) => self.announced(announcement),
            ToRelay::Drain { on } => {
                if on {
                    self.around.gate.hold();
                } else {
                    self.around.gate.release();
                }
                tracing::info!(on, "an operator drains the node, or takes that back");
            }
            // Beats have a stream of their own, on which they are not late.
            ToRelay::Welcome { .. }
            | ToRelay::Beat(_)
            | ToRelay::Certificate { .. }
            | ToRelay::Unknown => {
                self.around.counters.link_unknown.one();
            }
        }
        Ok(())
    }

    fn hear_keys(&self, line: LineId, keys: Vec<VerifyingKey>) {
        // Looked at before they are put to those of other controls, which stay as they are.
        if let Err(error) = KeySet::new(&keys) {
            tracing::error!(%error, "pushed ticket keys are not taken");
            return;
        }
        let all = self.lines.borrow_mut().set_keys(line, keys);
        match KeySet::new(&all) {
            Ok(set) => self.around.known.set_keys(set),
            Err(error) => tracing::error!(%error, "the ticket keys of two controls do not agree"),
        }
    }

    fn hear_agent(&self, spec: AgentSpec) {
        let (agent, version) = (spec.name.clone(), spec.version);
        if let Some(problem) = spec.problems().first() {
            tracing::error!(%agent, version, %problem, "a pushed agent is not taken");
        } else if let Err(error) = self.around.known.keep_agent(spec) {
            tracing::error!(%agent, version, %error, "a pushed agent is not taken");
        }
    }

    /// Control has committed events.
    pub(super) fn committed(&self, through: EventNumber) {
        let receipts = self.ring.borrow_mut().acknowledge(through);
        for receipt in receipts {
            deliver(&self.around.post, receipt);
        }
        self.ring.borrow_mut().hand_over();
        self.room.notify_one();
        self.show_waiting();
    }

    fn command(&self, call: CallId, generation: Gen, id: Option<CommandId>, command: Command) {
        let carried = self.around.gate.register().find(&call);
        // Another generation is another stream, perhaps on another node.
        let here = carried.filter(|carried| carried.generation == generation);
        let refused = match here {
            _ if command == Command::Unknown => {
                self.around.counters.link_unknown.one();
                "this relay does not know the command"
            }
            None => NOT_HERE,
            Some(carried) => {
                let letter = Letter::Command(id.clone(), command);
                let to = call.clone();
                let message = ToShard::Letter { call: to, generation, letter };
                match self.around.post.send(carried.shard, message) {
                    Ok(()) => return,
                    Err(_) => "the call's shard takes no messages",
                }
            }
        };
        tracing::debug!(%call, %generation, refused, "a command is not passed on");
        let Some(id) = id else { return };
        self.around.counters.commands.of(Answered::Refused).one();
        // Nobody here knows whose call it is, so the answer names the default tenant; control knows
        // the command by its id.
        let call = CallRef { id: call, tenant: TenantId::default(), generation };
        let event = CallEvent::CommandDone { id, refused: Some(refused.into()) };
        self.keep(Noted { call: Some(call), at: clock::wall(), event, receipt: None });
    }

    /// Lets the agent of a stream that is on its way be dialled.
    fn announced(&self, announcement: Announcement) {
        let Announcement { call, generation, tenant, agent, version, continues } = announcement;
        let key = AgentKey { tenant, name: agent, version };
        let outcome = self.prepare((call, generation), key, continues);
        self.around.counters.announcements.of(outcome).one();
    }

    fn prepare(
        &self,
        stream: (CallId, Gen),
        key: AgentKey,
        continues: Option<Vec<Said>>,
    ) -> Announced {
        let around = &self.around;
        let Some(agent) = around.known.agent(&key) else { return Announced::UnknownAgent };
        // Both count: connections lag behind a herd of announcements.
        let loads = around.gauges.iter().enumerate().map(|(shard, gauge)| {
            let waiting = around.gate.lobby().announced_on(shard) as u64;
            (gauge.connections() + waiting, shard)
        });
        let Some((_, shard)) = loads.min() else { return Announced::ShardBusy };
        match around.gate.announce(stream.clone(), key, shard) {
            Err(why) => {
                if let (Announced::Twice, Some(said)) = (why, continues) {
                    self.continue_with(stream, said);
                }
                why
            }
            // A message that is given back is dropped, and its entry with it.
            Ok(waits) => {
                match around.post.send(shard, ToShard::Prepare { waits, agent, continues }) {
                    Ok(()) => Announced::Prepared,
                    Err(_) => Announced::ShardBusy,
                }
            }
        }
    }

    /// Tells a call that is prepared what was said in it by now.
    fn continue_with(&self, stream: (CallId, Gen), said: Vec<Said>) {
        // Its stream may have come in between: then it was told what was known before.
        let Some(found) = self.around.gate.awaits(&stream) else { return };
        let message = ToShard::Continue { id: found.id, stream, said };
        if self.around.post.send(found.shard, message).is_err() {
            tracing::warn!(shard = found.shard, "a shard takes no messages");
        }
    }
}

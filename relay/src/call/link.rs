//! The agent's sessions: finding one, losing it, and putting another in its place.
//!
//! A call outlives its sessions. A socket breaks, a service ends a session after an hour, a second
//! one is dialled beside one that is slow: two slots, of which one speaks. Whoever takes over is
//! told what was said ([`Memory`](super::memory::Memory)) before it hears the caller.
//!
//! | speaker | and | then |
//! |---|---|---|
//! | none | a socket is dialled, or a pause runs | the caller is held, and hears a clip if it lasts |
//! | none | a session is ours | it speaks |
//! | none | trying again is useless, or took too long | we are sorry |
//! | one | it is lost | whoever is ready in the other slot speaks, or another is dialled |
//! | one | it grows old | another is dialled, and takes over at a quiet moment |

use std::time::Duration;

use ::link::event::{EndReason, ReplacedBecause};

use super::agent::{Agent, Change, Lost};
use super::format::AudioFormat;
use super::input::{Answering, Preparation, Retry, Slot};
use super::moment::Moment;
use super::output::{AgentMessage, Milestone, Outbox, Output, Recalled};
use super::phase::Phase;
use super::timers::{
    BACKOFF, CONFIGURE_MAX, DEAD_AFTER, DIAL_MAX, FILLER_AFTER, OPENING_FILLER_AFTER, PING_AFTER,
    ROLL_OVER_AGAIN, SEARCH_MAX, Timer,
};
use super::turns::{Ask, Ended, Yield};
use super::{Call, Opening};

/// The agent's sessions.
#[derive(Debug)]
pub(super) struct Link {
    agents: [Agent; 2],
    /// Who speaks with the caller.
    speaker: Option<Slot>,
    /// How many sessions have spoken so far; the number of the one that does.
    session: u32,
    /// Looking for a speaker, while there is none.
    search: Option<Search>,
}

/// Looking for a session that speaks.
#[derive(Debug)]
struct Search {
    since: Moment,
    /// Sockets that failed so far.
    failed: u32,
    /// What the last one failed of.
    reason: EndReason,
    /// The same, for the operator.
    detail: Box<str>,
}

impl Link {
    /// Nobody is dialled yet.
    pub(super) fn new(format: AudioFormat) -> Self {
        let agents = [Slot::A, Slot::B].map(|slot| Agent::new(slot, format));
        Self { agents, speaker: None, session: 0, search: None }
    }

    /// One socket.
    pub(super) fn agent(&mut self, slot: Slot) -> &mut Agent {
        &mut self.agents[slot as usize]
    }

    /// Who speaks with the caller.
    pub(super) fn speaker(&self) -> Option<Slot> {
        self.speaker
    }

    /// The number of the session that speaks, or spoke last.
    pub(super) fn session(&self) -> u32 {
        self.session
    }

    /// Whether nobody was ever looked for.
    pub(super) fn is_untouched(&self) -> bool {
        self.session == 0 && self.search.is_none()
    }

    /// Whether somebody is being looked for.
    pub(super) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Who answers the caller's turns, as the service that speaks has confirmed it.
    pub(super) fn answering(&self) -> Answering {
        self.speaker.map_or(Answering::ByRelay, |slot| self.agents[slot as usize].answering())
    }

    /// Says something to whoever speaks with the caller, if anybody does.
    pub(super) fn say(&self, message: AgentMessage<'_>, out: &mut impl Outbox) {
        if let Some(slot) = self.speaker {
            out.put(Output::ToAgent(slot, message));
        }
    }

    /// Whether a session waits to take over.
    pub(super) fn successor(&self) -> Option<Slot> {
        let next = self.speaker?.other();
        self.agents[next as usize].is_ready().then_some(next)
    }

    /// Closes every socket.
    pub(super) fn close(&mut self, out: &mut impl Outbox) {
        self.speaker = None;
        self.search = None;
        for agent in &mut self.agents {
            agent.close(out);
        }
    }
}

impl Call {
    /// Looks for the first session.
    pub(super) fn open_agent(&mut self, now: Moment, out: &mut impl Outbox) {
        let (reason, detail) = (EndReason::AgentUnreachable, "connect_timeout");
        self.search(Lost { reason, detail, retry: Retry::MayHelp }, OPENING_FILLER_AFTER, now);
        self.dial(Slot::A, now, out);
        let hedge_ms = self.spec.agent.session.hedge_ms;
        if hedge_ms > 0 {
            self.timers.set(Timer::Hedge, now + Duration::from_millis(hedge_ms.into()));
        }
    }

    fn search(&mut self, lost: Lost<'_>, filler_after: Duration, now: Moment) {
        let (reason, detail) = (lost.reason, lost.detail.into());
        self.link.search = Some(Search { since: now, failed: 0, reason, detail });
        self.timers.set(Timer::Search, now + SEARCH_MAX);
        self.timers.set(Timer::Filler, now + filler_after);
    }

    fn dial(&mut self, slot: Slot, now: Moment, out: &mut impl Outbox) {
        self.timers.set(Timer::of_agent(slot), now + DIAL_MAX);
        self.link.agent(slot).dial(now, out);
    }

    /// What has become of a socket.
    pub(super) fn on_change(
        &mut self,
        slot: Slot,
        change: Change<'_>,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        match change {
            Change::None => {}
            Change::Opened => {
                self.timers.set(Timer::of_agent(slot), now + CONFIGURE_MAX);
                let instructions = self.instructions.as_deref();
                let answering = self.opening.answering();
                let format = self.link.agent(slot).format();
                let message = AgentMessage::Configure { format, instructions, answering };
                out.put(Output::ToAgent(slot, message));
            }
            Change::Ready => {
                self.timers.set(Timer::of_agent(slot), None);
                match self.link.speaker {
                    None => self.promote(slot, now, out),
                    // It waits for a quiet moment, which `settle` finds.
                    Some(_) => self.uplink.expect_hand_over(),
                }
            }
            Change::Lost(lost) => self.lose(slot, lost, now, out),
        }
    }

    /// A socket is of no use any more.
    pub(super) fn lose(&mut self, slot: Slot, lost: Lost<'_>, now: Moment, out: &mut impl Outbox) {
        self.timers.set(Timer::of_agent(slot), None);
        self.link.agent(slot).close(out);
        match self.phase {
            Phase::Goodbye(_) if self.link.speaker != Some(slot) => {}
            // What is here is said; nobody is looked for to say goodbye once more.
            Phase::Goodbye(_) => self.fail(lost.reason, lost.detail, now, out),
            Phase::Announced | Phase::Live => {
                out.put(Output::Note(Milestone::AgentLost { detail: lost.detail }));
                if self.link.speaker == Some(slot) {
                    self.lose_speaker(lost, now, out);
                } else if self.link.speaker.is_none() {
                    self.lose_candidate(slot, lost, now, out);
                } else {
                    self.timers.set(Timer::RollOver, now + ROLL_OVER_AGAIN);
                }
            }
            Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => {}
        }
    }

    /// The session that spoke is gone.
    fn lose_speaker(&mut self, lost: Lost<'_>, now: Moment, out: &mut impl Outbox) {
        let Some(slot) = self.link.speaker.take() else { return };
        for timer in [Timer::RollOver, Timer::Liveness] {
            self.timers.set(timer, None);
        }
        self.uplink.shut();
        self.memory.give_up_summary();
        // What is here is heard to its end: speech is better than silence, and half of an answer is
        // more than none.
        self.playout.answer_ended(None);
        if let Some(ended) = self.turns.on_session_lost() {
            self.owe_again(ended, now, out);
        }
        // What was heard already is a turn at this moment, and whoever is next is told it in its place.
        self.take_heard(out);
        if lost.retry == Retry::IsUseless {
            return self.fail(lost.reason, lost.detail, now, out);
        }
        self.search(lost, FILLER_AFTER, now);
        let next = slot.other();
        if self.link.agent(next).is_ready() {
            self.promote(next, now, out);
        } else if self.link.agent(next).is_absent() {
            self.dial(next, now, out);
        }
    }

    /// Owes what a lost session was to say.
    fn owe_again(&mut self, ended: Ended, now: Moment, out: &mut impl Outbox) {
        let begun = ended.result == Yield::Speech;
        match ended.ask {
            // Nobody has heard a word of it, so it is not said twice.
            Ask::Greeting if !begun || self.playout.is_unheard() => {
                self.fall_silent(now, out);
                self.opening = Opening::Greeting;
                self.turns.want_first(Ask::Greeting);
            }
            ask if !begun => self.turns.want_first(ask),
            Ask::Greeting | Ask::Answer => self.turns.want_first(Ask::Answer),
            // Enough of it was said.
            Ask::Words(_) | Ask::StillThere | Ask::Farewell => {}
        }
    }

    /// A socket that was to become the speaker's failed.
    fn lose_candidate(&mut self, slot: Slot, lost: Lost<'_>, now: Moment, out: &mut impl Outbox) {
        // Nobody waits for a spare session; whoever keeps spares has a pause of its own.
        let is_spare = self.preparation == Some(Preparation::Session)
            && matches!(self.phase, Phase::Announced);
        if lost.retry == Retry::IsUseless || is_spare {
            return self.fail(lost.reason, lost.detail, now, out);
        }
        let Some(search) = &mut self.link.search else { return };
        (search.reason, search.detail) = (lost.reason, lost.detail.into());
        let pause = BACKOFF[(search.failed as usize).min(BACKOFF.len() - 1)];
        search.failed += 1;
        // A second one is on its way already.
        if self.link.agent(slot.other()).is_absent() {
            self.timers.set(Timer::Redial, now + spread(pause, self.spec.spread));
        }
    }

    /// A pause after a failed dial is over.
    pub(super) fn on_redial(&mut self, now: Moment, out: &mut impl Outbox) {
        let is_free = [Slot::A, Slot::B].map(|slot| self.link.agent(slot).is_absent());
        if self.link.is_searching() && is_free == [true, true] {
            self.dial(Slot::A, now, out);
        }
    }

    /// The first socket is slow to open: another one may be faster.
    pub(super) fn on_hedge(&mut self, now: Moment, out: &mut impl Outbox) {
        if self.link.is_searching() && self.link.agent(Slot::B).is_absent() {
            self.dial(Slot::B, now, out);
        }
    }

    /// Nobody could be found in time.
    pub(super) fn on_search_deadline(&mut self, now: Moment, out: &mut impl Outbox) {
        if let Some(search) = self.link.search.take() {
            self.fail(search.reason, &search.detail, now, out);
        }
    }

    /// The caller has waited for an answer already, and is to wait longer.
    pub(super) fn ask_for_patience(&mut self, now: Moment) {
        if self.phase.is_live() && self.playout.is_silent() {
            self.playout.say(self.spec.moment);
            let again = now + self.playout.unheard() + OPENING_FILLER_AFTER;
            self.timers.set(Timer::Filler, Some(again).filter(|_| self.link.is_searching()));
        }
    }

    /// The caller has heard nothing for a while, because there is no agent.
    pub(super) fn on_filler(&mut self, now: Moment) {
        let is_waited_for = self.link.is_searching() || self.turns.is_awaited();
        if !is_waited_for || self.is_agent_muted || !self.phase.is_live() {
            return;
        }
        if self.playout.is_silent() {
            self.playout.say(self.spec.moment);
        } else {
            self.timers.set(Timer::Filler, now + self.playout.unheard() + FILLER_AFTER);
        }
    }

    /// A socket's deadline has come.
    pub(super) fn on_agent_deadline(&mut self, slot: Slot, now: Moment, out: &mut impl Outbox) {
        let change = self.link.agent(slot).on_deadline();
        self.on_change(slot, change, now, out);
    }

    /// Sockets that say nothing are asked for a sign of life, then given up.
    pub(super) fn on_liveness(&mut self, now: Moment, out: &mut impl Outbox) {
        let mut next = now + PING_AFTER;
        for slot in [Slot::A, Slot::B] {
            let agent = self.link.agent(slot);
            if !agent.is_ready() {
                continue;
            }
            let heard_at = agent.heard_at();
            let silent = now.since(heard_at);
            if silent >= DEAD_AFTER {
                let (reason, detail) = (EndReason::AgentFailed, "no_sign_of_life");
                self.lose(slot, Lost { reason, detail, retry: Retry::MayHelp }, now, out);
            } else if silent >= PING_AFTER {
                out.put(Output::Ping(slot));
                next = next.min(heard_at + DEAD_AFTER);
            } else {
                next = next.min(heard_at + PING_AFTER);
            }
        }
        if self.link.speaker.is_some() {
            self.timers.set(Timer::Liveness, next);
        }
    }

    /// The session grows old: another one is dialled beside it.
    pub(super) fn on_roll_over_due(&mut self, now: Moment, out: &mut impl Outbox) {
        let Some(slot) = self.link.speaker else { return };
        if self.phase.is_live() && self.link.agent(slot.other()).is_absent() {
            self.dial(slot.other(), now, out);
        } else if self.link.successor().is_none() {
            self.timers.set(Timer::RollOver, now + ROLL_OVER_AGAIN);
        }
    }

    /// Puts a younger session in the place of the one that speaks, if one waits and nobody would
    /// notice.
    pub(super) fn roll_over(&mut self, now: Moment, out: &mut impl Outbox) {
        let Some(next) = self.link.successor() else { return };
        let nobody_speaks = self.turns.is_quiet() && self.playout.is_silent();
        let nothing_waits = self.tools.is_empty() && self.keys.is_empty() && self.uplink.is_open();
        if !(self.phase.is_live() && nobody_speaks && nothing_waits) {
            return;
        }
        self.memory.give_up_summary();
        let old = next.other();
        let turns = self.begin_session(next, now, out);
        self.uplink.hand_over(next, out);
        self.link.agent(old).close(out);
        let (because, gap) = (ReplacedBecause::RolledOver, Duration::ZERO);
        out.put(Output::Note(Milestone::AgentReplaced { because, gap, turns, detail: "" }));
    }

    /// A session is ours, and nobody else speaks: from here on it does.
    fn promote(&mut self, slot: Slot, now: Moment, out: &mut impl Outbox) {
        let search = self.link.search.take();
        for timer in [Timer::Search, Timer::Filler, Timer::Redial, Timer::Hedge] {
            self.timers.set(timer, None);
        }
        // Whoever was slower.
        self.link.agent(slot.other()).close(out);
        self.timers.set(Timer::of_agent(slot.other()), None);
        let is_first = self.link.session == 0;
        let turns = self.begin_session(slot, now, out);
        if is_first {
            self.note_ready(now, out);
        } else if let Some(Search { since, detail, .. }) = search {
            let (because, gap) = (ReplacedBecause::Lost, now.since(since));
            let detail = &*detail;
            out.put(Output::Note(Milestone::AgentReplaced { because, gap, turns, detail }));
        }
        if self.opening == Opening::ToGreet && self.may_greet() {
            self.opening = Opening::Greeting;
            self.turns.want_first(Ask::Greeting);
        }
        // Whoever waited for an answer when the last session was lost has waited long enough.
        if self.phase.is_live() && self.turns.is_awaited() {
            self.timers.set(Timer::Filler, now + OPENING_FILLER_AFTER);
        }
        // It is asked before it hears what the caller has said meanwhile: afterwards the service
        // might be answering that already.
        self.ask_owed(now, out);
        self.uplink.open(slot, out);
    }

    /// Tells a session what was said, and makes it the one that speaks.
    fn begin_session(&mut self, slot: Slot, now: Moment, out: &mut impl Outbox) -> u32 {
        self.link.speaker = Some(slot);
        self.link.session += 1;
        let age_max = self.spec.agent.session.roll_over_seconds;
        self.timers.set(Timer::RollOver, now + Duration::from_secs(age_max.into()));
        self.timers.set(Timer::Liveness, now + PING_AFTER);
        if self.tells_later() { 0 } else { self.tell_what_was_said(slot, out) }
    }

    /// Tells a session what was said, and gives the number of turns in it.
    pub(super) fn tell_what_was_said(&mut self, slot: Slot, out: &mut impl Outbox) -> u32 {
        if self.memory.is_empty() {
            return 0;
        }
        let turns = self.memory.recall(|recalled| {
            out.put(Output::ToAgent(slot, AgentMessage::Recall(recalled)));
        });
        let continues = AgentMessage::Recall(Recalled::CallContinues);
        out.put(Output::ToAgent(slot, continues));
        turns
    }

    /// Asks for what is owed, if there is somebody to ask and nobody else is being heard.
    pub(super) fn ask_owed(&mut self, now: Moment, out: &mut impl Outbox) {
        let Some(slot) = self.link.speaker else { return };
        // What a lost session has said is told to the new one once it was heard.
        if !self.playout.outlasts(self.link.session) {
            self.turns.ask(slot, now, out);
        }
    }
}

/// A pause, shortened by up to a quarter, so that calls which lost their sockets together do not
/// dial together. Source: back-off of the `OpenAI` client libraries, read 2026-11-20.
fn spread(pause: Duration, by: u8) -> Duration {
    pause - pause * u32::from(by) / 1_024
}

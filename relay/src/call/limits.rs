//! Where a call is stopped, politely: its longest time, the caller's silence, its budget of tokens.
//!
//! The agent says goodbye first, because a line that just goes dead is taken for a fault. Who
//! speaks into that goodbye does not call it off.

use std::time::Duration;

use ::link::event::EndReason;

use super::Call;
use super::moment::Moment;
use super::output::Outbox;
use super::phase::{Ending, Goodbye, Next, Phase, Saying};
use super::timers::{FAREWELL_MAX, Timer};
use super::turns::Ask;

/// How far the caller's silence has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The caller was heard, or not asked for yet.
    Full,
    /// The agent has asked whether the caller is there.
    Asked,
}

impl Call {
    /// Somebody was heard: silence begins anew.
    pub(super) fn hear_anybody(&mut self, now: Moment) {
        let seconds = self.spec.agent.limits.silence_seconds_max;
        let due = (seconds > 0).then(|| now + Duration::from_secs(seconds.into()));
        self.timers.set(Timer::Silence, due);
    }

    /// The caller was heard.
    pub(super) fn hear_caller(&mut self, now: Moment) {
        self.patience = Patience::Full;
        self.hear_anybody(now);
    }

    /// Nobody has said anything for long.
    pub(super) fn on_silence(&mut self, now: Moment, out: &mut impl Outbox) {
        // A service that heard speech begin and never end is not believed any longer.
        self.turns.yield_floor();
        self.hear_anybody(now);
        if !self.phase.is_live() || !self.tools.is_empty() || self.link.speaker().is_none() {
            return;
        }
        match self.patience {
            Patience::Full => {
                self.patience = Patience::Asked;
                self.turns.want(Ask::StillThere);
            }
            Patience::Asked => self.say_farewell(EndReason::CallerSilent, now, out),
        }
    }

    /// An answer has used so many tokens.
    pub(super) fn spend(&mut self, tokens: u64, now: Moment, out: &mut impl Outbox) {
        self.tokens = self.tokens.saturating_add(tokens);
        let budget = self.spec.agent.limits.call_tokens_max;
        if budget > 0 && self.tokens >= budget {
            self.say_farewell(EndReason::TokenLimit, now, out);
        }
    }

    /// The call ends once the agent has said goodbye; at once if there is nobody to say it.
    pub(super) fn say_farewell(&mut self, reason: EndReason, now: Moment, out: &mut impl Outbox) {
        match self.phase {
            Phase::Live if self.link.speaker().is_some() => {
                let (response, saying) = (None, Saying::Unfinished);
                let next = Next::Limit(reason);
                self.phase = Phase::Goodbye(Goodbye { response, saying, next });
                // Who says goodbye does not greet any more.
                self.turns.forget(&Ask::Greeting);
                self.turns.want_first(Ask::Farewell);
                self.timers.set(Timer::LastWords, now + FAREWELL_MAX);
            }
            Phase::Live => self.decide(Ending::new(reason), now, out),
            // It ends already.
            Phase::Announced
            | Phase::Goodbye(_)
            | Phase::Sorry(_)
            | Phase::Recording { .. }
            | Phase::Over => {}
        }
    }
}

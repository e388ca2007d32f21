//! The caller speaks while the agent does.
//!
//! In this order, because the ear comes first:
//!
//! 1. `clear`: what the carrier holds is thrown away, and its marks come back dead;
//! 2. cancel, unless the service has stopped by itself when it heard the caller (asking again
//!    would race with that);
//! 3. truncate each part at what was *heard*, so that the model does not believe it said words
//!    that nobody got. A part that was heard in full stays as it is: cutting it would delete its
//!    transcript. A part of a session that is gone is told to the present one, as far as it was
//!    heard;
//! 4. what still comes of the answer is late, and dropped.
//!
//! Tools that run are not stopped: they may have had their effect. Their results are given to the
//! agent, which speaks about them if nobody else speaks by then.
//! Source: OpenAI Realtime, "conversation.item.truncate", read 2026-11-20.

use super::Call;
use super::input::Answering;
use super::moment::Moment;
use super::output::{AgentMessage, BargeIn, CallerMessage, Milestone, Outbox, Output, Recalled};
use super::part::{Part, Source};
use super::playout::Cut;

impl Call {
    /// Cuts what is being said, as far as anything is. Whoever answers by itself stops by itself.
    pub(super) fn interrupt(&mut self, by: Answering, now: Moment, out: &mut impl Outbox) {
        let Cut { parts, unheard } = self.playout.cut(now);
        if unheard {
            out.put(Output::ToCaller(CallerMessage::Clear));
        }
        if let Some(response) = self.turns.discard() {
            match by {
                Answering::ByService => {}
                Answering::ByRelay => {
                    self.link.say(AgentMessage::Cancel { response }, out);
                }
            }
        }
        // Parts that were never sent are cut at zero: the model has made them, so it remembers
        // them.
        for part in &parts {
            self.truncate(part, out);
        }
        if let Some((part, Source::Answer { item, .. })) =
            parts.iter().find(|part| !part.is_heard_in_full()).map(|part| (part, &part.source))
        {
            out.put(Output::Note(Milestone::BargeIn(BargeIn {
                item,
                heard_ms: part.heard_ms(),
                sent_ms: part.sent_ms(),
                generated_ms: part.generated_ms(),
            })));
        }
        for part in &parts {
            self.on_spoken(part, out);
        }
    }

    /// Makes the agent forget what was not heard of a part.
    pub(super) fn truncate(&self, part: &Part, out: &mut impl Outbox) {
        let Source::Answer { session, item, part: number, .. } = &part.source else { return };
        if part.is_heard_in_full() || *session != self.link.session() {
            return;
        }
        let heard_ms = part.heard_ms();
        assert!(heard_ms <= part.generated_ms(), "heard more than the model made");
        let message = AgentMessage::Truncate { item, part: *number, heard_ms };
        self.link.say(message, out);
    }

    /// A part was heard in full, or cut: a turn of the agent is complete.
    pub(super) fn on_spoken(&mut self, part: &Part, out: &mut impl Outbox) {
        let heard = self.turns.on_spoken(part, &mut self.memory, out);
        // The present session was told all that was complete when it began; this was not.
        if let Some(heard) = heard.filter(|text| !text.is_empty())
            && part.source.is_before(self.link.session())
        {
            self.link.say(AgentMessage::Recall(Recalled::Agent(&heard)), out);
        }
    }
}
